"""The rooms of the package and the arrows between them, read from the code: a table, and a picture of it.

``python docs/pictures/rooms.py FILE`` draws it. `ROOMS` says what each room may import, and
``tests/test_architecture.py`` holds the code to it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[2] / "gpuprop"

#: What each room may import of the package, from the top floor down.
ROOMS: dict[str, set[str]] = {
    "measure": {"backends", "backends/cpu", "backends/gpu", "optimizers", "rules", "version"},
    "distributed": {"arguments", "backends", "backends/cpu", "backends/gpu", "checkpoint", "optimizers"},
    "driver": {"arguments", "backends", "checkpoint", "optimizers"},
    "checkpoint": {"arguments", "backends", "optimizers", "rules", "schedules", "version"},
    "optimizers": {"arguments", "backends", "rules", "schedules"},
    "backends/cpu": {"backends", "rules", "version"},
    "backends/gpu": {"backends", "rules"},
    "backends": {"arguments", "rules"},
    "rules": {"reference"},
    "schedules": {"arguments"},
    "arguments": set(),
    "reference": set(),
    "version": set(),
}
#: Files that may import more: the selector hands out the devices' backends, two conveniences hand a whole
#: call upwards, and the two doors of the package stand above all.
DOORS: dict[str, set[str]] = {
    "backends/__init__.py": {"backends/cpu", "backends/gpu"},
    "optimizers/base.py": {"driver"},
    "optimizers/state/saved.py": {"checkpoint"},
    "__init__.py": set(ROOMS),
    "__main__.py": set(ROOMS),
}
#: The only places that may import these, by the beginnings of their paths; the longest name counts.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "cupy": ("backends/gpu/", "distributed/nccl.py"),
    "cupy._core": ("backends/gpu/kernels/compiler.py",),
    "llvmlite": ("backends/cpu/kernels/",),
    "ml_dtypes": ("checkpoint/loading.py",),
    "mpi4py": ("distributed/mpi.py",),
    "numba": ("backends/cpu/kernels/",),
    "safetensors": ("checkpoint/container.py",),
    "scipy": ("driver/",),
    "tqdm": ("driver/run.py",),
}
#: What would import without saying so.
HIDDEN = {"import_module", "__import__", "gpuprop.*", "cupy._*"}
FREE = {"numpy"} | set(sys.stdlib_module_names)


class Import(NamedTuple):
    """One import: the file that has it, its line, and the module that it names."""

    file: str
    line: int
    module: str


def imports(source: str, file: str) -> Iterator[Import]:
    """Every import in the text of a file, those inside functions too."""
    package = ["gpuprop", *Path(file).parts[:-1]]
    for node in ast.walk(ast.parse(source)):
        name = getattr(node, "attr", getattr(node, "id", None))
        if name in HIDDEN:
            yield Import(file, node.lineno, name)
        elif isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr) and _is_cupy(node.value):
            yield Import(file, node.lineno, "cupy._*")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                # Without a name of its own it brings the whole package, and every room by an attribute.
                whole = alias.name.startswith("gpuprop") and not alias.asname
                yield Import(file, node.lineno, "gpuprop.*" if whole else alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            # A name may be a module of the package, or something that the package's own module has.
            yield from (Import(file, node.lineno, f"{base}.{alias.name}") for alias in node.names)


def _is_cupy(node: ast.AST) -> bool:
    """Whether this is CuPy's module, by one of the names that it has in the package."""
    return (isinstance(node, ast.Name) and node.id == "cupy") or (
        isinstance(node, ast.Attribute) and node.attr == "xp"
    )


def all_imports() -> list[Import]:
    files = sorted(PACKAGE.rglob("*.py"))
    return [each for f in files for each in imports(f.read_text(), f.relative_to(PACKAGE).as_posix())]


def room_of(path: str) -> str:
    """The room of a file, or of a path as a module's name gives it; "gpuprop" is the whole house."""
    return next(
        (room for room in ROOMS if path == f"{room}.py" or f"{path}/".startswith(f"{room}/")), "gpuprop"
    )


def target(found: Import) -> str | None:
    """The room that an import leads to; None where it leaves the package."""
    package, *names = found.module.split(".")
    return room_of("/".join(names)) if package == "gpuprop" else None


def is_allowed(found: Import) -> bool:
    """Whether the tables have this import."""
    room, own = target(found), room_of(found.file)
    if (own == "gpuprop" and found.file not in DOORS) or found.module in HIDDEN:
        return False  # a file in no room, or an import whose name is not to be read
    if room is not None:
        return room in {own, *ROOMS.get(own, set()), *DOORS.get(found.file, set())}
    name = max((n for n in LIBRARIES if f"{found.module}.".startswith(f"{n}.")), key=len, default=None)
    if name is None:
        return found.module.split(".")[0] in FREE
    return found.file.startswith(LIBRARIES[name])


def arrows() -> set[tuple[str, str]]:
    """From room to room, as the code has them, without those that follow from others and those of `DOORS`."""
    found = {(room_of(i.file), target(i)) for i in all_imports() if i.file not in DOORS}
    direct = {(a, b) for a, b in found if b is not None and a != b and "gpuprop" not in (a, b)}

    def leads(a: str, b: str) -> bool:
        return (a, b) in direct or any(leads(c, b) for start, c in direct if start == a)

    return {(a, b) for a, b in direct if not any(leads(c, b) for start, c in direct if start == a and c != b)}


#: Where each room is drawn: (column, floor). The version is left out: three lines that import nothing.
PLACES = {
    "measure": (2.8, 7), "distributed": (1.6, 7), "driver": (0.4, 7), "checkpoint": (0.4, 6),
    "optimizers": (0.4, 5), "backends/cpu": (1.7, 4), "backends/gpu": (2.8, 4), "backends": (1.7, 3),
    "schedules": (0.4, 2), "rules": (1.7, 2), "arguments": (0.4, 1), "reference": (1.7, 1),
}  # fmt: skip


def draw(file: Path) -> None:
    """The picture of rooms, with their lines of code, and arrows."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 6.0), layout="constrained")
    files = {f: room_of(f.relative_to(PACKAGE).as_posix()) for f in PACKAGE.rglob("*.py")}
    sizes = Counter(room for f, room in files.items() for _ in f.read_text().splitlines())
    boxes = {
        room: axes.text(
            x, y, f"{room}\n{sizes[room]:,} lines", ha="center", va="center", zorder=2,
            bbox={"boxstyle": "round,pad=0.5", "fc": "#e8f0f8", "ec": "0.4"},
        )
        for room, (x, y) in PLACES.items()
    }  # fmt: skip
    axes.set(xlim=(-0.6, 3.3), ylim=(0.6, 7.4))
    axes.axis("off")
    figure.canvas.draw()  # places the boxes, at which arrows end
    for a, b in sorted(each for each in arrows() if set(each) <= set(PLACES)):
        patches = {"patchA": boxes[a].get_bbox_patch(), "patchB": boxes[b].get_bbox_patch()}
        style = {"arrowstyle": "-|>", "color": "0.35", "shrinkA": 0, "shrinkB": 0, **patches}
        axes.annotate("", xy=PLACES[b], xytext=PLACES[a], arrowprops=style, zorder=1)
    figure.savefig(file)
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
