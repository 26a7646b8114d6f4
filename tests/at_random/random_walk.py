"""A walk of random steps, each against a reference that imports nothing of the package.

On the host every number must be that of the reference, but that signs of zeros and what a NaN carries may
differ: IEEE 754 leaves the one to the order of operands, and where neutral options are folded a sum with 0
falls away. A norm may be summed in any order: of the few numbers that it then may be, one must give every
bit. A GPU takes the least numbers of float32 for zeros: there a number may be within the bound of a running
error analysis instead, as every number must be, everywhere.
"""

import copy
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import drawings
import numpy as np
import pytest
from independent_reference import bits_of_step, bounds_of_step, places_of_factor, starts

import gpuprop


class Setting(NamedTuple):
    """What decides which loops are compiled; walks of one setting differ in their numbers alone."""

    kind: str
    flags: frozenset
    other_flags: frozenset
    dtype: str
    is_strided: bool = False
    is_large: bool = False
    ndim: int | None = None
    fuses: bool = False


def walk(setting, start, seed, steps):
    """So many random steps, beginning on the backend of this name."""
    again = f"from random_walk import *; walk({setting}, {start!r}, {seed}, {steps})"
    with TemporaryDirectory() as folder:
        done = Walk(setting, start, seed, Path(folder))
        try:
            for _ in range(steps):
                done.step()
            done.look_back()
        except Exception as error:
            raise AssertionError(f'{error}, in {done}; PYTHONPATH=tests python -c "{again}"') from error
        finally:
            gpuprop.set_num_threads(None)
    return steps


class Walk:
    def __init__(self, setting, start, seed, folder):
        self.random, self.setting, self.folder = np.random.default_rng(seed), setting, folder
        self.backend = gpuprop.select_backend(start)
        self.other = gpuprop.select_backend("cpu" if start == "numpy" else "numpy")
        # A GPU flushes the least numbers of float32, which are kept out of the way, those that a small
        # factor makes among them; and it takes a norm above 1e154 for infinite.
        self.is_flushed = start == "gpu"
        self.least, self.most = 1e-15 if self.is_flushed else 0.0, np.inf
        if self.is_flushed and "clip_norm" in setting.flags | setting.other_flags:
            self.most = 1e6
        self.is_wild = self.random.random() < 0.6
        self.shape = self.draw_shape()
        self.order = self.random.permutation(len(self.shape)).tolist()
        self.done, self.t, self.skipped, self.left = 0, 0, 0, []
        self.x = self.place(self.numbers())
        self.draw_optimizer(setting.flags)
        self.state = self.drawn.optimizer.init(self.x.array, backend=self.backend)
        x = parts(self.backend, self.x.array)
        with np.errstate(over="ignore"):
            beginnings = starts(self.drawn.kind, self.drawn.o).items()
            self.now = {name: np.full(x.shape, value).astype(x.dtype) for name, value in beginnings}
        self.now["x"] = x
        self.check(self.now)

    def __repr__(self):
        return f"step {self.done} by {self.drawn.optimizer} on {self.backend.name}, x of {self.shape}"

    def draw_shape(self):
        if self.setting.is_large:
            size = 2_200_000 // np.dtype(self.setting.dtype).itemsize
            return [(size + 1,), (size // 500 + 1, 500)][self.random.integers(2)]
        ndim = self.setting.ndim
        if ndim is None:  # a bound without dimensions is a number
            of_arrays = {"lower[]", "upper[]"} & (self.setting.flags | self.setting.other_flags)
            ndim = self.random.integers(1 if of_arrays else 0, 4)
        lengths = [2, 3, 5, 300 // 5**ndim] + ([] if self.setting.ndim else [1, int(self.random.integers(2))])
        return tuple(int(self.random.choice(lengths)) for _ in range(ndim))

    def numbers(self):
        is_wild = self.is_wild and self.random.random() < 0.6
        return drawings.numbers(
            self.random, self.shape, self.setting.dtype, is_wild=is_wild, least=self.least, most=self.most
        )

    def place(self, values):
        is_strided = self.setting.is_strided and self.random.random() < 0.8
        order = self.random.permutation(len(self.order)).tolist() if self.setting.is_strided else self.order
        return drawings.Placed(self.random, self.backend, values, order, is_strided)

    def draw_optimizer(self, flags):
        def array_of_bound(low, high):
            values = self.random.uniform(low, high, (*self.shape, 2))
            values = values.view("complex128") if "complex" in self.setting.dtype else values[..., :1]
            return self.place(values.reshape(self.shape).astype(self.setting.dtype)).array

        self.drawn = drawings.optimizer(self.random, self.setting.kind, flags, array_of_bound)

    def step(self):
        for event, share in EVENTS.items():
            if self.random.random() < share:
                event(self)
        kind, o = self.drawn.kind, self.drawn.o
        grad = self.x if self.random.random() < 0.1 else self.place(self.numbers())
        bounds = dict(zip(("lower", "upper"), o["bounds"] or (), strict=False))
        bounds = {name: parts(self.backend, b) for name, b in bounds.items() if hasattr(b, "dtype")}
        before = {"grad": parts(self.backend, grad.array), **self.now, **bounds}
        rate = self.drawn.rate(self.t)
        new, finite = bits_of_step(kind, o, self.t + 1, rate, before)
        count = np.count_nonzero(~finite)
        self.done += 1
        if o["nonfinite"] == "raise" and count:
            with pytest.raises(FloatingPointError):
                self.take(grad.array)
            self.check(self.now)
            return
        self.take(grad.array)
        self.t += 1
        self.skipped += count if o["nonfinite"] == "skip" else 0
        # The norm may be summed in any order: of the numbers that it then may be, one gives every bit.
        found, places = self.found(), min(places_of_factor(o, before["grad"]), 60)
        others = (
            bits_of_step(kind, o, self.t, rate, before, place)[0]
            for place in sorted(range(-places, places + 1), key=abs)
        )
        new = next((other for other in others if equal(found, self.now | other)), new)
        sample = self.random.integers(0, finite.size, 300) if self.setting.is_large else slice(None)
        bounded = bounds_of_step(kind, o, self.t, rate, before, sample, self.is_flushed)
        is_moved = finite if o["nonfinite"] == "skip" else np.ones_like(finite)
        self.check(self.now | new, bounded, sample, is_moved)
        assert not grad.spoils(self.backend), "memory beside grad has been written"
        if grad is not self.x:
            assert same(parts(self.backend, grad.array), before["grad"]).all(), "grad has been written"

    def take(self, grad):
        """The step, or one that makes the gradient of an array, and perhaps a sum of it in the same pass."""
        optimizer, way = self.drawn.optimizer, self.random.integers(4) if self.setting.fuses else 0
        if way == 0:
            return optimizer.step(self.x.array, grad, self.state)
        if way == 1:
            return optimizer.fuse(reads=("grad",)).step(self.x.array, {"grad": grad}, self.state)
        fused = optimizer.fuse("grad = slope", reads=("slope",), value="x" if way == 2 else None)
        if self.random.integers(2) or fused._needs_gradient:
            return fused.step(self.x.array, {"slope": grad}, self.state)
        return fused.run(self.x.array, {"slope": grad}, self.state, steps=1)

    def found(self):
        arrays = {"x": self.x.array, **self.state.arrays}
        return {name: parts(self.backend, array) for name, array in arrays.items()}

    def check(self, expected, bounded=(), sample=..., is_moved=None):
        """Hold x and the state against `expected`, and a sample of what `is_moved` against `bounded`."""
        assert (self.state.step, self.state.skipped) == (self.t, self.skipped)
        assert not self.x.spoils(self.backend), "memory beside x has been written"
        found = self.found()
        assert found.keys() == expected.keys()
        for name, array in found.items():
            right = same(array, expected[name])
            if name in bounded:
                bound = bounded[name]
                with np.errstate(invalid="ignore"):
                    near = abs(array[sample] - bound.value) <= bound.error
                is_known = np.isfinite(bound.error) & is_moved[sample]
                assert (near | ~is_known).all(), f"{name} is beyond its bound"
                if self.is_flushed and self.backend.name == "gpu":
                    right[sample] |= near & is_known
            wrong = np.flatnonzero(~right)
            assert not wrong.size, (
                f"{name} is wrong in {wrong.size} places: {array[wrong[0]]!r} is not "
                f"{expected[name][wrong[0]]!r} at {wrong[0]}"
            )
        self.now = found

    # What happens between steps.

    def change_optimizer(self):
        flags = (self.setting.flags, self.setting.other_flags)[self.random.integers(2)]
        self.draw_optimizer(flags)

    def change_threads(self):
        gpuprop.set_num_threads(int(self.random.integers(1, 4)))

    def copy_state(self):
        way = (copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s)))[self.random.integers(3)]
        copied = way(self.state)
        kept = None if way is copy.copy else {n: a.copy() for n, a in self.now.items() if n != "x"}
        self.left.append((self.backend, self.state, self.t, self.skipped, kept))
        self.state = copied

    def look_back(self):
        """What was left behind by copies is as it was."""
        for backend, state, t, skipped, kept in self.left:
            assert (state.step, state.skipped) == (t, skipped)
            for name, array in (kept or {}).items():
                assert same(parts(backend, state.arrays[name]), array).all()

    def move(self):
        """x and the state's arrays to other places."""
        self.x = self.place(self.backend.to_host(self.x.array))
        if self.setting.is_strided:
            for name, array in self.state.arrays.items():
                setattr(self.state, name, self.place(self.backend.to_host(array)).array)

    def repair(self):
        """What is not finite begins anew."""
        arrays = {"x": self.x.array, **self.state.arrays}
        host = {name: self.backend.to_host(array) for name, array in arrays.items()}
        bad = ~np.logical_and.reduce([np.isfinite(array) for array in host.values()])
        for name, array in host.items():
            fresh = abs(self.random.normal(size=self.shape)).astype(array.real.dtype)
            arrays[name][...] = self.backend.asarray(np.where(bad, fresh.astype(array.dtype), array))
        self.now = self.found()

    def set_step(self):
        self.state.step = self.t = int(self.random.choice([0, 1, 1000, 10**6]))

    def resume(self):
        file = self.folder / "state"
        self.state.save(file, x=self.x.array)
        self.state = gpuprop.load_state(file)
        self.x = self.place(self.backend.to_host(self.state.extras["x"]))

    def change_backend(self):
        old, self.backend, self.other = self.backend, self.other, self.backend
        host = {n: old.to_host(a) for n, a in {"x": self.x.array, **self.state.arrays}.items()}
        self.x = self.place(host.pop("x"))
        self.draw_optimizer(self.setting.flags)
        if self.random.integers(2):
            self.state.save(self.folder / "state")
            self.state = gpuprop.load_state(self.folder / "state", backend=self.backend)
            return
        self.state = self.drawn.optimizer.init(self.x.array, backend=self.backend)
        for name, array in host.items():
            setattr(self.state, name, self.backend.asarray(array))
        self.state.step, self.skipped = self.t, 0


EVENTS = {
    Walk.change_optimizer: 0.15,
    Walk.change_threads: 0.15,
    Walk.copy_state: 0.05,
    Walk.move: 0.05,
    Walk.repair: 0.15,
    Walk.set_step: 0.03,
    Walk.resume: 0.03,
    Walk.change_backend: 0.03,
}


def parts(backend, array):
    """A copy of the elements as a vector, of complex ones of both parts."""
    host = np.array(backend.to_host(array), order="C").reshape(-1)
    return host.view(host.real.dtype) if host.dtype.kind == "c" else host


def equal(found, expected):
    return all(same(array, expected[name]).all() for name, array in found.items())


def same(a, b):
    return (a == b) | (np.isnan(a) & np.isnan(b))
