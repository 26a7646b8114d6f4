"""Optimizers that find their learning rate, and descents by them."""

import numpy as np
import pytest

from gpuprop import SGD, AdaGrad, Adam, RMSProp

STEPS = 60
RANDOM = np.random.default_rng(4)
START, TARGET = RANDOM.normal(size=(2, 24))
START[2] = 2.5  # the largest, in a real part where pairs are complex numbers
CURVATURE = np.geomspace(1, 20, 24)
BOUND = 0.4
UNITS = (1e-6, 1.0, 1e6)

KINDS = {
    "rmsprop": RMSProp("auto", momentum=0.9),
    "plain rmsprop": RMSProp("auto", 0.95, bias_correction=True),
    "adam": Adam("auto", beta1=0.8, beta2=0.99),
    "sgd": SGD("auto"),
    "momentum": SGD("auto", momentum=0.7, nesterov=True),
    "inside": SGD("auto", momentum=0.7, learning_rate_in_velocity=True),
    "adagrad": AdaGrad("auto"),
    "bounds": RMSProp("auto", momentum=0.9, bounds=(-BOUND, BOUND)),
}


def cases(first, *more):
    """Of names, or of tuples: the first ones, and more of the same that are slow, as each is compiled."""
    return [*first, *(pytest.param(*(c if type(c) is tuple else [c]), marks=pytest.mark.slow) for c in more)]


TWO = pytest.mark.parametrize("name", cases(["rmsprop", "sgd"], "adam", "bounds"))


def walked(optimizer, backend, start, gradient, steps=STEPS):
    """The points, the rates that were found, and the state."""
    x, points, rates = backend.asarray(start.copy()), [], []
    state = optimizer.init(x, backend=backend)
    for _ in range(steps):
        grad = gradient(backend.to_host(x)).astype(start.dtype)
        optimizer.step(x, backend.asarray(grad), state)
        points.append(backend.to_host(x).copy())
        rates.append(state.found_rate)
    return np.array(points), np.array(rates), state


def slope(x):
    return CURVATURE * (x - TARGET)


FOUR = START[:4]


def target_slope(x):
    return np.array([1.0, 10.0, 3.0, 0.5]) * (x - np.array([3.0, -1.0, 2.0, 0.5]))


def content(backend, x, state):
    """All that a step may change."""
    arrays = [x, *state.arrays.values()]
    return [
        *(backend.to_host(a).tobytes() for a in arrays), state.found_rate, state.step, state.skipped,
        state.optimizer,
    ]  # fmt: skip


def stepped(optimizer, backend, x, state, number=1):
    for _ in range(number):
        optimizer.step(x, backend.asarray(target_slope(backend.to_host(x)).astype(x.dtype)), state)


def start(optimizer, backend, number=0):
    x = backend.asarray(FOUR.copy())
    state = optimizer.init(x, backend=backend)
    stepped(optimizer, backend, x, state, number)
    return x, state
