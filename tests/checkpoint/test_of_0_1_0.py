"""Files and pickles that gpuprop 0.1.0 wrote, from which every later version goes on to the same bits."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from saved_states import ml_dtypes

from gpuprop import RMSProp, load_state

HERE = Path(__file__).parent / "of_0_1_0"
WENT_ON = json.loads((HERE / "went_on.json").read_text())
FILES = sorted(HERE.glob("*.safetensors"))
PICKLES = sorted(HERE.glob("*.pickle"))
FEW = ("options", "rule", "bfloat16")


def from_a_file(path, backend):
    state = load_state(path, backend=backend)
    x = state.extras["x"]
    assert state.extras["losses"].tolist() == [0, 1, 2]
    assert x.flags.c_contiguous == (path.stem not in ("rmsprop", "options", "sgd"))
    return x, state


def from_a_pickle(path, backend):
    if backend.name == "gpu":
        pytest.skip("the pickles hold arrays of NumPy")
    x, state = pickle.loads(path.read_bytes())
    assert state.backend.name == "numpy"
    state.backend = backend
    return x, state


@pytest.mark.parametrize(
    ("read", "path"),
    [
        pytest.param(read, path, marks=() if path.stem in FEW else pytest.mark.slow)
        for read, paths in ((from_a_file, FILES), (from_a_pickle, PICKLES))
        for path in paths
    ],
    ids=lambda part: getattr(part, "name", None),
)
def test_it_goes_on_bit_for_bit(read, path, backend):
    if path.stem == "bfloat16" and ml_dtypes is None:
        pytest.skip("ml_dtypes, which brings bfloat16, is not installed")
    x, state = read(path, backend)
    went_on = WENT_ON[path.stem]
    optimizer = state.optimizer
    if path.stem == "own_schedule":
        assert optimizer is None
        optimizer = RMSProp(lambda step: 0.1 / (1 + step))
    assert state.step == 5
    assert all(array.strides == x.strides for array in state.arrays.values())
    for text in went_on["gradients"]:
        grad = np.frombuffer(bytes.fromhex(text), x.dtype).reshape(x.shape)
        optimizer.step(x, backend.asarray(grad), state)
    arrays = {"x": x, **state.arrays}
    assert {name: backend.to_host(a).tobytes().hex() for name, a in arrays.items()} == went_on["arrays"]
    assert (state.step, state.skipped) == (10, went_on["skipped"])
