"""The arithmetic that Python and C share: parsed, checked, and written out for both.

A checked body comes out as text that is valid in either language: each name gets a prefix, so that
no keyword of one of them is in the way; each number becomes ``real(number)``, so that it is of the
type in which the kernel computes; ``where`` and the like are functions that a backend supplies. It is
written out for real elements: ``pairs.py`` makes complex ones such.
"""

from __future__ import annotations

import ast
import keyword
import math
import textwrap
from collections.abc import Mapping
from typing import NamedTuple

#: What a body may call: the number of arguments, and the name of the function in the output.
FUNCTIONS = {
    "sqrt": (1, "sqrt"),
    "abs": (1, "fabs"),
    "min": (2, "minimum"),
    "max": (2, "maximum"),
    "where": (3, "where"),
    "abs2": (1, "square"),
    "as_complex": (1, ""),
}
PREFIX = "v_"
#: Whoever goes down into an expression, here or in a compiler, takes some of Python's stack for each.
MOST_NESTED = 200


class Assignment(NamedTuple):
    """``target = value``; `declares` where the target is a new local name."""

    target: str
    value: str
    declares: bool


_TWO = "for two, write a where() in a where(), as in where(0 < x, where(x < 1, a, b), b)"


class _Refused(Exception):
    """Why a line cannot work."""


class _Writer(ast.NodeTransformer):
    """Checks an expression and turns it into what both languages read."""

    def __init__(self, known: set[str]) -> None:
        self.known = known

    def number(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Compare):
            raise _Refused("a comparison can only be the first argument of where()")
        return self.visit(node)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self.known:
            raise _Refused(f"unknown name {_cut(node.id)!r} (known here: {', '.join(sorted(self.known))})")
        return ast.Name(PREFIX + node.id)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        value = node.value
        if isinstance(value, complex):
            mend = "make that term outside the lines, as an array that they read"
            raise _Refused(f"{value!r} is complex, and the numbers of a line are real; {mend}")
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise _Refused(f"{_cut(repr(value))} is not a finite number")
        try:
            number = float(value)
        except OverflowError:
            raise _Refused("a number is above 1.8e308, the largest of float64") from None
        if not math.isfinite(number):
            raise _Refused(f"{number} is not a finite number")
        return ast.Call(ast.Name("real"), [ast.Constant(number)], [])

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        if isinstance(node.op, ast.Pow):
            raise _Refused("** is not shared by Python and C; write a * a")
        if not isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div)):
            raise _Refused("the operators are + - * /")
        return ast.BinOp(self.number(node.left), node.op, self.number(node.right))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        if not isinstance(node.op, (ast.USub, ast.UAdd)):
            raise _Refused("the operators are + - * /")
        operand = self.number(node.operand)
        if isinstance(node.op, ast.UAdd):
            return operand
        if isinstance(operand, ast.UnaryOp):  # two minus signs would be C's decrement
            return operand.operand
        return ast.UnaryOp(node.op, operand)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        if len(node.ops) != 1:
            raise _Refused(f"a comparison has two sides; {_TWO}")
        if isinstance(node.ops[0], (ast.Is, ast.IsNot, ast.In, ast.NotIn)):
            raise _Refused("a comparison is one of < <= > >= == !=")
        return ast.Compare(self.number(node.left), node.ops, [self.number(node.comparators[0])])

    def visit_Call(self, node: ast.Call) -> ast.expr:
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        if name not in FUNCTIONS:
            raise _Refused(f"unknown function {_cut(name)!r} (known: {', '.join(FUNCTIONS)})")
        count, written = FUNCTIONS[name]
        if len(node.args) != count or node.keywords:
            raise _Refused(f"{name}() takes {count} plain argument{'s' * (count > 1)}")
        if name == "where" and not isinstance(node.args[0], ast.Compare):
            more = f"; {_TWO}" * isinstance(node.args[0], ast.BoolOp)
            raise _Refused(f"the first argument of where() must be a comparison{more}")
        first = self.visit(node.args[0]) if name == "where" else self.number(node.args[0])
        if name == "as_complex":
            return first
        return ast.Call(ast.Name(written), [first, *map(self.number, node.args[1:])], [])

    def generic_visit(self, node: ast.AST) -> ast.AST:
        raise _Refused(f"{type(node).__name__} is not arithmetic that Python and C share")


def parse(
    name: str,
    body: str,
    reads: tuple[str, ...],
    writes: tuple[str, ...],
    scalars: tuple[str, ...],
) -> tuple[Assignment, ...]:
    """Check the body of a rule and write out its assignments.

    Raises
    ------
    ValueError
        With the line quoted and the reason.
    TypeError
        A name or the body is no text.
    """
    check_names(f"rule {name!r}", name, reads, writes, scalars)
    fixed = dict.fromkeys(reads, "an array that is only read") | dict.fromkeys(scalars, "a scalar")
    assignments = read_lines(f"rule {name!r}", body, {*reads, *writes, *scalars}, fixed)
    shown = _cut(textwrap.dedent(body).strip("\n"))
    for array in writes:
        if PREFIX + array not in {target for target, *_ in assignments}:
            raise ValueError(f"rule {name!r} never assigns its array {array!r} in `{shown}`")
    for unused in sorted(fixed.keys() - names_of(ast.parse(textwrap.dedent(body)))):
        raise ValueError(f"rule {name!r} never uses {unused!r} in `{shown}`")
    return assignments


def read_lines(whose: str, body: str, known: set[str], fixed: Mapping[str, str]) -> tuple[Assignment, ...]:
    """Check lines over `known` names, of which some are `fixed`, and said why; and write them out.

    Raises
    ------
    ValueError
        With the line quoted and the reason.
    TypeError
        `body` is no text.
    """
    if not isinstance(body, str):
        raise TypeError(f"{whose}: body is a {type(body).__name__}; it must be lines of text")
    text = textwrap.dedent(body).strip("\n")
    try:
        statements = ast.parse(text).body
    except SyntaxError as error:
        line = _cut((error.text or text).strip())
        raise ValueError(f"{whose}, line `{line}`: {error.msg}") from None
    except (RecursionError, MemoryError):  # of Python's parser, whose stack has an end of its own
        raise ValueError(f"{whose}: {_TOO_DEEP}, in `{_cut(text)}`") from None
    except ValueError as error:
        raise ValueError(f"{whose}: body is no text that Python reads: {error}") from None
    assignments, known = [], set(known)
    for statement in statements:
        try:
            if _nested(statement) > MOST_NESTED:
                raise _Refused(_TOO_DEEP)
            target, value = assignment(statement)
            if target in fixed:
                raise _Refused(f"{target!r} is {fixed[target]}, and cannot be assigned")
            if target in FUNCTIONS:
                raise _Refused(f"{target!r} is a function")
            if not target.isascii():
                raise _Refused(f"{target!r} is not a name in C: it has letters other than those of ASCII")
            written = ast.unparse(_Writer(known).number(value))
        except _Refused as reason:
            line = _cut(ast.get_source_segment(text, statement) or "")
            raise ValueError(f"{whose}, line `{line}`: {reason}") from None
        assignments.append(Assignment(PREFIX + target, written, target not in known))
        known.add(target)
    return tuple(assignments)


def names_of(tree: ast.AST) -> set[str]:
    """All that an expression, or lines, call by a name, functions too."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


_TOO_DEEP = (
    f"more than {MOST_NESTED} operations one within another, as in a sum of so many terms; "
    "break it into several lines"
)


def _nested(statement: ast.AST) -> int:
    """How many operations there are one within another, found without going down into them."""
    level, count = [statement], -3  # which the statement is not, nor is a name, nor what Python adds to it
    while level:
        level, count = [child for each in level for child in ast.iter_child_nodes(each)], count + 1
    return count


def _cut(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "..."


def assignment(statement: ast.stmt) -> tuple[str, ast.expr]:
    """The name on the left of a line of a body, and the expression on its right."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
    elif isinstance(statement, ast.AugAssign):
        target = statement.target
        value = ast.BinOp(ast.parse(ast.unparse(target), mode="eval").body, statement.op, statement.value)
    else:
        raise _Refused("every line must be an assignment: name = expression")
    if not isinstance(target, ast.Name):
        raise _Refused("the left side must be one name")
    return target.id, value


def check_names(
    whose: str, name: str, reads: tuple[str, ...], writes: tuple[str, ...], scalars: tuple[str, ...]
) -> None:
    """Refuse what cannot be the names of a rule, or of what is around one."""
    if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
        raise ValueError(f"a rule's name must be an identifier, not {name!r}")
    for kind, names in (("reads", reads), ("writes", writes), ("scalars", scalars)):
        if isinstance(names, str):
            raise ValueError(f"{whose}: {kind} must be a tuple of names, not the string {names!r}")
        if not isinstance(names, (tuple, list)) or not all(isinstance(each, str) for each in names):
            raise TypeError(f"{whose}: {kind} is {names!r}; it must be a tuple of names")
    seen: set[str] = set()
    for each in (*reads, *writes, *scalars):
        if not (each.isascii() and each.isidentifier()) or each in {*FUNCTIONS, *keyword.kwlist}:
            why = f", as it is a keyword of Python; take another, such as '{each}_'" * keyword.iskeyword(each)
            raise ValueError(f"{whose}: {each!r} cannot be the name of an array or a scalar{why}")
        if each in seen:
            raise ValueError(f"{whose} names {each!r} twice")
        seen.add(each)
    if not writes:
        raise ValueError(f"{whose} must write at least one array")
