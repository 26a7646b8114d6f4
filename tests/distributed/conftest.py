"""Tests of several processes, where there is an MPI to start them."""

from __future__ import annotations

import launch
import pytest


@pytest.fixture(autouse=True, scope="session")
def mpi():
    pytest.importorskip("mpi4py", reason='mpi4py is not installed: python -m pip install -e ".[mpi]"')
    if launch.MPIEXEC is None:
        pytest.skip('there is no mpiexec: python -m pip install -e ".[mpi]"')
    yield
    launch.remove_left_over()
