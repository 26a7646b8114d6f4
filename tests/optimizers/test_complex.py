"""Complex parameters: a second moment for each part, or for both; and bounds of the modulus."""

import numpy as np
import pytest

import gpuprop
from gpuprop import SGD, AdaGrad, Adam, RMSProp, Rule

EITHER = (False, True)


def steps(seed, dtype, shape=(40,), count=60):
    """The start, and gradients of steps: noise around a trend, of very different sizes."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(2, count + 1, *shape)) * 10 ** random.uniform(-2, 2, shape)
    return (numbers[0] + 1j * numbers[1] + 0.5).astype(dtype)


def close(found, expected, dtype):
    few = 200 * np.finfo(dtype).eps
    np.testing.assert_allclose(found, expected, rtol=few, atol=few * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("centered", EITHER)
@pytest.mark.parametrize("inside", EITHER)
def test_rmsprop_is_that_of_optax(compiled, dtype, momentum, centered, inside):
    jax = pytest.importorskip("jax", reason="jax is not installed: python -m pip install jax")
    optax = pytest.importorskip("optax", reason="optax is not installed: python -m pip install optax")
    given = {"momentum": momentum, "centered": centered, "eps_in_sqrt": inside, "eps": 0.1}
    ours, theirs = (
        RMSProp.optax(0.01, initial_scale=2e4, **given),
        optax.rmsprop(0.01, initial_scale=2e4, **given),
    )
    x, *gradients = steps(0, dtype)
    with jax.enable_x64(dtype == "complex128"):
        y = jax.numpy.asarray(x)
        state, their_state = ours.init(compiled.asarray(x.copy())), theirs.init(y)
        x = compiled.asarray(x)
        for grad in gradients:
            ours.step(x, compiled.asarray(grad), state)
            updates, their_state = theirs.update(jax.numpy.asarray(grad), their_state, y)
            y = optax.apply_updates(y, updates)
        assert np.asarray(y).dtype == dtype
        close(compiled.to_host(x), np.asarray(y), dtype)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_adam_and_adagrad_are_those_of_optax(compiled, dtype):
    jax = pytest.importorskip("jax", reason="jax is not installed: python -m pip install jax")
    optax = pytest.importorskip("optax", reason="optax is not installed: python -m pip install optax")
    pairs = [
        (Adam(0.01, epsilon=0.1, second_moment="modulus"), optax.adam(0.01, eps=0.1)),
        (
            AdaGrad(0.01, 0.1, epsilon_inside_sqrt=True, initial_square_sum=0.5, second_moment="modulus"),
            optax.adagrad(0.01, initial_accumulator_value=0.5, eps=0.1),
        ),
    ]
    start, *gradients = steps(1, dtype)
    with jax.enable_x64(dtype == "complex128"):
        for ours, theirs in pairs:
            x, y = compiled.asarray(start.copy()), jax.numpy.asarray(start)
            state, their_state = ours.init(x), theirs.init(y)
            for grad in gradients:
                ours.step(x, compiled.asarray(grad), state)
                updates, their_state = theirs.update(jax.numpy.asarray(grad), their_state, y)
                y = optax.apply_updates(y, updates)
            close(compiled.to_host(x), np.asarray(y), dtype)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("centered", EITHER)
def test_parts_are_those_of_torch(compiled, dtype, centered):
    torch = pytest.importorskip("torch", reason="torch is not installed: python -m pip install torch")
    x, *gradients = steps(2, dtype)
    y = torch.from_numpy(x.copy())
    theirs = torch.optim.RMSprop([y], 0.01, momentum=0.9, centered=centered, eps=30.0)
    ours, x = RMSProp.pytorch(0.01, momentum=0.9, centered=centered, eps=30.0), compiled.asarray(x)
    state = ours.init(x)
    for grad in gradients:
        ours.step(x, compiled.asarray(grad), state)
        y.grad = torch.from_numpy(grad)
        theirs.step()
    close(compiled.to_host(x), y.numpy(), dtype)


MAKERS = [RMSProp, AdaGrad, Adam]


@pytest.mark.parametrize("make", MAKERS)
def test_a_modulus_does_not_see_the_phase_and_parts_do(backend, make):
    turn = np.complex128(np.exp(0.7j))
    found = {}
    for second_moment in ("modulus", "parts"):
        optimizer, ends = make(0.1, second_moment=second_moment), []
        for phase in (1, turn):
            start, *gradients = phase * steps(3, "complex128", count=5)
            x = backend.asarray(start)
            state = optimizer.init(x, backend=backend)
            for grad in gradients:
                optimizer.step(x, backend.asarray(grad), state)
            ends.append(backend.to_host(x))
        found[second_moment] = np.abs(ends[0] * turn - ends[1]).max()
    assert found["modulus"] < 1e-11 < 1e-3 < found["parts"]
    moment = next(array for name, array in state.arrays.items() if "square" in name)
    assert moment.dtype == "complex128"
    state = make(second_moment="modulus").init(x, backend=backend)
    moment = next(array for name, array in state.arrays.items() if "square" in name)
    assert (moment.dtype, moment.shape) == ("float64", x.shape)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_of_real_parameters_both_are_the_same(compiled, make, dtype):
    start, *gradients = (array.real.astype(dtype) for array in steps(4, "complex64", count=3) / 100)
    ends = []
    for second_moment in ("parts", "modulus"):
        optimizer, x = make(0.1, second_moment=second_moment), compiled.asarray(start.copy())
        state = optimizer.init(x)
        for grad in gradients:
            optimizer.step(x, compiled.asarray(grad), state)
        ends.append(compiled.to_host(x))
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "float32"])
def test_bounds_of_the_modulus_keep_the_direction(backend, dtype):
    far, near = [3e10 + 9e10j, 2e19 - 1e19j, -2e37, 3e37 + 4e37j], [1e-30 - 3e-30j, 1e-21j]
    values = np.array([3 + 4j, 0.03 - 0.04j, 0.6j, 0, 1, *far, *near], dtype="complex128")
    values = values.astype(dtype) if dtype.startswith("complex") else values.real.astype(dtype)
    x = backend.asarray(values.copy())
    optimizer = SGD(0.0, modulus_bounds=(0.5, 1.0))
    optimizer.step(x, backend.asarray(np.zeros_like(values)), optimizer.init(x, backend=backend))
    found, modulus = backend.to_host(x), np.abs(values.astype("complex128"))
    direction = np.where(modulus == 0, 1, values / np.where(modulus == 0, 1, modulus))
    expected = direction * np.clip(modulus, 0.5, 1.0)
    np.testing.assert_allclose(found, expected, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modulus_bounds": (-1, 2)}, r"modulus_bounds is \(-1, 2\); each must be at least 0"),
        ({"modulus_bounds": (2, 1)}, "modulus_bounds is .*; lower must not be above upper"),
        ({"modulus_bounds": 1}, "modulus_bounds is 1; it must be"),
        ({"modulus_bounds": (0, 1), "bounds": (0, 1)}, "bounds and modulus_bounds are both given"),
        ({"projected_gradient": True}, "projected_gradient is True and there are no bounds"),
        ({"parameter_average": 1.0}, r"parameter_average is 1.0; it must be in \[0, 1\)"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        RMSProp(**options)


def test_refuses_arrays_of_another_kind(backend):
    x = backend.asarray(np.ones(3, "complex64"))
    double, single = (backend.asarray(np.ones(3, dtype)) for dtype in ("float64", "float32"))
    wrong = [
        (
            RMSProp(x),
            r"learning_rate has dtype complex64 and x has complex64; .* must be real, of dtype float32",
        ),
        (RMSProp(double), "learning_rate has dtype float64 .* of dtype float32"),
        (RMSProp(weight_decay=single[:2].copy()), r"weight_decay has shape \(2,\) and x has \(3,\)"),
        (RMSProp(-single), "learning_rate is negative or not finite in 3 places"),
        (RMSProp(modulus_bounds=(2 * single, single)), "above the upper one, or NaN, in 3 places; modulus_b"),
        (RMSProp(modulus_bounds=(-2 * single, -single)), "modulus_bounds is negative in 3 places"),
    ]
    for optimizer, message in wrong:
        with pytest.raises((TypeError, ValueError), match=message):
            optimizer.init(x, backend=backend)


@pytest.mark.parametrize(
    ("body", "options", "message"),
    [
        ("s = s + grad\nx = x - s", {"reals": ("s",)}, "line `s = s [+] grad`: 's' is real, .* two parts"),
        ("s = s + abs2(grad)\nx = x - as_complex(grad) * s", {}, "as_complex[(][)] takes a real number"),
        ("s = s + abs2(grad)\nx = x - s", {"reals": ("x",)}, "'x' is what may be complex, and is in reals"),
        ("s = s + abs2(grad)\nx = x - s", {"reals": ("y",)}, "reals has 'y'; it must be of grad, x, s"),
        ("s = s + abs2(grad, x)\nx = x - s", {}, "abs2[(][)] takes 1 plain argument"),
    ],
)
def test_refuses_a_rule_that_no_complex_number_fits(body, options, message):
    with pytest.raises(ValueError, match=message):
        Rule("trial", ("grad",), ("x", "s"), (), body, **options)


def test_the_functions_of_complex_numbers_in_a_rule(backend):
    rule = Rule(
        "signs", ("grad",), ("x", "x_re"), (),
        """
        x_re = sqrt(abs2(2 * grad) + abs2(x_re))
        x = where(x_re > 3, x * (1 / x_re), as_complex(x_re)) - grad
        """,
        reals=("x_re",),
    )  # fmt: skip
    grad, x = np.array([3 + 4j, 0.5j, 1]), np.array([1 + 1j, 2 - 1j, -2])
    expected = np.where([True, False, False], x / 10, [10, 1, 2]) - grad
    optimizer, mine = gpuprop.RuleOptimizer(rule), backend.asarray(x.copy())
    state = optimizer.init(mine, backend=backend)
    optimizer.step(mine, backend.asarray(grad), state)
    np.testing.assert_allclose(backend.to_host(mine), expected, rtol=1e-14)
    np.testing.assert_allclose(backend.to_host(state.x_re), [10, 1, 2])
