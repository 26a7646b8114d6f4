"""What the tests of parts run on each rank: beside it, the whole is stepped by each rank alone."""

from __future__ import annotations

import tracemalloc

import numpy as np
from mpi4py import MPI
from variants import variants

import gpuprop
from gpuprop import SGD, Adam, Groups, RMSProp
from gpuprop.distributed import communicator

#: Parts without an element among them; of one compiled call; and of several threads.
SIZES = (0,), (1,), (3, 2), (1003,), (9001,)
STEPS = 6
SAME = "clip norm", "everything", "auto", "auto displacement", "auto sgd", "skip"


def numbers(seed, shape, dtype):
    real, imaginary = np.random.default_rng(seed).normal(size=(2, *shape))
    return (real + 1j * imaginary if np.dtype(dtype).kind == "c" else real).astype(dtype)


class Problem:
    """Parameters, and a gradient that is made element by element; a part of all of it by `cut`."""

    def __init__(self, backend, shape, dtype):
        self.backend = backend
        self.x, self.factor, self.shift = (numbers(seed, shape, dtype) for seed in (1, 2, 3))
        self.rates = abs(numbers(4, shape, np.dtype(dtype).type(0).real.dtype)) / 10
        both = 1 + 1j if np.dtype(dtype).kind == "c" else 1
        self.lower, self.upper = (
            sign * abs(numbers(5, shape, dtype)).astype(dtype) * both for sign in (-1, 1)
        )

    def cut(self, part):
        cut = object.__new__(Problem)
        cut.backend = self.backend
        cut.__dict__ |= {
            n: self.backend.asarray(a[part].copy()) for n, a in vars(self).items() if n != "backend"
        }
        return cut

    def grad(self, bad=None):
        grad = self.factor * self.x - self.shift
        if bad is not None and grad.size:
            grad.reshape(-1)[bad] = np.nan
        return grad


def bits(backend, x, state):
    """All that a state has, for comparison."""
    return [backend.to_host(array).tobytes() for array in (x, *state.arrays.values())]


def close(backend, dtype, ones, others):
    """Whether arrays are the same but for what another order of a sum changes."""
    tolerance = 1e-3 if np.dtype(dtype).itemsize == 2 or dtype == "float32" else 1e-9
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_allclose(backend.to_host(one), other, rtol=tolerance, atol=tolerance)


def steps_as_one(device, dtype, names, shapes):
    """Parts are stepped to the bits of the whole; where a norm or a found rate is in play, to rounding."""
    comm, backend = ranks(device)
    for shape in shapes:
        part = comm.cut(shape[0])
        problem = Problem(backend, shape, dtype)
        wholes, parts = (variants(p.lower, p.upper, p.rates) for p in (problem.cut(...), problem.cut(part)))
        for name in names:
            alone, here = problem.cut(...), problem.cut(part)
            optimizer, of_parts = wholes[name], parts[name]
            state = optimizer.init(alone.x, backend=backend)
            mine = of_parts.init(here.x, backend=backend, comm=comm)
            for step in range(STEPS):
                grad = alone.grad(-1 if step == 2 and optimizer.nonfinite == "skip" else None)
                optimizer.step(alone.x, grad, state)
                of_parts.step(here.x, grad[part].copy(), mine)
            assert mine.skipped == state.skipped, (name, shape)
            assert mine.step == state.step == STEPS
            found, expected = ([p.x, *s.arrays.values()] for p, s in ((here, mine), (alone, state)))
            expected = [backend.to_host(array)[part] for array in expected]
            if optimizer.clip_norm is not None or optimizer._finds_rate:
                close(backend, dtype, found, expected)
            else:
                for one, other in zip(found, expected, strict=True):
                    assert backend.to_host(one).tobytes() == other.tobytes(), (name, shape)


def ranks(device):
    """The communicator, and the backend: of "cpu", "numpy", or "gpu by" one of the transports."""
    device, _, transport = device.partition(" by ")
    comm = communicator(MPI.COMM_WORLD, transport or "auto")
    if device == "gpu":
        import cupy

        cupy.cuda.Device(comm.device_of_rank()).use()
    return comm, gpuprop.select_backend(device)


def same_parts_stay_the_same(device, dtype, names):
    """Every rank has the same part, so that whatever they agree on differently would show."""
    comm, backend = ranks(device)
    told = []
    problem = Problem(backend, (801,), dtype)
    for name in names:
        here = problem.cut(...)
        optimizer = variants(here.lower, here.upper, here.rates)[name]
        state = optimizer.init(here.x, backend=backend, comm=comm)
        for _ in range(STEPS):
            optimizer.step(here.x, here.grad(), state)
        told.append((name, state.found_rate, bits(backend, here.x, state)))
    return told


def norms_that_no_sum_of_squares_has(device):
    """Gradients beyond the root of the largest number, on one rank alone, and of very different sizes."""
    comm, backend = ranks(device)
    x, results = backend.asarray(np.zeros(3)), []
    for here, there in ((1e200, 1e200), (1e200, 1.0), (1e-200, 1e200), (np.inf, 1.0), (np.nan, 1.0)):
        optimizer = SGD(1.0, clip_norm=1.0)
        state = optimizer.init(x, backend=backend, comm=comm)
        x[...] = 0
        optimizer.step(x, backend.asarray(np.full(3, here if comm.rank == 0 else there)), state)
        results.append(backend.to_host(x).tolist())
    return results


def refuses_together(device):
    """What each rank says, of numbers that are not finite on some of them; and that nothing was written."""
    comm, backend = ranks(device)
    told = []
    for optimizer, bad, value in (
        (RMSProp(0.1, nonfinite="raise"), {1}, np.nan),
        (RMSProp(0.1, nonfinite="raise", clip_norm=1.0), {1, 2}, np.inf),
        (SGD(1e300, nonfinite="raise"), {comm.size - 1}, 1e300),
        (RMSProp(0.1, nonfinite="raise"), set(), 0.0),
    ):
        x = backend.asarray(np.ones((4 + comm.rank, 2)))
        state = optimizer.init(x, backend=backend, comm=comm)
        grad = backend.asarray(np.ones(x.shape))
        if comm.rank in bad:
            grad[2:4, 1] = value
        before = bits(backend, x, state)
        try:
            optimizer.step(x, grad, state)
        except FloatingPointError as error:
            assert bits(backend, x, state) == before
            assert state.step == 0
            told.append(str(error))
        else:
            assert bits(backend, x, state) != before
            told.append(None)
    return told


def values_are_of_all(device):
    """Values of a user's lines, by steps and by `run`, against the whole's; some ranks have strided parts."""
    comm, backend = ranks(device)
    for n in (2, 1003):
        for optimizer in (
            RMSProp(0.1), Adam(0.1, nonfinite="skip"), SGD("auto", clip_norm=1.0),
        ):  # fmt: skip
            whole = Problem(backend, (n,), "float64").cut(...)
            here = Problem(backend, (n,), "float64").cut(comm.cut(n))
            if comm.rank == 1:
                wide = backend.asarray(np.zeros(2 * here.x.size))
                wide[::2] = here.x
                here.x = wide[::2]
            fused = optimizer.fuse("grad = f * x - s", reads=("f", "s"), value="x * (0.5 * f * x - s)")
            state = fused.init(whole.x, backend=backend)
            mine = fused.init(here.x, backend=backend, comm=comm)
            for _ in range(4):
                one = fused.step(whole.x, {"f": whole.factor, "s": whole.shift}, state)
                other = fused.step(here.x, {"f": here.factor, "s": here.shift}, mine)
                np.testing.assert_allclose(float(other), float(one), rtol=1e-9)
            if not fused._needs_gradient:
                one = fused.run(whole.x, {"f": whole.factor, "s": whole.shift}, state, steps=5)
                other = fused.run(here.x, {"f": here.factor, "s": here.shift}, mine, steps=5)
                np.testing.assert_allclose(backend.to_host(other), backend.to_host(one), rtol=1e-9)
                expected = backend.to_host(whole.x)[comm.cut(n)]
                assert backend.to_host(here.x).tobytes() == expected.tobytes()


def groups_have_one_norm(device):
    """Groups of two arrays, of which one has no gradient now and then, in whatever order it is given."""
    comm, backend = ranks(device)
    shapes = {"object": (11, 5), "probe": (3,)}
    groups = Groups(object=Adam(0.1), probe=RMSProp(0.05, momentum=0.5), clip_norm=0.8)
    wholes = {name: Problem(backend, shape, "complex128").cut(...) for name, shape in shapes.items()}
    heres = {n: Problem(backend, s, "complex128").cut(comm.cut(s[0])) for n, s in shapes.items()}
    state = groups.init({n: p.x for n, p in wholes.items()}, backend=backend)
    mine = groups.init({n: p.x for n, p in heres.items()}, backend=backend, comm=comm)
    assert mine.comm is comm or comm.size == 1
    for step in range(6):
        names = list(shapes) if step != 3 else ["object"]
        groups.step({n: p.x for n, p in wholes.items()}, {n: wholes[n].grad() for n in names}, state)
        names = names[:: 1 if comm.rank else -1]
        groups.step({n: p.x for n, p in heres.items()}, {n: heres[n].grad() for n in names}, mine)
    for name, whole in wholes.items():
        expected = backend.to_host(whole.x)[comm.cut(shapes[name][0])]
        close(backend, "complex128", [heres[name].x], [expected])
        assert mine[name].step == state[name].step


def rows_change_a_found_rate_by_their_share(device):
    """Rows on some ranks, none of them on others, by the law for the whole."""
    comm, backend = ranks(device)
    whole = Problem(backend, (12, 3), "float64").cut(...)
    part = comm.cut(12)
    here = Problem(backend, (12, 3), "float64").cut(part)
    optimizer = Adam("auto")
    state = optimizer.init(whole.x, backend=backend)
    mine = optimizer.init(here.x, backend=backend, comm=comm)
    for rows in ([0, 1, 7], [2], [11, 3], list(range(12)), [5, 6], [0, 1, 7]):
        here_rows = [row - part.start for row in rows if part.start <= row < part.stop]
        optimizer.step(whole.x, whole.grad()[rows], state, at=rows)
        optimizer.step(here.x, here.grad()[here_rows], mine, at=here_rows)
        np.testing.assert_allclose(mine.found_rate, state.found_rate, rtol=1e-12)
    close(backend, "float64", [here.x], [backend.to_host(whole.x)[part]])
    return mine.found_rate


def steps_allocate_nothing():
    comm, backend = ranks("cpu")
    n = 50_000
    here = Problem(backend, (n,), "float32").cut(...)
    grad, most = here.grad(), {}
    for name, optimizer in variants(here.lower, here.upper, here.rates).items():
        state = optimizer.init(here.x, backend=backend, comm=comm)
        for _ in range(3):
            optimizer.step(here.x, grad, state)
        tracemalloc.start()
        for _ in range(3):
            optimizer.step(here.x, grad, state)
        most[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most


def of_a_loaded_state(device):
    """A state that another optimizer, and a copy, goes on with."""
    import copy

    comm, backend = ranks(device)
    here = Problem(backend, (7,), "float64").cut(comm.cut(7))
    state = Adam(0.1, nonfinite="skip").init(here.x, backend=backend, comm=comm)
    bad = -1 if comm.rank == 0 else None
    Adam(0.1, nonfinite="skip").step(here.x, here.grad(bad), state)
    twin = copy.deepcopy(state)
    assert (twin.comm, twin.backend) == (state.comm, state.backend)
    for each in (state, twin, state):
        Adam("auto", clip_norm=1.0, nonfinite="skip").step(here.x, here.grad(bad), each)
    return state.skipped, twin.skipped, state.found_rate


def captures(device):
    """Of steps that are captured into a graph, which is launched twice: the count, and the refusal."""
    import cupy

    comm, backend = ranks(device)
    told = []
    for optimizer in (RMSProp(0.1), RMSProp(0.1, clip_norm=1.0), SGD("auto"), Groups(a=SGD(), clip_norm=1.0)):
        x, refusal = backend.asarray(np.ones(3)), None
        grad = 2 * x
        x, grad = ({"a": x}, {"a": grad}) if isinstance(optimizer, Groups) else (x, grad)
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            state = optimizer.init(x, comm=comm)
            optimizer.step(x, grad, state)
            stream.begin_capture()
            try:
                optimizer.step(x, grad, state)
            except RuntimeError as error:
                refusal = str(error)
            graph = stream.end_capture()
            if refusal is None:
                graph.launch()
                graph.launch()
        told.append((state.step, refusal))
    return told


def everything(device, kinds):
    """All of these, in one run of the ranks: `kinds` are of `steps_as_one`."""
    for kind in kinds:
        steps_as_one(device, *kind)
    values_are_of_all(device)
    groups_have_one_norm(device)
    return {
        "same": same_parts_stay_the_same(device, "float32", SAME),
        "norms": norms_that_no_sum_of_squares_has(device),
        "refusals": refuses_together(device),
        "rows": rows_change_a_found_rate_by_their_share(device),
        "loaded": of_a_loaded_state(device),
    }
