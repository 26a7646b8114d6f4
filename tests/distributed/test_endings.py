"""How jobs end: one rank raises, is killed or stopped, or all are interrupted; and that nothing hangs."""

import os
import signal
import time

import endings_of_ranks
import pytest
from launch import Job, run
from test_launch import is_alive

WAYS = ["numbers", "exchange", "barrier", "arrays"]
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
        assert "has waited 1 s for another rank" in job.err
        assert_ended(job)


@pytest.mark.gpu
def test_so_it_does_where_arrays_on_gpus_go_by_mpi():
    with Job(endings_of_ranks.work, 2, "gpu", 1.0, None, "mpi", gpu=True, plain=True) as job:
        at_work(job)
        os.kill(job.pid(1), signal.SIGSTOP)
        assert job.wait(SOME) != 0
        assert "has waited 1 s" in job.err
        assert_ended(job)


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
