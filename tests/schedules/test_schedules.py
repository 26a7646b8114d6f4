import inspect
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trial_schedules import CASES, EVERY, JOINED

from gpuprop import schedules
from gpuprop.schedules import (
    constant_schedule,
    cosine_decay_schedule,
    exponential_decay,
    join_schedules,
    linear_schedule,
    piecewise_constant_schedule,
    warmup_constant_schedule,
    warmup_cosine_decay_schedule,
)


@pytest.fixture(scope="module")
def optax():
    jax = pytest.importorskip("jax", reason="optax, which needs jax, is not installed")
    module = pytest.importorskip("optax", reason="optax is not installed")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield module
    jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_every_value_is_that_of_optax(optax, name, arguments):
    theirs, ours = getattr(optax, name)(**arguments), getattr(schedules, name)(**arguments)
    steps = [*range(101), 10**6]
    expected = [float(theirs(step)) for step in steps]
    np.testing.assert_allclose([ours(step) for step in steps], expected, rtol=1e-14, atol=1e-16)
    steps = np.arange(100).reshape(4, 25)
    np.testing.assert_allclose(ours(steps), np.broadcast_to(theirs(steps), (4, 25)), rtol=1e-14, atol=1e-16)


def test_joined_schedules_are_those_of_optax(optax):
    parts = [optax.linear_schedule(0.0, 0.3, 5), optax.exponential_decay(0.3, 4, 0.9)]
    theirs = optax.join_schedules([*parts, optax.constant_schedule(0.01)], [5, 40])
    expected = [float(theirs(step)) for step in range(60)]
    np.testing.assert_allclose([JOINED(step) for step in range(60)], expected, rtol=1e-14, atol=1e-16)


def test_the_names_and_arguments_are_those_of_optax(optax):
    for name in schedules.__all__[1:]:
        theirs, ours = (inspect.signature(getattr(m, name)).parameters for m in (optax, schedules))
        assert list(ours) == list(theirs)
        assert [p.default for p in ours.values()] == [p.default for p in theirs.values()]


rates = st.floats(0, 1e3)
lengths = st.integers(1, 10**6)
steps = st.integers(0, 10**7)


@given(init=rates, end=rates, length=lengths, begin=st.integers(0, 10**6))
def test_a_line_begins_and_ends_exactly_where_it_should(init, end, length, begin):
    line = linear_schedule(init, end, length, begin)
    assert line(0) == line(begin) == init
    assert line(begin + length) == line(begin + 2 * length) == end
    assert line(begin + length // 2) == pytest.approx(init + (end - init) * (length // 2) / length)


@given(init=rates, rate=st.floats(0.01, 0.99), length=lengths, step=st.integers(0, 10**5))
def test_exponential_decay_multiplies_by_its_rate_in_each_transition(init, rate, length, step):
    schedule = exponential_decay(init, length, rate)
    assert schedule(step + length) == pytest.approx(rate * schedule(step))
    stairs = exponential_decay(init, length, rate, staircase=True)
    assert stairs(step) == schedule(step // length * length)
    assert stairs(step) >= schedule(step)


def test_exponential_growth_stops_at_its_end_value_however_late():
    assert exponential_decay(0.1, 1, 10.0, end_value=5.0)(10**6) == 5.0
    assert exponential_decay(0.1, 1, 10.0)(10**6) == math.inf


@given(init=rates, length=lengths, alpha=st.floats(0, 1), step=steps)
def test_a_cosine_falls_from_its_rate_to_its_share_of_it(init, length, alpha, step):
    schedule = cosine_decay_schedule(init, 2 * length, alpha)
    assert schedule(0) == init
    assert schedule(length) == pytest.approx(init * (1 + alpha) / 2)
    assert schedule(2 * length) == schedule(2 * length + step) == alpha * init
    assert schedule(step + 1) <= schedule(step) * (1 + 1e-15) + 5e-324  # of the least numbers, half is none


@given(init=rates, peak=st.floats(1e-3, 1e3), end=rates, warmup=st.integers(0, 10**6), length=lengths)
def test_a_warm_up_meets_what_follows_at_the_peak(init, peak, end, warmup, length):
    schedule = warmup_cosine_decay_schedule(init, peak, warmup, warmup + length, end)
    assert schedule(warmup) == peak
    assert schedule(warmup + length) == schedule(warmup + 2 * length) == end
    if warmup:
        assert schedule(0) == init
        assert schedule(warmup - 1) == warmup_constant_schedule(init, peak, warmup)(warmup - 1)
        assert warmup_constant_schedule(init, peak, warmup)(warmup + length) == peak


def test_piecewise_factors_accumulate_from_their_boundaries_on():
    schedule = piecewise_constant_schedule(1.0, {100: 0.1, 200: 0.01})
    assert [schedule(step) for step in (0, 99, 100, 199, 200, 10**9)] == [1, 1, 0.1, 0.1, 0.001, 0.001]
    assert schedule == piecewise_constant_schedule(1.0, [(200, 0.01), (100, 0.1)])


def test_each_joined_schedule_counts_its_own_steps():
    schedule = join_schedules([lambda step: step, lambda step: 100 + step], [7])
    assert [schedule(step) for step in (0, 6, 7, 8)] == [0, 6, 100, 101]
    assert join_schedules([constant_schedule(2)], [])(5) == 2


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_a_schedule_is_an_immutable_comparable_printable_value(schedule):
    twin = eval(repr(schedule), vars(schedules))
    assert twin is not schedule
    assert twin == schedule == pickle.loads(pickle.dumps(schedule))
    assert hash(twin) == hash(schedule)
    assert all(type(schedule(step)) is float for step in (0, 5, 1000))
    assert schedule != constant_schedule(0.12345)
    with pytest.raises(AttributeError):
        schedule.init_value = 1.0


STEPS = [
    np.arange(1000),
    np.arange(90, dtype="uint8").reshape(2, 5, 9)[:, ::-1],
    np.array([0, 3, 10**9], "int64"),
    np.linspace(0, 80, 33),
    np.array(40),
    np.zeros((3, 0), int),
    [0, 7, 100],
]


@pytest.mark.parametrize("steps", STEPS, ids=lambda steps: str(np.shape(steps)))
def test_of_an_array_of_steps_it_gives_the_array_of_their_rates(steps):
    grows = [exponential_decay(0.1, 1, 10.0), join_schedules([lambda step: np.float32([0.3])], [])]
    for schedule in EVERY + grows:
        rates = schedule(steps)
        assert (rates.dtype, rates.shape) == (np.float64, np.shape(steps))
        each = [float(np.squeeze(schedule(step))) for step in np.ravel(steps).tolist()]
        np.testing.assert_array_equal(np.ravel(rates), each)


@pytest.mark.parametrize("step", [True, "1", None, 1j, np.array([0, 1j]), np.array(["1"]), [None]])
def test_refuses_steps_that_are_no_numbers(step):
    with pytest.raises(TypeError, match="it must be a number of steps taken, or an array of such"):
        constant_schedule(0.1)(step)


def test_numpy_numbers_and_whole_floats_are_plain_numbers_afterwards():
    schedule = linear_schedule(np.float32(0.5), np.int64(1), 1e4, np.int32(3))
    assert schedule == linear_schedule(0.5, 1.0, 10_000, 3)
    assert [type(value) for value in vars(schedule).values()] == [float, float, int, int]


WRONG = [-1, math.nan, math.inf, 10**400]


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_refuses_an_argument_that_is_no_such_number(name, arguments):
    numbers = [k for k, v in arguments.items() if not isinstance(v, (bool, dict))]
    assert numbers
    for wrong in numbers:
        for value in WRONG:
            with pytest.raises(ValueError, match=f"{wrong} is {value}; it must be "):
                getattr(schedules, name)(**{**arguments, wrong: value})
        for value in ("1", 1j, True):
            with pytest.raises(TypeError, match=f"{wrong} is {value!r}; it must be a real number"):
                getattr(schedules, name)(**{**arguments, wrong: value})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: linear_schedule(0, 1, 0), "transition_steps is 0; it must be a whole number, at least 1"),
        (lambda: linear_schedule(0, 1, 2.5), "transition_steps is 2.5; it must be a whole number"),
        (lambda: exponential_decay(1, 10, 0), "decay_rate is 0; it must be finite and above 0"),
        (lambda: cosine_decay_schedule(1, 10, exponent=0), "exponent is 0; it must be finite and above 0"),
        (lambda: warmup_constant_schedule(0, 1, 0), "warmup_steps is 0; it must be a whole"),
        (
            lambda: warmup_cosine_decay_schedule(0, 1, 100, 100),
            "decay_steps is 100 and counts the 100 warmup_steps too; it must be greater than they are",
        ),
        (lambda: piecewise_constant_schedule(1, {5: -0.1}), "a scale is -0.1; it must be finite"),
        (lambda: piecewise_constant_schedule(1, {0.5: 1}), "a boundary is 0.5; it must be a whole number"),
        (lambda: piecewise_constant_schedule(1, [(5, 1), (5, 2)]), "each must be greater than the one"),
        (lambda: join_schedules([JOINED, JOINED], [7, 5]), "each must be greater than the one before"),
        (lambda: join_schedules([JOINED], [7]), "there must be one boundary between each two schedules"),
    ],
)  # fmt: skip
def test_refuses_arguments_that_make_no_schedule(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("value", [5, [1, 2], "ab"])
def test_refuses_boundaries_that_are_no_pairs(value):
    with pytest.raises(TypeError, match="it must be a dict of step to factor, or pairs of them"):
        piecewise_constant_schedule(1.0, value)


def test_refuses_to_join_what_cannot_be_called():
    with pytest.raises(TypeError, match=r"schedules holds 0\.1; each must be a callable"):
        join_schedules([constant_schedule(1), 0.1], [5])


def test_a_rate_of_zero_stays_zero_however_far_its_factor_grows():
    assert exponential_decay(0.0, 1, 10.0)(309) == 0
    assert exponential_decay(1e-300, 1, 10.0)(309) == math.inf
