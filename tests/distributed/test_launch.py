"""The harness: what ranks return, how their jobs end, and that nothing is left of them."""

import os
import time
from pathlib import Path

import programs_of_ranks
import pytest
from launch import Job, run


@pytest.mark.parametrize("ranks", [1, 3])
def test_each_rank_gives_back_what_its_function_returns(ranks):
    assert run(programs_of_ranks.who, ranks, 2.0) == [(rank, ranks, 2.0 / 3) for rank in range(ranks)]


def test_a_rank_that_raises_ends_the_job_with_its_message():
    with Job(programs_of_ranks.one_raises_before_all, 2, 1) as job:
        assert job.wait(60) != 0
        assert "ArithmeticError: of one rank alone" in job.err


def test_a_job_that_does_not_end_fails_and_leaves_nothing():
    with Job(programs_of_ranks.sleep, 2) as job:
        pids = [job.pid(rank) for rank in range(2)]
        for rank in range(2):
            job.told(f"asleep {rank}")
        with pytest.raises(AssertionError, match="did not end in"):
            job.wait(0.1)
    end = time.monotonic() + 10
    while any(map(is_alive, pids)):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert not job.folder.exists()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(
        f"/proc/{pid}/stat"
    )  # where there is such a folder, it tells those that only wait to be reaped
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
