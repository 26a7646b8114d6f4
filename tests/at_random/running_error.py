"""Numbers that know how far a computation in fewer digits may be from them.

A running error analysis (N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., 3.3):
beside each number, in `numpy.longdouble`, stands a bound of what the same operations give where each
rounds to a format. Where the bound cannot be known, as beyond the format's numbers or divided by what may
be zero, it is infinite: nothing is claimed.
"""

from typing import NamedTuple

import numpy as np

REAL = np.longdouble


class Format(NamedTuple):
    """Half of the distance from 1 to the next number; the greatest, the least normal, and the least."""

    unit: float
    most: float
    normal: float
    least: float


FORMATS = {
    "float16": Format(2.0**-11, 65504.0, 2.0**-14, 2.0**-24),
    "bfloat16": Format(2.0**-8, (2 - 2.0**-7) * 2.0**127, 2.0**-126, 2.0**-133),
    "float32": Format(2.0**-24, (2 - 2.0**-23) * 2.0**127, 2.0**-126, 2.0**-149),
    "float64": Format(2.0**-53, (2 - 2.0**-52) * 2.0**1023, 2.0**-1022, 2.0**-1074),
}


class Bounded:
    """Numbers and bounds of their errors in a format, of which all operands are."""

    __array_ufunc__ = None

    def __init__(self, value, error, format):
        self.value, self.error, self.format = np.asarray(value, REAL), np.asarray(error, REAL), format

    def rounded_to(self, format):
        return Bounded(0, 0, format)._rounded(self.value, self.error)

    def __neg__(self):
        return Bounded(-self.value, self.error, self.format)

    def __add__(self, other):
        other = self._of(other)
        return self._rounded(self.value + other.value, self.error + other.error)

    __radd__ = __add__

    def __sub__(self, other):
        return self + -self._of(other)

    def __rsub__(self, other):
        return -self + other

    def __mul__(self, other):
        other = self._of(other)
        crossed = abs(self.value) * other.error + abs(other.value) * self.error
        return self._rounded(self.value * other.value, crossed + self.error * other.error)

    __rmul__ = __mul__

    def __truediv__(self, other):
        other = self._of(other)
        value, least = self.value / other.value, abs(other.value) - other.error
        error = (self.error + abs(value) * other.error) / least
        return self._rounded(value, np.where(least > 0, error, np.inf))

    def __rtruediv__(self, other):
        return self._of(other) / self

    def __pow__(self, exponent):
        value = self.value**exponent  # a library's function, which may err by a whole last place
        return self._rounded(value, self.format.unit * abs(value) + self.error * np.inf)

    def root(self):
        value, error = np.maximum(self.value, 0), self.error
        below = np.sqrt(np.maximum(value - error, 0)) + np.sqrt(value)
        return self._rounded(np.sqrt(value), np.where(value > error, error / below, np.sqrt(error)))

    def clamped(self, low, high):
        """The number, or where it is outside, the bound: each may be missing."""
        value, error = self.value, self.error
        for bound, is_outside in ((high, np.greater), (low, np.less)):
            if bound is not None:
                value = np.where(is_outside(self.value, bound.value), bound.value, value)
                error = np.maximum(error, np.where(np.isfinite(bound.value), bound.error, 0))
        return Bounded(value, error, self.format)

    def _of(self, other):
        return other if isinstance(other, Bounded) else Bounded(other, 0, self.format)

    def _rounded(self, value, error):
        unit = self.format.unit + np.finfo(REAL).eps
        error = error + unit * (abs(value) + error)
        error = error + np.where(error > 0, self.format.least, 0)
        is_known = abs(value) + error <= self.format.most
        return Bounded(value, np.where(is_known, error, np.inf), self.format)
