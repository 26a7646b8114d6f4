"""The rooms of the package: what each may import, and that none grows too full."""

import ast
from collections import Counter
from pathlib import Path

import pytest
import rooms

FILES = sorted(rooms.PACKAGE.rglob("*.py"))


def test_every_import_goes_where_the_table_says():
    assert [each for each in rooms.all_imports() if not rooms.is_allowed(each)] == []


def test_the_table_has_no_arrow_that_leads_back():
    """But for the doors, rooms are in an order in which each imports only later ones."""
    order = list(rooms.ROOMS)
    for room, others in rooms.ROOMS.items():
        assert all(order.index(other) > order.index(room) for other in others)
    assert {file for file in rooms.DOORS if "/" in file} == {
        "backends/__init__.py",
        "optimizers/base.py",
        "optimizers/state/saved.py",
    }


def test_the_table_has_nothing_that_is_not_used():
    arrows = {(rooms.room_of(each.file), rooms.target(each)) for each in rooms.all_imports()}
    for room, others in rooms.ROOMS.items():
        assert {other for other in others if (room, other) not in arrows} == set(), room
    used = {(each.file, rooms.target(each)) for each in rooms.all_imports()}
    for file, more in rooms.DOORS.items():
        if "/" in file:
            assert more <= {room for f, room in used if f == file}
    libraries = {each.module.split(".")[0] for each in rooms.all_imports()}
    assert {name.split(".")[0] for name in rooms.LIBRARIES} <= libraries
    assert {rooms.room_of(f.relative_to(rooms.PACKAGE).as_posix()) for f in FILES} == {
        *rooms.ROOMS,
        "gpuprop",
    }


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("rules/family.py", "from gpuprop.backends import Backend"),
        ("rules/family.py", "def late():\n    import gpuprop.optimizers.state"),
        ("arguments.py", "from gpuprop import schedules"),
        ("reference.py", "from gpuprop import arguments"),
        ("backends/base.py", "from gpuprop.backends.cpu.threads import get_num_threads"),
        ("backends/cpu/loops.py", "from gpuprop.backends.gpu import kernels"),
        ("backends/cpu/loops.py", "from ..gpu import kernels"),
        ("backends/gpu/kernels/elementwise.py", "from ....driver.run import Run"),
        ("optimizers/base.py", "from gpuprop.checkpoint import save"),
        ("optimizers/rmsprop.py", "from gpuprop.driver import minimize"),
        ("optimizers/rmsprop.py", "from gpuprop import RMSProp"),
        ("driver/run.py", "import gpuprop"),
        ("driver/run.py", "import gpuprop.optimizers"),
        ("optimizers/rmsprop.py", "import importlib\nimportlib.import_module('gpuprop.driver')"),
        ("rules/rule.py", "__import__('torch')"),
        ("backends/gpu/kernels/elementwise.py", "def late(cupy):\n    return cupy._core"),
        ("backends/gpu/backend.py", "def late(self):\n    return self.xp._core"),
        ("helpers.py", "import math"),
        ("zoo/lion.py", "from gpuprop.rules import Rule"),
        ("checkpoint/loading.py", "import safetensors.numpy"),
        ("backends/foreign.py", "import torch"),
        ("backends/gpu/kernels/elementwise.py", "from cupy._core import _kernel"),
        ("backends/__init__.py", "def late():\n    from cupy import ndarray"),
        ("schedules/curves.py", "import scipy"),
    ],
)
def test_an_import_that_breaks_the_picture_is_found(file, line):
    assert not all(map(rooms.is_allowed, rooms.imports(line, file)))


def test_modules_import_each_other_in_one_direction():
    """Between files, too: what is imported when a module is loaded never leads back to it."""
    modules = {".".join(["gpuprop", *f.relative_to(rooms.PACKAGE).with_suffix("").parts]): f for f in FILES}
    modules = {name.removesuffix(".__init__"): f for name, f in modules.items()}

    def loaded(name):
        tree = ast.parse(modules[name].read_text())
        top = ast.Module([node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))], [])
        file = modules[name].relative_to(rooms.PACKAGE).as_posix()
        found = [each.module for each in rooms.imports(ast.unparse(top), file)]
        # Of a name that is no module, the module that has it.
        return {m if m in modules else m.rpartition(".")[0] for m in found} & set(modules)

    done = set()

    def visit(name, path):
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for other in loaded(name):
                visit(other, [*path, name])
            done.add(name)

    for name in modules:
        visit(name, [])
    assert done == set(modules)


def test_no_folder_and_no_file_is_too_full():
    assert max(Counter(f.parent for f in FILES).values()) <= 10
    assert {f.name: n for f in FILES if (n := len(f.read_text().splitlines())) > 250} == {}


@pytest.mark.parametrize("folder", sorted({f.parent for f in FILES}, key=str), ids=lambda f: f.name)
def test_each_room_says_what_it_is_for(folder):
    doc = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert doc
    if folder not in (rooms.PACKAGE, rooms.PACKAGE / "optimizers" / "conventions"):
        assert "may import" in " ".join(doc.split())
        assert "Start with" in doc


def test_the_picture_shows_every_room(tmp_path):
    pytest.importorskip("matplotlib")
    assert set(rooms.PLACES) == set(rooms.ROOMS) - {"version"}
    rooms.draw(Path(tmp_path, "rooms.svg"))
    assert all(f"<!-- {room} -->" in (tmp_path / "rooms.svg").read_text() for room in rooms.PLACES)
