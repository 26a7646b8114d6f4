"""The main job as its user runs it: a process, its two streams and its exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import article
import numpy as np
import pytest
from parameters import BACKENDS

import gpuprop

pytestmark = pytest.mark.auto

SCRIPT = Path(__file__).parents[2] / "scripts" / "run_quadratic.py"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k == "GPUPROP_CACHE" or not k.startswith("GPUPROP_")}
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


@contextmanager
def started(*arguments: object):
    """A process that does not outlive the test, nor do its pipes."""
    with subprocess.Popen(
        command(*arguments), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    env = ENVIRONMENT | environment
    return subprocess.run(command(*arguments), env=env, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("device", [*BACKENDS, "auto"])
def test_prints_the_article(device):
    done = run("--device", device)
    assert (done.returncode, done.stdout) == (0, article.LINES)
    if device == "auto":
        device = gpuprop.select_backend().name
    assert f"running on {device}: " in done.stderr
    assert "falling back" not in done.stderr


@pytest.mark.parametrize("device", BACKENDS)
def test_prints_the_article_with_the_gradient_inside_the_step(device):
    done = run("--device", device, "--fused")
    assert (done.returncode, done.stdout) == (0, article.LINES)


def test_falls_back_and_says_so():
    done = run("--device", "gpu", **NO_GPU)
    assert (done.returncode, done.stdout) == (0, article.LINES)
    why, where = done.stderr.splitlines()
    assert "falling back from gpu: " in why
    assert "mend: " in why
    assert "running on cpu: " in where


def test_without_fallback_a_missing_device_is_an_error():
    done = run("--device", "gpu", "--no-fallback", **NO_GPU)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "mend: " in done.stderr


def test_a_bad_environment_is_one_line_and_exit_2():
    done = run(GPUPROP_DEVICE="tpu")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("GPUPROP_DEVICE is 'tpu'; it must be one of auto, gpu, cpu, numpy\n")
    done = run("--device", "cpu", GPUPROP_NUM_THREADS="two")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("GPUPROP_NUM_THREADS is 'two'; it must be a whole number of at least 1\n")


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, True])
def test_json(fused, tmp_path):
    file = tmp_path / "report.json"
    done = run("--device", "cpu", "--json", file, *["--fused"] * fused)
    assert done.stdout == article.LINES
    report = json.loads(file.read_text())
    assert report["trajectory"][0] == [5, 4]
    np.testing.assert_allclose(report["trajectory"][1:], article.trajectory(), rtol=1e-12)
    assert report["hyperparameters"] == {"learning_rate": 0.1, "rho": 0.9, "epsilon": 1e-6}
    assert report["device"] == "cpu"
    assert {"python", "numpy", "numba", "gpuprop"} <= report["versions"].keys()
    moved = report["gigabytes_per_second"] * 1e9 * report["seconds_per_step"]
    assert moved == pytest.approx(2 * (4 if fused else 5) * 8)
    assert (report["seconds_per_gradient"] == 0) == fused == report["fused"]
    share = report["gigabytes_per_second"] / report["memory_gigabytes_per_second"]
    assert report["share_of_memory_bandwidth"] == pytest.approx(share)


@pytest.mark.slow
def test_json_of_a_path_that_leaves_the_numbers(tmp_path):
    file = tmp_path / "report.json"
    run("--device", "numpy", "--dtype", "float32", "--learning-rate", "1e38", "--json", file)
    text = file.read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert [None, None] in json.loads(text)["trajectory"]


@pytest.mark.parametrize("device", BACKENDS)
def test_sizes_repeat_the_start(device):
    dtype = {"numpy": "float16", "cpu": "float32", "gpu": "float16"}[device]
    done = run("--device", device, "--dtype", dtype, "--size", 3, "--epochs", 2, "--every", 1)
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        first, second, third = line[line.index("[") + 1 : -1].split()
        assert first == third != second


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, True])
def test_a_large_run_says_how_fast_it_was(fused):
    arguments = ["--size", 200_001, "--epochs", 5, "--every", 100, "--dtype", "float32", *["--fused"] * fused]
    done = run("--device", "cpu", *arguments)
    assert done.stdout.count("\n") == 1
    assert ("ms a step with its gradient, " if fused else "ms a step, ") in done.stderr
    assert ("ms the gradient before it" in done.stderr) != fused
    assert "GB/s" in done.stderr
    assert "% of this machine's memory bandwidth" in done.stderr


@pytest.mark.parametrize("extension", [".png", pytest.param(".jpg", marks=pytest.mark.slow)])
def test_plot_is_a_picture_in_the_format_of_its_name(tmp_path, extension):
    file = tmp_path / f"path{extension}"
    assert run("--device", "numpy", "--size", 1, "--plot", file).returncode == 0
    import matplotlib.image

    assert file.read_bytes().startswith(b"\x89PNG" if extension == ".png" else b"\xff\xd8\xff")
    picture = matplotlib.image.imread(file)
    assert picture.shape[0] > 300
    assert picture.shape[1] > 600
    assert picture[..., :3].std() > 0.1


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
def test_checking_a_file_leaves_it_as_it_was(tmp_path):
    kept, made, link = (tmp_path / name for name in ("kept", "made", "link"))
    kept.write_text("precious")
    link.symlink_to(tmp_path / "nowhere")
    for file in (made, link):
        assert run("--json", kept, "--plot", file, "--rho", "2").returncode == 2
    assert kept.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "link"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_is_one_line():
    done = run("--device", "numpy", "--plot", "/dev/full")
    assert (done.returncode, done.stdout) == (2, article.LINES)
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_path_beyond_all_numbers_is_drawn(tmp_path):
    file = tmp_path / "path.png"
    done = run("--device", "numpy", "--learning-rate", "1e160", "--plot", file)
    assert done.returncode == 0, done.stderr
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
@pytest.mark.parametrize("after", [0.15, 0.3])
def test_ctrl_c_while_loading(after):
    with started("--device", "cpu", "--epochs", 10**9, "--every", 10**9) as process:
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "run_quadratic.py: interrupted" in errors.splitlines()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_ctrl_c_ends_what_swallows_exceptions():
    code = """
import os, signal, threading, time
import command_line

command_line.start()
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPT.parent, capture_output=True, timeout=60)
    assert done.returncode == 130, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_ctrl_c_ends_cleanly():
    with started("--device", "numpy", "--epochs", 10**9, "--every", 10) as process:
        assert process.stdout.readline().startswith("Epoch 0")
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "run_quadratic.py: interrupted"
    assert "Traceback" not in errors


@pytest.mark.skipif(os.name == "nt", reason="pipes are those of POSIX")
def test_a_reader_that_goes_away_is_no_traceback():
    with started("--device", "numpy", "--epochs", 10**6, "--every", 1) as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(60) == 1
    assert "Traceback" not in errors


@pytest.mark.skipif(os.name == "nt", reason="terminals are those of POSIX")
@pytest.mark.slow
def test_a_terminal_sees_progress():
    import fcntl
    import pty
    import struct
    import termios

    arguments = ("--device", "numpy", "--epochs", 60_000, "--every", 10**9)
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # a new one has no width
    started = subprocess.Popen(command(*arguments), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=child)
    os.close(child)
    shown = b""
    while True:
        try:
            chunk = os.read(parent, 4096)
        except OSError:  # Linux's word for the end of a terminal
            break
        if not chunk:
            break
        shown += chunk
    os.close(parent)
    started.communicate(timeout=60)
    assert b"/60001" in shown
