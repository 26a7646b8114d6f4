"""An interrupt, wherever it falls, leaves a state that belongs to its x."""

import os
import subprocess
import sys
from bisect import bisect_left
from functools import cache
from itertools import count, product
from pathlib import Path

import numpy as np
import pytest
from variants import covering

import gpuprop
from gpuprop import SGD, Adam, RMSProp, schedules

CODE_OF_PACKAGE = os.path.dirname(gpuprop.__file__)
OPTIMIZERS = {
    "plain": RMSProp(momentum=0.9),
    "schedule": Adam(schedules.linear_schedule(0.1, 0.0, 100)),
    "guarded": RMSProp(clip_norm=1.0, nonfinite="skip"),
    "no state": SGD(),
    "found": RMSProp("auto", momentum=0.9),
}


def interrupted_at(moment, action):
    """Whether `action` has so many moments; if so, KeyboardInterrupt is raised at that one.

    A moment is before an instruction of Python in a function of the package: handlers of signals run at
    some of them.
    """
    left = moment

    def trace(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.startswith(CODE_OF_PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 asks only here whether any frame will
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


LAYOUTS = ["vector", "strided"]
#: All at some instructions, and each optimizer and each layout at every one.
FEW = [(*case, 101) for case in product(OPTIMIZERS, LAYOUTS)]
FEW += [(*case, 1) for case in covering(product(OPTIMIZERS, LAYOUTS), set)]


@pytest.mark.few(("name", "layout", "stride"), FEW)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stride", [101, pytest.param(1, marks=pytest.mark.slow)])
def test_a_step_is_all_or_nothing_at_every_instruction(backend, name, layout, stride):
    optimizer = OPTIMIZERS[name]

    def start():
        x = backend.asarray(
            np.linspace(1, 2, 12).reshape(3, 4), "float16" if layout == "strided" else "float32"
        )
        x = x[:, ::2] if layout == "strided" else x.reshape(-1)
        grad = x + 1
        grad[-1] = np.inf
        return x, grad, optimizer.init(x, backend=backend)

    def step(x, grad, state):
        optimizer.step(x, grad, state)

    check(backend, start, step, stride)


FUSED = {
    "value": (RMSProp(momentum=0.9), "x * x", None),
    "guarded": (RMSProp(clip_norm=1.0, nonfinite="skip"), "x * x", None),
    "run": (Adam(0.1), None, 3),
    "run skip": (RMSProp(schedules.linear_schedule(0.1, 0.0, 9), nonfinite="skip"), "x * x", 3),
}


@pytest.mark.few(("name", "stride"), [("value", 1), ("run skip", 1), ("guarded", 503), ("run skip", 503)])
@pytest.mark.parametrize(
    ("name", "stride"),
    [
        *(pytest.param(name, 1, marks=pytest.mark.slow) for name in FUSED),
        ("guarded", 503),
        ("run skip", 503),
    ],
)
def test_a_fused_run_is_all_or_nothing_at_every_instruction(backend, name, stride):
    optimizer, value, steps = FUSED[name]
    fused = optimizer.fuse("grad = x + 1", value=value)

    def start():
        x = backend.asarray(np.linspace(1, 2, 12), "float32")
        x[-1] = np.inf
        return x, (), fused.init(x, backend=backend)

    def action(x, data, state):
        if steps is None:
            fused.step(x, data, state)
        elif left := steps - state.step:
            fused.run(x, data, state, steps=left)

    # In NumPy each of the steps is by itself.
    check(backend, start, action, stride, has_parts=steps and backend.name == "numpy")


def check(backend, start, action, stride, has_parts=False):
    """At every moment, an action leaves what `start` gave as it was, or has done it.

    One that `has_parts` may have done some of them, and does the rest when it is called again.
    """

    def content(x, _, state):
        arrays = [x, *state.arrays.values()]
        counts = state.step, state.skipped, state._clock.tolist(), state.found_rate
        return repr([backend.to_host(a).tolist() for a in arrays]), counts

    given = start()
    before = content(*given)
    action(*given)  # compiles
    after = content(*given)
    assert before != after

    @cache
    def is_done(moment):
        """Whether it has been done where it was interrupted then; None where it has no such moment."""
        given = start()
        was_interrupted = interrupted_at(moment, lambda: action(*given))
        now = content(*given)
        if has_parts:
            action(*given)
            assert content(*given) == after, moment
        else:
            assert now in (before, after), moment
        return now == after if was_interrupted else None

    last = next(2**k for k in count() if is_done(2**k) is None)
    turn = bisect_left(range(last), True, key=lambda moment: is_done(moment) is not False)
    for moment in {*range(0, last, stride), *range(max(turn - 30, 0), turn + 30)}:
        assert is_done(moment) in ((None, True) if moment >= turn else (False,))
    assert is_done(turn)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("process", ["main", "forked"])
@pytest.mark.parametrize("layer", ["team", "pool"])
def test_signals_at_random_moments_leave_states_that_go_on(process, layer):
    program = Path(__file__).with_name("interrupt_at_random.py")
    done = subprocess.run(
        [sys.executable, program, process, "75", layer],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
