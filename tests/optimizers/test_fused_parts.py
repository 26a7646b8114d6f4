"""Fused steps of windows and rows, of other libraries' arrays, and of states from files."""

from collections import OrderedDict, UserDict, defaultdict
from functools import partial
from itertools import product
from types import MappingProxyType

import numpy as np
import pytest
from fused_by_hand import EXAMPLES, assert_same, content
from random_steps import normal

import gpuprop
from gpuprop import SGD, AdaGrad, Adam, RMSProp

OPTIMIZERS = {
    "plain": RMSProp(0.1, momentum=0.9),
    "guarded": Adam(0.1, clip_norm=1.0, nonfinite="skip", parameter_average=0.5),
    "raise": RMSProp(0.1, nonfinite="raise", bounds=(-1.0, 1.0)),
    "found": RMSProp("auto", momentum=0.9),
}
WINDOWS = [np.s_[1:3], np.s_[:, ::2], np.s_[-1], np.s_[2, 1], np.s_[..., 0], np.s_[:]]
ROWS = [[1, 3], range(2), np.array([[2], [-1]]), [], np.array([0, 1, 2, 3], np.uint8)]


def step_of(backend, optimizer, example, x, y, at, part_only=False, value=True):
    fused, x, y = example.fuse(optimizer, value), backend.asarray(x.copy()), backend.asarray(y)
    state = fused.init(x, backend=backend)
    for _ in range(2):
        given = example.data(y[backend.asarray(at) if isinstance(at, np.ndarray) else at] if part_only else y)
        total = fused.step(x, given, state, at=at, **example.scalars)
    return content(x, state), total, state


def of_part_alone(optimizer, example, x, y, at):
    """The same of a copy of the part, on NumPy, and where that belongs."""
    part = np.array(x[at])
    whole = gpuprop.select_backend("numpy")
    stepped, total, _ = step_of(whole, optimizer, example, part, np.array(y[at]), None)
    return stepped, total


def check(backend, name, example, at):
    """Of a part, it is that of its copy; outside nothing changes."""
    optimizer, example = OPTIMIZERS[name], EXAMPLES[example]
    x, y = normal((4, 3), "float64", 1), normal((4, 3), "float64", 2)
    index = np.array(at, np.int64) if isinstance(at, (list, range)) else at
    alone, total = of_part_alone(optimizer, example, x, y, index)
    stepped, value, state = step_of(backend, optimizer, example, x, y, at)
    assert float(value) == pytest.approx(total, rel=1e-12, abs=1e-300)
    fresh = example.fuse(optimizer).init(backend.asarray(x), backend=backend)
    start = content(backend.asarray(x), fresh)
    for array, wanted in stepped.items():
        # A norm is summed in another order.
        exact = backend.name == "numpy" or name not in ("guarded", "found")
        (np.testing.assert_array_equal if exact else np.testing.assert_allclose)(wanted[index], alone[array])
        outside = np.ones(x.shape, bool)
        outside[index] = False
        assert (wanted[outside] == start[array][outside]).all()
    assert state.step == 2


@pytest.mark.parametrize("at", WINDOWS, ids=str)
def test_windows(backend, at):
    check(backend, "plain", "proximal", at)


@pytest.mark.parametrize("at", ROWS, ids=str)
def test_rows(backend, at):
    check(backend, "plain", "proximal", at)


def test_a_window_without_data(backend):
    """What comes first is x itself, and no more than the window of it is stepped."""
    for optimizer in (SGD(0.5), OPTIMIZERS["plain"]):
        x = backend.asarray(np.arange(12.0).reshape(4, 3))
        fused = optimizer.fuse("grad = 2 * x")
        fused.step(x, (), fused.init(x, backend=backend), at=np.s_[1:3])
        before = np.arange(12.0).reshape(4, 3)
        assert (backend.to_host(x) == before).all(1).tolist() == [True, False, False, True]


@pytest.mark.parametrize("name", ["guarded", "raise"])
def test_rows_and_windows_with_options(backend, name):
    for at in (np.s_[1:3], [3, 0]):
        check(backend, name, "regulariser", at)


#: Bounds come behind what is done after a step: those by hand know nothing of that.
EVERY = [
    (name, example)
    for name, example in product(["plain", "guarded", "raise"], EXAMPLES)
    if name != "raise" or "after" not in EXAMPLES[example].lines
]


@pytest.mark.slow
@pytest.mark.few(
    ("name", "example"), [("plain", "collisions"), ("guarded", "gradient given"), ("raise", "square")]
)  # the other examples are above
@pytest.mark.parametrize(("name", "example"), EVERY)
def test_every_part(backend, name, example):
    for at in WINDOWS + ROWS:
        check(backend, name, example, at)


@pytest.mark.parametrize("at", [np.s_[1:3], np.s_[0, 2], [3, 1], np.array([[2], [0]])], ids=str)
def test_data_of_the_part_alone(backend, at):
    """As a gradient of a window is."""
    arguments = (
        OPTIMIZERS["plain"],
        EXAMPLES["regulariser"],
        normal((4, 3), "float64", 1),
        normal((4, 3), "float64", 2),
    )
    whole, total, _ = step_of(backend, *arguments, at)
    part, of_part, _ = step_of(backend, *arguments, at, part_only=True)
    assert_same(whole, part)
    assert float(total) == float(of_part)


@pytest.mark.parametrize(
    ("at", "error", "words"),
    [
        ([4], IndexError, "at has rows from 4 to 4, and x has 4: 0 to 3"),
        ([1, 1], IndexError, "at has row 1 more than once"),
        (np.ones(4, bool), IndexError, "at is an array of bool of shape"),
        ([1.5], IndexError, "at is .*; it must be slices, integers and an ellipsis"),
        (7, IndexError, "out of bounds"),
        (np.s_[:2], ValueError, r"y has shape \(3, 3\) and x has \(2, 3\)"),
        ([0, 1], ValueError, r"y has shape \(3, 3\)"),
    ],
    ids=str,
)
def test_a_part_that_cannot_be(backend, at, error, words):
    x, y = backend.asarray(np.ones((4, 3))), backend.asarray(np.ones((3, 3)))
    fused = RMSProp(0.1).fuse("grad = x + y", "x = x - y", ("y",), value="x")
    state = fused.init(x, backend=backend)
    with pytest.raises(error, match=words):
        fused.step(x, {"y": y}, state, at=at)
    assert (state.step, float(x.sum())) == (0, 12)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "guarded" else pytest.mark.slow) for name in OPTIMIZERS]
)
def test_a_file_goes_on_by_the_same_bits(backend, name, tmp_path):
    x, file = backend.asarray(normal(11, "float32", 1)), tmp_path / "state.safetensors"
    fused = OPTIMIZERS[name].fuse("grad = 2 * x")
    state = fused.init(x, backend=backend)
    for _ in range(2):
        fused.step(x, (), state)
    state.save(file, x=x)
    loaded = gpuprop.load_state(file, backend=backend)
    again = loaded.extras["x"]
    assert loaded.optimizer == fused.optimizer
    resumed = loaded.optimizer.fuse("grad = 2 * x")
    for _ in range(2):
        fused.step(x, (), state)
        resumed.step(again, (), loaded)
    assert_same(content(x, state), content(again, loaded))
    assert (state.step, state.found_rate) == (loaded.step, loaded.found_rate)


@pytest.mark.gpu
def test_another_device_than_the_current(other_device):
    import cupy

    with other_device:
        x, y = cupy.linspace(1, 2, 12).reshape(4, 3), cupy.ones((4, 3))
    for optimizer in (OPTIMIZERS["plain"], OPTIMIZERS["guarded"]):
        fused = EXAMPLES["regulariser"].fuse(optimizer, value=True)
        state = fused.init(x)
        for at in (None, np.s_[1:3], [2, 0]):
            value = fused.step(x, {"y": y}, state, at=at, lam=0.3, delta=0.1)
            assert value.device == other_device
        with pytest.raises(ValueError, match="y is on device 0 and x on device 1"):
            fused.step(x, {"y": cupy.ones((4, 3))}, state, lam=0.3, delta=0.1)
        assert state.step == 3


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    x, y = torch.linspace(1, 2, 12, dtype=torch.float64).reshape(3, 4), torch.ones(3, 4, dtype=torch.float64)
    other = x.numpy().copy()
    fused = AdaGrad(0.1).fuse("grad = 2 * x + y", "x = max(x, 0.5)", ("y",), value="x * y")
    state, of_other = fused.init(x), fused.init(other)
    for _ in range(2):
        value = fused.step(x, {"y": y}, state)
        assert value == fused.step(other, {"y": y.numpy()}, of_other)
    sums, others = fused.run(x, {"y": y}, state, steps=3), fused.run(other, {"y": y}, of_other, steps=3)
    assert sums.tolist() == others.tolist()
    assert fused.step(x, {"y": y}, state, at=np.s_[1]) == fused.step(other, {"y": y}, of_other, at=np.s_[1])
    assert (x.numpy() == other).all()
    assert (state.square_sum == of_other.square_sum).all()


@pytest.mark.parametrize(
    ("data", "scalars", "error", "words"),
    [
        (
            np.ones(3),
            {"t": 1.0},
            TypeError,
            "data is a numpy.ndarray; it must be a dictionary of the arrays 'y', or",
        ),
        (np.ones(1), {"t": 1.0}, TypeError, "data is a numpy.ndarray; it must be a dictionary"),
        (None, {"t": 1.0}, TypeError, "data is a builtins.NoneType; it must be a dictionary"),
        ((), {"t": 1.0}, TypeError, "data are none, and must be 'y', as fuse was told"),
        ({"z": np.ones(3)}, {"t": 1.0}, TypeError, "data are 'z', and must be 'y'"),
        ({"y": np.ones(3)}, {}, TypeError, "the scalars are none, and must be 't'"),
        ({"y": np.ones(3)}, {"t": 1.0, "u": 1.0}, TypeError, "the scalars are 't', 'u', and must be 't'"),
        (
            defaultdict(float, z=np.ones(3)),
            {"t": 1.0},
            TypeError,
            "data are 'z', and must be 'y'",
        ),
        ({"y": np.ones(3)}, {"t": "1"}, TypeError, "t is '1'; it must be a real number"),
        ({"y": np.ones(4)}, {"t": 1.0}, ValueError, r"y has shape \(4,\) and x has \(3,\)"),
        ({"y": np.ones(3, "float32")}, {"t": 1.0}, TypeError, "y has dtype float32 and x has float64"),
        ({"y": [1.0, 1.0, 1.0]}, {"t": 1.0}, TypeError, "y is a builtins.list; it must be a numpy.ndarray"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["step", "run", "guarded"])
def test_data_that_are_not_what_fuse_was_told(data, scalars, error, words, method):
    x = np.ones(3)
    optimizer, method = (SGD(0.1, clip_norm=1.0), "step") if method == "guarded" else (SGD(0.1), method)
    fused = optimizer.fuse("grad = t * x + y", reads=("y",), scalars=("t",), value="x")
    state = fused.init(x)
    with pytest.raises(error, match=words):
        getattr(fused, method)(x, data, state, **scalars, **({"steps": 2} if method == "run" else {}))
    assert (state.step, x.sum()) == (0, 3)
    assert not isinstance(data, defaultdict) or [*data] == ["z"]


@pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict, MappingProxyType, partial(defaultdict, None)])
@pytest.mark.parametrize("value", [None, "x"])
def test_data_in_any_mapping(backend, kind, value):
    x, y = backend.asarray(np.ones(3)), backend.asarray(np.array([0.0, 1.0, 2.0]))
    fused = SGD(0.25).fuse("grad = x - y", reads=("y",), value=value)
    state = fused.init(x, backend=backend)
    fused.step(x, kind({"y": y}), state)
    fused.run(x, kind({"y": y}), state, steps=2)
    assert backend.to_host(x).tolist() == [0.421875, 1, 1.578125]


def test_a_run_of_a_part_is_refused():
    x = np.ones(3)
    fused = SGD(0.1).fuse("grad = x")
    state = fused.init(x)
    with pytest.raises(TypeError, match="run was given at, and takes the whole of x; call step with at"):
        fused.run(x, (), state, steps=2, at=np.s_[:2])
    assert (state.step, x.sum()) == (0, 3)


def test_states_that_are_none():
    x = np.ones(3)
    fused = RMSProp(0.1).fuse("grad = x")
    for state, error in ((None, TypeError), (SGD().init(x), ValueError), (AdaGrad().init(x), ValueError)):
        for call in (fused.step, lambda *arguments: fused.run(*arguments, steps=2)):
            with pytest.raises(error, match="must be one that"):
                call(x, (), state)
    assert x.sum() == 3
