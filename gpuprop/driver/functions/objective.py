"""The function to be minimised, as the driver asks it: evaluations counted and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpuprop.arguments import naming
from gpuprop.backends import Backend, backend_of
from gpuprop.driver.arrays import numbers, one_number
from gpuprop.driver.points import copied

_DIFFERENCES = ("2-point", "3-point", "cs")


class Objective:
    """`fun` and `jac` of SciPy's kinds at one point after another: `forget` comes between them.

    At a point whose value is wanted, `value` comes first, since `jac` may use what `fun` has left behind.
    A gradient may be a buffer of the user's: before another function of theirs runs, `keep` it.

    Parameters
    ----------
    fun, jac, args
        As for `gpuprop.minimize`.
    x : array
        The parameters: values and gradients come as this one's device, dtype and shape.
    backend : Backend
    bounds : (lower, upper), optional
        Which finite differences keep within.
    copy_x : bool
        Hand out copies of the parameters, as SciPy does.

    Attributes
    ----------
    nfev, njev : int
        Evaluations of the function and of its gradient so far.
    evaluations : int
        Evaluations of the function that one gradient takes.
    before : (nfev, njev)
        Those before this point: of a run that goes on from it, which evaluates it again.
    """

    def __init__(
        self, fun: Any, jac: Any, args: Any, x: Any, backend: Backend, bounds: Any = None, copy_x: bool = True
    ) -> None:
        if type(fun).__name__ == "MemoizeJac" and jac == fun.derivative:
            fun, jac = fun.fun, True  # what scipy.optimize.minimize makes of jac=True
        self.fun, self._jac = fun, None if jac is False else jac
        self._args = args if isinstance(args, tuple) else (args,)
        self._backend, self._bounds, self._copies = backend, bounds, copy_x
        self.nfev = self.njev = 0
        self.before = (0, 0)
        # On the host the usual case of each is decided once, as it is half of what a small step takes.
        self._is_simple = backend.xp is np and type(x) is np.ndarray
        self._value: Any = None
        self._gradient: Any = None
        self._is_own = False
        self.evaluations = self._check(x)

    def _check(self, x: Any) -> int:
        fun, jac = self.fun, self._jac
        if fun is not None and not callable(fun):
            raise TypeError(f"fun is {fun!r}; it must be a function of x, or None where jac is one")
        if callable(jac):
            return 0
        if not (jac is None or jac is True or (isinstance(jac, str) and jac in _DIFFERENCES)):
            raise ValueError(
                f"jac is {jac!r}; it must be a function, True where fun gives both, None, or one of "
                f"{', '.join(map(repr, _DIFFERENCES))}"
            )
        if fun is None:
            raise ValueError(
                f"fun is None and jac is {jac!r}; one of them must be a function that gives the gradient"
            )
        if jac is True:
            return 1
        if type(x) is dict:
            raise ValueError(
                f"jac is {jac!r} and x0 is a dictionary; finite differences are for one array (gpuprop.pack "
                "makes one of several), so pass jac, or jac=True with a fun that gives (f, gradients)"
            )
        # NumPy counts bfloat16 among no kind of numbers, and SciPy cannot tell its precision.
        if self._backend.name == "gpu" or x.dtype.kind != "f":
            where = "x0 is on a GPU" if self._backend.name == "gpu" else f"x0 has dtype {x.dtype}"
            raise ValueError(
                f"jac is {jac!r} and {where}; finite differences are for arrays of float16, float32 or "
                "float64 on the host, so pass jac, or jac=True with a fun that gives (f, gradient)"
            )
        if jac is None:
            # Forward differences have an error of the root of the dtype's epsilon.
            self._jac = jac = "3-point" if x.dtype.itemsize < 8 else "2-point"
        return 1 + x.size * (2 if jac == "3-point" else 1)

    def value(self, x: Any) -> Any:
        """The function at this point: a number, or a GPU's array of one; None where there is no function."""
        if self._value is None and self.fun is not None:
            self._gradient = None  # one that came before f is asked for again
            if callable(self._jac):
                self._value = self.at(x)
            else:
                self.gradient(x)
        return self._value

    def gradient(self, x: Any) -> Any:
        """The gradient at this point, like `x`."""
        if self._gradient is None:
            self._is_own = False
            self._gradient = self._gradient_at(x)
        return self._gradient

    @property
    def known(self) -> Any:
        """The gradient at this point, where it has been asked for; else None."""
        return self._gradient

    def keep(self, x: Any) -> Any:
        """The gradient at this point as an array that no function of the user's writes to."""
        gradient = self.gradient(x)
        if not self._is_own:
            self._gradient = copied(gradient)
            self._is_own = True
        return self._gradient

    def gradient_elsewhere(self, point: Any, with_value: bool = False) -> Any:
        """The gradient at another point, after f if need be; what is known of this one stays."""
        known = self._value, self._gradient, self._is_own
        try:
            if with_value and self.fun is not None and callable(self._jac):
                self.at(point)
            return self._gradient_at(point)
        finally:
            self._value, self._gradient, self._is_own = known

    def forget(self) -> None:
        """`x` is about to move."""
        self.before = (self.nfev, self.njev)
        self._value = self._gradient = None

    def _gradient_at(self, x: Any) -> Any:
        self.njev += 1
        if callable(self._jac):
            return self._like(x, self._jac(self._given(x), *self._args))
        if self._jac is not True:
            return self._differences(x)
        self.nfev += 1
        pair = self.fun(self._given(x), *self._args)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(
                f"fun gave a {type(pair).__name__}; with jac=True it must give the pair (f, gradient)"
            )
        self._value = one_number(self._backend, pair[0])
        return self._like(x, pair[1])

    def at(self, x: Any) -> Any:
        """The function alone, at any point."""
        self.nfev += 1
        result = self.fun(self._given(x), *self._args)
        if self._jac is True:
            result = result[0]
        return one_number(self._backend, result, may_be_complex=self._jac == "cs")

    def _given(self, x: Any) -> Any:
        if not self._copies:
            return dict(x) if type(x) is dict else x
        return x.copy() if self._is_simple else copied(x)

    def _like(self, x: Any, given: Any) -> Any:
        if (
            type(given) is np.ndarray
            and self._is_simple
            and given.dtype is x.dtype
            and given.shape == x.shape
        ):
            return given
        if type(x) is not dict:
            return self._like_one(x, given, self._backend)
        if not isinstance(given, Mapping) or (unknown := given.keys() - x.keys()):
            what = f"has {min(unknown)!r}" if isinstance(given, Mapping) else f"is a {type(given).__name__}"
            raise TypeError(f"the gradient {what}; it must be a dictionary with names among {', '.join(x)}")
        gradients = {}
        for name, array in x.items():
            with naming(name), (backend := backend_of(array)).on_device_of(array):
                one = given.get(name)
                gradients[name] = None if one is None else self._like_one(array, one, backend)
        return gradients

    def _like_one(self, x: Any, given: Any, backend: Backend) -> Any:
        gradient = numbers(backend, "the gradient", given)
        if gradient.shape == x.shape and gradient.dtype == x.dtype:
            return gradient
        fits = gradient.shape == x.shape or gradient.size == x.size == 1
        if fits and gradient.dtype.kind == "c" and x.dtype.kind != "c":
            raise ValueError(
                f"the gradient has dtype {gradient.dtype} and x has {x.dtype}; start from a complex x0, as "
                "x0.astype(complex) is, or give the real part"
            )
        if not fits:
            raise ValueError(
                f"the gradient has shape {gradient.shape} and dtype {gradient.dtype}, and x has {x.shape} "
                f"and {x.dtype}; it must be one number for each of x, in the shape of x"
            )
        if x.dtype.kind == "c" and gradient.dtype.kind != "c":
            raise ValueError(
                f"the gradient has dtype {gradient.dtype} and x has {x.dtype}; it must be complex: "
                "df/dRe x + i df/dIm x"
            )
        return gradient.reshape(x.shape).astype(x.dtype, copy=False)

    def _differences(self, x: Any) -> Any:
        from scipy.optimize._numdiff import approx_derivative

        def flat(point: Any) -> Any:
            try:
                return self.at(point.reshape(x.shape))
            except StopIteration as error:  # which would end SciPy's loop over the components
                raise _Carrier(error) from None

        bounds: Any = (-np.inf, np.inf)
        if self._bounds is not None:
            with np.errstate(over="ignore"):  # a bound out of the dtype's range is none
                bounds = [np.broadcast_to(np.asarray(b, x.dtype), x.shape).ravel() for b in self._bounds]
        fixed = np.broadcast_to(bounds[0] == bounds[1], x.size)
        self._value = self.at(x).real
        try:
            with np.errstate(invalid="ignore" if fixed.any() else None):  # 0 / 0, where no step is possible
                slopes = approx_derivative(flat, x.ravel(), method=self._jac, f0=self._value, bounds=bounds)
        except _Carrier as carrier:
            raise carrier.args[0] from None
        return self._like(x, np.where(fixed, 0, slopes).reshape(x.shape))


class _Carrier(Exception):
    """Takes a StopIteration of the user's through loops that would swallow it."""
