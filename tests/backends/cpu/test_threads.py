"""Which threads run a step: forks, affinity, and what is left alone."""

import os
import subprocess
import sys

import numpy as np
import pytest

import gpuprop
from gpuprop import RMSProp
from gpuprop.backends.cpu.kernels.environment import FUTEX

POOL = "import gpuprop.backends.cpu.pool\ngpuprop.backends.cpu.pool.team_is_there = lambda: False\n"


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_goes_on_stepping():
    code = """
import os, numpy, gpuprop
gpuprop.set_num_threads(2)
x = numpy.ones(600_000); grad = numpy.full_like(x, 0.5)
optimizer = gpuprop.RMSProp(); state = optimizer.init(x)
optimizer.step(x, grad, state)
child = os.fork()
for _ in range(5):
    optimizer.step(x, grad, state)
os.write(1, f"{x[0]} {(x == x[0]).all()}\\n".encode())  # in one piece
if child:
    assert os.waitpid(child, 0)[1] == 0
else:
    os._exit(0)
"""
    first, second = python(code).splitlines()
    assert first == second
    assert first.endswith("True")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    "fork",
    [
        pytest.param(
            "with multiprocessing.get_context('fork').Pool(1) as pool: print(pool.apply_async(work).get(60))",
            marks=pytest.mark.slow,
        ),
        # As gunicorn, uWSGI and celery do.
        "child = os.fork()\nif child: assert os.waitpid(child, 0)[1] == 0\nelse: print(work(), flush=True)",
    ],
)
def test_a_worker_forked_before_the_import_steps_too(fork):
    code = """
import multiprocessing, os, numpy, numba
@numba.njit(parallel=True)
def enter(a):
    for i in numba.prange(a.size):
        a[i] += 1
enter(numpy.ones(100))
def work():
    import gpuprop
    gpuprop.set_num_threads(2)
    x = numpy.ones(600_000)
    optimizer = gpuprop.RMSProp(); state = optimizer.init(x)
    for _ in range(3):
        optimizer.step(x, numpy.ones_like(x), state)
    return bool((x == x[0]).all()), state.step
"""
    assert python(code + fork) == "(True, 3)\n"


@pytest.mark.slow
@pytest.mark.parametrize("pooled", [False, True])
def test_a_thread_that_outlives_the_main_thread_goes_on(pooled):
    code = """
import threading, time, numpy, gpuprop
gpuprop.set_num_threads(2)
def work():
    x = numpy.ones(600_000); grad = numpy.full_like(x, 0.5)
    optimizer = gpuprop.RMSProp(); state = optimizer.init(x)
    optimizer.step(x, grad, state)
    stepped.set()
    threading.main_thread().join()
    time.sleep(0.2)
    optimizer.step(x, grad, state)
    print(state.step, (x == x[0]).all(), flush=True)
stepped = threading.Event()
threading.Thread(target=work).start()
stepped.wait()  # from Python 3.12 on, what Numba imports cannot be imported when the main thread has ended
"""
    assert python(POOL * pooled + code) == "2 True\n"


@pytest.mark.skipif(FUTEX is None, reason="compiled code has no threads here")
def test_the_team_sleeps_where_nobody_steps_and_takes_no_signals():
    code = """
import os, time, numpy, gpuprop
before = set(os.listdir("/proc/self/task"))
gpuprop.set_num_threads(3)
x = numpy.ones(600_000); state = gpuprop.RMSProp().init(x)
gpuprop.RMSProp().step(x, x.copy(), state)
team = set(os.listdir("/proc/self/task")) - before
masks = [line.split()[1] for t in team for line in open(f"/proc/self/task/{t}/status") if "SigBlk" in line]
time.sleep(0.01)
used = time.process_time()
time.sleep(0.3)
print(len(team), [hex(int(mask, 16) & 0xFFFF) for mask in masks], time.process_time() - used < 0.01)
"""
    everything = hex(0xFFFF & ~(1 << 8))  # but SIGKILL
    assert python(code) == f"2 {[everything] * 2} True\n"


@pytest.mark.skipif(FUTEX is None, reason="compiled code has no threads here")
def test_a_step_without_threads_where_none_can_be_made():
    code = """
import resource, numpy, gpuprop
x = numpy.ones(3_000_000); grad = numpy.full_like(x, 0.5)
optimizer = gpuprop.RMSProp(); state = optimizer.init(x)
gpuprop.set_num_threads(1)
optimizer.step(x, grad, state)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**20, resource.RLIM_INFINITY))
gpuprop.set_num_threads(4)
optimizer.step(x, grad, state)
print(kernel.team[team.HIRED])
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
optimizer.step(x, grad, state)
print(kernel.team[team.HIRED], (x == x[0]).all(), state.step)
"""
    imports = "from gpuprop.backends.cpu.kernels import kernel, team\n"
    assert python(imports + code) == "0\n3 True 3\n"


@pytest.mark.skipif(FUTEX is None, reason="compiled code has no threads here")
@pytest.mark.parametrize(("fork", "others"), [("os.fork", 2), ("ctypes.PyDLL(None).fork", 0)])
def test_a_child_has_a_team_of_its_own(fork, others):
    """Forked while other threads step; or by C's own function, of which no hook hears.

    (Other threads may have locks of Python's then, which only its hooks free in the child.)
    """
    code = f"""
import ctypes, os, threading, numpy, gpuprop
gpuprop.set_num_threads(3)
def work(steps, x):
    optimizer = gpuprop.RMSProp(); state = optimizer.init(x)
    for _ in range(steps):
        optimizer.step(x, numpy.full_like(x, 0.5), state)
    return bool((x == x[0]).all())
work(1, numpy.ones(600_000))
others = [threading.Thread(target=work, args=(200, numpy.ones(200_000))) for _ in range({others})]
[other.start() for other in others]
for _ in range(10):
    child = {fork}()
    if child == 0:
        os._exit(work(5, numpy.ones(300_000)) is not True)
    assert os.waitpid(child, 0)[1] == 0
[other.join() for other in others]
print(work(5, numpy.ones(300_000)))
"""
    assert python(code) == "True\n"


def test_the_callers_numba_threads_are_left_alone(threads):
    import numba

    threads(2)
    before = numba.get_num_threads()
    x = np.ones(600_000)
    RMSProp().step(x, x.copy(), RMSProp().init(x))
    assert numba.get_num_threads() == before


@pytest.mark.parametrize("n", [0, -1])
def test_refuses_no_threads(n):
    with pytest.raises(ValueError, match=f"n is {n}; the number of threads must be at least 1"):
        gpuprop.set_num_threads(n)


@pytest.mark.parametrize("n", [1.5, "2", True])
def test_refuses_what_is_no_whole_number(n):
    with pytest.raises(TypeError, match=f"n is {n!r}; the number of threads must be a whole number"):
        gpuprop.set_num_threads(n)


def test_the_number_of_threads_by_default():
    ask = "import gpuprop; print(gpuprop.get_num_threads())"
    assert python(ask, GPUPROP_NUM_THREADS="5") == "5\n"
    assert python(f"import os; os.environ.pop('GPUPROP_NUM_THREADS', 0)\n{ask}").strip() == str(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    refused = "import gpuprop\ntry: gpuprop.get_num_threads()\nexcept ValueError as e: print(e)"
    assert "GPUPROP_NUM_THREADS is 'two'" in python(refused, GPUPROP_NUM_THREADS="two")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity mask")
def test_the_affinity_mask_is_respected():
    code = """
import os, gpuprop
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(gpuprop.get_num_threads())
"""
    assert python(code, GPUPROP_NUM_THREADS="") == "1\n"


@pytest.mark.skipif(FUTEX is None, reason="compiled code has no threads here")
def test_a_child_of_a_fork_takes_up_nothing_that_was_to_be_done():
    """As it was forked while another thread was about to share its step."""
    code = """
import os, numpy, gpuprop
from gpuprop.backends.cpu.kernels import kernel, team
gpuprop.set_num_threads(3)
x = numpy.ones(300_000); grad = numpy.full_like(x, 0.5)
optimizer = gpuprop.RMSProp(); state = optimizer.init(x)
optimizer.step(x, grad, state)
for _ in range(10):
    child = os.fork()
    if child == 0:
        kernel.team[team.TICKETS] = 2
        optimizer.step(x, grad, state)
        os._exit(not (x == x[0]).all())
    assert os.waitpid(child, 0)[1] == 0
"""
    assert python(code) == ""


def test_functions_are_good_until_the_last_object_of_python_has_gone():
    code = """
import gc, os, sys, numpy
from gpuprop.backends.cpu.kernels.kernel import Array, Kernel, function_of

class Last:
    function = function_of(Kernel("put", (("x", Array("float64")),), ("x[0] = 7.0",), apart=1))
    x, collect, write = numpy.zeros(3), gc.collect, os.write

    def __del__(self):
        others = [bytearray(b"?" * 31) for _ in range(10_000)]  # in memory that has become free
        self.collect()  # which goes into functions
        result = self.function(self.x)
        self.write(1, f"{self.function.__name__} {result} {self.x[0]}".encode())

sys.last = Last()  # which goes after all other modules
del Array, Kernel, function_of
"""
    for _ in range(2):  # the second has no compiler, which would keep modules alive
        assert python(code) == "put True 7.0"
