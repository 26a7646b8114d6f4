"""The function to be minimised, as the driver asks it: evaluations counted and checked."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from gpuprop.backends import Backend, backend_of

_DIFFERENCES = ("2-point", "3-point", "cs")


class Objective:
    """`fun` and `jac` of SciPy's kinds at one point after another.

    At each point `gradient` comes first; `value` is then that of the same point, and costs nothing
    where `fun` has already given it.

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
        self._value: Any = None
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

    def gradient(self, x: Any) -> Any:
        """The gradient at a new point, like `x`."""
        self._value = None
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
        self._value = self._one_number(pair[0])
        return self._like(x, pair[1])

    def value(self, x: Any) -> Any:
        """The function at the point of the last `gradient`: a number, or a GPU's array of one."""
        if self._value is None and self.fun is not None:
            self._value = self.at(x)
        return self._value

    def at(self, x: Any) -> Any:
        """The function alone, at any point."""
        self.nfev += 1
        result = self.fun(self._given(x), *self._args)
        return self._one_number(result[0] if self._jac is True else result)

    def _given(self, x: Any) -> Any:
        return x.copy() if self._copies else x

    def _one_number(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):  # which a GPU's function may give, too
            value = self._backend.adopt("f", value)
        if not isinstance(value, self._backend.xp.ndarray):
            value = np.asarray(value)
        if value.size != 1 or (value.dtype.kind == "c" and self._jac != "cs"):
            raise ValueError(
                f"fun gave shape {value.shape} and dtype {value.dtype}; it must give one real number"
            )
        return value.reshape(())

    def _like(self, x: Any, gradient: Any) -> Any:
        backend = self._backend
        gradient = backend.adopt("the gradient", gradient)
        if backend.xp is np:
            gradient = np.asarray(gradient)
        elif not isinstance(gradient, backend.xp.ndarray):
            raise TypeError(
                f"the gradient is a {type(gradient).__module__}.{type(gradient).__name__} and x is on a GPU; "
                "it must be a cupy.ndarray"
            )
        if gradient.size != x.size or (gradient.dtype.kind == "c" and x.dtype.kind != "c"):
            raise ValueError(
                f"the gradient has shape {gradient.shape} and dtype {gradient.dtype}, and x has {x.shape} "
                f"and {x.dtype}; it must be one number for each of x"
            )
        if x.dtype.kind == "c" and gradient.dtype.kind != "c":
            raise ValueError(
                f"the gradient has dtype {gradient.dtype} and x has {x.dtype}; it must be complex: "
                "df/dRe x + i df/dIm x"
            )
        if gradient.shape != x.shape:
            gradient = gradient.reshape(x.shape)
        return gradient.astype(x.dtype, copy=False)

    def _differences(self, x: Any) -> Any:
        from scipy.optimize._numdiff import approx_derivative

        def flat(point: Any) -> Any:
            return self.at(point.reshape(x.shape))

        bounds: Any = (-np.inf, np.inf)
        if self._bounds is not None:
            with np.errstate(over="ignore"):  # a bound out of the dtype's range is none
                bounds = [np.broadcast_to(np.asarray(b, x.dtype), x.shape).ravel() for b in self._bounds]
        fixed = np.broadcast_to(bounds[0] == bounds[1], x.size)
        self._value = self.at(x)
        with np.errstate(invalid="ignore" if fixed.any() else None):  # 0 / 0, where no step is possible
            gradient = approx_derivative(flat, x.ravel(), method=self._jac, f0=self._value, bounds=bounds)
        return self._like(x, np.where(fixed, 0, gradient))


def read(values: list[Any], xp: Any) -> list[float]:
    """Arrays of one number each as floats: from a GPU all in one transfer."""
    if xp is np:
        return [float(value) for value in values]
    together = xp.empty(len(values), xp.float64)
    for place, value in enumerate(values):
        together[place] = value
    return together.get().tolist()


def own_copy(name: str, given: Any, backend: Backend | None = None) -> tuple[Backend, Any]:
    """Parameters as an array that may be updated, of floats in native byte order; and where it is."""
    if not hasattr(given, "__dlpack__"):
        given = np.asarray(given)
    backend = backend or backend_of(given)
    array = backend.adopt(name, given)
    if backend.xp is np:
        array = np.asarray(array)  # no subclass
    elif not isinstance(array, backend.xp.ndarray):
        raise TypeError(
            f"{name} is a {type(given).__module__}.{type(given).__name__} and the state is on a GPU; "
            f"they must be on one device, as with {name} as a cupy.ndarray"
        )
    if array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; it must have at least one element")
    dtype = np.dtype("float64") if array.dtype.kind in "iub" else array.dtype
    with device_of(backend, array):
        return backend, array.astype(dtype if dtype.isnative else dtype.newbyteorder("="))


def device_of(backend: Backend, array: Any) -> AbstractContextManager[Any]:
    """The device of `array` as the current one."""
    return array.device if backend.name == "gpu" else nullcontext()
