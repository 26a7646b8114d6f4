"""The main job on several ranks, as its user starts it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import article
import launch
import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
TRANSPORTS = [("cpu", "auto"), *[pytest.param("gpu", t, marks=pytest.mark.gpu) for t in ("mpi", "nccl")]]


def started(ranks, script, *arguments, gpu=False):
    return subprocess.Popen(
        [launch.MPIEXEC, "-n", str(ranks), sys.executable, str(SCRIPTS / script), *map(str, arguments)],
        env=os.environ | ({} if gpu else launch.HIDDEN),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(*arguments, **how):
    """The exit status, and what was said on stdout and stderr."""
    with started(*arguments, **how) as process:
        try:
            said = process.communicate(timeout=100)
        finally:
            process.kill()  # its ranks end with it
    return process.returncode, *said


@pytest.mark.parametrize(("device", "transport"), TRANSPORTS)
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_the_six_lines_are_printed_once(ranks, device, transport):
    if device == "gpu":
        launch.need_devices(ranks)
    arguments = ("--device", device, "--mpi", "--transport", transport)
    status, out, errors = run(ranks, "run_quadratic.py", *arguments, gpu=device == "gpu")
    assert (status, out) == (0, article.LINES), errors
    assert errors.count(f"running on {device}: ") == 1
    assert errors.endswith(f", on {ranks} rank{'s' * (ranks > 1)}\n")


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
def test_a_large_run_says_how_much_of_a_step_was_transfer(tmp_path, dtype):
    file = tmp_path / "report.json"
    arguments = ("--device", "cpu", "--mpi", "--size", 200_001, "--dtype", dtype, "--json", file)
    status, out, errors = run(2, "run_quadratic.py", *arguments)
    assert status == 0, errors
    assert out.count("Epoch ") == 6
    (line,) = re.findall("([0-9.]+) ms a step, of which ([0-9.]+) ms were transfer between ranks", errors)
    step, transfer = map(float, line)
    assert 0 < transfer < step
    report = json.loads(file.read_text())
    assert report["ranks"] == 2
    assert 0 < report["seconds_of_transfer_per_step"] < report["seconds_per_step"]
    found = np.array(report["trajectory"])[1:]
    if dtype == "float32":
        np.testing.assert_allclose(found[:81], article.trajectory()[:81], rtol=1e-3)


def test_one_rank_that_cannot_run_ends_all():
    status, out, errors = run(2, "run_quadratic.py", "--device", "gpu", "--no-fallback", "--mpi")
    assert (status, out) == (2, "")
    assert "mend: " in errors


@pytest.mark.gpu
def test_more_ranks_than_devices_for_nccl_are_an_error():
    arguments = ("--device", "gpu", "--mpi", "--transport", "nccl")
    count = launch.devices()
    status, out, errors = run(count + 1, "run_quadratic.py", *arguments, gpu=True)
    assert (status, out) == (2, "")
    assert f"ranks 0 and {count} both use the device" in errors
    assert "Traceback" not in errors


def test_ctrl_c_ends_all_ranks():
    arguments = ("--device", "numpy", "--mpi", "--epochs", 10**8, "--every", 1)
    with started(2, "run_quadratic.py", *arguments) as process:
        try:
            assert process.stdout.readline().startswith("Epoch 0")
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
            assert time.monotonic() - began < 20
        finally:
            process.kill()
    assert process.returncode != 0
    assert "interrupted" in errors
    assert "Traceback" not in errors


def test_the_times_of_ranks():
    status, out, errors = run(2, "time_ranks.py", "--size", 100_001, "--rounds", 3)
    assert status == 0, errors
    assert re.search("parts to whole: [0-9.]+\n", out)
    assert re.search("copies to part and plain MPI: [0-9.]+\n", out)
    assert "state of rank 0: 200004 bytes of 400004, 1/2\n" in out
