"""The update rules of the package, each written once: what a step makes of the gradient.

`around` puts the options that all of them share before and after. Options that are numbers are scalars, at
neutral values where they are not used (`gpuprop.rules.folding` then takes them out of the kernel); only
arrays that may be absent make variants.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal

from gpuprop import reference
from gpuprop.rules.rule import Rule

#: Where learning rates that are an array, or are found, come in: nowhere, before the velocity, or behind it.
Rates = Literal["", "inside", "outside"]

_MOMENTUM = """
velocity = momentum * velocity + increment
increment = velocity_share * velocity + increment_share * increment
"""
_RATES = """
increment = learning_rate * increment
"""

#: The values at which an option changes nothing.
NEUTRAL = {
    "gradient_scale": 1.0,
    "clip_value": math.inf,
    "weight_decay": 0.0,
    "shrink": 1.0,
    "lower": -math.inf,
    "upper": math.inf,
    "step_size": 1.0,
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
    velocity: bool = False,
    modulus: bool = False,
    rates: Rates = "",
    finds_rate: bool = False,
) -> Rule:
    """The rule whose `body` makes of the gradient ``grad`` the ``increment``."""
    body += _RATES * (rates == "inside")
    if velocity:
        averages = (*averages, "velocity")
        scalars = (*scalars, "momentum", "velocity_share", "increment_share")
        body += _MOMENTUM
    body += _RATES * (rates == "outside") + "x = x - increment"
    reads = ("grad", "learning_rate") if rates and not finds_rate else ("grad",)
    scalars += ("learning_rate",) * finds_rate
    reals = reads[1:] + tuple(
        name for name in averages if modulus and name in ("square_average", "square_sum")
    )
    name = reference.__name__.removesuffix("_step")
    reference = partial(reference, rates_are_inside=rates == "inside", modulus=modulus)
    return Rule(name, reads, ("x", *averages), scalars, body, reference, reals)


@cache
def sgd(velocity: bool = False, rates: Rates = "", finds_rate: bool = False) -> Rule:
    body = """
increment = step_size * grad
"""
    return _rule(reference.sgd_step, (), ("step_size",), body, velocity, False, rates, finds_rate)


@cache
def rmsprop(
    velocity: bool = False,
    centered: bool = False,
    modulus: bool = False,
    rates: Rates = "",
    finds_rate: bool = False,
) -> Rule:
    averages: tuple[str, ...] = ("square_average",)
    body = f"""
square_average = rho * square_average + one_minus_rho * {_square("grad", modulus)}
variance = correction * square_average
"""
    if centered:
        averages += ("gradient_average",)
        body += f"""
gradient_average = rho * gradient_average + one_minus_rho * grad
mean = correction * gradient_average
variance = variance - {_square("mean", modulus)}
variance = where(variance < 0, 0, variance)
"""
    body += """
increment = step_size * grad / (sqrt(variance + epsilon_inside) + epsilon)
"""
    scalars = ("step_size", "rho", "one_minus_rho", "correction", "epsilon_inside", "epsilon")
    return _rule(reference.rmsprop_step, averages, scalars, body, velocity, modulus, rates, finds_rate)


@cache
def adagrad(modulus: bool = False, rates: Rates = "", finds_rate: bool = False) -> Rule:
    body = f"""
square_sum = square_sum + {_square("grad", modulus)}
increment = step_size * grad / (sqrt(square_sum + epsilon_inside) + epsilon)
"""
    scalars = ("step_size", "epsilon_inside", "epsilon")
    return _rule(reference.adagrad_step, ("square_sum",), scalars, body, False, modulus, rates, finds_rate)


@cache
def adam(modulus: bool = False, rates: Rates = "", finds_rate: bool = False) -> Rule:
    body = f"""
gradient_average = beta1 * gradient_average + one_minus_beta1 * grad
square_average = beta2 * square_average + one_minus_beta2 * {_square("grad", modulus)}
increment = step_size * gradient_average / (sqrt(correction * square_average) + epsilon)
"""
    averages = ("gradient_average", "square_average")
    scalars = ("step_size", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "correction", "epsilon")
    return _rule(reference.adam_step, averages, scalars, body, False, modulus, rates, finds_rate)


def _square(name: str, modulus: bool) -> str:
    """Of each part of a complex number, or of its modulus."""
    return f"abs2({name})" if modulus else f"({name} * {name})"
