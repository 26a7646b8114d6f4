"""What only the CPU backend has: vector instructions, threads, forks."""

import os
import platform
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
from parameters import DTYPES
from trial_rules import CLIPPED

from gpuprop import RMSProp
from gpuprop.backends.cpu.kernels import compiler
from gpuprop.backends.cpu.loops import Loops


def run_steps(size, dtype, n_steps=3, seed=0):
    random = np.random.default_rng(seed)
    x, grad = (random.uniform(0.5, 2, size).astype(dtype) for _ in range(2))
    optimizer = RMSProp(0.01)
    state = optimizer.init(x)
    for _ in range(n_steps):
        optimizer.step(x, grad, state)
    return x, state.square_average


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86 assembly")
@pytest.mark.parametrize("mode", ["plain", "skip", "count"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", [RMSProp().rule, CLIPPED], ids=lambda rule: rule.name)
def test_loops_are_vectorised_in_their_own_precision(rule, dtype, mode):
    assembly = compiler.assembly(Loops(rule, np.dtype(dtype), mode).source)
    suffix = "d" if dtype == "float64" else "s"
    assert re.search(rf"v?sqrtp{suffix}\b", assembly)
    assert re.search(rf"v?divp{suffix}\b", assembly)
    if suffix == "s":  # what is float64 is the scalars, on their way to float32
        assert not re.search(r"\bv?(add|sub|mul|div|sqrt)[ps]d\b", assembly)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        (2_000_003, "float32"),
        ((700, 3, 1001), "float32"),
        *(pytest.param(2_000_003, dtype, marks=pytest.mark.slow) for dtype in ("float16", "float64")),
    ],
)
def test_the_number_of_threads_changes_no_bit(shape, dtype, threads):
    results = []
    for n in (1, 2, 3, 8):
        threads(n)
        results.append(run_steps(shape, dtype))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.slow
@pytest.mark.parametrize("pool", [False, True])
def test_strided_arrays_in_threads(pool, threads, monkeypatch):
    if pool:
        monkeypatch.setattr("gpuprop.backends.cpu.pool.team_is_there", lambda: False)
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
    if pool:
        monkeypatch.setattr("gpuprop.backends.cpu.pool.team_is_there", lambda: False)
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


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names an x86 processor")
def test_float16_where_the_processor_cannot_convert_it():
    code = """
import numpy, gpuprop
x = numpy.ones(5, "float16"); grad = numpy.full_like(x, 0.5)
optimizer = gpuprop.RMSProp(); state = optimizer.init(x)
optimizer.step(x, grad, state)
print(x[0])
"""
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | changes,
            capture_output=True,
            text=True,
            timeout=100,
        ).stdout
        for changes in ({}, {"NUMBA_CPU_NAME": "generic"})
    ]
    assert printed == ["0.6836\n"] * 2
