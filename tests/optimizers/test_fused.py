"""A step with a user's lines has the bits of the gradient, the step and what follows by themselves."""

import copy
import pickle
from itertools import product

import numpy as np
import pytest
from fused_by_hand import EXAMPLES, NUMPY, ByHand, assert_same, content
from random_steps import normal
from variants import NAMES, covering_pairs, variants

from gpuprop import SGD, Adam, RMSProp, Rule, RuleOptimizer

SIZE = 37
#: An option and an example that are compiled in every run; the rest of the matrix is slow.
FEW = {"rmsprop": "square", "adam options": "proximal", "average and more": "collisions"}


def optimizers(backend, dtype):
    real = np.empty(0, dtype).real.dtype
    bounds = [
        np.linspace(low, low + 0.5, SIZE).astype(dtype) * (1 + np.iscomplexobj(dtype)) for low in (-1, 0.5)
    ]
    bounds = [b + 1j * b.real if b.dtype.kind == "c" else b for b in bounds]
    return variants(*map(backend.asarray, (*bounds, np.linspace(0.1, 0.3, SIZE).astype(real))))


def check(backend, name, example, dtype, has_value, y_dtype=None):
    optimizer = optimizers(backend, dtype)[name]
    x, y = normal(SIZE, dtype, 1), normal(SIZE, y_dtype or dtype, 2)
    hand = ByHand(optimizers(NUMPY, dtype)[name], example, x.copy())
    fused, x, given = example.fuse(optimizer, has_value), backend.asarray(x), backend.asarray(y)
    state = fused.init(x, backend=backend)
    for _ in range(3):
        value, by_hand = fused.step(x, example.data(given), state, **example.scalars), hand.step(y)
        if has_value:
            assert float(value) == pytest.approx(by_hand, rel=1e-12 if x.real.dtype == "float64" else 1e-6)
        else:
            assert value is None
    if backend.name == "numpy" or not (optimizer.clip_norm or optimizer._finds_rate):
        assert_same(content(x, state), hand.content())
    else:  # sums over all elements are made in another order
        for found, wanted in zip(content(x, state).values(), hand.content().values(), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-11 if x.real.dtype == "float64" else 1e-5)
    assert state.step == 3
    assert state.skipped == 0


def is_told_by_hand(name, example):
    if "after" not in EXAMPLES[example].lines:
        return True  # else what is behind it is said by hand: not these
    return not any(
        word in name for word in ("own and more", "projected", "displacement", "modulus bounds", "arrays")
    )


def test_every_option_by_hand():
    for k, name in enumerate(NAMES):
        for example in [*EXAMPLES][k % 2 :: 2]:
            if is_told_by_hand(name, example):
                check(NUMPY, name, EXAMPLES[example], ("float32", "float64")[k // 2 % 2], has_value=True)


@pytest.mark.parametrize(("name", "example"), FEW.items())
def test_steps_are_those_by_hand(compiled, name, example):
    check(compiled, name, EXAMPLES[example], "float32", has_value=example == "proximal")


TOLD = [case for case in product(NAMES, EXAMPLES) if is_told_by_hand(*case)]
FEW_TOLD = covering_pairs(TOLD, like=lambda example: "after" in EXAMPLES[example].lines)


@pytest.mark.slow
@pytest.mark.few(("name", "example"), FEW_TOLD)
@pytest.mark.parametrize(("name", "example"), TOLD)
def test_every_option(compiled, name, example):
    check(compiled, name, EXAMPLES[example], "float64", example == "proximal")


@pytest.mark.parametrize("y", ["complex128", "float64"])
def test_complex_by_hand(y):
    for name in NAMES:
        for example in ("regulariser", "proximal"):
            if is_told_by_hand(name, example):
                check(NUMPY, name, EXAMPLES[example], "complex128", True, y)


@pytest.mark.parametrize(
    ("name", "y"),
    [
        ("modulus", "float64"),
        *(
            pytest.param(name, y, marks=pytest.mark.slow)
            for name in ("rmsprop", "modulus and more", "rates", "everything", "auto", "average")
            for y in ("complex128", "float64")
        ),
    ],
)
def test_complex(compiled, name, y):
    for example in ("regulariser", "proximal")[name == "modulus" :]:
        check(compiled, name, EXAMPLES[example], "complex128", name == "rmsprop", y)


def test_a_modulus(backend):
    """Lines that see a complex number as a whole: the prox of its modulus, and its square."""
    x, y = normal((3, 4), "complex64", 1), np.abs(normal((3, 4), "float32", 2)) + 1
    fused = SGD(0.125).fuse(
        "grad = 2 * x * y", "x = x * max(0, 1 - t / sqrt(abs2(x) + 1e-12))", ("y",), ("t",), "y * abs2(x)"
    )
    given, state = backend.asarray(x.copy()), None
    state = fused.init(given, backend=backend)
    value = fused.step(given, {"y": backend.asarray(y)}, state, t=0.25)
    new = (x - 0.125 * (2 * x * y)).astype("complex128")
    new *= np.maximum(0, 1 - 0.25 / np.sqrt(abs(new) ** 2 + 1e-12))
    np.testing.assert_allclose(backend.to_host(given), new, rtol=1e-4, atol=1e-7)
    assert float(value) == pytest.approx(np.sum(y * abs(x) ** 2), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_never_round_the_gradient(backend, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    x = normal(50, "float32", 3).astype(dtype)
    wide, given = x.astype("float32"), backend.asarray(x.copy())
    fused = SGD(0.1, maximize=True).fuse("grad = x * x * 0.3", value="x")
    state, of_wide = fused.init(given, backend=backend), fused.init(wide, backend=NUMPY)
    value = fused.step(given, (), state)
    assert float(value) == pytest.approx(float(fused.step(wide, (), of_wide)), rel=1e-12)
    assert (backend.to_host(given) == wide.astype(dtype)).all()


@pytest.mark.parametrize("option", [{"nonfinite": "skip"}, {"nonfinite": "raise"}, {}])
def test_a_gradient_that_is_not_finite(backend, option):
    """It counts even where clip_value would hide it."""
    x = backend.asarray(np.array([1.0, 0.0, -2.0]))
    fused = RMSProp(0.1, clip_value=1.0, **option).fuse("grad = 1 / x")
    state = fused.init(x, backend=backend)
    before = content(x, state)
    if option == {"nonfinite": "raise"}:
        with pytest.raises(
            FloatingPointError, match="grad has 1 element of 3 that is not finite, the first inf"
        ):
            fused.step(x, (), state)
        assert state.step == 0
        assert_same(content(x, state), before)
        return
    fused.step(x, (), state)
    now = content(x, state)
    if option == {"nonfinite": "skip"}:
        assert state.skipped == 1
        assert (now["x"][1], now["square_average"][1]) == (0, 0)
        assert (now["x"][::2] != before["x"][::2]).all()
    elif not option:
        assert state.skipped == 0
        assert now["x"][1] == -0.1 / (np.sqrt((1 - 0.9) * 1.0) + 1e-6)


def test_names_of_a_rule_and_of_the_user(backend):
    """A user's rule, and lines, in which every name means something to the other."""
    rule = Rule(
        "mine", ("slope",), ("w", "m"), ("x", "total"), "grad = x * slope\nm = m + grad\nw = w - total * m"
    )
    optimizer = RuleOptimizer(rule, x=0.5, total=0.25, clip_value=3.0, weight_decay=0.5)
    fused = optimizer.fuse(
        "m = w * x\nslope = 2 * m\ngrad = slope + clip_value",
        "x = x - w * m",
        ("w",),
        ("clip_value",),
        "slope",
    )
    w, y = normal(9, "float64", 1), normal(9, "float64", 2)
    by_hand, state_by_hand = w.copy(), optimizer.init(w, backend=NUMPY)
    x, given = backend.asarray(w.copy()), backend.asarray(y)
    state = fused.init(x, backend=backend)
    for _ in range(2):
        m = y * by_hand
        assert float(fused.step(x, {"w": given}, state, clip_value=0.125)) == pytest.approx(np.sum(2 * m))
        optimizer.step(by_hand, 2 * m + 0.125, state_by_hand)
        by_hand -= y * m
    assert (backend.to_host(x) == by_hand).all()
    assert (backend.to_host(state.m) == state_by_hand.m).all()


def test_the_same_lines_are_compiled_once():
    first, again = (Adam(rate).fuse("grad = 2 * x", value="x * x") for rate in (0.1, 0.2))
    assert first.rule is again.rule
    assert copy.deepcopy(first).rule is first.rule
    assert pickle.loads(pickle.dumps(first)) == first
    assert first == Adam(0.1).fuse("grad = 2 * x", value="x * x") != again


def test_a_state_is_that_of_the_optimizer(backend):
    """It goes to and fro between fused steps and others."""
    optimizer = Adam(0.1)
    fused, x = optimizer.fuse("grad = 2 * x"), backend.asarray(normal(9, "float64", 1))
    one, other = x.copy(), x.copy()
    state, of_other = optimizer.init(one, backend=backend), optimizer.init(other, backend=backend)
    for k in range(4):
        fused.step(one, (), state) if k % 2 else optimizer.step(one, 2 * one, state)
        optimizer.step(other, 2 * other, of_other)
    assert_same(content(one, state), content(other, of_other))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"scalars": ("lambda",)},
            "fuse: 'lambda' cannot be the name of .* a keyword of Python; .* 'lambda_'",
        ),
        ({"reads": ("in",)}, "fuse: 'in' cannot be the name of an array or a scalar, as it is a keyword"),
        ({"reads": ("x",)}, "x is the parameter, which every line knows; leave it out"),
        ({"reads": ("y",)}, "'y' is used neither in before nor in after or value; leave it out"),
        ({"scalars": ("at",)}, "scalars has 'at', as every step has one itself; call it otherwise"),
        (
            {"before": "g = x"},
            "before is 'g = x', which never assigns grad, nor is it among reads; add a line",
        ),
        ({"before": "grad = 1j * x"}, r"before, line `grad = 1j \* x`: 1j is complex, .* outside the lines"),
        (
            {"after": "x = where(0 < x < 1, x, 0)"},
            r"after, line `x = where\(0 < x < 1, x, 0\)`: .* write a where\(\) in a where\(\), as in",
        ),
        ({"value": "x and x"}, r"value, line `value = \(x and x\)`: BoolOp is not arithmetic"),
        ({"after": "y = x\ngrad = y"}, "after, line `grad = y`: 'grad' is what the step was made of"),
        ({"after": "y = x"}, "after is 'y = x', which never assigns x; add a line such as"),
    ],
    ids=str,
)
def test_what_cannot_be_fused_is_quoted(given, words):
    with pytest.raises(ValueError, match=words):
        RMSProp().fuse(**{"before": "grad = 2 * x"} | given)
