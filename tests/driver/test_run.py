import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from descents import Quadratic, falling, sum_of_squares, twice
from scipy.optimize import OptimizeResult

from gpuprop import RMSProp, minimize
from gpuprop.driver.functions import callback


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C as in a shell's foreground, whatever runs the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_callback_is_called_after_every_step_with_a_copy(backend):
    problem, path = Quadratic(backend), []
    x0 = backend.asarray(np.zeros(4))
    result = minimize(problem.fun, x0, jac=problem.jac, callback=path.append, options={"maxiter": 23})
    assert len(path) == 23
    np.testing.assert_array_equal(backend.to_host(path[-1]), backend.to_host(result.x))
    assert len({backend.to_host(x).tobytes() for x in path}) == 23
    assert result.nfev == 4  # at steps 0, 10, 20 and at the end: such a callback needs no f


def test_a_callback_of_scipys_newer_kind_is_given_f_too(backend):
    problem, seen = Quadratic(backend), []

    def callback(intermediate_result):
        assert isinstance(intermediate_result, OptimizeResult)
        seen.append((intermediate_result.fun, float(problem.fun(intermediate_result.x))))

    minimize(
        problem.fun, backend.asarray(np.zeros(4)), jac=problem.jac, callback=callback, options={"maxiter": 5}
    )
    assert len(seen) == 5
    assert all(isinstance(f, float) and f == again for f, again in seen)


def test_check_every_says_how_often_a_callback_is_called_too():
    path = []
    minimize(
        sum_of_squares, [5.0], jac=twice, callback=path.append, options={"maxiter": 23, "check_every": 5}
    )
    assert len(path) == 4


def test_a_callback_changes_nothing_in_the_result():
    plain = minimize(sum_of_squares, [5.0, 4.0], jac=twice, method=falling())
    told = minimize(sum_of_squares, [5.0, 4.0], jac=twice, method=falling(), callback=lambda xk: xk.fill(9))
    assert plain.nit == told.nit
    np.testing.assert_array_equal(plain.x, told.x)


def test_stop_iteration_in_a_callback_stops_right_there():
    path = []

    def callback(xk):
        path.append(xk)
        if len(path) == 17:
            raise StopIteration

    result = minimize(sum_of_squares, [5.0, 4.0], jac=twice, callback=callback)
    assert (result.nit, result.status, result.success) == (17, 99, False)
    np.testing.assert_array_equal(result.x, path[-1])
    assert result.fun == sum_of_squares(result.x)
    np.testing.assert_array_equal(result.jac, 2 * result.x)


def interrupting(function, call):
    """`function`, with a Ctrl-C in its call of this number."""
    calls = []

    def interrupted(x):
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return function(x)

    return interrupted


def after(steps):
    return minimize(sum_of_squares, [5.0, 4.0], jac=twice, options={"maxiter": steps}, method=falling())


@pytest.mark.parametrize("where", ["fun", "jac", "callback"])
def test_ctrl_c_in_a_function_returns_what_has_been_reached(where):
    functions = {"fun": sum_of_squares, "jac": twice, "callback": lambda x: None}
    functions[where] = interrupting(functions[where], 4)
    result = minimize(x0=[5.0, 4.0], method=falling(), **functions)
    expected = after({"fun": 30, "jac": 3, "callback": 4}[where])
    assert (result.status, result.success, result.nit) == (7, False, expected.nit)
    assert f"after {expected.nit} steps" in result.message
    np.testing.assert_array_equal(result.x, expected.x)
    assert result.fun == expected.fun
    np.testing.assert_array_equal(result.jac, expected.jac)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_in_a_step_waits_for_its_end_so_that_a_run_can_go_on(backend):
    def rate(step):
        if step == 25 and not hit:
            hit.append(step)
            signal.raise_signal(signal.SIGINT)
        return 0.1 * 0.9**step

    problem, hit = Quadratic(backend), []
    x0 = backend.asarray(np.zeros(4))
    optimizer = RMSProp(rate, momentum=0.5, bias_correction=True)
    first = minimize(problem.fun, x0, jac=problem.jac, method=optimizer)
    assert (first.status, first.nit) == (7, 26)
    second = minimize(
        problem.fun, first.x, jac=problem.jac, method=optimizer, options={"state": first.state, "maxiter": 40}
    )
    whole = minimize(problem.fun, x0, jac=problem.jac, method=optimizer, options={"maxiter": 40})
    np.testing.assert_array_equal(backend.to_host(second.x), backend.to_host(whole.x))


def test_a_second_ctrl_c_still_returns_x():
    calls = []

    def jac(x):
        calls.append(1)
        if len(calls) > 5:  # so does the evaluation at the point that has been reached
            signal.raise_signal(signal.SIGINT)
        return 2 * x

    result = minimize(sum_of_squares, [5.0, 4.0], jac=jac, method=falling())
    assert (result.status, result.nit, result.jac) == (7, 5, None)
    assert np.isnan(result.fun)
    np.testing.assert_array_equal(result.x, after(5).x)


def test_a_handler_of_the_users_own_is_left_alone():
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    result = minimize(sum_of_squares, [5.0], jac=interrupting(twice, 4), options={"maxiter": 9})
    assert (heard, result.status) == ([1], 1)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a process alone")
def test_a_real_ctrl_c_ends_a_real_process_well():
    code = """
import signal, numpy as np, gpuprop
signal.signal(signal.SIGINT, signal.default_int_handler)
def jac(x):
    print("running", flush=True) if not np.any(x - 5) else None
    return 2 * x
result = gpuprop.minimize(None, np.full(100_000, 5.0), jac=jac,
                          method=gpuprop.RMSProp(1e-9), options={"maxiter": 10**9})
x = result.x
print(result.status, result.nit > 0, bool(np.all(x == x[0])), bool(np.all(result.jac == 2 * x)))
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "running\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("7 True True True\n", "", 0)


def test_ctrl_c_in_a_run_within_a_run_ends_both():
    inner_results = []

    def by_an_inner_run(x):
        inner = minimize(sum_of_squares, x, jac=interrupting(twice, 3) if len(inner_results) == 2 else twice,
                         method=falling(), options={"maxiter": 4})  # fmt: skip
        inner_results.append(inner)
        return 2 * x

    result = minimize(sum_of_squares, [5.0, 4.0], jac=by_an_inner_run, method=falling())
    assert [inner.status for inner in inner_results[:2]] == [1, 1]
    assert (result.status, result.nit) == (7, 2)
    np.testing.assert_array_equal(result.x, after(2).x)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_callback_that_cannot_be_called_is_refused_before_anything_runs():
    with pytest.raises(TypeError, match="callback is 3; it must be a function"):
        minimize(None, [5.0], jac=lambda x: pytest.fail("called"), callback=3)


def test_a_callback_is_asked_for_its_parameters_once(monkeypatch):
    asked, signature = [], callback.inspect.signature
    monkeypatch.setattr(callback.inspect, "signature", lambda f: asked.append(f) or signature(f))
    path = []
    minimize(None, [5.0], jac=twice, callback=path.append, options={"maxiter": 7})
    assert (len(path), len(asked)) == (7, 1)
