"""Constant folding: a rule with some of its scalars at values for which operations fall away.

A rule is written once, with every option as a number. Where the number is neutral, as a weight decay
of 0 is, the kernel need not compute with it: a step in float32 on a CPU would take a third longer.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from gpuprop.rules.arithmetic import names_of
from gpuprop.rules.rule import Rule


@cache
def _folded(rule: Rule, values: tuple[tuple[str, float], ...]) -> Rule:
    tree = _Folder(dict(values)).visit(rule.tree())
    tree.body = [line for line in tree.body if not _assigns_itself(line)]
    used = names_of(tree)
    scalars = tuple(name for name in rule.scalars if name in used)
    return replace(rule, scalars=scalars, body=ast.unparse(tree))


def fold(rule: Rule, values: Mapping[str, float]) -> Rule:
    """`rule` for fixed values of some scalars, which it takes no more.

    The same rule and values give the same object, so that its kernels are found again.

    Parameters
    ----------
    rule : Rule
    values : mapping of str to float
        Of scalars; infinite ones only where they fall away, as in a comparison.

    Notes
    -----
    ``0 * a`` becomes 0 and ``a + 0`` becomes ``a``: as if ``a`` were finite, and but for the sign of
    a zero.
    """
    return _folded(rule, tuple(sorted(values.items()))) if values else rule


class _Folder(ast.NodeTransformer):
    def __init__(self, values: Mapping[str, float]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and node.id in self.values:
            return ast.Constant(self.values[node.id])
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        node.operand = self.visit(node.operand)
        value = _value(node.operand)
        return node if value is None else ast.Constant(-value if isinstance(node.op, ast.USub) else value)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = node.left, node.right = self.visit(node.left), self.visit(node.right)
        a, b = _value(left), _value(right)
        match node.op:
            case ast.Mult() if a == 0 or b == 0:
                return ast.Constant(0.0)
            case ast.Mult() if a == 1:
                return right
            case ast.Mult() | ast.Div() if b == 1:
                return left
            case ast.Add() if a == 0:
                return right
            case ast.Add() | ast.Sub() if b == 0:
                return left
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        node.args = [self.visit(argument) for argument in node.args]
        condition = node.args[0]
        if isinstance(condition, ast.Compare):
            compare = type(condition.ops[0])
            bound = _value(condition.comparators[0])
            is_above, is_below = compare in (ast.Gt, ast.GtE), compare in (ast.Lt, ast.LtE)
            if (is_above and bound == math.inf) or (is_below and bound == -math.inf):
                return node.args[2]
        return node


def _assigns_itself(line: ast.stmt) -> bool:
    return isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == ast.unparse(line.value)


def _value(node: ast.expr) -> float | None:
    return node.value if isinstance(node, ast.Constant) else None  # type: ignore[return-value]
