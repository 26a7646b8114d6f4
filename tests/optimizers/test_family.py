"""Every option of every optimizer, on every backend."""

import copy
import pickle

import numpy as np
import pytest
from trial_rules import apply
from variants import NAMES, OF_COMPLEX, OWN, variants

import gpuprop
from gpuprop import RMSProp, rules
from gpuprop.rules.folding import fold

SIZE, STEPS = 60, 12
#: The norm is summed in another order on each backend: its factor may differ in the last places.
SUMMED = ("clip norm", "everything", "adam modulus", "own and more")


def descend(name, backend, dtype, steps=STEPS):
    """x and the arrays of the state, on the host, after some steps of this variant."""
    random = np.random.default_rng(3)
    start, minimum = random.normal(size=(2, SIZE))
    curvature = 10 ** random.uniform(-1, 1, SIZE)
    lower, upper = -1.2 + 0 * start, 0.8 + 0 * start
    rates = np.asarray(random.uniform(0.02, 0.2, SIZE), np.dtype(dtype).type(0).real.dtype)
    if dtype.startswith("complex"):
        start, minimum, lower, upper = (a + 1j * a[::-1] for a in (start, minimum, lower, upper))
    x, minimum, curvature, lower, upper = (
        backend.asarray(a, dtype) for a in (start, minimum, curvature, lower, upper)
    )
    optimizer = variants(lower, upper, backend.asarray(rates))[name]
    state = optimizer.init(x, backend=backend)
    for _ in range(steps):
        optimizer.step(x, curvature * (x - minimum), state)
    assert state.step == steps
    return {"x": backend.to_host(x)} | {k: backend.to_host(a) for k, a in state.arrays.items()}


# In float32 a constant of the wrong type would show; each rule has its turn in float64.
PLAIN = [
    "rmsprop", "rate in velocity", "decoupled weight decay", "clip norm", "both arrays", "everything", "skip",
    "sgd nesterov", "adagrad options", "adam options", "raise",
]  # fmt: skip
SOME = ["modulus and more", "rates inside", "decay by element", "modulus arrays", "own and more"]
IN_FLOAT64 = ["everything", "sgd nesterov", "adagrad options", "adam options", "own and more"]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *(
            pytest.param(n, "float32", marks=() if n in PLAIN else pytest.mark.slow)
            for n in NAMES
            if n not in OF_COMPLEX
        ),
        *(pytest.param(n, "complex64", marks=() if n in SOME else pytest.mark.slow) for n in OF_COMPLEX),
        *(pytest.param(n, "float32", marks=pytest.mark.slow) for n in SOME),
        *(pytest.param(n, "float64", marks=pytest.mark.slow) for n in IN_FLOAT64),
    ],
)
def test_every_option_gives_the_bits_of_the_reference(compiled, name, dtype):
    reference = descend(name, gpuprop.select_backend("numpy"), dtype)
    result = descend(name, compiled, dtype)
    assert result.keys() == reference.keys()
    for array, expected in reference.items():
        if name in SUMMED:
            # Each step rounds its factor once; a gradient that answers x carries it no further here.
            few = 10 * STEPS * np.finfo(dtype).eps
            np.testing.assert_allclose(result[array], expected, rtol=few, atol=few)
        else:
            np.testing.assert_array_equal(result[array], expected)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_changes_something(name):
    # Else its kernels could leave it out, and no test above would know.
    numpy, dtype = gpuprop.select_backend("numpy"), "complex128" if name in OF_COMPLEX else "float64"
    others = ("rmsprop", "sgd", "adam", "adagrad")
    if name in (*others, "skip", "raise"):
        return
    found = descend(name, numpy, dtype)
    path = found.get("parameter_average", found["x"])
    assert all(np.abs(path - descend(other, numpy, dtype)["x"]).max() > 1e-3 for other in others)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neutral_options_change_no_bit(compiled, dtype):
    # The whole rule with its neutral values, and what is left of it after folding.
    full = rules.around(rules.rmsprop(velocity=True, centered=True))
    neutral = {name: value for name, value in rules.NEUTRAL.items() if name in full.scalars}
    others = {"rho": 0.9, "one_minus_rho": 1 - 0.9, "epsilon": 1e-3, "momentum": 0.8}
    folded = fold(full, neutral)
    assert set(folded.scalars) == set(others)
    results = []
    for rule in (full, folded):
        random = np.random.default_rng(8)
        arrays = [compiled.asarray(random.normal(size=1000), dtype) for _ in rule.arrays]
        arrays[2] = abs(arrays[2]) + 4  # the mean square is above the squared mean
        apply(compiled, rule, arrays, [(neutral | others)[name] for name in rule.scalars])
        results.append([compiled.to_host(array) for array in arrays])
    np.testing.assert_array_equal(*results)


def test_a_kernel_computes_nothing_for_an_option_that_is_not_used():
    assert RMSProp().rule.scalars == ("step_size", "rho", "one_minus_rho", "epsilon")
    assert RMSProp(weight_decay=0.5).rule.scalars == ("weight_decay", *RMSProp().rule.scalars)
    # One object, so one kernel, for all that differ in numbers only.
    assert RMSProp(0.3, 0.5, weight_decay=0.1).rule is RMSProp(weight_decay=0.5).rule


@pytest.mark.parametrize("name", NAMES)
def test_optimizers_are_values(name):
    arrays = np.full(3, -1.0), np.ones(3), np.ones(3)
    optimizer, same = (variants(*arrays)[name] for _ in range(2))
    assert optimizer == same
    assert hash(optimizer) == hash(same)
    assert [other for other in NAMES if variants(*arrays)[other] == optimizer] == [name]
    again = pickle.loads(pickle.dumps(optimizer))
    for copied, like in ((copy.deepcopy(optimizer), optimizer), (again, pickle.loads(pickle.dumps(again)))):
        assert repr(copied) == repr(optimizer)
        assert copied.rule is like.rule
        assert copied.rule.body == optimizer.rule.body
    if "array" not in repr(optimizer):
        assert eval(repr(optimizer), vars(gpuprop) | vars(gpuprop.schedules) | {"own": OWN}) == optimizer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"momentum": 1.0}, r"momentum is 1.0; it must be in \[0, 1\)"),
        ({"nesterov": True}, "nesterov is True and momentum is 0"),
        ({"nesterov": "yes", "momentum": 0.9}, "nesterov is 'yes'; it must be True or False"),
        ({"weight_decay": -1}, "weight_decay is -1; it must be finite and at least 0"),
        ({"clip_norm": 0}, "clip_norm is 0; it must be finite and above 0"),
        ({"clip_value": "1"}, "clip_value is '1'; it must be a real number"),
        ({"initial_square_average": -1}, "initial_square_average is -1"),
        ({"bounds": (1, -1)}, r"bounds is \(1, -1\); lower must not be above upper"),
        ({"bounds": 3}, r"bounds is 3; it must be \(lower, upper\)"),
        ({"bounds": (0, float("nan"))}, "the upper bound is nan"),
        ({"nonfinite": "ignore"}, "nonfinite is 'ignore'; it must be one of 'propagate', 'skip', 'raise'"),
    ],
)
def test_refuses_a_bad_option(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        RMSProp(**change)


def test_no_bound_is_none_as_it_is_infinite():
    assert RMSProp(bounds=(None, 2)) == RMSProp(bounds=(-np.inf, 2))
    assert RMSProp(bounds=(0, None)) == RMSProp(bounds=(0, np.inf))


def test_bounds_of_another_shape_are_refused_at_once(backend):
    x = backend.asarray(np.ones(4))
    with pytest.raises(ValueError, match=r"lower has shape \(3,\) and x has \(4,\)"):
        RMSProp(bounds=(backend.asarray(np.zeros(3)), 1)).init(x, backend=backend)


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_array_bounds_the_wrong_way_round_are_refused(backend, dtype):
    low = backend.asarray([0, 1, 2], dtype)
    high = backend.asarray([1, 0, 1], dtype)
    with pytest.raises(ValueError, match="the lower bound is above the upper one, or NaN, in 2 places"):
        RMSProp(bounds=(low, high)).init(low.copy(), backend=backend)
    with pytest.raises(ValueError, match="or NaN, in 1 place;"):
        RMSProp(bounds=(low, 1.5)).init(low.copy(), backend=backend)


def test_a_schedule_must_give_a_learning_rate():
    x = np.ones(2)
    optimizer = RMSProp(lambda step: float("nan") if step == 2 else 0.1)
    state = optimizer.init(x)
    for _ in range(2):
        optimizer.step(x, x, state)
    before = x.copy()
    with pytest.raises(ValueError, match=r"learning_rate\(2\) is nan; it must be finite and at least 0"):
        optimizer.step(x, x, state)
    np.testing.assert_array_equal(x, before)
    assert state.step == 2


def test_a_state_of_another_kind_is_refused():
    x = np.ones(2)
    state = RMSProp().init(x)
    with pytest.raises(ValueError, match="state has no velocity, which rmsprop with these options keeps"):
        RMSProp(momentum=0.9).step(x, x, state)
    with pytest.raises(TypeError, match="state is a dict; it must be one that init gave"):
        RMSProp().step(x, x, {})


def test_a_state_whose_arrays_mean_something_else_is_refused():
    x = np.ones(2)
    state = gpuprop.Adam().init(x)  # it has a gradient_average and a square_average, too
    with pytest.raises(ValueError, match=r"state is that of Adam\(.*whose arrays mean something else"):
        RMSProp(centered=True).step(x, x, state)
    assert state.step == 0


def test_x_is_not_its_own_bound(backend):
    x = backend.asarray([1.0, 1.0])
    optimizer = RMSProp(bounds=(x, np.inf))
    with pytest.raises(ValueError, match="lower and x share memory; they must be separate arrays"):
        optimizer.init(x, backend=backend)


def test_hyperparameters_may_change_between_steps():
    x = np.array([5.0, 4.0])
    state = RMSProp(0.1).init(x)
    RMSProp(0.1).step(x, 2 * x, state)
    slower = RMSProp(0.01)
    slower.step(x, 2 * x, state)
    assert state.optimizer is slower
    twin = np.array([5.0, 4.0])
    scheduled = RMSProp(lambda step: [0.1, 0.01][step])
    state = scheduled.init(twin)
    for _ in range(2):
        scheduled.step(twin, 2 * twin, state)
    np.testing.assert_array_equal(x, twin)
