"""What options make of a rule: lines around its own, written once for all rules."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

from gpuprop.rules.composition import composed, free_name, names_in, renamed
from gpuprop.rules.family import NEUTRAL
from gpuprop.rules.fusion import Lines
from gpuprop.rules.rule import Rule

_GRADIENT = """
g = gradient_scale * grad
g = where(g > clip_value, clip_value, where(g < -clip_value, -clip_value, g))
"""
_DECAY = """
g = g + weight_decay * x
"""
#: What points out of the bounds, where x is at one of them.
_PROJECTION = """
g = where(x <= lower, min(g, 0), g)
g = where(x >= upper, max(g, 0), g)
"""
_SHRINKING = """
x = shrink * x
"""
_BOUNDS = """
x = where(x < lower, lower, where(x > upper, upper, x))
"""
#: Divided by the sum of the moduli of its parts, no number has a square that is none. A modulus of 0 has no
#: direction: it becomes real.
_MODULUS_BOUNDS = """
size = abs2(sqrt(abs(x)))
direction = x / size
length = sqrt(abs2(direction))
modulus = size * length
limit = where(modulus > upper_modulus, upper_modulus, where(modulus < lower_modulus, lower_modulus, modulus))
direction = where(size == 0, as_complex(lower_modulus), limit * (direction / length))
x = where(modulus == limit, x, direction)
"""
_AVERAGE = """
parameter_average = average_decay * parameter_average + one_minus_average_decay * x
"""

_SCALARS = (
    "gradient_scale", "clip_value", "weight_decay", "shrink", "decay_rate", "lower", "upper",
    "lower_modulus", "upper_modulus", "average_decay", "one_minus_average_decay",
)  # fmt: skip
_LOCALS = ("g", "size", "direction", "length", "modulus", "limit", "start")


class Around(NamedTuple):
    """The options that are more than numbers; `arrays` are those that are given as arrays.

    `lines` come before all others, and behind those of the rule: bounds hold whatever they say.
    """

    arrays: tuple[str, ...] = ()
    decays_by_element: bool = False
    modulus_bounds: bool = False
    projected_gradient: bool = False
    parameter_average: bool = False
    displacement: bool = False
    lines: Lines | None = None


@cache
def own_names(rule: Rule) -> dict[str, str]:
    """What the options' scalars and arrays are called around `rule`, which may have such names itself."""
    taken = names_in(rule)
    return {name: free_name(name, taken) for name in (*_SCALARS, *_LOCALS)}


@cache
def around(rule: Rule, options: Around = Around()) -> Rule:  # noqa: B008 - immutable
    """`rule` with the options that all rules can have, those that are numbers at any value.

    Parameters
    ----------
    rule : Rule
        Reads the gradient first, and perhaps an array ``learning_rate``.
    options : Around
    """
    before, after = "start = x\n" * options.displacement + _GRADIENT, _BOUNDS
    before += "" if options.decays_by_element else _DECAY
    before += _PROJECTION if options.projected_gradient else ""
    if options.decays_by_element:
        rates = " * learning_rate" if "learning_rate" in rule.reads else ""
        before += f"x = (1 - weight_decay * (decay_rate{rates})) * x\n"
    else:
        before += _SHRINKING
    after += _MODULUS_BOUNDS if options.modulus_bounds else ""
    after += _AVERAGE if options.parameter_average else ""
    after += "displacement = start - x\n" * options.displacement
    if options.projected_gradient and rule.reference is not None:
        rule = replace(rule, reference=partial(rule.reference, projected_gradient=True))
    names = own_names(rule)
    own = names | {"grad": rule.reads[0], "x": rule.writes[0]}
    before, after, reals, fields = renamed(before, own), renamed(after, own), (), {}
    if options.lines is not None:
        before, after, reals, fields = _with_lines(options.lines, rule, before, after)
    return composed(
        rule,
        before,
        after,
        gradient=names["g"],
        reads=tuple(names[name] for name in options.arrays),
        writes=("parameter_average",) * options.parameter_average + ("displacement",) * options.displacement,
        scalars=tuple(names[name] for name in _SCALARS if name not in options.arrays),
        reals=reals + tuple(names[name] for name in options.arrays if name not in ("lower", "upper")),
        **fields,
    )


def _with_lines(lines: Lines, rule: Rule, before: str, after: str) -> tuple[Any, ...]:
    """A user's lines beside those of the options; which names are real; and what else becomes of the rule."""
    taken = {*names_in(rule), *own_names(rule).values(), *NEUTRAL, "parameter_average", "displacement"}
    total = free_name("total", taken)
    lines = lines.among({*taken, total}, rule.writes[0], rule.reads[0])
    fields: dict[str, Any] = {
        "given": lines.reads,
        "last_scalars": lines.scalars,
        "looks_at": rule.reads[0],
        "total": total * bool(lines.value),
        "reference": None,
    }
    value = f"{total} = {lines.value}" * bool(lines.value)
    return "\n".join([lines.before, value, before]), "\n".join([lines.after, after]), lines.reals, fields
