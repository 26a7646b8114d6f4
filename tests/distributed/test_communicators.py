"""Communicators: what ranks exchange, by every transport, and how it is refused."""

import os
import subprocess
import sys

import collectives
import pytest
from launch import run

RANKS = [1, 2, 3, 4]


@pytest.mark.parametrize("ranks", RANKS)
def test_numbers_are_summed_in_the_order_of_ranks_and_the_same_everywhere(ranks):
    assert len(set(map(tuple, run(collectives.numbers, ranks)))) == 1


@pytest.mark.parametrize(("ranks", "small"), [(1, False), (2, False), (3, True), (4, False), (4, True)])
def test_arrays_on_the_host_are_summed_in_the_order_of_ranks(ranks, small):
    assert run(collectives.arrays, ranks, "host", small) == [True] * ranks


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("ranks", "way"), [(1, "mpi"), (3, "mpi"), (3, "aware"), *((ranks, "nccl") for ranks in RANKS)]
)
def test_arrays_on_gpus(ranks, way):
    assert run(collectives.arrays, ranks, way, gpu=True) == [True] * ranks


def test_what_is_not_finite_comes_through():
    run(collectives.special, 2)


@pytest.mark.parametrize("ranks", [1, 3])
def test_calls_after_the_first_allocate_no_array(ranks):
    for most in run(collectives.memory_of_steps, ranks):
        assert max(most.values()) < 100_000, most  # NumPy converts 16 bits in bites of 32 KB


@pytest.mark.gpu
@pytest.mark.parametrize("transport", ["mpi", "nccl", "auto"])
def test_nor_on_gpus(transport):
    assert run(collectives.memory_of_steps_on_gpu, 3, transport, gpu=True) == ["cupy"] * 3


@pytest.mark.gpu
def test_nccl_goes_by_the_current_stream_and_into_a_graph():
    assert run(collectives.stream_of_its_own, 3, gpu=True) == [True] * 3


@pytest.mark.gpu
def test_ranks_that_share_a_device_are_told_so_by_nccl():
    answers = run(collectives.of_shared_devices, 3, "nccl", gpu=True)
    assert len(set(answers)) == 1
    assert "ranks 0 and 2 both use the device" in answers[0]
    assert "use transport='mpi'" in answers[0]


@pytest.mark.gpu
def test_and_exchange_by_mpi_where_nothing_else_is_asked_for():
    answers = run(collectives.of_shared_devices, 3, "auto", gpu=True)
    assert answers == [[[0.0], [1.0], [2.0]]] * 3


@pytest.mark.gpu
def test_an_array_on_another_device_is_refused():
    for answer in run(collectives.of_another_device, 2, gpu=True):
        assert "keep all arrays of a rank on one device" in answer


@pytest.mark.parametrize("ranks", RANKS)
def test_ranks_divide_the_cpus_of_their_machine(ranks):
    share = max(1, cpus() // ranks)
    unset = {"GPUPROP_NUM_THREADS": ""}
    assert run(collectives.threads, ranks, environment=unset) == [share] * ranks


def test_but_not_those_that_the_launcher_has_divided():
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        pytest.skip("needs two CPUs")
    unset = {"GPUPROP_NUM_THREADS": ""}
    bound = [{first}, set(others)]
    assert run(collectives.threads, 2, bound, environment=unset) == [1, len(others)]


def test_nor_where_the_user_chose_a_number():
    assert run(collectives.threads, 2, environment={"GPUPROP_NUM_THREADS": "3"}) == [3, 3]
    assert run(collectives.threads, 2, None, 5) == [5, 5]


def test_messages_of_the_user_do_not_meet_ours():
    assert run(collectives.user_messages, 3) == [[3.0] * 3] * 3


def test_arguments_that_are_wrong_are_said_to_be():
    (answers,) = run(collectives.bad_arguments, 1)
    assert [answer.split(";")[0] for answer in answers] == [
        "ValueError: transport is 'gloo'",
        "ValueError: timeout is 0",
        "TypeError: comm is 3",
        answers[3].split(";")[0],
    ]
    assert answers[3].startswith("TypeError: comm is ")


@pytest.mark.parametrize(
    ("stand_in", "answer"),
    [
        ("raise ModuleNotFoundError(name='mpi4py')", 'pip install "gpuprop[mpi]"'),
        ("raise RuntimeError('cannot load MPI library\\nlibmpi.so')", "pip install mpich"),
    ],
)
def test_a_missing_mpi_is_said_to_be_missing(tmp_path, stand_in, answer):
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__init__.py").write_text(stand_in)
    code = "from gpuprop.distributed import communicator; communicator(None)"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 1
    assert "ImportError: mpi4py " in done.stderr
    assert answer in done.stderr.splitlines()[-1]


def cpus():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
