import json
import os
import subprocess
import sys

import numpy as np
import pytest

import gpuprop
from gpuprop.__main__ import main
from gpuprop.measure import bandwidth, selfcheck

pytestmark = pytest.mark.auto


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(selfcheck, "_LARGE", 2**16)
    monkeypatch.setattr(bandwidth, "measured_bandwidth", lambda backend: 1e10)
    adagrad = [each for each in selfcheck.FAMILY if isinstance(each, gpuprop.AdaGrad)]
    monkeypatch.setattr(selfcheck, "FAMILY", adagrad)


def test_a_good_machine_is_called_good(small, capsys):
    assert main(["selfcheck"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "selfcheck: good"
    checked = [line for line in lines if "every bit" in line]
    fast = [line for line in lines if "ms a step" in line]
    assert len(checked) == len(fast) == len([line for line in lines if line.startswith(("gpu: ", "cpu: "))])


@pytest.mark.slow
def test_the_family_is_whole(monkeypatch):
    assert {each.rule.name for each in selfcheck.FAMILY} == {"rmsprop", "sgd", "adagrad", "adam"}
    monkeypatch.setattr(selfcheck, "COMPUTE_DTYPE", {np.dtype("float32"): np.dtype("float32")})
    assert list(selfcheck.differences(gpuprop.select_backend("cpu"), print)) == []


def test_without_a_gpu_it_says_why(small):
    done = subprocess.run(
        [sys.executable, "-c", "from gpuprop.measure import selfcheck; print(*selfcheck.devices(print))"],
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
    assert main(["selfcheck"]) == 1
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
    assert main(["selfcheck"]) == 1
    assert "WRONG: float64: AdaGrad(" in capsys.readouterr().out


def test_a_failure_is_shown_not_raised(small, capsys, monkeypatch):
    def fail(backend, tell):
        raise RuntimeError("the card has fallen off the bus")

    monkeypatch.setattr(selfcheck, "speed", fail)
    assert main(["selfcheck"]) == 1
    assert "FAILED: RuntimeError: the card has fallen off the bus" in capsys.readouterr().out


def test_each_part_is_told_before_it_runs(small, capsys, monkeypatch):
    assert main(["selfcheck"]) == 0
    told = capsys.readouterr().err.splitlines()
    for name in ("float16", "float32", "float64"):
        assert f"gpuprop: cpu: the article's trajectory and the family's in {name}" in told
    assert told[-1] == "gpuprop: cpu: timing a step of 65,536 parameters"
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["selfcheck"]) == 0
    assert capsys.readouterr().out.endswith("selfcheck: good\n")


def test_the_report_says_what_was_printed(small, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("GPUPROP_NUM_THREADS", "2")
    assert main(["selfcheck", "--json", str(tmp_path / "report")]) == 0
    out = capsys.readouterr().out
    report = json.loads((tmp_path / "report").read_text())
    assert report["good"] is True
    assert report["gpuprop"] == gpuprop.__version__
    assert report["versions"]["numpy"] == np.__version__
    assert report["environment"]["GPUPROP_NUM_THREADS"] == "2"
    for device in report["devices"]:
        assert f"{device['backend']}: {device['device']}\n" in out
        assert f"{device['step']['parameters']:,} parameters, float32: " in out
    assert all(line in out for line in report["missing"])


def test_quick_leaves_out_the_family_and_the_timing(capsys, monkeypatch):
    for name in ("walk", "speed"):
        monkeypatch.setattr(selfcheck, name, None)
    assert main(["selfcheck", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "  the article's trajectory: every bit" in out
    assert "ms a step" not in out
