"""What is said at the end: of maxiter, and of what the last checks show."""

import numpy as np
import pytest
from benchmark_functions import FUNCTIONS
from descents import sum_of_squares, twice

import gpuprop
from gpuprop import SGD, RMSProp, minimize
from gpuprop.driver.stopping.outcome import trend

X0 = np.array([5.0, 4.0])
STEADY = "was still falling at a steady pace: a larger learning rate, or maxiter, would lead further"
CONSTANT = "the learning rate is constant, and one that falls (gpuprop.schedules) lets x settle"


@pytest.mark.parametrize("gtol", [None, 0.0, 1e-45])
@pytest.mark.parametrize(
    ("rate", "fun", "said"),
    [
        (1e-4, sum_of_squares, f"; f {STEADY}"),
        (1e-4, None, f"; the gradient {STEADY}"),
        (0.3, sum_of_squares, ""),
    ],
)
def test_a_run_that_maxiter_ends_says_how_far_it_is_and_what_its_last_checks_show(rate, fun, said, gtol):
    method = SGD(lambda step: rate)
    result = minimize(fun, X0, jac=twice, method=method, options={"maxiter": 100, "gtol": gtol})
    of_gtol = "" if gtol is None else f" and gtol is {gtol:g}"
    assert result.message == (
        "The limit of maxiter = 100 steps was reached, where the largest component of the gradient is "
        f"{abs(result.jac).max():.3g}{of_gtol}{said}."
    )


def noisy(noise):
    return lambda x: 2 * x + next(noise)


@pytest.mark.parametrize("constant", [True, False])
def test_a_rate_that_is_too_large_is_named(constant):
    method = SGD(0.1 if constant else lambda step: 0.1)
    noise = iter(np.random.default_rng(2).normal(size=(101, 2)))
    options = {"maxiter": 100, "gtol": None}
    result = minimize(sum_of_squares, X0, jac=noisy(noise), method=method, options=options)
    assert "f went to and fro at the last checks: the learning rate is" in result.message
    assert ("constant and too large, and one that falls" in result.message) == constant


def test_where_a_noisy_gradient_keeps_x_moving_the_average_that_is_advised_helps():
    """The guide to learning rates has the other advice in numbers."""
    noise = iter(np.random.default_rng(2).normal(size=(300, 2)))
    method = RMSProp("auto", rho=0.97, momentum=0.9, bias_correction=True, parameter_average=0.9)
    options = {"maxiter": 100, "gtol": None}
    result = minimize(sum_of_squares, X0, jac=noisy(noise), method=method, options=options)
    assert (
        "f went to and fro at the last checks: if the gradient is noisy, as of mini-batches, "
        "parameter_average evens x out, and a learning rate of your own that falls" in result.message
    )
    assert sum_of_squares(result.state.parameter_average) < result.fun / 2


def test_ascent_is_said_to_rise():
    method = SGD(lambda step: 1e-4, maximize=True)
    result = minimize(
        lambda x: -sum_of_squares(x), X0, jac=lambda x: -2 * x, method=method, options={"maxiter": 60}
    )
    assert "f was still rising at a steady pace" in result.message


def test_a_run_that_has_arrived_as_far_as_its_digits_go_is_said_to_have():
    """1 + x² is 1 long before its gradient is 0."""
    run = {"fun": lambda x: 1 + sum_of_squares(x), "x0": X0, "jac": twice, "method": SGD(lambda step: 0.1)}
    options = {"gtol": 1e-30, "maxiter": 250}
    result = minimize(**run, options=options)
    said = "f has not changed over the last checks: x may have arrived as far as its digits go (ftol = 0 ends"
    assert said in result.message
    assert f"gradient is {abs(result.jac).max():.3g} and gtol is 1e-30;" in result.message
    assert result.fun == 1
    sooner = minimize(**run, options={**options, "ftol": 0.0})
    assert (sooner.status, sooner.fun) == (5, 1)
    assert sooner.nit < 250
    # With a gradient alone nobody knows: that of a plane never changes.
    plane = minimize(None, X0, jac=np.ones_like, method=run["method"], options=options)
    assert plane.message.endswith("gradient is 1 and gtol is 1e-30.")


def test_from_one_side_to_the_other_f_does_not_change_either():
    trid = FUNCTIONS["trid"]
    result = minimize(trid.fun, trid.start, jac=trid.jac, method=RMSProp(), options={"maxiter": 1000})
    assert abs(result.x - trid.minimum).max() > 0.04
    assert "f has not changed" in result.message
    assert result.message.endswith(f"or go to and fro, as {CONSTANT}.")


LOOK = "check the sign of the gradient (gpuprop.check_gradient), or take a smaller learning rate."


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ({"maxiter": 100}, 1, " f rose from 41 at step 0 to 2151.88 at step 100, and is to fall: "),
        ({"maxiter": 105}, 1, " f rose from 41 at step 0 to 2623.13 at step 105, and is to fall: "),
        ({"maxiter": 100, "return_best": True}, 1, " f rose from 41 at step 0 to 2151.88 at step 100, "),
        ({"maxfev": 3}, 2, " f rose from 41 at step 0 to 90.5296 at step 20, and is to fall: "),
        ({"maxiter": 10**5, "check_every": 10**5}, 6, " f rose from 41 at step 0 to inf at step 100000, "),
        ({"bounds": (-9, 9), "check_every": 100}, 0, " f rose from 41 at step 0 to 162 at step 100, "),
        (
            {"bounds": (-9, 9), "gtol": None, "maxiter": 900},
            1,
            " f rose from 41 at step 0 to 162 at step 900, ",
        ),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_gradient_of_the_wrong_sign_is_named_whatever_ends_the_run(options, status, said):
    """Against bounds it even ends in success."""
    bounds, options = options.get("bounds"), {k: v for k, v in options.items() if k != "bounds"}
    run = {"jac": lambda x: -2 * x, "method": SGD(0.01), "bounds": bounds, "options": options}
    result = minimize(sum_of_squares, X0, **run)
    assert result.status == status
    assert said in result.message
    assert result.message.endswith(LOOK)
    assert "constant" not in result.message


def test_f_above_its_start_is_said_of_other_runs():
    def message(method, sign=1, maxiter=20):
        run = {"jac": lambda x: sign * twice(x), "method": method, "options": {"maxiter": maxiter}}
        return minimize(lambda x: sign * sum_of_squares(x), X0, **run).message

    f = f"{41 * 1.2**40:.6g} at step 20"
    assert message(SGD(1.1)).endswith(f" f rose from 41 at step 0 to {f}, and is to fall: {LOOK}")
    rising = message(SGD(1.1, maximize=True), sign=-1)
    assert rising.endswith(f" f fell from -41 at step 0 to -{f}, and is to rise: {LOOK}")
    # After one step that was too long it is on its way back, and needs no more than to hear how far it is.
    back = message(SGD(lambda step: 1e-4 + 100 * (step < 1)), maxiter=100)
    assert back.endswith(f"; f {STEADY}. f rose from 41 at step 0 to 1.5606e+06 at step 100.")


def test_nothing_of_a_start_is_said_where_that_is_unclear():
    """Of what rounding may have made of f, of a gradient alone, and of a saddle's two signs."""
    options = {"maxiter": 20}
    rounding = minimize(lambda x: 1 + 1e-12 * x.sum(), X0, jac=lambda x: -x, options=options)
    assert rounding.fun > 1 + 9e-12
    alone = minimize(None, X0, jac=lambda x: -x, options=options)
    saddle = minimize(
        lambda x: np.sum(x["a"] ** 2 - x["b"] ** 2),
        {"a": X0, "b": X0 / 9},
        jac=lambda x: {"a": 2 * x["a"], "b": -2 * x["b"]},
        method=gpuprop.Groups(a=SGD(0.1, maximize=True), b=SGD(0.1)),
        options=options,
    )
    assert saddle.fun > 1e4  # which a rises, as it is to, while b falls
    assert not [run.message for run in (rounding, alone, saddle) if " rose " in run.message]


@pytest.mark.parametrize("scaled", [False, True])
def test_a_rate_that_a_callback_scales_is_not_called_constant(scaled):
    def halve(intermediate_result):
        if scaled and intermediate_result.nit % 20 == 0:
            intermediate_result.state.rate_scale /= 2

    run = {"jac": twice, "callback": halve, "options": {"maxiter": 60}}
    result = minimize(sum_of_squares, X0, method=RMSProp(), **run)
    assert ("learning rate is constant" in result.message) != scaled


@pytest.mark.parametrize("scaled", [False, True])
def test_nor_that_of_one_array_among_several(scaled):
    def halve(intermediate_result):
        if scaled:
            intermediate_result.state["b"].rate_scale /= 2

    def message(**rates):
        method = gpuprop.Groups({name: SGD(rate) for name, rate in rates.items()})
        options = {"maxiter": 3, "gtol": None}
        run = {"x0": dict.fromkeys(rates, X0), "jac": dict, "callback": halve, "options": options}
        return minimize(lambda x: sum(map(sum_of_squares, x.values())) / 2, method=method, **run).message

    assert (CONSTANT in message(a=0.2, b=0.2)) != scaled
    assert "constant" not in message(a=lambda step: 0.2, b=0.2)


@pytest.mark.parametrize(
    "values",
    [[3.0, 2, 1], [4, 2, 1, 0.5, 0.25], [5, 1, np.nan, 1, 5], [1, 1 + 1e-9] * 4, [1e308, -1e308] * 4],
)
def test_what_is_unclear_is_not_named(values):
    assert trend(values) == ""


@pytest.mark.parametrize(
    ("values", "name"), [([0.0] * 4, "still"), ([1, 1, 1], ""), ([1e200, -1e200] * 4, "to and fro")]
)
def test_what_is_clear_is_named_whatever_its_size(values, name):
    assert trend(values) == name
