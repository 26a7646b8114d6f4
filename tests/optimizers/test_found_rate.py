"""A learning rate that is found: the path that a program by hand takes, in any units, of any arrays."""

from itertools import product

import numpy as np
import pytest

import gpuprop
from gpuprop import SGD, AdaGrad, Adam, AdamW, Groups, RMSProp, Rule, RuleOptimizer

STEPS = 60
RANDOM = np.random.default_rng(4)
START, TARGET = RANDOM.normal(size=(2, 24))
START[2] = 2.5  # the largest, in a real part where pairs are complex numbers
CURVATURE = np.geomspace(1, 20, 24)
BOUND = 0.4
UNITS = (1e-6, 1.0, 1e6)

KINDS = {
    "rmsprop": RMSProp("auto", momentum=0.9),
    "plain rmsprop": RMSProp("auto", 0.95, bias_correction=True),
    "adam": Adam("auto", beta1=0.8, beta2=0.99),
    "adamw": AdamW("auto", weight_decay=0.3),
    "sgd": SGD("auto"),
    "momentum": SGD("auto", momentum=0.7, nesterov=True),
    "inside": SGD("auto", momentum=0.7, learning_rate_in_velocity=True),
    "adagrad": AdaGrad("auto"),
    "bounds": RMSProp("auto", momentum=0.9, bounds=(-BOUND, BOUND)),
}


def cases(first, *more):
    """Of names, or of tuples: the first ones, and more of the same that are slow, as each is compiled."""
    return [*first, *(pytest.param(*(c if type(c) is tuple else [c]), marks=pytest.mark.slow) for c in more)]


TWO = pytest.mark.parametrize("name", cases(["rmsprop", "sgd"], "adam", "bounds"))


class Rate:
    """The rate, by the formulas, for arrays of reals."""

    def __init__(self, x):
        self.rate = (abs(x).max() or 1.0) / 2**20
        self.growth, self.scale = 8.0, 0.0

    def find(self, g, last, momentum=0.0):
        """For a gradient and what the last step went along: the rate of this step, and its momentum."""
        turned, size, mean = (g * last).sum(), abs(g * last).sum(), (g * g).mean()
        agreement = turned / size if size else 0.0
        if size:
            self.growth = self.growth if agreement > 0.5 else 1.0
            slow = 1 + agreement / 10 if agreement > 0 else 1 / (1 - agreement / 10)
            self.rate *= self.growth if self.growth > 1 else slow
        self.scale = 0.97 * self.scale + 0.03 * mean if self.scale else mean
        return self.rate, momentum * (1 + min(agreement, 0) / 4)

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
        elif name in ("adam", "adamw"):
            beta1, beta2, decay = (0.8, 0.99, 0.0) if name == "adam" else (0.9, 0.999, 0.3)
            rate, beta = found.find(g, m, beta1)
            m = beta * m + (1 - beta1) * g
            s = beta2 * s + (1 - beta2) * g**2
            step = m / (1 - beta1**t) / (np.sqrt(s / (1 - beta2**t)) + 1e-8)
            x = (1 - decay * rate) * x - rate * step
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


def walked(optimizer, backend, start, gradient, steps=STEPS):
    """The points, the rates that were found, and the state."""
    x, points, rates = backend.asarray(start.copy()), [], []
    state = optimizer.init(x, backend=backend)
    for _ in range(steps):
        grad = gradient(backend.to_host(x)).astype(start.dtype)
        optimizer.step(x, backend.asarray(grad), state)
        points.append(backend.to_host(x).copy())
        rates.append(state.found_rate)
    return np.array(points), np.array(rates), state


def slope(x):
    return CURVATURE * (x - TARGET)


FIRST = [("rmsprop", "float64"), ("rmsprop", "complex128"), ("sgd", "float64"), ("sgd", "float32")]
FIRST += [("adam", "float64"), ("bounds", "float64")]


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
        *product(["plain rmsprop", "momentum", "inside", "adagrad", "adamw"], UNITS),
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
    if name == "adamw":
        optimizer = AdamW("auto", weight_decay=0.0)
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


PARTS = {
    "window": slice(3, 9),
    "all rows, in another order": np.random.default_rng(6).permutation(12),
    "rows": [7, 0, 3],
    "two axes": np.array([[5, 1], [2, 8]]),
}


@pytest.mark.parametrize(
    ("name", "part"),
    cases(
        [("rmsprop", "window"), ("rmsprop", "all rows, in another order")],
        *product(["sgd", "adam"], PARTS),
        *[("rmsprop", "rows"), ("rmsprop", "two axes")],
    ),
)
def test_a_part_is_stepped_as_if_it_were_alone(backend, name, part):
    random, optimizer, at = np.random.default_rng(1), KINDS[name], PARTS[part]
    start = random.normal(size=(12, 2))
    index = np.asarray(at) if isinstance(at, list) else at
    target, curvature = random.normal(size=(2, *start[index].shape))

    def gradient(x):
        return curvature**2 * (x - target)

    # Where the scale of x is known from the part: both begin with the same rate.
    start[3 if part == "window" else np.ravel(index)[0]] = 5.0
    expected, rates, _ = walked(optimizer, backend, start[index], gradient, 30)
    x = backend.asarray(start.copy())
    state = optimizer.init(x, backend=backend)
    for point, rate in zip(expected, rates, strict=True):
        part = backend.to_host(x)[index]
        optimizer.step(x, backend.asarray(gradient(part)), state, at=at)
        np.testing.assert_allclose(backend.to_host(x)[index], point, rtol=1e-12)
        assert state.found_rate == pytest.approx(rate, rel=1e-12)


@TWO
def test_what_is_not_finite_is_left_out_where_it_is_skipped(backend, name):
    kind = type(KINDS[name])
    given = {"momentum": 0.9} if kind is RMSProp else {}
    given |= {"bounds": (-BOUND, BOUND)} if name == "bounds" else {}
    optimizer = kind("auto", nonfinite="skip", **given)
    x, other = (backend.asarray(START[:8].copy()) for _ in range(2))
    state, without = (optimizer.init(a, backend=backend) for a in (x, other))
    for t in range(12):
        grad = backend.to_host(x) - TARGET[:8]
        zeroed = grad.copy()
        if t % 3 == 1:
            grad[[1, 5]], zeroed[[1, 5]] = [np.nan, np.inf if t % 2 else -np.inf], 0
        optimizer.step(x, backend.asarray(grad), state)
        before = (
            backend.to_host(other).copy(),
            {n: backend.to_host(a).copy() for n, a in without.arrays.items()},
        )
        optimizer.step(other, backend.asarray(zeroed), without)
        if t % 3 == 1:  # what was skipped is as it was, which a zero does not leave it
            other[[1, 5]] = backend.asarray(before[0][[1, 5]])
            for array, old in before[1].items():
                without.arrays[array][[1, 5]] = backend.asarray(old[[1, 5]])
            if "displacement" in before[1]:
                state.displacement[[1, 5]] = without.displacement[[1, 5]] = 0.0
        np.testing.assert_allclose(backend.to_host(x), backend.to_host(other), rtol=1e-13)
        assert state.found_rate == pytest.approx(without.found_rate, rel=1e-13)
    assert state.skipped == 8
    assert np.isfinite(backend.to_host(x)).all()


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


@pytest.mark.parametrize("name", cases(["rmsprop", "sgd"], *(KINDS.keys() - {"rmsprop", "sgd"})))
def test_a_gradient_of_zero_changes_no_rate_and_no_point(backend, name):
    optimizer = KINDS[name]._replaced(weight_decay=0.0)
    start = np.clip(START, -BOUND, BOUND)
    points, rates, _ = walked(optimizer, backend, start, np.zeros_like, 5)
    np.testing.assert_array_equal(points, np.broadcast_to(start, points.shape))
    assert len(set(rates)) == 1


@TWO
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,)])
def test_no_element_and_one(backend, name, shape):
    x, grad = (backend.asarray(np.full(shape, value)) for value in (0.25, 0.125))
    state = KINDS[name].init(x, backend=backend)
    for _ in range(6):
        KINDS[name].step(x, grad, state)
    assert state.step == 6
    assert x.shape == shape
    if x.size:
        assert state.found_rate == 0.25 * 2.0**-20 * 8**5
        assert float(x.reshape(-1)[0]) < 0.25
    else:
        assert state.found_rate == 2.0**-20


@TWO
def test_of_sixteen_bits_it_is_found_in_thirty_two(backend, name):
    start = START.astype("f2")
    points, rates, _ = walked(KINDS[name], backend, start, slope, 200)
    target = np.clip(TARGET, -BOUND, BOUND) if name == "bounds" else TARGET
    np.testing.assert_allclose(points[-1], target, atol=0.05)
    assert np.isfinite(rates).all()


LAYOUTS = {
    "fortran": lambda a: np.asfortranarray(a),
    "window": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    "backwards": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "turned": lambda a: np.ascontiguousarray(a.T).T,
}


OF_LAYOUTS = [("fortran", "rmsprop", "float64"), ("window", "sgd", "complex128")]
MORE_LAYOUTS = [
    (n, *c) for n in LAYOUTS for c in (("rmsprop", "float64"), ("sgd", "complex128"), ("bounds", "float32"))
]


@pytest.mark.parametrize(
    ("layout", "name", "dtype"), cases(OF_LAYOUTS, *(c for c in MORE_LAYOUTS if c not in OF_LAYOUTS))
)
def test_arrays_of_any_layout(backend, layout, name, dtype):
    optimizer, random = KINDS[name], np.random.default_rng(2)
    start, target = (
        random.normal(size=(2, 6, 16)).view("c16").astype(dtype)
        if dtype[0] == "c"
        else (random.normal(size=(2, 6, 8)).astype(dtype))
    )
    expected, rates, _ = walked(optimizer, backend, start, lambda x: x - target, 15)
    x = LAYOUTS[layout](start)
    x = backend.asarray(x) if backend.name != "gpu" else _on_gpu(backend, x)
    state = optimizer.init(x, backend=backend)
    for point, rate in zip(expected, rates, strict=True):
        grad = LAYOUTS[layout](backend.to_host(x) - target)
        optimizer.step(x, backend.asarray(grad), state)
        rtol = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(backend.to_host(x), point, rtol=rtol)
        assert state.found_rate == pytest.approx(rate, rel=rtol)


def _on_gpu(backend, x):
    """With the strides of the host."""
    whole = backend.xp.empty(sum(abs(s) * n for s, n in zip(x.strides, x.shape, strict=True)), "u1")
    offset = sum(-s * (n - 1) for s, n in zip(x.strides, x.shape, strict=True) if s < 0)
    made = backend.xp.ndarray(x.shape, x.dtype, whole.data + offset, x.strides)
    made[...] = backend.asarray(np.ascontiguousarray(x))
    return made


@pytest.mark.parametrize(
    ("name", "size", "dtype"),
    cases(
        [("sgd", 4097, "float64"), ("sgd", 300_001, "float64")],
        *product(["rmsprop", "sgd"], [4097, 700_001], ["float32", "float16"]),
    ),
)
def test_the_number_of_threads_changes_no_bit(threads, name, size, dtype):
    cpu, random, found = gpuprop.select_backend("cpu"), np.random.default_rng(3), []
    start, target = random.normal(size=(2, size)).astype(dtype)
    for number in (1, 2):
        threads(number)
        points, rates, _ = walked(KINDS[name], cpu, start, lambda x: x - target, 4)
        found.append((points[-1].tobytes(), tuple(rates)))
    assert found[0] == found[1]
    _, rates, _ = walked(KINDS[name], gpuprop.select_backend("numpy"), start, lambda x: x - target, 4)
    np.testing.assert_allclose(found[0][1], rates, rtol=1e-6 if dtype == "float16" else 1e-12)


WRONG = "it must be a real number"


@pytest.mark.parametrize("kind", [RMSProp, Adam, AdamW, SGD, AdaGrad])
@pytest.mark.parametrize("wrong", ["Auto", "auto ", "", "0.1", b"auto"])
def test_no_other_text_is_a_rate(kind, wrong):
    with pytest.raises(TypeError, match=f"learning_rate is .*; {WRONG}"):
        kind(wrong)


@pytest.mark.parametrize("decay", [0.1, np.full(3, 0.1)], ids=["number", "array"])
@pytest.mark.parametrize("kind", [RMSProp, Adam, SGD, AdaGrad])
def test_coupled_weight_decay_is_refused(kind, decay):
    with pytest.raises(ValueError, match=r"learning_rate is 'auto', .* set decoupled_weight_decay=True"):
        kind("auto", weight_decay=decay)
    assert kind("auto", weight_decay=decay, decoupled_weight_decay=True)


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
