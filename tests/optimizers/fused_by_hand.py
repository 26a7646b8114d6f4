"""Fused steps by whole arrays: the gradient, a step of the optimizer without lines, and what follows it.

Complex numbers are two parts each, as in lines that see no modulus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import gpuprop
from gpuprop.optimizers.options import Options

NUMPY = gpuprop.select_backend("numpy")


class Example(NamedTuple):
    """Lines, and what they say in NumPy: of x, an array and the scalars in the computing dtype."""

    lines: dict[str, Any]
    gradient: Callable[..., Any]
    after: Callable[..., Any] = lambda new, x, y, **scalars: new
    value: Callable[..., Any] = lambda x, y, **scalars: x * x
    scalars: Mapping[str, float] = MappingProxyType({})

    def fuse(self, optimizer: Options, value: bool = False) -> Any:
        lines = self.lines if value else {name: text for name, text in self.lines.items() if name != "value"}
        return optimizer.fuse(**lines)

    def data(self, y: Any) -> Any:
        return dict.fromkeys(self.lines.get("reads", ()), y)


def _total_variation(x: Any, y: Any, lam: Any, delta: Any) -> Any:
    return y + lam * x / np.sqrt(x * x + delta)


def _threshold(new: Any, x: Any, y: Any, t: Any) -> Any:
    return np.where(new > t, new - t, np.where(new < -t, new + t, np.zeros_like(new)))


EXAMPLES = {
    "square": Example({"before": "grad = 2 * x", "value": "x * x"}, lambda x, y: x.dtype.type(2) * x),
    "regulariser": Example(
        {
            "before": "grad = y + lam * x / sqrt(x * x + delta)",
            "reads": ("y",),
            "scalars": ("lam", "delta"),
            "value": "y * x",
        },
        _total_variation,
        value=lambda x, y, **_: y * x,
        scalars={"lam": 0.3, "delta": 0.01},
    ),
    "proximal": Example(
        {
            "before": "off = x - y\ngrad = 2 * off",
            "after": "x = where(x > t, x - t, where(x < -t, x + t, 0))",
            "reads": ("y",),
            "scalars": ("t",),
            "value": "off * off",
        },
        lambda x, y, t: x.dtype.type(2) * (x - y),
        _threshold,
        lambda x, y, t: (x - y) * (x - y),
        {"t": 0.01},
    ),
    # What follows uses names of what came before, x as it was before the step among them.
    "gradient given": Example(
        {
            "before": "old = x\nhalf = grad / 2",
            "after": "x = old + 0.5 * (x - old)\nx += 1e-3 * half",
            "reads": ("grad",),
            "value": "half * half",
        },
        lambda x, y: y,
        lambda new, x, y: (x + x.dtype.type(0.5) * (new - x)) + x.dtype.type(1e-3) * (y / x.dtype.type(2)),
        lambda x, y: (y / x.dtype.type(2)) * (y / x.dtype.type(2)),
    ),
    # Names that options, rules and what is made of lines have themselves.
    "collisions": Example(
        {
            "before": """
                g_ = g * x + total
                square_average = sqrt(g_ * g_ + epsilon)
                value = rho * square_average
                grad = g_ + correction * value
            """,
            "after": "x = x - shrink * square_average",
            "reads": ("g",),
            "scalars": ("total", "epsilon", "rho", "correction", "shrink"),
            "value": "value + g",
        },
        lambda x, y, total, epsilon, rho, correction, shrink: (
            (y * x + total) + correction * (rho * np.sqrt((y * x + total) * (y * x + total) + epsilon))
        ),
        lambda new, x, y, total, epsilon, rho, correction, shrink: (
            new - shrink * np.sqrt((y * x + total) * (y * x + total) + epsilon)
        ),
        lambda x, y, total, epsilon, rho, correction, shrink: (
            rho * np.sqrt((y * x + total) * (y * x + total) + epsilon) + y
        ),
        {"total": 0.5, "epsilon": 0.25, "rho": 0.125, "correction": -0.75, "shrink": 0.01},
    ),
}


class ByHand:
    """Steps in NumPy by an optimizer without lines, and then what follows; bounds and averages come behind.

    In 16 bits a gradient that is never written is not rounded: this is for the others.
    """

    def __init__(self, optimizer: Options, example: Example, x: Any) -> None:
        self.bounds, self.average = None, None
        if "after" in example.lines:
            self.bounds, self.decay = optimizer.bounds, optimizer.parameter_average
            self.average = None if self.decay is None else x.copy()
            optimizer = optimizer._replaced(parameter_average=None, bounds=None)
        self.example, self.state = example, optimizer.init(x, backend=NUMPY)
        self.optimizer, self.x = optimizer, x

    def step(self, y: Any, scalars: Mapping[str, float] | None = None) -> float:
        """What is summed, of x before it."""
        real, x = self.x.real.dtype.type, parts(self.x)
        scalars = self.example.scalars if scalars is None else scalars
        numbers = {name: real(number) for name, number in scalars.items()}
        old, y = x.copy(), parts(y, self.x)
        gradient = self.example.gradient(old, y, **numbers)
        value = float(np.sum(self.example.value(old, y, **numbers), dtype=np.float64))
        self.optimizer.step(self.x, gradient.reshape(-1).view(self.x.dtype).reshape(self.x.shape), self.state)
        x[...] = self.example.after(x, old, y, **numbers)
        if self.bounds is not None:
            lower, upper = (real(b) if isinstance(b, float) else parts(b) for b in self.bounds)
            x[...] = np.where(x < lower, lower, np.where(x > upper, upper, x))
        if self.average is not None:
            self.average[...] = real(self.decay) * self.average + real(1 - self.decay) * self.x
        return value

    def content(self) -> dict[str, Any]:
        average = {} if self.average is None else {"parameter_average": self.average}
        return {"x": self.x, **self.state.arrays, **average}


def parts(array: Any, beside: Any = None) -> Any:
    """The real and imaginary parts on one more axis, of length 1 for what is real beside complex numbers."""
    if array.dtype.kind == "c":
        return array[..., None].view(array.real.dtype)
    return array[..., None] if beside is not None and beside.dtype.kind == "c" else array


def content(x: Any, state: Any) -> dict[str, Any]:
    """x and the arrays of its state, on the host."""
    return {name: state.backend.to_host(array).copy() for name, array in {"x": x, **state.arrays}.items()}


def assert_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Bit for bit, but for the sign of zeros."""
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name, strict=True)
