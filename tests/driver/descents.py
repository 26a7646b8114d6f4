"""What the tests of the driver descend on, and by."""

import numpy as np

from gpuprop import RMSProp
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


def sum_of_squares(x):
    return float(np.sum(x**2))


def twice(x):
    return 2 * x


def both(x):
    return sum_of_squares(x), twice(x)


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
