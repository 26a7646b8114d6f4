"""What the driver is given, and what functions give it: what is welcome, and how the rest is refused."""

import re
from contextlib import nullcontext
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from descents import both, falling, sum_of_squares, twice
from scipy.optimize import Bounds, OptimizeWarning

import gpuprop
from gpuprop import RMSProp, minimize


def check(fun, x, jac, **options):
    """`check_gradient` with arguments like those of `minimize`."""
    return gpuprop.check_gradient(fun, jac, x, **options)


DOORS = pytest.mark.parametrize("door", [minimize, scipy.optimize.minimize])
EACH = pytest.mark.parametrize("door", [minimize, check])


@pytest.mark.parametrize("masked", ["x0", "the gradient", "the gradient of a pair", "f", "a bound", "step"])
@pytest.mark.parametrize("door", [minimize, scipy.optimize.minimize, check])
def test_masked_arrays_are_refused_wherever_they_come_from(door, masked):
    def given(what, value):
        return np.ma.array(value, mask=np.indices(np.shape(value)).sum(0) == 0) if what == masked else value

    def fun(x):
        f = given("f", sum_of_squares(x))
        return (f, given("the gradient of a pair", 2 * x)) if joint else f

    joint = masked == "the gradient of a pair"
    jac = True if joint else lambda x: given("the gradient", 2 * x)
    x0 = given("x0", np.array([3.0, 4.0]))
    if door is check:
        options, passes = {"step": given("step", np.full(2, 1e-5))}, masked == "a bound"
    else:
        bounds = given("a bound", np.array([[-9.0, 9.0], [-8.0, 8.0]]))
        options = {"bounds": bounds, "method": falling()}
        passes = masked == "step" or (door is not minimize and masked == "x0")  # SciPy takes off its mask
    with nullcontext() if passes else pytest.raises(TypeError, match="is a masked array"):
        door(fun, x0, jac=jac, **options)


@EACH
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize(
    ("shape", "given"), [((2, 3), (3, 2)), ((2, 3), (6,)), ((4,), (2, 2)), ((4,), (1, 4)), ((4,), (4, 1))]
)
def test_a_gradient_of_the_right_size_must_have_the_right_shape(door, shape, given, joint):
    def jac(x):
        return (2 * x).reshape(given)

    functions = (lambda x: (sum_of_squares(x), jac(x)), True) if joint else (sum_of_squares, jac)
    message = f"the gradient has shape {given} and dtype float64, and x has {shape} .* in the shape of x"
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        door(functions[0], np.ones(shape), jac=functions[1])


def sparse(x):
    return scipy.sparse.csr_array(np.atleast_2d(x))


@EACH
@pytest.mark.parametrize(
    ("fun", "jac", "message"),
    [
        (lambda x: None, twice, "fun gave None; it must give one real number"),
        (lambda x: "high", twice, "fun gave 'high'; it must give one real number"),
        (lambda x: "3.5", twice, "fun gave '3.5'; it must give one real number"),
        (lambda x: {1.0}, twice, "fun gave a builtins.set; it must give one real number"),
        (both, twice, r"fun gave a builtins.tuple of 2; .* or with jac=True the pair \(f, gradient\)"),
        (lambda x: (1.0, 2.0), twice, "fun gave a builtins.tuple of 2; .* jac=True"),
        (lambda x: (None, 2 * x), True, "fun gave None; it must give one real number"),
        (sparse, twice, "f is a scipy.sparse.*, which is sparse"),
        (sum_of_squares, lambda x: None, "the gradient is None, of which NumPy makes no array of numbers"),
        (sum_of_squares, lambda x: ["1", "2"], "the gradient is a builtins.list of 2, .*its dtype is <U1"),
        (sum_of_squares, lambda x: [None, 1], "the gradient is a builtins.list of 2, of which NumPy makes"),
        (
            sum_of_squares,
            lambda x: [[1], [1, 2]],
            "the gradient is a builtins.list of 2, .*numpy.concatenate",
        ),
        (sum_of_squares, both, r"the gradient is a builtins.tuple of 2, .*pack.* \(f, gradient\) .*jac=True"),
        (sum_of_squares, sparse, "the gradient is a scipy.sparse.*, which is sparse; .*toarray"),
    ],
)
def test_what_is_no_number_or_no_array_is_named(door, fun, jac, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        door(fun, [1.0, 2.0], jac=jac)


@EACH
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (None, "is None, of which"),
        ("1", "is '1', of which"),
        ([np.ones((2, 2)), np.ones(3)], "is a builtins.list of 2, of which .*gpuprop.pack"),
        (scipy.sparse.eye_array(3), "is a scipy.sparse.*, which is sparse; .*toarray"),
    ],
)
def test_a_point_that_is_no_array_of_numbers_is_named(door, x, message):
    with pytest.raises(TypeError, match=f"^x0? {message}"):
        door(sum_of_squares, x, jac=twice)


@pytest.mark.parametrize(
    ("fun", "jac", "message"),
    [
        (sum_of_squares, lambda x: x[:1], r"the gradient has shape \(1,\).* x has \(2,\)"),
        (
            sum_of_squares,
            lambda x: 1j * x,
            "dtype complex128 and x has float64; start from a complex x0",
        ),
        (lambda x: x, twice, r"fun gave shape \(2,\).* must give one real number"),
        (lambda x: 1j, twice, "fun gave .* complex128; it must give one real number"),
        (sum_of_squares, "newton", "jac is 'newton'; it must be a function"),
        (sum_of_squares, 1, "jac is 1; it must be a function"),
        (sum_of_squares, np.ones(2), r"jac is array.*; it must be a function"),
        (None, None, "fun is None and jac is None"),
        (None, True, "fun is None and jac is True"),
    ],
)
def test_functions_that_give_the_wrong_thing_are_named(fun, jac, message):
    with pytest.raises(ValueError, match=message):
        minimize(fun, [1.0, 2.0], jac=jac)


def test_jac_true_needs_a_pair():
    with pytest.raises(
        TypeError, match=r"fun gave a float; with jac=True it must give the pair \(f, gradient\)"
    ):
        minimize(sum_of_squares, [1.0], jac=True)


@pytest.mark.parametrize("name", ["jac", "bounds", "callback", "x0", "optimizer"])
def test_arguments_among_the_options_are_named(name):
    with pytest.raises(TypeError, match=f"options has {name}; pass such arguments beside options"):
        minimize(sum_of_squares, [1.0], options={name: twice})


@pytest.mark.parametrize("method", ["BFGS", RMSProp, "RMSProp"])
def test_a_method_that_is_no_optimizer_is_refused(method):
    with pytest.raises(TypeError, match=r"it must be an optimizer such as gpuprop.RMSProp\(\)"):
        minimize(sum_of_squares, [1.0], jac=twice, method=method)


@pytest.mark.parametrize(
    ("name", "value"),
    [("gtol", -1), ("gtol", np.nan), ("xtol", -1), ("maxiter", -1), ("maxiter", 1.5), ("maxiter", np.inf),
     ("maxiter", np.nan), ("maxiter", "9"), ("maxiter", True), ("maxfev", 0), ("maxfev", -1e3),
     ("check_every", 0), ("check_every", 0.0), ("check_every", [3]), ("maxtime", -2)],
)  # fmt: skip
def test_options_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=re.escape(f"{name} is {value!r}")):
        minimize(sum_of_squares, [1.0], jac=twice, options={name: value})


@DOORS
@pytest.mark.parametrize("kind", [float, np.float32, np.int16, Fraction, lambda n: np.array(n)])
def test_whole_numbers_may_be_floats(door, kind):
    options = {"maxiter": kind(9), "maxfev": kind(99), "check_every": kind(3)}
    result = door(sum_of_squares, [5.0, 4.0], jac=twice, method=falling(), options=options)
    assert (result.nit, result.nfev, result.status) == (9, 4, 1)
    assert "maxiter = 9 steps" in result.message
    assert minimize(sum_of_squares, [5.0, 4.0], jac=twice, options=options).nit == 9


def test_unknown_options_are_named_as_scipy_names_them():
    with pytest.warns(OptimizeWarning, match="unknown options eps, xrtol are ignored; there are .*gtol"):
        minimize(sum_of_squares, [1.0], jac=twice, options={"xrtol": 1, "eps": 1, "maxiter": 1})


def test_nothing_to_minimise_is_refused():
    with pytest.raises(ValueError, match=r"x0 has shape \(0,\)"):
        minimize(sum_of_squares, [], jac=twice)


@DOORS
@pytest.mark.parametrize(
    "callback",
    [lambda x, state: None, lambda: None, lambda x, *, f: None, lambda intermediate_result, x: None],
)
def test_a_callback_of_another_number_of_arguments_is_refused_before_anything_runs(door, callback):
    def jac(x):
        pytest.fail("called")

    with pytest.raises(TypeError, match=r"callback takes \(.*\); it must be a function of one argument"):
        door(sum_of_squares, [5.0], jac=jac, method=falling(), callback=callback)


@pytest.mark.parametrize("callback", [lambda x, f=0: None, lambda *x: None, print, np.array, dict])
def test_a_callback_may_take_more_than_it_must(callback, capsys):
    assert minimize(None, [(5.0, 4.0)], jac=twice, callback=callback, options={"maxiter": 2}).nit == 2


def test_an_optimizer_in_the_place_of_args_is_told_its_place():
    with pytest.raises(TypeError, match=r"args is SGD\(.*; pass method=SGD"):
        gpuprop.minimize(None, np.ones(2), gpuprop.SGD(), jac=lambda x: x)


@pytest.mark.parametrize("bounds", [(1j, 2j), [(0, "a"), (0, 1)], Bounds([0, 1j], 2)], ids=repr)
def test_bounds_that_are_no_real_numbers_are_refused(bounds):
    words = r"^a bound (has dtype complex128|is a .*no array of numbers)"
    with pytest.raises((TypeError, ValueError), match=words):
        gpuprop.minimize(None, np.ones(2), jac=lambda x: x, bounds=bounds)
