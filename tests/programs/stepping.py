"""The same updates by gpuprop: which optimizer, with which options, steps as each program does."""

import numpy as np
from programs import formulas

import gpuprop
from gpuprop import SGD, AdaGrad, Adam, RMSProp, Rule, RuleOptimizer

EPS = np.finfo(float).eps
BOX = (formulas.LOWER, formulas.UPPER)

FLOORED_ADAM = Rule(
    "floored_adam",
    ("grad",),
    ("x", "mean", "variance"),
    ("rate", "b1", "b2", "eps_adam", "eps_var", "correction"),
    """
    mean = b1 * mean + (1 - b1) * grad
    variance = max(b2 * variance + (1 - b2) * (grad * grad), eps_var)
    x = x - rate * mean / (sqrt(correction * variance) + eps_adam)
    """,
)
ADAPTIVE_SENSITIVITY = Rule(
    "adaptive_sensitivity",
    ("grad",),
    ("x", "preconditioner"),
    ("rate", "delta", "sensitivity", "adapts"),
    """
    preconditioner = where(adapts > 0, (x + delta) * sensitivity, preconditioner)
    x = x - rate * preconditioner * grad
    """,
)


def alone(make, window=lambda state, t: None):
    """Steps of an optimizer of one array, which `make` gives the arrays that it is given on the device.

    `window` may prepare the state for the step, and say which part of the array it is for.
    """

    def begin(backend, start):
        optimizer = make(backend.asarray)
        state = optimizer.init(start["x"], backend=backend)

        def step(x, grad, t):
            index = window(state, t)
            if index is None:
                optimizer.step(x["x"], grad["x"], state)
            else:
                optimizer.step(x["x"], grad["x"][index], state, at=index)

        return step

    return begin


def group(make, before=lambda state, t: None):
    """Steps of several arrays, each by an optimizer that `make` makes."""

    def begin(backend, start):
        groups = gpuprop.Groups({name: make() for name in start})
        state = groups.init(start, backend=backend)

        def step(x, grad, t):
            for name in start:
                before(state[name], t)
            groups.step(x, grad, state)

        return step

    return begin


def at_first(state, _):
    """tike corrects the means at every step as at the first."""
    state.step = 0


def main_mode(state, t):
    at_first(state, t)
    return formulas.MAIN_MODE


def slab(state, t):
    state.step = t // len(formulas.SLABS)
    return formulas.SLABS[t % len(formulas.SLABS)]


def fifths(state, t):
    state.rate_scale = 1 / 5 ** (t // 100)


def tike_direction(backend, start):
    """tike's function gives a direction, and leaves the step to its caller, who divides it."""
    optimizer = Adam(1.0, second_moment="modulus")
    state = optimizer.init(start["x"], backend=backend)
    denominator = backend.asarray(formulas.DENOMINATOR)

    def step(x, grad, t):
        at_first(state, t)
        x["x"] += optimizer.direction(grad["x"], state) / denominator

    return step


def ptylab_adam(backend, start):
    """A second moment of the whole array is a number, and `rate_scale` takes it.

    The velocity of SGD is the mean of the gradients divided by 1 - beta1.
    """
    beta, beta1, beta2, square = 0.3, 0.5, 0.999, 0.0
    optimizer = SGD(beta * (1 - beta1), momentum=beta1)
    state = optimizer.init(start["x"], backend=backend)

    def step(x, grad, t):
        nonlocal square
        itr, g = t // 50 + 1, grad["x"]
        square = beta2 * square + (1 - beta2) * float((abs(g) ** 2).sum())
        state.rate_scale = 1 / (1 - beta1**itr) / (np.sqrt(square / (1 - beta2**itr)) + 1e-8)
        optimizer.step(x["x"], g, state)

    return step


def pyxu_adam(_):
    return RuleOptimizer(
        FLOORED_ADAM, b1=0.9, b2=0.999, eps_adam=1e-6, eps_var=1e-6,
        rate=lambda t: 0.01 / (1 - 0.9 ** (t + 1)), correction=lambda t: 1 / (1 - 0.999 ** (t + 1)),
    )  # fmt: skip


def cil_adaptive_sensitivity(asarray):
    return RuleOptimizer(
        ADAPTIVE_SENSITIVITY, rate=0.2, delta=1e-6, sensitivity=asarray(formulas.SENSITIVITY),
        adapts=lambda t: float(t <= 100), bounds=(0.0, np.inf),
    )  # fmt: skip


def in_the_box(kind, *hyperparameters):
    return alone(
        lambda asarray: kind(*hyperparameters, bounds=tuple(map(asarray, BOX)), projected_gradient=True)
    )


def ceviche(**options):
    return alone(lambda _: Adam(1e-2, bounds=(0.0, 1.0), **options))


REAL, COMPLEX = {"x": (formulas.SHAPE, float)}, {"x": (formulas.SHAPE, complex)}
LAYERS = {name: (shape, float) for name, shape in {"W0": (4, 3), "W1": (3, 2), "b0": 3, "b1": 2}.items()}
PTYCHOGRAPHY = {"object": ((1, 1, 1, 1, 6, 5), complex), "probe": ((1, 1, 2, 1, 3, 2), complex)}
MODES = {"x": ((1, 1, 3, 4, 5), complex)}

#: The program's formula, the arrays that it is for, and steps by gpuprop.
PROGRAMS = {
    # Its velocity is a mean, and ours a sum: 1 - mass goes into the rate.
    "autograd sgd": (formulas.autograd_sgd, REAL, alone(lambda _: SGD(0.1 * (1 - 0.9), momentum=0.9))),
    "autograd rmsprop": (
        formulas.autograd_rmsprop, REAL, alone(lambda _: RMSProp(0.1, 0.9, 1e-8, initial_square_average=1.0)),
    ),
    "autograd adam": (formulas.autograd_adam, REAL, alone(lambda _: Adam(0.001))),
    "prysm rmsprop": (formulas.prysm_rmsprop, REAL, in_the_box(RMSProp, 0.1, 0.9, EPS)),
    "prysm adagrad": (formulas.prysm_adagrad, REAL, in_the_box(AdaGrad, 0.1, EPS)),
    "prysm adam": (formulas.prysm_adam, REAL, in_the_box(Adam, 0.1, 0.9, 0.999, EPS)),
    "tike object": (formulas.tike_object, COMPLEX, tike_direction),
    "tike probe": (
        formulas.tike_probe, MODES,
        alone(lambda _: Adam(0.5, second_moment="modulus", maximize=True), main_mode),
    ),
    "adorym": (formulas.adorym_adam, REAL, alone(lambda _: Adam(0.001, epsilon=1e-7), slab)),
    "ceviche min": (formulas.ceviche_adam, REAL, ceviche()),
    "ceviche max": (formulas.ceviche_adam_max, REAL, ceviche(maximize=True)),
    # Its rate is inside the velocity, which shows where the rate changes.
    "sklearn": (
        formulas.sklearn_sgd, LAYERS,
        group(lambda: SGD(0.1, momentum=0.9, nesterov=True, learning_rate_in_velocity=True), fifths),
    ),
    "ptylab momentum": (formulas.ptylab_momentum, PTYCHOGRAPHY, group(lambda: SGD(0.3, momentum=0.7))),
    "ptylab adam": (formulas.ptylab_adam, COMPLEX, ptylab_adam),
    "pyxu": (formulas.pyxu_adam, REAL, alone(pyxu_adam)),
    "cil sensitivity": (
        formulas.cil_sensitivity, REAL,
        alone(lambda asarray: SGD(0.2 * asarray(formulas.SENSITIVITY), bounds=(0.0, np.inf))),
    ),
    "cil adaptive sensitivity": (
        formulas.cil_adaptive_sensitivity, REAL, alone(cil_adaptive_sensitivity),
    ),
}  # fmt: skip
#: What climbs, or is given the way down.
UPHILL = {"ceviche max", "tike object", "tike probe"}
