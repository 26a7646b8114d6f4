"""The optimizers: immutable hyperparameters that make a state and step through it in place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any

from gpuprop.backends import Backend, backend_of
from gpuprop.rules import RMSPROP


class State:
    """What an optimizer remembers between steps.

    Attributes
    ----------
    step : int
        Number of steps taken.
    square_average : array, like the parameters
        Moving average of the squared gradient.
    """

    def __init__(self, step: int, square_average: Any, backend: Backend) -> None:
        self.step = step
        self.square_average = square_average
        self._backend = backend

    def __repr__(self) -> str:
        return f"State(step={self.step}, square_average={self.square_average!r})"


@dataclass(frozen=True)
class RMSProp:
    r"""RMSProp: each parameter's step is divided by the root of its mean squared gradient.

    .. math::
        s &\leftarrow \rho s + (1 - \rho) g^2 \\
        x &\leftarrow x - \eta \, g / (\sqrt{s} + \epsilon)

    with :math:`s = 0` at the start.

    Parameters
    ----------
    learning_rate : float
        :math:`\eta \ge 0`, in the units of the parameters.
    rho : float
        Decay :math:`\rho` of the moving average, in [0, 1).
    epsilon : float
        :math:`\epsilon \ge 0`, in the units of the gradient; outside the root.

    Raises
    ------
    ValueError
        A hyperparameter is out of its range; the message names it and its value.
    TypeError
        A hyperparameter is not a number.

    References
    ----------
    T. Tieleman and G. Hinton, "Lecture 6.5 - rmsprop", COURSERA: Neural Networks for Machine
    Learning, 2012.

    Examples
    --------
    >>> import numpy as np, gpuprop
    >>> x = np.array([5.0, 4.0])
    >>> optimizer = gpuprop.RMSProp(learning_rate=0.1)
    >>> state = optimizer.init(x)
    >>> optimizer.step(x, 2 * x, state)
    >>> x
    array([4.68377233, 3.68377236])
    """

    learning_rate: float = 0.1
    rho: float = 0.9
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        for name, below in (("learning_rate", math.inf), ("rho", 1.0), ("epsilon", math.inf)):
            object.__setattr__(self, name, _number(name, getattr(self, name), below))

    @cached_property
    def _scalars(self) -> tuple[float, ...]:
        return self.learning_rate, self.rho, 1 - self.rho, self.epsilon

    def init(self, x: Any, *, backend: Backend | None = None) -> State:
        """The state before the first step.

        Parameters
        ----------
        x : numpy.ndarray or cupy.ndarray of float16, float32 or float64
            The parameters, of any shape.
        backend : Backend, optional
            Where steps run, from `select_backend`; by default the array's own type decides.

        Returns
        -------
        State

        Raises
        ------
        TypeError
            `x` is no such array.
        """
        if backend is not None and not isinstance(backend, Backend):
            raise TypeError(f"backend is {backend!r}; it must be one that select_backend gave")
        chosen = backend or backend_of(x)
        return State(0, chosen.zeros_like(x), chosen)

    def step(self, x: Any, grad: Any, state: State) -> None:
        """Update `x` and `state` in place.

        Parameters
        ----------
        x : numpy.ndarray or cupy.ndarray
            The parameters that `state` was made for.
        grad : array of the same type, shape, dtype and device
            Gradient at `x`; it is only read, and may be `x` itself.
        state : State
            From `init`.

        Raises
        ------
        TypeError, ValueError
            An array cannot take part; the message says what was given and what is needed, and
            nothing has been written.
        """
        try:
            backend, arrays = state._backend, (grad, x, state.square_average)
        except AttributeError:
            raise TypeError(f"state is a {type(state).__name__}; it must be one that init gave") from None
        backend.update(RMSPROP, arrays, self._scalars)
        state.step += 1


def _number(name: str, value: Any, below: float) -> float:
    """`value` as a finite float in [0, below)."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be a real number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not 0 <= number < below:
        interval = "finite and at least 0" if below == math.inf else f"in [0, {below:g})"
        raise ValueError(f"{name} is {value!r}; it must be {interval}")
    return number
