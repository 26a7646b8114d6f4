import math

import numpy as np
import pytest
from descents import cubic, cubic_der, point, wrong_in

import gpuprop
from gpuprop import check_gradient


def test_f_may_be_large_beside_its_changes():
    x = np.linspace(1, 2, 100)
    assert check_gradient(lambda x: 1e9 + cubic(x), cubic_der, x)
    assert not check_gradient(lambda x: 1e9 + cubic(x), lambda x: 1.1 * x * x, x)


def test_a_function_of_another_scale_than_one():
    x = np.array([1.1e-9, 2e-9, 3e-9])
    assert check_gradient(lambda x: np.sin(1e9 * x).sum(), lambda x: 1e9 * np.cos(1e9 * x), x)
    assert not check_gradient(lambda x: np.sin(1e9 * x).sum(), lambda x: np.cos(1e9 * x), x)


def test_a_step_of_ones_own_where_scales_differ():
    x = np.array([1e-3, 2.0, 3e5])
    assert "cannot tell" in str(check_gradient(lambda x: np.log(x).sum(), lambda x: 1 / x, x))
    assert check_gradient(lambda x: np.log(x).sum(), lambda x: 1 / x, x, step=1e-6 * x)
    wrong = check_gradient(lambda x: np.log(x).sum(), lambda x: np.array([1e3, 0.5, 1.0]), x, step=1e-6 * x)
    assert [component.index for component in wrong.wrong] == [(2,)]


@pytest.mark.parametrize(
    ("fun", "jac", "x"),
    [
        (lambda x: np.sum(x**2), lambda x: 2 * x, np.zeros(3)),  # a minimum
        (lambda x: 1e18 + np.sum(x**2), lambda x: 2 * x, np.ones(30)),  # all rounding
        (lambda x: np.sum(abs(x)), np.sign, np.zeros(3)),  # a corner
        (lambda x: np.nan, lambda x: 2 * x, np.ones(3)),
    ],
)
def test_where_differences_cannot_tell_the_gradient_is_not_called_right(fun, jac, x):
    check = check_gradient(fun, jac, x)
    assert not check
    assert check.wrong == ()
    assert "Differences cannot tell" in str(check)


def test_a_wrong_gradient_is_seen_at_a_minimum_too():
    check = check_gradient(lambda x: np.sum(x**2), lambda x: 2 * x + [0, 1, 0], np.zeros(3))
    assert [(c.index, c.given) for c in check.wrong] == [((1,), 1)]
    assert abs(check.wrong[0].measured) < 1e-6
    negative_zero = check_gradient(cubic, lambda x: -0.0 * x, [1.0])
    assert str(negative_zero) == "The gradient is wrong: component 0 is 0 and differences give 1."


def test_rtol_says_how_much_is_allowed():
    x = np.linspace(1, 2, 50)
    nearly = lambda x: x * x * (1 + 1e-4)  # noqa: E731
    assert not check_gradient(cubic, nearly, x)
    assert check_gradient(cubic, nearly, x, rtol=1e-2)


@pytest.mark.parametrize("step", [0, -1e-6, math.nan, math.inf, "a", 1j, [1e-6] * 3])
def test_a_step_that_is_no_distance_is_refused(step):
    with pytest.raises(
        ValueError, match=r"step is .*; it must be a number or an array like x, finite and above"
    ):
        check_gradient(cubic, cubic_der, [1.0, 2.0], step=step)


@pytest.mark.parametrize("step", [1e-300, [1e-6, 1e-30]])
def test_a_step_that_does_not_move_x_tells_nothing(step):
    check = check_gradient(cubic, cubic_der, [1.0, 2.0], step=step)
    assert not check
    assert check.wrong == ()
    assert "the step in that of x" in str(check)


@pytest.mark.parametrize("n", [3, 300])
def test_a_function_that_computes_in_float32_and_gives_a_float(n):
    def fun(x):
        return float(cubic(x.astype("float32")))

    x = point(gpuprop.select_backend("numpy"), n)
    assert check_gradient(fun, cubic_der, x)
    (component,) = check_gradient(fun, wrong_in(1, factor=4), x).wrong
    assert component.index == (1,)
    assert check_gradient(lambda x: 3.0, lambda x: np.ones_like(x), x).wrong
