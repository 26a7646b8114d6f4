"""The command line of the package: arguments, streams and exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gpuprop
from gpuprop.__main__ import main
from gpuprop.measure import selfcheck

pytestmark = pytest.mark.auto


def test_unknown_arguments_are_one_line_and_exit_2(capsys):
    for line in ("", "check", "selfcheck --anything", "selfcheck gpu", "--help=1", "inspect"):
        with pytest.raises(SystemExit, match="2"):
            main(line.split())
        printed = capsys.readouterr()
        assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    for command in ("selfcheck", "inspect"):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        printed = capsys.readouterr()
        assert printed.out.startswith(f"usage: python -m gpuprop {command} [-h] ")
        assert printed.err == ""


def test_the_version_is_said(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"gpuprop {gpuprop.__version__}\n"


def test_a_report_that_cannot_be_written_is_refused_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(selfcheck, "check", None)
    for path in (tmp_path, tmp_path / "no folder" / "report"):
        with pytest.raises(SystemExit, match="2"):
            main(["selfcheck", "--json", str(path)])
        assert "cannot write" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["selfcheck", "--json", str(tmp_path / "report"), "--anything"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize(
    ("redirect", "code", "errors"),
    [
        (">&-", 2, "gpuprop: stdout is closed; send it to a file, or to /dev/null\n"),
        (">/dev/full", 2, "gpuprop: cannot write to stdout: No space left on device\n"),
        ("--anything 2>/dev/full", 2, ""),
        pytest.param(">/dev/full 2>/dev/full", 2, "", marks=pytest.mark.slow),
        pytest.param("--help >/dev/full 2>&-", 2, "", marks=pytest.mark.slow),
        pytest.param("2>/dev/full", 0, "", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("optimized", ["", pytest.param("2", marks=pytest.mark.slow)])
def test_streams_that_cannot_be_written(redirect, code, errors, optimized):
    done = subprocess.run(
        f"{sys.executable} -m gpuprop selfcheck --quick {redirect}",
        shell=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONOPTIMIZE": optimized, "PYTHONUNBUFFERED": ""}, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, errors)
    assert done.stdout.endswith("selfcheck: good\n" if code == 0 else "")


def test_ctrl_c_is_one_line_and_exit_130(capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(selfcheck, "trajectory", interrupt)
    assert main(["selfcheck"]) == 130
    assert capsys.readouterr().err.endswith("gpuprop: interrupted\n")
