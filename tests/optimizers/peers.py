"""Other libraries' steps on the same walks as ours, and grids of their options."""

import inspect
import itertools
import zlib

import numpy as np
import pytest
from walks import STEPS, Problem


def problem_of(request):
    """A problem of its own for each test."""
    return Problem(zlib.crc32(request.node.name.encode()))


def library(name):
    return pytest.importorskip(name, reason=f"{name} is not installed: python -m pip install {name}")


def halving(step):
    """Exact in each dtype. That the rate changes shows whether the velocity has it inside."""
    return 2.0 ** -(7 + step // 100)


def torch_steps(optimizer, lr, **given):
    """`walk`'s `make_step`; a schedule sets the learning rate as those of torch do."""

    def make_step(start):
        torch = library("torch")
        x, rates = torch.from_numpy(start), (lr(t) if callable(lr) else lr for t in range(STEPS))
        stepper = optimizer([x], lr=1.0, **given)

        def step(_, grad):
            stepper.param_groups[0]["lr"] = next(rates)
            x.grad = torch.from_numpy(grad)
            stepper.step()
            return x.numpy()

        return step

    return make_step


def optax_steps(transformation):
    """`walk`'s `make_step`, compiled as users of optax do."""
    jax, optax = library("jax"), library("optax")

    @jax.jit
    def update(x, grad, state):
        updates, state = transformation.update(grad, state, x)
        return optax.apply_updates(x, updates), state

    def make_step(start):
        state = transformation.init(jax.numpy.asarray(start))

        def step(x, grad):
            nonlocal state
            x, state = update(x, grad, state)
            return np.asarray(x)

        return step

    return make_step


def keras_steps(optimizer, learning_rate, **given):
    """`walk`'s `make_step`; a function of the step sets the learning rate as callbacks of Keras do."""
    is_function = inspect.isfunction(learning_rate)

    def make_step(start):
        keras, torch, dtype = library("keras"), library("torch"), start.dtype.name
        keras.config.set_floatx(dtype)
        x = keras.Variable(start, dtype=dtype)
        stepper = optimizer(learning_rate=1.0 if is_function else learning_rate, **given)
        t = 0

        def step(_, grad):
            nonlocal t
            if is_function:
                stepper.learning_rate = learning_rate(t)
            stepper.apply([torch.from_numpy(grad)], [x])
            t += 1
            return x.value.detach().numpy()

        return step

    return make_step


def grid(**options):
    """Each combination of these values is a test, its arguments `given`; a dictionary is several."""
    given = []
    for values in itertools.product(*options.values()):
        arguments = {}
        for name, value in zip(options, values, strict=True):
            arguments |= value if isinstance(value, dict) else {name: value}
        given.append(arguments)
    return pytest.mark.parametrize("given", given, ids=lambda a: "-".join(f"{k}={v}" for k, v in a.items()))


#: For `grid`.
either = [False, True]
