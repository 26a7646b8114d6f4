"""Arrays side by side in memory: refused where they share one element, and right where they touch."""

from itertools import permutations, product

import numpy as np
import pytest
from parameters import DTYPES
from trial_rules import apply

from gpuprop import Rule, select_backend
from gpuprop.backends.cpu.kernels.kernel import Array, Kernel, function_of
from gpuprop.backends.gpu.layouts import at_a_glance
from gpuprop.backends.spans import Span

pytest.importorskip("ml_dtypes", reason="gives NumPy bfloat16")
TOTAL = Rule(
    "total",
    ("grad", "other"),
    ("x", "sum"),
    (),
    """
    sum = sum + grad - other
    x = x - sum
    """,
)
SIZE = 4


def vectors(backend, dtype, stride, size=SIZE, **given):
    """The arrays of `TOTAL` by name, each in memory of its own where it is not given."""
    made = {
        name: backend.asarray((np.arange(k, k + size * stride) % 16).astype(dtype))[::stride]
        for k, name in enumerate(TOTAL.arrays)
    }
    return made | given


def run_or_refuse(backend, arrays, message=None):
    """A step must give what it should, or, where it is to be refused, change nothing."""
    before = {name: backend.to_host(array).copy() for name, array in arrays.items()}
    right = before
    if message is None:
        apply(backend, TOTAL, list(arrays.values()))
        total = before["sum"] + before["grad"] - before["other"]
        right = before | {"sum": total, "x": before["x"] - total}
        if arrays["grad"] is arrays["x"]:
            right["grad"] = right["x"]
    else:
        with pytest.raises(ValueError, match=message):
            apply(backend, TOTAL, list(arrays.values()))
    for name, array in arrays.items():
        np.testing.assert_array_equal(backend.to_host(array), right[name])


@pytest.mark.parametrize(
    ("dtype", "stride"),
    [
        *((dtype, 1) for dtype in [*DTYPES, "bfloat16", "complex64"]),
        ("float32", 2),
        ("complex64", 2),
        *(pytest.param(dtype, 2, marks=pytest.mark.slow) for dtype in ("float16", "bfloat16", "float64")),
    ],
)
def test_arrays_may_touch_and_share_nothing(backend, dtype, stride):
    run_or_refuse(backend, vectors(backend, dtype, stride))  # from here on, compiled checks come first
    pairs = [pair for pair in permutations(TOTAL.arrays, 2) if not set(pair) <= set(TOTAL.reads)]
    for (first, second), shared in product(pairs, (0, 1, SIZE - 1, SIZE)):
        memory = backend.asarray((np.arange(2 * SIZE * stride) % 16).astype(dtype))
        one = memory[: SIZE * stride : stride]
        other = memory[(SIZE - shared) * stride :][: SIZE * stride : stride]
        other = one if shared == SIZE else other
        may = shared == 0 or (shared == SIZE and {first, second} == {"grad", "x"})
        arrays = vectors(backend, dtype, stride, **{first: one, second: other})
        run_or_refuse(backend, arrays, None if may else "share memory; they must be separate arrays")


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16", "complex64"])
def test_arrays_that_are_a_byte_out_of_line(backend, dtype):
    itemsize, alignment = np.dtype(dtype).itemsize, np.dtype(dtype).alignment
    run_or_refuse(backend, vectors(backend, dtype, 1))
    for name, shift in product(TOTAL.arrays, {1, itemsize // 2, itemsize - 1, itemsize}):
        memory = backend.xp.zeros((SIZE + 1) * itemsize, np.uint8)
        arrays = vectors(backend, dtype, 1, **{name: memory[shift:][: SIZE * itemsize].view(dtype)})
        run_or_refuse(backend, arrays, f"{name} is not aligned" if shift % alignment else None)


@pytest.mark.parametrize("layer", ["team", "pool"])
def test_large_arrays_may_touch_and_share_nothing(layer, threads, monkeypatch):
    backend, size = select_backend("cpu"), 2**16 + 1  # just above what one thread does alone
    threads(2)
    if layer == "pool":
        monkeypatch.setattr("gpuprop.backends.cpu.pool.team_is_there", lambda: False)
    run_or_refuse(backend, vectors(backend, "float64", 1, size))
    for shared in (0, 1):
        memory = np.arange(2.0 * size) % 16
        arrays = vectors(backend, "float64", 1, size, x=memory[:size], sum=memory[size - shared :][:size])
        run_or_refuse(backend, arrays, "x and sum share memory" if shared else None)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
def test_what_a_gpu_sees_at_a_glance(cupy, dtype):
    backend, itemsize = select_backend("gpu"), np.dtype(dtype).itemsize
    apply(backend, TOTAL, [cupy.zeros(3, dtype) for _ in TOTAL.arrays])  # after which the dtype is known
    for first, second in permutations(range(3), 2):
        for shared, shift, size in product((0, 1), {0, 1, itemsize - 1}, (SIZE, SIZE + 1)):
            memory = cupy.zeros((2 * SIZE + 2) * itemsize, np.uint8)[shift:]
            arrays = [cupy.zeros(SIZE, dtype) for _ in range(3)]
            arrays[first] = memory[: SIZE * itemsize].view(dtype)
            arrays[second] = memory[(SIZE - shared) * itemsize :][: size * itemsize].view(dtype)
            is_right = (shared, shift, size) == (0, 0, SIZE)
            assert (at_a_glance(TOTAL, arrays, cupy.ndarray, backend._dtypes) is not None) == is_right


@pytest.mark.parametrize(("count", "reads", "addresses"), [(3, 1, 8), (3, 2, 8), (4, 2, 6)])
def test_the_compiled_guard_is_what_it_says(count, reads, addresses):
    itemsize = 2
    vectors = tuple((f"a{i}", Array("uint16", is_read=i < reads)) for i in range(count))
    are_apart = function_of(Kernel("nothing", vectors, ("pass",), apart=count, reads=reads))
    memory = np.zeros(addresses + 2 * itemsize, np.uint8)
    assert memory.ctypes.data % itemsize == 0
    for sizes in {(2,) * count, (0,) * count, *permutations((2,) * (count - 1) + (1,))}:
        for at in product(range(addresses), repeat=count):
            covers = [set(range(a, a + n * itemsize)) for a, n in zip(at, sizes, strict=True)]
            right = len(set(sizes)) == 1 and all(a % itemsize == 0 for a in at)
            for i, j in product(range(count), range(reads, count)):
                is_x_its_gradient = (i, j) == (0, reads) and at[i] == at[j]
                right &= i == j or is_x_its_gradient or not covers[min(i, j)] & covers[max(i, j)]
            arrays = [np.ndarray(n, np.uint16, memory, a) for a, n in zip(at, sizes, strict=True)]
            assert are_apart(*arrays) == right, (at, sizes)


def spans(axes, offsets):
    """Arrays of so many axes, where they begin, and the bytes that they have."""
    for shape in product((1, 2, 3), repeat=axes):
        for strides in product((-6, -2, 2, 4), repeat=axes):
            array = np.lib.stride_tricks.as_strided(np.zeros(1, np.int16), shape, strides)
            places = {sum(i * s for i, s in zip(index, strides, strict=True)) for index in np.ndindex(shape)}
            for offset in offsets:
                yield array, 4096 + offset, {4096 + offset + p + byte for p in places for byte in (0, 1)}


@pytest.mark.parametrize("axes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_spans_overlap_where_they_have_a_byte_in_common(axes):
    for one, at_one, bytes_of_one in spans(axes, [0]):
        for other, at_other, bytes_of_other in spans(1, range(-14, 15)):
            first, second = Span(at_one, one), Span(at_other, other)
            assert first.overlaps(second) == second.overlaps(first) == bool(bytes_of_one & bytes_of_other)
            if axes == 1:
                same = at_one == at_other and one.shape == other.shape
                same &= one.size == 1 or one.strides == other.strides
                assert first.is_same(second) == same
