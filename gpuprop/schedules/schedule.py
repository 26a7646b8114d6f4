"""What a schedule is: a function of the step that can be compared, pickled and written down."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpuprop import arguments as check


class Schedule:
    """A learning rate as a function of the number of steps taken."""

    @overload
    def __call__(self, step: float) -> float: ...
    @overload
    def __call__(self, step: ArrayLike) -> NDArray[np.float64]: ...
    def __call__(self, step: Any) -> Any:
        """Give the learning rate of the step that follows `step` others.

        Parameters
        ----------
        step : int or array_like
            How many steps have been taken, or an array of such numbers.

        Returns
        -------
        float or numpy.ndarray
            A rate for each number.
        """
        if type(step) is int or type(step) is float:
            return self._at(step)
        steps = np.asarray(step)
        if steps.dtype.kind not in "iuf":
            raise TypeError(f"step is {step!r}; it must be a number of steps taken, or an array of such")
        # One by one: NumPy's own functions may differ from Python's in the last bit.
        rates = [self._at(each) for each in steps.ravel().tolist()]
        return np.array(rates, dtype=np.float64).reshape(steps.shape)[()]

    def _at(self, step: Any) -> float:
        raise NotImplementedError

    def _check(self, **kinds: str) -> None:
        """Make the arguments named under each kind plain floats and ints of it, or refuse them."""
        for kind, names in kinds.items():
            for name in names.split():
                self._set(name, _KINDS[kind](name, getattr(self, name)))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def whole_steps(name: str, value: Any, least: int = 0) -> int:
    """`value` as an int; 1e4 is welcome."""
    number = check.real(name, value)
    if not number >= least or not number.is_integer():
        raise ValueError(f"{name} is {value!r}; it must be a whole number, at least {least}")
    return int(number)


_KINDS: dict[str, Callable[[str, Any], float]] = {
    "rates": check.number,
    "positive": partial(check.number, positive=True),
    "steps": whole_steps,
    "lengths": partial(whole_steps, least=1),
}
