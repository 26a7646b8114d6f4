"""What only a GPU has: streams, graphs, several devices, a memory of its own."""

import os
import shutil
import subprocess
import sys
import timeit
from itertools import product

import numpy as np
import pytest
from parameters import DTYPES
from trial_rules import apply

from gpuprop import RMSProp, Rule, select_backend
from gpuprop.backends.gpu.kernels.elementwise import elementwise_kernel

pytestmark = pytest.mark.gpu


def problem(xp, size=1000, dtype="float32"):
    # Made on the host: CuPy's linspace rounds otherwise.
    x, grad = (xp.asarray(np.linspace(a, b, size, dtype=dtype)) for a, b in ((1, 2), (-1, 1)))
    return RMSProp(), x, grad


def after_steps(n, size=1000, dtype="float32"):
    optimizer, x, grad = problem(np, size, dtype)
    state = optimizer.init(x)
    for _ in range(n):
        optimizer.step(x, grad, state)
    return x


@pytest.mark.parametrize("non_blocking", [True, False])
def test_runs_on_the_current_stream(cupy, non_blocking):
    optimizer, x, grad = problem(cupy)
    state = optimizer.init(x)
    stream = cupy.cuda.Stream(non_blocking=non_blocking)
    stream.wait_event(cupy.cuda.get_current_stream().record())
    with stream:
        for _ in range(3):
            optimizer.step(x, grad, state)
        done = stream.record()
    done.synchronize()
    np.testing.assert_array_equal(x.get(stream), after_steps(3))


def test_can_be_captured_into_a_graph(cupy):
    # A launch on another stream would not be in the graph, an allocation of memory by the driver or
    # any synchronisation would end the capture with an error.
    optimizer, x, grad = problem(cupy)
    state = optimizer.init(x)
    optimizer.step(x, grad, state)  # compiles, which a capture forbids
    cupy.cuda.Device().synchronize()
    before = x.get()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        optimizer.step(x, grad, state)
        graph = stream.end_capture()
    np.testing.assert_array_equal(x.get(), before)  # what was captured has not run
    assert state.step == 1
    for _ in range(4):
        graph.launch(stream)
    assert state.step == 5
    np.testing.assert_array_equal(x.get(), after_steps(5))


def test_a_thousand_steps_ask_for_no_memory(cupy, requests):
    optimizer, x, grad = problem(cupy)
    state = optimizer.init(x)
    optimizer.step(x, grad, state)
    pool = cupy.get_default_memory_pool()
    before = pool.used_bytes(), pool.total_bytes()
    with requests:
        for _ in range(1000):
            optimizer.step(x, grad, state)
        assert requests.count == 0
        assert (pool.used_bytes(), pool.total_bytes()) == before
        cupy.empty(1)
        assert requests.count == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_on_the_device_of_the_array(cupy, other_device, dtype):
    with other_device:
        optimizer, x, grad = problem(cupy, dtype=dtype)
    state = optimizer.init(x)
    assert state.square_average.device == other_device
    for _ in range(2):
        optimizer.step(x, grad, state)
    assert cupy.cuda.runtime.getDevice() == 0
    with other_device:
        np.testing.assert_array_equal(x.get(), after_steps(2, dtype=dtype))


def test_uses_the_current_stream_of_that_device(cupy, other_device):
    with other_device:
        optimizer, x, grad = problem(cupy)
        state = optimizer.init(x)
        optimizer.step(x, grad, state)
        before = x.get()
        stream = cupy.cuda.Stream(non_blocking=True)
        stream.use()
        stream.begin_capture()
    try:
        optimizer.step(x, grad, state)  # device 0 is current
    finally:
        with other_device:
            graph = stream.end_capture()
            cupy.cuda.Stream.null.use()
    with other_device:
        np.testing.assert_array_equal(x.get(), before)
        graph.launch(stream)
        stream.synchronize()
        np.testing.assert_array_equal(x.get(), after_steps(2))


@pytest.mark.parametrize("stray", ["grad", "square_average"])
def test_arrays_on_two_devices_are_refused(cupy, other_device, stray):
    optimizer, x, grad = problem(cupy)
    state = optimizer.init(x)
    with other_device:
        elsewhere = cupy.ones(1000, "float32")
    if stray == "grad":
        grad = elsewhere
    else:
        state.square_average = elsewhere
    before = x.get()
    with pytest.raises(ValueError, match=f"{stray} is on device 1 and x on device 0; they must be on one"):
        optimizer.step(x, grad, state)
    np.testing.assert_array_equal(x.get(), before)
    assert state.step == 0


def test_out_of_memory_says_how_much_was_asked_and_is_free(cupy):
    pool = cupy.get_default_memory_pool()
    x = cupy.ones(1_000_000, "float64")
    pool.free_all_blocks()
    limit, used = pool.get_limit(), pool.used_bytes()
    pool.set_limit(size=pool.total_bytes() + 1000)
    try:
        words = r"8000000 bytes for an array like x on device 0, where \d+ of \d+ are free"
        with pytest.raises(MemoryError, match=words):
            RMSProp().init(x)
        assert pool.used_bytes() == used
    finally:
        pool.set_limit(size=limit)
    assert (x == 1).all()
    RMSProp().step(x, x, RMSProp().init(x))


def test_the_host_costs_little_more_than_the_bare_kernel(cupy):
    optimizer, x, grad = problem(cupy, 2)
    state, bare = optimizer.init(x), elementwise_kernel(optimizer.rule, "float32")
    optimizer.step(x, grad, state)
    scalars = (0.1, 0.9, 0.1, 1e-6)
    calls = {
        "bare": lambda: bare(grad, *scalars, x, state.square_average),
        "step": lambda: optimizer.step(x, grad, state),
    }
    # Whatever else the machine does only adds time: the least of many short rounds is the cost.
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(300):
        for name, call in calls.items():
            least[name] = min(least[name], timeit.timeit(call, number=50))
    assert least["step"] / least["bare"] <= 1.5


#: Puts itself between CuPy and the driver, where every launch passes.
COUNT_LAUNCHES = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
typedef int (*launch_t)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                        void*, void**, void**);
typedef void* (*dlsym_t)(void*, const char*);
static launch_t launch;
static long count;
long launches(void) { return count; }
static int counted(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void* stream, void** parameters, void** extra) {
  count++;
  return launch(f, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra);
}
void* dlsym(void* handle, const char* name) {
  static dlsym_t next;
  const char* versions[] = {"GLIBC_2.2.5", "GLIBC_2.17", "GLIBC_2.34"};
  for (int i = 0; !next && i < 3; i++) next = (dlsym_t)dlvsym(RTLD_NEXT, "dlsym", versions[i]);
  void* found = next(handle, name);
  if (!found || strcmp(name, "cuLaunchKernel")) return found;
  launch = (launch_t)found;
  return (void*)counted;
}
"""

COUNT_THEM = """
import ctypes, cupy, gpuprop
launches = ctypes.CDLL(None).launches
launches.restype = ctypes.c_long
x = cupy.linspace(1, 2, 100_000).reshape(250, 400)[:, ::{step}]
optimizer = gpuprop.RMSProp()
state = optimizer.init(x)
grad = x.copy()
optimizer.step(x, grad, state)
before = launches()
for _ in range(100):
    optimizer.step(x, grad, state)
print(launches() - before)
x += 1
print(launches() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts launches with the linker of Linux")
@pytest.mark.parametrize("step", [1, 2])
def test_a_step_is_one_launch(cupy, step, tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    (tmp_path / "count.c").write_text(COUNT_LAUNCHES)
    library = tmp_path / "count.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "count.c", "-ldl"], check=True)
    done = subprocess.run(
        [sys.executable, "-c", COUNT_THEM.format(step=step)],
        env=os.environ | {"LD_PRELOAD": str(library)}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["100", "101"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_contiguous_arrays_of_any_size_and_alignment(cupy, dtype):
    """Packs of 128 bits and the elements behind the last, and where the first is in no pack's place."""
    optimizer, random = RMSProp(momentum=0.9), np.random.default_rng(0)
    for size, off in [*product((0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 1023), (0, 1, 3)), (2**19 + 5, 0)]:
        x, grad = (random.normal(size=off + size + 1).astype(dtype) for _ in range(2))
        gpu_x, gpu_grad = cupy.asarray(x), cupy.asarray(grad)
        for array, g in ((x, grad), (gpu_x, gpu_grad)):
            part = array[off : off + size]
            state = optimizer.init(part)
            for _ in range(2):
                optimizer.step(part, g[off : off + size], state)
        np.testing.assert_array_equal(gpu_x.get(), x)  # what is beside the part, too


def test_which_kernel_runs(cupy):
    """Packs where they can be, and the narrow kernel where strides or addresses do not allow them."""
    backend, x = select_backend("gpu"), cupy.ones((4, 64), "float32")
    rule, scalars = RMSProp().rule, (0.1, 0.9, 0.1, 1e-6)
    for of, wide in (
        (lambda a: a, True),
        (lambda a: a[1:], True),
        (lambda a: a.ravel()[1:], False),
        (lambda a: a[:, ::2], False),
        (lambda a: a.T, True),
        (lambda a: a.T[1:], False),
        (lambda a: a[:0], False),
    ):
        arrays = [of(array) for array in (x, x.copy(), x.copy())]
        _, launch = backend._launch("plain", rule, arrays, scalars, None)
        assert isinstance(launch.func, cupy.cuda.Function) == wide


@pytest.mark.parametrize("dtype", [*DTYPES, "complex64"])
@pytest.mark.parametrize("strided", [False, True])
def test_scalars_of_any_type_are_numbers(cupy, dtype, strided):
    """A kernel takes the bytes of a scalar: what is no number of its own type must be made one."""
    rule = Rule("scaled", ("grad",), ("x",), ("a", "b"), "x = x - a * grad + b")
    backend, ones = select_backend("gpu"), cupy.ones((4, 8), dtype)
    x, grad = (ones.copy()[:, ::2] if strided else ones.copy() for _ in range(2))
    for a in (2, True, 2.0, np.float16(2), np.float32(2), np.float64(2), np.int64(2)):
        x[...] = 0
        apply(backend, rule, [grad, x], (a, np.float32(0)))
        assert (x.real == -float(a)).all(), type(a)
    apply(backend, rule, [grad, x], (cupy.full(1, 0.5, rule_dtype(dtype)), 1))
    assert (x.real == -1.5).all()
    for arrays, scalars in (([grad, x], (1.0,)), ([grad, x], (1.0, 2.0, 3.0)), ([grad, x, x], (1.0, 2.0))):
        with pytest.raises(ValueError, match="scaled takes 2 arrays and 2 scalars"):
            apply(backend, rule, arrays, scalars)
    assert (x.real == -1.5).all()


def rule_dtype(dtype):
    return "float64" if dtype == "float64" else "float32"
