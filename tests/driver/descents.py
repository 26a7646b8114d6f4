"""What the tests of the driver descend on, and by."""

from contextlib import nullcontext

import numpy as np

from gpuprop import SGD, Groups, RMSProp, minimize
from gpuprop.schedules import exponential_decay

TARGET = np.array([1.0, -2.0, 0.5, 3.0])
CURVATURE = np.array([1.0, 10.0, 0.3, 4.0])


def falling(steps=400, start=0.2, share=1e-6, **options):
    """An optimizer whose steps shrink, so that it settles."""
    return RMSProp(exponential_decay(start, steps, share), **options)


class Quadratic:
    """sum of c (x - t)^2 / 2 on a backend's arrays, with its evaluations counted."""

    def __init__(self, backend, dtype="float64"):
        self.target, self.curvature = (backend.asarray(a, dtype) for a in (TARGET, CURVATURE))
        self.funs = self.jacs = 0

    def fun(self, x):
        self.funs += 1
        return (self.curvature * (x - self.target) ** 2).sum() / 2

    def jac(self, x):
        self.jacs += 1
        return self.curvature * (x - self.target)

    def both(self, x):
        return self.fun(x), self.jac(x)


FIELD = np.array([[2 - 1j, 0.5j, -1.5], [0.25 + 1j, -2 - 2j, 1.0]], "complex64")
METHODS = {"plain": falling(200, 0.4), "field": SGD(0.05, momentum=0.5)}
GROUPS = Groups(METHODS)


class ByName:
    """sum of c |x - t|^2 / 2 over arrays that do not interact, of float64 and complex64."""

    def __init__(self, *backends, devices=None):
        self.backends = dict(zip(METHODS, backends * 2, strict=False))
        self.devices = dict(zip(METHODS, devices or [nullcontext()] * 2, strict=True))
        self.curvature = {**self.on_device(plain=CURVATURE), "field": 2.0}
        self.target = self.on_device(plain=TARGET, field=FIELD)
        self.x0 = self.on_device(plain=np.full(4, 2.5), field=np.ones_like(FIELD))

    def on_device(self, **arrays):
        made = {}
        for name, array in arrays.items():
            with self.devices[name]:
                made[name] = self.backends[name].asarray(array)
        return made

    def hosted(self, arrays):
        return {name: self.backends[name].to_host(array).copy() for name, array in arrays.items()}

    def fun_of(self, name, x):
        with self.backends[name].on_device_of(x):
            return float((self.curvature[name] * abs(x - self.target[name]) ** 2).sum()) / 2

    def jac_of(self, name, x):
        with self.backends[name].on_device_of(x):
            return self.curvature[name] * (x - self.target[name])

    def fun(self, x):
        return sum(self.fun_of(name, array) for name, array in x.items())

    def jac(self, x):
        return {name: self.jac_of(name, array) for name, array in x.items()}

    def both(self, x):
        return self.fun(x), self.jac(x)

    def alone(self, name, options, method=None, **further):
        """The run of one array by itself, by the function and the gradient that are its own."""
        return minimize(
            lambda x: self.fun_of(name, x), self.x0[name], method=method or METHODS[name],
            jac=lambda x: self.jac_of(name, x), options={"gtol": None, **options}, **further,
        )  # fmt: skip

    def path(self, steps, method=GROUPS):
        """All points of a run, on the host."""
        path = [self.hosted(self.x0)]
        options = {"gtol": None, "maxiter": steps}
        minimize(
            None, self.x0, jac=self.jac, method=method, options=options,
            callback=lambda x: path.append(self.hosted(x)),
        )  # fmt: skip
        return path

    def assert_same(self, x, other):
        assert list(x) == list(other) == list(METHODS)
        for name, array in self.hosted(x).items():
            np.testing.assert_array_equal(array, self.hosted(other)[name], err_msg=name, strict=True)


def sum_of_squares(x):
    return float(np.sum(x**2))


def twice(x):
    return 2 * x


def both(x):
    return sum_of_squares(x), twice(x)


METHOD = RMSProp()
X0 = np.array([5.0, 4.0])
RUN = {"fun": sum_of_squares, "x0": X0, "jac": twice, "method": METHOD}


def cubic(x):
    """sum of |x|^3 / 3, by parts of complex numbers: smooth, and no quadratic."""
    parts = (x.real, x.imag) if x.dtype.kind == "c" else (x,)
    return sum((part * part * part).sum() for part in parts) / 3


def cubic_der(x):
    return x.real * x.real + 1j * (x.imag * x.imag) if x.dtype.kind == "c" else x * x


def point(backend, shape, dtype="float64"):
    random = np.random.default_rng(8)
    x = random.uniform(0.5, 2, shape)
    return backend.asarray((x + 1j * x[::-1] if np.dtype(dtype).kind == "c" else x).astype(dtype))


def wrong_in(*places, factor=1.5):
    """The gradient, with these components wrong."""

    def gradient(x):
        gradient = cubic_der(x)
        for place in places:
            gradient[place] *= factor
        return gradient

    return gradient
