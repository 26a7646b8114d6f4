from itertools import count

import numpy as np
import pytest
from descents import GROUPS, METHOD, RUN, X0, ByName, Quadratic, sum_of_squares, twice

from gpuprop import SGD, minimize


def test_a_callback_is_given_all_of_a_steps_moment(backend):
    problem, seen = Quadratic(backend), []

    def callback(intermediate_result):
        assert sorted(intermediate_result) == ["fun", "jac", "nit", "state", "x"]
        jac = backend.to_host(intermediate_result.jac)
        np.testing.assert_array_equal(jac, backend.to_host(problem.jac(intermediate_result.x)))
        assert intermediate_result.fun == float(problem.fun(intermediate_result.x))
        assert intermediate_result.nit == intermediate_result.state.step
        seen.append(intermediate_result.nit)
        intermediate_result.x[...] = intermediate_result.jac[...] = 9  # which are copies

    options = {"maxiter": 12, "check_every": 3, "gtol": None}
    run = {"fun": problem.fun, "x0": backend.asarray(np.zeros(4)), "jac": problem.jac, "method": METHOD}
    told = minimize(**run, callback=callback, options=options)
    assert seen == [3, 6, 9, 12]
    plain = minimize(**run, options=options)
    np.testing.assert_array_equal(backend.to_host(told.x), backend.to_host(plain.x))


def test_of_a_dictionary_it_is_given_dictionaries(backend):
    problem, seen = ByName(backend), []
    minimize(
        problem.fun, problem.x0, jac=problem.jac, method=GROUPS, options={"maxiter": 4, "check_every": 2},
        callback=lambda intermediate_result: seen.append(intermediate_result),
    )  # fmt: skip
    assert [one.nit for one in seen] == [2, 4]
    problem.assert_same(seen[-1].jac, problem.jac(seen[-1].x))


def test_without_fun_there_is_no_f_in_it():
    seen = []
    minimize(
        None, X0, jac=twice, method=METHOD, options={"maxiter": 2},
        callback=lambda intermediate_result: seen.append(intermediate_result.fun),
    )  # fmt: skip
    assert seen == [None, None]


@pytest.mark.parametrize(
    ("answer", "stops"),
    [(True, True), (np.True_, True), (1, False), ("stop", False), (np.ones(2), False), (False, False),
     (np.array(True), False), (np.False_, False), (None, False)],
)  # fmt: skip
def test_true_stops_a_run_and_nothing_else_that_is_given(answer, stops):
    result = minimize(**RUN, options={"maxiter": 3}, callback=lambda x: answer)
    assert (result.status, result.nit) == ((99, 1) if stops else (1, 3))
    assert result.message.startswith("`callback` returned True after 1 steps.") == stops


def test_a_tolerance_that_is_met_comes_before_the_callbacks_word():
    first = minimize(**RUN, options={"gtol": None, "maxiter": 1})
    for within in (True, False):
        gtol = abs(first.jac).max() * (1 if within else 0.99)
        options = {"gtol": gtol, "check_every": 1}
        result = minimize(**RUN, callback=lambda x: True, options=options)
        assert (result.status, result.nit) == (0 if within else 99, 1)


def test_a_callback_may_scale_the_rate_on_a_plateau():
    def callback(intermediate_result):
        if intermediate_result.nit == 5:
            intermediate_result.state.rate_scale = 0.0

    result = minimize(**RUN, callback=callback, options={"maxiter": 9})
    np.testing.assert_array_equal(result.x, minimize(**RUN, options={"maxiter": 5}).x)


def test_a_history_has_what_each_check_found(backend):
    problem, path = Quadratic(backend), []
    run = {"x0": backend.asarray(np.zeros(4)), "jac": problem.jac, "method": METHOD}
    options = {"maxiter": 103, "gtol": None}
    minimize(None, **run, callback=path.append, options=options)
    history = minimize(problem.fun, **run, options={**options, "history": True}).history
    points = [run["x0"], *path]
    assert history.step.tolist() == [*range(0, 101, 10), 103]
    assert history.fun.tolist() == [float(problem.fun(points[k])) for k in history.step]
    largest = [float(abs(problem.jac(points[k])).max()) for k in history.step]
    assert history.gradient.tolist() == largest
    assert (np.diff(history.seconds) >= 0).all()
    assert "history" not in minimize(problem.fun, **run, options=options)


def test_a_projection_follows_each_step_and_the_start(backend):
    """On the unit sphere, as a loop would go."""
    problem, seen = Quadratic(backend), []

    def project(x):
        seen.append(1)
        x /= np.sqrt(float((x * x).sum()))

    x = backend.asarray([3.0, 0, 4, 0])
    given, state = x.copy(), METHOD.init(x)
    x /= np.sqrt(float((x * x).sum()))
    for _ in range(7):
        METHOD.step(x, problem.jac(x), state)
        x /= np.sqrt(float((x * x).sum()))
    run = {"jac": problem.jac, "method": METHOD, "options": {"maxiter": 7, "project": project}}
    result = minimize(problem.fun, given, **run)
    np.testing.assert_array_equal(backend.to_host(result.x), backend.to_host(x))
    assert len(seen) == 8
    run["options"] = {**run["options"], "state": result.state}
    np.testing.assert_array_equal(backend.to_host(minimize(None, result.x, **run).x), backend.to_host(x))
    assert len(seen) == 8  # what goes on has been projected


def test_a_dictionary_is_projected_as_one():
    def project(x):
        x["a"][:] = x["b"][:] = (x["a"] + x["b"]) / 2

    x0 = {"a": np.zeros(3), "b": np.ones(3)}
    result = minimize(
        None, x0, jac=lambda x: {"a": x["a"] - 3, "b": x["b"]}, options={"maxiter": 5, "project": project}
    )
    np.testing.assert_array_equal(result.x["a"], result.x["b"])
    assert (x0["a"] == 0).all()


def test_the_length_of_a_step_is_that_of_the_projected_one():
    def back(x):
        x[...] = X0

    result = minimize(
        None, X0, jac=twice, method=METHOD, options={"xtol": 0.0, "gtol": None, "project": back}
    )
    assert (result.status, result.nit) == (4, 10)


def test_a_projection_that_gives_a_new_array_is_refused():
    with pytest.raises(TypeError, match="project gave a ndarray; it must work in place on x"):
        minimize(None, X0, jac=twice, options={"project": lambda x: x.clip(0, 1)})


@pytest.mark.parametrize("fun", [sum_of_squares, None])
@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("end", ["callback", "Ctrl-C", "twice"])
def test_the_history_ends_with_the_last_point_also_between_two_checks(end, best, fun):
    """Where f and the gradient are known there: no evaluation is for the history alone."""

    def run(history):
        calls, told = count(), count(1)

        def jac(x):
            call = next(calls)
            if (call == 17 and end != "callback") or (call > 17 and end == "twice"):
                raise KeyboardInterrupt
            return 2 * x

        options = {"history": history, "gtol": None, "return_best": best and fun is not None}
        return minimize(
            fun, X0, jac=jac, method=SGD(1.5), options=options,  # each step doubles x: the start is the best
            callback=lambda x: end == "callback" and next(told) == 17,
        )  # fmt: skip

    result, plain = run(True), run(False)
    assert (result.nit, result.status) == (17, 99 if end == "callback" else 7)
    assert (result.nfev, result.njev) == (plain.nfev, plain.njev)
    steps = [0, 10] if end == "twice" else [0, 10, 17]
    points = [X0 * (-2.0) ** k for k in steps]
    history = result.history
    assert history.step.tolist() == steps
    assert history.gradient.tolist() == [abs(2 * x).max() for x in points]
    np.testing.assert_array_equal(history.fun, [np.nan if fun is None else fun(x) for x in points])
