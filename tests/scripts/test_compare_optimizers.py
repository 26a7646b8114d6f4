"""The comparison of the optimizers: what it claims, what it prints, what it does when things lack."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import compare_optimizers
import numpy as np
import pytest
from compare_optimizers import METHODS, main
from objectives import Quadratic

import gpuprop

SCRIPT = Path(compare_optimizers.__file__)
NO_GPU = {k: v for k, v in os.environ.items() if k == "GPUPROP_CACHE" or not k.startswith("GPUPROP_")} | {
    "CUDA_VISIBLE_DEVICES": ""
}
PLANE = ["quadratic", "rosenbrock", "saddle"]


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


def table(text: str) -> dict[str, dict[str, list[str]]]:
    """Cells by title of the problem and name of the optimizer."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in text.splitlines():
        if ", f = " in line:
            rows = found[line.split(", f = ")[0]] = {}
        elif line[:20].strip() and found:
            rows[line[:20].strip()] = [line[a:b].strip() for a, b in ((20, 33), (33, 52), (52, 66), (66, 99))]
    return found


@pytest.fixture(scope="module")
def quadratic(tmp_path_factory):
    """The report on the ill-scaled quadratic as anyone gets it."""
    file = tmp_path_factory.mktemp("compare") / "report.json"
    assert main(["--device", "cpu", "--problems", "quadratic", "--json", str(file)]) == 0
    return json.loads(file.read_text())["problems"]["quadratic"]


@pytest.mark.slow
def test_rmsprop_is_sooner_than_sgd_on_an_ill_scaled_quadratic(quadratic):
    rows = quadratic["rows"]
    assert rows["RMSProp"]["runs_within"] == quadratic["runs"]
    for faster in ("RMSProp", "RMSProp, momentum", "RMSProp, centred", "momentum", "Adam"):
        assert 2 * rows[faster]["steps_to_target"] < rows["SGD, full batch"]["steps_to_target"]
    assert rows["RMSProp, momentum"]["steps_to_target"] < rows["RMSProp"]["steps_to_target"]


def test_turning_the_quadratic_takes_the_advantage_away():
    class Turned(Quadratic):
        """By 45 degrees: no scale for each parameter mends it."""

        turn = np.array([[1, 1], [-1, 1]]) / math.sqrt(2)

        def value(self, points):
            return super().value(points @ self.turn)

        def gradient(self, x):
            return super().gradient(x @ self.turn) @ self.turn.T

    objective = Turned(gpuprop.select_backend("cpu"))
    sgd, rmsprop = (
        compare_optimizers.compete(objective, METHODS[name], objective.steps, 0)["steps_to_target"]
        for name in ("SGD, full batch", "RMSProp")
    )
    assert sgd < rmsprop


@pytest.mark.slow
def test_sgd_on_the_quadratic_is_what_algebra_says(quadratic):
    row = quadratic["rows"]["SGD, full batch"]
    starts = Quadratic(gpuprop.select_backend("numpy")).starts(np.random.default_rng([0, 0]))
    starts[0] = 5, 4
    curvature, k = np.array([1, 1000]), np.arange(quadratic["steps"] + 1)
    x = starts * (1 - row["learning_rate"] * curvature) ** k[:, None, None]
    gaps = (curvature * x**2).sum(axis=2) / 2
    np.testing.assert_allclose(np.array(row["path"]), x[:, 0], rtol=1e-9, atol=1e-300)
    assert row["final"] == pytest.approx(np.median(gaps[-1]))
    # At this rate f only falls: a run stays within the target from where it is first there.
    first = np.where(gaps[-1] <= 1, (gaps <= 1).argmax(axis=0), np.inf)
    assert row["steps_to_target"] == np.median(first)
    assert row["runs_within"] == np.isfinite(first).sum()


def test_the_target_is_reached_where_the_median_run_stays_within():
    random = np.random.default_rng(3)
    objective = Quadratic(gpuprop.select_backend("numpy"))
    points = random.normal(scale=np.geomspace(10, 0.01, 50)[:, None, None], size=(50, 7, 2))
    points[5, :2], points[-1, 0] = np.nan, np.nan
    worst = compare_optimizers.worst_to_come(objective, points)
    gaps = (points[..., 0] ** 2 + 1000 * points[..., 1] ** 2) / 2
    for k in range(50):
        with np.errstate(invalid="ignore"):
            expected = np.where(np.isnan(gaps[k:]).any(axis=0), math.inf, gaps[k:].max(axis=0))
        np.testing.assert_array_equal(worst[k], expected)


@pytest.mark.parametrize("device", ["numpy", "cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_the_table_says_what_the_json_says(device, tmp_path, capsys):
    file = tmp_path / "report.json"
    assert main(["--device", device, "--steps", "12", "--problems", *PLANE, "--json", str(file)]) == 0
    printed = capsys.readouterr()
    assert f"running on {device}: " in printed.err
    report = json.loads(file.read_text())
    assert report["device"] == device
    shown = table(printed.out)
    assert list(report["problems"]) == PLANE
    assert list(shown) == [problem["title"] for problem in report["problems"].values()]
    for problem in report["problems"].values():
        cells = shown[problem["title"]]
        assert cells.keys() == problem["rows"].keys() == METHODS.keys() - {"SGD, mini-batch", "AdamW"}
        for name, row in problem["rows"].items():
            steps = "not reached" if row["steps_to_target"] is None else str(row["steps_to_target"])
            final = math.inf if row["final"] is None else row["final"]
            expected = [f"{row['learning_rate']:.3g}", steps, str(row["runs_within"]), f"{final:.1e}"]
            assert cells[name] == expected
            curve = np.array(row["worst_to_come"], dtype=float)
            assert len(curve) == len(row["path"]) == 13
            within = np.flatnonzero(curve <= problem["target"])
            assert row["steps_to_target"] == (within[0] if len(within) else None)
            assert (row["runs_within"] > problem["runs"] / 2) == (row["steps_to_target"] is not None)


def test_every_device_prints_the_same_numbers(compiled, capsys):
    tables = []
    for device in ("numpy", compiled.name):
        main(["--device", device, "--steps", "8", "--problems", *PLANE])
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]


def test_the_seed_decides_the_runs(capsys):
    outputs = []
    for seed in ("7", "7", "8"):
        main(["--device", "numpy", "--steps", "3", "--problems", "saddle", "--seed", seed])
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.slow
def test_mini_batches_are_sooner_than_the_whole_data_on_logistic_regression(tmp_path, capsys):
    pytest.importorskip("sklearn")
    file, picture = tmp_path / "report.json", tmp_path / "picture.png"
    arguments = ["--device", "numpy", "--problems", "logistic", "--steps", "8", "--plot", str(picture)]
    assert main([*arguments, "--json", str(file)]) == 0
    problem = json.loads(file.read_text())["problems"]["logistic"]
    shown = table(capsys.readouterr().out)[problem["title"]]
    assert problem["rows"].keys() == shown.keys() == METHODS.keys()
    final = {name: row["final"] for name, row in problem["rows"].items()}
    assert max(final, key=final.get) == "SGD, full batch"
    assert final["SGD, mini-batch"] < final["SGD, full batch"] / 2
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_scikit_learn_its_problem_is_left_out(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert main(["--device", "numpy", "--steps", "2", "--problems", "logistic", "saddle"]) == 0
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if line.startswith("left out: logistic regression"))
    assert "sklearn" in line
    assert line.endswith('; mend: python -m pip install "gpuprop[compare]")')
    assert list(table(out)) == ["saddle"]
    assert main(["--device", "numpy", "--problems", "logistic"]) == 2
    assert capsys.readouterr().err.endswith("nothing could be compared\n")


@pytest.mark.auto
def test_falls_back_and_says_so(capsys):
    try:
        gpuprop.select_backend("gpu")
    except gpuprop.DeviceUnavailableError:
        assert main(["--device", "gpu", "--steps", "1", "--problems", "saddle"]) == 0
        why, where = capsys.readouterr().err.splitlines()
        assert "falling back from gpu: " in why
        assert "running on cpu: " in where
    else:
        pytest.skip("there is a GPU")


@pytest.mark.auto
def test_without_fallback_a_missing_device_is_an_error():
    arguments = command("--device", "gpu", "--no-fallback")
    done = subprocess.run(arguments, env=NO_GPU, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "mend: " in done.stderr


@pytest.mark.slow
def test_from_end_to_end(tmp_path):
    report, picture = tmp_path / "report.json", tmp_path / "picture.png"
    arguments = ["--device", "numpy", "--steps", 1, "--problems", *PLANE, "--json", report, "--plot", picture]
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert len(table(done.stdout)) == len(json.loads(report.read_text())["problems"]) == 3
    import matplotlib.image

    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[0] > 600
    assert pixels.shape[1] > 1000
    assert pixels[..., :3].std() > 0.1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_is_one_line_and_exit_2(capsys):
    arguments = ["--device", "numpy", "--steps", "1", "--problems", "saddle", "--json", "/dev/full"]
    assert main(arguments) == 2
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_ctrl_c_ends_cleanly():
    with subprocess.Popen(
        command("--device", "numpy", "--problems", "saddle", "--steps", 10**6),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as started:  # fmt: skip
        try:
            assert "running on numpy" in started.stderr.readline()
            time.sleep(0.2)
            started.send_signal(signal.SIGINT)
            _, errors = started.communicate(timeout=60)
        finally:
            started.kill()
    assert started.returncode == 130
    assert errors == "compare_optimizers.py: interrupted\n"
