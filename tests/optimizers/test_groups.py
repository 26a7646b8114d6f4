"""Several arrays with an optimizer each."""

import copy
import pickle

import numpy as np
import pytest

import gpuprop
from gpuprop import SGD, Adam, Groups, RMSProp, Rule, RuleOptimizer

RULE = Rule("sign", ("g",), ("x",), ("learning_rate",), "x = x - learning_rate * where(g > 0, 1, -1)")
CLIPS = Rule("clips", ("g",), ("x",), ("clip_norm",), "x = x - clip_norm * g")


def optimizers():
    return {
        "object": RMSProp(0.1, momentum=0.5, second_moment="modulus"),
        "probe": Adam(0.01, bounds=(-1, 1)),
        "offset": RuleOptimizer(RULE, learning_rate=0.1),
    }


def arrays_of(backend, seed=0):
    random = np.random.default_rng(seed)
    field = random.normal(size=(2, 5, 4))
    numbers = (field[0] + 1j * field[1]).astype("complex64"), random.normal(size=7), random.normal(size=())
    return {
        name: backend.asarray(np.array(a, getattr(a, "dtype", float)))
        for name, a in zip(optimizers(), numbers, strict=True)
    }


def on_host(backend, arrays):
    return {name: backend.to_host(array).copy() for name, array in arrays.items()}


def test_each_array_is_stepped_as_if_it_were_alone(backend):
    groups, arrays, alone = Groups(optimizers()), arrays_of(backend), arrays_of(backend)
    state = groups.init(arrays, backend=backend)
    states = {name: o.init(alone[name], backend=backend) for name, o in optimizers().items()}
    for t in range(1, 4):
        gradients = arrays_of(backend, seed=t)
        if t == 1:
            gradients["probe"] = None  # which starts later
        if t == 2:
            del gradients["offset"]
        groups.step(arrays, gradients, state)
        for name, optimizer in optimizers().items():
            if gradients.get(name) is not None:
                optimizer.step(alone[name], gradients[name], states[name])
    assert [one.step for one in state.values()] == [3, 2, 2]
    assert state.step == 3
    for name in arrays:
        np.testing.assert_array_equal(backend.to_host(arrays[name]), backend.to_host(alone[name]))
        for kept, array in states[name].arrays.items():
            np.testing.assert_array_equal(backend.to_host(state[name].arrays[kept]), backend.to_host(array))


def test_parts_of_some_of_them(backend):
    groups, arrays = Groups(a=SGD(1.0), b=SGD(1.0)), {n: backend.asarray(np.zeros((4, 2))) for n in "ab"}
    state = groups.init(arrays, backend=backend)
    ones = {"a": backend.asarray(np.ones(2)), "b": backend.asarray(np.ones((2, 2)))}
    groups.step(arrays, ones, state, at={"a": 1, "b": [3, 0]})
    assert [backend.to_host(arrays[n])[:, 0].tolist() for n in "ab"] == [[0, -1, 0, 0], [-1, 0, 0, -1]]


@pytest.mark.parametrize("nonfinite", ["propagate", "skip"])
def test_one_norm_is_that_of_all_together(backend, nonfinite):
    sizes, values = {"a": 3, "b": 4, "c": 1}, {"a": 3.0, "b": -4.0, "c": 2.0}
    groups = Groups({n: SGD(1.0, nonfinite=nonfinite, maximize=n == "b") for n in sizes}, clip_norm=2.0)
    arrays = {
        n: backend.asarray(np.zeros(size, "complex64" if n == "a" else "float64"))
        for n, size in sizes.items()
    }
    gradients = {n: backend.asarray(np.full(size, values[n], arrays[n].dtype)) for n, size in sizes.items()}
    state = groups.init(arrays, backend=backend)
    groups.step(arrays, gradients | {"c": None}, state)
    norm = np.sqrt(3 * 9 + 4 * 16)
    np.testing.assert_allclose(backend.to_host(arrays["a"]), -3 * 2 / norm, rtol=1e-6)
    np.testing.assert_allclose(backend.to_host(arrays["b"]), -4 * 2 / norm, rtol=1e-12)
    assert (backend.to_host(arrays["c"]) == 0).all()
    small = {n: g * 1e-3 for n, g in gradients.items()}
    before = on_host(backend, arrays)
    groups.step(arrays, small, state)
    np.testing.assert_allclose(backend.to_host(arrays["c"]), before["c"] - 2e-3, rtol=1e-12)


WRONG = {
    "another shape": (lambda g: g["probe"][:3], "probe: grad has shape"),
    "not finite": (lambda g: g["probe"] * np.inf, "probe: grad has 7 elements of 7 that are not finite"),
    "no array": (lambda g: "a", "probe: grad is a builtins.str"),
}


@pytest.mark.parametrize("make", [make for make, _ in WRONG.values()], ids=list(WRONG))
def test_a_step_that_is_refused_for_one_writes_none(backend, make):
    message = next(message for other, message in WRONG.values() if other is make)
    groups = Groups(optimizers() | {"probe": Adam(0.01, nonfinite="raise")}, clip_norm=1.0)
    arrays, gradients = arrays_of(backend), arrays_of(backend, seed=1)
    state, before = groups.init(arrays, backend=backend), on_host(backend, arrays)
    with pytest.raises((TypeError, ValueError, FloatingPointError), match=message):
        groups.step(arrays, gradients | {"probe": make(gradients)}, state)
    for name, array in arrays.items():
        np.testing.assert_array_equal(backend.to_host(array), before[name])
        assert state[name].step == 0
        assert all(not backend.to_host(kept).any() for kept in state[name].arrays.values())
    assert state.step == 0


def test_kinds_that_have_been_seen_are_checked_at_a_glance(backend, monkeypatch):
    groups, arrays = Groups(optimizers()), arrays_of(backend)
    state = groups.init(arrays, backend=backend)
    groups.step(arrays, arrays_of(backend, seed=1), state)
    monkeypatch.setattr("gpuprop.backends.checks._check_arrays", None)
    if backend.name != "numpy":  # the reference checks at every step
        groups.step(arrays, arrays_of(backend, seed=2), state)


def test_an_array_of_options_may_not_be_what_another_steps(backend):
    x, y = (backend.asarray(np.ones(3)) for _ in range(2))
    groups = Groups(a=SGD(), b=SGD(bounds=(x, None)))
    state = groups.init({"a": x, "b": y}, backend=backend)
    with pytest.raises(ValueError, match=r"arrays of (a and b|b and a) share memory"):
        groups.step({"a": x, "b": y}, {"a": x.copy(), "b": y.copy()}, state)


def test_refuses_what_does_not_fit(backend):
    groups = Groups(a=SGD(), b=SGD())
    memory = backend.asarray(np.ones((5, 4)))
    arrays = {"a": memory[:2], "b": memory[4]}
    state = groups.init(arrays, backend=backend)
    copies = {name: array.copy() for name, array in arrays.items()}
    wrong = [
        (lambda: groups.init({"a": memory}), "arrays has no 'b'; there must be one for each"),
        (
            lambda: groups.step(arrays, {"c": memory}, state),
            "gradients has 'c', for which there is no optimizer",
        ),
        (lambda: groups.step({"a": arrays["a"]}, copies, state), "gradients has 'b' and arrays has not"),
        (
            lambda: groups.step(arrays, memory, state),
            "gradients is a .*ndarray; it must be a dictionary by name",
        ),
        (lambda: groups.step(arrays, copies, state, at={"z": 0}), "at has 'z'"),
        (
            lambda: groups.step(arrays, copies, SGD().init(memory)),
            "state is a State; it must be what init of these groups",
        ),
        (
            lambda: groups.step(arrays, {**copies, "a": memory[3:]}, state),
            "arrays of (a and b|b and a) share",
        ),
        (lambda: groups.step({"a": memory[:2], "b": memory[1]}, copies, state), "share memory"),
    ]
    for call, message in wrong:
        with pytest.raises((TypeError, ValueError), match=message):
            call()
    assert (backend.to_host(memory) == 1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Groups(), "there are no optimizers"),
        (lambda: Groups(a=1), "a is 1; it must be an optimizer"),
        (lambda: Groups([SGD()]), "optimizers is a list; it must be a dictionary"),
        (lambda: Groups({1: SGD()}), "the name of an array is 1"),
        (lambda: Groups(a=SGD(clip_norm=1.0), clip_norm=2), "a has clip_norm=1.0 and all together have 2"),
        (lambda: Groups(a=SGD(), clip_norm=0), "clip_norm is 0; it must be finite and above 0"),
        (
            lambda: Groups(a=RuleOptimizer(CLIPS, clip_norm=0.1), clip_norm=2),
            "rule 'clips' has a scalar 'clip_norm', so that the option of this name cannot be set",
        ),
    ],
)
def test_refuses_groups(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_they_are_values():
    groups, same = (Groups(optimizers() | {"clip_norm": SGD()}, clip_norm=2) for _ in range(2))
    assert groups == same
    assert hash(groups) == hash(same)
    assert groups != Groups(optimizers())
    assert list(groups.optimizers) == ["object", "probe", "offset", "clip_norm"]
    with pytest.raises(AttributeError, match="immutable"):
        groups.clip_norm = 3
    small = Groups(a=Adam(0.1), clip_norm=2)
    for copied in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert copied == small
    assert (
        repr(small)
        == "Groups({'a': Adam(learning_rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-08)}, clip_norm=2.0)"
    )
    state = small.init({"a": np.ones(2)})
    for wrong, owner in (("rate_scale", state), ("learning_rate", state["a"])):
        with pytest.raises(AttributeError, match=f"has no '{wrong}' to set"):
            setattr(owner, wrong, 0.5)
    assert (list(state), len(state), state["a"].step) == (["a"], 1, 0)
    assert repr(state).startswith("GroupsState(step=0, {'a': State(step=0")


@pytest.mark.gpu
def test_a_step_launches_once_for_each_array_and_waits_for_nothing(cupy, monkeypatch):
    backend = gpuprop.select_backend("gpu")
    groups, arrays = Groups(optimizers()), arrays_of(backend)
    state, gradients = groups.init(arrays), arrays_of(backend, seed=1)
    groups.step(arrays, gradients, state)
    launches = []
    update = type(backend).update
    monkeypatch.setattr(type(backend), "update", lambda *given: launches.append(1) or update(*given))
    for name in ("deviceSynchronize", "streamSynchronize", "memcpy", "eventSynchronize"):
        monkeypatch.setattr(cupy.cuda.runtime, name, None, raising=False)
    groups.step(arrays, gradients, state)
    assert len(launches) == 3


@pytest.mark.gpu
@pytest.mark.parametrize("where", ["host", "device 1"])
def test_arrays_may_be_on_several_devices(cupy, other_device, where):
    with other_device:
        far = {"host": np, "device 1": cupy}[where].ones(4)
        slope = far * 4
    near, groups = cupy.ones(3), Groups(near=SGD(1.0), far=SGD(1.0), clip_norm=np.sqrt(3 * 9 + 4 * 16) / 2)
    state = groups.init({"near": near, "far": far})
    groups.step({"near": near, "far": far}, {"near": near * 3, "far": slope}, state)
    np.testing.assert_allclose(near.get(), 1 - 1.5, rtol=1e-12)
    np.testing.assert_allclose(cupy.asnumpy(far), 1 - 2.0, rtol=1e-12)
