from dataclasses import replace

import numpy as np
import pytest
from descents import FIELD, METHODS, TARGET, ByName, Quadratic, falling, sum_of_squares, twice
from scipy.optimize import Bounds

import gpuprop
from gpuprop import Groups, RMSProp, minimize


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(-1, 2),
        Bounds([-1] * 4, [2] * 4),
        [(-1, 2)] * 4,
        ((-1.0, 2.0),) * 4,
        np.array([[-1, 2]] * 4),
        [np.array([-1, 2])] * 4,
        [[-1, 2]] * 4,
        (-1, 2),
    ],
)
def test_every_form_of_bounds_means_the_same(bounds):
    problem = Quadratic(gpuprop.select_backend("cpu"))
    result = minimize(problem.fun, np.zeros(4), jac=problem.jac, method=falling(), bounds=bounds)
    assert result.success
    np.testing.assert_allclose(result.x, [1, -1, 0.5, 2], atol=1e-4)
    np.testing.assert_array_equal(result.x[[1, 3]], [-1, 2])
    by_method = minimize(problem.fun, np.zeros(4), jac=problem.jac, method=falling(bounds=(-1, 2)))
    np.testing.assert_array_equal(result.x, by_method.x)
    assert by_method.success


def test_bounds_may_differ_between_components_and_be_missing(backend):
    problem = Quadratic(backend)
    bounds = [(None, 0.25), (None, None), (0.75, np.inf), (-4, 4)]
    x0 = backend.asarray(np.full(4, 9.0))
    result = minimize(problem.fun, x0, jac=problem.jac, method=falling(start=0.5), bounds=bounds)
    assert result.success
    np.testing.assert_allclose(backend.to_host(result.x), [0.25, -2, 0.75, 3], atol=1e-4)
    lower, upper = (backend.asarray([b if b is not None else s * np.inf for b in side], "float64")
                    for s, side in ((-1, [p[0] for p in bounds]), (1, [p[1] for p in bounds])))  # fmt: skip

    class OnTheDevice:
        lb, ub = lower, upper

    again = minimize(problem.fun, x0, jac=problem.jac, method=falling(start=0.5), bounds=OnTheDevice())
    np.testing.assert_array_equal(backend.to_host(again.x), backend.to_host(result.x))


def test_the_start_and_every_point_lie_within_the_bounds():
    seen = []
    minimize(
        lambda x: seen.append(x) or 0.0, [9.0, -9.0], jac=lambda x: seen.append(x) or np.array([1.0, -1.0]),
        bounds=[(1, 3), (-2, None)], method=RMSProp(), options={"maxiter": 100},
    )  # fmt: skip
    np.testing.assert_array_equal(seen[0], [3, -2])
    assert min(x[0] for x in seen) == 1
    assert all(1 <= x[0] <= 3 and x[1] >= -2 for x in seen)


def test_a_small_gradient_beside_a_large_bound_is_not_taken_for_none():
    # x - (x - g) is 0 in float32 for such an x; the projected gradient must still be g.
    x0 = np.full(2, 1e6, "float32")
    result = minimize(
        None, x0, jac=lambda x: np.full_like(x, 1e-3), bounds=(0, 2e6), method=RMSProp(),
        options={"maxiter": 20},
    )  # fmt: skip
    assert result.status == 1


def test_bounds_of_complex_parameters_hold_for_both_parts():
    target = np.array([3 - 4j, 0.5 + 0.25j])
    for bounds in (Bounds(-1, 1), Bounds([-1, -1 - 1e-9], [1, 1])):
        result = minimize(
            lambda x: np.sum(abs(x - target) ** 2), np.zeros(2, complex), jac=lambda x: 2 * (x - target),
            bounds=bounds, method=falling(),
        )  # fmt: skip
        assert result.success
        np.testing.assert_allclose(result.x, [1 - 1j, 0.5 + 0.25j], atol=1e-4)


def test_an_array_of_parameters_is_bounded_by_arrays_like_it():
    lower = np.arange(6.0).reshape(2, 3)
    result = minimize(
        sum_of_squares, np.full((2, 3), 9.0), jac=twice, bounds=Bounds(lower, 20), method=falling(start=0.5)
    )
    assert result.success
    np.testing.assert_allclose(result.x, lower, atol=1e-4)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ([(0, 1)], "for each of the 2 parameters"),
        ([(0, 1)] * 3, "for each of the 2 parameters"),
        ([(0, 1, 2)] * 2, "for each of the 2 parameters"),
        (Bounds([0, 0, 0], 1), r"a bound has shape \(3,\) and x0 has \(2,\)"),
        ([(0, 1), (2, 1)], "a lower bound is above its upper"),
        ([(0, 1), (np.nan, 1)], "a lower bound is above its upper one, or is NaN"),
        ((1, 0), "a lower bound is above its upper"),
        (5, "bounds is 5; it must be scipy.optimize.Bounds"),
        # All lower bounds and all upper ones, as scipy.optimize.least_squares takes them.
        (([0, 0], [1, 1]), "it must be scipy.optimize.Bounds"),
        ((np.zeros(2), np.ones(2)), "it must be scipy.optimize.Bounds"),
        ([np.zeros(2), np.ones(2)], "it must be scipy.optimize.Bounds"),
        ((np.zeros(2), [1, 1]), "it must be scipy.optimize.Bounds"),
        ((np.zeros(2), 1), "it must be scipy.optimize.Bounds"),
        (([0, 0, 0], [1, 1, 1]), "it must be scipy.optimize.Bounds"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        minimize(sum_of_squares, [1.0, 2.0], jac=twice, bounds=bounds)


@pytest.mark.parametrize("shape", [(3, 2), (1, 6), (6, 1)])
def test_a_bound_of_the_right_size_has_the_right_shape_too(shape):
    lower = np.arange(6.0).reshape(shape)
    with pytest.raises(ValueError, match=r"a bound has shape .* and x0 has \(2, 3\)"):
        minimize(sum_of_squares, np.ones((2, 3)), jac=twice, bounds=Bounds(lower, 9))


def test_a_rule_of_ones_own_is_driven_too_within_bounds():
    rule = gpuprop.Rule("descent", reads=("g",), writes=("x",), scalars=("rate",), body="x = x - rate * g")
    optimizer = gpuprop.RuleOptimizer(rule, rate=0.1)
    result = minimize(sum_of_squares, [5.0, 4.0], jac=twice, method=optimizer)
    assert result.success
    result = minimize(sum_of_squares, [5.0, 4.0], jac=twice, method=optimizer, bounds=[(1, 2), (1, 3)])
    np.testing.assert_array_equal(result.x, 1)
    assert result.success


@pytest.mark.parametrize("jac", [twice, None])
@pytest.mark.parametrize("bounds", [(-1e300, 1e300), [(-1e300, 1e300), (0, 1e300)]])
def test_a_bound_beyond_the_range_of_the_dtype_is_none(jac, bounds):
    x0 = np.array([5, 4], "float32")
    result, infinite = (
        minimize(sum_of_squares, x0, jac=jac, bounds=each, method=RMSProp(), options={"maxiter": 30})
        for each in (bounds, [(None, None), (0, None)])
    )
    np.testing.assert_array_equal(result.x, infinite.x)


@pytest.mark.parametrize("jac", [None, "2-point", "3-point"])
def test_a_parameter_between_equal_bounds_is_fixed_for_finite_differences_too(jac):
    result = minimize(sum_of_squares, [5.0, 4.0], jac=jac, bounds=[(2, 2), (1, 9)], method=falling(start=0.5))
    assert result.success
    np.testing.assert_array_equal(result.x, [2, 1])
    assert result.jac[0] == 0


@pytest.mark.parametrize(
    "modulus", [(0.0, 1.0), (4.0, 9.0), (np.array([[0.5] * 3, [4] * 3], "float32"), 5.0)]
)
def test_a_run_starts_within_bounds_of_the_modulus_and_ends_well_upon_them(backend, modulus):
    """The projected gradient is nothing where only the modulus is in the way."""
    problem = ByName(backend)
    lower = modulus[0] if np.isscalar(modulus[0]) else problem.on_device(field=modulus[0])["field"]
    method = Groups(
        plain=METHODS["plain"], field=replace(METHODS["field"], modulus_bounds=(lower, modulus[1]))
    )
    problem.x0 = problem.on_device(plain=TARGET, field=(1.2 * FIELD * np.exp(0.5j)).astype("complex64"))
    seen = []
    result = minimize(
        lambda x: seen.append(problem.hosted(x)["field"]) or problem.fun(x), problem.x0, jac=problem.jac,
        method=method, options={"gtol": 1e-4, "maxiter": 500},
    )  # fmt: skip
    assert (result.status, result.success) == (0, True)
    limited = np.clip(abs(FIELD), *modulus)
    assert (limited != abs(FIELD)).sum() >= 3  # where the gradient itself is far from 0
    assert abs(problem.hosted(result.jac)["field"]).max() > 0.1
    far = abs(problem.hosted(result.x)["field"] - FIELD * (limited / abs(FIELD)))
    assert (far < 1e-5 + 1e-4 * limited / (2 * abs(FIELD))).all()  # where the slope along a circle is gtol
    np.testing.assert_allclose(abs(seen[0]), np.clip(1.2 * abs(FIELD), *modulus), rtol=1e-6)
