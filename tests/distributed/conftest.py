"""Tests of several processes, where there is an MPI to start them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import launch
import pytest

#: The programs import mpi4py.
collect_ignore_glob = [] if find_spec("mpi4py") else ["test_*.py"]

#: What the plain run takes of each kind: to start ranks takes a second, and what they compile some more.
PLAIN = (
    "test_each_rank_gives_back_what_its_function_returns[2]",
    "test_arguments_that_are_wrong_are_said_to_be",
    "test_numbers_are_summed_in_the_order_of_ranks_and_the_same_everywhere[2]",
    "test_a_rank_that_raises_ends_the_job_with_its_message",
    "test_gradients_are_averaged[2]",
    "test_the_six_lines_are_printed_once[2-cpu-auto]",
)


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and item.name not in PLAIN:
            item.add_marker("slow")


@pytest.fixture(autouse=True, scope="session")
def mpi():
    if launch.MPIEXEC is None:
        pytest.skip("there is no mpiexec; mend: python -m pip install mpich")
    yield
    launch.remove_left_over()
