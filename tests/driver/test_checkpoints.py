"""The files of a run: when they are written, from which a run goes on, and which are refused."""

import os
from itertools import count

import numpy as np
import pytest
from descents import METHOD, RUN, X0, sum_of_squares, twice

import gpuprop
from gpuprop import SGD, RMSProp, minimize


def test_without_a_file_a_run_begins_anew_and_says_so(tmp_path):
    path = tmp_path / "run"
    options = {"maxiter": 12, "checkpoint": path, "resume": path}
    first = minimize(sum_of_squares, X0, jac=twice, options=options)
    assert first.message.endswith(f"The run began anew, as there was no {path}.")
    again = minimize(sum_of_squares, X0, jac=twice, options=options)
    assert again.message.endswith(f"The run went on from {path} at step 12.")
    np.testing.assert_array_equal(again.x, first.x)
    assert gpuprop.load_state(path).extras["x"].tolist() == first.x.tolist()


def test_a_file_of_another_run_is_refused(tmp_path):
    path, rates = tmp_path / "run", np.array([0.1, 0.2])
    method = RMSProp(rates, bounds=(np.zeros(2), 9.0))
    minimize(None, X0, jac=twice, method=method, options={"maxiter": 3, "checkpoint": path})
    before = path.read_bytes()

    def resumed(x0=X0, method=None, **more):
        options = {"maxiter": 5, "checkpoint": path, "resume": path}
        return minimize(None, x0, jac=twice, method=method, options=options, **more)

    alike = r"has x of float64 of shape \(2,\) and x0 is of {}; they must be alike: pass an x0 like"
    for x0, said in (
        (X0[:1], r"float64 of shape \(1,\)"),
        (X0.astype("float32"), r"float32 of shape \(2,\)"),
    ):
        with pytest.raises(ValueError, match=alike.format(said)):
            resumed(x0)
    bounds = (np.zeros(2), 9.0)
    others = [
        METHOD, SGD(0.1), RMSProp(rates, bounds=(np.array([0, 1e-300]), 9.0)),
        RMSProp(rates[::-1].copy(), bounds=bounds), RMSProp(lambda step: 0.1, bounds=bounds),
        RMSProp(rates, bounds=bounds, nonfinite="skip"),
    ]  # fmt: skip
    for other in others:
        with pytest.raises(ValueError, match="they must be the same: leave out method and bounds"):
            resumed(method=other)
    with pytest.raises(ValueError, match="they must be the same"):
        resumed(bounds=(0, 5))
    assert path.read_bytes() == before
    assert resumed(method=RMSProp(rates.copy(), bounds=(np.zeros(2), 9.0))).nit == 5
    assert resumed().nit == 5


def test_where_the_files_method_has_code_one_of_its_kind_goes_on(tmp_path):
    path = tmp_path / "run"
    method = RMSProp(lambda step: 0.1, momentum=0.5)
    run = {"fun": None, "x0": X0, "jac": twice}
    minimize(**run, method=method, options={"maxiter": 3, "checkpoint": path})
    for other in (SGD(lambda step: 0.1), RMSProp(lambda step: 0.1), RMSProp(0.1, momentum=0.5)):
        with pytest.raises(ValueError, match=f"{path} is .* they must be the same"):
            minimize(**run, method=other, options={"resume": path})
    with pytest.raises(ValueError, match=f"the run in {path} has no optimizer, as it was code"):
        minimize(**run, options={"resume": path})
    whole = minimize(**run, method=method, options={"maxiter": 9})
    result = minimize(**run, method=method, options={"maxiter": 9, "resume": path})
    np.testing.assert_array_equal(result.x, whole.x)


def test_the_best_point_of_a_file_is_given_only_where_it_is_asked_for(tmp_path):
    path, method = tmp_path / "run", SGD(1.5)  # each step doubles x: the start stays the best
    for best in (True, False):
        files = {"checkpoint": path, "resume": path, "return_best": best}
        result = minimize(sum_of_squares, X0, jac=twice, method=method, options={"maxiter": 12, **files})
        assert (result.x == X0).all() == best


def test_a_file_that_a_callback_has_saved_will_do(tmp_path):
    path, told = tmp_path / "run", []

    def save(intermediate_result):
        if intermediate_result.nit == 14:
            intermediate_result.state.save(path, x=intermediate_result.x)

    whole = minimize(**RUN, callback=save, options={"maxiter": 20})
    options = {"maxiter": 20, "resume": path}
    result = minimize(
        **RUN, callback=lambda intermediate_result: told.append(intermediate_result.nit), options=options
    )
    np.testing.assert_array_equal(result.x, whole.x)
    assert told == [15, 16, 17, 18, 19, 20]
    gpuprop.load_state(path).save(path)
    with pytest.raises(
        ValueError, match=r"a state and not the x .*save\(path, x=x\), or .* options=\{\"state\":"
    ):
        minimize(**RUN, options=options)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"state": METHOD.init(X0), "resume": "run"}, ValueError, "state and resume are given"),
        ({"checkpoint": 3}, TypeError, "checkpoint is 3; it must be the path of a file"),
        ({"resume": X0}, TypeError, "resume is array"),
        ({"checkpoint": "nowhere/run"}, FileNotFoundError, "there is no folder '.*nowhere'; make it first"),
        ({"checkpoint": "."}, ValueError, "is no regular file; name another"),
        (
            {"checkpoint_every": 0},
            ValueError,
            "checkpoint_every is 0; it must be a whole number of at least 1",
        ),
        ({"project": 3}, TypeError, "project is 3; it must be a function"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_runs(
    options, error, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        minimize(None, X0, jac=lambda x: pytest.fail("called"), options=options)


def test_a_point_that_is_not_finite_takes_no_files_place(tmp_path):
    path = tmp_path / "run"

    def jac(x):
        calls.append(1)
        return np.full(2, np.nan) if len(calls) > 14 else 2 * x

    for every, stays in ((5, 10), (7, 7)):  # at step 14 the gradient is not
        calls = []
        options = {"checkpoint": path, "checkpoint_every": every, "check_every": 20, "maxiter": 35}
        result = minimize(None, X0, jac=jac, method=METHOD, options=options)
        assert (result.status, result.nit) == (6, 20)
        state = gpuprop.load_state(path)
        assert state.step == stays
        assert np.isfinite(state.extras["x"]).all()
        path.unlink()


@pytest.mark.parametrize("where", ["jac", "callback", "project"])
def test_after_an_error_of_the_users_the_last_file_stays(where, tmp_path):
    path = tmp_path / "run"

    def broken(x):
        if next(calls) == 14:
            raise ZeroDivisionError
        return 2 * x if where == "jac" else None

    calls, given = count(), RUN | {"fun": None}
    options = {"checkpoint": path, "checkpoint_every": 4, "maxiter": 30}
    broken_run = {**given, "callback": broken} if where == "callback" else {**given, "jac": broken}
    if where == "project":
        broken_run, options = given, {**options, "project": broken}
    with pytest.raises(ZeroDivisionError):
        minimize(**broken_run, options=options)
    assert gpuprop.load_state(path).step == 12
    result = minimize(**given, options={"maxiter": 30, "resume": path})
    np.testing.assert_array_equal(result.x, minimize(**given, options={"maxiter": 30}).x)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the owner of all files may write to any")
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written to; name another"):
        minimize(None, X0, jac=twice, options={"checkpoint": tmp_path / "run"})


def test_a_file_that_cannot_be_written_costs_no_result(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gpuprop.State, "save", full)
    with pytest.warns(RuntimeWarning, match=r"checkpoint at step 5 was not written .*No space left"):
        result = minimize(None, X0, jac=twice, options={"checkpoint": tmp_path / "run", "maxiter": 5})
    assert result.nit == 5
