"""The RMSProp of other libraries, and its siblings, against those libraries themselves.

Each test walks 300 steps on an ill-scaled problem of its own, with gradients at its own points. In
float64 the points agree to 1e-10; in float32 they differ by no more than rounding can make them, and
the same bound in float64 says that 1e-10 is no luck.
"""

import importlib
import inspect
import itertools
import pickle
import zlib
from dataclasses import replace

import numpy as np
import pytest
from walks import STEPS, Problem, agree, steps_of, walk

from gpuprop import SGD, AdaGrad, Adam, AdamW, RMSProp, load_state, schedules, select_backend


@pytest.fixture
def problem(request):
    """One for each test."""
    return Problem(zlib.crc32(request.node.name.encode()))


def library(name):
    return pytest.importorskip(name, reason=f"{name} is not installed: python -m pip install {name}")


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


either = [False, True]


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


def test_what_only_chooses_an_implementation_changes_nothing():
    assert RMSProp.pytorch(capturable=True, foreach=True) == RMSProp.pytorch()
    assert RMSProp.keras(name="mine", ema_momentum=0.5, ema_overwrite_frequency=3) == RMSProp.keras()
    assert RMSProp.tensorflow(0.1, use_locking=True, name="mine") == RMSProp.tensorflow(0.1)


@pytest.mark.parametrize(
    ("constructor", "given", "message"),
    [
        (RMSProp.pytorch, {"differentiable": True}, "differentiable is True; .* must be False"),
        (RMSProp.keras, {"use_ema": True}, "use_ema is True.*: average x between steps instead"),
        (RMSProp.keras, {"loss_scale_factor": 8.0}, "loss_scale_factor is 8.0.*: divide the gradient"),
        (RMSProp.keras, {"gradient_accumulation_steps": 4}, "gradient_accumulation_steps is 4.*: step with"),
        (RMSProp.keras, {"clipnorm": 1.0, "clipvalue": 2.0}, "clipnorm is 1.0, clipvalue 2.0 and"),
        (RMSProp.pytorch, {"alpha": 1.0}, "rho is 1.0"),
        (RMSProp.timm, {"caution": True}, "caution is True, which takes a mean over all elements"),
    ],
)
def test_what_cannot_be_done_is_refused(constructor, given, message):
    with pytest.raises(ValueError, match=message):
        constructor(**given)


def test_a_clip_of_zero_is_none_as_in_keras():
    assert RMSProp.keras(clipnorm=0, weight_decay=0.0) == RMSProp.keras(clipvalue=0.0) == RMSProp.keras()


def test_nesterov_without_momentum_is_nothing_as_in_optax():
    assert RMSProp.optax(0.1, nesterov=True) == RMSProp.optax(0.1, momentum=0.0)


def no_argument():
    return np.float32(0.25)


@pytest.mark.parametrize("constructor", [RMSProp.keras, RMSProp.tensorflow])
def test_a_learning_rate_may_be_a_callable_without_arguments(constructor):
    optimizer, x = constructor(no_argument), np.zeros(1)
    same, y = constructor(0.25), np.zeros(1)
    for o, array in ((optimizer, x), (same, y)):
        o.step(array, np.ones(1), o.init(array))
    assert x == y
    assert pickle.loads(pickle.dumps(optimizer)) == constructor(no_argument) != constructor(halving)


@pytest.mark.parametrize(
    "constructor", [RMSProp.pytorch, RMSProp.optax, RMSProp.keras, RMSProp.chainer, RMSProp.timm]
)
def test_a_learning_rate_may_be_a_schedule(constructor):
    optimizer = constructor(halving)
    assert [optimizer.learning_rate(step) for step in (0, 99, 100)] == [2**-7, 2**-7, 2**-8]


def test_a_learning_rate_may_be_an_array_of_one_element(torch, optax):
    assert RMSProp.pytorch(torch.tensor([0.5])) == RMSProp.pytorch(0.5)
    assert RMSProp.optax(library("jax").numpy.asarray(0.5)) == RMSProp.optax(0.5)


@pytest.mark.parametrize("convention", [RMSProp.keras, RMSProp.tensorflow, RMSProp.optax])
def test_a_schedule_of_this_package_is_kept_so_that_it_can_be_saved(convention, tmp_path):
    optimizer = convention(schedules.exponential_decay(0.1, 5, 0.5))
    x = np.ones(3)
    state = optimizer.init(x)
    optimizer.step(x, x.copy(), state)
    state.save(tmp_path / "state")
    assert load_state(tmp_path / "state").optimizer == optimizer
