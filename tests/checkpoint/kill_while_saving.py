"""Kill a process that saves, again and again: ``python kill_while_saving.py FILE KILLS SEED [groups]``.

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


def state_of(step, names):
    """A state, of groups where there are several names, and parameters: every element tells the step."""
    optimizer = gpuprop.RMSProp(momentum=0.5)
    x = {name: np.full(SIZE // len(names), step, "float32") for name in names}
    of_groups = gpuprop.Groups(dict.fromkeys(names, optimizer)).init
    backend = gpuprop.select_backend("numpy")
    state = of_groups(x, backend=backend) if len(names) > 1 else optimizer.init(*x.values(), backend=backend)
    state.step = step
    for each in parts_of(state):
        each.step = step
        for array in each.arrays.values():
            array[...] = step
    return state, x


def parts_of(state):
    return list(state.values()) if isinstance(state, gpuprop.GroupsState) else [state]


def save_for_ever(path, step, acknowledge, names):
    while True:
        step += 1
        state, x = state_of(step, names)
        state.save(path, **x)
        os.write(acknowledge, struct.pack("q", step))


def kill_one(path, step, wait, names):
    """Kill a process that saves the steps after `step`; the last one that it acknowledged."""
    acknowledged, acknowledge = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(acknowledged)
        save_for_ever(path, step, acknowledge, names)
    os.close(acknowledge)
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "the child ended by itself"
    with os.fdopen(acknowledged, "rb") as pipe:
        steps = [step for (step,) in struct.iter_unpack("q", pipe.read())]
    return steps[-1] if steps else step


def main(path, kills, seed, names):
    rng = random.Random(seed)
    state, x = state_of(0, names)
    state.save(path, **x)
    step = unfinished = 0
    wait = 0.01
    for kill in range(kills):
        saved = kill_one(path, step, rng.uniform(0, 2 * wait), names)
        # On any machine, about half of the kills come before the first save is done.
        wait *= 1.1 if saved == step else 1 / 1.1
        state = gpuprop.load_state(path)
        assert state.step in (saved, saved + 1), f"kill {kill}: step {state.step}, acknowledged {saved}"
        assert [each.step for each in parts_of(state)] == [state.step] * len(names)
        arrays = [array for each in parts_of(state) for array in each.arrays.values()]
        assert (len(arrays), list(state.extras)) == (2 * len(names), list(names))
        for array in (*state.extras.values(), *arrays):
            assert array.shape == (SIZE // len(names),)
            assert (array == state.step).all(), f"kill {kill}: elements of another step"
        step = state.step
        for left_over in Path(path).parent.glob(".gpuprop-*.tmp"):
            unfinished += 1
            left_over.unlink()
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
    print(kills, unfinished, step)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), ("a", "b") if "groups" in sys.argv else ("x",))
