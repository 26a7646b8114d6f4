"""The distributed arrays of pylops-mpi, minimised where they are."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import programs_of_pylops
import pytest
from launch import MPIEXEC, run

pytestmark = pytest.mark.skipif(find_spec("pylops_mpi") is None, reason="pylops-mpi is not installed")
#: CuPy without cuBLAS, as tests have it, is enough here, and not for PyLops, which would use it.
NO_CUPY = {"CUPY_PYLOPS": "0", "NCCL_PYLOPS_MPI": "0"}
EXAMPLE = Path(__file__).parents[2] / "docs" / "gallery" / "processes.py"


def test_least_squares_come_to_what_its_own_method_finds():
    found = run(programs_of_pylops.least_squares, 2, environment=NO_CUPY)
    assert {one["status"] for one in found} == {0}
    assert len({(one["nit"], *one["f"]) for one in found}) == 1
    np.testing.assert_allclose(*found[0]["f"], rtol=1e-12)
    for one in found:
        np.testing.assert_allclose(*one["x"], rtol=1e-8)
        assert one["coupled"] > 0.1


@pytest.mark.slow
def test_the_example_finds_the_same_with_two_ranks(tmp_path):
    line = [
        MPIEXEC,
        "-n",
        "2",
        sys.executable,
        "-W",
        "error",
        "-W",
        "ignore:FigureCanvasAgg is non-interactive",
    ]
    done = subprocess.run(
        [*line, "-m", "mpi4py", EXAMPLE], cwd=tmp_path, env=os.environ | {"MPLBACKEND": "Agg"} | NO_CUPY,
        capture_output=True, text=True, timeout=300, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split("it is ")[1].split()[0]) < 1e-4
