"""The updates of public programs, restated from their mathematics.

A function is one update of one array: from what the program remembers (a dictionary, empty at the start),
the point, the gradient there and the number of updates before it, to the next point. What its users choose
stands as the default of an argument. The files are named from the root of each GitHub repository.
"""

from functools import partial

import numpy as np

SHAPE = (6, 5)
SLABS = [slice(0, 3), slice(2, 6), slice(4, 5)]  # of an object that several processes share
MAIN_MODE = (0, 0, 0)  # of a probe

_random = np.random.default_rng(20240807)
#: What illuminates each place of tike's object, and a part of its largest.
DENOMINATOR = _random.uniform(0.5, 3, SHAPE)
#: 1 / A^T 1 of a projector A; 0 where no ray passes.
SENSITIVITY = np.where(_random.uniform(size=SHAPE) < 0.1, 0, _random.uniform(0.3, 1, SHAPE))
#: A bound is an array, and some of its elements are none.
LOWER = np.where(_random.uniform(size=SHAPE) < 0.3, -np.inf, 0.0)
UPPER = np.where(_random.uniform(size=SHAPE) < 0.3, np.inf, 1.0)


def _mean(memory, name, decay, value, start=0.0):
    memory[name] = decay * memory.get(name, start) + (1 - decay) * value
    return memory[name]


def _adam(memory, grad, updates, beta1=0.9, beta2=0.999, eps=1e-8):
    """The direction of Adam's paper, algorithm 1, after so many updates; of complex g by |g|^2."""
    mean = _mean(memory, "m", beta1, grad) / (1 - beta1 ** (updates + 1))
    variance = _mean(memory, "v", beta2, abs(grad) ** 2) / (1 - beta2 ** (updates + 1))
    return mean / (np.sqrt(variance) + eps)


# HIPS/autograd, autograd/misc/optimizers.py: sgd, rmsprop, adam.


def autograd_sgd(memory, x, grad, _, step_size=0.1, mass=0.9):
    return x + step_size * _mean(memory, "velocity", mass, -grad)


def autograd_rmsprop(memory, x, grad, _, step_size=0.1, gamma=0.9, eps=1e-8):
    return x - step_size * grad / (np.sqrt(_mean(memory, "s", gamma, grad**2, start=1.0)) + eps)


def autograd_adam(memory, x, grad, t, step_size=0.001):
    return x - step_size * _adam(memory, grad, t)


# brandondube/prysm, prysm/x/optym/optimizers.py: RMSProp, AdaGrad, Adam, with bounds. The gradient that the
# moments see has no component that leads out of the box where x is on its face.


def _in_the_box(direction):
    def update(memory, x, grad, t, alpha=0.1):
        leads_out = np.where(grad > 0, x <= LOWER, (grad < 0) & (x >= UPPER))
        step = alpha * direction(memory, np.where(leads_out, 0, grad), t)
        return np.clip(x - step, LOWER, UPPER)

    return update


@_in_the_box
def prysm_rmsprop(memory, grad, _, gamma=0.9):
    return grad / (np.sqrt(_mean(memory, "s", gamma, grad**2)) + np.finfo(float).eps)


@_in_the_box
def prysm_adagrad(memory, grad, _):
    memory["sum"] = memory.get("sum", 0.0) + grad**2
    return grad / (np.sqrt(memory["sum"]) + np.finfo(float).eps)


prysm_adam = _in_the_box(partial(_adam, eps=np.finfo(float).eps))


# AdvancedPhotonSource/tike, src/tike/opt.py: adam, as src/tike/ptycho/solvers/rpie.py takes it. It corrects
# both means at every step as Adam does at its first, and what it is given points downhill.


def tike_object(memory, psi, dpsi, _):
    return psi + _adam(memory, dpsi, 0) / DENOMINATOR


def tike_probe(memory, probe, dprobe, _):
    """Of the probe's modes, the main one."""
    new = probe.copy()
    new[MAIN_MODE] += _adam(memory, dprobe[MAIN_MODE], 0) / 2
    return new


# mdw771/adorym, adorym/optimizers.py: AdamOptimizer.apply_gradient with `params_slicer`. How many updates
# there were, `i_batch`, is the caller's to say: here it counts when all slabs have been updated.


def adorym_adam(memory, x, grad, t, step_size=0.001):
    slab, new = SLABS[t % len(SLABS)], x.copy()
    whole = {name: memory.setdefault(name, np.zeros_like(x)) for name in ("m", "v")}
    part = {name: moment[slab] for name, moment in whole.items()}
    new[slab] -= step_size * _adam(part, grad[slab], t // len(SLABS), eps=1e-7)
    for name, moment in whole.items():
        moment[slab] = part[name]
    return new


# fancompute/ceviche, ceviche/optimizers.py: adam_optimize.


def ceviche_adam(memory, x, grad, t, step_size=1e-2, direction="min"):
    sign = {"min": -1, "max": 1}[direction]
    return np.clip(x + sign * step_size * _adam(memory, grad, t), 0, 1)


ceviche_adam_max = partial(ceviche_adam, direction="max")


# scikit-learn/scikit-learn, sklearn/neural_network/_stochastic_optimizers.py: SGDOptimizer with "adaptive"
# rates, which are divided by 5 where the loss has stopped to fall, here after each 100 steps.


def sklearn_sgd(memory, x, grad, t, learning_rate=0.1, momentum=0.9):
    rate = learning_rate / 5 ** (t // 100)
    memory["velocity"] = momentum * memory.get("velocity", 0.0) - rate * grad
    return x + (momentum * memory["velocity"] - rate * grad)


# PtyLab/PtyLab.py, PtyLab/Engines/mPIE.py: objectMomentumUpdate and probeMomentumUpdate, whose gradient is
# the array before the latest patches minus that after them. PtyLab/Engines/mqNewton.py: ADAM, whose second
# moment is one number, of the norm of the gradient, and whose `itr` counts the epochs, here of 50 updates.


def ptylab_momentum(memory, x, grad, _, feedback=0.3, friction=0.7):
    memory["momentum"] = grad + friction * memory.get("momentum", 0.0)
    return x - feedback * memory["momentum"]


def ptylab_adam(memory, x, grad, t, beta=0.3, beta1=0.5, beta2=0.999):
    itr = t // 50 + 1
    mean = _mean(memory, "m", beta1, grad) / (1 - beta1**itr)
    norm = np.sqrt(_mean(memory, "v", beta2, np.sum(abs(grad) ** 2)) / (1 - beta2**itr))
    return x - beta * mean / (norm + 1e-8)


# pyxu-org/pyxu, src/pyxu/opt/solver/adam.py: Adam, whose second moment never falls below `eps_var`.


def pyxu_adam(memory, x, grad, t, a=0.01, b1=0.9, b2=0.999, eps_adam=1e-6, eps_var=1e-6):
    mean = _mean(memory, "m", b1, grad) / (1 - b1 ** (t + 1))
    memory["v"] = np.maximum(_mean(memory, "v", b2, grad**2), eps_var)
    return x - a * mean / (np.sqrt(memory["v"] / (1 - b2 ** (t + 1))) + eps_adam)


# TomographicImaging/CIL, Wrappers/Python/cil/optimisation/utilities/preconditioner.py: Sensitivity and
# AdaptiveSensitivity, in ISTA with the indicator of x >= 0 (algorithms/FISTA.py, functions/IndicatorBox.py).


def cil_sensitivity(_memory, x, grad, _, step_size=0.2):
    return np.maximum(x - step_size * SENSITIVITY * grad, 0)


def cil_adaptive_sensitivity(memory, x, grad, t, step_size=0.2, delta=1e-6, max_iterations=100):
    if t <= max_iterations:
        memory["preconditioner"] = (x + delta) * SENSITIVITY
    return np.maximum(x - step_size * memory["preconditioner"] * grad, 0)
