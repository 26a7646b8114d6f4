"""Steps, runs and saves under signals at random moments: ``main|forked interrupts``.

Each time, what is left must be a whole number of steps of an undisturbed run, in x, in the state and in
the file, and go on as that does.
"""

import os
import random
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import safetensors  # noqa: F401 - an import that is cut short may end in another error
import scipy.optimize  # noqa: F401

import gpuprop
from gpuprop import Adam, RMSProp
from gpuprop.backends.cpu import pool

SIZE = 600_001  # each array is above what one thread does alone
STEPS = 12


class TimeOut(Exception):
    """What a handler of the user's raises."""


class Alarm:
    """A signal within some seconds while something is done, and sometimes a second on its heels."""

    left = 0

    def ring(self, number, frame):
        if self.left:
            self.left -= 1
            raise TimeOut

    def disturb(self, action, seconds):
        moment = random.uniform(1e-5, seconds)
        if random.random() < 0.5:
            self.press_ctrl_c(action, moment)
            return
        # Two may fall within the ends of these, one in each; the third has none left.
        with suppress(TimeOut), suppress(TimeOut):
            with suppress(TimeOut):
                self.left = random.choice([1, 1, 2])
                signal.setitimer(signal.ITIMER_REAL, moment, random.choice([2e-5, 2e-4]))
                action()
            self.left = 0
        signal.setitimer(signal.ITIMER_REAL, 0)

    def press_ctrl_c(self, action, moment):
        def press():
            time.sleep(moment)
            os.kill(os.getpid(), signal.SIGINT)

        finger = threading.Thread(target=press)
        with suppress(KeyboardInterrupt):
            finger.start()
            action()
            finger.join()
            time.sleep(0.01)
        finger.join()


ALARM = Alarm()


def gradient(x):
    return x - 1


def fused_of(optimizer):
    return optimizer.fuse("grad = x - 1", value="x")


def undisturbed(optimizer, start):
    """x and the arrays of the state after each number of steps, and all compiled: Numba bears no signals."""
    x = start.copy()
    state = optimizer.init(x)
    path = []
    for _ in range(STEPS + 1):
        path.append([x.copy(), *(a.copy() for a in state.arrays.values())])
        optimizer.step(x, gradient(x), state)
    fused_of(optimizer).step(x, (), state)
    if not fused_of(optimizer)._needs_gradient:
        fused_of(optimizer).run(x, (), state, steps=2)
    return path


def is_on(path, step, x, state):
    arrays = (x, *state.arrays.values())
    return all(np.array_equal(a, b) for a, b in zip(arrays, path[step], strict=True))


def by_steps(optimizer, x, state, file):
    def action():
        while state.step < STEPS:
            optimizer.step(x, gradient(x), state)

    ALARM.disturb(action, 0.05)
    return x, state


def by_runs(optimizer, x, state, file):
    """With the gradient in the same pass, several steps in one where they can be."""
    fused = fused_of(optimizer)
    most = 1 if fused._needs_gradient else 4

    def action():
        while left := STEPS - state.step:
            if (steps := random.randint(1, min(left, most))) > 1:
                fused.run(x, (), state, steps=steps)
            else:
                fused.step(x, (), state)

    ALARM.disturb(action, 0.05)
    return x, state


def by_minimize(optimizer, x, state, file):
    reached = [x]

    def jac(x):
        reached[:] = [x]  # the very array that is stepped
        return gradient(x)

    optimizer.step(x, gradient(x), state)  # or the first rate would be looked for
    options = {"maxiter": STEPS, "gtol": None, "state": state, "copy_x": False}
    ALARM.disturb(lambda: gpuprop.minimize(None, x, jac=jac, method=optimizer, options=options), 0.08)
    return reached[0], state


def by_saves(optimizer, x, state, file):
    state.save(file, x=x)

    def action():
        while state.step < STEPS:
            optimizer.step(x, gradient(x), state)
            state.save(file, x=x)

    ALARM.disturb(action, 0.2)
    loaded = gpuprop.load_state(file)
    assert state.step - loaded.step in (0, 1)
    return loaded.extras["x"], loaded


def main(process, interrupts):
    gpuprop.set_num_threads(2)
    start = np.linspace(-1, 3, SIZE)
    optimizers = [RMSProp(0.1, momentum=0.9), Adam(0.1, nonfinite="skip"), RMSProp(0.1, clip_norm=1e3)]
    optimizers.append(RMSProp("auto", momentum=0.9))
    if process == "forked":
        optimizers[0].step(start.copy(), start, optimizers[0].init(start))  # the parent has threads
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    random.seed(os.getpid())
    paths = [undisturbed(optimizer, start) for optimizer in optimizers]
    signal.signal(signal.SIGALRM, ALARM.ring)
    rounds = interrupted = 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "run.safetensors")
        while interrupted < interrupts:
            rounds += 1
            optimizer, path = random.choice(list(zip(optimizers, paths, strict=True)))
            way, x = random.choice([by_steps, by_runs, by_minimize, by_saves]), start.copy()
            x, state = way(optimizer, x, optimizer.init(x), file)
            interrupted += state.step < STEPS
            what = f"{way.__name__}, {optimizer}, {state}"
            assert is_on(path, state.step, x, state), f"{what}: not that of step {state.step}"
            time.sleep(0.002)
            assert is_on(path, state.step, x, state), f"{what}: somebody writes still"
            while state.step < STEPS:
                optimizer.step(x, gradient(x), state)
            assert is_on(path, STEPS, x, state), f"{what}: it does not go on"
    print(f"{interrupted} of {rounds} interrupted")
    return 0


if __name__ == "__main__":
    if sys.argv[3] == "pool":
        pool.team_is_there = lambda: False
    code = main(sys.argv[1], int(sys.argv[2]))
    sys.stdout.flush()
    os._exit(code)
