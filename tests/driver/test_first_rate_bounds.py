"""A first rate that is searched where bounds or a projection hold x."""

import numpy as np
import pytest

from gpuprop import SGD, Rule, RuleOptimizer, minimize


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "bounds"),
    [
        ([0.0, 3.0], (0, None)), ([0.0, 0.0], (0, None)), ([5.0, 5.0], (None, 5)), ([9.0, 9.0], (0, 5)),
        ([0.0, 5.0], (0, 5)), ([1.0, 2.0], [(1, 1), (None, None)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("target", [(2.0, 1.0), (-1.0, -1.0), (4e3, 1.0)])
def test_from_a_bound_and_to_it(start, bounds, target):
    result = minimize(
        lambda x: float(np.sum((x - target) ** 2)), start, jac=lambda x: 2 * (x - target), bounds=bounds
    )
    lower, upper = bounds if isinstance(bounds, tuple) else ([1, -np.inf], [1, np.inf])
    lower = -np.inf if lower is None else lower
    upper = np.inf if upper is None else upper
    assert result.success, result.message
    np.testing.assert_allclose(result.x, np.clip(target, lower, upper), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "dtype", ["float64", *(pytest.param(d, marks=pytest.mark.slow) for d in ("float32", "float16"))]
)
def test_a_slope_that_never_bends_ends_at_a_bound(dtype):
    start = np.array([1, 2, 0], dtype)
    result = minimize(
        lambda x: float(x[0]), start, jac=lambda x: np.array([1, 0, 0], dtype), bounds=(-3, None)
    )
    assert result.success
    np.testing.assert_array_equal(result.x, [-3, 2, 0])


@pytest.mark.slow
@pytest.mark.parametrize("start", [[0.6, 0.6, 0.6], [0.0, 0.0, 1.0], [5.0, 5.0, 5.0]])
@pytest.mark.parametrize("method", [SGD("auto"), SGD("auto", momentum=0.9), None])
def test_what_a_projection_takes_is_no_part_of_a_step(start, method):
    def onto_the_ball(x):
        x /= max(1.0, float(np.linalg.norm(x)))

    def onto_the_box(x):
        x[...] = x.clip(-1, 0.5)

    # RMSProp's steps are of another metric than the ball's.
    project = onto_the_box if method is None else onto_the_ball
    target = np.array([3.0, -4.0, 0.0])
    result = minimize(
        lambda x: float(np.sum((x - target) ** 2)), start, jac=lambda x: 2 * (x - target), method=method,
        options={"project": project, "maxiter": 400, "gtol": None},
    )  # fmt: skip
    np.testing.assert_allclose(result.x, [0.5, -1, 0] if method is None else [0.6, -0.8, 0], atol=1e-4)
    assert "displacement" in result.state.arrays


def test_trials_are_projected():
    def on_sphere(x):
        x /= np.linalg.norm(x)

    def jac(x):
        assert np.linalg.norm(x) == pytest.approx(1, abs=1e-15)
        return np.array([1.0, 2.0])

    minimize(None, [1.0, 0.0], jac=jac, options={"maxiter": 5, "project": on_sphere})


def test_an_array_of_a_users_rule_is_left_alone_by_a_projection():
    rule = Rule("sums", ("g",), ("x", "displacement"), (), "displacement = displacement + g\nx = x - 0.1 * g")
    options = {"maxiter": 3, "gtol": None, "project": lambda x: np.clip(x, 0, 1, out=x)}
    result = minimize(None, [1.0], jac=lambda x: np.ones(1), method=RuleOptimizer(rule), options=options)
    assert result.state.displacement.tolist() == [3.0]
