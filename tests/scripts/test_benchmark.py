"""The benchmark, small, from end to end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import benchmark
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
    assert "1,000 parameters, float64, plain" in done.stdout
    rows = json.loads(report.read_text())["rows"]
    assert [(row["size"], row["dtype"]) for row in rows] == [
        (size, dtype) for dtype in ("float32", "float64") for size in (2, 1000)
    ]
    for row in rows:
        assert row["seconds_per_step"].keys() == {"gpuprop", "floor", "article"}
        assert min(row["seconds_per_step"].values()) > 0
        assert row["bytes_per_step"] == row["size"] * 5 * (4 if row["dtype"] == "float32" else 8)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_variants_have_their_own_floor(tmp_path):
    report = tmp_path / "report.json"
    done = run(
        "--device", "cpu", "--sizes", 1000, "--rounds", 1, "--dtypes", "float32", "--json", report,
        "--variants", "plain", "momentum+centered", "modulus", "rates", "average",
        "--contenders", "gpuprop", "floor", "article",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain, both, *others = json.loads(report.read_text())["rows"]
    assert [row["bytes_per_step"] for row in others] == [8 * 4000, 6 * 4000, 7 * 4000]
    assert all(row["ratio_to_floor"].keys() == {"gpuprop", "floor"} for row in others)
    assert (plain["variant"], plain["bytes_per_step"]) == ("plain", 5 * 4000)
    assert (both["variant"], both["bytes_per_step"]) == ("momentum+centered", 9 * 4000)
    assert both["ratio_to_floor"].keys() == {"gpuprop", "floor"}
    assert "left out: article (it has no such option" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity mask")
def test_threads_and_what_does_not_fit():
    done = run(
        "--device", "cpu", "--threads", 1, "--sizes", 10, 10**13, "--rounds", 1, "--contenders", "gpuprop"
    )
    assert done.returncode == 0, done.stderr
    assert ", 1 thread, " in done.stdout
    assert "10,000,000,000,000 parameters, float32: left out, would not fit in memory" in done.stdout


def test_where_nothing_can_be_timed_it_says_so(capsys, tmp_path):
    picture = tmp_path / "picture.png"
    assert benchmark.main(["--device", "cpu", "--sizes", "1e13", "--plot", str(picture)]) == 2
    printed = capsys.readouterr()
    assert "10,000,000,000,000 parameters, float64: left out, would not fit in memory" in printed.out
    assert printed.err.endswith("nothing could be timed\n")
    assert not picture.exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "centered": True}], ids=["plain", "both"])
@pytest.mark.parametrize("name", [name for name in CONTENDERS if name != "floor"])
def test_contenders_make_the_same_step(name, options):
    backend = gpuprop.select_backend("cpu")
    optimizer = gpuprop.RMSProp(**options)
    grad, x = np.linspace(0.5, 1.5, 1000), np.linspace(1, 2, 1000)
    averages = {array: np.full(1000, 2.0 * ("square" in array)) for array in optimizer.rule.writes[1:]}
    expected = x.copy(), {array: value.copy() for array, value in averages.items()}
    if name == "optax jit":  # starts at zero
        expected[1]["square_average"][:] = averages["square_average"][:] = 0
    state = optimizer.init(x)
    vars(state).update(expected[1])
    optimizer.step(expected[0], grad, state)
    problem = Problem(backend, optimizer, grad, x, averages)
    try:
        step = CONTENDERS[name](problem)
    except Absent as reason:
        pytest.skip(str(reason))
    stepped = step()
    stepped_x, stepped_average = (
        stepped if name in ("article", "optax jit") else (x, averages["square_average"])
    )
    np.testing.assert_allclose(stepped_x, expected[0], rtol=1e-12)
    np.testing.assert_allclose(stepped_average, state.square_average, rtol=1e-12)
