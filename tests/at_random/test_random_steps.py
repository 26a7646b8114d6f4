"""Steps drawn at random, against a reference that imports nothing of the package."""

import drawings
import numpy as np
import pytest
from random_walk import Setting, walk
from variants import covering

DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]


def few(kind, flags, dtype, **more):
    flags = frozenset(flags.split())
    return Setting(kind, flags, flags, dtype, **more)


FEW = [
    few("rmsprop", "propagate", "float32"),
    few("rmsprop", "momentum nesterov centered inside bias_correction schedule weight_decay decoupled "
        "clip_value lower[] upper[] skip", "float64"),
    few("rmsprop", "momentum rate_in_velocity weight_decay maximize clip_norm upper raise", "float16",
        is_strided=True, ndim=2),
    few("rmsprop", "centered clip_norm lower skip", "complex64"),
    few("sgd", "momentum nesterov schedule raise", "bfloat16"),
    few("adagrad", "inside weight_decay upper[] skip", "float32", is_strided=True, ndim=1),
    few("adam", "schedule clip_norm propagate", "complex128"),
    few("adamw", "lower upper skip", "float16"),
]  # fmt: skip


def many(number, **more):
    """A setting drawn at random, the same for the same number."""
    random = np.random.default_rng([1, number])
    kind, flags = drawings.flags(random)
    _, others = drawings.flags(random, kind, has=flags)
    setting = Setting(kind, flags, others, str(random.choice(DTYPES)), is_strided=random.random() < 0.4)
    return setting._replace(**more)


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(setting, id=f"{setting.kind}-{setting.dtype}", marks=pytest.mark.slow if i % 2 else ())
        for i, setting in enumerate(FEW)
    ],
)
def test_random_steps(backend, setting):
    if setting.dtype in ("float64", "complex128") and np.finfo(np.longdouble).eps == np.finfo("float64").eps:
        pytest.skip("the reference has no more digits than float64 on this system")
    for seed in range(3):
        walk(setting, backend.name, seed, 20)


def fuses(number):
    return number % 4 == 3


def used(setting):
    """What kernels there are of: kinds, options, and dtypes of arrays with strides and without."""
    return {setting.kind, *setting.flags, (setting.dtype, setting.is_strided)}


def more_from(first):
    """What the four settings from this number on use beside the few."""
    of_more = [used(many(number)) for number in range(first, first + 4)]
    return set().union(*of_more).difference(*map(used, FEW))


@pytest.mark.slow
@pytest.mark.few(("first",), [(first,) for first in covering(range(0, 64, 4), more_from)])
@pytest.mark.parametrize("first", range(0, 64, 4))
def test_more_random_steps(backend, first):
    steps = 0
    for number in range(first, first + 4):
        for seed in range(8 if backend.name != "gpu" else 2):
            steps += walk(many(number, fuses=fuses(number)), backend.name, [number, seed], 20)
    assert steps == (640 if backend.name != "gpu" else 160)  # of 16 tests on 2 backends: 20,480 on the host


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["team", "pool"])
@pytest.mark.parametrize("first", [100, 105])
def test_random_steps_of_large_arrays_in_threads(layer, first, monkeypatch):
    if layer == "pool":
        monkeypatch.setattr("gpuprop.backends.cpu.pool.team_is_there", lambda: False)
    for number in range(first, first + 5):
        for seed in range(3):
            walk(many(number, is_large=True), "cpu", [number, seed], 6)
