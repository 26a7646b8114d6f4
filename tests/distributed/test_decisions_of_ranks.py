"""`minimize` over ranks: one decision for all, what is refused, and what ends a job."""

import signal

import decisions_of_ranks as programs
import numpy as np
from launch import Job, run
from programs_of_minimize import FALLING, cap

from gpuprop import Groups, RMSProp


def test_a_callback_of_one_rank_stops_all_at_the_same_step():
    found = run(programs.with_callbacks, 3)
    for runs in zip(*found, strict=True):
        results, seen = zip(*runs, strict=True)
        assert {(r["nit"], r["status"], r["message"]) for r in results} == {(7, 99, results[0]["message"])}
        assert [len(each) for each in seen] == [7, 7, 7]
        if isinstance(seen[0][0], tuple):  # and f is that of all
            assert seen[0] == seen[1] == seen[2]
    messages = [one["message"] for one, _ in found[0]]
    assert messages == 2 * [
        "`callback` returned True after 7 steps.",
        "`callback` raised `StopIteration` after 7 steps.",
    ]


def test_the_clock_of_the_first_rank_is_that_of_all():
    found = run(programs.with_a_fast_clock, 2)
    assert [[one["status"] for one in each] for each in found] == [[1, 3], [1, 3]]
    assert [one["nit"] for one in found[0]] == [one["nit"] for one in found[1]] == [25, 1]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one["history"]["seconds"], other["history"]["seconds"])


DIFFERENT = {
    "maxiter is 5 on rank 1 and 3 on rank 0; give all ranks the same": ({}, {"options": {"maxiter": 5}}),
    "xtol is 0.1 on rank 1 and None on rank 0; give all ranks the same": ({}, {"options": {"xtol": 0.1}}),
    "callback is 'of x' on rank 1 and None on rank 0; give all ranks the same": (
        {},
        {"callback": cap},
    ),
    "fun is 'a function' on rank 1 and None on rank 0; give all ranks the same": ({"fun": None}, {}),
    "bounds is 'given' on rank 1 and None on rank 0; give all ranks the same": ({}, {"bounds": (0, 1)}),
    "x0 is 'of a' on rank 1 and 'one array' on rank 0; give all ranks the same": (
        {},
        {"x0": {"a": np.ones(2)}},
    ),
    "method is 'SGD' on rank 1 and 'RMSProp' on rank 0; give all ranks the same": (
        {"method": FALLING},
        {},
    ),
    "rho of method is 0.5 on rank 1 and 0.9 on rank 0; give all ranks the same": (
        {"method": RMSProp()},
        {"method": RMSProp(rho=0.5)},
    ),
    "rho of a is 0.5 on rank 1 and 0.9 on rank 0; give all ranks the same": (
        {"x0": {"a": np.ones(2)}, "method": Groups(a=RMSProp())},
        {"x0": {"a": np.ones(2)}, "method": Groups(a=RMSProp(rho=0.5))},
    ),
}


def test_arguments_by_which_ranks_would_part_are_refused():
    first, second = run(programs.refused, 2, list(DIFFERENT.values()))
    assert first == second == list(DIFFERENT)


def test_finite_differences_are_refused():
    differences = {"jac": "2-point"}
    messages = run(programs.refused, 2, [(differences, differences)])
    assert messages[0] == messages[1]
    assert "jac is '2-point' and comm is given; finite differences are for one process" in messages[0][0]


def test_a_communicator_of_another_kind_is_refused():
    for messages in run(programs.wrong_communicators, 2):
        made, alone, shared, misplaced = messages
        assert made.startswith(
            "comm is of type Intracomm; it must be what gpuprop.distributed.communicator(MPI."
        )
        assert "state is of one process and comm of 2 ranks; pass the comm that" in alone
        assert "state is of 2 ranks and comm of one process; pass the comm that" in shared
        assert "options has comm; pass such arguments beside options" in misplaced


def test_the_first_rank_alone_shows_progress():
    with Job(programs.showing_progress, 2) as job:
        assert job.wait() == 0, job.report()
        assert job.err.count("is within gtol. f = ") == 1


def test_an_error_in_the_function_of_one_rank_ends_the_job():
    with Job(programs.one_fails, 2) as job:
        assert job.wait() != 0
        assert "ArithmeticError: of the function of rank 1" in job.err


def test_ctrl_c_ends_all():
    with Job(programs.without_end, 2) as job:
        for rank in range(2):
            job.told(f"begun {rank}")
        job.process.send_signal(signal.SIGINT)
        assert job.wait() != 0
        assert not list(job.folder.glob("*.result"))
