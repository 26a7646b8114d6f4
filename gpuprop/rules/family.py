"""The update rules of the package, each written once.

Options that are numbers are scalars here, at neutral values where they are not used
(`gpuprop.rules.folding` then takes them out of the kernel); only arrays that may be absent make variants.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

from gpuprop import reference
from gpuprop.rules.rule import Rule

_GRADIENT = """
g = gradient_scale * grad
g = where(g > clip_value, clip_value, where(g < -clip_value, -clip_value, g)) + weight_decay * x
"""
_MOMENTUM = """
velocity = momentum * velocity + increment
increment = velocity_share * velocity + increment_share * increment
"""
_STEP = """
x = shrink * x - increment
x = where(x < lower, lower, where(x > upper, upper, x))
"""

#: The values at which an option changes nothing.
NEUTRAL = {
    "gradient_scale": 1.0,
    "clip_value": math.inf,
    "weight_decay": 0.0,
    "shrink": 1.0,
    "lower": -math.inf,
    "upper": math.inf,
    "learning_rate": 1.0,
    "correction": 1.0,
    "epsilon_inside": 0.0,
    "velocity_share": 1.0,
    "increment_share": 0.0,
}


def _rule(
    reference: Callable[..., dict[str, Any]],
    averages: tuple[str, ...],
    scalars: tuple[str, ...],
    body: str,
    bounds: tuple[str, ...],
    velocity: bool = False,
) -> Rule:
    """The rule around `body`, which makes of the gradient ``g`` the ``increment``.

    `bounds` names those of "lower" and "upper" that are arrays.
    """
    if velocity:
        averages = (*averages, "velocity")
        scalars = (*scalars, "momentum", "velocity_share", "increment_share")
        body += _MOMENTUM
    scalars = ("gradient_scale", "clip_value", "weight_decay", "shrink", *scalars)
    scalars += tuple(bound for bound in ("lower", "upper") if bound not in bounds)
    body = _GRADIENT + body + _STEP
    return Rule(
        reference.__name__.removesuffix("_step"),
        ("grad", *bounds),
        ("x", *averages),
        scalars,
        body,
        reference,
    )


@cache
def sgd(bounds: tuple[str, ...] = (), velocity: bool = False) -> Rule:
    body = """
increment = learning_rate * g
"""
    return _rule(reference.sgd_step, (), ("learning_rate",), body, bounds, velocity)


@cache
def rmsprop(bounds: tuple[str, ...] = (), velocity: bool = False, centered: bool = False) -> Rule:
    averages: tuple[str, ...] = ("square_average",)
    body = """
square_average = rho * square_average + one_minus_rho * (g * g)
variance = correction * square_average
"""
    if centered:
        averages += ("gradient_average",)
        body += """
gradient_average = rho * gradient_average + one_minus_rho * g
mean = correction * gradient_average
variance = variance - mean * mean
variance = where(variance < 0, 0, variance)
"""
    body += """
increment = learning_rate * g / (sqrt(variance + epsilon_inside) + epsilon)
"""
    scalars = ("learning_rate", "rho", "one_minus_rho", "correction", "epsilon_inside", "epsilon")
    return _rule(reference.rmsprop_step, averages, scalars, body, bounds, velocity)


@cache
def adagrad(bounds: tuple[str, ...] = ()) -> Rule:
    body = """
square_sum = square_sum + g * g
increment = learning_rate * g / (sqrt(square_sum + epsilon_inside) + epsilon)
"""
    scalars = ("learning_rate", "epsilon_inside", "epsilon")
    return _rule(reference.adagrad_step, ("square_sum",), scalars, body, bounds)


@cache
def adam(bounds: tuple[str, ...] = ()) -> Rule:
    body = """
gradient_average = beta1 * gradient_average + one_minus_beta1 * g
square_average = beta2 * square_average + one_minus_beta2 * (g * g)
increment = step_size * gradient_average / (sqrt(correction * square_average) + epsilon)
"""
    averages = ("gradient_average", "square_average")
    scalars = ("step_size", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "correction", "epsilon")
    return _rule(reference.adam_step, averages, scalars, body, bounds)
