"""What the search of a first rate asks of the user's functions, and what it makes of their answers."""

from itertools import product

import numpy as np
import pytest
from descents import GROUPS, ByName, Quadratic

from gpuprop import SGD, AdaGrad, Adam, Groups, RMSProp, minimize, select_backend

CPU = select_backend("cpu")
START = np.array([3.0, 1.0, -2.0, 0.5])


@pytest.mark.parametrize(
    "method", [None, Adam("auto"), SGD("auto"), SGD("auto", momentum=0.9), AdaGrad("auto")]
)
def test_it_costs_one_gradient(backend, method):
    problem = Quadratic(backend)
    x0 = backend.asarray(START)
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
    options = {"maxiter": 10, "gtol": None}
    result = minimize(fun, START, jac=jac, options=options)
    expected = minimize(problem.fun, START, jac=problem.jac, options=options)
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


@pytest.mark.parametrize(("by", "stop"), list(product(["state", "file"], [0, 1, 6, 10, 17])))
def test_a_run_that_goes_on_is_the_same_run(tmp_path, by, stop):
    problem, file = Quadratic(CPU), tmp_path / "run"
    run, options = {"fun": problem.fun, "jac": problem.jac}, {"maxiter": 30, "gtol": None}
    whole = minimize(x0=START, options=options, **run)
    first = minimize(x0=START, options={**options, "maxiter": stop, "checkpoint": file}, **run)
    x0, going_on = (first.x, {"state": first.state}) if by == "state" else (START, {"resume": file})
    second = minimize(x0=x0, options={**options, **going_on}, **run)
    np.testing.assert_array_equal(second.x, whole.x)
    assert second.state.found_rate == whole.state.found_rate
    # A rate that was found is not searched again; a file knows of what was evaluated before.
    assert second.njev == (30 - stop + 1 if by == "state" and stop else whole.njev)


def test_a_start_that_is_a_minimum_is_not_searched():
    result = minimize(lambda x: float(x @ x), np.zeros(3), jac=lambda x: 2 * x)
    assert (result.status, result.nit, result.njev, result.nfev) == (0, 0, 1, 1)
    still = minimize(lambda x: 1.0, np.ones(3), jac=np.zeros_like, options={"gtol": None, "maxiter": 3})
    np.testing.assert_array_equal(still.x, 1)


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
    problem, work = Quadratic(CPU), np.empty(4)

    def into_work(x):
        work[...] = problem.jac(x)
        return work

    fun, jac = (problem.fun, into_work) if way == "jac" else (lambda x: (problem.fun(x), into_work(x)), True)
    options = {"maxiter": 12, "gtol": None, "copy_x": copy_x}
    found = minimize(fun, START, jac=jac, options=options)
    expected = minimize(problem.fun, START, jac=problem.jac, options={"maxiter": 12, "gtol": None})
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
    problem = Quadratic(CPU)
    expected = minimize(problem.fun, START, jac=problem.jac, options={"maxiter": 12, "gtol": None})
    with other_device:
        x0, target, curvature = (cupy.asarray(a) for a in (START, problem.target, problem.curvature))
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
