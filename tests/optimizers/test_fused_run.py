"""Many steps in one pass have the bits of single steps, and their sums are those of NumPy."""

from itertools import product

import numpy as np
import pytest
from fused_by_hand import EXAMPLES, assert_same, content
from random_steps import normal
from variants import DECAY, covering_pairs, variants

import gpuprop
from gpuprop import SGD, Adam, AdamW, RMSProp
from gpuprop.backends.cpu.passes import BLOCK

STEPS = 5


def check(backend, optimizer, example, x, y, steps=STEPS, has_value=True):
    """A run of some steps between two single ones, against single steps all the way."""
    fused, (one, other), y = example.fuse(optimizer, has_value), (x.copy(), x.copy()), backend.asarray(y)
    one, other = backend.asarray(one), backend.asarray(other)
    state, of_single = (fused.init(each, backend=backend) for each in (one, other))
    arguments = example.data(y), state
    fused.step(one, *arguments, **example.scalars)
    sums = fused.run(one, *arguments, steps=steps, **example.scalars)
    fused.step(one, *arguments, **example.scalars)
    values = [fused.step(other, example.data(y), of_single, **example.scalars) for _ in range(steps + 2)]
    assert_same(content(one, state), content(other, of_single))
    assert (state.step, state.skipped) == (of_single.step, of_single.skipped)
    assert state.step == steps + 2
    if has_value:
        sums = backend.to_host(sums)
        assert (sums.dtype, sums.shape) == (np.dtype("float64"), (steps,))
        assert sums.tolist() == [float(value) for value in values[1:-1]]
    else:
        assert sums is None
        assert values == [None] * (steps + 2)


def options(backend, dtype, size):
    arrays = [np.full(size, value, dtype) for value in (-1.0, 1.0)] + [
        np.full(size, 0.1, np.empty(0, dtype).real.dtype)
    ]
    return {
        name: optimizer
        for name, optimizer in variants(*map(backend.asarray, arrays)).items()
        if optimizer.clip_norm is None and optimizer.nonfinite != "raise" and not optimizer._finds_rate
    }


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_a_schedule_and_bias_corrections(backend, dtype):
    optimizer = Adam(DECAY, nonfinite="skip", parameter_average=0.5)
    check(backend, optimizer, EXAMPLES["proximal"], normal(41, dtype, 1), normal(41, dtype, 2))


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (3, 5)])
def test_shapes(backend, shape):
    x, y = (np.array(normal((*shape, 1), "float64", seed)[..., 0]) for seed in (1, 2))
    check(backend, RMSProp(), EXAMPLES["regulariser"], x, y)
    check(backend, RMSProp(), EXAMPLES["regulariser"], x.T.copy("F"), y.T.copy("F"))


def test_strided_arrays_go_step_by_step(backend):
    memory = backend.asarray(normal((6, 8), "float32", 1))
    before, other = (
        backend.to_host(memory).copy(),
        backend.asarray(normal((6, 8), "float32", 1)[1::2, ::3].copy()),
    )
    fused = RMSProp(0.1).fuse("grad = 2 * x", value="x * x")
    x = memory[1::2, ::3]
    state, of_other = fused.init(x, backend=backend), fused.init(other, backend=backend)
    sums, others = fused.run(x, (), state, steps=3), fused.run(other, (), of_other, steps=3)
    np.testing.assert_allclose(*map(backend.to_host, (sums, others)), rtol=1e-12)
    assert (backend.to_host(x) == backend.to_host(other)).all()
    after = backend.to_host(memory)
    after[1::2, ::3] = before[1::2, ::3]
    assert (after == before).all()


def test_data_that_are_the_parameters(backend):
    """Each step sees what the last one made of them."""
    fused = RMSProp(0.1).fuse("grad = x + y", reads=("y",))
    one, other = (backend.asarray(normal(2000, "float64", 1)) for _ in range(2))
    state, of_other = fused.init(one, backend=backend), fused.init(other, backend=backend)
    fused.run(one, {"y": one}, state, steps=3)
    for _ in range(3):
        fused.step(other, {"y": other}, of_other)
    assert_same(content(one, state), content(other, of_other))


def test_what_is_skipped_in_each_step(backend):
    """By each step by itself: what grows out of the numbers is left as it was, from then on."""
    x = np.array([1.0, 1e300, -2.0, np.nan])
    fused = SGD(1.0, nonfinite="skip").fuse("grad = -1e4 * x", value="where(x == x, 1, 0)")
    given = backend.asarray(x)
    state = fused.init(given, backend=backend)
    assert backend.to_host(fused.run(given, (), state, steps=4)).tolist() == [3.0] * 4
    assert state.skipped == 2 + 4  # 1e304 and 1e308 are numbers, and 1e312 is none
    assert np.isfinite(backend.to_host(given)).tolist() == [True, True, True, False]


@pytest.mark.parametrize("option", [{"clip_norm": 1.0}, {"nonfinite": "raise"}, {"learning_rate": "auto"}])
def test_what_needs_all_gradients_first_is_refused(backend, option):
    x = backend.asarray(np.ones(2))
    fused = RMSProp(**option).fuse("grad = 2 * x")
    state = fused.init(x, backend=backend)
    with pytest.raises(ValueError, match="needs the gradient of all elements in each step, for clip_norm"):
        fused.run(x, (), state, steps=2)
    assert (state.step, backend.to_host(x).tolist()) == (0, [1, 1])


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "2", None])
def test_the_number_of_steps(steps):
    x = np.ones(2)
    fused = RMSProp().fuse("grad = 2 * x")
    with pytest.raises((TypeError, ValueError), match=r"steps is .*; it must be a whole number"):
        fused.run(x, (), fused.init(x), steps=steps)


@pytest.mark.parametrize("layer", ["team", pytest.param("pool", marks=pytest.mark.slow)])
def test_any_number_of_threads(layer, threads, monkeypatch):
    """Blocks of the same elements, whoever takes them, and sums in one order."""
    monkeypatch.setattr(gpuprop.backends.cpu.pool, "BYTES_A_THREAD", 1)
    if layer == "pool":
        monkeypatch.setattr(gpuprop.backends.cpu.pool, "team_is_there", lambda: False)
    fused = AdamW(0.1, nonfinite="skip").fuse("grad = 2 * x", value="where(x == x, x * x, 0)")
    results = []
    for count in (1, 2, 3, 5):
        threads(count)
        x = normal(7 * BLOCK + 13, "float32", 1)
        x[5::BLOCK] = np.nan
        state = fused.init(x)
        sums = fused.run(x, (), state, steps=3)
        one = fused.step(x, (), state)
        assert state.skipped == 4 * 8
        assert sums.min() > one > 0
        results.append([one, sums.tobytes(), x.tobytes(), *(a.tobytes() for a in state.arrays.values())])
    assert results[0] == results[1] == results[2] == results[3]


@pytest.mark.parametrize(
    "size", [BLOCK - 1, BLOCK, BLOCK + 1, pytest.param(3 * BLOCK + 5, marks=pytest.mark.slow)]
)
def test_the_ends_of_blocks(size):
    check(
        gpuprop.select_backend("cpu"), RMSProp(), EXAMPLES["regulariser"], normal(size, "float64", 1),
        normal(size, "float64", 2),
    )  # fmt: skip


def test_a_sum_is_that_of_float64():
    """Of float32 products, added exactly between blocks: no digit is lost to the number of them."""
    x = np.full(1_000_001, 0.1, "float32")
    fused = SGD(0.0).fuse("grad = x", value="x * x")
    total = fused.step(x, (), fused.init(x))
    assert type(total) is float
    assert total == pytest.approx(1_000_001 * float(np.float32(0.1) * np.float32(0.1)), rel=1e-13)


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", [RMSProp(nonfinite="skip"), Adam(DECAY)], ids=["skip", "schedule"])
def test_a_captured_run_goes_on_in_each_replay(cupy, optimizer):
    fused = optimizer.fuse("grad = x + y", reads=("y",))
    given = [cupy.asarray(normal(2000, "float32", 1)) for _ in range(2)]
    states, y = [fused.init(x) for x in given], cupy.ones(2000, "float32")
    for x, state in zip(given, states, strict=True):
        fused.step(x, {"y": y}, state)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        try:
            fused.run(given[0], {"y": y}, states[0], steps=2)
        finally:
            graph = stream.end_capture()
        for _ in range(3):
            graph.launch(stream)
        stream.synchronize()
    fused.run(given[1], {"y": y}, states[1], steps=6)
    assert_same(content(given[0], states[0]), content(given[1], states[1]))
    assert states[0].step == states[1].step == 7


#: Of a run: not those that need the gradient of all elements.
RUN = list(options(gpuprop.select_backend("numpy"), "float64", 2))
DTYPES = ["float16", "float32", "float64", "complex64", "complex128"]
FEW = covering_pairs(product(RUN, DTYPES), like=lambda dtype: dtype.startswith("complex"))


@pytest.mark.slow
@pytest.mark.few(("name", "dtype"), FEW)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RUN)
def test_every_option(compiled, name, dtype):
    optimizers = options(compiled, dtype, 19)
    for example in ("regulariser", "proximal"):
        x, y = normal(19, dtype, 1), normal(19, dtype, 2)
        check(compiled, optimizers[name], EXAMPLES[example], x, y, has_value=example == "proximal")


def test_more_arrays_than_a_compiled_call_has_room_for(backend):
    names = [f"a{i}" for i in range(90)]
    fused = SGD(0.001).fuse(f"grad = x + {' + '.join(names)}", reads=names, value="x * x")
    x, by_hand = backend.asarray(np.linspace(1.0, 2.0, 100)), np.linspace(1.0, 2.0, 100)
    data = {name: backend.asarray(np.full(100, float(i))) for i, name in enumerate(names)}
    state, values = fused.init(x, backend=backend), []
    for _ in range(4):
        values.append(by_hand @ by_hand)
        by_hand = by_hand - 0.001 * (by_hand + sum(range(90)))
    found = [float(fused.step(x, data, state)), *map(float, fused.run(x, data, state, steps=3))]
    np.testing.assert_allclose(found, values, rtol=1e-13)
    np.testing.assert_allclose(backend.to_host(x), by_hand, rtol=1e-13)
    assert state.step == 4


def test_a_foreign_byte_order_is_refused_by_a_step_that_sums_as_by_others():
    fused, x = RMSProp(0.1).fuse("grad = 2 * x", value="x * x"), np.ones(3)
    state = fused.init(x)
    fused.step(x, (), state)
    with pytest.raises(TypeError, match="native byte order"):
        fused.step(x.astype(">f8"), (), state)
    assert state.step == 1
