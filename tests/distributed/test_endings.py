"""How jobs end: one rank raises, is killed or stopped, or all are interrupted; and that nothing hangs."""

import os
import re
import signal
import time

import endings_of_ranks
import pytest
from launch import Job, run
from test_launch import is_alive

WAYS = ["numbers", "exchange", "barrier", "arrays"]
LATE = 3.0  # seconds: more than ranks are late on a busy machine
SOME = 60  # seconds: nothing here takes as long, nor is anything waited for until a time-out of its own


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("ranks", "raises"), [(2, 0), (4, 2)])
def test_a_rank_that_raises_ends_the_job_with_its_message(way, ranks, raises):
    with Job(endings_of_ranks.work, ranks, way, SOME, raises, plain=True) as job:
        assert job.wait(SOME) != 0
        assert "ArithmeticError: of one rank alone" in job.err
        assert_ended(job)


def test_what_is_caught_ends_nothing():
    assert run(endings_of_ranks.caught, 2, plain=True) == [[2.0], [2.0]]


def test_a_hook_that_was_there_is_called():
    with Job(endings_of_ranks.hooks, 2, plain=True) as job:
        assert job.wait(SOME) != 0
        assert "user's own: of one rank alone" in job.err
        assert "Traceback" not in job.err


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "terminate"])
def test_a_rank_that_is_killed_ends_the_job(way, signal_):
    with Job(endings_of_ranks.work, 2, way, plain=True) as job:
        at_work(job)
        os.kill(job.pid(1), signal_)
        assert job.wait(SOME) != 0
        assert_ended(job)


@pytest.mark.parametrize("way", WAYS)
def test_a_rank_that_is_stopped_ends_the_job_after_the_time_out(way):
    with Job(endings_of_ranks.work, 3, way, 1.0, plain=True) as job:
        at_work(job)
        os.kill(job.pid(1), signal.SIGSTOP)
        assert job.wait(SOME) != 0
        assert re.search(
            r"rank \d has waited 1 s for another rank, in \w+ \(endings_of_ranks.py, line \d+\);", job.err
        )
        assert_ended(job)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("way", "transport", "call"),
    [("gpu", "mpi", ""), ("gpu", "nccl", " in (reduce_scatter|all_gather) by NCCL: "),
     ("numbers on gpu", "nccl", " in gather by NCCL: ")],
)  # fmt: skip
def test_so_it_does_where_they_are_on_gpus(way, transport, call):
    with Job(endings_of_ranks.work, 2, way, 1.0, None, transport, gpu=True, plain=True) as job:
        at_work(job)
        os.kill(job.pid(1), signal.SIGSTOP)
        assert job.wait(SOME) != 0
        assert re.search(f"rank 0 has waited 1 s for another rank{call}", job.err), job.err
        assert_ended(job)


@pytest.mark.gpu
def test_a_rank_that_does_not_come_to_nccl_ends_the_job_and_its_work_before_does_not():
    with Job(endings_of_ranks.late_for_nccl, 2, 1.0, gpu=True, plain=True) as job:
        at_work(job)
        assert job.wait(SOME) != 0
        assert "rank 0 has waited 1 s for another rank in all_gather by NCCL: " in job.err
        assert_ended(job)


@pytest.mark.gpu
def test_nccl_is_watched_without_disturbing_pauses_graphs_children_and_the_end():
    with Job(endings_of_ranks.pauses_by_nccl, 2, LATE, gpu=True) as job:
        assert job.wait(SOME + 10 * LATE) == 0, job.report()
        assert job.err == ""
        assert job.results() == [{"left": 0, "replayed": True, "child": 0}] * 2


@pytest.mark.gpu
def test_a_job_that_is_suspended_as_a_whole_has_not_waited_for_nccl():
    with Job(endings_of_ranks.work, 2, "gpu", LATE, None, "nccl", gpu=True, plain=True) as job:
        at_work(job)
        for signal_ in (signal.SIGSTOP, signal.SIGCONT):
            for rank in range(2):
                os.kill(job.pid(rank), signal_)
            time.sleep(1.5 * LATE)
        assert job.process.poll() is None, job.report()


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_ends_all_ranks(way):
    with Job(endings_of_ranks.work, 2, way, plain=True) as job:
        at_work(job)
        job.process.send_signal(signal.SIGINT)
        assert job.wait(SOME) != 0
        assert_ended(job)


def test_ctrl_c_ends_ranks_that_wait_for_one_that_computes():
    with Job(endings_of_ranks.away_from_collectives, 3, plain=True) as job:
        at_work(job)
        time.sleep(0.2)
        job.process.send_signal(signal.SIGINT)
        assert job.wait(SOME) != 0
        assert_ended(job)


def at_work(job):
    for rank in range(job.ranks):
        job.told(f"at work {rank}")


def assert_ended(job):
    pids = [job.pid(rank) for rank in range(job.ranks)]
    end = time.monotonic() + 10
    while any(map(is_alive, pids)):
        assert time.monotonic() < end, "ranks are left"
        time.sleep(0.01)
