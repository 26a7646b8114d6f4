"""Which threads run a step: forks, Numba's layers, affinity, and what is left alone."""

import os
import subprocess
import sys

import numpy as np
import pytest

import gpuprop
from gpuprop import RMSProp


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
print(x[0], (x == x[0]).all(), flush=True)
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
@pytest.mark.parametrize("layer", ["tbb", pytest.param("safe", marks=pytest.mark.slow)])
def test_a_layer_that_is_not_there_is_done_without(layer):
    code = """
import numpy, gpuprop
gpuprop.set_num_threads(2)
x = numpy.ones(600_000); grad = numpy.full_like(x, 0.5)
optimizer = gpuprop.RMSProp(); state = optimizer.init(x)
optimizer.step(x, grad, state)
print((x == x[0]).all(), x[0] < 1)
"""
    assert python(code, NUMBA_THREADING_LAYER=layer) == "True True\n"


@pytest.mark.slow
def test_a_thread_that_outlives_the_main_thread_goes_on():
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
    assert python(code, NUMBA_THREADING_LAYER="workqueue") == "2 True\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks GNU OpenMP")
@pytest.mark.parametrize(
    ("chosen", "policy"),
    [({}, "PASSIVE"), pytest.param({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", marks=pytest.mark.slow)],
)
def test_idle_threads_sleep_unless_the_user_wants_them_awake(chosen, policy):
    code = """
import os, numpy, gpuprop
gpuprop.set_num_threads(2)
x = numpy.ones(600_000)
gpuprop.RMSProp().step(x, x.copy(), gpuprop.RMSProp().init(x))
print(os.environ.get("OMP_WAIT_POLICY"))
"""
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | {"OMP_DISPLAY_ENV": "TRUE"} | chosen,
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.stdout.strip() == str(chosen.get("OMP_WAIT_POLICY"))
    if "OMP_WAIT_POLICY" not in done.stderr:
        pytest.skip("Numba has not loaded GNU OpenMP here")
    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr


@pytest.mark.slow
def test_workqueue_is_never_entered():
    # Numba's workqueue aborts the process when two threads are in it at once.
    code = """
import threading, numpy, gpuprop
from gpuprop.backends.cpu.threads import parallel_layer_is_safe
gpuprop.set_num_threads(2)
def work():
    x = numpy.ones(600_000); grad = numpy.full_like(x, 0.5)
    optimizer = gpuprop.RMSProp(); state = optimizer.init(x)
    for _ in range(50):
        optimizer.step(x, grad, state)
    assert (x == x[0]).all()
workers = [threading.Thread(target=work) for _ in range(4)]
[w.start() for w in workers]; [w.join() for w in workers]
print(parallel_layer_is_safe())
"""
    assert python(code, NUMBA_THREADING_LAYER="workqueue") == "False\n"


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
