"""What only the CPU backend has: vector instructions, threads, forks."""

import os
import platform
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import DTYPES
from trial_rules import CLIPPED

import gpuprop
from gpuprop import RMSProp
from gpuprop.backends import threads as threading_of_steps
from gpuprop.backends.loops import Loops
from gpuprop.rules import RMSPROP


def run_steps(size, dtype, n_steps=3, seed=0):
    random = np.random.default_rng(seed)
    x, grad = (random.uniform(0.5, 2, size).astype(dtype) for _ in range(2))
    optimizer = RMSProp(0.01)
    state = optimizer.init(x)
    for _ in range(n_steps):
        optimizer.step(x, grad, state)
    return x, state.square_average


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86 assembly")
@pytest.mark.parametrize("function", ["serial", "loop"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", [RMSPROP, CLIPPED], ids=lambda rule: rule.name)
def test_loops_are_vectorised_in_their_own_precision(rule, dtype, function):
    kernel = getattr(Loops(rule, np.dtype(dtype).char, 0), function)
    (assembly,) = kernel.inspect_asm().values()
    suffix = "d" if dtype == "float64" else "s"
    assert re.search(rf"v?sqrtp{suffix}\b", assembly)
    assert re.search(rf"v?divp{suffix}\b", assembly)
    if suffix == "s":  # what is float64 is the scalars, on their way to float32
        assert not re.search(r"\bv?(add|sub|mul|div|sqrt)[ps]d\b", assembly)


@pytest.mark.parametrize(
    ("shape", "dtype"), [*((2_000_003, dtype) for dtype in DTYPES), ((700, 3, 1001), "float32")]
)
def test_the_number_of_threads_changes_no_bit(shape, dtype, threads):
    results = []
    for n in (1, 2, 3, 8):
        threads(n)
        results.append(run_steps(shape, dtype))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("pool", [False, True])
def test_strided_arrays_in_threads(pool, threads, monkeypatch):
    monkeypatch.setattr(threading_of_steps, "_forked", pool)
    memory = np.ones((900, 2, 1200))
    x, grad = memory[:, 0, ::2].T, np.full((600, 900), 0.5)
    optimizer = RMSProp()
    threads(3)
    optimizer.step(x, grad, optimizer.init(x))
    expected = np.ones(1)
    optimizer.step(expected, np.full(1, 0.5), optimizer.init(expected))
    assert (x == expected).all()
    assert (memory[:, 1] == 1).all()
    assert (memory[:, 0, 1::2] == 1).all()


@pytest.mark.parametrize("pool", [False, True])
def test_many_threads_step_vectors_of_their_own(pool, threads, monkeypatch):
    monkeypatch.setattr(threading_of_steps, "_forked", pool)
    threads(2)
    sizes = [10, 1000, 300_000, 600_000] * 2
    expected = [run_steps(size, "float64", 20, seed) for seed, size in enumerate(sizes)]
    results = [None] * len(sizes)

    def work(k):
        results[k] = run_steps(sizes[k], "float64", 20, k)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(len(sizes))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result, right in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, right)


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
def test_a_worker_forked_before_the_import_steps_too():
    code = """
import multiprocessing, numpy, numba
@numba.njit(parallel=True)
def enter(a):
    for i in numba.prange(a.size):
        a[i] += 1
enter(numpy.ones(100))
def work(_):
    import gpuprop
    gpuprop.set_num_threads(2)
    x = numpy.ones(600_000)
    optimizer = gpuprop.RMSProp(); state = optimizer.init(x)
    for _ in range(3):
        optimizer.step(x, numpy.ones_like(x), state)
    return float(x.sum())
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(len(set(pool.map_async(work, range(2)).get(60))))
"""
    assert python(code) == "1\n"


@pytest.mark.parametrize("layer", ["tbb", "safe"])
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


def test_a_thread_that_outlives_the_main_thread_goes_on():
    code = """
import threading, time, numpy, gpuprop
gpuprop.set_num_threads(2)
def work():
    x = numpy.ones(600_000); grad = numpy.full_like(x, 0.5)
    optimizer = gpuprop.RMSProp(); state = optimizer.init(x)
    optimizer.step(x, grad, state)
    threading.main_thread().join()
    time.sleep(0.2)
    optimizer.step(x, grad, state)
    print(state.step, (x == x[0]).all(), flush=True)
threading.Thread(target=work).start()
"""
    assert python(code, NUMBA_THREADING_LAYER="workqueue") == "2 True\n"


@pytest.mark.skipif(sys.platform != "linux", reason="asks GNU OpenMP")
@pytest.mark.parametrize(("chosen", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
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


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names an x86 processor")
def test_float16_where_the_processor_cannot_convert_it():
    code = """
import numpy, gpuprop
x = numpy.ones(5, "float16"); grad = numpy.full_like(x, 0.5)
optimizer = gpuprop.RMSProp(); state = optimizer.init(x)
optimizer.step(x, grad, state)
print(x[0])
"""
    assert python(code, NUMBA_CPU_NAME="generic") == python(code)


def test_workqueue_is_never_entered():
    # Numba's workqueue aborts the process when two threads are in it at once.
    code = """
import threading, numpy, numba, gpuprop
gpuprop.set_num_threads(2)
def work():
    x = numpy.ones(600_000); grad = numpy.full_like(x, 0.5)
    optimizer = gpuprop.RMSProp(); state = optimizer.init(x)
    for _ in range(50):
        optimizer.step(x, grad, state)
    assert (x == x[0]).all()
workers = [threading.Thread(target=work) for _ in range(4)]
[w.start() for w in workers]; [w.join() for w in workers]
print(numba.threading_layer())
"""
    assert python(code, NUMBA_THREADING_LAYER="workqueue") == "workqueue\n"


def test_the_callers_numba_threads_are_left_alone(threads):
    import numba

    threads(2)
    before = numba.get_num_threads()
    run_steps(600_000, "float64")
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
