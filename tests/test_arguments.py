"""Numbers as other libraries give them: in arrays of one element."""

from dataclasses import fields
from fractions import Fraction

import numpy as np
import pytest

import gpuprop
from gpuprop import schedules

FAMILY = [gpuprop.RMSProp, gpuprop.SGD, gpuprop.AdaGrad, gpuprop.Adam, gpuprop.AdamW]


class Foreign:
    """An array of a library that is not known, such as JAX: NumPy may look at it."""

    def __init__(self, values):
        self._values = np.asarray(values)
        self.shape, self.dtype = self._values.shape, self._values.dtype

    def __array__(self, dtype=None, copy=None):
        return self._values if dtype is None else self._values.astype(dtype)


def bfloat16(value):
    return np.array(value, pytest.importorskip("ml_dtypes").bfloat16)


def on_a_gpu(value):
    return pytest.importorskip("cupy").array([value])


def of_torch(value):
    return pytest.importorskip("torch").tensor(value)


def negated(value):
    """The sign is a bit of the tensor, and not in its memory."""
    return pytest.importorskip("torch").tensor([complex(0, -value)]).conj().imag


def recording(value):
    return of_torch([value]).requires_grad_()


def of_jax(value):
    return pytest.importorskip("jax").numpy.asarray(value)


#: Each holds one number.
HOLDERS = [
    np.float32, Fraction, np.array, lambda value: np.array([value]), lambda value: np.array([[value]], "f2"),
    lambda value: np.array(value, "longdouble"), lambda value: np.array([value], object), np.ma.array,
    Foreign, bfloat16, lambda value: bfloat16(value)[()], of_torch, negated, recording, of_jax,
    pytest.param(on_a_gpu, marks=pytest.mark.gpu),
]  # fmt: skip
#: None holds one real number.
WRONG = [
    None, "1", "0.1", True, 1j, [0.5], np.True_, np.bool_([True]), np.array("1"), np.array(0.5j), np.ones(2),
    np.ones((30, 30)), np.ones(0), np.ma.masked, np.ma.array([0.5], mask=True), np.datetime64(1, "ns"),
    np.timedelta64(1, "s"), np.timedelta64(1, "ns"), np.zeros(1, "f4, f4"), np.float64, Foreign([1.0, 2.0]),
]  # fmt: skip


def numbers(kind):
    return [f.name for f in fields(kind) if isinstance(f.default, float)] + ["clip_value", "clip_norm"]


@pytest.mark.parametrize("hold", HOLDERS)
def test_an_array_of_one_element_is_the_number_that_it_holds(hold):
    for kind in FAMILY:
        for name in numbers(kind):
            optimizer = kind(**{name: hold(0.5)})
            assert optimizer == kind(**{name: 0.5})
            assert type(getattr(optimizer, name)) is float
    line = schedules.linear_schedule(hold(0.5), 1.0, hold(4.0), hold(2.0))
    assert line == schedules.linear_schedule(0.5, 1.0, 4, 2)
    assert list(map(type, vars(line).values())) == [float, float, int, int]


@pytest.mark.parametrize("hold", HOLDERS)
def test_a_schedule_may_give_its_rate_in_an_array(hold):
    adagrad = gpuprop.AdaGrad().rule
    makers = [
        lambda rate: gpuprop.RMSProp(rate),
        lambda rate: gpuprop.RMSProp(schedules.join_schedules([rate, rate], [2])),
        lambda rate: gpuprop.RuleOptimizer(
            adagrad, **dict.fromkeys(adagrad.scalars, 0.5) | {"epsilon": rate}
        ),
    ]
    for make in makers:
        points = []
        for rate in (lambda step: 1 / 2**step, lambda step: hold(1 / 2**step)):
            optimizer, x = make(rate), np.ones(3)
            state = optimizer.init(x)
            for _ in range(4):
                optimizer.step(x, x, state)
            points.append(x)
        np.testing.assert_array_equal(*points)
    joined = schedules.join_schedules([lambda step: hold(1 / 2**step)], [])
    np.testing.assert_array_equal(joined(np.arange(5)), [1, 0.5, 0.25, 0.125, 0.0625])


def is_of_several(value):
    """Which may be rates, each of its own parameter."""
    return hasattr(value, "dtype") and bool(getattr(value, "shape", ())) and np.prod(value.shape) != 1


@pytest.mark.parametrize("value", WRONG)
def test_what_holds_no_real_number_is_refused_in_one_line(value):
    entries = [
        (name, lambda value, kind=kind, name=name: kind(**{name: value}))
        for kind in FAMILY
        for name in numbers(kind)
        if not (callable(value) and name == "learning_rate")
        if not (value is None and name in ("clip_value", "clip_norm"))
        if not (is_of_several(value) and name in ("learning_rate", "weight_decay"))
    ]
    entries.append(("value", schedules.constant_schedule))
    for name, enter in entries:
        more = ', "auto", a schedule, or an array of rates' if name == "learning_rate" else ""
        with pytest.raises(TypeError, match=rf"^{name} is .+; it must be a real number{more}$") as caught:
            enter(value)
        assert "\n" not in str(caught.value)
    x = np.ones(2)
    optimizer = gpuprop.RMSProp(lambda step: value)
    state = optimizer.init(x)
    with pytest.raises(TypeError, match=r"^learning_rate\(0\) is .+; it must be a real number$"):
        optimizer.step(x, x, state)
    assert (x.tolist(), state.step) == ([1, 1], 0)


@pytest.mark.parametrize("hold", [np.array, Foreign])
def test_a_number_without_dimensions_bounds_all_of_x(hold):
    assert gpuprop.SGD(bounds=(hold(-1.0), hold(1.0))).bounds == (-1.0, 1.0)
    with pytest.raises(ValueError, match=r"the upper bound is .*; it must be a number"):
        gpuprop.SGD(bounds=(0, hold(np.nan)))


def test_a_number_out_of_range_is_refused_also_in_an_array():
    for value in (np.array([-1.0]), np.array(np.inf), np.ma.array([-1.0])):
        with pytest.raises(ValueError, match=r"^learning_rate is .+; it must be finite and at least 0$"):
            gpuprop.RMSProp(value)


@pytest.mark.parametrize("hold", [np.array, lambda value: np.array([value]), Foreign])
@pytest.mark.parametrize("make", [gpuprop.RMSProp, gpuprop.RMSProp.optax, gpuprop.RMSProp.keras])
def test_a_schedule_may_give_an_array_of_one_number(make, hold):
    ends = []
    for rate in (0.1, hold(0.1), lambda step: hold(0.1)):
        x, optimizer = np.ones(3), make(rate)
        state = optimizer.init(x)
        for _ in range(2):
            optimizer.step(x, x.copy(), state)
        ends.append(x.tolist())
    assert ends[0] == ends[1] == ends[2]
    several = make(lambda step: hold([0.1, 0.2]))
    with pytest.raises(TypeError, match="must be a real number"):
        several.step(x, x.copy(), several.init(x))
