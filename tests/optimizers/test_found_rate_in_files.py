"""A learning rate that is found, in files: told, damaged, and gone on from."""

import json
import struct

import numpy as np
import pytest
from found_rates import KINDS, start, stepped

from gpuprop import SGD, RMSProp, load_state, select_backend
from gpuprop.__main__ import main
from gpuprop.checkpoint import container


def test_what_is_said_of_a_file_names_the_rate(backend, tmp_path, capsys):
    _, state = start(KINDS["rmsprop"], backend, 3)
    state.save(tmp_path / "state")
    assert main(["inspect", str(tmp_path / "state")]) in (0, None)
    assert f"found_rate: {state.found_rate}" in capsys.readouterr().out
    _, given = start(RMSProp(0.1), backend, 3)
    given.save(tmp_path / "state")
    main(["inspect", str(tmp_path / "state")])
    assert "found_rate" not in capsys.readouterr().out


def test_a_huge_gradient_leaves_a_rate_that_can_be_saved_and_goes_on(backend, tmp_path):
    x, state = start(SGD("auto"), backend, 3)
    SGD("auto").step(x, backend.asarray(np.full(4, 1e154)), state)
    state.save(tmp_path / "state")
    assert load_state(tmp_path / "state").found_rate == state.found_rate
    before = backend.to_host(x).copy()
    SGD("auto").step(x, backend.asarray(np.full(4, 1e154)), state)
    assert (backend.to_host(x) != before).all()


@pytest.mark.parametrize(
    "tuning",
    [
        None, 1, "1", [], [1.0, 2.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, None], [-1.0, 8.0, 0.0],
        [1.0, True, 0.0], {},
    ],
)  # fmt: skip
def test_a_file_with_another_kind_of_rate_is_refused(tmp_path, tuning, forge):
    _, state = start(KINDS["rmsprop"], select_backend("numpy"), 3)
    path = tmp_path / "state"
    state.save(path)
    forge(path, tuning)
    with pytest.raises(ValueError, match=r"tuning is .*: it is damaged, or of another version"):
        load_state(path)


@pytest.mark.parametrize("tuning", [[1, 8, 0], [0, 1, 0]])
def test_a_file_with_whole_numbers_is_understood(tmp_path, tuning, backend, forge):
    x, state = start(KINDS["rmsprop"], backend, 3)
    path = tmp_path / "state"
    state.save(path)
    forge(path, tuning)
    other = load_state(path)
    assert other.found_rate == tuning[0]
    stepped(KINDS["rmsprop"], backend, x, other)


def test_a_file_without_a_rate_is_refused_or_begins_anew(tmp_path, backend, forge):
    x, state = start(KINDS["rmsprop"], backend, 3)
    path = tmp_path / "state"
    state.save(path)
    forge(path, "absent")
    try:
        other = load_state(path)
    except ValueError as error:
        assert "load another copy" in str(error)  # noqa: PT017
        return
    stepped(other.optimizer, backend, x, other)
    assert other.found_rate > 0


@pytest.fixture
def forge():
    """Writes another rate into a file, under a right checksum."""

    def change(path, tuning):
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header, data = json.loads(data[8 : 8 + length]), data[8 + length :]
        description = json.loads(header["__metadata__"]["gpuprop.description"])
        assert len(description.pop("tuning")) == 3
        description |= {} if tuning == "absent" else {"tuning": tuning}
        header["__metadata__"] |= {
            "gpuprop.description": json.dumps(description),
            "gpuprop.crc32": container.UNKNOWN,
        }
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        text = struct.pack("<Q", len(text)) + text
        path.write_bytes(container._with_checksum(text, container.UNKNOWN, container.checksum(text)) + data)

    return change
