"""Functions of SciPy's own benchmarks, with gradients by hand.

The choice and the minima are those of ``benchmarks/benchmarks`` in SciPy's repository
(``test_functions.py``, ``optimize.py`` and ``go_benchmark_functions/``), and the formulas those of
what it cites:

M. Jamil and X.-S. Yang, "A literature survey of benchmark functions for global optimization
problems", Int. J. Mathematical Modelling and Numerical Optimisation 4(2), 2013; the numbers below are
its numbers.
M. J. D. Powell, "An iterative method for finding stationary values of a function of several
variables", Computer Journal 5, 1962.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import cos, exp, pi, sin
from scipy.optimize import rosen, rosen_der


def asymmetric_quadratic(x):
    return x @ x + x[0]


def asymmetric_quadratic_der(x):
    return 2 * x + np.eye(1, x.size)[0]


def sine(x):
    return sin(x[0])


def sine_der(x):
    return cos(x)


def booth(x):  # 17
    return (x[0] + 2 * x[1] - 7) ** 2 + (2 * x[0] + x[1] - 5) ** 2


def booth_der(x):
    a, b = x[0] + 2 * x[1] - 7, 2 * x[0] + x[1] - 5
    return np.array([2 * a + 4 * b, 4 * a + 2 * b])


_BEALE = np.array([1.5, 2.25, 2.625])
_POWERS = np.arange(1, 4)


def beale(x):  # 10
    return np.sum((_BEALE - x[0] + x[0] * x[1] ** _POWERS) ** 2)


def beale_der(x):
    residual = _BEALE - x[0] + x[0] * x[1] ** _POWERS
    by_first, by_second = x[1] ** _POWERS - 1, _POWERS * x[0] * x[1] ** (_POWERS - 1)
    return 2 * np.array([residual @ by_first, residual @ by_second])


_PAIRS = np.triu_indices(4, 1)


def lennard_jones(x):
    """The energy of four atoms in units of the depth and the radius of one pair's well."""
    apart = np.subtract(*x.reshape(-1, 3)[np.array(_PAIRS)])
    sixth = np.sum(apart**2, axis=1) ** -3
    return 4 * np.sum(sixth**2 - sixth)


def lennard_jones_der(x):
    apart = np.subtract(*x.reshape(-1, 3)[np.array(_PAIRS)])
    square = np.sum(apart**2, axis=1)
    force = (24 * (square**-4 - 2 * square**-7))[:, None] * apart
    gradient = np.zeros((x.size // 3, 3))
    np.add.at(gradient, _PAIRS[0], force)
    np.add.at(gradient, _PAIRS[1], -force)
    return gradient.ravel()


def matyas(x):  # 71
    return 0.26 * (x @ x) - 0.48 * x[0] * x[1]


def matyas_der(x):
    return 0.52 * x - 0.48 * x[::-1]


def three_hump_camel(x):  # 29
    return 2 * x[0] ** 2 - 1.05 * x[0] ** 4 + x[0] ** 6 / 6 + x[0] * x[1] + x[1] ** 2


def three_hump_camel_der(x):
    return np.array([4 * x[0] - 4.2 * x[0] ** 3 + x[0] ** 5 + x[1], x[0] + 2 * x[1]])


def six_hump_camel(x):  # 30
    return (4 - 2.1 * x[0] ** 2 + x[0] ** 4 / 3) * x[0] ** 2 + x[0] * x[1] + (4 * x[1] ** 2 - 4) * x[1] ** 2


def six_hump_camel_der(x):
    return np.array([8 * x[0] - 8.4 * x[0] ** 3 + 2 * x[0] ** 5 + x[1], x[0] - 8 * x[1] + 16 * x[1] ** 3])


def trid(x):  # 150
    return np.sum((x - 1) ** 2) - np.sum(x[1:] * x[:-1])


def trid_der(x):
    gradient = 2 * (x - 1)
    gradient[1:] -= x[:-1]
    gradient[:-1] -= x[1:]
    return gradient


def dixon_price(x):  # 48
    weights = np.arange(2, x.size + 1)
    return (x[0] - 1) ** 2 + np.sum(weights * (2 * x[1:] ** 2 - x[:-1]) ** 2)


def dixon_price_der(x):
    weighted = np.arange(2, x.size + 1) * 2 * (2 * x[1:] ** 2 - x[:-1])
    gradient = np.zeros(x.size)
    gradient[0] = 2 * (x[0] - 1)
    gradient[1:] += 4 * weighted * x[1:]
    gradient[:-1] -= weighted
    return gradient


def colville(x):  # 36
    return (
        100 * (x[0] - x[1] ** 2) ** 2
        + (1 - x[0]) ** 2
        + (1 - x[2]) ** 2
        + 90 * (x[3] - x[2] ** 2) ** 2
        + 10.1 * ((x[1] - 1) ** 2 + (x[3] - 1) ** 2)
        + 19.8 * (x[1] - 1) * (x[3] - 1)
    )


def colville_der(x):
    a, b = x[0] - x[1] ** 2, x[3] - x[2] ** 2
    return np.array(
        [
            200 * a - 2 * (1 - x[0]),
            -400 * a * x[1] + 20.2 * (x[1] - 1) + 19.8 * (x[3] - 1),
            -2 * (1 - x[2]) - 360 * b * x[2],
            180 * b + 20.2 * (x[3] - 1) + 19.8 * (x[1] - 1),
        ]
    )


def powell(x):  # Powell, 1962
    return (x[0] + 10 * x[1]) ** 2 + 5 * (x[2] - x[3]) ** 2 + (x[1] - 2 * x[2]) ** 4 + 10 * (x[0] - x[3]) ** 4


def powell_der(x):
    a, b, c, d = (
        2 * (x[0] + 10 * x[1]),
        10 * (x[2] - x[3]),
        4 * (x[1] - 2 * x[2]) ** 3,
        40 * (x[0] - x[3]) ** 3,
    )
    return np.array([a + d, 10 * a + c, b - 2 * c, -b - d])


def branin(x):  # 22
    a = x[1] - 5.1 / (4 * pi**2) * x[0] ** 2 + 5 / pi * x[0] - 6
    return a**2 + 10 * (1 - 1 / (8 * pi)) * cos(x[0]) + 10


def branin_der(x):
    a = x[1] - 5.1 / (4 * pi**2) * x[0] ** 2 + 5 / pi * x[0] - 6
    slope = -5.1 / (2 * pi**2) * x[0] + 5 / pi
    return np.array([2 * a * slope - 10 * (1 - 1 / (8 * pi)) * sin(x[0]), 2 * a])


def mccormick(x):  # 72
    return sin(x[0] + x[1]) + (x[0] - x[1]) ** 2 - 1.5 * x[0] + 2.5 * x[1] + 1


def mccormick_der(x):
    a, b = cos(x[0] + x[1]), 2 * (x[0] - x[1])
    return np.array([a + b - 1.5, a - b + 2.5])


def styblinski_tang(x):  # 144
    return np.sum(x**4 - 16 * x**2 + 5 * x) / 2


def styblinski_tang_der(x):
    return 2 * x**3 - 16 * x + 2.5


def zettl(x):  # 173
    return (x @ x - 2 * x[0]) ** 2 + 0.25 * x[0]


def zettl_der(x):
    a = 2 * (x @ x - 2 * x[0])
    return np.array([a * (2 * x[0] - 2) + 0.25, a * 2 * x[1]])


def exponential(x):  # 54, with the sign that makes its minimum one
    return -exp(-0.5 * (x @ x))


def exponential_der(x):
    return exp(-0.5 * (x @ x)) * x


@dataclass(frozen=True)
class Function:
    """f and its gradient, where to start, the minimum that lies downhill from there, and f in it."""

    fun: Any
    jac: Any
    start: list[float]
    minimum: list[float] | None  # None where a whole set of points is as good
    least: float


FUNCTIONS = {
    "rosenbrock": Function(rosen, rosen_der, [-1.2, 1, 0.5], [1, 1, 1], 0),
    "asymmetric quadratic": Function(
        asymmetric_quadratic, asymmetric_quadratic_der, [1.5, -1, 0.5], [-0.5, 0, 0], -0.25
    ),
    "sine": Function(sine, sine_der, [1], [-pi / 2], -1),
    "booth": Function(booth, booth_der, [8, 2], [1, 3], 0),
    "beale": Function(beale, beale_der, [1, 1], [3, 0.5], 0),
    "lennard-jones": Function(
        lennard_jones, lennard_jones_der, [0, 0, 0, 1.3, 0, 0, 0, 1.2, 0.1, 0.2, 0.1, 1.4], None, -6
    ),
    "matyas": Function(matyas, matyas_der, [8, -5], [0, 0], 0),
    "three-hump camel": Function(three_hump_camel, three_hump_camel_der, [0.5, -1.5], [0, 0], 0),
    "six-hump camel": Function(
        six_hump_camel, six_hump_camel_der, [0.5, -1], [0.08984201368301331, -0.7126564032704135],
        -1.031628453489877,
    ),
    "trid": Function(trid, trid_der, [0] * 6, [6, 10, 12, 12, 10, 6], -50),
    "dixon-price": Function(dixon_price, dixon_price_der, [3, 2], [1, 2**-0.5], 0),
    "colville": Function(colville, colville_der, [2, 1, 2, 0], [1, 1, 1, 1], 0),
    "powell": Function(powell, powell_der, [3, -1, 0, 1], [0, 0, 0, 0], 0),
    "branin": Function(branin, branin_der, [2, 4], [pi, 2.275], 0.39788735772973816),
    "mccormick": Function(
        mccormick, mccormick_der, [0, 0], [-0.5471975602214493, -1.547197559268372], -1.913222954981037
    ),
    "styblinski-tang": Function(
        styblinski_tang, styblinski_tang_der, [-1, -4], [-2.903534018185960] * 2, -78.33233140754284
    ),
    "zettl": Function(zettl, zettl_der, [1.5, 1], [-0.02989597760285287, 0], -0.003791237220468656),
    "exponential": Function(exponential, exponential_der, [0.8, -0.9], [0, 0], -1),
}  # fmt: skip
