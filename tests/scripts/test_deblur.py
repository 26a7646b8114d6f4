"""The photograph that the driver restores."""

import re

import pytest

pytest.importorskip("matplotlib", reason="the photograph is in Matplotlib's sample data")

from deblur import main


def test_the_photograph_gets_better(capsys, tmp_path):
    picture = tmp_path / "picture.png"
    assert main(["--steps", "60", "--plot", str(picture)]) == 0
    check, outcome = capsys.readouterr().out.splitlines()
    assert check.startswith("The gradient agrees")
    before, after = map(float, re.findall(r"([\d.]+) dB", outcome))
    assert after > before + 6
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_bad_input_is_one_line_and_exit_2(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--steps", "0"])
    assert len(capsys.readouterr().err.splitlines()) == 1
