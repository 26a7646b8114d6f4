"""Kill a process that saves, again and again: ``python kill_while_saving.py FILE KILLS SEED``.

After each kill the file must hold a whole state: one whose saving was acknowledged, or the next. It
ends with how many kills left an unfinished file behind, which shows that they came amidst writing.
"""

import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

import numpy as np

import gpuprop

SIZE = 100_000


def state_of(step):
    """A state and parameters in which every element tells the step."""
    optimizer = gpuprop.RMSProp(momentum=0.5)
    x = np.full(SIZE, step, "float32")
    state = optimizer.init(x, backend=gpuprop.select_backend("numpy"))
    state.step = step
    for array in state.arrays.values():
        array[...] = step
    return state, x


def save_for_ever(path, step, acknowledge):
    while True:
        step += 1
        state, x = state_of(step)
        state.save(path, x=x)
        os.write(acknowledge, struct.pack("q", step))


def kill_one(path, step, wait):
    """Kill a process that saves the steps after `step`; the last one that it acknowledged."""
    acknowledged, acknowledge = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(acknowledged)
        save_for_ever(path, step, acknowledge)
    os.close(acknowledge)
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "the child ended by itself"
    with os.fdopen(acknowledged, "rb") as pipe:
        steps = [step for (step,) in struct.iter_unpack("q", pipe.read())]
    return steps[-1] if steps else step


def main(path, kills, seed):
    rng = random.Random(seed)
    state, x = state_of(0)
    state.save(path, x=x)
    step = unfinished = 0
    wait = 0.01
    for kill in range(kills):
        saved = kill_one(path, step, rng.uniform(0, 2 * wait))
        # On any machine, about half of the kills come before the first save is done.
        wait *= 1.1 if saved == step else 1 / 1.1
        state = gpuprop.load_state(path)
        assert state.step in (saved, saved + 1), f"kill {kill}: step {state.step}, acknowledged {saved}"
        for array in (state.extras["x"], *state.arrays.values()):
            assert array.shape == (SIZE,)
            assert (array == state.step).all(), f"kill {kill}: elements of another step"
        step = state.step
        for left_over in Path(path).parent.glob(".gpuprop-*.tmp"):
            unfinished += 1
            left_over.unlink()
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
    print(kills, unfinished, step)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
