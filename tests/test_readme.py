"""The README's Python runs as it stands, from top to bottom, and prints what it says."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_every_block_in_turn(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, left_out, compared = {}, [], 0
    for block in BLOCKS:
        try:
            exec(compile(block, "README.md", "exec"), names)
        except ModuleNotFoundError as error:
            left_out.append(error.name)
            continue
        printed = capsys.readouterr().out.splitlines()
        promised = re.findall(r"^print\(.*\)(?:  |\n)# (.*)$", block, re.MULTILINE)
        for promise in promised:
            assert promise in printed
        compared += len(promised)
    assert compared >= 3
    assert set(left_out) <= {"torch"}


@pytest.mark.parametrize(
    "path", re.findall(r"\]\(((?:gpuprop|scripts|tests|\.github|LICENSE)[\w./-]*)\)", README)
)
def test_what_it_links_to_is_there(path):
    assert (Path(__file__).parents[1] / path).exists()
