import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpuprop
from gpuprop.measure import selfcheck


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(selfcheck, "_LARGE", 2**16)
    monkeypatch.setattr(gpuprop.measure.bandwidth, "measured_bandwidth", lambda backend: 1e10)
    adagrad = [each for each in selfcheck.FAMILY if isinstance(each, gpuprop.AdaGrad)]
    monkeypatch.setattr(selfcheck, "FAMILY", adagrad)


def test_a_good_machine_is_called_good(small, capsys):
    assert selfcheck.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "selfcheck: good"
    checked = [line for line in lines if "every bit" in line]
    fast = [line for line in lines if "ms a step" in line]
    assert len(checked) == len(fast) == len([line for line in lines if line.startswith(("gpu: ", "cpu: "))])


@pytest.mark.slow
def test_the_family_is_whole(monkeypatch):
    assert {each.rule.name for each in selfcheck.FAMILY} == {"rmsprop", "sgd", "adagrad", "adam"}
    monkeypatch.setattr(selfcheck, "COMPUTE_DTYPE", {np.dtype("float32"): np.dtype("float32")})
    assert list(selfcheck.differences(gpuprop.select_backend("cpu"))) == []


def test_without_a_gpu_it_says_why(small):
    done = subprocess.run(
        [sys.executable, "-c", "from gpuprop.measure import selfcheck; print(*selfcheck.devices())"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    why, names = done.stdout.splitlines()
    assert why.startswith("no GPU: ")
    assert "mend: " in why
    assert names.startswith("(<gpuprop backend 'cpu'>, ")
    assert names.count("gpuprop backend") == 1


@pytest.mark.parametrize("epoch", [0, 77])
def test_one_wrong_bit_is_seen(small, capsys, monkeypatch, epoch):
    right = selfcheck.trajectory

    def wrong(backend, dtype):
        points = right(backend, dtype)
        if backend.name == "cpu" and dtype == "float32":
            points[epoch, 1] = np.nextafter(points[epoch, 1], np.float32(9))
        return points

    monkeypatch.setattr(selfcheck, "trajectory", wrong)
    assert selfcheck.main() == 1
    out = capsys.readouterr().out
    assert f"WRONG: float32 leaves the reference's trajectory at epoch {epoch}" in out
    assert out.splitlines()[-1] == "selfcheck: 1 device(s) NOT good, see above"


def test_a_wrong_rule_of_the_family_is_seen(small, capsys, monkeypatch):
    right = selfcheck.walk

    def wrong(optimizer, backend, dtype):
        x = right(optimizer, backend, dtype)
        is_wrong = backend.name == "cpu" and dtype == "float64" and isinstance(optimizer, gpuprop.AdaGrad)
        return x + np.spacing(x) if is_wrong else x

    monkeypatch.setattr(selfcheck, "walk", wrong)
    assert selfcheck.main() == 1
    assert "WRONG: float64: AdaGrad(" in capsys.readouterr().out


def test_a_failure_is_shown_not_raised(small, capsys, monkeypatch):
    def fail(backend):
        raise RuntimeError("the card has fallen off the bus")

    monkeypatch.setattr(selfcheck, "speed", fail)
    assert selfcheck.main() == 1
    assert "FAILED: RuntimeError: the card has fallen off the bus" in capsys.readouterr().out


def test_each_part_is_told_before_it_runs(small, capsys, monkeypatch):
    assert selfcheck.main() == 0
    told = capsys.readouterr().err.splitlines()
    for name in ("float16", "float32", "float64"):
        assert f"selfcheck: cpu: the article's trajectory and the family's in {name}" in told
    assert told[-1] == "selfcheck: cpu: timing a step of 65,536 parameters"
    monkeypatch.setattr(sys, "stderr", None)
    assert selfcheck.main() == 0
    assert capsys.readouterr().out.endswith("selfcheck: good\n")


def test_unknown_arguments_are_one_line_and_exit_2(capsys):
    for arguments in (["--anything"], ["gpu"], ["--help=1"]):
        with pytest.raises(SystemExit, match="2"):
            selfcheck.main(arguments)
        printed = capsys.readouterr()
        assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    with pytest.raises(SystemExit, match="0"):
        selfcheck.main(["--help"])
    printed = capsys.readouterr()
    assert printed.out.startswith("usage: python -m gpuprop.selfcheck [-h]\n")
    assert printed.err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize(
    ("redirect", "code", "errors"),
    [
        (">&-", 2, "selfcheck: stdout is closed; send it to a file, or to /dev/null\n"),
        (">/dev/full", 2, "selfcheck: cannot write to stdout: No space left on device\n"),
        ("--anything 2>/dev/full", 2, ""),
        pytest.param(">/dev/full 2>/dev/full", 2, "", marks=pytest.mark.slow),
        pytest.param("--help >/dev/full 2>&-", 2, "", marks=pytest.mark.slow),
        pytest.param("2>/dev/full", 0, "", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("optimized", ["", pytest.param("2", marks=pytest.mark.slow)])
def test_streams_that_cannot_be_written(redirect, code, errors, optimized):
    done = subprocess.run(
        f"{sys.executable} -m gpuprop.measure.selfcheck {redirect}", shell=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONOPTIMIZE": optimized, "PYTHONUNBUFFERED": ""}, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, errors)
    assert done.stdout.endswith("selfcheck: good\n" if code == 0 else "")


def test_a_folder_that_is_gone_and_ctrl_c(small, tmp_path, monkeypatch, capsys):
    def interrupt(backend):
        raise KeyboardInterrupt

    monkeypatch.setattr(selfcheck, "speed", interrupt)
    assert selfcheck.main() == 130
    assert capsys.readouterr().err.endswith("selfcheck: interrupted\n")
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert selfcheck.main() == 2
    assert capsys.readouterr().err.startswith("selfcheck: cannot go on in this folder: ")
