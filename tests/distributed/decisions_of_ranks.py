"""What ranks of `minimize` decide together, what they refuse, and how their jobs end otherwise."""

from __future__ import annotations

import time

import numpy as np
from launch import tell
from programs_of_minimize import PLAIN, Separate, told, world

import gpuprop


def with_callbacks():
    """Runs in which the last rank, and no other, stops at step 7; and the steps that callbacks saw."""
    comm, found = world(), []
    problem = Separate(comm, 5, np)

    def run(how, says):
        seen = []

        def of_x(x):
            seen.append(x.size)
            if len(seen) == 7 and comm.rank == comm.size - 1:
                return says()

        def of_result(intermediate_result):
            seen.append((intermediate_result.nit, intermediate_result.fun))
            return intermediate_result.nit == 7 and comm.rank == comm.size - 1 and says()

        callback = {"of x": of_x, "of result": of_result}[how]
        result = gpuprop.minimize(
            problem.fun, problem.x0, method=PLAIN, jac=problem.jac, callback=callback, comm=comm
        )
        found.append((told(result), seen))

    def stop():
        raise StopIteration

    for how in ("of x", "of result"):
        for says in (lambda: True, stop):
            run(how, says)
    return found


def with_a_fast_clock():
    """A run whose time is up for all ranks but 0, whose clock shows none of it; and the other way round."""
    comm, now, results = world(), time.perf_counter, []
    problem = Separate(comm, 5, np)
    for is_fast in (comm.rank > 0, comm.rank == 0):
        if is_fast:
            time.perf_counter = lambda: 1e9 * now()
        options = {"maxtime": 1000, "maxiter": 25, "gtol": None, "history": True}
        result = gpuprop.minimize(
            problem.fun, problem.x0, method=PLAIN, jac=problem.jac, comm=comm, options=options
        )
        time.perf_counter = now
        results.append(told(result))
    return results


def refused(cases):
    """What a rank says of arguments that no rank may have, or that differ from those of rank 0."""
    comm, messages = world(), []
    problem = Separate(comm, 5, np)
    for of_first, of_others in cases:
        given = {"fun": problem.fun, "x0": problem.x0, "jac": problem.jac, "method": PLAIN}
        given |= {"options": {}, "bounds": None}
        given |= of_others if comm.rank else of_first
        given["options"] = {"maxiter": 3} | given["options"]
        try:
            check(comm, given)
            messages.append(None)
        except (TypeError, ValueError) as error:
            messages.append(str(error))
        comm.barrier()
    return messages


def check(comm, given):
    from gpuprop.driver.options import DriverOptions
    from gpuprop.driver.ranks import check_alike

    options = DriverOptions.of(given["options"] | {"comm": comm})
    check_alike(
        comm,
        options,
        given["fun"],
        given["x0"],
        given["jac"],
        given.get("callback"),
        given["bounds"],
        given["method"],
    )


def wrong_communicators():
    from mpi4py import MPI

    comm, messages = world(), []
    problem = Separate(comm, 5, np)
    state = PLAIN.init(problem.x0)
    shared = PLAIN.init(problem.x0, comm=comm)
    for given in (
        {"comm": MPI.COMM_WORLD},
        {"comm": comm, "options": {"state": state}},
        {"options": {"state": shared}},
        {"options": {"comm": comm}},
    ):
        try:
            gpuprop.minimize(problem.fun, problem.x0, method=PLAIN, jac=problem.jac, **given)
        except (TypeError, ValueError) as error:
            messages.append(str(error))
    return messages


def showing_progress():
    problem = Separate(comm := world(), 5, np)
    gpuprop.minimize(
        problem.fun, problem.x0, method=PLAIN, jac=problem.jac, comm=comm, options={"disp": True}
    )


def one_fails():
    comm = world()
    problem = Separate(comm, 5, np)

    def jac(x):
        if comm.rank == 1 and problem.fun(x) < 1:
            raise ArithmeticError("of the function of rank 1")
        return problem.jac(x)

    gpuprop.minimize(problem.fun, problem.x0, method=PLAIN, jac=jac, comm=comm)


def without_end():
    comm = world()
    problem = Separate(comm, 5, np)

    def jac(x):
        time.sleep(0.01)
        tell(f"begun {comm.rank}")
        return problem.jac(x)

    gpuprop.minimize(
        problem.fun, problem.x0, method=PLAIN, jac=jac, comm=comm, options={"gtol": None, "maxiter": 10**6}
    )
