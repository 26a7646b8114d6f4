r"""Is a gradient written by hand the gradient of its function?

Along a direction :math:`d` the function changes by

.. math:: f(x + d) - f(x - d) = 2 \, g \cdot d + O(|d|^3)

and the error of rounding in it is a few :math:`\epsilon |f|`. The two are balanced where :math:`d`
is about the cube root of :math:`\epsilon` times the scale of :math:`x` (Nocedal and Wright,
Numerical Optimization, 2nd ed., section 8.1), and both are measured here: the second from
:math:`f`, and the first from the same difference over :math:`2 d`, in which it is eight times as large
and the part of a wrong gradient only twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuprop.driver.arrays import own_copy
from gpuprop.driver.functions.differences import MOST_NAMED, Differences, WrongComponent
from gpuprop.driver.functions.objective import Objective
from gpuprop.driver.options import whole


@dataclass(frozen=True)
class GradientCheck:
    """What `check_gradient` found: true where the gradient is right, and a sentence as a string.

    Attributes
    ----------
    ok : bool
    error : float
        The largest disagreement along a direction, relative to the gradient's size.
    wrong : tuple of WrongComponent
        Components that are wrong, some of them where there are many.
    message : str
    """

    ok: bool
    error: float
    wrong: tuple[WrongComponent, ...]
    message: str

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return self.message


def check_gradient(
    fun: Callable[..., Any],
    jac: Callable[..., Any] | bool,
    x: Any,
    *,
    args: Any = (),
    directions: int = 10,
    step: Any = None,
    rtol: float | None = None,
    rng: Any = None,
) -> GradientCheck:
    r"""Compare a gradient with central differences of its function, and name a component that is wrong.

    Differences are taken along random directions, or along each axis where there are no more
    components than `directions`. Where one disagrees, bisection over the components finds a wrong
    one in a number of evaluations that grows with the logarithm of theirs. On a GPU all arrays stay
    on the device.

    Parameters
    ----------
    fun : callable ``fun(x, *args) -> float``
        The function; it is called before `jac`, and then at other points.
    jac : callable ``jac(x, *args) -> array``, or True
        The gradient, of the shape of x; of complex x :math:`\partial f / \partial \Re x + i\,
        \partial f / \partial \Im x`. True: `fun` gives the pair ``(f, gradient)``.
    x : array_like
        The point, of any shape, NumPy or CuPy; no minimum, where differences see rounding alone. A
        number is a vector of one.
    args : tuple
        Further arguments of both.
    directions : int
        How many to try.
    step : float or array like x, optional
        How far to go in each component. By default, where :math:`\epsilon` is that of x or f, the larger,
        :math:`\epsilon^{1/3}` times the larger of that component and the root mean square of all; and
        smaller and larger steps where that one does not tell.
    rtol : float, optional
        Disagreement allowed, relative to the gradient's Euclidean norm over the components that are
        moved; by default :math:`\epsilon^{0.4}` (5e-7 in float64, 2e-3 in float32). What differences
        themselves are off by comes on top.
    rng : int or numpy.random.Generator, optional
        Where the directions come from.

    Returns
    -------
    GradientCheck
        True where the gradient is right; as a string, a sentence; ``.wrong`` lists components.

    Raises
    ------
    TypeError, ValueError
        An argument, or what `fun` or `jac` gives, cannot be used.

    Examples
    --------
    >>> import numpy as np, gpuprop
    >>> def gradient(x):
    ...     g = 2 * x
    ...     g[3] = 0
    ...     return g
    >>> print(gpuprop.check_gradient(lambda x: np.sum(x**2), gradient, np.arange(1.0, 100.0)))
    The gradient is wrong: component 3 is 0 and differences give 8.
    """
    if not callable(jac) and jac is not True:
        raise TypeError(
            f"jac is {jac!r}; it must be a function that gives the gradient, or True where fun gives both"
        )
    if not callable(fun):
        raise TypeError(f"fun is {fun!r}; it must be a function of x")
    directions = whole("directions", directions, 1)
    backend, x = own_copy("x", x)
    with backend.on_device_of(x):
        x = x.copy(order="C")
        differences = Differences(Objective(fun, jac, args, x, backend, copy_x=False), x, backend, step, rtol)
        bad = differences.first_nonfinite()
        if bad is not None:
            component = differences.component(bad, measure=False)
            return GradientCheck(False, math.nan, (component,), f"The gradient is not finite: {component}.")
        return _along(differences, directions, np.random.default_rng(rng))


def _along(differences: Differences, directions: int, rng: np.random.Generator) -> GradientCheck:
    n = differences.n
    axes = n <= directions
    largest, can_tell = 0.0, True
    wrong: list[WrongComponent] = []
    for turn in range(n if axes else directions):
        signs = np.ones(n, "int8") if axes else 2 * rng.integers(0, 2, n, "int8") - 1
        part = slice(turn, turn + 1) if axes else slice(0, n)
        comparison = differences.compare(differences.like(signs), part)
        largest = max(largest, comparison.relative)
        can_tell = can_tell and comparison.agrees is not None
        if comparison.agrees is False:
            differences.search(differences.like(signs), part, wrong)
            if not axes or len(wrong) == MOST_NAMED:
                break
    if wrong:
        more = " (others may be, too)" if len(wrong) == MOST_NAMED else ""
        message = f"The gradient is wrong: {'; '.join(map(str, wrong))}{more}."
    elif not can_tell:
        message = (
            "Differences cannot tell whether the gradient is right: near x, f is not finite or not smooth, "
            "or the gradient is lost in the rounding of f, as at a minimum, or the step in that of x; "
            "try another x, step or dtype."
        )
    else:
        where = "in each component" if axes else f"along {directions} random directions"
        message = f"The gradient agrees with central differences {where}, to {largest:.1g} of its size."
    return GradientCheck(can_tell and not wrong, largest, tuple(wrong), message)
