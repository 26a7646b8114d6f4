import math

import numpy as np
import pytest

import gpuprop
from gpuprop import check_gradient


def cubic(x):
    """sum of |x|^3 / 3, by parts of complex numbers: smooth, and no quadratic."""
    parts = (x.real, x.imag) if x.dtype.kind == "c" else (x,)
    return sum((part * part * part).sum() for part in parts) / 3


def cubic_der(x):
    return x.real * x.real + 1j * (x.imag * x.imag) if x.dtype.kind == "c" else x * x


def point(backend, shape, dtype="float64"):
    random = np.random.default_rng(8)
    x = random.uniform(0.5, 2, shape)
    return backend.asarray((x + 1j * x[::-1] if np.dtype(dtype).kind == "c" else x).astype(dtype))


def wrong_in(*places, factor=1.5):
    """The gradient, with these components wrong."""

    def gradient(x):
        gradient = cubic_der(x)
        for place in places:
            gradient[place] *= factor
        return gradient

    return gradient


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("shape", [(3,), (40, 25)])
def test_a_right_gradient_is_called_right(backend, shape, dtype):
    check = check_gradient(cubic, cubic_der, point(backend, shape, dtype))
    assert check
    assert check.ok
    assert check.wrong == ()
    assert check.error < 1e-3
    assert "agrees with central differences" in str(check)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "place"), [((3,), (1,)), ((2000,), (1234,)), ((40, 25), (7, 19))])
def test_the_wrong_component_is_named_with_both_values(backend, shape, place, dtype):
    x = point(backend, shape, dtype)
    check = check_gradient(cubic, wrong_in(place, factor=4), x)
    assert not check
    (component,) = check.wrong
    right = float(x[place]) ** 2
    assert component.index == place
    assert component.given == pytest.approx(4 * right, rel=1e-6)
    assert component.measured == pytest.approx(right, rel=1e-5 if dtype == "float64" else 2e-2)
    name = place[0] if len(place) == 1 else str(place)
    assert f"component {name} is {component.given:.6g} and differences give {component.measured:.6g}" in str(
        check
    )


@pytest.mark.parametrize("part", ["real", "imaginary"])
def test_the_wrong_part_of_a_complex_component_is_named(backend, part):
    def gradient(x):
        gradient = cubic_der(x)
        view = gradient.real if part == "real" else gradient.imag
        view[3, 2] = 0
        return gradient

    x = point(backend, (9, 8), "complex128")
    (component,) = check_gradient(cubic, gradient, x).wrong
    assert (component.index, component.part, component.given) == ((3, 2), f"{part} part", 0)
    value = complex(x[3, 2])
    assert component.measured == pytest.approx((value.real if part == "real" else value.imag) ** 2, rel=1e-5)


def test_several_wrong_components_are_all_found():
    x = point(gpuprop.select_backend("numpy"), 5000)
    check = check_gradient(cubic, wrong_in(17, 2500, 4999), x)
    assert [component.index for component in check.wrong] == [(17,), (2500,), (4999,)]


def test_a_gradient_that_is_wrong_everywhere_is_named_in_a_few_places():
    x = point(gpuprop.select_backend("numpy"), 5000)
    for gradient in (lambda x: -(x**2), lambda x: 2 * x**2, lambda x: x**2 + 1, np.zeros_like):
        check = check_gradient(cubic, gradient, x)
        assert not check
        assert len(check.wrong) == 5
        assert "(others may be, too)" in str(check)


@pytest.mark.parametrize("n", [10**3, 10**5])
def test_evaluations_grow_with_the_logarithm_of_the_components(n):
    calls = []

    def counted(x):
        calls.append(1)
        return cubic(x)

    check = check_gradient(counted, wrong_in(n // 3, factor=30), np.linspace(1, 2, n))
    assert [component.index for component in check.wrong] == [(n // 3,)]
    # Each half is compared at two steps and twice them, from both sides.
    assert len(calls) <= 2 * 8 * (math.log2(n) + 2)


def test_jac_true_and_args():
    def both(x, power):
        return np.sum(x**power), power * x ** (power - 1)

    assert check_gradient(both, True, [1.0, 2.0, 3.0], args=(4,))
    check = check_gradient(lambda x, power: (np.sum(x**power), x ** (power - 1)), True, [1.0, 2.0], args=(4,))
    assert [(c.index, c.given) for c in check.wrong] == [((0,), 1), ((1,), 8)]


def test_the_point_may_be_a_list_of_integers_or_a_number():
    assert check_gradient(cubic, cubic_der, [1, 2, 3])
    assert check_gradient(lambda x: x**3 / 3, lambda x: x * x, 2)
    assert check_gradient(lambda x: x**3 / 3, lambda x: x, 2).wrong[0].index == ()


def test_f_may_be_large_beside_its_changes():
    x = np.linspace(1, 2, 100)
    assert check_gradient(lambda x: 1e9 + cubic(x), cubic_der, x)
    assert not check_gradient(lambda x: 1e9 + cubic(x), lambda x: 1.1 * x * x, x)


def test_a_function_of_another_scale_than_one():
    x = np.array([1.1e-9, 2e-9, 3e-9])
    assert check_gradient(lambda x: np.sin(1e9 * x).sum(), lambda x: 1e9 * np.cos(1e9 * x), x)
    assert not check_gradient(lambda x: np.sin(1e9 * x).sum(), lambda x: np.cos(1e9 * x), x)


def test_a_step_of_ones_own_where_scales_differ():
    x = np.array([1e-3, 2.0, 3e5])
    assert "cannot tell" in str(check_gradient(lambda x: np.log(x).sum(), lambda x: 1 / x, x))
    assert check_gradient(lambda x: np.log(x).sum(), lambda x: 1 / x, x, step=1e-6 * x)
    wrong = check_gradient(lambda x: np.log(x).sum(), lambda x: np.array([1e3, 0.5, 1.0]), x, step=1e-6 * x)
    assert [component.index for component in wrong.wrong] == [(2,)]


@pytest.mark.parametrize(
    ("fun", "jac", "x"),
    [
        (lambda x: np.sum(x**2), lambda x: 2 * x, np.zeros(3)),  # a minimum
        (lambda x: 1e18 + np.sum(x**2), lambda x: 2 * x, np.ones(30)),  # all rounding
        (lambda x: np.sum(abs(x)), np.sign, np.zeros(3)),  # a corner
        (lambda x: np.nan, lambda x: 2 * x, np.ones(3)),
    ],
)
def test_where_differences_cannot_tell_the_gradient_is_not_called_right(fun, jac, x):
    check = check_gradient(fun, jac, x)
    assert not check
    assert check.wrong == ()
    assert "Differences cannot tell" in str(check)


def test_a_wrong_gradient_is_seen_at_a_minimum_too():
    check = check_gradient(lambda x: np.sum(x**2), lambda x: 2 * x + [0, 1, 0], np.zeros(3))
    assert [(c.index, c.given) for c in check.wrong] == [((1,), 1)]
    assert abs(check.wrong[0].measured) < 1e-6


def test_the_first_component_that_is_not_finite_is_named(backend):
    def gradient(x):
        gradient = cubic_der(x)
        gradient[2, 1] = math.nan
        return gradient

    check = check_gradient(cubic, gradient, point(backend, (4, 3)))
    assert not check
    assert check.wrong[0].index == (2, 1)
    assert str(check) == "The gradient is not finite: component (2, 1) is nan."


def test_rtol_says_how_much_is_allowed():
    x = np.linspace(1, 2, 50)
    nearly = lambda x: x * x * (1 + 1e-4)  # noqa: E731
    assert not check_gradient(cubic, nearly, x)
    assert check_gradient(cubic, nearly, x, rtol=1e-2)


def test_the_same_directions_on_every_device(backend):
    x = point(backend, 300)
    reference = check_gradient(cubic, cubic_der, backend.to_host(x), rng=7)
    assert check_gradient(cubic, cubic_der, x, rng=7).error == pytest.approx(reference.error, rel=0.5)


@pytest.mark.parametrize(
    ("fun", "jac", "error", "message"),
    [
        (cubic, None, TypeError, "jac is None; it must be a function"),
        (None, cubic_der, TypeError, "fun is None; it must be a function"),
        (cubic, lambda x: x[:1], ValueError, r"the gradient has shape \(1,\)"),
        (lambda x: x, cubic_der, ValueError, r"fun gave shape \(2,\)"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(fun, jac, error, message):
    with pytest.raises(error, match=message):
        check_gradient(fun, jac, [1.0, 2.0])


@pytest.mark.parametrize("directions", [0, -1, 2.5, None])
def test_at_least_one_direction_is_tried(directions):
    with pytest.raises(ValueError, match=f"directions is {directions}; it must be a whole number"):
        check_gradient(cubic, cubic_der, [1.0], directions=directions)


def test_nothing_is_written_to_x():
    x = np.array([1.0, 2.0])
    x.flags.writeable = False
    check_gradient(cubic, wrong_in(1), x)
    np.testing.assert_array_equal(x, [1, 2])


def test_a_function_may_write_to_what_it_is_given():
    def careless(x):
        f = cubic(x)
        x.fill(0)
        return f

    def careless_der(x):
        gradient = cubic_der(x)
        x.fill(0)
        return gradient

    assert check_gradient(careless, careless_der, np.linspace(1, 2, 50))


@pytest.mark.gpu
def test_no_array_crosses_to_the_host(monkeypatch):
    gpu = gpuprop.select_backend("gpu")
    sizes, get = [], gpu.xp.ndarray.get
    monkeypatch.setattr(
        gpu.xp.ndarray, "get", lambda a, *args, **kw: sizes.append(a.size) or get(a, *args, **kw)
    )
    check = check_gradient(cubic, wrong_in(40), point(gpu, 100))
    assert check.wrong[0].index == (40,)
    assert max(sizes) <= 5
