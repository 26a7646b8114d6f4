"""Runs that are killed at random moments and go on from their file; `python kill_at_random.py 100 FOLDER`.

Each child is a process of its own, and is ended by SIGKILL: nothing of it can tidy up.
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import gpuprop

STEPS = 120
CURVATURE = np.array([1.0, 10.0, 0.3])


def fun(x):
    return float((CURVATURE * x**2).sum()) / 2


def jac(x):
    return CURVATURE * x


def plateau(intermediate_result):
    """A callback that has a hand in the run, by what the state keeps."""
    if intermediate_result.nit % 20 == 0:
        intermediate_result.state.rate_scale *= 0.8


def run(path=None):
    files = {} if path is None else {"checkpoint": path, "checkpoint_every": 2, "resume": path}
    options = {
        "maxiter": STEPS,
        "gtol": None,
        "return_best": True,
        "check_every": 5,
        "history": True,
        **files,
    }
    return gpuprop.minimize(
        fun, np.array([5.0, 4.0, -3.0]), jac=jac, method=gpuprop.RMSProp(), callback=plateau,
        options=options,
    )  # fmt: skip


def bits(result):
    arrays = [result.x, result.jac, *result.state.arrays.values(), result.history.fun, result.history.step]
    counts = (result.fun, result.nit, result.nfev, result.njev, result.status, result.state.rate_scale)
    return counts, [array.tobytes() for array in arrays]


def main(kills, folder):
    random = np.random.default_rng(kills)
    undisturbed = bits(run())
    begun = time.perf_counter()
    run(folder / "measured")
    lasts = time.perf_counter() - begun
    reached = []
    for number in range(kills):
        path = folder / f"run-{number}"
        child = os.fork()
        if child == 0:
            run(path)
            os._exit(0)
        time.sleep(random.uniform(0, lasts))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        reached.append(gpuprop.load_state(path).step if path.exists() else 0)
        assert bits(run(path)) == undisturbed, f"killed after step {reached[-1]}"
        for file in folder.iterdir():  # what a kill may leave beside the file
            file.unlink()
    print(f"{kills} kills, after steps {min(reached)} to {max(reached)}: all the same bits")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
