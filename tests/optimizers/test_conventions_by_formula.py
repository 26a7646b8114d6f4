"""The RMSProp of TensorFlow 1, Chainer and timm, against the formulas of their sources.

Walked as in test_conventions.py.
"""

import numpy as np
import pytest
from peers import either, grid, halving, problem_of
from walks import STEPS, agree

from gpuprop import RMSProp, select_backend

problem = pytest.fixture(problem_of)


@grid(momentum=[0.0, 0.9], epsilon=[1e-10, 0.01], centered=either)
def test_tensorflow(backend, problem, given):
    """Against the formulas of ``ApplyRMSProp`` and ``ApplyCenteredRMSProp`` in TensorFlow's
    ``tensorflow/core/kernels/training_ops.cc``, from the ones and zeros that ``_create_slots`` of
    ``RMSPropOptimizer`` in ``tensorflow/python/training/rmsprop.py`` makes."""
    momentum, epsilon, centered = given.values()

    def make_step(start):
        mean_square, mean, moment = np.ones_like(start), np.zeros_like(start), np.zeros_like(start)
        rates = map(halving, range(STEPS))

        def step(x, grad):
            nonlocal mean_square, mean, moment
            mean_square = mean_square + (grad**2 - mean_square) * (1 - 0.9)
            if centered:
                mean = mean + (grad - mean) * (1 - 0.9)
            moment = moment * momentum + grad * next(rates) / np.sqrt(mean_square - mean**2 + epsilon)
            return x - moment

        return step

    agree(RMSProp.tensorflow(halving, **given), make_step, problem, backend)


@grid(alpha=[0.99, 0.5], eps=[1e-8, 0.01], eps_inside_sqrt=either)
def test_chainer(backend, problem, given):
    """Against the formulas of ``RMSpropRule.update_core_cpu`` in ``chainer/optimizers/rmsprop.py``,
    from the zeros of ``init_state``."""
    alpha, eps, inside = given.values()

    def make_step(start):
        mean_square = np.zeros_like(start)

        def step(x, grad):
            nonlocal mean_square
            mean_square = alpha * mean_square + (1 - alpha) * grad * grad
            return x - 0.01 * grad / (np.sqrt(mean_square + eps) if inside else np.sqrt(mean_square) + eps)

        return step

    agree(RMSProp.chainer(0.01, **given), make_step, problem, backend)


@grid(
    momentum=(0, 0.9),
    centered=(False, True),
    decay=({}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled_decay": True}),
    lr_in_momentum=(True, False),
)
def test_timm(problem, given):
    """Against the formulas of ``RMSpropTF.step`` in ``timm/optim/rmsprop_tf.py``, from its ones and zeros."""
    alpha, eps, decay = 0.95, 1e-3, given.get("weight_decay", 0)

    def make_step(start):
        s, a, v, t = np.ones_like(start), np.zeros_like(start), np.zeros_like(start), 0

        def step(x, grad):
            nonlocal s, a, v, t
            rate, t = halving(t), t + 1
            if given.get("decoupled_decay"):
                x = x * (1 - rate * decay)
            else:
                grad = grad + decay * x
            s = s + (1 - alpha) * (grad * grad - s)
            if given["centered"]:
                a = a + (1 - alpha) * (grad - a)
            increment = grad / np.sqrt(s - a * a + eps)
            if not given["momentum"]:
                return x - rate * increment
            v = given["momentum"] * v + (rate if given["lr_in_momentum"] else 1) * increment
            return x - (v if given["lr_in_momentum"] else rate * v)

        return step

    agree(RMSProp.timm(halving, alpha, eps, **given), make_step, problem, select_backend("numpy"))
