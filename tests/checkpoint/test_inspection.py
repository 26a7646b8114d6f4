"""What can be said of a file without its arrays."""

import tracemalloc

import numpy as np
import pytest
from saved_states import small_state

import gpuprop
from gpuprop import RMSProp, RuleOptimizer, schedules
from gpuprop.__main__ import main


def inspected(path, capsys):
    assert main(["inspect", str(path)]) == 0
    return capsys.readouterr().out.splitlines()


def test_it_says_what_the_file_holds(tmp_path, capsys, backend):
    x = backend.asarray(np.ones((3, 4), "complex64").T)
    optimizer = RMSProp(schedules.linear_schedule(0.1, 0.0, 9), momentum=0.9, bounds=(-np.inf, x * 2))
    optimizer = gpuprop.Adam(0.25) if backend.name == "gpu" else optimizer
    state = optimizer.init(x, backend=backend)
    optimizer.step(x, x, state)
    state.save(tmp_path / "state", x=x, losses=np.arange(5))
    first, written, about, step, where, *arrays = inspected(tmp_path / "state", capsys)
    size = (tmp_path / "state").stat().st_size
    assert first == f"{tmp_path / 'state'}: {size:,} bytes"
    assert written == f"written by gpuprop {gpuprop.__version__}, in format 1"
    assert (step, where) == ("step: 1, elements skipped: 0", f"backend: {backend.name}")
    assert "  extras.x: complex64 of shape (4, 3), 96 bytes" in arrays
    assert "  extras.losses: int64 of shape (5,), 40 bytes" in arrays
    assert "  state.square_average: complex64 of shape (4, 3), 96 bytes" in arrays
    if backend.name != "gpu":
        assert about.startswith("optimizer: RMSProp(learning_rate=linear_schedule(init_value=0.1, ")
        assert "bounds=(-inf, <the array optimizer.0>)" in about
        assert "  optimizer.0: complex64 of shape (4, 3), 96 bytes" in arrays


def test_what_is_code_is_named(tmp_path, capsys):
    state, x = small_state(optimizer=RMSProp(lambda step: 0.1))
    state.save(tmp_path / "state", x=x)
    about = inspected(tmp_path / "state", capsys)[2]
    assert "learning_rate=<code, which is in no file: test_inspection." in about
    state, x = small_state(optimizer=RuleOptimizer(gpuprop.Rule("r", ("grad",), ("x",), (), "x = x - grad")))
    state.save(tmp_path / "state", x=x)
    assert "RuleOptimizer(rule=Rule(name='r', " in inspected(tmp_path / "state", capsys)[2]


def test_arrays_are_not_read(tmp_path, capsys):
    x = np.ones(4_000_000)
    RMSProp().init(x).save(tmp_path / "state", x=x)
    with open(tmp_path / "state", "r+b") as file:  # damage that load_state would find
        file.seek(-8, 2)
        file.write(b"damaged!")
    tracemalloc.start()
    try:
        inspected(tmp_path / "state", capsys)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [None, b"", b"no file of a state", b"\xff" * 100])
def test_what_is_no_such_file_is_one_line_and_exit_2(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "state").write_bytes(content)
    assert main(["inspect", str(tmp_path / "state")]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert str(tmp_path / "state") in err
