"""The composer: lines and arrays put before and after the body of any rule."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from gpuprop.rules.arithmetic import assignment, names_of
from gpuprop.rules.rule import Rule, parsed


def composed(
    rule: Rule,
    before: str,
    after: str,
    gradient: str,
    reads: tuple[str, ...] = (),
    writes: tuple[str, ...] = (),
    scalars: tuple[str, ...] = (),
    reals: tuple[str, ...] = (),
    given: tuple[str, ...] | None = None,
    last_scalars: tuple[str, ...] = (),
    **changes: Any,
) -> Rule:
    """`rule` with lines `before` and `after` its own, and what more of arrays and scalars they use.

    Parameters
    ----------
    rule : Rule
    before, after : str
        Lines in the language of `Rule`.
    gradient : str
        What the lines before make of the first array that `rule` reads, for its own.
    reads, writes, scalars, reals : tuple of str
        Names behind those that `rule` has; scalars that no line uses are left out.
    given : tuple of str, optional
        What is read in place of the gradient.
    last_scalars : tuple of str
        Names behind those of all other scalars.
    **changes
        Other fields of the rule.
    """
    body = "\n".join([before, renamed(rule.body, {rule.reads[0]: gradient}), after])
    used = names_of(parsed(body))
    return replace(
        rule,
        reads=(rule.reads if given is None else given + rule.reads[1:]) + reads,
        writes=rule.writes + writes,
        scalars=tuple(name for name in scalars if name in used) + rule.scalars + last_scalars,
        body=body,
        reals=rule.reals + reals,
        **changes,
    )


def renamed(body: str, names: Mapping[str, str]) -> str:
    """A body in which what has a name among `names` is called otherwise."""
    lines = parsed(body)
    for node in ast.walk(lines):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    return ast.unparse(lines)


def names_in(rule: Rule) -> set[str]:
    """All that a rule calls by a name, functions too."""
    return names_of(rule.tree()).union(rule.arrays, rule.scalars)


@cache
def with_arrays(rule: Rule, names: tuple[str, ...]) -> Rule:
    """`rule` with some of its scalars as arrays, which are real.

    Where ``learning_rate`` is among them, there is a scalar ``rate_scale`` that multiplies it.
    """
    scalars, body = tuple(name for name in rule.scalars if name not in names), rule.body
    if "learning_rate" in names:
        taken = names_in(rule)
        scale, scaled = free_name("rate_scale", taken), free_name("scaled_rate", taken)
        scalars += (scale,)
        body = f"{scaled} = {scale} * learning_rate\n{renamed(body, {'learning_rate': scaled})}"
    return replace(
        rule, reads=rule.reads + names, scalars=scalars, body=body, reference=None, reals=rule.reals + names
    )


@cache
def needs_parameters(rule: Rule) -> bool:
    """Whether what is subtracted from the parameters depends on them."""
    return _increment(rule) is None


def _increment(rule: Rule) -> tuple[int, ast.expr] | None:
    """The number of the only line with the parameters, ``x = x - increment``, and that increment."""
    x, found = rule.writes[0], None
    for number, line in enumerate(rule.tree().body):
        target, value = assignment(line)
        if x != target and x not in names_of(value):
            continue
        is_step = isinstance(value, ast.BinOp) and isinstance(value.op, (ast.Sub, ast.Add))
        if found or x != target or not is_step or names_of(value.left) != {x} or x in names_of(value.right):  # type: ignore[attr-defined]
            return None
        if not isinstance(value.left, ast.Name):  # type: ignore[attr-defined]
            return None
        right = value.right  # type: ignore[attr-defined]
        found = number, right if isinstance(value.op, ast.Sub) else ast.UnaryOp(ast.USub(), right)  # type: ignore[attr-defined]
    return found


@cache
def direction_of(rule: Rule) -> Rule:
    """The rule that writes what `rule` would subtract from its parameters, and leaves them as they are.

    They are among the arrays that it reads, at last, where `needs_parameters`.
    """
    x, taken = rule.writes[0], names_in(rule)
    out, moved = (free_name(name, taken) for name in ("out", "moved"))
    increment = _increment(rule)
    if increment is None:
        reads = (*rule.reads, x)
        body = f"{moved} = {x}\n{renamed(rule.body, {x: moved})}\n{out} = {x} - {moved}"
    else:
        reads, lines = rule.reads, [ast.unparse(line) for line in rule.tree().body]
        lines[increment[0]] = f"{out} = {ast.unparse(increment[1])}"
        body = "\n".join(lines)
    reference = None if rule.reference is None else _direction_by(rule.reference, x, out)
    return replace(
        rule, reads=reads, writes=(out, *rule.writes[1:]), body=body, reference=reference, fresh=(out,)
    )


def _direction_by(reference: Callable[..., dict[str, Any]], x: str, out: str) -> Any:
    def direction(**names: Any) -> dict[str, Any]:
        start = names.pop(x, None)
        start = np.zeros_like(names.pop(out)) if start is None else start
        new = reference(**names | {x: start})
        moved = new.pop(x)
        return new | {out: start - moved}

    return direction


def free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
