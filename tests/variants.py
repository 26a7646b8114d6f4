"""Optimizers that between them use every option: for the tests that hold for each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from gpuprop import SGD, AdaGrad, Adam, AdamW, Optimizer, RMSProp, Rule, RuleOptimizer, schedules
from gpuprop.optimizers.options import is_other

DECAY = schedules.exponential_decay(0.1, transition_steps=10, decay_rate=0.5)


#: A user's rule, with names that options have around it, and a second moment for both parts.
OWN = Rule(
    "own",
    ("slope",),
    ("w", "moment"),
    ("learning_rate", "g"),
    """
    lower = abs2(slope)
    moment = g * moment + (1 - g) * lower
    w = w - learning_rate * slope / (sqrt(moment) + 1e-3)
    """,
    reals=("moment",),
)


def variants(lower: Any, upper: Any, rates: Any) -> dict[str, Optimizer]:
    """By name; `lower` and `upper` are arrays like the parameters, and `rates` is real."""
    return {
        "rmsprop": RMSProp(),
        "momentum": RMSProp(momentum=0.9),
        "nesterov": RMSProp(momentum=0.9, nesterov=True),
        "centered": RMSProp(centered=True, epsilon=1e-3),
        "momentum, centered": RMSProp(momentum=0.9, centered=True, epsilon=1e-3),
        "epsilon inside": RMSProp(epsilon=1e-3, epsilon_inside_sqrt=True, initial_square_average=1.0),
        "bias correction": RMSProp(bias_correction=True),
        "rate in velocity": RMSProp(DECAY, momentum=0.8, learning_rate_in_velocity=True, nesterov=True),
        "schedule": RMSProp(DECAY, momentum=0.8, nesterov=True),
        "weight decay": RMSProp(weight_decay=0.1),
        "decoupled weight decay": RMSProp(DECAY, weight_decay=0.1, decoupled_weight_decay=True),
        "maximize": RMSProp(maximize=True, weight_decay=0.1),
        "clip value": RMSProp(clip_value=0.3, momentum=0.5),
        "clip norm": RMSProp(clip_norm=1.5, maximize=True),
        "bounds": RMSProp(bounds=(-0.5, 0.75)),
        "lower array": RMSProp(bounds=(lower, np.inf)),
        "both arrays": RMSProp(momentum=0.9, bounds=(lower, upper)),
        "everything": RMSProp(
            DECAY, 0.8, 1e-3, momentum=0.9, nesterov=True, centered=True, epsilon_inside_sqrt=True,
            initial_square_average=2.0, bias_correction=True, weight_decay=0.1, decoupled_weight_decay=True,
            maximize=True, clip_value=0.3, clip_norm=20.0, bounds=(-1.0, upper), nonfinite="skip",
        ),
        "sgd": SGD(),
        "sgd momentum": SGD(DECAY, momentum=0.9, weight_decay=0.1),
        "sgd nesterov": SGD(momentum=0.9, nesterov=True, clip_value=0.3, bounds=(lower, 1)),
        "adagrad": AdaGrad(),
        "adagrad options": AdaGrad(
            epsilon=1e-3, epsilon_inside_sqrt=True, initial_square_sum=0.1, weight_decay=0.1,
            bounds=(lower, upper),
        ),
        "adam": Adam(0.1),
        "adam options": Adam(DECAY, clip_value=0.3, maximize=True, bounds=(lower, 1)),
        "adamw": AdamW(0.1),
        "auto": RMSProp("auto", momentum=0.9, bias_correction=True, maximize=True),
        "auto displacement": AdaGrad("auto", bounds=(lower, 1)),
        "auto sgd": SGD("auto", momentum=0.9, clip_norm=1.5, nonfinite="skip"),
        "auto adam": Adam("auto"),
        **beside_complex(lower, upper, rates),
        "skip": RMSProp(nonfinite="skip"),
        "raise": RMSProp(nonfinite="raise"),
    }  # fmt: skip


def beside_complex(lower: Any, upper: Any, rates: Any) -> dict[str, Optimizer]:
    """Those that have arrays of real numbers, or whose meaning complex parameters show."""
    return {
        "modulus": RMSProp(second_moment="modulus"),
        "modulus and more": RMSProp(
            second_moment="modulus", centered=True, momentum=0.9, nesterov=True, bias_correction=True,
            epsilon=1e-3, weight_decay=0.1, clip_value=0.3, nonfinite="skip",
        ),
        "adagrad modulus": AdaGrad(second_moment="modulus", bounds=(lower, upper)),
        "adam modulus": Adam(0.1, second_moment="modulus", clip_norm=1.5, nonfinite="raise"),
        "rates": RMSProp(rates, nonfinite="skip"),
        "rates outside": RMSProp(rates, momentum=0.9, nesterov=True),
        "rates inside": SGD(rates, momentum=0.9, learning_rate_in_velocity=True, weight_decay=rates),
        "decay by element": AdamW(rates, weight_decay=rates, maximize=True),
        "decay by element, one rate": RMSProp(DECAY, weight_decay=rates, decoupled_weight_decay=True),
        "modulus bounds": RMSProp(modulus_bounds=(0.4, 0.9)),
        "modulus arrays": Adam(0.1, modulus_bounds=(rates, None), second_moment="modulus"),
        "projected gradient": RMSProp(momentum=0.9, bounds=(-0.5, 0.75), projected_gradient=True),
        "projected at arrays": SGD(0.1, momentum=0.9, bounds=(lower, upper), projected_gradient=True),
        "average": RMSProp(parameter_average=0.9),
        "average and more": Adam(rates, parameter_average=0.5, bounds=(lower, 1), nonfinite="skip"),
        "own": RuleOptimizer(OWN, learning_rate=0.1, g=0.9),
        "own and more": RuleOptimizer(
            OWN, learning_rate=rates, g=rates, weight_decay=0.1, decoupled_weight_decay=True, clip_norm=20.0,
            clip_value=0.3, maximize=True, bounds=(lower, 0.75), projected_gradient=True,
            parameter_average=0.9, nonfinite="skip",
        ),
    }  # fmt: skip


_OF_TWO = variants(-np.ones(2), np.ones(2), np.ones(2))
NAMES = list(_OF_TWO)
OF_COMPLEX = list(beside_complex(-np.ones(2), np.ones(2), np.ones(2)))


def _kind(value: Any) -> Any:
    """What decides which arrays and lines there are: for numbers, that it is one."""
    if isinstance(value, tuple):
        return tuple(map(_kind, value))
    if hasattr(value, "dtype"):
        return "array"
    if value is None or isinstance(value, (str, bool)) or value == np.inf:
        return value
    return "schedule" if callable(value) else "number"


def used_by(name: str) -> set[Any]:
    """The kind of optimizer, and each option that is not its default, with the kind of its value."""
    one = _OF_TWO[name]
    if isinstance(one, RuleOptimizer):
        given = {**one.scalars, **one.options}
    else:
        given = {f.name: getattr(one, f.name) for f in fields(one)}
        given = {f.name: given[f.name] for f in fields(one) if is_other(given[f.name], f.default)}
    return {type(one).__name__, *((option, _kind(value)) for option, value in given.items())}


Case = TypeVar("Case", bound=Hashable)


def covering(cases: Iterable[Case], uses: Callable[[Case], set[Any]]) -> list[Case]:
    """Few of the cases that use between them all that any of them uses."""
    each = {case: uses(case) for case in cases}
    left, few = set().union(*each.values()), []
    while left:
        few.append(max(each, key=lambda case: len(each[case] & left)))
        left -= each[few[-1]]
    return few


def covering_pairs(
    cases: Iterable[tuple[str, str]], like: Callable[[str], Hashable] = str
) -> list[tuple[str, str]]:
    """Few of these names of variants with something else each, in which each option meets each of those.

    Where some of those are alike, in what `like` makes of them, an option meets one of each sort, and each
    kind of optimizer all of them.
    """

    def uses(case: tuple[str, str]) -> set[Any]:
        name, other = case
        return {(used, like(other)) for used in used_by(name)} | {(type(_OF_TWO[name]), other)}

    return covering(cases, uses)
