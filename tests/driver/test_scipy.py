"""Optimizers as methods of scipy.optimize.minimize, on functions of SciPy's own benchmarks."""

import numpy as np
import pytest
import scipy.optimize
from benchmark_functions import FUNCTIONS
from scipy.optimize import Bounds, LinearConstraint, rosen, rosen_der, rosen_hess

import gpuprop
from gpuprop.schedules import exponential_decay

EACH = pytest.mark.parametrize("name", FUNCTIONS)
STEPS = 1500
#: One set of hyperparameters for all.
METHOD = gpuprop.RMSProp(exponential_decay(0.03, STEPS, 1e-5), momentum=0.9, bias_correction=True)
OPTIONS = {"maxiter": STEPS}


def distance(result, function):
    return 0 if function.minimum is None else abs(result.x - function.minimum).max()


@EACH
def test_the_gradient_written_by_hand_is_right(name):
    function, random = FUNCTIONS[name], np.random.default_rng(3)
    for shift in (0, random.normal(size=len(function.start)) / 9):
        check = gpuprop.check_gradient(function.fun, function.jac, np.add(function.start, shift), rng=random)
        assert check, check


@EACH
def test_the_minimum_of_the_literature_is_one(name):
    function = FUNCTIONS[name]
    if function.minimum is None:
        # Four atoms at the corners of a tetrahedron, each two at the bottom of their well.
        corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 2 ** (1 / 6 - 1.5)
        assert function.fun(corners.ravel()) == pytest.approx(function.least, rel=1e-14)
        return
    minimum = np.array(function.minimum, float)
    assert function.fun(minimum) == pytest.approx(function.least, abs=1e-9)
    assert abs(function.jac(minimum)).max() < 1e-6


@EACH
def test_scipy_and_gpuprop_find_the_minimum_by_the_same_bits(name):
    function = FUNCTIONS[name]
    start = np.array(function.start, float)
    by_scipy = scipy.optimize.minimize(function.fun, start, jac=function.jac, method=METHOD, options=OPTIONS)
    # Where the Hessian is singular, as at the minimum of Powell's function, x is known less well.
    assert distance(by_scipy, function) < (1e-2 if name == "powell" else 2e-5)
    assert abs(by_scipy.fun - function.least) < (1e-8 if name == "powell" else 1e-9)
    assert by_scipy.status in (0, 1)
    by_gpuprop = gpuprop.minimize(function.fun, start, jac=function.jac, method=METHOD, options=OPTIONS)
    assert by_scipy.keys() == by_gpuprop.keys()
    for key in by_scipy.keys() - {"state"}:
        np.testing.assert_array_equal(by_scipy[key], by_gpuprop[key])
    assert not (start - function.start).any()


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - {"rosenbrock", "colville", "powell"}))
def test_plain_rmsprop_settles_when_its_rate_falls(name):
    function = FUNCTIONS[name]
    method = gpuprop.RMSProp(lambda step: 0.1 * 1e-4 ** (step / STEPS))
    result = scipy.optimize.minimize(
        function.fun, function.start, jac=function.jac, method=method, options=OPTIONS
    )
    assert distance(result, function) < 2e-5
    assert abs(result.fun - function.least) < 1e-7


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - {"rosenbrock", "colville", "beale"}))
def test_with_its_constant_rate_it_ends_within_about_half_a_step(name):
    function = FUNCTIONS[name]
    result = scipy.optimize.minimize(
        function.fun, function.start, jac=function.jac, method=gpuprop.RMSProp(), options=OPTIONS
    )
    assert distance(result, function) < 0.07
    assert result.success or "learning rate is constant" in result.message


@pytest.mark.parametrize(
    "method",
    [
        gpuprop.SGD(0.1, momentum=0.5),
        gpuprop.AdaGrad(1.0),
        gpuprop.Adam(0.1),
        gpuprop.AdamW(0.1, weight_decay=0.0),
        gpuprop.RMSProp.pytorch(0.01, momentum=0.9, centered=True),
        gpuprop.RuleOptimizer(
            gpuprop.Rule("descent", reads=("g",), writes=("x",), scalars=("rate",), body="x = x - rate * g"),
            rate=lambda step: 1 / (step + 3),
        ),
    ],
    ids=lambda method: type(method).__name__,
)
def test_every_optimizer_is_a_method(method):
    booth = FUNCTIONS["matyas"]
    result = scipy.optimize.minimize(booth.fun, [2.0, -1.0], jac=booth.jac, method=method)
    assert isinstance(result, scipy.optimize.OptimizeResult)
    assert result.fun < 0.05 * booth.fun(np.array([2.0, -1.0]))
    assert result.state.optimizer is method


def test_jac_true_takes_one_evaluation_a_point_through_scipy_too():
    calls = []

    def both(x):
        calls.append(x.copy())
        return rosen(x), rosen_der(x)

    arguments = {"x0": [1.1] * 5, "jac": True, "method": METHOD, "options": {"maxiter": 30}}
    by_scipy = scipy.optimize.minimize(both, **arguments)
    assert by_scipy.nfev == by_scipy.njev == len(calls) == 31
    by_gpuprop = gpuprop.minimize(both, **arguments)
    np.testing.assert_array_equal(by_scipy.x, by_gpuprop.x)
    assert by_gpuprop.nfev == 31


@pytest.mark.parametrize("jac", [None, "2-point", False])
def test_without_a_gradient_scipys_differences_are_taken(jac):
    booth = FUNCTIONS["booth"]
    result = scipy.optimize.minimize(booth.fun, booth.start, jac=jac, method=METHOD, options=OPTIONS)
    assert distance(result, booth) < 1e-5
    assert result.nfev == 3 * result.njev


@pytest.mark.parametrize("bounds", [[(0, 0.5), (None, None)], Bounds([0, -np.inf], [0.5, np.inf])])
def test_bounds_are_kept_as_lbfgsb_keeps_them(bounds):
    arguments = {"x0": [2.0, -1.0], "jac": rosen_der, "bounds": bounds}
    ours = scipy.optimize.minimize(rosen, **arguments, method=METHOD, options=OPTIONS)
    theirs = scipy.optimize.minimize(rosen, **arguments, method="L-BFGS-B")
    assert ours.success
    np.testing.assert_allclose(ours.x, theirs.x, atol=1e-5)
    assert ours.x[0] == 0.5


def test_tol_and_args_are_handed_on():
    def fun(x, a):
        return np.sum((x - a) ** 2)

    loose, tight = (
        scipy.optimize.minimize(fun, [0.0], (2.0,), METHOD, lambda x, a: 2 * (x - a), tol=tol)
        for tol in (1, 1e-6)
    )
    assert loose.nit < tight.nit
    assert abs(loose.jac[0]) <= 1
    assert tight.x == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("new_kind", [False, True])
def test_stop_iteration_ends_a_run_as_maxiter_would_and_calls_nothing_more(new_kind):
    # What SciPy's own tests ask of its methods (test_callback_stopiteration).
    called = []

    def note(value):
        called.append("function")
        return value

    def stop():
        called.append("callback")
        if called.count("callback") == 5:
            raise StopIteration

    def callback(xk):
        stop()

    def callback_of_a_result(*, intermediate_result):
        assert intermediate_result.fun == rosen(intermediate_result.x)
        stop()

    arguments = {"fun": lambda x: note(rosen(x)), "jac": lambda x: note(rosen_der(x)), "method": METHOD}
    arguments["x0"] = [1.1] * 5
    stopped = scipy.optimize.minimize(**arguments, callback=callback_of_a_result if new_kind else callback)
    if new_kind:
        assert called[-1] == "callback"
    limited = scipy.optimize.minimize(**arguments, options={"maxiter": 5})
    assert stopped.nit == limited.nit == 5
    assert (stopped.status, stopped.success) == (99, False)
    assert stopped.fun == limited.fun
    np.testing.assert_array_equal(stopped.x, limited.x)


def test_a_hessian_is_not_used_and_scipys_kind_of_warning_says_so():
    with pytest.warns(RuntimeWarning, match="hess is given and not used"):
        scipy.optimize.minimize(
            rosen, [1.1, 1.2], jac=rosen_der, hess=rosen_hess, method=METHOD, options={"maxiter": 1}
        )


@pytest.mark.parametrize(
    "constraints",
    [{"type": "eq", "fun": np.sum}, [{"type": "eq", "fun": np.sum}], LinearConstraint([1, 1], 0, 1)],
)
def test_constraints_are_refused(constraints):
    with pytest.raises(ValueError, match="constraints are given and can only be bounds here"):
        scipy.optimize.minimize(rosen, [1.1, 1.2], jac=rosen_der, method=METHOD, constraints=constraints)


def test_a_global_search_of_scipys_can_descend_by_it():
    camel = FUNCTIONS["six-hump camel"]
    method = gpuprop.RMSProp(exponential_decay(0.03, 400, 1e-5), momentum=0.9, bias_correction=True)
    local = {"method": method, "jac": camel.jac, "options": {"maxiter": 400}}
    assert scipy.optimize.minimize(camel.fun, [1.6, 0.6], **local).fun > 2
    found = scipy.optimize.basinhopping(camel.fun, [1.6, 0.6], niter=12, minimizer_kwargs=local, seed=4)
    assert found.fun == pytest.approx(camel.least, abs=1e-6)
