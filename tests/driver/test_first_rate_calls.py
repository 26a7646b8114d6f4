"""What the search of a first rate asks of the user's functions, and where it may begin."""

import numpy as np
import pytest
from descents import GROUPS, ByName, Quadratic

from gpuprop import SGD, AdaGrad, Adam, Groups, RMSProp, Rule, RuleOptimizer, minimize, select_backend

CPU = select_backend("cpu")


@pytest.mark.parametrize(
    "method", [None, Adam("auto"), SGD("auto"), SGD("auto", momentum=0.9), AdaGrad("auto")]
)
def test_it_costs_one_gradient(backend, method):
    problem = Quadratic(backend)
    x0 = backend.asarray(np.array([3.0, 1.0, -2.0, 0.5]))
    options = {"maxiter": 25, "gtol": None, "check_every": 25}
    result = minimize(problem.fun, x0, jac=problem.jac, method=method, options=options)
    assert problem.jacs == result.njev == 25 + 1 + 1
    assert problem.funs == result.nfev == 2
    assert result.fun < float(problem.fun(x0))
    assert result.state.found_rate > 0


def test_a_rate_that_is_given_is_not_searched():
    problem = Quadratic(CPU)
    result = minimize(None, np.ones(4), jac=problem.jac, method=RMSProp(0.01), options={"maxiter": 5})
    assert result.njev == 6


@pytest.mark.parametrize("way", ["without f", "jac=True", "2-point", "3-point", None])
def test_the_gradient_may_come_in_any_way(way):
    problem = Quadratic(CPU)
    fun, jac = {"without f": (None, problem.jac), "jac=True": (problem.both, True)}.get(
        way, (problem.fun, way)
    )
    start = np.array([3.0, 1.0, -2.0, 0.5])
    result = minimize(fun, start, jac=jac, options={"maxiter": 10, "gtol": None})
    expected = minimize(problem.fun, start, jac=problem.jac, options={"maxiter": 10, "gtol": None})
    if callable(jac) or jac is True:
        np.testing.assert_array_equal(result.x, expected.x)
    assert result.njev == expected.njev == 12
    if way == "jac=True":
        assert result.nfev == 12
    if way == "without f":
        assert (result.fun, result.nfev) == (None, 0)


def test_with_a_limit_of_evaluations_too():
    problem = Quadratic(CPU)
    options = {"maxfev": 9, "gtol": None, "check_every": 1}
    result = minimize(problem.fun, np.ones(4), jac=problem.jac, options=options)
    assert (result.status, result.nfev) == (2, 9)
    assert result.njev == result.nit + 2
    both = minimize(problem.both, np.ones(4), jac=True, options={"maxfev": 9, "gtol": None})
    assert both.status == 2
    assert both.nfev == both.njev == 9
    one = minimize(problem.both, np.ones(4), jac=True, options={"maxfev": 1, "gtol": None})
    assert (one.status, one.nfev, one.nit) == (2, 1, 0)


@pytest.mark.parametrize("stop", [1, 6, 10, 17])
def test_a_run_that_goes_on_is_the_same_run(tmp_path, stop):
    problem, start = Quadratic(CPU), np.array([3.0, 1.0, -2.0, 0.5])
    whole = minimize(problem.fun, start, jac=problem.jac, options={"maxiter": 30, "gtol": None})
    first = minimize(problem.fun, start, jac=problem.jac, options={"maxiter": stop, "gtol": None})
    options = {"maxiter": 30, "gtol": None, "state": first.state}
    second = minimize(problem.fun, first.x, jac=problem.jac, options=options)
    np.testing.assert_array_equal(second.x, whole.x)
    assert second.state.found_rate == whole.state.found_rate
    assert second.njev == 30 - stop + 1  # nothing is searched again
    file = tmp_path / "run"
    options = {"maxiter": stop, "gtol": None, "checkpoint": file}
    minimize(problem.fun, start, jac=problem.jac, options=options)
    options = {"maxiter": 30, "gtol": None, "resume": file}
    third = minimize(problem.fun, start, jac=problem.jac, options=options)
    np.testing.assert_array_equal(third.x, whole.x)
    assert third.njev == whole.njev


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


def test_a_start_that_is_a_minimum_is_not_searched():
    result = minimize(lambda x: float(x @ x), np.zeros(3), jac=lambda x: 2 * x)
    assert (result.status, result.nit, result.njev, result.nfev) == (0, 0, 1, 1)
    still = minimize(lambda x: 1.0, np.ones(3), jac=np.zeros_like, options={"gtol": None, "maxiter": 3})
    np.testing.assert_array_equal(still.x, 1)


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


@pytest.mark.slow
def test_groups_search_only_what_is_to_be_found():
    problem = ByName(CPU)
    given = minimize(None, problem.x0, jac=problem.jac, method=GROUPS, options={"maxiter": 4, "gtol": None})
    assert given.njev == 5
    mixed = Groups(plain=RMSProp("auto"), field=SGD(0.05))
    found = minimize(None, problem.x0, jac=problem.jac, method=mixed, options={"maxiter": 4, "gtol": None})
    assert found.njev == 6

    def without_plain(x):
        return {"field": problem.jac(x)["field"]}

    still = minimize(None, problem.x0, jac=without_plain, method=mixed, options={"maxiter": 4, "gtol": None})
    assert still.njev == 5
    np.testing.assert_array_equal(still.x["plain"], problem.x0["plain"])


@pytest.mark.parametrize("way", ["jac", "both"])
@pytest.mark.parametrize("copy_x", [True, False])
def test_the_gradient_may_be_written_to_one_array_again_and_again(way, copy_x):
    problem, start = Quadratic(CPU), np.array([3.0, 1.0, -2.0, 0.5])
    work = np.empty(4)

    def into_work(x):
        work[...] = problem.jac(x)
        return work

    fun, jac = (problem.fun, into_work) if way == "jac" else (lambda x: (problem.fun(x), into_work(x)), True)
    options = {"maxiter": 12, "gtol": None, "copy_x": copy_x}
    found = minimize(fun, start, jac=jac, options=options)
    expected = minimize(problem.fun, start, jac=problem.jac, options={"maxiter": 12, "gtol": None})
    np.testing.assert_array_equal(found.x, expected.x)
    assert found.state.found_rate == expected.state.found_rate


def test_ctrl_c_while_it_searches_gives_the_start():
    calls = []

    def jac(x):
        calls.append(x)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return 2 * x

    result = minimize(lambda x: float(x @ x), np.array([3.0, 1.0]), jac=jac)
    assert (result.status, result.nit, result.fun) == (7, 0, 10)
    np.testing.assert_array_equal(result.x, [3, 1])
    np.testing.assert_array_equal(result.jac, [6, 2])


def test_what_the_gradient_raises_while_it_is_searched_comes_through():
    def jac(x):
        if x[0] != 3:
            raise ArithmeticError("elsewhere")
        return 2 * x

    with pytest.raises(ArithmeticError, match="elsewhere"):
        minimize(None, np.array([3.0, 1.0]), jac=jac)


@pytest.mark.slow
@pytest.mark.parametrize("nonfinite", ["propagate", "skip"])
def test_where_the_gradient_is_not_finite_a_little_way_off(nonfinite):
    method = RMSProp("auto", 0.97, momentum=0.9, bias_correction=True, nonfinite=nonfinite)
    result = minimize(
        None, np.array([3.0, 1.0]), jac=lambda x: 2 * x if x[0] == 3 else x * np.nan, method=method,
        options={"maxiter": 30},
    )  # fmt: skip
    assert result.status == (6 if nonfinite == "propagate" else 1)


@pytest.mark.gpu
def test_of_an_array_of_another_device(cupy, other_device):
    start = np.array([3.0, 1.0, -2.0, 0.5])
    problem = Quadratic(CPU)
    expected = minimize(problem.fun, start, jac=problem.jac, options={"maxiter": 12, "gtol": None})
    with other_device:
        x0, target, curvature = (cupy.asarray(a) for a in (start, problem.target, problem.curvature))
    result = minimize(
        lambda x: (curvature * (x - target) ** 2).sum() / 2, x0, jac=lambda x: curvature * (x - target),
        options={"maxiter": 12, "gtol": None},
    )  # fmt: skip
    assert result.x.device == other_device
    with other_device:
        np.testing.assert_allclose(result.x.get(), expected.x, rtol=1e-12)
    assert cupy.cuda.runtime.getDevice() == 0


def test_it_looks_no_farther_than_some_lengths_of_x():
    seen = []

    def jac(x):
        seen.append(float(abs(x).max()))
        return np.ones(1)

    minimize(None, [1.0], jac=jac, options={"maxiter": 0})
    minimize(None, [1.0], jac=jac, options={"maxiter": 1})
    assert max(seen) < 18


def test_a_gradient_that_is_missing_a_little_way_off_tells_nothing():
    calls = []

    def jac(x):
        calls.append(1)
        return {"a": 2 * x["a"], "b": 2 * x["b"] if len(calls) % 2 else None}

    result = minimize(None, {"a": np.ones(2), "b": np.ones(3)}, jac=jac, options={"maxiter": 30})
    assert result.status == 1


@pytest.mark.parametrize("maxfev", [1, 6, 9, 20, 50])
def test_the_search_keeps_within_maxfev(maxfev):
    result = minimize(lambda x: float(x @ x), np.ones(2), options={"maxfev": maxfev, "gtol": None})
    assert result.nfev <= max(maxfev, 3)  # one point is always evaluated


def test_a_program_that_computes_in_fun_what_its_jac_needs_has_fun_called_first():
    kept = {}

    def fun(x):
        kept["x"] = x.copy()
        return float(x @ x)

    def jac(x):
        assert (kept["x"] == x).all()
        return 2 * x

    result = minimize(fun, np.ones(3), jac=jac, options={"check_every": 1})
    assert result.success


def test_trials_are_projected():
    def on_sphere(x):
        x /= np.linalg.norm(x)

    def jac(x):
        assert np.linalg.norm(x) == pytest.approx(1, abs=1e-15)
        return np.array([1.0, 2.0])

    minimize(None, [1.0, 0.0], jac=jac, options={"maxiter": 5, "project": on_sphere})


def test_a_run_that_ended_before_its_first_step_goes_on_by_the_same_bits(tmp_path):
    problem, path = Quadratic(CPU), tmp_path / "run"
    run = {"fun": problem.fun, "x0": np.array([3.0, 1.0, -2.0, 0.5]), "jac": problem.jac}
    whole = minimize(**run, options={"maxiter": 30})
    minimize(**run, options={"maxiter": 0, "checkpoint": path})
    assert (minimize(**run, options={"maxiter": 30, "resume": path}).x == whole.x).all()


def test_an_array_of_a_users_rule_is_left_alone_by_a_projection():
    rule = Rule("sums", ("g",), ("x", "displacement"), (), "displacement = displacement + g\nx = x - 0.1 * g")
    options = {"maxiter": 3, "gtol": None, "project": lambda x: np.clip(x, 0, 1, out=x)}
    result = minimize(None, [1.0], jac=lambda x: np.ones(1), method=RuleOptimizer(rule), options=options)
    assert result.state.displacement.tolist() == [3.0]
