"""A dictionary of arrays as x0: each goes as by itself, and what is tested is tested of all of them."""

import signal
from dataclasses import replace

import numpy as np
import pytest
from descents import GROUPS, METHODS, ByName, falling
from scipy.optimize import Bounds, OptimizeResult

import gpuprop
from gpuprop import SGD, Groups, RMSProp, minimize


@pytest.fixture
def problem(backend):
    return ByName(backend)


@pytest.mark.parametrize("joint", [False, True])
def test_arrays_that_do_not_interact_go_as_each_by_itself(problem, joint):
    before = problem.hosted(problem.x0)
    fun, jac = (problem.both, True) if joint else (problem.fun, problem.jac)
    result = minimize(fun, problem.x0, jac=jac, method=GROUPS, options={"maxiter": 37, "gtol": None})
    assert isinstance(result, OptimizeResult)
    alone = {name: problem.alone(name, {"maxiter": 37}) for name in METHODS}
    problem.assert_same(result.x, {name: one.x for name, one in alone.items()})
    problem.assert_same(result.jac, problem.jac(result.x))
    problem.assert_same(problem.x0, before)
    assert result.fun == problem.fun(result.x)
    assert (result.nit, result.njev, result.nfev) == (37, 38, 38 if joint else 5)
    assert (result.status, result.message) == (1, alone["plain"].message)
    for name, array in result.x.items():
        assert type(array) is type(problem.x0[name])
        assert (result.state[name].step, result.state[name].backend) == (37, alone[name].state.backend)
        for of_all, of_one in zip(
            result.state[name].arrays.values(), alone[name].state.arrays.values(), strict=True
        ):
            np.testing.assert_array_equal(*(problem.backends[name].to_host(a) for a in (of_all, of_one)))


def test_by_default_each_goes_by_the_default_method(problem):
    x0 = {"all": problem.x0["plain"], "three": problem.x0["plain"][1:] / 2}
    options = {"maxiter": 25, "gtol": None}
    result = minimize(None, x0, jac=lambda x: {name: 2 * a for name, a in x.items()}, options=options)
    assert list(result.x) == list(x0)
    for name, start in x0.items():
        alone = minimize(None, start, jac=lambda x: 2 * x, options=options)
        assert problem.backends["plain"].to_host(result.x[name] == alone.x).all()
        assert result.state.optimizer.optimizers[name] == alone.state.optimizer


def test_bounds_come_by_name_and_hold_for_that_array_alone(problem):
    sides = problem.on_device(plain=np.array([-4.0, -1.0, -4.0, -4.0]))["plain"]
    bounds, options = {"plain": Bounds(sides, 2.0), "field": None}, {"maxiter": 120, "gtol": None}
    result = minimize(problem.fun, problem.x0, jac=problem.jac, method=GROUPS, bounds=bounds, options=options)
    plain = problem.alone("plain", options, bounds=bounds["plain"]).x
    problem.assert_same(result.x, {"plain": plain, "field": problem.alone("field", options).x})
    assert problem.hosted(result.x)["plain"][[1, 3]].tolist() == [-1, 2]
    assert {name: one.bounds is None for name, one in result.state.optimizer.optimizers.items()} == {
        "plain": False, "field": True,
    }  # fmt: skip
    assert Groups(METHODS) == GROUPS
    seen = []
    run = {"jac": problem.jac, "method": GROUPS, "bounds": {"plain": (0, 2)}, "options": {"maxiter": 0}}
    minimize(lambda x: seen.append(problem.hosted(x)) or 0.0, problem.x0, **run)
    assert seen[0]["plain"].tolist() == [2] * 4


@pytest.mark.parametrize("given", [{}, {"field": None}])
def test_an_array_without_a_gradient_stays_until_it_has_one(problem, given):
    calls = []

    def jac(x):
        calls.append(1)
        gradients = problem.jac(x)
        return gradients if len(calls) > 6 else {"plain": gradients["plain"], **given}

    for steps, of_field in ((6, 0), (20, 14)):
        calls.clear()
        options = {"maxiter": steps, "xtol": 0.0}
        result = minimize(problem.fun, problem.x0, jac=jac, method=GROUPS, options=options)
        expected = {name: problem.alone(name, {"maxiter": k}).x for name, k in
                    (("plain", steps), ("field", of_field))}  # fmt: skip
        problem.assert_same(result.x, expected)
        assert (result.nit, result.state["field"].step) == (steps, of_field)
    stay = minimize(
        problem.fun, problem.x0, jac=lambda x: {"field": problem.jac(x)["field"]}, method=GROUPS,
        options={"return_best": True, "gtol": 1e-4},
    )  # fmt: skip
    assert (stay.success, stay.jac["plain"]) == (True, None)
    problem.assert_same(
        stay.x, {"plain": problem.x0["plain"], "field": problem.alone("field", {"maxiter": stay.nit}).x}
    )


def test_callbacks_of_both_kinds_are_given_dictionaries_of_their_own(problem):
    path, results = problem.path(12), []

    def stop(intermediate_result):
        results.append(intermediate_result)
        assert intermediate_result.fun == problem.fun(intermediate_result.x)
        problem.assert_same(intermediate_result.x, path[len(results)])
        for array in intermediate_result.x.values():
            array[...] = 7
        intermediate_result.x.clear()
        if len(results) == 12:
            raise StopIteration

    result = minimize(problem.fun, problem.x0, jac=problem.jac, method=GROUPS, callback=stop)
    assert (result.status, result.nit, len(results), len(path)) == (99, 12, 12, 13)
    problem.assert_same(result.x, path[-1])


@pytest.mark.parametrize("option", ["gtol", "xtol", "ftol"])
def test_tolerances_are_of_all_arrays_together(problem, option):
    every, limit = 3, 5e-3
    path = problem.path(300)

    def largest(arrays, names):
        parts = [a.view(a.real.dtype) for a in (np.asarray(arrays[n]).ravel() for n in names)]
        return max(float(abs(part).max()) for part in parts)

    def stops(k, names):
        x, before = path[k], path[k - 1]
        if option == "gtol":
            return largest(problem.hosted(problem.jac(problem.on_device(**x))), names) <= limit
        if option == "xtol":
            steps = {n: x[n] - before[n] for n in names}
            return largest(steps, names) <= limit * (limit + largest(x, names))
        now, then = (
            sum(problem.fun_of(n, problem.on_device(**path[j])[n]) for n in names) for j in (k, k - every)
        )
        return abs(now - then) <= limit * max(abs(now), abs(then), 1)

    first = {
        names: next(k for k in range(every, 301, every) if stops(k, names))
        for names in (("plain", "field"), ("plain",), ("field",))
    }
    options = {"gtol": None, "check_every": every, option: limit}
    result = minimize(problem.fun, problem.x0, jac=problem.jac, method=GROUPS, options=options)
    assert result.success
    assert result.nit == first["plain", "field"]
    assert first["plain",] != first["field",]


@pytest.mark.parametrize("maximize", [False, True])
def test_the_best_of_the_checks_is_that_of_all_arrays(problem, maximize):
    sign = -1 if maximize else 1
    method = Groups(
        plain=RMSProp(0.9, rho=0.5, maximize=maximize), field=SGD(0.9, momentum=0.5, maximize=maximize)
    )
    run = {"jac": lambda x: {name: sign * g for name, g in problem.jac(x).items()}, "method": method}
    options, path = {"maxiter": 45, "gtol": None, "return_best": True}, [problem.hosted(problem.x0)]
    result = minimize(
        lambda x: sign * problem.fun(x), problem.x0, **run, options=options,
        callback=lambda x: path.append(problem.hosted(x)),
    )  # fmt: skip
    checks = [path[k] for k in (0, 10, 20, 30, 40, 45)]
    best = min(checks, key=lambda x: problem.fun(problem.on_device(**x)))
    problem.assert_same(result.x, best)
    assert result.fun == sign * problem.fun(result.x) != sign * problem.fun(problem.on_device(**path[-1]))
    assert result.nit == 45


def test_maximize_climbs():
    problem = ByName(gpuprop.select_backend("cpu"))
    up = Groups({"plain": falling(200, 0.4, maximize=True), "field": METHODS["field"]})  # a saddle
    result = minimize(None, problem.x0, jac=lambda x: {
        "plain": -problem.jac(x)["plain"], "field": problem.jac(x)["field"],
    }, method=up, options={"maxiter": 37, "gtol": None})  # fmt: skip
    problem.assert_same(result.x, {name: problem.alone(name, {"maxiter": 37}).x for name in METHODS})


@pytest.mark.parametrize("clip_norm", [None, 3.0])
@pytest.mark.parametrize("given", ["method", "nothing"])
def test_a_run_goes_on_from_its_state_as_if_it_had_never_stopped(problem, given, clip_norm):
    method = Groups(METHODS, clip_norm=clip_norm)
    run = {"jac": problem.jac, "bounds": {"plain": (-1.5, 2)}}
    whole = minimize(problem.fun, problem.x0, **run, method=method, options={"maxiter": 40, "gtol": None})
    first = minimize(problem.fun, problem.x0, **run, method=method, options={"maxiter": 15, "gtol": None})
    options = {"maxiter": 40, "gtol": None, "state": first.state}
    again = {**run, "method": method} if given == "method" else {"jac": problem.jac}
    second = minimize(problem.fun, first.x, **again, options=options)
    problem.assert_same(second.x, whole.x)
    assert second.state is first.state
    assert (second.nit, second.state.step, second.state["field"].step) == (40, 40, 40)
    assert second.state.optimizer == whole.state.optimizer


def test_a_run_by_the_default_method_goes_on_with_the_method_of_its_state():
    x0 = {"a": np.ones(4), "b": np.ones(3)}
    state = minimize(None, x0, jac=dict, options={"maxiter": 6}).state
    method = state.optimizer
    result = minimize(None, x0, jac=dict, options={"maxiter": 10, "state": state})
    assert (state.optimizer, state.step, result.nit) == (method, 10, 10)


def test_ctrl_c_between_two_arrays_of_a_step_waits_for_its_end(problem):
    def rate(step):
        if step == 9 and not hit:
            hit.append(step)
            signal.raise_signal(signal.SIGINT)
        return 0.1 * 0.8**step

    hit, handler = [], signal.signal(signal.SIGINT, signal.default_int_handler)
    method = Groups(plain=METHODS["plain"], field=SGD(rate, momentum=0.5))
    try:
        first = minimize(problem.fun, problem.x0, jac=problem.jac, method=method)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (first.status, first.nit, [one.step for one in first.state.values()]) == (7, 10, [10, 10])
    options = {"state": first.state, "maxiter": 17, "gtol": None}
    second = minimize(problem.fun, first.x, jac=problem.jac, method=method, options=options)
    problem.assert_same(second.x, problem.on_device(**problem.path(17, method)[-1]))


def test_what_is_not_finite_ends_a_run_where_its_own_optimizer_says_so(problem):
    def jac(x):
        gradients = problem.jac(x)
        gradients["field"][...] = np.nan
        return gradients

    run = {"x0": problem.x0, "jac": jac, "options": {"maxiter": 20, "gtol": None}}
    assert minimize(None, **run, method=GROUPS).status == 6
    skips = Groups(plain=METHODS["plain"], field=replace(METHODS["field"], nonfinite="skip"))
    result = minimize(None, **run, method=skips)
    assert (result.status, result.nit, result.state["field"].skipped) == (1, 20, 120)
    plain = problem.alone("plain", {"maxiter": 20}).x
    problem.assert_same(result.x, {"plain": plain, "field": problem.x0["field"]})


def test_arrays_may_be_lists_and_functions_may_see_the_arrays_themselves():
    x0, seen = {"a": [1, 2], "b": 3.0, "c": np.ones((2, 1))}, []

    def jac(x):
        seen.append(x.copy())
        gradients = {name: 2 * array for name, array in x.items()}
        x.clear()
        return gradients

    options = {"maxiter": 4, "copy_x": False, "check_every": 1}
    method = Groups({name: RMSProp() for name in x0})
    result = minimize(
        lambda x: sum(float((a**2).sum()) for a in x.values()), x0, jac=jac, method=method, options=options
    )
    assert {n: (a.shape, a.dtype.name) for n, a in result.x.items()} == {
        "a": ((2,), "float64"), "b": ((1,), "float64"), "c": ((2, 1), "float64"),
    }  # fmt: skip
    assert (x0["a"], x0["b"], x0["c"].tolist()) == ([1, 2], 3.0, [[1], [1]])
    assert all(x[name] is result.x[name] for x in seen for name in x0)
