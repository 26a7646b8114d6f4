import math

import numpy as np
import pytest
from descents import cubic, cubic_der, point, wrong_in

import gpuprop
from gpuprop import check_gradient


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


@pytest.mark.parametrize("directions", [2.0, np.float32(2), np.int8(2)])
def test_directions_may_be_a_whole_float(directions):
    assert "along 2 random directions" in str(
        check_gradient(cubic, cubic_der, np.ones(9), directions=directions)
    )


def test_the_point_may_be_a_list_of_integers_or_a_number():
    assert check_gradient(cubic, cubic_der, [1, 2, 3])
    assert check_gradient(lambda x: x**3 / 3, lambda x: x * x, 2)
    for x, index in ((2, (0,)), (np.array(2.0), ())):
        assert check_gradient(lambda x: x**3 / 3, lambda x: x, x).wrong[0].index == index


def test_the_first_component_that_is_not_finite_is_named(backend):
    def gradient(x):
        gradient = cubic_der(x)
        gradient[2, 1] = math.nan
        return gradient

    check = check_gradient(cubic, gradient, point(backend, (4, 3)))
    assert not check
    assert check.wrong[0].index == (2, 1)
    assert str(check) == "The gradient is not finite: component (2, 1) is nan."


def test_the_same_directions_on_every_device(backend):
    def points(x):
        seen = []
        check_gradient(lambda x: seen.append(backend.to_host(x)) or cubic(x), cubic_der, x, step=1e-5, rng=7)
        return np.array(seen)

    x = point(backend, 300)
    on_the_host = points(backend.to_host(x))
    assert len(on_the_host) > 20
    # Devices may differ in the last place of the root mean square.
    np.testing.assert_allclose(points(x), on_the_host, rtol=1e-14)


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


@pytest.mark.parametrize("directions", [0, -1, 2.5, None, True])
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
    assert max(sizes) <= 6 < 100
