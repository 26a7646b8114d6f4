"""The default method: a learning rate that begins where the gradient says, in any units."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from benchmark_functions import FUNCTIONS
from descents import ByName
from scipy.optimize import rosen, rosen_der

from gpuprop import minimize, select_backend

CPU = select_backend("cpu")
SCALES = (1e-6, 1e-3, 1.0, 1e3, 1e6)
POWERS = (2.0**-20, 1.0, 2.0**21)
EACH = pytest.mark.parametrize("name", FUNCTIONS)


def complex_sum(x):
    return float(np.sum(np.abs(x - (1 + 2j)) ** 2 * [1, 30, 4]) + np.sum(x.real**4))


def complex_sum_der(x):
    return 2 * (x - (1 + 2j)) * [1, 30, 4] + 4 * x.real**3


MORE = {
    "ten dimensions": SimpleNamespace(
        fun=rosen, jac=rosen_der, start=[-1.2, 1, 0.3, 2, -0.5, 1.1, 0.1, 0.9, -1, 1.5], least=0.0
    ),
    "complex": SimpleNamespace(fun=complex_sum, jac=complex_sum_der, start=[0.5 - 1j, 2j, -3], least=None),
}
ALL = FUNCTIONS | MORE
FEW = ["rosenbrock", "booth", "powell", "branin", *MORE]


def descent(name, sigma=1.0, phi=1.0, constant=0.0, start=None, gtol=None, **options):
    """The default method on phi f(x / sigma)."""
    function = ALL[name]
    start = np.array(function.start if start is None else start)
    start = start * 1.0 if start.dtype.kind != "c" else start
    return minimize(
        lambda x: phi * function.fun(x / sigma) + constant, start * sigma,
        jac=lambda x: function.jac(x / sigma) * (phi / sigma),
        options={"gtol": None if gtol is None else gtol * phi / sigma, **options},
    )  # fmt: skip


@pytest.mark.parametrize(("target", "gtol"), [(100.0, 1e-5), (-3e5, 1e-5), (1e-4, 1e-9)])
def test_a_minimum_far_away_or_near_is_found_from_zero(target, gtol):
    result = minimize(
        lambda x: float(np.sum((x - target) ** 2)), np.zeros(1), jac=lambda x: 2 * (x - target), tol=gtol
    )
    assert result.success, result.message
    # f'' is 2, so that gtol itself says how near.
    assert result.x == pytest.approx(
        target, rel=1e-6 if gtol / 2 <= 1e-6 * abs(target) else gtol / 2 / target
    )
    assert result.nit < 400


@pytest.mark.parametrize("maxiter", [1, 7, 60])
@pytest.mark.parametrize("name", FEW)
def test_in_other_units_by_powers_of_two_the_path_is_the_same_by_the_bit(name, maxiter):
    plain = descent(name, maxiter=maxiter)
    for sigma, phi in product(POWERS, POWERS):
        found = descent(name, sigma, phi, maxiter=maxiter)
        np.testing.assert_array_equal(found.x, plain.x * sigma)
        assert (found.fun, found.njev) == (plain.fun * phi, plain.njev)
        assert found.state.found_rate == plain.state.found_rate * sigma


@pytest.mark.parametrize("maxiter", [7, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 60))])
def test_of_a_dictionary_each_array_may_be_in_other_units_and_all_in_another_of_f(maxiter):
    problem, units = ByName(CPU), {"plain": 2.0**-20, "field": 2.0**9}

    def run(units, phi):
        def inner(x):
            return {name: array / np.float32(units[name]) for name, array in x.items()}

        def jac(x):
            return {n: g * np.float32(phi / units[n]) for n, g in problem.jac(inner(x)).items()}

        start = {name: array * np.float32(units[name]) for name, array in problem.x0.items()}
        options = {"maxiter": maxiter, "gtol": None}
        return minimize(lambda x: problem.fun(inner(x)) * phi, start, jac=jac, options=options)

    plain = run(dict.fromkeys(units, 1.0), 1.0)
    for phi in POWERS:
        found = run(units, phi)
        for name, unit in units.items():
            np.testing.assert_array_equal(found.x[name], plain.x[name] * np.float32(unit), strict=True)
            assert found.state[name].found_rate == plain.state[name].found_rate * unit
        assert found.fun == plain.fun * phi
    assert plain.njev == plain.nit + 1 + 2  # one for each array


@pytest.mark.parametrize("name", FEW)
def test_in_units_of_ten_the_first_steps_are_the_same(name):
    plain = descent(name, maxiter=20)
    for sigma, phi in product(SCALES, SCALES):
        found = descent(name, sigma, phi, maxiter=20)
        np.testing.assert_allclose(found.x / sigma, plain.x, rtol=1e-6)


PLAIN_SCALES = [(1.0, 1.0), (1e-6, 1e6), (1e3, 1e-3)]


@pytest.mark.parametrize(
    ("sigma", "phi"),
    [
        scales if scales in PLAIN_SCALES else pytest.param(*scales, marks=pytest.mark.slow)
        for scales in product(SCALES, SCALES)
    ],
)
@EACH
def test_every_benchmark_is_solved_in_any_units(name, sigma, phi):
    function = FUNCTIONS[name]
    result = descent(name, sigma, phi, gtol=1e-5)
    drop = function.fun(np.array(function.start, float)) - function.least
    assert abs(result.fun / phi - function.least) <= 1e-6 * drop
    assert result.success, result.message


@pytest.mark.parametrize("constant", [1.0, -1e8, 1e300])
@pytest.mark.parametrize("name", FEW)
def test_a_constant_in_f_changes_no_bit(name, constant):
    plain, found = descent(name, maxiter=40), descent(name, maxiter=40, constant=constant)
    np.testing.assert_array_equal(found.x, plain.x)
    assert found.njev == plain.njev


@pytest.mark.parametrize("constant", [1.0, -1e8, 1e30])
@pytest.mark.parametrize("name", ["mccormick", "trid", "branin"])
def test_from_zero_a_constant_in_f_changes_little(name, constant):
    start = np.zeros(len(FUNCTIONS[name].start))
    plain = descent(name, start=start, maxiter=1)
    found = descent(name, start=start, maxiter=1, constant=constant)
    assert found.state.found_rate == pytest.approx(plain.state.found_rate, rel=0.5)
    assert found.njev <= plain.njev + 6
    least = descent(name, start=start, maxiter=400).fun
    assert descent(name, start=start, maxiter=400, constant=constant).x == pytest.approx(
        descent(name, start=start, maxiter=400).x, abs=1e-4
    )
    assert least < FUNCTIONS[name].fun(start)


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, 30))])
@EACH
def test_no_descent_is_lost(name, seed):
    function, random = FUNCTIONS[name], np.random.default_rng(seed)
    start = np.array(function.start, float)
    start += random.normal(size=start.size) * 0.2 * (seed > 0)
    for steps in (50, 100, 200):
        assert descent(name, start=start, maxiter=steps).fun <= function.fun(start), (steps, list(start))


@pytest.mark.parametrize("near", [1e-1, 1e-2, 1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("side", [-1, 1])
def test_from_where_a_slope_bends_neither_way_no_descent_is_lost(near, side):
    # Newton's length is infinite where the second derivative is 0, as that of -exp(-x^2 / 2) is at 1.
    start = np.array([1 + side * near])
    result = minimize(lambda x: -float(np.exp(-x @ x / 2)), start, jac=lambda x: np.exp(-x @ x / 2) * x)
    assert result.x == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("start", [1.0, 0.0])
@pytest.mark.parametrize("curved", [[3], [0, 8]])
def test_components_without_a_gradient_stay(start, curved):
    def jac(x):
        gradient = np.zeros(9)
        gradient[curved] = 2 * (x[curved] - 7)
        return gradient

    result = minimize(lambda x: float(np.sum((x[curved] - 7) ** 2)), np.full(9, start), jac=jac)
    expected = np.full(9, start)
    expected[curved] = 7
    assert result.success
    np.testing.assert_allclose(result.x, expected, atol=1e-4)
    assert (np.delete(result.x, curved) == start).all()


@pytest.mark.parametrize("start", [np.zeros(2), np.array([2.0, -1.0])])
@pytest.mark.parametrize("way", ["both", "no f"])
def test_where_f_is_zero_and_x_perhaps_too(start, way):
    target = start + np.array([30.0, -4.0])
    at_start = float(np.sum((start - target) ** 2))

    def fun(x):
        return float(np.sum((x - target) ** 2)) - at_start

    result = minimize(fun if way == "both" else None, start, jac=lambda x: 2 * (x - target))
    assert result.success
    np.testing.assert_allclose(result.x, target, atol=1e-5)
    assert result.nit < 300


@pytest.mark.parametrize("spread", [1e3, 1e6, 1e9])
def test_weights_of_a_huge_range(spread):
    weights, target = np.geomspace(1, spread, 12), np.linspace(-1, 2, 12)
    result = minimize(
        lambda x: float(weights @ (x - target) ** 2), np.zeros(12), jac=lambda x: 2 * weights * (x - target)
    )
    np.testing.assert_allclose(result.x, target, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("complex64", 1e-5), ("float16", 0.02)])
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_of_fewer_bits(backend, dtype, atol, unit):
    if dtype == "float16" and unit != 1:
        unit = 0.1 if unit < 1 else 10.0
    factor = 1 + 0.5j if dtype == "complex64" else 1
    target = backend.asarray((np.array([1, -2, 0.5, 3]) * factor * unit).astype(dtype))
    curvature = backend.asarray(np.array([1.0, 10, 0.5, 4], "f4" if dtype != "float16" else dtype))
    start = backend.asarray(np.array([2, 2, 2, 2]).astype(dtype) * np.dtype(dtype).type(unit))
    result = minimize(
        lambda x: float((curvature * abs((x - target) / unit) ** 2).sum()), start,
        jac=lambda x: (2 * curvature * ((x - target) / unit)).astype(dtype),
        options={"maxiter": 400, "gtol": None},
    )  # fmt: skip
    assert result.x.dtype == dtype
    np.testing.assert_allclose(
        backend.to_host(result.x) / unit, backend.to_host(target) / unit, rtol=0, atol=3 * atol
    )
