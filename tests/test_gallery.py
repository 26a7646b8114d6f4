"""Each example of the gallery is short, and runs by itself, from any folder, without a warning."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from article import LINES

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
AGREES = "The gradient agrees with central differences"
PRINTS = {
    "article": LINES,
    "comparison": "RMSProp, momentum  learning rate",
    "factorisation": "A step of U by rows: ",
    "photograph": AGREES,
    "processes": "From CGLS of pylops-mpi it is ",
    "ptychography": "Relative errors after the last epoch: object 2.",
    "regression": "f and its gradient: ",
    "tomography": AGREES,
}
#: More lines than the 59 of the others: two arrays, and the same by hand.
LINES_OF = {"ptychography": 100}


#: CuPy without cuBLAS, as tests have it, is enough here, and not for PyLops, which would use it.
NO_CUPY = {"CUPY_PYLOPS": "0", "NCCL_PYLOPS_MPI": "0"}


def run(file, folder):
    line = [sys.executable, "-W", "error", "-W", "ignore:FigureCanvasAgg is non-interactive", file]
    return subprocess.run(
        line,
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "Agg"} | NO_CUPY,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_each_is_short():
    assert {file.stem for file in GALLERY.glob("*.py")} == set(PRINTS)
    for file in GALLERY.glob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= LINES_OF.get(file.stem, 59), file.name


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTS)
def test_it_runs_and_writes_nothing(name, tmp_path):
    if name == "processes" and not find_spec("pylops_mpi"):
        pytest.skip("pylops-mpi is not installed")
    done = run(GALLERY / f"{name}.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert PRINTS[name] in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.slow
def test_one_line_moves_the_article_to_a_gpu(tmp_path):
    program = (GALLERY / "article.py").read_text(encoding="utf-8")
    assert program.count('select_backend("cpu")') == 1
    moved = tmp_path / "moved.py"
    moved.write_text(program.replace('select_backend("cpu")', 'select_backend("gpu")'), encoding="utf-8")
    done = run(moved, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == LINES
