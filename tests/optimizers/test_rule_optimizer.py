"""A user's rule as an optimizer."""

import copy
import pickle

import numpy as np
import pytest

import gpuprop
from gpuprop import Rule, RuleOptimizer

MINE = Rule(
    "mine",
    ("grad",),
    ("x", "s"),
    ("rate", "rho"),
    """
    s = rho * s + (1 - rho) * (grad * grad)
    x = x - rate * grad * where(grad > 0, 1, 0.1) / (sqrt(s) + 1e-6)
    """,
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_steps_by_the_rule_and_its_schedules(backend, dtype):
    optimizer = RuleOptimizer(MINE, rate=lambda step: 0.1 / (1 + step), rho=0.9)
    start, *grads = np.random.default_rng(0).normal(size=(6, 1000)).astype(dtype)
    x, s = backend.asarray(start.copy()), np.zeros(1000, dtype)
    state = optimizer.init(x, backend=backend)
    real = np.dtype(dtype).type
    for step, grad in enumerate(grads):
        optimizer.step(x, backend.asarray(grad), state)
        s = real(0.9) * s + (1 - real(0.9)) * (grad * grad)
        factor = np.where(grad > 0, real(1), real(0.1))
        start = start - real(0.1 / (1 + step)) * grad * factor / (np.sqrt(s) + real(1e-6))
    np.testing.assert_array_equal(backend.to_host(x), start)
    np.testing.assert_array_equal(backend.to_host(state.s), s)


def test_it_is_an_immutable_value():
    optimizer = RuleOptimizer(MINE, rate=0.1, rho=0.9, nonfinite="skip")
    assert repr(optimizer) == "RuleOptimizer(mine, rate=0.1, rho=0.9, nonfinite='skip')"
    assert optimizer == RuleOptimizer(MINE, rho=0.9, rate=0.1, nonfinite="skip")
    assert hash(optimizer) == hash(RuleOptimizer(MINE, rho=0.9, rate=0.1, nonfinite="skip"))
    assert optimizer != RuleOptimizer(MINE, rate=0.1, rho=0.9)
    with pytest.raises(AttributeError, match="immutable"):
        optimizer.nonfinite = "raise"
    with pytest.raises(TypeError):
        optimizer.scalars["rate"] = 1.0


def test_copies_use_the_same_kernels():
    optimizer = RuleOptimizer(MINE, rate=0.1, rho=0.9)
    assert copy.deepcopy(optimizer).rule is MINE
    once, twice = (pickle.loads(pickle.dumps(optimizer)) for _ in range(2))
    assert once.rule is twice.rule
    assert once.rule.body == MINE.body


@pytest.mark.parametrize("name", ["step", "optimizer", "backend", "arrays", "skipped", "save", "_workspace"])
def test_an_array_cannot_be_called_as_a_part_of_every_state(name):
    rule = Rule("r", ("grad",), ("x", name), (), f"{name} = {name} + grad\nx = x - {name}")
    with pytest.raises(ValueError, match=f"an array '{name}', which is also an attribute of every state"):
        RuleOptimizer(rule)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mine", {}), "rule is a str; it must be a gpuprop.Rule"),
        ((MINE, {"rate": 0.1}), "takes the scalars rate, rho, and was given rate"),
        (
            (MINE, {"rate": 0.1, "rho": 0.9, "bound": (0, 1)}),
            "has no scalar 'bound', nor is there such an option",
        ),
        ((MINE, {"rate": "0.1", "rho": 0.9}), "rate is '0.1'; it must be a real number"),
        ((Rule("two", ("a", "b"), ("x",), (), "x = a + b"), {}), "it must read one array, the gradient"),
        ((Rule("r", ("g",), ("x",), (), "x = x - g", reals=("g",)), {}), "has its gradient 'g' in reals"),
        (
            (
                Rule("r", ("g",), ("x",), (), "parameter_average = g\nx = x - parameter_average"),
                {"parameter_average": 0.5},
            ),
            "rule 'r' calls something parameter_average",
        ),
    ],
)
def test_refuses(arguments, message):
    rule, scalars = arguments
    with pytest.raises((TypeError, ValueError), match=message):
        RuleOptimizer(rule, **scalars)


def test_a_reference_of_the_wrong_shape_writes_nothing():
    def wrong(grad, x, s):
        return {"x": x - grad, "s": s[:1]}

    rule = Rule("wrong", ("grad",), ("x", "s"), (), "s = s + grad\nx = x - grad", reference=wrong)
    x = np.ones(3)
    optimizer = RuleOptimizer(rule)
    state = optimizer.init(x, backend=gpuprop.select_backend("numpy"))
    with pytest.raises(ValueError, match="the reference of rule 'wrong' gives no s of the shape"):
        optimizer.step(x, np.ones(3), state)
    assert (x == 1).all()
