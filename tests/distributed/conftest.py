"""Tests of several processes, where there is an MPI to start them."""

from __future__ import annotations

from importlib.util import find_spec

import launch
import pytest

#: The programs import mpi4py.
collect_ignore_glob = [] if find_spec("mpi4py") else ["test_*.py"]


@pytest.fixture(autouse=True, scope="session")
def mpi():
    if launch.MPIEXEC is None:
        pytest.skip("there is no mpiexec; mend: python -m pip install mpich")
    yield
    launch.remove_left_over()
