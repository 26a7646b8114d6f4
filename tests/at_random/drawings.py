"""Optimizers, numbers and layouts of arrays, drawn at random."""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from independent_reference import rate_of

import gpuprop
from gpuprop import schedules

CLASSES = {"rmsprop": "RMSProp", "sgd": "SGD", "adagrad": "AdaGrad", "adam": "Adam", "adamw": "AdamW"}
POLICIES = ("propagate", "skip", "raise")
_MOMENTUM = ["momentum", "nesterov", "rate_in_velocity"]
_OWN = {
    "rmsprop": [*_MOMENTUM, "centered", "inside", "bias_correction"],
    "sgd": _MOMENTUM,
    "adagrad": ["inside"],
}
_COMMON = ["schedule", "weight_decay", "decoupled", "maximize", "clip_value", "clip_norm"]
_BOUNDS = ["lower", "upper", "lower[]", "upper[]"]


class Drawn(NamedTuple):
    """An optimizer, and what a reference must know of it."""

    optimizer: gpuprop.Optimizer
    kind: str
    o: dict[str, Any]
    rate: Any


def flags(random, kind=None, has=("momentum", "centered")):
    """A kind of optimizer, and which options it uses: what decides which lines are compiled.

    `has` are those it may use of the options that need arrays of their own.
    """
    kind = kind or str(random.choice(list(CLASSES), p=[0.5, 0.15, 0.1, 0.15, 0.1]))
    chosen = {flag for flag in _COMMON + _BOUNDS + _OWN.get(kind, []) if random.random() < 0.25}
    chosen -= {"momentum", "centered"} - set(has)
    if "momentum" not in chosen:
        chosen -= set(_MOMENTUM)
    return kind, frozenset(chosen | {str(random.choice(POLICIES, p=[0.5, 0.3, 0.2]))})


def optimizer(random, kind, chosen, array_of_bound):
    """One with these flags; ``array_of_bound(low, high)`` makes an array of numbers between."""

    def power(low, high):
        return float(10 ** random.uniform(low, high))

    def one_of(*numbers):
        return float(random.choice(numbers))

    rate, at = _rate(random, "schedule" in chosen, power(-4, 0.5))
    low, middle, high = sorted(random.normal(size=3) * one_of(1, 1, 1, 0))
    lower = array_of_bound(low - 1, middle) if "lower[]" in chosen else one_of(low, low, low, -1e300)
    upper = array_of_bound(middle, high + 1) if "upper[]" in chosen else one_of(high, high, high, 1e300)
    o = {
        "learning_rate": rate,
        "maximize": "maximize" in chosen,
        "clip_value": power(-2, 2) if "clip_value" in chosen else None,
        "clip_norm": power(-2, 2) if "clip_norm" in chosen else None,
        "nonfinite": next(policy for policy in POLICIES if policy in chosen),
    }
    if chosen & set(_BOUNDS):
        has_lower, has_upper = chosen & {"lower", "lower[]"}, chosen & {"upper", "upper[]"}
        o["bounds"] = (lower if has_lower else -np.inf, upper if has_upper else np.inf)
    if "weight_decay" in chosen:
        o["weight_decay"] = one_of(power(-6, 0), power(-2, 0), 1e-50)
    if kind != "adamw":
        o["decoupled_weight_decay"] = "decoupled" in chosen
    if kind in ("rmsprop", "sgd"):
        o["momentum"] = one_of(random.uniform(0.1, 1), 0.9) if "momentum" in chosen else 0.0
        o["nesterov"] = "nesterov" in chosen
        o["learning_rate_in_velocity"] = "rate_in_velocity" in chosen
    if kind == "rmsprop":
        o["rho"] = one_of(random.uniform(0, 1), 0.9, 0.99, 0.9999, 0)
        o["centered"] = "centered" in chosen
        o["bias_correction"] = "bias_correction" in chosen
        o["initial_square_average"] = one_of(0, 0, 1, power(-3, 3), 1e300)
    if kind == "adagrad":
        o["initial_square_sum"] = one_of(0, 1, power(-3, 3))
    if kind in ("rmsprop", "adagrad"):
        o["epsilon_inside_sqrt"] = "inside" in chosen
    if kind in ("adam", "adamw"):
        o["beta1"], o["beta2"] = one_of(0.9, 0, random.uniform(0, 1)), one_of(0.999, random.uniform(0, 1))
    if kind != "sgd":
        o["epsilon"] = one_of(1e-6, 1e-6, 1e-10, 0, power(-12, 1))
    made = getattr(gpuprop, CLASSES[kind])(**o)
    o = {"weight_decay": 0.01, "decoupled_weight_decay": True} | o if kind == "adamw" else o
    return Drawn(made, "adam" if kind == "adamw" else kind, {"weight_decay": 0.0, "bounds": None} | o, at)


class Table(NamedTuple):
    """A schedule that is not of the package."""

    rates: tuple[float, ...]

    def __call__(self, t):
        return self.rates[t % len(self.rates)]


def _rate(random, changes, first):
    """A learning rate, and what gives it as a number after so many steps."""
    if not changes:
        rate = float(random.choice([first, first, first, 0, 1]))
        return rate, lambda t: rate
    last, factor = first * float(random.uniform(0, 2)), float(random.uniform(0.3, 1))
    steps, later = (int(n) for n in random.integers(1, 40, 2))
    warmup = int(random.integers(0, steps))
    kind, arguments = [
        ("linear_schedule", (first, last, steps, later)),
        ("exponential_decay", (first, steps, factor, later, bool(random.integers(2)))),
        ("cosine_decay_schedule", (first, steps, factor, factor)),
        ("warmup_cosine_decay_schedule", (last, first, warmup, steps, last)),
        ("of the user", random.uniform(0, first, 7).tolist()),
    ][random.integers(5)]
    if kind == "of the user":
        table = Table(tuple(arguments))
        return table, table
    schedule = getattr(schedules, kind)(*arguments)

    def at(t):
        rate, exact = schedule(t), rate_of(kind, arguments, t)
        assert abs(rate - exact) <= 3e-13 * exact + 1e-15 * max(first, last), (schedule, t)
        return rate

    return schedule, at


def numbers(random, shape, dtype, *, is_wild, least, most):
    """Numbers of many sizes; wild ones are not finite among them, and have squares out of range.

    Those that are not 0 and not infinite are at least `least` and at most `most`.
    """
    dtype = np.dtype(dtype)
    shape = (*shape, 2) if dtype.kind == "c" else shape
    real = np.empty(0, dtype).real.dtype
    wanted, shape = shape, shape if np.prod(shape) < 5000 else (4001,)  # of more, some again and again
    drawn = random.normal(size=shape) * 10.0 ** random.integers(-3, 3) * 10 ** random.uniform(-1, 1, shape)
    if is_wild:
        info = ml_dtypes.finfo(real)
        largest, normal, smallest = (float(v) for v in (info.max, info.tiny, info.smallest_subnormal))
        special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0]
        finite = [largest, -largest / 3, 2 * largest**0.5]  # whose squares overflow
        finite += [-(normal**0.5) / 2, normal / 3, smallest, -smallest]  # and underflow
        special += [v for v in finite if least <= abs(v) <= most]
        place = random.random(shape) < random.choice([0.02, 0.3])
        drawn = np.where(place, random.choice(special, shape), drawn)
    with np.errstate(all="ignore"):
        drawn = np.resize(drawn.astype(real), wanted)
    return drawn.view(dtype).reshape(wanted[:-1]) if dtype.kind == "c" else drawn


class Placed:
    """An array with these numbers: a view of a longer one, into the rest of which nothing may write.

    Parameters
    ----------
    order : sequence of int
        Its axes from the longest stride to the shortest.
    is_strided : bool
        Whether there are gaps between elements, and strides below 0; else it is one block of memory.
    """

    def __init__(self, random, backend, values, order, is_strided):
        lengths = [values.shape[axis] for axis in order]
        parts = [slice(None)] * len(order)
        if is_strided:
            for i, n in enumerate(lengths):
                stride, first = int(random.integers(1, 4)), int(random.integers(0, 3))
                lengths[i] = first + n * stride + int(random.integers(0, 3))
                parts[i] = slice(first, first + n * stride, stride)
                if random.random() < 0.3 and n:
                    parts[i] = slice(first + (n - 1) * stride, first - 1 if first else None, -stride)
        size, before = int(np.prod(lengths)), int(random.integers(0, 4))
        memory = np.full(before + size + int(random.integers(0, 4)), 7, values.dtype)
        is_its_own = np.zeros(memory.shape, bool)

        def view(flat):
            within = flat[before : before + size].reshape(lengths)[(*parts, ...)]
            return within.transpose([list(order).index(axis) for axis in range(len(order))])

        view(memory)[...] = values
        view(is_its_own)[...] = True
        self.memory = backend.asarray(memory)
        self.array = view(self.memory)
        self._around = ~is_its_own

    def spoils(self, backend):
        """Whether anything has been written beside the array."""
        return not (backend.to_host(self.memory)[self._around] == 7).all()
