import time

import numpy as np
import pytest
from descents import both, falling, sum_of_squares, twice

import gpuprop
from gpuprop import RMSProp, minimize
from gpuprop.driver.stopping import checks


def test_each_reason_has_its_own_status_and_message():
    options = [
        {"gtol": 1e-3}, {"maxiter": 15}, {"maxfev": 3}, {"maxtime": 0.0},
        {"xtol": 1e-3, "gtol": None}, {"ftol": 1e-4, "gtol": None},
    ]  # fmt: skip
    results = [minimize(sum_of_squares, [5.0, 4.0], jac=twice, method=falling(), options=o) for o in options]

    def stop(xk):
        raise StopIteration

    def interrupted(x):
        raise KeyboardInterrupt

    results.append(minimize(sum_of_squares, [5.0], jac=twice, callback=stop))
    results.append(minimize(lambda x: np.nan, [5.0], jac=twice))
    results.append(minimize(sum_of_squares, [5.0], jac=interrupted))
    assert [r.status for r in results] == [0, 1, 2, 3, 4, 5, 99, 6, 7]
    assert [r.success for r in results] == [True, False, False, False, True, True, False, False, False]
    words = [
        "within gtol", "maxiter = 15", "maxfev = 3", "maxtime = 0.0", "within xtol", "within ftol",
        "StopIteration", "not finite", "Interrupted",
    ]  # fmt: skip
    for word, result in zip(words, results, strict=True):
        assert [word in r.message for r in results].count(True) == 1
        assert word in result.message


@pytest.mark.parametrize("every", [1, 7, 50])
def test_tests_are_made_at_every_check_and_no_other_step(every):
    path = [np.array([5.0, 4.0])]
    minimize(
        None,
        path[0],
        jac=twice,
        method=falling(),
        callback=path.append,
        options={"gtol": None, "maxiter": 400},
    )
    first = min(k for k in range(0, 401, every) if abs(2 * path[k]).max() <= 1e-2)
    result = minimize(
        None, path[0], jac=twice, method=falling(), options={"gtol": 1e-2, "check_every": every}
    )
    assert result.nit == first


def test_tol_stands_for_gtol():
    by_tol = minimize(sum_of_squares, [5.0], jac=twice, method=falling(), tol=1e-2)
    assert (
        by_tol.nit == minimize(sum_of_squares, [5.0], jac=twice, method=falling(), options={"gtol": 1e-2}).nit
    )
    assert minimize(sum_of_squares, [5.0], jac=twice, method=falling()).nit > by_tol.nit
    both = minimize(sum_of_squares, [5.0], jac=twice, method=falling(), tol=1.0, options={"gtol": 1e-2})
    assert both.nit == by_tol.nit


def test_step_size_is_that_of_the_last_step_relative_to_x():
    path = [np.array([5.0, 4.0]) + 100]
    minimize(None, path[0], jac=lambda x: x - 100, method=falling(), callback=path.append,
             options={"gtol": None, "maxiter": 400})  # fmt: skip
    xtol = 1e-4
    small = (
        k for k in range(10, 401, 10)
        if abs(path[k] - path[k - 1]).max() <= xtol * (xtol + abs(path[k]).max())
    )  # fmt: skip
    result = minimize(
        None, path[0], jac=lambda x: x - 100, method=falling(), options={"gtol": None, "xtol": xtol}
    )
    assert (result.status, result.nit) == (4, next(small))


def test_change_of_f_is_that_since_the_last_check():
    path = [np.array([5.0, 4.0])]
    minimize(
        None,
        path[0],
        jac=twice,
        method=falling(),
        callback=path.append,
        options={"gtol": None, "maxiter": 400},
    )
    f = [sum_of_squares(x) for x in path]
    small = (k for k in range(10, 401, 10) if abs(f[k] - f[k - 10]) <= 1e-3 * max(f[k], f[k - 10], 1))
    result = minimize(
        sum_of_squares, path[0], jac=twice, method=falling(), options={"gtol": None, "ftol": 1e-3}
    )
    assert (result.status, result.nit) == (5, next(small))


def test_a_change_over_fewer_steps_than_between_checks_is_no_reason():
    result = minimize(
        sum_of_squares, [5.0], jac=twice, method=RMSProp(), options={"ftol": 0.2, "xtol": 1e-9, "maxiter": 13}
    )
    assert (result.status, result.nit) == (1, 13)


@pytest.mark.parametrize("maxiter", [0, 1, 10, 13])
def test_maxiter_is_the_number_of_steps(maxiter):
    options = {"maxiter": maxiter}
    result = minimize(sum_of_squares, [5.0, 4.0], jac=twice, method=RMSProp(), options=options)
    assert (result.nit, result.njev, result.status) == (maxiter, maxiter + 1, 1)
    assert result.fun == sum_of_squares(result.x)


def test_the_last_point_may_still_be_found_good():
    first = minimize(sum_of_squares, [5.0], jac=twice, method=falling(), options={"check_every": 1}).nit
    last = minimize(sum_of_squares, [5.0], jac=twice, method=falling(), options={"maxiter": first})
    assert first % 10
    assert (last.nit, last.status) == (first, 0)


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize(
    ("tolerance", "edge", "status", "x0", "gradient", "f"),
    [
        ("gtol", 0.75, 0, [5, -3], [-0.25, 0.75], [9, 9]),
        ("gtol", 0.75, 0, [5, -3], [-0.75, 0.25], [9, 9]),
        # A step of 0.75, which leads to a largest component of 1: 0.5 * (0.5 + 1).
        ("xtol", 0.5, 4, [1.75, 0.5], [0.75, 0], [9, 9]),
        ("xtol", 0.5, 4, [-0.5, -1.75], [0, -0.75], [9, 9]),
        # A change of f of 1/2, by 1 where f is smaller, else by the larger of f now and before.
        ("ftol", 0.5, 5, [5, -3], [1, 1], [0.75, 0.25]),
        ("ftol", 0.25, 5, [5, -3], [1, 1], [-1.5, -2]),
        ("ftol", 0.125, 5, [5, -3], [1, 1], [4, 3.5]),
    ],
)
def test_a_tolerance_holds_at_its_edge_and_not_beyond(tolerance, edge, status, x0, gradient, f, within):
    limit, values = edge if within else np.nextafter(edge, 0), iter(f)
    options = {"gtol": None, "check_every": 1, "maxiter": 1, tolerance: limit}
    jac, method = (lambda x: np.array(gradient, float)), gpuprop.SGD(1.0)
    result = minimize(lambda x: next(values), np.array(x0, float), jac=jac, method=method, options=options)
    assert result.status == (status if within else 1)


@pytest.mark.parametrize(
    ("every", "within"), [(10, 3), (1, 2)]
)  # where f is due, time is asked for once more
@pytest.mark.parametrize("limit", [3.0, np.nextafter(3.0, 4), np.nextafter(3.0, 2)])
def test_the_time_limit_holds_at_its_edge_and_not_before(monkeypatch, limit, every, within):
    clock = [0.0]

    def jac(x):
        clock[0] += 1
        return 2 * x

    monkeypatch.setattr(checks.time, "perf_counter", lambda: clock[0])
    options = {"maxtime": limit, "check_every": every}
    result = minimize(sum_of_squares, [5.0, 4.0], jac=jac, method=RMSProp(), options=options)
    assert (result.status, result.nit) == (3, within + (limit > 3))


@pytest.mark.parametrize("every", [1, 3, 10])
@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize(
    ("fun", "jac", "a_point"), [(sum_of_squares, twice, 1), (both, True, 1), (sum_of_squares, None, 3)]
)
def test_maxfev_is_never_exceeded_and_used_up(fun, jac, a_point, best, every):
    method, x0 = gpuprop.SGD(1.5), np.ones(2)  # each step doubles x: the start stays the best
    for maxfev in range(2 * a_point, 9 * a_point):
        options = {"maxfev": maxfev, "check_every": every, "return_best": best}
        result = minimize(fun, x0, jac=jac, method=method, options=options)
        assert result.status == 2
        # One step, and the best point again, would take three.
        points = maxfev // a_point if not best or maxfev >= 3 * a_point else 1
        assert result.nfev == points * a_point
        assert (result.x == x0).all() == best


def test_wall_time_ends_a_slow_run():
    def slow(x):
        time.sleep(0.02)
        return 2 * x

    start = time.perf_counter()
    result = minimize(None, [5.0], jac=slow, options={"maxtime": 0.2})
    assert result.status == 3
    assert 0.2 <= time.perf_counter() - start < 2
    assert 1 <= result.nit <= 10


@pytest.mark.parametrize("fun", [lambda x: np.nan, lambda x: -np.inf])
def test_a_function_that_is_not_finite_ends_the_run(fun):
    result = minimize(fun, [5.0], jac=twice)
    assert (result.status, result.success, result.nit) == (6, False, 0)
    assert f"f = {fun(0)}" in result.message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_ends_the_run_at_the_next_check(backend, bad):
    calls = []

    def jac(x):
        calls.append(1)
        gradient = 2 * x
        if len(calls) == 13:
            gradient[1] = bad
        return gradient

    result = minimize(None, backend.asarray([5.0, 4.0, 3.0]), jac=jac, options={"check_every": 6})
    assert (result.status, result.nit) == (6, 12)
    assert result.message.startswith("The gradient is not finite at step 12: the largest component")


@pytest.mark.parametrize("sign", [1, -1])
def test_no_message_has_a_negative_zero(sign):
    still = minimize(None, [5.0], jac=lambda x: sign * 0.0 * x)
    assert still.message == "The largest component of the gradient, 0, is within gtol."


def test_what_the_optimizer_does_with_nonfinite_gradients_is_its_own():
    def jac(x):
        return np.array([np.nan, 2 * x[1]])

    skipping = minimize(None, [5.0, 4.0], jac=jac, method=falling(nonfinite="skip"), options={"maxiter": 50})
    assert (skipping.status, skipping.state.skipped, skipping.x[0]) == (1, 50, 5)
    with pytest.raises(FloatingPointError):
        minimize(None, [5.0, 4.0], jac=jac, method=falling(nonfinite="raise"))


@pytest.mark.parametrize("method", [RMSProp(), RMSProp("auto", momentum=0.5)], ids=["given", "auto"])
def test_a_run_of_too_little_time_gets_on_by_a_step_each_time_it_is_resumed(method, tmp_path):
    run = {"fun": sum_of_squares, "x0": [5.0, 4.0], "jac": twice, "method": method}
    files = {"checkpoint": tmp_path / "run", "resume": tmp_path / "run", "maxtime": 0.0, "gtol": None}
    results = [minimize(**run, options=files) for _ in range(4)]
    assert [(r.status, r.nit) for r in results] == [(3, 1), (3, 2), (3, 3), (3, 4)]
    whole = minimize(**run, options={"maxiter": 4, "gtol": None})
    np.testing.assert_array_equal(results[-1].x, whole.x)
    assert (results[-1].nfev, results[-1].njev) == (whole.nfev, whole.njev)
