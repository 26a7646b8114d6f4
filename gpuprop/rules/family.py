"""Update rules, each written once, as arithmetic that every backend compiles.

Options that are numbers are scalars here, at neutral values where they are not used
(`gpuprop.rules.folding` then takes them out of the kernel); only arrays that may be absent make variants.
"""

from __future__ import annotations

import ast
import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from gpuprop import reference
from gpuprop.rules.arithmetic import Assignment, parse


@dataclass(frozen=True, eq=False)
class Rule:
    """An elementwise update of arrays in place.

    Parameters
    ----------
    name : str
        An identifier; the kernels carry it.
    reads : tuple of str
        Arrays that the body only reads.
    writes : tuple of str
        Arrays that the body reads and assigns, the parameters first.
    scalars : tuple of str
        Numbers that are the same for every element.
    body : str
        Assignments, one a line, of ``+ - * /``, comparisons inside ``where(condition, a, b)``,
        ``sqrt``, ``abs``, ``min`` and ``max`` (a NaN wins, as in `numpy.minimum`), over one
        element of each array, the scalars, numbers, and names assigned on earlier lines.
    reference : callable, optional
        The same in whole-array NumPy, for the backend ``"numpy"``: from the arrays and scalars by
        name to a dictionary with the new value of each array in `writes`. By default that backend
        evaluates `body`.

    Raises
    ------
    ValueError
        The body cannot work: the message quotes the line and says why.

    Notes
    -----
    A rule is compiled when it is first used, and its kernels are kept by the rule's identity: make
    it once, where a module is loaded, and not anew for each step.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    scalars: tuple[str, ...]
    body: str
    reference: Callable[..., dict[str, Any]] | None = field(default=None, repr=False)
    assignments: tuple[Assignment, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parsed = parse(self.name, self.body, self.reads, self.writes, self.scalars)
        object.__setattr__(self, "assignments", parsed)
        for names in ("reads", "writes", "scalars"):
            object.__setattr__(self, names, tuple(getattr(self, names)))

    @property
    def arrays(self) -> tuple[str, ...]:
        """The arrays in the order in which a kernel takes them."""
        return self.reads + self.writes

    def __deepcopy__(self, memo: dict[int, Any]) -> Rule:
        return self  # immutable, and kernels are kept by identity

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.name, self.reads, self.writes, self.scalars, self.body, self.reference)

    def tree(self) -> ast.Module:
        """The body as Python reads it."""
        return ast.parse(textwrap.dedent(self.body).strip("\n"))


@cache
def _unpickled(*fields: Any) -> Rule:
    return Rule(*fields)


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
