import math
import os
import subprocess
import sys
from pathlib import Path

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from saved_states import DTYPES, small_state

from gpuprop import load_state

HERE = Path(__file__).parent
MORE_DTYPES = [
    *DTYPES.values(),
    *map(np.dtype, ("bool", "int8", "uint16", "int32", "uint64", ">f4", ">i8", ">c16")),
]


@st.composite
def any_array(draw):
    """An array of any type, shape and layout, with any bits."""
    dtype = draw(st.sampled_from(MORE_DTYPES))
    shape = draw(arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    data = draw(st.binary(min_size=64, max_size=64))
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind == "b":
        data = bytes(byte % 2 for byte in data)
    array = np.frombuffer((data * (size // 64 + 1))[:size], dtype).reshape(shape)
    array = np.asarray(array, order=draw(st.sampled_from("CF")))
    array = array.transpose(draw(st.permutations(range(array.ndim))))
    step = draw(st.sampled_from([1, 2, -1]))
    return array[(..., slice(None, None, step))] if array.ndim else array


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays=st.lists(any_array(), max_size=6))
def test_any_arrays_come_back_with_their_bits_types_and_orders(arrays, tmp_path):
    state, _ = small_state()
    state.save(tmp_path / "state", **{str(i): array for i, array in enumerate(arrays)})
    loaded = load_state(tmp_path / "state").extras
    assert len(loaded) == len(arrays)
    for i, array in enumerate(arrays):
        assert_same_array(loaded[str(i)], array)


def assert_same_array(loaded, array):
    native = array.astype(array.dtype.newbyteorder("="))
    assert (loaded.dtype, loaded.shape) == (native.dtype, native.shape)
    assert loaded.tobytes() == native.tobytes()
    assert loaded.flags.writeable
    assert loaded.flags.aligned
    if array.flags.c_contiguous or array.flags.f_contiguous:
        assert loaded.flags.c_contiguous == array.flags.c_contiguous
        assert loaded.flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.parametrize("dtype", ["datetime64[s]", "U3", object, "V5"])
def test_refuses_an_array_of_a_type_that_has_no_place_in_a_file(dtype, tmp_path):
    state, _ = small_state()
    with pytest.raises(TypeError, match=r"extras\.label has dtype .*; it must be one of float16"):
        state.save(tmp_path / "state", label=np.zeros(3, dtype))
    assert os.listdir(tmp_path) == []


def test_refuses_a_masked_array_whose_mask_would_be_lost(tmp_path):
    state, _ = small_state()
    with pytest.raises(TypeError, match="best is a masked array, and masks are not seen to"):
        state.save(tmp_path / "state", best=np.ma.array([1.0, 2.0], mask=[True, False]))
    assert not any(tmp_path.iterdir())


def test_refuses_a_name_that_cannot_be_read_again(tmp_path):
    state, x = small_state()
    state.save(tmp_path / "state", **{"x \u00e9\U0001f600": x})
    assert list(load_state(tmp_path / "state").extras) == ["x \u00e9\U0001f600"]
    with pytest.raises(
        ValueError, match=r"an array's name is 'x\\udc80', which UTF-8 cannot write; rename it"
    ):
        state.save(tmp_path / "other", **{"x\udc80": x})
    assert not (tmp_path / "other").exists()


def test_numbers_and_lists_become_arrays(tmp_path):
    state, _ = small_state()
    state.save(tmp_path / "state", loss=[0.5, 0.25], epoch=7)
    extras = load_state(tmp_path / "state").extras
    assert extras["loss"].tolist() == [0.5, 0.25]
    assert extras["epoch"] == 7


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is told in other units elsewhere")
def test_neither_saving_nor_loading_copies_an_array(tmp_path):
    """The greatest memory of a process rises by one array for each that is loaded, and by none to save."""
    script = (
        "import re, sys, numpy as np, gpuprop, saved_states\n"
        "def peak():  # of this process alone: getrusage begins with that of its parent\n"
        "    with open('/proc/self/status') as file:\n"
        "        return int(re.search(r'VmHWM:\\s*(\\d+) kB', file.read())[1]) * 1024\n"
        "x, every_other = np.ones((500, 5_000), order='F'), np.ones((500, 10_000))[:, ::2]\n"
        "state = gpuprop.RMSProp().init(x, backend=saved_states.NUMPY)\n"
        "for _ in range(3):  # what is imported and kept on the way is no copy\n"
        "    saved_states.small_state()[0].save(sys.argv[1], x=every_other[:40], y=every_other[39::-1])\n"
        "    gpuprop.load_state(sys.argv[1])\n"
        "before = peak()\n"
        "saved_states.small_state()[0].save(sys.argv[1], x=every_other, y=every_other[::-1])\n"
        "state.save(sys.argv[1], x=x)\n"
        "saved = peak()\n"
        "del x, state\n"
        "saved_states.small_state()[0].save(sys.argv[1] + '2')\n"
        "loaded = gpuprop.load_state(sys.argv[1])\n"
        "print((saved - before) / 20e6, (peak() - before) / 20e6)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "state"],
        cwd=HERE, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    more_to_save, more_to_load = map(float, done.stdout.split())
    assert more_to_save < 0.05
    assert more_to_load < 0.05
