import json
import math
import os
import re

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from saved_states import small_state

import gpuprop
from gpuprop import RMSProp, load_state, schedules
from gpuprop.checkpoint import container


def test_other_programs_can_read_the_file(tmp_path):
    x = np.asfortranarray(np.arange(6, dtype="complex64").reshape(2, 3) * (1 + 2j))
    state, _ = small_state(x)
    state.save(tmp_path / "state", x=x)
    tensors = safetensors.numpy.load_file(tmp_path / "state")
    assert set(tensors) == {"state.square_average", "state.velocity", "extras.x"}
    assert (tensors["extras.x"][..., 0] == x.real.T).all()
    assert (tensors["extras.x"][..., 1] == x.imag.T).all()
    with safetensors.safe_open(tmp_path / "state", "numpy") as file:
        metadata = file.metadata()
    assert metadata["gpuprop.version"] == gpuprop.__version__
    description = json.loads(metadata["gpuprop.description"])
    assert description["step"] == 1
    assert description["optimizer"]["RMSProp"]["learning_rate"] == 0.05


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    """The bytes of a small file with everything in it, and a place for a damaged one."""
    path = tmp_path_factory.mktemp("damage") / "state"
    x = np.linspace(0, 1, 3)
    state, _ = small_state(x, RMSProp(schedules.linear_schedule(0.1, 0.0, 9), bounds=(np.zeros(3), math.inf)))
    state.save(path, x=x)
    return path.read_bytes(), path


@pytest.mark.parametrize("flip", [0x01, 0x20, 0xFF])
def test_any_damaged_byte_is_an_error(whole_file, flip):
    content, path = whole_file
    path.write_bytes(content)
    assert load_state(path).step == 1
    damaged = bytearray(content)
    with open(path, "r+b", buffering=0) as file:
        for place in range(len(content)):
            damaged[place] ^= flip
            file.seek(0)
            file.write(damaged)
            with pytest.raises(ValueError, match=re.escape(f"{path} ")) as error:
                load_state(path)
            assert "damaged" in str(error.value)
            assert "upgrade" not in str(error.value)
            damaged[place] ^= flip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damaged_run_of_bytes_is_an_error(whole_file, data):
    content, path = whole_file
    place = data.draw(st.integers(0, len(content) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=40))[: len(content) - place]
    damaged = content[:place] + noise + content[place + len(noise) :]
    path.write_bytes(damaged)
    if damaged == content:
        assert load_state(path).step == 1
    else:
        with pytest.raises(ValueError, match=re.escape(f"{path} ")):
            load_state(path)


def test_a_damaged_format_may_be_a_newer_one(whole_file):
    content, path = whole_file
    path.write_bytes(content.replace(b'"gpuprop.format":"1"', b'"gpuprop.format":"3"'))
    with pytest.raises(ValueError, match="is damaged in its header, or was written by a newer gpuprop"):
        load_state(path)


def test_a_truncated_or_longer_file_is_an_error(whole_file):
    content, path = whole_file
    path.write_bytes(content)
    for length in reversed(range(len(content))):
        os.truncate(path, length)
        with pytest.raises(
            ValueError, match=re.escape(f"{path} is truncated, damaged, or no file of State.save")
        ):
            load_state(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(
        ValueError, match=re.escape(f"{path} is truncated, damaged, or no file of State.save")
    ):
        load_state(path)


def test_the_error_names_the_array_that_is_damaged(whole_file):
    content, path = whole_file
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    last = safetensors.safe_open(path, "numpy").offset_keys()[-1]
    with pytest.raises(ValueError, match=f"is damaged in {last}; load another copy"):
        load_state(path)


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n" + bytes(100), b"{}", b"x" * 1000], ids=["PNG", "JSON", "x"]
)
def test_a_file_of_another_kind_is_an_error(content, tmp_path):
    path = tmp_path / "state"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=re.escape(f"{path} is truncated, damaged, or no file of State.save")
    ):
        load_state(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_safetensors_file_of_another_program_is_an_error(metadata, tmp_path):
    safetensors.numpy.save_file({"weight": np.ones(3)}, tmp_path / "state", metadata)
    with pytest.raises(ValueError, match="a safetensors file of another program; it must be one of"):
        load_state(tmp_path / "state")


def test_what_is_no_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_state(tmp_path / "nowhere")
    with pytest.raises(OSError, match=re.escape(tmp_path.name)):
        load_state(tmp_path)


def test_a_newer_file_says_what_to_do(tmp_path, monkeypatch):
    state, _ = small_state()
    with monkeypatch.context() as future:
        future.setattr(container, "FORMAT", 3)
        future.setattr("gpuprop.checkpoint.container.__version__", "9.8.7")
        state.save(tmp_path / "state")
    with pytest.raises(
        ValueError,
        match=rf"was written by gpuprop 9\.8\.7 in format 3; this is gpuprop {gpuprop.__version__}, which "
        "reads up to format 2; mend: python -m pip install --upgrade gpuprop",
    ):
        load_state(tmp_path / "state")
