import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from saved_states import (
    DTYPES,
    NUMPY,
    OTHER_VARIANTS,
    VARIANTS,
    everything,
    everything_of,
    ml_dtypes,
    parameters,
    run,
    small_state,
)

import gpuprop
from gpuprop import RMSProp, load_state
from gpuprop.checkpoint import loading

HERE = Path(__file__).parent


SOME = ("bfloat16", "complex64")


@pytest.mark.parametrize(
    ("variant", "dtype"),
    [
        *(
            pytest.param("everything", dtype, marks=() if dtype in ("complex64",) else pytest.mark.slow)
            for dtype in DTYPES
        ),
        *(
            pytest.param(variant, "float32", marks=pytest.mark.slow if variant in ("a rule", "Adam") else ())
            for variant in OTHER_VARIANTS
        ),
    ],
)
def test_a_resumed_run_goes_on_bit_for_bit(backend, dtype, variant, tmp_path):
    x = parameters(backend, DTYPES[dtype])
    optimizer = VARIANTS[variant](x)
    state = optimizer.init(x, backend=backend)
    run(backend, optimizer, x, state, range(10))
    state.save(tmp_path / "state", x=x)
    run(backend, optimizer, x, state, range(10, 20))

    resumed = load_state(tmp_path / "state")
    assert resumed.backend is backend
    x_again = resumed.extras["x"]
    assert x_again.strides == x.strides
    assert all(array.strides == x.strides for array in resumed.arrays.values())
    run(backend, resumed.optimizer, x_again, resumed, range(10, 20))
    assert everything_of(backend, x_again, resumed) == everything_of(backend, x, state)
    assert state.skipped or optimizer.nonfinite != "skip"


@pytest.mark.slow
def test_a_run_is_resumed_in_another_process(backend, tmp_path):
    x = parameters(backend, DTYPES["float32"])
    optimizer = RMSProp(0.05, momentum=0.9, bias_correction=True)
    state = optimizer.init(x, backend=backend)
    run(backend, optimizer, x, state, range(10))
    state.save(tmp_path / "state", x=x)
    run(backend, optimizer, x, state, range(10, 20))
    script = (
        "import sys, gpuprop, saved_states\n"
        "state = gpuprop.load_state(sys.argv[1])\n"
        "x = state.extras['x']\n"
        "saved_states.run(state.backend, state.optimizer, x, state, range(10, 20))\n"
        "state.save(sys.argv[1], x=x)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "state"], cwd=HERE, check=True, timeout=120)
    resumed = load_state(tmp_path / "state")
    assert everything_of(backend, resumed.extras["x"], resumed) == everything_of(backend, x, state)


def test_a_state_moves_between_backends(backend, tmp_path):
    x = parameters(backend, DTYPES["float32"])
    optimizer = everything(x)
    state = optimizer.init(x, backend=backend)
    run(backend, optimizer, x, state, range(5))
    history = np.arange(4)
    state.save(tmp_path / "state", x=x, history=history)

    moved = load_state(tmp_path / "state", backend=NUMPY)
    assert moved.backend is NUMPY
    lower, _ = moved.optimizer.bounds
    for array in (moved.extras["x"], moved.square_average, moved.extras["history"], lower):
        assert isinstance(array, np.ndarray)
    assert everything_of(NUMPY, moved.extras["x"], moved) == everything_of(backend, x, state)
    moved.save(tmp_path / "state", **moved.extras)

    back = load_state(tmp_path / "state", backend=backend)
    assert back.backend is backend
    lower, _ = back.optimizer.bounds
    for array in (back.extras["x"], back.square_average, lower):
        assert isinstance(array, backend.xp.ndarray)
    run(backend, optimizer, x, state, range(5, 8))
    run(backend, back.optimizer, back.extras["x"], back, range(5, 8))
    assert everything_of(backend, back.extras["x"], back) == everything_of(backend, x, state)


def test_an_array_on_the_host_stays_there(backend, tmp_path):
    x = parameters(backend, DTYPES["float32"])
    state = RMSProp().init(x, backend=backend)
    state.save(tmp_path / "state", x=x, history=np.arange(4))
    extras = load_state(tmp_path / "state").extras
    assert type(extras["x"]) is type(x)
    assert isinstance(extras["history"], np.ndarray)


def test_a_state_whose_device_is_gone_says_how_to_load_it(tmp_path, monkeypatch):
    def unavailable(name):
        raise gpuprop.DeviceUnavailableError("no CUDA device; mend: buy one")

    state, x = small_state()
    state.save(tmp_path / "state", x=x)
    with monkeypatch.context() as patch:
        patch.setattr(loading, "select_backend", unavailable)
        with pytest.raises(
            gpuprop.DeviceUnavailableError, match=r"'numpy': .*buy one; or load it elsewhere: "
        ):
            load_state(tmp_path / "state")
        assert load_state(tmp_path / "state", backend=NUMPY).step == 1
    with pytest.raises(TypeError, match="backend is 'cpu'; it must be one that select_backend gave"):
        load_state(tmp_path / "state", backend="cpu")


@pytest.mark.skipif(ml_dtypes is None, reason="ml_dtypes, which brings bfloat16, is not installed")
def test_without_ml_dtypes_a_state_in_bfloat16_says_what_to_do(tmp_path, monkeypatch):
    state, x = small_state(np.ones(3, ml_dtypes.bfloat16))
    state.save(tmp_path / "state", x=x)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(
        ImportError, match=r"state has arrays of bfloat16, .*mend: python -m pip install ml_dtypes"
    ):
        load_state(tmp_path / "state")
