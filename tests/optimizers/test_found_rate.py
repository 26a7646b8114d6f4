"""A learning rate that is found: the path that a program by hand takes, in any units."""

from itertools import product

import numpy as np
import pytest
from found_rates import BOUND, KINDS, START, STEPS, TWO, UNITS, cases, slope, walked

from gpuprop import SGD, AdaGrad, Adam, AdamW, Groups, RMSProp, Rule, RuleOptimizer


class Rate:
    """The rate, by the formulas, for arrays of reals."""

    def __init__(self, x):
        self.rate = (abs(x).max() or 1.0) / 2**20
        self.growth, self.scale = 8.0, 0.0

    def find(self, g, last, momentum=None):
        """For a gradient and what the last step went along: the rate of this step, and its momentum.

        Where there is none, the rate brakes harder.
        """
        turned, size, mean = (g * last).sum(), abs(g * last).sum(), (g * g).mean()
        agreement = turned / size if size else 0.0
        if size:
            self.growth = self.growth if agreement > 0.5 else 1.0
            brake = 5 * (-agreement - 0.8) if momentum is None and agreement < -0.8 else 0
            slow = 1 + agreement / 10 if agreement > 0 else 1 / (1 - agreement / 10 + brake)
            self.rate *= self.growth if self.growth > 1 else slow
        self.scale = 0.97 * self.scale + 0.03 * mean if self.scale else mean
        return self.rate, (momentum or 0) * (1 + min(agreement, 0) / 4)

    @property
    def for_descent(self):
        return self.rate / np.sqrt(self.scale)


def by_hand(name, x, gradient):
    """The points of a descent in float64, and the rates."""
    x, found = x.copy(), Rate(x)
    m, s, moved = np.zeros((3, x.size))
    points, rates = [], []
    for t in range(1, STEPS + 1):
        g, start = gradient(x), x
        if name in ("rmsprop", "bounds"):
            rate, momentum = found.find(g, moved if name == "bounds" else m, 0.9)
            s = 0.9 * s + 0.1 * g**2
            m = momentum * m + g / (np.sqrt(s) + 1e-6)
            x = x - rate * m
            if name == "bounds":
                x = np.clip(x, -BOUND, BOUND)
        elif name == "plain rmsprop":
            rate, _ = found.find(g, moved)
            s = 0.95 * s + 0.05 * g**2
            x = x - rate * g / (np.sqrt(s / (1 - 0.95**t)) + 1e-6)
        elif name == "adam":
            beta1, beta2 = 0.8, 0.99
            rate, beta = found.find(g, m, beta1)
            m = beta * m + (1 - beta1) * g
            s = beta2 * s + (1 - beta2) * g**2
            step = m / (1 - beta1**t) / (np.sqrt(s / (1 - beta2**t)) + 1e-8)
            x = x - rate * step
        elif name == "sgd":
            found.find(g, moved)
            x = x - found.for_descent * g
        elif name in ("momentum", "inside"):
            _, momentum = found.find(g, m, 0.7)
            m = momentum * m + (g if name == "momentum" else found.for_descent * g)
            x = x - (found.for_descent * (0.7 * m + g) if name == "momentum" else m)
        else:
            rate, _ = found.find(g, moved)
            s = s + g**2
            x = x - rate * g / (np.sqrt(s) + 1e-10)
        moved = start - x
        points.append(x)
        rates.append(found.rate)
    return np.array(points), np.array(rates)


FIRST = [("rmsprop", "float64"), ("sgd", "complex128"), ("adam", "float64"), ("bounds", "float64")]


@pytest.mark.parametrize(
    ("name", "dtype"),
    cases(FIRST, *(c for c in product(KINDS, ["float64", "float32", "complex128"]) if c not in FIRST)),
)
def test_every_backend_follows_a_program_by_hand(backend, name, dtype):
    inside = np.clip(START, -BOUND, BOUND) if name == "bounds" else START
    points, rates = by_hand(name, inside, slope)
    start, gradient, steps = inside.astype(dtype), slope, STEPS
    if dtype == "complex128":
        start = inside.view(dtype)

        def gradient(x):
            return slope(x.view("f8")).view(dtype)

    rtol, atol = 1e-10, 1e-13
    if dtype == "float32":  # near the minimum its gradients are rounding errors
        rtol, atol, steps = 1e-4, 1e-5, 20
        points, rates = points[:steps], rates[:steps]
    found, found_rates, state = walked(KINDS[name], backend, start, gradient, steps)
    np.testing.assert_allclose(found_rates, rates, rtol=rtol)
    np.testing.assert_allclose(found.view(found.real.dtype), points, rtol=rtol, atol=atol)
    assert rates.max() > 1e4 * rates[0]  # it has found one
    assert type(state.found_rate) is float


@pytest.mark.parametrize(
    ("name", "unit"),
    cases(
        [*product(["rmsprop", "sgd"], UNITS), ("adam", 1e6), ("bounds", 1e-6)],
        *product(["plain rmsprop", "momentum", "inside", "adagrad"], UNITS),
        *[("adam", 1e-6), ("adam", 1.0), ("bounds", 1.0), ("bounds", 1e6)],
    ),
)
def test_alone_each_finds_the_minimum_in_any_units(backend, name, unit):
    if backend.name == "gpu" and unit != 1:
        pytest.skip("the law is the same, and hundreds of steps take long")
    optimizer, target = KINDS[name], np.array([300.0, -40.0, 7.0])
    curvature = np.array([1.0, 10.0, 3.0])
    if name == "bounds":
        optimizer = RMSProp("auto", momentum=0.9, bounds=(-50 * unit, 400 * unit))
    start = unit * np.array([1.0, 2.0, -0.5])
    # Of AdaGrad the steps fall by themselves.
    steps = 600 if name == "adagrad" else 300
    points, *_ = walked(optimizer, backend, start, lambda x: curvature * (x / unit - target) / unit, steps)
    np.testing.assert_allclose(points[-1] / unit, target, rtol=1e-3)


@TWO
@pytest.mark.parametrize(("of_x", "of_gradient"), [(2.0**-20, 2.0**30), (2.0**21, 2.0**-13)])
def test_in_other_units_by_powers_of_two_the_path_is_the_same_by_the_bit(backend, name, of_x, of_gradient):
    def optimizer(unit, slopes):
        # Epsilon has the units of the gradient, and bounds those of x.
        bounds = {"bounds": (-BOUND * unit, BOUND * unit)} if name == "bounds" else {}
        if name == "adam":
            return Adam("auto", beta1=0.8, beta2=0.99, epsilon=1e-8 * slopes)
        if name == "sgd":
            return SGD("auto")
        return RMSProp("auto", epsilon=1e-6 * slopes, momentum=0.9, **bounds)

    points, rates, _ = walked(optimizer(1, 1), backend, START, slope)
    scaled, scaled_rates, _ = walked(
        optimizer(of_x, of_gradient), backend, START * of_x, lambda x: slope(x / of_x) * of_gradient
    )
    np.testing.assert_array_equal(scaled, points * of_x)
    np.testing.assert_array_equal(scaled_rates, rates * of_x)


@pytest.mark.parametrize("unit", [1.0, 2.0**-20, 1j, 2.0**-20 * 1j])
def test_an_imaginary_start_has_a_scale_as_a_real_one_has(backend, unit):
    x = backend.asarray(START * unit + 0j)
    found = RMSProp("auto").init(x, backend=backend).found_rate
    assert found == abs(START).max() * abs(unit) / 2**20


@pytest.mark.parametrize("name", cases(["sgd"], "rmsprop", "adam"))
def test_maximize_is_the_other_sign(backend, name):
    ascent = KINDS[name]._replaced(maximize=True)
    points, rates, _ = walked(KINDS[name], backend, START, slope, 20)
    found, found_rates, _ = walked(ascent, backend, START, lambda x: -slope(x), 20)
    np.testing.assert_array_equal(found, points)
    np.testing.assert_array_equal(found_rates, rates)


def test_the_gradient_is_followed_as_it_was_before_it_is_clipped(backend):
    clipped, rates, _ = walked(SGD("auto", clip_norm=0.5), backend, START, slope, 40)
    assert np.isfinite(clipped).all()
    loose, loose_rates, _ = walked(SGD("auto", clip_norm=1e9), backend, START, slope, 40)
    free, free_rates, _ = walked(SGD("auto"), backend, START, slope, 40)
    np.testing.assert_array_equal(loose, free)
    np.testing.assert_array_equal(loose_rates, free_rates)
    # The first step's length is the rate at most, by the norm of what is left of the gradient.
    g = slope(START)
    first = START - clipped[0]
    rate = rates[0] / np.sqrt(np.mean(g**2))
    np.testing.assert_allclose(first, rate * 0.5 / np.linalg.norm(g) * g, rtol=1e-6)


@pytest.mark.parametrize("name", cases(["rmsprop", "sgd"], *sorted(KINDS.keys() - {"rmsprop", "sgd"})))
def test_a_gradient_of_zero_changes_no_rate_and_no_point(backend, name):
    optimizer = KINDS[name]._replaced(weight_decay=0.0)
    start = np.clip(START, -BOUND, BOUND)
    points, rates, _ = walked(optimizer, backend, start, np.zeros_like, 5)
    np.testing.assert_array_equal(points, np.broadcast_to(start, points.shape))
    assert len(set(rates)) == 1


WRONG = 'it must be a real number, "auto", a schedule, or an array of rates'


@pytest.mark.parametrize("kind", [RMSProp, Adam, AdamW, SGD, AdaGrad])
@pytest.mark.parametrize("wrong", ["Auto", "auto ", "", "0.1", b"auto"])
def test_no_other_text_is_a_rate(kind, wrong):
    with pytest.raises(TypeError, match=f"learning_rate is .*; {WRONG}"):
        kind(wrong)


@pytest.mark.parametrize("decay", [0.1, np.full(3, 0.1)], ids=["number", "array"])
@pytest.mark.parametrize("kind", [RMSProp, Adam, SGD, AdaGrad])
def test_weight_decay_is_refused(kind, decay):
    with pytest.raises(
        ValueError, match=r"learning_rate is 'auto' and .* add weight_decay \* x to the gradient"
    ):
        kind("auto", weight_decay=decay)
    with pytest.raises(ValueError, match="AdamW has a weight_decay"):
        AdamW("auto")
    assert AdamW("auto", weight_decay=0)


def test_a_rule_of_ones_own_finds_no_rate(backend):
    rule = Rule("descent_by_rate", ("g",), ("x",), ("learning_rate",), "x = x - learning_rate * g")
    with pytest.raises(TypeError, match="learning_rate"):
        RuleOptimizer(rule, learning_rate="auto")


def test_groups_find_a_rate_for_each_array(backend):
    groups = Groups(a=KINDS["rmsprop"], b=KINDS["sgd"], c=RMSProp(0.01))
    x = {name: backend.asarray(START * unit) for name, unit in zip("abc", (1.0, 2.0**9, 1.0), strict=True)}
    state = groups.init(x, backend=backend)
    for _ in range(20):
        grad = {name: slope(backend.to_host(a) / (2.0**9 if name == "b" else 1)) for name, a in x.items()}
        groups.step(x, {name: backend.asarray(a) for name, a in grad.items()}, state)
    for name, unit in (("a", 1.0), ("b", 2.0**9)):
        points, rates, _ = walked(groups.optimizers[name], backend, START, slope, 20)
        np.testing.assert_array_equal(backend.to_host(x[name]), points[-1] * unit)
        assert state[name].found_rate == rates[-1] * unit
    assert state["c"].found_rate is None
