"""A run that was interrupted goes on, by the very bits of one that was not."""

import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
from descents import GROUPS, METHOD, RUN, X0, ByName, Quadratic, both, falling, sum_of_squares, twice

import gpuprop
from gpuprop import SGD, Groups, RMSProp, minimize


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C as in a shell's foreground, whatever runs the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Calls:
    """Functions of a user, with a Ctrl-C in the call of one number."""

    def __init__(self, at=None):
        self.at, self.numbers, self.told = at, count(), []

    def __call__(self, function):
        def counted(x):
            if next(self.numbers) == self.at:
                signal.raise_signal(signal.SIGINT)
            return function(x)

        return counted

    def callback(self, intermediate_result):
        if next(self.numbers) == self.at:
            signal.raise_signal(signal.SIGINT)
        self.told.append(intermediate_result.nit)
        intermediate_result.state.rate_scale *= 1 + (-1) ** intermediate_result.nit / 10


def bits(result):
    history = [row for name, row in sorted(result.history.items()) if name != "seconds"]
    arrays = [result.x, result.jac, *result.state.arrays.values(), *history]
    numbers = (result.fun, result.nit, result.nfev, result.njev, result.status, result.state.rate_scale)
    return *numbers, *(array.tobytes() for array in arrays)


@pytest.mark.parametrize(
    ("problem", "options", "status"),
    [
        pytest.param({"fun": sum_of_squares, "jac": twice}, {}, 1, marks=pytest.mark.slow),
        ({"fun": sum_of_squares, "jac": twice}, {"return_best": True, "check_every": 3}, 1),
        ({"fun": sum_of_squares, "jac": twice}, {"ftol": 0.5, "check_every": 4}, 5),
        ({"fun": sum_of_squares, "jac": twice}, {"xtol": 0.13, "check_every": 3}, 4),
        ({"fun": both, "jac": True}, {"maxfev": 19}, 2),
        pytest.param({"fun": sum_of_squares, "jac": None}, {"check_every": 6}, 1, marks=pytest.mark.slow),
        ({"fun": None, "jac": twice}, {"xtol": 0.13, "check_every": 5}, 4),
    ],
)
def test_wherever_ctrl_c_comes_a_file_goes_on_as_if_it_had_not(problem, options, status, tmp_path):
    """In any call of any function of the user's."""
    functions = {name: f for name, f in problem.items() if callable(f)}

    def run(at=None, **files):
        calls = Calls(at)
        given = {**problem, **{name: calls(f) for name, f in functions.items()}}
        every = {"maxiter": 22, "gtol": None, "history": True, **options, **files}
        return minimize(x0=X0, method=METHOD, callback=calls.callback, options=every, **given), calls

    whole, calls = run()
    assert whole.status == status
    path = tmp_path / "run"
    for at in range(next(calls.numbers)):
        files = {"checkpoint": path, "checkpoint_every": 7}
        first, told = run(at, **files)
        if first.status == status:  # what comes after the last test is no interruption
            continue
        assert first.status == 7
        second, later = run(resume=path)
        assert f"went on from {path} at step {first.nit}" in second.message
        assert bits(second) == bits(whole), at
        assert told.told + later.told == calls.told
        path.unlink()


@pytest.mark.parametrize("kind", ["time", "StopIteration", "True", "maxiter"])
@pytest.mark.parametrize("by", ["state", "file"])
def test_however_a_run_ends_early_it_goes_on_by_the_same_bits(backend, kind, by, tmp_path, monkeypatch):
    x0, path, problem = backend.asarray(np.zeros(4)), tmp_path / "run", Quadratic(backend)
    options = {"maxiter": 40, "gtol": None}

    def stop(intermediate_result):
        if intermediate_result.nit == 17:
            if kind == "StopIteration":
                raise StopIteration
            return np.True_ if kind == "True" else intermediate_result.x
        return None

    early = {**options, "maxiter": 17} if kind == "maxiter" else options
    if kind == "time":
        ticks = count()
        monkeypatch.setattr("gpuprop.driver.stopping.checks.time.perf_counter", lambda: next(ticks))
        early = {**options, "maxtime": 20}
    method = falling(momentum=0.5, modulus_bounds=(0.3, 3.0))
    run = {"fun": problem.fun, "jac": problem.jac, "method": method}
    whole = minimize(x0=x0, options=options, **run)
    given = {**early, "checkpoint": path} if by == "file" else early
    first = minimize(x0=x0, callback=stop, options=given, **run)
    assert first.status == {"time": 3, "maxiter": 1}.get(kind, 99)
    assert 0 < first.nit < 40
    del run["method"]
    going_on = {"state": first.state} if by == "state" else {"resume": path}
    start = first.x if by == "state" else backend.asarray(np.zeros(4))
    second = minimize(x0=start, options={**options, **going_on}, **run)
    np.testing.assert_array_equal(backend.to_host(second.x), backend.to_host(whole.x))
    assert (second.nit, second.state.step, second.status) == (40, 40, 1)


def test_a_run_whose_total_is_reached_says_so():
    first = minimize(**RUN, options={"maxiter": 20})
    again = minimize(sum_of_squares, first.x, jac=twice, options={"maxiter": 20, "state": first.state})
    assert (again.nit, again.status) == (20, 1)
    assert "maxiter = 20 steps was reached before this run: the state has taken 20" in again.message
    np.testing.assert_array_equal(again.x, first.x)


def test_checks_and_callbacks_fall_on_multiples_of_the_total():
    state = minimize(**RUN, options={"maxiter": 7}).state
    told = []
    options = {"state": state, "maxiter": 33, "check_every": 5, "history": True}
    result = minimize(
        sum_of_squares, X0, jac=twice, options=options,
        callback=lambda intermediate_result: told.append(intermediate_result.nit),
    )  # fmt: skip
    assert told == [10, 15, 20, 25, 30]
    assert result.history.step.tolist() == [*told, 33]


def test_dictionaries_go_on_from_one_file(backend, tmp_path):
    problem, path = ByName(backend), tmp_path / "run"
    run = {"fun": problem.fun, "jac": problem.jac, "method": GROUPS}
    options = {"gtol": None, "return_best": True, "xtol": 0.0}
    whole = minimize(x0=problem.x0, options={**options, "maxiter": 30}, **run)
    minimize(x0=problem.x0, options={**options, "maxiter": 20, "checkpoint": path}, **run)
    result = minimize(x0=problem.x0, options={**options, "maxiter": 30, "resume": path}, **run)
    problem.assert_same(result.x, whole.x)
    assert (result.nit, result.nfev, result.njev) == (30, whole.nfev, whole.njev)
    other = Groups(dict(GROUPS.optimizers), clip_norm=1.0)
    with pytest.raises(
        ValueError, match=r"method .* is Groups.*clip_norm=1.0.* they must be the same: leave"
    ):
        minimize(x0=problem.x0, options={"resume": path}, **{**run, "method": other})
    of_two = "is of a dictionary of plain, field and x0 is one array; pass an x0 like that of the run"
    with pytest.raises(ValueError, match=of_two):
        minimize(None, X0, jac=twice, options={"resume": path})


def test_the_bounds_of_a_run_are_those_of_its_method(tmp_path):
    path, bounds = tmp_path / "run", [(0, 9), (1, 9)]
    run = {"fun": sum_of_squares, "x0": X0, "jac": twice}
    new = {**run, "method": METHOD, "bounds": bounds}
    whole = minimize(**new, options={"maxiter": 40})
    minimize(
        **new, options={"maxiter": 40, "checkpoint": path},
        callback=lambda intermediate_result: intermediate_result.nit == 13,
    )  # fmt: skip
    for given in (None, bounds):
        result = minimize(**run, bounds=given, options={"maxiter": 40, "resume": path})
        assert (result.x.tobytes(), result.nit) == (whole.x.tobytes(), 40)


def test_scipy_passes_all_of_it_on(tmp_path):
    files = {"checkpoint": tmp_path / "run", "resume": tmp_path / "run"}
    whole = scipy.optimize.minimize(**RUN, options={"maxiter": 20})
    for stop in (lambda xk: True, lambda intermediate_result: intermediate_result.nit == 9, None):
        result = scipy.optimize.minimize(**RUN, callback=stop, options={"maxiter": 20, **files})
        assert result.status == (1 if stop is None else 99)
    np.testing.assert_array_equal(result.x, whole.x)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are cheap to start")
@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_runs_that_are_killed_go_on_by_the_same_bits(kills, tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("kill_at_random.py")), str(kills), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{kills} kills, after steps")


@pytest.mark.parametrize("maxiter", [5, 9])
@pytest.mark.parametrize("kind", ["method", "shape", "dtype", "of one of several"])
def test_a_state_of_another_run_is_refused_whether_or_not_there_are_steps_left(kind, maxiter):
    run = {"x0": X0, "jac": twice, "method": METHOD}
    if kind == "of one of several":
        run |= {"x0": {"a": X0, "b": X0}, "method": Groups(a=METHOD, b=METHOD), "jac": dict}
    state = minimize(None, **run, options={"maxiter": 5}).state
    error, words = ValueError, r"square_average has shape \(2,\) and x has \(3,\)"
    if kind == "method":
        run["method"], words = SGD(0.1, momentum=0.5), "state has no velocity, which .* keeps"
    elif kind == "shape":
        run["x0"] = np.ones(3)
    elif kind == "dtype":
        run["x0"], error, words = X0.astype("float32"), TypeError, "dtype float64 and x has float32"
    else:
        run["method"], words = Groups(a=METHOD, b=gpuprop.AdaGrad()), "^b: state "
    before = {name: a.copy() for name, a in state.arrays.items()} if kind != "of one of several" else {}
    run["jac"] = lambda x: pytest.fail("called")
    with pytest.raises(error, match=words):
        minimize(None, **run, options={"maxiter": maxiter, "state": state})
    assert state.step == 5
    assert all((state.arrays[name] == a).all() for name, a in before.items())


@pytest.mark.parametrize("names", [("plain", "field"), ("x", "minimize")])
def test_a_file_of_groups_with_the_parameters_by_their_own_names_will_do(names, backend, tmp_path):
    path, target = tmp_path / "run", {name: backend.asarray([1.0, k]) for k, name in enumerate(names)}
    method = Groups({name: RMSProp(0.1, momentum=0.5) for name in names})
    run = {
        "fun": None, "x0": {name: backend.asarray(X0) for name in names}, "method": method,
        "jac": lambda x: {name: x[name] - target[name] for name in names},
    }  # fmt: skip

    def save(intermediate_result):
        if intermediate_result.nit == 7:
            intermediate_result.state.save(path, **intermediate_result.x)

    whole = minimize(**run, callback=save, options={"maxiter": 12})
    result = minimize(**run, options={"maxiter": 12, "resume": path})
    assert f"went on from {path} at step 7" in result.message
    for name in names:
        np.testing.assert_array_equal(backend.to_host(result.x[name]), backend.to_host(whole.x[name]))
    state = gpuprop.load_state(path)
    state.save(path, **{names[0]: state.extras[names[0]]})
    with pytest.raises(ValueError, match=r"not the x of that moment; save both, state.save\(path, \*\*x\)"):
        minimize(**run, options={"resume": path})
