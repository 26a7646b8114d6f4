"""Short vectors on the host, whose steps are made by compiled calls alone: to the bits of all other steps."""

import copy
import pickle
import time

import numpy as np
import pytest

import gpuprop
from gpuprop.optimizers.steps.quick import Quick
from gpuprop.schedules import exponential_decay

RATE = exponential_decay(0.1, transition_steps=3, decay_rate=0.5)
OPTIMIZERS = {
    "plain": gpuprop.RMSProp(0.1),
    "clip_norm": gpuprop.RMSProp(0.1, clip_norm=0.5),
    "skip": gpuprop.RMSProp(0.1, nonfinite="skip"),
    "raise": gpuprop.RMSProp(0.1, nonfinite="raise"),
    "all": gpuprop.RMSProp(
        RATE, momentum=0.9, clip_norm=0.5, nonfinite="skip", bias_correction=True, maximize=True
    ),
    "schedule": gpuprop.RMSProp(RATE),
    "schedule, velocity": gpuprop.RMSProp(RATE, momentum=0.9, nesterov=True, bounds=(-1, 1)),
    "schedule, decay": gpuprop.AdamW(RATE),
    "bias_correction": gpuprop.RMSProp(0.1, bias_correction=True),
    "adam": gpuprop.Adam(0.1),
    "adagrad": gpuprop.AdaGrad(RATE, weight_decay=0.1, decoupled_weight_decay=True),
    "sgd": gpuprop.SGD(0.1),
    "auto": gpuprop.RMSProp("auto", momentum=0.9),
    "auto, clip_norm": gpuprop.Adam("auto", clip_norm=0.5),
    "average": gpuprop.RMSProp(0.1, parameter_average=0.9),
    "rates": gpuprop.RMSProp(np.linspace(0.1, 0.2, 5)),
    "projected": gpuprop.RMSProp(0.1, bounds=(-1, 1), projected_gradient=True),
}  # fmt: skip


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


@pytest.fixture
def ordinary(monkeypatch):
    """Has steps go all the way that they would go without what a state keeps of the last one."""

    def switch():
        monkeypatch.setattr(Quick, "ran", lambda self, *given: False)

    return switch


def told(state):
    arrays = {name: array.tobytes() for name, array in state.arrays.items()}
    return arrays, state.step, state.skipped, state.found_rate


def walk(optimizer, dtype, steps=9):
    x = np.linspace(-2, 2, 5).astype(dtype)
    state = optimizer.init(x)
    for step in range(steps):
        state.rate_scale = 0.5 if step == 5 else 1.0
        gradient = (x * np.arange(5) - step).astype(dtype)
        if optimizer.nonfinite == "skip":
            gradient[step % 5] = np.inf
        optimizer.step(x, gradient, state)
    return x.tobytes(), told(state), state._quick


@pytest.mark.parametrize("dtype", ["float64", slow("float32"), slow("complex128"), slow("float16")])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_they_give_the_bits_of_other_steps(name, dtype, ordinary):
    optimizer = OPTIMIZERS[name]
    if name == "rates" and dtype in ("float32", "float16"):
        pytest.skip("the rates are of float64")
    found = walk(optimizer, dtype)
    is_quick = found[-1]._most >= 0
    assert is_quick == (
        dtype != "float16"
        and name != "projected"
        and not (dtype == "complex128" and "clip" in str(optimizer))
    )
    ordinary()
    assert found[:2] == walk(optimizer, dtype)[:2]


def read_only(array):
    array.flags.writeable = False
    return array


class Subclass(np.ndarray):
    pass


BETWEEN = {
    "longer": lambda x, g: (np.ones(7), np.ones(7)),
    "a longer gradient": lambda x, g: (x, np.ones(7)),
    "another dtype": lambda x, g: (x.astype("float32"), g.astype("float32")),
    "a gradient of another dtype": lambda x, g: (x, g.astype("float32")),
    "another byte order": lambda x, g: (x, g.astype(">f8")),
    "no vector": lambda x, g: (x.reshape(5, 1), g.reshape(5, 1)),
    "strided": lambda x, g: (x, np.repeat(g, 2)[::2]),
    "backwards": lambda x, g: (x[::-1], g),
    "read-only x": lambda x, g: (read_only(x.copy()), g),
    "a read-only gradient": lambda x, g: (x, read_only(g.copy())),
    "a subclass": lambda x, g: (x.view(Subclass), g.view(Subclass)),
    "masked": lambda x, g: (x, np.ma.masked_array(g)),
    "a list": lambda x, g: (x, g.tolist()),
    "None": lambda x, g: (x, None),
    "itself": lambda x, g: (x, x),
    "overlapping": lambda x, g: shifted(x),
    "not finite": lambda x, g: (x, np.full(5, np.nan)),
    "too large to square": lambda x, g: (x, np.full(5, 1e200)),
    "not aligned": lambda x, g: (x, np.frombuffer(b"\0" * 41, "f8", 5, 1)),
}  # fmt: skip


def shifted(x):
    both = np.concatenate([x, x])
    return both[:5], both[2:7]


@pytest.mark.parametrize("kind", BETWEEN)
@pytest.mark.parametrize("name", ["plain", slow("clip_norm"), slow("raise"), slow("skip"), slow("auto")])
def test_what_is_out_of_the_ordinary_is_as_without_them(name, kind, ordinary):
    """The same result, or the same refusal, and the steps after it go on."""

    def outcome():
        optimizer, x = OPTIMIZERS[name], np.linspace(-2, 2, 5)
        state, said = optimizer.init(x), None
        for step in range(6):
            gradient = x * np.arange(5) - step
            given = BETWEEN[kind](x, gradient) if step == 3 else (x, gradient)
            try:
                optimizer.step(*given, state)
            except (TypeError, ValueError, FloatingPointError) as error:
                said = type(error), str(error)
        return said, x.tobytes(), told(state)

    found = outcome()
    ordinary()
    assert found == outcome()


def test_an_array_of_the_state_and_the_optimizer_may_be_others_from_then_on(ordinary):
    def outcome():
        x, found = np.linspace(-2, 2, 5), []
        state = gpuprop.RMSProp(0.1).init(x)
        for step in range(8):
            if step == 3:
                state.square_average = np.ones(5)
            optimizer = gpuprop.RMSProp(0.1 if step < 5 else 0.3)
            optimizer.step(x, np.sin(x), state)
            found.append((x.tobytes(), told(state)))
        return found

    found = outcome()
    ordinary()
    assert found == outcome()


def test_the_backend_of_a_state_may_be_another_from_then_on(monkeypatch):
    optimizer, x, called = gpuprop.RMSProp(0.1), np.ones(5), []
    state = optimizer.init(x)
    for _ in range(3):
        optimizer.step(x, np.ones(5), state)
    state.backend = gpuprop.select_backend("numpy")
    update = type(state.backend).update
    monkeypatch.setattr(type(state.backend), "update", lambda *given: called.append(1) or update(*given))
    optimizer.step(x, np.ones(5), state)
    assert (called, state.step) == ([1], 4)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))])
def test_a_copy_of_a_state_goes_on_by_itself(copied):
    optimizer, x = gpuprop.RMSProp(0.1), np.linspace(-2, 2, 5)
    state = optimizer.init(x)
    for _ in range(3):
        optimizer.step(x, np.sin(x), state)
    other, y = copied(state), x.copy()
    optimizer.step(y, np.sin(y), other)
    assert (state.step, other.step) == (3, 4)
    optimizer.step(x, np.sin(x), state)
    assert (x.tobytes(), told(state)) == (y.tobytes(), told(other))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip_norm", "raise", "skip", "bias_correction", "schedule"])
def test_what_they_cost(name):
    """In the article's update of two parameters, and in plain steps."""

    def stepping(optimizer):
        x = np.array([5.0, 4.0])
        gradient, state = 2 * x, optimizer.init(x)
        return lambda: optimizer.step(x, gradient, state)

    def article():
        nonlocal average, w
        update, average = gpuprop.reference.rmsprop(0.1, 0.9, 1e-6, gradient, average)
        w = w - update

    w, average = np.array([5.0, 4.0]), np.zeros(2)
    gradient = 2 * w
    calls = [stepping(OPTIMIZERS["plain"]), stepping(OPTIMIZERS[name]), article]
    times = []
    for _ in range(25):  # of which the least is that of a moment without others
        times.append([])
        for call in calls:
            start = time.perf_counter()
            for _ in range(200):
                call()
            times[-1].append(time.perf_counter() - start)
    plain, with_option, by_article = np.min(times, 0)
    assert plain < 0.4 * by_article
    assert with_option < (2 if name != "schedule" else 3) * 1.25 * plain
