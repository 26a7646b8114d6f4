"""What a launch costs, small, from end to end."""

import json

import pytest
import time_launches

import gpuprop


def test_without_a_device_it_says_so(monkeypatch, capsys):
    def none(device, *, fallback):
        raise gpuprop.DeviceUnavailableError("there is none; mend: buy one")

    monkeypatch.setattr(gpuprop, "select_backend", none)
    assert time_launches.main([]) == 2
    assert capsys.readouterr().err.endswith(": there is none; mend: buy one\n")


@pytest.fixture
def report(tmp_path):
    return tmp_path / "report.json"


ARGUMENTS = ["--sizes", "2", "1000", "--rounds", "1"]


@pytest.mark.gpu
def test_graphs_and_passes_have_the_bits_of_steps(report, capsys):
    assert time_launches.main([*ARGUMENTS, "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert len(found["host_seconds"]) == 5
    assert [row["size"] for row in found["graphs"]] == [2, 1000]
    has_fuse = hasattr(gpuprop.RMSProp(), "fuse")
    assert [row["size"] for row in found["passes"]] == ([2, 1000] if has_fuse else [])
    assert ("steps a pass" in found["left_out"]) != has_fuse
    for row in found["graphs"] + found["passes"]:
        assert row["same_bits"]
        assert min(row["seconds_per_step"].values()) > 0
        assert len(row["seconds_per_step"]) == len(row["times_as_fast"]) == 4
    assert "1,000 parameters, float32: the same bits\n" in capsys.readouterr().out


@pytest.mark.gpu
def test_other_bits_and_errors_are_exit_1_and_lose_nothing(report, monkeypatch, capsys):
    class Fused:
        """Takes one step, however many are asked for."""

        def __init__(self, optimizer):
            self.optimizer = optimizer

        def run(self, x, data, state, *, steps):
            self.optimizer.step(x, 2 * x, state)

    monkeypatch.setattr(gpuprop.RMSProp, "fuse", lambda self, before: Fused(self), raising=False)
    assert time_launches.main([*ARGUMENTS, "--json", str(report)]) == 1
    assert capsys.readouterr().err.endswith("with 2, 1000 parameters the bits are not those of plain steps\n")
    assert [row["same_bits"] for row in json.loads(report.read_text())["passes"]] == [False, False]

    monkeypatch.setattr(Fused, "run", lambda *_, **__: 1 / 0)
    assert time_launches.main([*ARGUMENTS, "--json", str(report)]) == 1
    found = json.loads(report.read_text())
    assert found["left_out"] == {"steps a pass": "ZeroDivisionError: division by zero"}
    assert all(row["same_bits"] for row in found["graphs"])
