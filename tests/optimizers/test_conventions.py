"""The RMSProp of other libraries, and its siblings, against those libraries themselves.

Each test walks 300 steps on an ill-scaled problem of its own, with gradients at its own points. In
float64 the points agree to 1e-10; in float32 they differ by no more than rounding can make them, and
the same bound in float64 says that 1e-10 is no luck.
"""

import importlib
import inspect
from dataclasses import replace

import pytest
from peers import either, grid, halving, keras_steps, library, optax_steps, problem_of, torch_steps
from walks import agree, steps_of, walk

from gpuprop import SGD, AdaGrad, Adam, AdamW, RMSProp

problem = pytest.fixture(problem_of)


@pytest.fixture(scope="module")
def torch():
    return library("torch")


@pytest.fixture(scope="module")
def optax():
    optax, jax = library("optax"), library("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield optax
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(scope="module")
def keras(torch, tmp_path_factory):
    """Keras on torch, where float64 stays float64 as on TensorFlow: else `keras.ops` round it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        keras = library("keras")
        dtypes = importlib.import_module("keras.src.backend.common.dtypes")
        patch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
        before = keras.config.floatx()
        yield keras
        keras.config.set_floatx(before)


@grid(weight_decay=[0, 0.01], momentum=[0, 0.9], centered=either, maximize=either)
def test_pytorch(torch, problem, given):
    given = given | {"lr": halving, "eps": 0.01}
    agree(RMSProp.pytorch(**given), torch_steps(torch.optim.RMSprop, **given), problem)


@grid(
    eps_in_sqrt=either,
    centered=either,
    momentum=[None, 0.9, {"momentum": 0.9, "nesterov": True}],
    bias_correction=either,
    initial_scale=[0.0, 100.0],
)
def test_optax(optax, problem, given):
    if given["centered"] and given["bias_correction"] and not given["initial_scale"]:
        # One gradient has no variance: optax would take the root of a rounding error.
        given = given | {"initial_scale": 1000.0}
    given = given | {"learning_rate": halving, "eps": 0.01}
    agree(RMSProp.optax(**given), optax_steps(optax.rmsprop(**given)), problem)


@grid(
    momentum=[0.0, 0.9],
    centered=either,
    weight_decay=[None, 0.1],
    clip=[{}, {"clipnorm": 150.0}, {"clipvalue": 150.0}, {"global_clipnorm": 150.0}],
)
def test_keras(keras, problem, given):
    given = given | {"learning_rate": halving, "epsilon": 0.01}
    agree(RMSProp.keras(**given), keras_steps(keras.optimizers.RMSprop, **given), problem)


def test_defaults(torch, optax, keras, problem):
    agree(RMSProp.pytorch(), torch_steps(torch.optim.RMSprop, lr=0.01), problem)
    agree(RMSProp.optax(0.01), optax_steps(optax.rmsprop(0.01)), problem)
    agree(RMSProp.keras(), keras_steps(keras.optimizers.RMSprop, 0.001), problem)


def test_every_option_at_once_on_compiled_backends(torch, optax, keras, problem, compiled):
    given = {"lr": halving, "alpha": 0.9, "eps": 0.01, "momentum": 0.9}
    given |= {"weight_decay": 0.01, "centered": True, "maximize": True}
    agree(RMSProp.pytorch(**given), torch_steps(torch.optim.RMSprop, **given), problem, compiled)
    rate = optax.piecewise_constant_schedule(halving(0), {100: 0.5, 200: 0.5})
    given = {"learning_rate": rate, "eps": 0.01, "initial_scale": 1000.0, "eps_in_sqrt": False}
    given |= {"momentum": 0.9, "nesterov": True, "centered": True, "bias_correction": True}
    agree(RMSProp.optax(**given), optax_steps(optax.rmsprop(**given)), problem, compiled)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([99, 199], [halving(t) for t in (0, 100, 200)])
    given = {"learning_rate": rate, "epsilon": 0.01, "momentum": 0.9, "centered": True}
    given |= {"weight_decay": 0.1, "clipnorm": 150.0}
    agree(RMSProp.keras(**given), keras_steps(keras.optimizers.RMSprop, **given), problem, compiled)


@pytest.mark.parametrize(
    ("optimizer", "name", "given"),
    [
        (SGD(0.001), "SGD", {}),
        (SGD(0.001, momentum=0.9), "SGD", {"momentum": 0.9}),
        (SGD(0.001, momentum=0.9, nesterov=True), "SGD", {"momentum": 0.9, "nesterov": True}),
        (SGD(0.001, weight_decay=0.1, maximize=True), "SGD", {"weight_decay": 0.1, "maximize": True}),
        (AdaGrad(0.1), "Adagrad", {}),
        (AdaGrad(0.1, initial_square_sum=2), "Adagrad", {"initial_accumulator_value": 2}),
        (Adam(0.01), "Adam", {}),
        (Adam(0.01, 0.8, 0.99, 0.01), "Adam", {"betas": (0.8, 0.99), "eps": 0.01}),
        (Adam(0.01, weight_decay=0.1, maximize=True), "Adam", {"weight_decay": 0.1, "maximize": True}),
        (AdamW(0.01), "AdamW", {}),
        (AdamW(0.01, weight_decay=0.5), "AdamW", {"weight_decay": 0.5}),
    ],
)
def test_siblings_are_those_of_torch(torch, problem, optimizer, name, given):
    agree(optimizer, torch_steps(getattr(torch.optim, name), optimizer.learning_rate, **given), problem)


@pytest.mark.parametrize(
    ("optimizer", "name", "given"),
    [
        (SGD(0.001), "sgd", {}),
        (SGD(0.001, momentum=0.9), "sgd", {"momentum": 0.9}),
        (SGD(0.001, momentum=0.9, nesterov=True), "sgd", {"momentum": 0.9, "nesterov": True}),
        (AdaGrad(0.1, 1e-7, initial_square_sum=0.1, epsilon_inside_sqrt=True), "adagrad", {}),
        (Adam(0.01), "adam", {}),
        (Adam(0.01, 0.8, 0.99, 0.01), "adam", {"b1": 0.8, "b2": 0.99, "eps": 0.01}),
        (AdamW(0.01, weight_decay=1e-4), "adamw", {}),
        (AdamW(0.01, weight_decay=0.5), "adamw", {"weight_decay": 0.5}),
    ],
)
def test_siblings_are_those_of_optax(optax, problem, optimizer, name, given):
    agree(optimizer, optax_steps(getattr(optax, name)(optimizer.learning_rate, **given)), problem)


@pytest.mark.parametrize(
    ("optimizer", "name", "given"),
    [
        (SGD(0.001), "SGD", {}),
        (SGD(0.001, momentum=0.9, learning_rate_in_velocity=True), "SGD", {"momentum": 0.9}),
        (
            SGD(0.001, momentum=0.9, nesterov=True, learning_rate_in_velocity=True),
            "SGD",
            {"momentum": 0.9, "nesterov": True},
        ),
        (AdaGrad(0.1, 1e-7, initial_square_sum=0.1, epsilon_inside_sqrt=True), "Adagrad", {}),
        # Keras adds its epsilon before the correction: it is ours only where it is 0.
        (Adam(0.01, epsilon=0), "Adam", {"epsilon": 0.0}),
        (AdamW(0.01, epsilon=0, weight_decay=0.5), "AdamW", {"epsilon": 0.0, "weight_decay": 0.5}),
    ],
)
def test_siblings_are_those_of_keras(keras, problem, optimizer, name, given):
    given = given | {"learning_rate": optimizer.learning_rate}
    agree(optimizer, keras_steps(getattr(keras.optimizers, name), **given), problem)


@pytest.mark.parametrize(
    "option",
    [
        {"epsilon_inside_sqrt": True},
        {"initial_square_average": 1.0},
        {"centered": True},
        {"bias_correction": True},
        {"nesterov": True},
        {"learning_rate_in_velocity": True},
        {"weight_decay": 0.01},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"maximize": True},
        {"clip_value": 150.0},
        {"clip_norm": 150.0},
    ],
    ids=str,
)
def test_the_problems_tell_every_option(problem, option):
    plain = RMSProp(halving, epsilon=0.01, momentum=0.9)
    a, b = (walk(problem, "float64", steps_of(o))[-1] for o in (plain, replace(plain, **option)))
    assert (abs(a - b) > 1e-7 * abs(a)).any()


def arguments(function):
    """Names and defaults in order, without what takes the rest."""
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.default) for p in parameters if p.kind is not p.VAR_KEYWORD]


def test_names_order_and_defaults_are_the_library_s_own(torch, optax, keras):
    assert arguments(RMSProp.pytorch) == arguments(torch.optim.RMSprop)[1:]  # after params
    assert arguments(RMSProp.optax) == arguments(optax.rmsprop)
    assert arguments(RMSProp.keras) == arguments(keras.optimizers.RMSprop)
