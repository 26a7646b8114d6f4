"""Arrays that are not what they seem: of other libraries, byte orders, classes and masks."""

import dataclasses
from functools import partial

import numpy as np
import pytest

import gpuprop
from gpuprop import AdaGrad, Adam, RMSProp

HOSTS = [pytest.param(name, id=name) for name in ("cpu", "numpy")]


@pytest.fixture(params=HOSTS)
def host(request):
    return gpuprop.select_backend(request.param)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def step(x, grad, **options):
    optimizer = RMSProp(**options)
    optimizer.step(x, grad, optimizer.init(x))


def entries(tmp_path, good, good_grad):
    """Each place that takes an array, as a function of it."""
    state = RMSProp().init(good.copy() if isinstance(good, np.ndarray) else good.clone())
    return {
        "x of init": RMSProp().init,
        "x of step": lambda a: RMSProp().step(a, good_grad, state),
        "grad": lambda a: RMSProp().step(good, a, state),
        "bound": lambda a: step(good, good_grad, bounds=(a, np.inf)),
        "pack": lambda a: gpuprop.pack([a, a]),
        "save": lambda a: state.save(tmp_path / "file", x=a),
        "x0": lambda a: gpuprop.minimize(None, a, jac=lambda x: x),
        "jac": lambda a: gpuprop.minimize(None, good, jac=lambda x: a),
        "fun": lambda a: gpuprop.minimize(lambda x: a[:1], good, jac=lambda x: good_grad),
        "bounds of minimize": lambda a: gpuprop.minimize(
            None, good, jac=lambda x: x, bounds=_bounds(a, np.inf)
        ),
        "check_gradient": lambda a: gpuprop.check_gradient(lambda x: x.sum(), lambda x: x, a),
    }


def _bounds(*sides):
    """As scipy.optimize.Bounds, which would make NumPy's arrays of them."""
    return type("Bounds", (), dict(zip(("lb", "ub"), sides, strict=True)))


PLACES = list(entries(None, np.ones(3), np.ones(3)))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("bit", ["negative", "conjugate", "gradient"])
def test_a_tensor_that_stands_for_something_else_than_its_memory_is_refused(torch, tmp_path, place, bit):
    if bit == "negative":
        a = torch.tensor([1 + 2j, 3 - 4j, 5j], dtype=torch.complex128).conj().imag
        assert a.is_neg()
    elif bit == "conjugate":
        a = torch.tensor([1 + 2j, 3 - 4j, 5j], dtype=torch.complex128).conj()
    else:
        a = torch.ones(3, dtype=torch.float64, requires_grad=True)
    good = torch.ones(3, dtype=torch.float64)
    before = a.tolist()
    entry = entries(tmp_path, good, good.clone())[place]
    with pytest.raises(TypeError, match=r"resolve_neg|resolve_conj|detach|negative|conjugate|requires grad"):
        entry(a)
    assert a.tolist() == before
    assert good.tolist() == [1, 1, 1]


@pytest.mark.parametrize("place", PLACES)
def test_a_masked_array_is_refused_everywhere(tmp_path, place):
    masked = np.ma.masked_array([1.0, 2.0, 3.0], [True, False, False])
    good = np.ones(3)
    entry = entries(tmp_path, good, np.ones(3))[place]
    with pytest.raises(TypeError, match="mask"):
        entry(masked)
    assert masked.data.tolist() == [1, 2, 3]
    assert good.tolist() == [1, 1, 1]


@pytest.mark.parametrize("which", ["x", "grad", "square_average"])
@pytest.mark.parametrize("shape", [(7,), (2, 3)])
def test_a_foreign_byte_order_is_refused_whatever_numba_has_seen(host, which, shape):
    # Once Numba's dispatcher has seen an unaligned vector, it takes what is not native for native.
    memory = np.zeros(8 * 7 + 1, np.uint8)
    optimizer, unaligned = RMSProp(), memory[1:].view(np.float64)
    good, other = np.ones(7), np.ones(7)
    state = optimizer.init(good, backend=host)
    optimizer.step(good, other, state)
    with pytest.raises(ValueError, match="not aligned"):
        optimizer.step(unaligned, other, state)
    arrays = {"x": np.ones(shape), "grad": np.ones(shape)}
    state = optimizer.init(arrays["x"], backend=host)
    optimizer.step(arrays["x"], arrays["grad"], state)
    arrays["square_average"] = state.square_average
    before = {name: array.copy() for name, array in arrays.items()}
    arrays[which] = arrays[which].astype(">f8")
    state.square_average = arrays["square_average"]
    with pytest.raises(TypeError, match=f"{which} has dtype >f8; it must be .* in native byte order"):
        optimizer.step(arrays["x"], arrays["grad"], state)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


class Refusing(np.ndarray):
    """As units and labelled arrays are: arithmetic with it is its own affair."""

    def __array_ufunc__(self, *_, **__):
        raise AssertionError("the arithmetic of a subclass was asked")


@pytest.mark.parametrize("kind", [Refusing, np.matrix, np.memmap, np.recarray])
def test_a_subclass_is_the_array_that_it_is_a_view_of(host, kind):
    start, grad = np.arange(1.0, 5).reshape(2, 2), np.array([[1.0, -2], [3, 4]])
    results = []
    for view in (lambda a: a, lambda a: a.view(kind)):
        x, g = view(start.copy()), view(grad.copy())
        optimizer = RMSProp(clip_norm=2.0, bounds=(view(np.full((2, 2), -9.0)), 9))
        state = optimizer.init(x, backend=host)
        for _ in range(3):
            optimizer.step(x, g, state)
        state.square_average = view(state.square_average)
        optimizer.step(x, g, state)
        results.append(np.asarray(x).tolist())
        flat, (part, _) = gpuprop.pack([x, g])
        assert flat.shape == (8,)
        assert part.tolist() == np.asarray(x).tolist()
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "make", [RMSProp.optax, *(partial(kind, second_moment="modulus") for kind in (RMSProp, Adam, AdaGrad))]
)
def test_one_moment_for_both_parts_is_not_taken_for_one_of_each(backend, make):
    optimizer = make(0.1)
    assert optimizer.second_moment == "modulus"
    real, x = backend.asarray(np.ones(3)), backend.asarray(np.ones(3, complex))
    optimizer.step(real, real.copy(), optimizer.init(real, backend=backend))
    parts = type(optimizer)(0.1)
    for one, other in ((parts, optimizer), (optimizer, parts)):
        state = one.init(x, backend=backend)
        with pytest.raises(TypeError, match=r"square_(average|sum) has dtype .* must be (real|the same)"):
            other.step(x, x.copy(), state)
    assert (backend.to_host(x) == 1).all()
    with pytest.raises(ValueError, match="second_moment is 'both'; it must be one of 'parts', 'modulus'"):
        type(optimizer)(0.1, second_moment="both")


def test_a_torch_step_is_that_of_its_numpy_view(torch):
    # Also with versions of NumPy and torch whose DLPack gives what is read-only.
    x = torch.linspace(1, 2, 5)
    view, mine = x.numpy(), x.numpy().copy()
    x.__dlpack__ = None
    optimizer = RMSProp(momentum=0.5)
    state, other = optimizer.init(x), optimizer.init(mine)
    for _ in range(3):
        optimizer.step(x, 2 * x, state)
        optimizer.step(mine, 2 * mine, other)
    np.testing.assert_array_equal(view, mine)


@pytest.mark.parametrize(
    "x", [[1.0, 2.0], None, 3.0, (1.0,), "text", np.float64(2), {"x": 1}, object(), np.ones]
)
@pytest.mark.parametrize("make", [RMSProp, gpuprop.SGD])
@pytest.mark.parametrize(
    "options",
    [{}, {"clip_norm": 1.0}, {"nonfinite": "raise"}, {"clip_norm": 1.0, "nonfinite": "skip"}],
    ids=["plain", "clip", "raise", "both"],
)
def test_what_is_no_array_is_a_type_error_with_a_sentence(backend, make, x, options):
    optimizer = make(**options)
    good, grad = backend.asarray(np.ones(2)), backend.asarray(np.ones(2))
    state = optimizer.init(good, backend=backend)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"^x is an? .*; it must be"):
            optimizer.step(x, grad, state)
        optimizer.step(good, grad, state)  # compiles
    other = dataclasses.replace(optimizer, learning_rate=0.2)
    with pytest.raises(TypeError, match=r"^x is an? .*; it must be"):
        other.step(x, grad, state)
    with pytest.raises(TypeError, match=r"^x is an? .*; it must be"):
        optimizer.init(x, backend=backend)
    with pytest.raises(TypeError, match=r"^grad is an? .*; it must be"):
        optimizer.step(good, x, state)
    assert state.step == 2


def test_a_state_with_an_array_that_is_none_is_not_saved(backend, tmp_path):
    x = backend.asarray(np.ones(2))
    state = RMSProp().init(x, backend=backend)
    for wrong in (np.ma.array([1.0, 2], mask=[0, 1]), None, "text"):
        state.square_average = wrong
        with pytest.raises(TypeError, match=r"square_average (is a masked array|has dtype)"):
            state.save(tmp_path / "state")
    del state.square_average
    assert "square_average=None" in repr(state)
    with pytest.raises(TypeError, match="square_average has dtype object"):
        state.save(tmp_path / "state")
    assert not list(tmp_path.iterdir())


def test_init_of_an_optimizer_without_a_state_names_x():
    with pytest.raises(TypeError, match=r"^x has dtype int64"):
        gpuprop.SGD().init(np.arange(3))
    read_only = np.ones(3)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match=r"^x is read-only"):
        gpuprop.SGD().init(read_only)


@pytest.mark.parametrize("role", ["x", "grad"])
def test_an_array_of_jax_is_a_gradient_and_never_written(host, role):
    jax = pytest.importorskip("jax", reason="jax is not installed: python -m pip install jax")
    x = np.ones(3, "float32")
    with jax.default_device(jax.devices("cpu")[0]):
        theirs = jax.numpy.full(3, 2.0)
    state = RMSProp().init(x, backend=host)
    if role == "grad":
        RMSProp().step(x, theirs, state)
        assert (x < 1).all()
    else:
        with pytest.raises(TypeError, match="JAX counts on its arrays not to change"):
            RMSProp().init(theirs, backend=host)
        with pytest.raises((TypeError, ValueError), match=r"not to change|read-only"):
            RMSProp().step(theirs, x, state)
    assert theirs.tolist() == [2, 2, 2]
