"""Rules that see a complex number as a whole: written out as rules over real and imaginary parts.

Most rules update complex arrays as if they were twice as many reals. One that takes ``abs2`` of them, or has
an array that is real where the others are complex, updates two parts together.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import NamedTuple

from gpuprop.rules.arithmetic import assignment


class Parts(NamedTuple):
    """A body over the parts of complex numbers, and what those of each array and local are called."""

    body: str
    of: dict[str, tuple[str, ...]]


def couples(body: ast.Module, reals: Iterable[str]) -> bool:
    """Whether the two parts of a complex number have to do with one another."""
    calls = (node.func for node in ast.walk(body) if isinstance(node, ast.Call))
    return any(reals) or any(isinstance(f, ast.Name) and f.id in ("abs2", "as_complex") for f in calls)


def in_parts(name: str, body: ast.Module, arrays: Iterable[str], reals: Iterable[str]) -> Parts:
    """The body of the rule `name` for complex arrays, of which `reals` are real.

    Raises
    ------
    ValueError
        A line assigns what has two parts to a real array; it is quoted.
    """
    lines = [assignment(line) for line in body.body]
    pairs = _with_two_parts(name, lines, arrays, reals)
    taken = {node.id for node in ast.walk(body) if isinstance(node, ast.Name)} | set(arrays)
    ends = ["_re", "_im"]
    while any(each.endswith(tuple(ends)) for each in taken):
        ends = [end + "_" for end in ends]
    written = []
    for target, value in lines:
        if target not in pairs:
            written.append(f"{target} = {_written(value, pairs, ends, 0)}")
            continue
        values = [_written(value, pairs, ends, part) for part in (0, 1)]
        targets = [target + end for end in ends]
        if _calls(value, "abs2"):  # of what it is before either part changes
            new = [f"new_{each}" for each in targets]
            written += [f"{n} = {v}" for n, v in zip(new, values, strict=True)]
            values = new
        written += [f"{t} = {v}" for t, v in zip(targets, values, strict=True)]
    names = {*arrays, *(target for target, _ in lines)}
    of = {each: tuple(each + end for end in ends) if each in pairs else (each,) for each in names}
    return Parts("\n".join(written), of)


def _with_two_parts(
    rule: str, lines: list[tuple[str, ast.expr]], arrays: Iterable[str], reals: Iterable[str]
) -> set[str]:
    pairs, before = set(arrays) - set(reals), -1
    while len(pairs) != before:
        before = len(pairs)
        for target, value in lines:
            for call in ast.walk(value):
                if _is_call(call, "as_complex") and _has_two_parts(call.args[0], pairs):  # type: ignore[attr-defined]
                    raise ValueError(
                        f"rule {rule!r}, line `{target} = {ast.unparse(value)}`: as_complex() takes a real "
                        "number, and this has two parts where the parameters are complex"
                    )
            if _has_two_parts(value, pairs):
                if target in reals:
                    raise ValueError(
                        f"rule {rule!r}, line `{target} = {ast.unparse(value)}`: {target!r} is real, and the "
                        "right side has two parts where the parameters are complex; abs2(...) is real"
                    )
                pairs.add(target)
    return pairs


def _has_two_parts(node: ast.AST, pairs: set[str]) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "abs2":
        return False
    is_pair = isinstance(node, ast.Name) and node.id in pairs
    return is_pair or _is_call(node, "as_complex") or any(
        _has_two_parts(child, pairs) for child in ast.iter_child_nodes(node)
    )  # fmt: skip


def _is_call(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _calls(node: ast.AST, name: str) -> bool:
    return any(_is_call(each, name) for each in ast.walk(node))


def _written(value: ast.expr, pairs: set[str], ends: list[str], part: int) -> str:
    copy = ast.parse(ast.unparse(value), mode="eval").body
    return ast.unparse(_Part(pairs, ends, part).visit(copy))


class _Part(ast.NodeTransformer):
    """One part of an expression."""

    def __init__(self, pairs: set[str], ends: list[str], part: int) -> None:
        self.pairs, self.ends, self.part = pairs, ends, part

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Name(node.id + self.ends[self.part]) if node.id in self.pairs else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if _is_call(node, "as_complex"):
            return ast.Constant(0.0) if self.part else self.visit(node.args[0])
        if _is_call(node, "abs2") and _has_two_parts(node.args[0], self.pairs):
            parts = (_written(node.args[0], self.pairs, self.ends, part) for part in (0, 1))
            squares = (f"({each}) * ({each})" for each in parts)
            return ast.parse(" + ".join(squares), mode="eval").body
        node.args = [self.visit(argument) for argument in node.args]
        return node
