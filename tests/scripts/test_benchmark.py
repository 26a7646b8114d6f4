"""The benchmark, small, from end to end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import benchmark
import numpy as np
import pytest
from contenders import CONTENDERS, OF_FUSED, WITH_FUSED, Absent, Problem
from parameters import COMPILED
from workloads import DTYPES, element_of, problem_of, rule_and_bytes

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
        "--variants", "plain", "momentum+centered", "modulus", "rates", "average", "fused",
        "--contenders", "gpuprop", "floor", "article", "gradient + step", "ten in a pass",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain, both, *others, fused = json.loads(report.read_text())["rows"]
    assert [row["bytes_per_step"] for row in others] == [8 * 4000, 6 * 4000, 7 * 4000]
    assert all(row["ratio_to_floor"].keys() == {"gpuprop", "floor"} for row in others)
    assert (plain["variant"], plain["bytes_per_step"]) == ("plain", 5 * 4000)
    assert (both["variant"], both["bytes_per_step"]) == ("momentum+centered", 9 * 4000)
    assert both["ratio_to_floor"].keys() == {"gpuprop", "floor"}
    assert (fused["variant"], fused["bytes_per_step"]) == ("fused", 4 * 4000)
    names = {"gpuprop", "floor", "article", "gradient + step", "ten in a pass"}
    assert fused["ratio_to_floor"].keys() == names
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
@pytest.mark.parametrize("is_fused", [False, True], ids=["given", "fused"])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "centered": True}], ids=["plain", "both"])
@pytest.mark.parametrize("name", [name for name in CONTENDERS if name != "floor"])
def test_contenders_make_the_same_step(name, options, is_fused, compiled):
    dtype, rtol = ("float32", 1e-6) if name == "bitsandbytes" else ("float64", 1e-12)
    optimizer = gpuprop.RMSProp(**options)
    grad, x, expected = (compiled.asarray(np.linspace(a, a + 1, 1000, dtype=dtype)) for a in (0.5, 1, 1))
    if (is_fused and name not in WITH_FUSED) or (name in OF_FUSED and not is_fused):
        pytest.skip("not in this variant")
    fused = optimizer.fuse("grad = 2 * x") if is_fused else None
    problem = Problem(compiled, optimizer, grad, x, optimizer.init(x), fused)
    state = optimizer.init(expected)
    for each in problem.state, vars(state):  # optax starts at zero
        each["square_average"][...] = 0 if name == "optax jit" else 2
    for _ in range(10 if name == "ten in a pass" else 1):
        optimizer.step(expected, 2 * expected if is_fused else grad, state)
    try:
        step = CONTENDERS[name](problem)
    except Absent as reason:
        pytest.skip(str(reason))
    stepped = step()
    if name not in ("article", "cupy.fuse", "optax jit"):
        stepped = x, problem.state["square_average"]
    for got, wanted in zip(stepped, (expected, state.square_average), strict=True):
        np.testing.assert_allclose(compiled.to_host(got), compiled.to_host(wanted), rtol=rtol)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_has_what_to_work_on(dtype, compiled):
    pytest.importorskip("ml_dtypes", reason="bfloat16 in NumPy")
    element = element_of("plain", dtype)
    problem = problem_of(compiled, "plain", 2**20 + 5, element)  # two pieces
    assert {a.dtype for a in (problem.grad, problem.x, *problem.state.values())} == {element}
    ends = compiled.to_host(problem.grad[[0, 2**20 - 1, 2**20, -1]])
    np.testing.assert_array_equal(
        ends.astype(complex), np.array([0.5, 1.5] * 2) * (1 + 1j * (element.kind == "c"))
    )
    CONTENDERS["gpuprop"](problem)()
    assert problem.made.step == 1
    assert rule_and_bytes("plain", element)[1] == 5 * element.itemsize


def test_what_fits_is_not_asked_of_a_hosts_memory(capsys):
    assert benchmark.main(["--device", "cpu", "--sizes", "fit"]) == 2
    assert capsys.readouterr().err.endswith(
        "--sizes fit is of the memory of a GPU; give a number of parameters\n"
    )


@pytest.mark.gpu
def test_what_fits_is_found_out(monkeypatch, tmp_path):
    report = tmp_path / "report.json"
    monkeypatch.setattr(benchmark, "available_bytes", lambda backend: 12_000 * 100)
    arguments = [
        "--device",
        "gpu",
        "--sizes",
        "1e5",
        "fit",
        "--dtypes",
        "float32",
        "float64",
        "--rounds",
        "1",
    ]
    arguments += ["--contenders", "gpuprop", "floor", "--json", str(report)]
    assert benchmark.main(arguments) == 0
    found = json.loads(report.read_text())
    assert [(row["dtype"], row["size"]) for row in found["rows"]] == [
        ("float32", 95_000),
        ("float64", 47_000),
    ]
    assert found["left_out"] == {
        f"100,000 parameters, {dtype}": "would not fit in memory" for dtype in ("float32", "float64")
    }


def test_no_row_is_begun_that_would_end_too_late(monkeypatch, capsys, tmp_path):
    report = tmp_path / "report.json"
    monkeypatch.setattr(benchmark, "measure", lambda *_: time.sleep(0.2) or ({"gpuprop": [1.0]}, {}))
    arguments = ["--device", "cpu", "--sizes", "10", "20", "30", "--dtypes", "float32", "--seconds", "0.5"]
    assert benchmark.main([*arguments, "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert [row["size"] for row in found["rows"]] == [10, 20]
    assert found["left_out"] == {"30 parameters, float32": "the time is up"}
