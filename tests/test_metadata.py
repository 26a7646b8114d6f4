"""What the project says of itself in several files, it says alike in all."""

import re
import sys
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def lower_bounds(lines):
    """The lowest version allowed of each package that has one."""
    bounds = {}
    for requirement in map(Requirement, lines):
        for each in requirement.specifier:
            if each.operator == ">=":
                bounds.setdefault(requirement.name, set()).add(Version(each.version))
    return bounds


def test_the_floors_that_the_suite_is_run_on_are_those_that_are_claimed():
    claimed = lower_bounds([*PROJECT["dependencies"], *EXTRAS["test"]])
    lines = (ROOT / ".ci/floors.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in (each.partition("#")[0] for each in lines) if line]
    tested = {r.name: {Version(s.version)} for r in pins for s in r.specifier if s.operator == "=="}
    assert tested == claimed
    assert len(tested) >= 10


def test_a_package_has_one_floor_whichever_extra_asks_for_it():
    bounds = lower_bounds([*PROJECT["dependencies"], *chain(*EXTRAS.values())])
    assert {name: floors for name, floors in bounds.items() if len(floors) > 1} == {}
    assert bounds["cupy-cuda12x"] == bounds["cupy-cuda13x"]


def test_the_versions_of_python_that_are_claimed_are_tested():
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    (tested,) = re.findall(r"^ +python: \[(.*)\]$", workflow, re.MULTILINE)
    prefix = "Programming Language :: Python :: "
    claimed = [c.removeprefix(prefix) for c in PROJECT["classifiers"] if c.startswith(f"{prefix}3.")]
    assert re.findall(r'"(.*?)"', tested) == claimed
    assert PROJECT["requires-python"] == f">={claimed[0]}"


@pytest.mark.parametrize(
    ("classifier", "runner"),
    [("POSIX :: Linux", "ubuntu"), ("Microsoft :: Windows", "windows"), ("MacOS", "macos")],
)
def test_so_are_the_systems(classifier, runner):
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert f"Operating System :: {classifier}" in PROJECT["classifiers"]
    assert f"{runner}-latest" in workflow


def test_the_citation_is_of_this_project():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    for line in (
        f"title: {PROJECT['name']}",
        f"license: {PROJECT['license']}",
        f"repository-code: {PROJECT['urls']['Source']}",
        f"  - name: {PROJECT['authors'][0]['name']}",
    ):
        assert f"\n{line}\n" in citation


def test_the_files_that_contributors_are_sent_to_are_there():
    page = (ROOT / ".github/CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:gpuprop|tests|scripts|docs|\.ci)/[\w./]*)`", page)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []
