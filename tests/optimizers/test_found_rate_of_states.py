"""A learning rate that is found belongs to its state: copies, files, refused steps, other optimizers."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
from found_rates import FOUR, KINDS, TWO, cases, content, start, stepped, target_slope

from gpuprop import SGD, Adam, Groups, RMSProp, load_state


def saved(path, state):
    state.save(path)
    return load_state(path)


@TWO
@pytest.mark.parametrize("steps", [0, 7, 8])
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "file"])
def test_a_copy_goes_on_by_the_same_bits(backend, tmp_path, name, steps, way):
    optimizer = KINDS[name]
    x, state = start(optimizer, backend, steps)
    copies = {"deepcopy": copy.deepcopy, "file": partial(saved, tmp_path / "state")}
    other = copies.get(way, lambda s: pickle.loads(pickle.dumps(s)))(state)
    other_x = x.copy()
    assert other.found_rate == state.found_rate
    rate = state.found_rate
    stepped(optimizer, backend, x, state, 9)
    assert other.found_rate == rate  # its numbers are its own
    stepped(optimizer, backend, other_x, other, 9)
    expected = content(backend, x, state)
    assert content(backend, other_x, other)[:-1] == expected[:-1]
    assert state.found_rate != rate


@pytest.mark.slow
def test_groups_go_on_by_the_same_bits(backend, tmp_path):
    groups = Groups(a=KINDS["rmsprop"], b=KINDS["sgd"], c=Adam(0.01))
    x = {name: backend.asarray(FOUR * scale) for name, scale in zip("abc", (1, 100, 1), strict=True)}
    state = groups.init(x, backend=backend)

    def go_on(x, state, number):
        for _ in range(number):
            groups.step(
                x, {n: backend.asarray(target_slope(backend.to_host(a))) for n, a in x.items()}, state
            )

    go_on(x, state, 5)
    others = [copy.deepcopy(state), pickle.loads(pickle.dumps(state)), saved(tmp_path / "groups", state)]
    kept = {name: a.copy() for name, a in x.items()}
    go_on(x, state, 6)
    for other in others:
        other_x = {name: a.copy() for name, a in kept.items()}
        go_on(other_x, other, 6)
        for name in x:
            assert (
                content(backend, other_x[name], other[name])[:-1]
                == content(backend, x[name], state[name])[:-1]
            )


def refused(x, backend):
    """Steps that are refused: their arguments, in the order of ``step``, without the state."""
    grad = backend.asarray(target_slope(backend.to_host(x)))
    nan = grad.copy()
    nan[2] = np.nan
    cases = {
        "shape": (x, grad.reshape(2, 2)),
        "too long": (x, backend.asarray(np.ones(5))),
        "too short": (x, backend.asarray(np.ones(3))),
        "dtype": (x, grad.astype("f4")),
        "complex": (x, grad + 0j),
        "type": (x, [1.0, 2.0, 3.0, 4.0]),
        "x too long": (backend.asarray(np.ones(5)), backend.asarray(np.ones(5))),
        "x of another dtype": (x.astype("f4"), grad.astype("f4")),
        "rows out of range": (x, grad[:2], [0, 4]),
        "rows twice": (x, grad[:2], [1, 1]),
        "too few rows": (x, grad[:1], [1, 2]),
        "overlap": (x, x[::-1]),
        "nan": (x, nan),
    }
    if backend.name != "gpu":
        read_only = x.view()
        read_only.flags.writeable = False
        unaligned = np.frombuffer(b"\0" + grad.tobytes(), "u1")[1:].view("f8")
        cases |= {
            "read-only": (read_only, grad),
            "byte order": (x, grad.astype(">f8")),
            "unaligned": (x, unaligned),
            "masked": (x, np.ma.masked_array(grad, [0, 0, 1, 0])),
        }
    return cases


@pytest.mark.parametrize("name", cases(["rmsprop", "sgd"], "adam", "bounds", "adagrad"))
@pytest.mark.parametrize("steps", [4, 5])
def test_a_step_that_is_refused_changes_nothing(backend, name, steps):
    optimizer = KINDS[name]._replaced(nonfinite="raise")
    x, state = start(optimizer, backend, steps)
    other_x, other = start(optimizer, backend, steps)
    before = content(backend, x, state)
    for what, arguments in refused(x, backend).items():
        with pytest.raises((TypeError, ValueError, IndexError, FloatingPointError)):  # noqa: PT012
            optimizer.step(*arguments[:2], state, *arguments[2:])
            pytest.fail(f"{what}: not refused")
        assert content(backend, x, state) == before, what
    stepped(optimizer, backend, x, state, 3)
    stepped(optimizer, backend, other_x, other, 3)
    assert content(backend, x, state) == content(backend, other_x, other)


@pytest.mark.parametrize("steps", [4, 5])
def test_to_set_the_number_of_steps_changes_no_rate(backend, steps):
    optimizer = KINDS["rmsprop"]
    x, state = start(optimizer, backend, steps)
    other_x, other = start(optimizer, backend, steps)
    rate = state.found_rate
    for number in (0, 3, 8, 9, 9, steps + 1, steps):
        state.step = number
        assert (state.step, state.found_rate) == (number, rate)
    state.step = steps + 1  # to which nothing in this rule is bound
    stepped(optimizer, backend, x, state, 4)
    stepped(optimizer, backend, other_x, other, 4)
    assert content(backend, x, state)[:-3] == content(backend, other_x, other)[:-3]


@pytest.mark.parametrize("between", [1, 2, 3])
def test_another_optimizer_takes_a_state_over_and_gives_it_back(backend, between):
    optimizer, given = KINDS["rmsprop"], RMSProp(0.0, momentum=0.9)
    x, state = start(optimizer, backend, 6)
    rate = state.found_rate
    stepped(given, backend, x, state, between)  # with a rate of 0: x stays
    assert state.optimizer is given
    assert state.found_rate == rate
    stepped(optimizer, backend, x, state)
    assert state.optimizer is optimizer
    assert 0.8 * rate < state.found_rate < 8.1 * rate


def test_a_refused_step_before_another_optimizers_leaves_the_rate(backend):
    optimizer, given = KINDS["rmsprop"]._replaced(nonfinite="raise"), RMSProp(0.0, momentum=0.9)
    x, state = start(optimizer, backend, 6)
    rate = state.found_rate
    with pytest.raises(FloatingPointError):
        optimizer.step(x, backend.asarray(np.full(4, np.nan)), state)
    stepped(given, backend, x, state)
    assert state.found_rate == rate


def test_a_state_whose_rate_was_given_begins_to_find_one(backend, tmp_path):
    optimizer, given = KINDS["rmsprop"], RMSProp(0.01, momentum=0.9)
    x, state = start(given, backend, 6)
    assert state.found_rate is None
    with pytest.raises(ValueError, match="found_rate is None, as the learning rate is given"):
        state.found_rate = 0.1
    with pytest.raises(ValueError, match="grad has shape"):
        optimizer.step(x, backend.asarray(np.ones(5)), state)
    assert state.found_rate is None
    state = saved(tmp_path / "state", state)
    largest = float(abs(backend.to_host(x)).max())
    stepped(optimizer, backend, x, state)
    assert largest / 2**20 <= state.found_rate <= 8 * largest / 2**20
    assert state.optimizer is optimizer


def test_a_state_without_what_is_followed_is_refused(backend):
    x, state = start(SGD(0.1), backend, 1)
    with pytest.raises(ValueError, match="state has no displacement"):
        stepped(SGD("auto"), backend, x, state)


@TWO
def test_a_factor_multiplies_what_is_found(backend, name):
    optimizer = KINDS[name]
    x, state = start(optimizer, backend, 6)
    other_x, other = x.copy(), copy.deepcopy(state)
    before = backend.to_host(x).copy()
    other.rate_scale = 0.5
    stepped(optimizer, backend, x, state)
    stepped(optimizer, backend, other_x, other)
    assert other.found_rate == state.found_rate
    np.testing.assert_allclose(
        before - backend.to_host(other_x), (before - backend.to_host(x)) / 2, rtol=1e-9, atol=1e-16
    )


@pytest.mark.parametrize("wrong", [0, -1.0, np.nan, np.inf, "1", None, True])
def test_no_other_rate_can_be_set(backend, wrong):
    _, state = start(KINDS["rmsprop"], backend, 3)
    rate = state.found_rate
    with pytest.raises((TypeError, ValueError), match=r"found_rate is .*; it must be"):
        state.found_rate = wrong
    assert state.found_rate == rate


@pytest.mark.parametrize("steps", [0, 3, 4])
def test_a_rate_that_is_set_is_where_it_goes_on(backend, steps):
    optimizer = KINDS["adagrad"]
    x, state = start(optimizer, backend, steps)
    before = backend.to_host(x).copy()
    state.found_rate = 0.25
    assert state.found_rate == 0.25
    stepped(optimizer, backend, x, state)
    assert 0.25 / 1.1 <= state.found_rate <= 0.25 * 1.2
    if steps == 0:
        np.testing.assert_allclose(abs(before - backend.to_host(x)), 0.25, rtol=1e-6)


@pytest.mark.slow
def test_a_direction_finds_what_a_step_finds(backend):
    more = [KINDS["rmsprop"], KINDS["adagrad"]] if backend.name == "numpy" else []  # each is compiled
    for optimizer in (KINDS["sgd"], *more):
        x, state = start(optimizer, backend)
        other_x, other = start(optimizer, backend)
        for _ in range(8):
            grad = backend.asarray(target_slope(backend.to_host(x)))
            optimizer.step(x, grad, state)
            other_x -= optimizer.direction(grad, other, x=other_x)
            np.testing.assert_allclose(backend.to_host(other_x), backend.to_host(x), rtol=1e-12)
            assert other.found_rate == pytest.approx(state.found_rate, rel=1e-12)


def test_a_direction_of_a_state_that_was_given_rates_does_not_look_at_its_memory(backend):
    x, given, found = backend.asarray(np.ones(3)), RMSProp(0.1, momentum=0.9), RMSProp("auto", momentum=0.9)
    state = given.init(x, backend=backend)
    given.step(x, 2 * x, state)
    seen = []
    for number in (1e6, 1e-6):
        again, out = copy.deepcopy(state), backend.asarray(np.full(3, number))
        found.direction(2 * x, again, out)
        seen.append((backend.to_host(out).tolist(), again.found_rate))
    assert seen[0] == seen[1]


def test_a_state_shows_its_rates_where_they_are_not_as_they_begin(backend):
    _, state = start(KINDS["rmsprop"], backend, 3)
    assert repr(state).startswith(f"State(step=3, found_rate={state.found_rate!r}, square_average=")
    state.rate_scale = 0.5
    assert f", found_rate={state.found_rate!r}, rate_scale=0.5, square_average=" in repr(state)
    _, given = start(RMSProp(0.1), backend, 3)
    assert repr(given).startswith("State(step=3, square_average=")
    given.rate_scale = 0.5
    assert repr(given).startswith("State(step=3, rate_scale=0.5, square_average=")
