"""Rates by element, a factor that the caller sets, directions, and what happens at a bound."""

import copy
import pickle

import numpy as np
import pytest
from variants import NAMES, OF_COMPLEX, OWN, covering_pairs, variants

import gpuprop
from gpuprop import SGD, AdaGrad, Adam, AdamW, RMSProp, Rule, RuleOptimizer, schedules

RANDOM = np.random.default_rng(0)
START, *GRADIENTS = RANDOM.normal(size=(5, 8))


def walked(optimizer, backend, scales=(), start=START):
    """The points of some steps, before each of which the factor of the rate is set."""
    x, points = backend.asarray(start.copy()), []
    state = optimizer.init(x, backend=backend)
    for grad, scale in zip(GRADIENTS, [*scales, *[None] * 4], strict=False):
        if scale is not None:
            state.rate_scale = scale
        optimizer.step(x, backend.asarray(grad), state)
        points.append(backend.to_host(x).copy())
    return np.array(points), state


FAMILY = {
    "rmsprop": lambda rate: RMSProp(rate),
    "momentum outside": lambda rate: RMSProp(rate, momentum=0.9, nesterov=True),
    "momentum inside": lambda rate: RMSProp(rate, momentum=0.9, learning_rate_in_velocity=True),
    "adam": lambda rate: Adam(rate),
    "adamw": lambda rate: AdamW(rate, weight_decay=0.5),
    "adagrad": lambda rate: AdaGrad(rate),
    "sgd": lambda rate: SGD(rate, momentum=0.5, weight_decay=0.1),
    "own": lambda rate: RuleOptimizer(
        OWN, learning_rate=rate, g=0.9, weight_decay=0.5, decoupled_weight_decay=True
    ),
}


@pytest.mark.parametrize("make", FAMILY.values(), ids=list(FAMILY))
@pytest.mark.parametrize(
    "rate", [1.0, 0.3, schedules.linear_schedule(1.0, 0.2, 4)], ids=["1", "0.3", "schedule"]
)
def test_a_factor_of_the_rate_is_a_rate_that_changes(backend, make, rate):
    scales = (1.0, 0.5, 0.125, 2.0)

    def scaled(step):
        return (rate(step) if callable(rate) else rate) * scales[step]

    found, state = walked(make(rate), backend, scales)
    expected, _ = walked(make(scaled), backend)
    np.testing.assert_array_equal(found, expected)
    assert (state.rate_scale, type(state.rate_scale)) == (2.0, float)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=() if name in ("momentum outside", "own") else pytest.mark.slow)
        for name, make in FAMILY.items()
    ],
)
def test_an_array_of_rates_is_each_its_own(compiled, make):
    rates = np.array([0.5, 0.25, 0, 2, 0.1, 0.1, 0.7, 1])
    found, _ = walked(make(compiled.asarray(rates)), compiled, (1.0, 0.5))
    for rate in np.unique(rates):
        expected, _ = walked(make(float(rate)), compiled, (1.0, 0.5))
        np.testing.assert_allclose(found[:, rates == rate], expected[:, rates == rate], rtol=1e-14)


def test_a_factor_belongs_to_the_state(tmp_path):
    numpy = gpuprop.select_backend("numpy")
    _, state = walked(RMSProp(), numpy, (0.5,))
    state.save(tmp_path / "state")
    for other in (
        copy.deepcopy(state),
        pickle.loads(pickle.dumps(state)),
        gpuprop.load_state(tmp_path / "state"),
    ):
        assert other.rate_scale == 0.5
    for wrong in (-1, np.nan, np.inf, "1", None):
        with pytest.raises((TypeError, ValueError), match=r"rate_scale is .*; it must be"):
            state.rate_scale = wrong
    assert state.rate_scale == 0.5


def test_a_rule_without_a_rate_has_no_factor_of_it(backend):
    rule = Rule("plain", ("g",), ("x",), ("speed",), "x = x - speed * g")
    bare = Rule("plain", ("g",), ("x",), (), "x = x - g")
    for optimizer in (RuleOptimizer(rule, speed=1.0), RuleOptimizer(bare)):
        with pytest.raises(
            ValueError, match=r"rate_scale is 0.5 and rule 'plain' has no scalar learning_rate"
        ):
            walked(optimizer, backend, (1.0, 0.5))
    with pytest.raises(ValueError, match="rule 'plain' has no scalar learning_rate, by which the decay"):
        RuleOptimizer(rule, speed=1.0, weight_decay=0.1, decoupled_weight_decay=True)


WITH_X = ["weight decay", "decoupled weight decay", "maximize", "bounds", "adamw"]


SOME = [("adam", "complex64"), ("own", "complex64"), ("adamw", "float64"), ("bounds", "float64")]
ALL = [(name, "complex64" if name in OF_COMPLEX else "float64") for name in NAMES] + SOME[:1]


@pytest.mark.few(("name", "dtype"), {*SOME, *covering_pairs(ALL)})
@pytest.mark.parametrize(
    ("name", "dtype"), [case if case in SOME else pytest.param(*case, marks=pytest.mark.slow) for case in ALL]
)
def test_a_direction_is_what_a_step_subtracts(backend, name, dtype):
    factor = 1 + 1j if dtype.startswith("complex") else 1
    start, *gradients = (np.random.default_rng(1).normal(size=(4, 30)) * factor).astype(dtype)
    rates = backend.asarray(np.linspace(0.01, 0.1, 30).astype(start.real.dtype))
    lower, upper = (backend.asarray(np.full(30, v * factor, dtype)) for v in (-1.2, 0.8))
    optimizer = variants(lower, upper, rates)[name]
    x, other, out = (backend.asarray(start.copy()) for _ in range(3))
    state, other_state = optimizer.init(x, backend=backend), optimizer.init(other, backend=backend)
    if "parameter_average" in state.arrays:
        with pytest.raises(ValueError, match="parameter_average is of the parameters after a step"):
            optimizer.direction(out, other_state, x=other)
        return
    for grad in gradients:
        optimizer.step(x, backend.asarray(grad), state)
        out[...] = backend.asarray(grad)
        kept = other.copy()
        assert optimizer.direction(out, other_state, out=out, x=other) is out  # the gradient itself
        np.testing.assert_array_equal(backend.to_host(other), backend.to_host(kept))
        other -= out
    few = 10 * np.finfo(dtype).eps
    np.testing.assert_allclose(backend.to_host(other), backend.to_host(x), rtol=few, atol=few)
    assert (other_state.step, other_state.skipped) == (state.step, state.skipped)
    for array, expected in state.arrays.items():
        found = backend.to_host(other_state.arrays[array])
        np.testing.assert_allclose(found, backend.to_host(expected), rtol=1000 * few, atol=1000 * few)


@pytest.mark.parametrize("name", WITH_X)
def test_a_direction_asks_for_x_where_it_needs_it(backend, name):
    x = backend.asarray(np.ones(2))
    optimizer = variants(-x, x, x)[name]
    state = optimizer.init(x, backend=backend)
    with pytest.raises(ValueError, match=r"computes with the parameters, .*; pass x= to direction"):
        optimizer.direction(x, state)
    assert state.step == 0


def test_a_direction_is_a_new_array_where_none_is_given(backend):
    grad = backend.asarray(np.array([[2.0, np.inf], [1.0, -1.0]]).T)
    optimizer = SGD(0.5, nonfinite="skip")
    state = optimizer.init(grad, backend=backend)
    found = optimizer.direction(grad, state)
    np.testing.assert_array_equal(backend.to_host(found), [[1, 0.5], [0, -0.5]])
    assert (state.step, state.skipped) == (1, 1)
    with pytest.raises(ValueError, match=r"grad has shape \(1, 2\) and out has \(2, 2\)"):
        optimizer.direction(grad[:1], state, out=found)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_does_not_push_against_a_bound(backend, momentum):
    steps_to_leave = {}
    for projects in (False, True):
        optimizer = SGD(0.1, momentum=momentum, bounds=(0, None), projected_gradient=projects)
        x = backend.asarray(np.zeros(1))
        state = optimizer.init(x, backend=backend)
        for _ in range(20):  # outwards
            optimizer.step(x, backend.asarray(np.ones(1)), state)
        before = state.step
        while not float(x[0]) > 0:
            optimizer.step(x, backend.asarray(-np.ones(1)), state)
        steps_to_leave[projects] = state.step - before
    assert steps_to_leave[True] == 1
    assert steps_to_leave[False] == (1 if momentum == 0 else 6)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("bounds", [(-0.1, 0.1), (0.1, 0.1)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_velocity_does_not_grow_at_a_bound(backend, dtype, bounds, sign):
    optimizer = SGD(0.1, momentum=0.9, bounds=bounds, projected_gradient=True)
    x = backend.asarray(np.full(1, 0.1, dtype))
    state = optimizer.init(x, backend=backend)
    for _ in range(20):
        optimizer.step(x, backend.asarray(np.full(1, sign, dtype)), state)
    assert abs(float(state.velocity[0])) < 3  # of 10, which it would come to


def test_averages_of_the_parameters_are_of_the_projected_ones(backend):
    optimizer = SGD(1.0, bounds=(0, 1), parameter_average=0.75)
    x = backend.asarray(np.array([0.5, 0.5]))
    state = optimizer.init(x, backend=backend)
    assert state.parameter_average is not x
    np.testing.assert_array_equal(backend.to_host(state.parameter_average), 0.5)
    for expected in (0.75 * 0.5 + 0.25, 0.75 * 0.625 + 0.25):
        optimizer.step(x, backend.asarray(np.array([-2.0, 0.0])), state)
        np.testing.assert_array_equal(backend.to_host(state.parameter_average), [expected, 0.5])
