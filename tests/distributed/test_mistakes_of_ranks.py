"""Ranks that make different calls are told so, all of them alike; and a rank that ends is missed at once."""

import os
import signal
import time

import programs_of_mistakes as programs
import pytest
from launch import Job, run
from test_endings import SOME, assert_ended


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_in_different_calls_are_all_told_which(ranks, tmp_path):
    found = run(programs.refusals, ranks, str(tmp_path / "state"))
    mistakes, told = found[0]
    assert [all_told for _, all_told in found] == [told] * ranks
    for mistake in mistakes:
        one, another = (each.split(" of ")[0] for each in mistake)
        assert told[mistake].startswith(f"rank 0 is in {one} (programs_of_mistakes.py, line "), mistake
        assert f", and rank 1 in {another} (programs_of_mistakes.py, line " in told[mistake], mistake
        assert "all ranks must make the same calls, in the same order" in told[mistake]
    assert "with 1 number(s), and rank 1" in told["gather", "gather"]
    assert "with 2 number(s); all ranks" in told["gather", "gather"]
    assert "with 24 elements of float64 to sum" in told["reduce_scatter", "reduce_scatter of another length"]
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.parametrize("transport", ["mpi", "nccl"])
def test_calls_on_gpus_are_counted_and_not_waited_for(transport):
    for told, after in run(programs.on_gpus, 2, transport, gpu=True):
        assert "rank 0 is in barrier (programs_of_mistakes.py, line " in told
        assert ("calls by NCCL" in told) is (transport == "nccl")
        assert after == (None if transport == "nccl" else [2.0])


@pytest.mark.parametrize("how", ["exit", "return"])
def test_a_rank_whose_program_ends_ends_the_job_with_a_word(how):
    with Job(programs.ends, 3, how, plain=True) as job:
        assert job.wait(SOME / 2) != 0
        assert "rank 0 is in sum (programs_of_mistakes.py, line " in job.err
        assert "and rank 1 in the end of its program" in job.err
        assert_ended(job)


def test_ranks_that_catch_what_they_are_told_of_it_end_too():
    with Job(programs.ends, 3, "caught", plain=True) as job:
        assert job.wait(SOME / 2) == 0
        assert job.err.count("and rank 1 in the end of its program") == 2


def test_as_it_does_by_mpi4py():
    with Job(programs.ends, 3, "exit") as job:
        assert job.wait(SOME / 2) == 3
        assert_ended(job)


def test_ranks_may_end_one_after_the_other():
    run(programs.ends_well, 4, plain=True)


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_may_end_where_a_signal_meets_them(ranks):
    with Job(programs.ends_within_a_call, ranks, plain=True) as job:
        for rank in range(ranks):
            job.told(f"at work {rank}")
        time.sleep(0.2)
        for rank in range(ranks):
            os.kill(job.pid(rank), signal.SIGTERM)
        assert job.wait(SOME / 2) == 0, job.report()


@pytest.mark.parametrize("plain", [False, True])
def test_the_user_may_finalize(plain):
    run(programs.finalized_by_hand, 2, plain=plain)


def test_communicators_are_as_many_as_one_likes():
    for answer in run(programs.many, 2, timeout=300):
        assert "has been freed" in answer


def test_an_mpi_that_counts_by_32_bits_is_said_to():
    for answers in run(programs.counted, 3):
        assert len(answers) == 2
        assert all("has 11 elements, of which this MPI" in answer for answer in answers)
