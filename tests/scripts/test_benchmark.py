"""The benchmark, small, from end to end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import COMPILED
from contenders import CONTENDERS, Absent, Problem

import gpuprop

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


def run(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("device", COMPILED)
def test_from_end_to_end(device, tmp_path):
    report, picture = tmp_path / "report.json", tmp_path / "picture.png"
    done = run(
        "--device", device, "--sizes", 2, 1000, "--rounds", 3, "--json", report, "--plot", picture,
        "--contenders", "gpuprop", "floor", "article",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1,000 parameters, float64" in done.stdout
    rows = json.loads(report.read_text())["rows"]
    assert [(row["size"], row["dtype"]) for row in rows] == [
        (size, dtype) for dtype in ("float32", "float64") for size in (2, 1000)
    ]
    for row in rows:
        assert row["seconds_per_step"].keys() == {"gpuprop", "floor", "article"}
        assert min(row["seconds_per_step"].values()) > 0
        assert row["bytes_per_step"] == row["size"] * 5 * (4 if row["dtype"] == "float32" else 8)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity mask")
def test_threads_and_what_does_not_fit():
    done = run(
        "--device", "cpu", "--threads", 1, "--sizes", 10, 10**13, "--rounds", 1, "--contenders", "gpuprop"
    )
    assert done.returncode == 0, done.stderr
    assert ", 1 thread, " in done.stdout
    assert "10,000,000,000,000 parameters, float32: left out, would not fit in memory" in done.stdout


@pytest.mark.parametrize("arguments", [["--sizes", "0"], ["--contenders", "us"], ["--json", "/no/such/file"]])
def test_bad_input_is_one_line_and_exit_2(arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in CONTENDERS if name != "floor"])
def test_contenders_make_the_same_step(name):
    backend = gpuprop.select_backend("cpu")
    grad, x, average = np.linspace(0.5, 1.5, 1000), np.linspace(1, 2, 1000), np.ones(1000)
    updates, s = gpuprop.reference.rmsprop(0.1, 0.9, 1e-6, grad, average)
    expected = x - updates
    problem = Problem(backend, gpuprop.RMSProp(), grad, x, average)
    try:
        step = CONTENDERS[name](problem)
    except Absent as reason:
        pytest.skip(str(reason))
    stepped = step()
    if name not in ("article", "optax jit"):
        stepped = x, average
    np.testing.assert_allclose(stepped[0], expected, rtol=1e-12)
    np.testing.assert_allclose(stepped[1], s, rtol=1e-12)
