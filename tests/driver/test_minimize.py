import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
from descents import CURVATURE, TARGET, Quadratic, both, falling, sum_of_squares, twice
from scipy.optimize import OptimizeResult

import gpuprop
from gpuprop import RMSProp, minimize


def test_the_result_is_scipys_with_its_usual_entries(backend):
    problem = Quadratic(backend)
    x0 = backend.asarray(np.zeros(4))
    result = minimize(problem.fun, x0, jac=problem.jac, method=falling(), options={"gtol": 1e-3})
    assert isinstance(result, OptimizeResult)
    x = result.x
    assert (type(x), x.shape, x.dtype) == (type(x0), x0.shape, x0.dtype)
    assert not backend.to_host(x0).any()
    assert abs(backend.to_host(x) - TARGET).max() < 1e-3 / CURVATURE.min()
    assert (result.status, result.success) == (0, True)
    assert "within gtol" in result.message
    assert (result.nfev, result.njev) == (problem.funs, problem.jacs)
    assert result.njev == result.nit + 1
    assert result.nfev == result.nit // 10 + 1
    assert isinstance(result.fun, float)
    assert result.fun == float(problem.fun(x))
    np.testing.assert_array_equal(backend.to_host(result.jac), backend.to_host(problem.jac(x)))
    assert abs(backend.to_host(result.jac)).max() <= 1e-3
    assert result.state.step == result.nit


def test_jac_true_takes_one_evaluation_a_point(backend):
    problem, apart = Quadratic(backend), Quadratic(backend)
    x0 = backend.asarray(np.zeros(4))
    result = minimize(problem.both, x0, jac=True, method=falling())
    assert result.success
    assert result.nfev == result.njev == problem.funs == result.nit + 1
    of_two = minimize(apart.fun, x0, jac=apart.jac, method=falling())
    np.testing.assert_array_equal(backend.to_host(result.x), backend.to_host(of_two.x))
    assert (result.nit, result.fun) == (of_two.nit, of_two.fun)


def test_a_gradient_alone_is_enough(backend):
    problem = Quadratic(backend)
    result = minimize(None, backend.asarray(np.zeros(4)), jac=problem.jac, method=falling())
    assert result.success
    assert (result.fun, result.nfev) == (None, 0)
    assert abs(backend.to_host(result.x) - TARGET).max() < 1e-4


@pytest.mark.parametrize("option", [{"ftol": 1e-3}, {"maxfev": 9}, {"return_best": True}])
def test_without_a_function_what_needs_one_is_refused(option):
    with pytest.raises(ValueError, match=f"fun is None and {next(iter(option))} is given"):
        minimize(None, [1.0], jac=twice, options=option)


def test_further_arguments_reach_both_functions():
    calls = []
    result = minimize(
        lambda x, a, b: calls.append((a, b)) or a * np.sum((x - b) ** 2), [0.0], args=(2, 1),
        jac=lambda x, a, b: calls.append((a, b)) or 2 * a * (x - b), method=falling(),
    )  # fmt: skip
    assert set(calls) == {(2, 1)}
    assert result.x == pytest.approx(1, abs=1e-5)
    alone = minimize(lambda x, a: np.sum((x - a) ** 2), [0.0], args=1.0, jac=lambda x, a: 2 * (x - a))
    assert alone.x == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("door", [minimize, scipy.optimize.minimize])
def test_positional_arguments_come_as_in_scipy(door):
    def fun(x, a):
        return np.sum((x - a) ** 2)

    result = door(fun, [0.0], (2.0,), falling(), lambda x, a: 2 * (x - a))
    assert result.x == pytest.approx(2, abs=1e-5)


def test_the_default_method_settles_on_a_curved_valley():
    from scipy.optimize import rosen, rosen_der

    result = minimize(rosen, [-1.2, 1, 0.5], jac=rosen_der)
    assert result.success
    np.testing.assert_allclose(result.x, 1, atol=1e-4)


def test_a_constant_learning_rate_is_named_as_what_keeps_x_moving():
    problem = Quadratic(gpuprop.select_backend("cpu"))
    result = minimize(problem.fun, np.zeros(4), jac=problem.jac, method=RMSProp(), options={"maxiter": 999})
    assert 0.01 < abs(result.x - TARGET).max() < 0.2
    assert (result.status, result.success) == (1, False)
    assert "the learning rate is constant" in result.message
    assert (
        "constant" not in minimize(None, [5.0], jac=twice, method=falling(), options={"maxiter": 3}).message
    )


def test_the_best_of_the_checks_can_be_returned(backend):
    problem = Quadratic(backend)
    path = [backend.asarray(np.zeros(4))]
    options = {"maxiter": 95, "return_best": True}
    optimizer = RMSProp(0.5)  # hops about the minimum
    result = minimize(
        problem.fun, path[0], jac=problem.jac, method=optimizer, callback=path.append, options=options
    )
    best = min((path[k] for k in [*range(0, 95, 10), 95]), key=lambda x: float(problem.fun(x)))
    np.testing.assert_array_equal(backend.to_host(result.x), backend.to_host(best))
    assert result.fun == float(problem.fun(best)) < float(problem.fun(path[-1]))
    np.testing.assert_array_equal(backend.to_host(result.jac), backend.to_host(problem.jac(best)))
    assert result.nit == 95


def test_the_best_survives_a_function_that_becomes_nan():
    def fun(x):
        return np.nan if x[0] < 3 else x[0] ** 2

    result = minimize(fun, [5.0], jac=twice, method=RMSProp(), options={"return_best": True})
    assert result.status == 6
    assert result.x[0] >= 3
    assert result.fun == result.x[0] ** 2


def test_maximize_climbs_and_its_best_is_the_greatest():
    def fun(x):
        return 3 - sum_of_squares(x - 1)

    def jac(x):
        return -2 * (x - 1)

    settled = minimize(fun, [5.0, 4.0], jac=jac, method=falling(maximize=True))
    assert settled.success
    np.testing.assert_allclose(settled.x, 1, atol=1e-4)
    path = [np.array([5.0, 4.0])]
    options = {"maxiter": 95, "return_best": True}
    hopping = RMSProp(0.5, rho=0.5, maximize=True)
    result = minimize(fun, path[0], jac=jac, method=hopping, callback=path.append, options=options)
    assert result.fun == max(fun(path[k]) for k in [*range(0, 95, 10), 95]) > fun(path[-1])


def test_a_last_point_that_is_the_best_is_not_evaluated_again():
    result = minimize(
        both, [5.0, 4.0], jac=True, method=falling(), options={"maxiter": 9, "return_best": True}
    )
    assert result.nfev == result.njev == 10


def test_progress_is_shown_on_stderr_only_when_asked_for(capfd):
    options = {"maxiter": 40}
    quiet = minimize(sum_of_squares, [5.0, 4.0], jac=twice, options=options)
    assert capfd.readouterr() == ("", "")
    shown = minimize(sum_of_squares, [5.0, 4.0], jac=twice, options={**options, "disp": True})
    out, err = capfd.readouterr()
    assert out == ""
    assert "40/40" in err
    assert f"f = {shown.fun:.6g}, gradient = {abs(shown.jac).max():.3g}" in err
    assert err.splitlines()[-1].startswith(f"{shown.message} f = {shown.fun}, ")
    np.testing.assert_array_equal(quiet.x, shown.x)


def test_a_run_by_the_default_method_goes_on_with_the_method_of_its_state():
    options = {"maxiter": 60, "gtol": None}
    problem = {"fun": sum_of_squares, "jac": twice}
    bounded = {**problem, "x0": [5.0, 4.0], "bounds": [(-9, 9), (-8, 9)], "options": options}
    whole = minimize(**bounded)
    first = minimize(**bounded, callback=lambda intermediate_result: intermediate_result.nit == 25)
    second = minimize(x0=first.x, options={**options, "state": first.state}, **problem)
    assert (first.nit, second.nit) == (25, 60)
    np.testing.assert_array_equal(second.x, whole.x)
    lower, upper = second.state.optimizer.bounds
    assert (lower.tolist(), upper) == ([-9, -8], 9)


def test_a_state_whose_optimizer_was_code_needs_a_method(tmp_path):
    optimizer = RMSProp(lambda step: 0.1)
    state = minimize(None, [5.0], jac=twice, method=optimizer, options={"maxiter": 5}).state
    state.save(tmp_path / "state")
    loaded = gpuprop.load_state(tmp_path / "state")
    with pytest.raises(ValueError, match=r"state has no optimizer, as it was code .*; pass method="):
        minimize(None, [5.0], jac=twice, options={"state": loaded})
    assert loaded.step == 5
    options = {"state": loaded, "maxiter": 8}
    assert minimize(None, [5.0], jac=twice, method=optimizer, options=options).nit == 8


def test_coupled_weight_decay_counts_as_a_part_of_the_gradient():
    result = minimize(None, [5.0], jac=lambda x: 2 * (x - 1), method=falling(weight_decay=1.0))
    assert result.success
    assert result.x == pytest.approx(2 / 3, abs=1e-5)
    assert result.jac == pytest.approx(-2 / 3, abs=1e-4)


@pytest.mark.slow
def test_scipy_and_tqdm_are_imported_only_when_needed_and_the_name_stays_a_function():
    code = """
import sys, numpy as np, gpuprop
assert not {"scipy", "tqdm"} & set(sys.modules), sorted(sys.modules)
gpuprop.SGD(0.1)(None, np.ones(2), jac=lambda x: 2 * x)
assert "scipy" in sys.modules and "tqdm" not in sys.modules
print(gpuprop.minimize(None, [1.0], jac=lambda x: 2 * x).success)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_optimizer_given_is_not_changed_by_bounds():
    optimizer = falling()
    same = replace(optimizer)
    minimize(sum_of_squares, [5.0], jac=twice, method=optimizer, bounds=(0, 1), options={"maxiter": 3})
    assert optimizer == same
