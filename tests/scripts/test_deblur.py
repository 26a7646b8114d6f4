"""The photograph that the driver restores."""

import re

import pytest

pytest.importorskip("matplotlib", reason="the photograph is in Matplotlib's sample data")

import command_line
from deblur import main


@pytest.mark.slow
def test_the_photograph_gets_better(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(command_line, "SECONDS", 0)
    picture = tmp_path / "picture.png"
    assert main(["--steps", "60", "--plot", str(picture)]) == 0
    printed = capsys.readouterr()
    said = [line.split(": ", 1)[1] for line in printed.err.splitlines()]
    assert said[:2] == ["checking the gradient", "restoring 320 x 320 grey values in at most 60 steps"]
    assert said[2:] == [f"step: {k} of 60" for k in range(60)]
    check, outcome = printed.out.splitlines()
    assert check.startswith("The gradient agrees")
    before, after = map(float, re.findall(r"([\d.]+) dB", outcome))
    assert after > before + 6
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--plot", "a.docx"], ["--plot", "/"], ["more"]])
def test_bad_input_is_one_line_and_exit_2(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)


def test_without_the_photograph_it_says_what_is_missing(capsys, monkeypatch):
    def missing(name):
        raise FileNotFoundError(2, "No such file or directory", name)

    monkeypatch.setattr("matplotlib.cbook.get_sample_data", missing)
    with pytest.raises(SystemExit, match="2"):
        main([])
    (line,) = capsys.readouterr().err.splitlines()
    assert "grace_hopper.jpg" in line
    assert line.endswith('mend: python -m pip install "gpuprop[plot]"')
