import numpy as np
import pytest
from descents import TARGET, Quadratic, falling, sum_of_squares, twice
from scipy.optimize import Bounds

import gpuprop
from gpuprop import RMSProp, minimize


def test_integers_lists_and_foreign_byte_orders_become_floats_of_this_machine():
    for x0 in ([3, 4], np.array([3, 4], "int8"), np.array([3.0, 4.0], ">f8")):
        result = minimize(sum_of_squares, x0, jac=twice, method=falling())
        assert type(result.x) is np.ndarray
        assert result.x.dtype == np.dtype("float64")
        assert result.x.dtype.isnative
        assert result.success


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((), "float16"), ((3,), "float32"), ((2, 3, 2), "complex64"), ((3,), "complex128"), ((), "float32")],
)
def test_shape_and_dtype_are_kept(dtype, shape):
    x0 = np.full(shape, 0.75, dtype, order="F")
    result = minimize(
        lambda x: np.sum(abs(x) ** 2), x0, jac=twice, method=falling(), options={"gtol": 1e-2, "maxiter": 400}
    )
    assert result.success
    assert (result.x.shape, result.x.dtype) == (shape, np.dtype(dtype))
    assert (result.jac.shape, result.jac.dtype) == (shape, np.dtype(dtype))


@pytest.mark.parametrize(
    "like", [lambda g: g.astype("float64"), lambda g: [*g], lambda g: (*g,), lambda g: np.array([*g], object)]
)
def test_a_gradient_of_another_real_dtype_or_as_a_list_is_welcome(like):
    x0 = np.array([3.0, 4.0], "float32")
    plain = minimize(None, x0, jac=twice, method=falling())
    again = minimize(None, x0, jac=lambda x: like(2 * x), method=falling())
    np.testing.assert_array_equal(again.x, plain.x)


@pytest.mark.parametrize("shape", [(1,), ()])
@pytest.mark.parametrize("like", [float, np.float64, np.array, lambda g: [g], lambda g: np.full((1, 1), g)])
def test_one_number_is_a_gradient_of_one_parameter(like, shape):
    x0, options = np.full(shape, 5.0), {"maxiter": 3}
    result = minimize(lambda x: x.item() ** 2, x0, jac=lambda x: like(2 * x.item()), options=options)
    expected = minimize(None, x0, jac=twice, options=options)
    assert result.jac.shape == shape
    np.testing.assert_array_equal(result.x, expected.x)


@pytest.mark.parametrize("number", [5, 5.0, np.float32(5), np.int64(5), np.array(5.0)])
def test_a_number_is_a_vector_of_one_as_in_scipy_and_an_array_what_it_is(number):
    shapes = set()

    def fun(x):
        shapes.add(x.shape)
        return (x * x).sum()

    expected = np.shape(number) if isinstance(number, np.ndarray) else (1,)
    for result in (minimize(fun, number, jac=twice), falling()(fun, number, jac=twice)):
        assert (result.x.shape, result.jac.shape, result.success) == (expected, expected, True)
    assert gpuprop.check_gradient(fun, twice, number)
    assert shapes == {expected}


def test_functions_may_keep_what_they_are_given():
    kept, callback_kept = [], []
    minimize(
        lambda x: kept.append(x) or 0.0, np.ones(3), jac=lambda x: kept.append(x) or 2 * x,
        method=RMSProp(), callback=callback_kept.append, options={"maxiter": 5, "check_every": 1},
    )  # fmt: skip
    at = [float(x[0]) for x in kept]
    assert at[::2] == at[1::2]
    assert len(set(at)) == 6
    assert [float(x[0]) for x in callback_kept] == at[2::2]


def test_without_copies_functions_see_the_very_array_and_the_result_is_the_same():
    seen = []

    def jac(x):
        seen.append(x.ctypes.data)
        return x  # the gradient of |x|^2 / 2

    options = {"maxiter": 50}
    result = minimize(None, np.ones(3), jac=jac, method=falling(), options={**options, "copy_x": False})
    assert set(seen) == {result.x.ctypes.data}
    assert not np.may_share_memory(result.x, result.jac)
    np.testing.assert_array_equal(result.jac, result.x)
    np.testing.assert_array_equal(
        result.x, minimize(None, np.ones(3), jac=lambda x: x, method=falling(), options=options).x
    )


@pytest.mark.parametrize("copy_x", [False, True])
def test_the_gradient_of_a_result_is_no_buffer_of_the_function(copy_x):
    buffer = np.empty(3)
    result = minimize(
        None,
        np.ones(3),
        jac=lambda x: np.multiply(x, 2, out=buffer),
        method=falling(),
        options={"copy_x": copy_x},
    )
    buffer.fill(9)
    np.testing.assert_array_equal(result.jac, 2 * result.x)


@pytest.mark.parametrize(("jac", "cost"), [(None, 5), ("2-point", 5), ("3-point", 9), ("cs", 5)])
def test_finite_differences_on_the_host(jac, cost):
    problem = Quadratic(gpuprop.select_backend("numpy"))
    result = minimize(problem.fun, np.zeros((2, 2)).ravel(), jac=jac, method=falling())
    assert result.success
    np.testing.assert_allclose(result.x, TARGET, atol=1e-4)
    assert result.nfev == problem.funs == cost * result.njev


@pytest.mark.parametrize("jac", ["2-point", "3-point"])
def test_finite_differences_keep_within_the_bounds(jac):
    def fun(x):
        assert x.max() <= 4
        return np.sum((x - 9) ** 2)

    result = minimize(fun, [3.0, 2.0], jac=jac, method=falling(), bounds=Bounds(1, 4))
    assert result.success
    np.testing.assert_array_equal(result.x, 4)


def test_finite_differences_are_refused_where_they_make_no_sense():
    with pytest.raises(ValueError, match="jac is None and x0 has dtype complex128"):
        minimize(lambda x: abs(x[0]), np.ones(1, complex))
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    with pytest.raises(ValueError, match="jac is '3-point' and x0 has dtype bfloat16"):
        minimize(sum_of_squares, np.ones(2, bfloat16), jac="3-point")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_narrow_floats_are_given_the_more_accurate_differences(dtype):
    x0 = np.array([5, 4], dtype)
    chosen, named = (minimize(sum_of_squares, x0, jac=j, options={"maxiter": 9}) for j in (None, "3-point"))
    assert chosen.nfev == named.nfev == 5 * chosen.njev
    np.testing.assert_array_equal(chosen.x, named.x)


@pytest.mark.gpu
def test_finite_differences_are_refused_on_a_gpu():
    x0 = gpuprop.select_backend("gpu").asarray(np.ones(3))
    with pytest.raises(ValueError, match=r"jac is None and x0 is on a GPU; .* pass jac"):
        minimize(lambda x: x.sum(), x0)


def test_complex_parameters_need_a_complex_gradient(backend):
    # A real one would leave every imaginary part where it is, and be called converged.
    x0 = backend.asarray([1 + 2j, 3 - 1j])
    with pytest.raises(ValueError, match=r"dtype float64 and x has complex128; it must be complex: df/dRe x"):
        gpuprop.minimize(None, x0, jac=lambda x: 2 * x.real)


def test_a_complex_gradient_of_a_real_x_is_refused_with_what_mends_it():
    with pytest.raises(ValueError, match=r"start from a complex x0, as x0.astype\(complex\) is, or"):
        gpuprop.minimize(lambda x: np.sum(x**2), np.ones(3), jac=lambda x: 2j * x)
