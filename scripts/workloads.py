"""What the contenders of the benchmark work on: arrays of a size and dtype, and a variant of RMSProp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import gpuprop
from gpuprop.measure import bandwidth

DTYPES = ["float32", "float64", "float16", "bfloat16", "complex64", "complex128"]
#: Of an array of rates.
VARIANTS: dict[str, Any] = {
    "plain": lambda rates: gpuprop.RMSProp(),
    "momentum": lambda rates: gpuprop.RMSProp(momentum=0.9),
    # A constant gradient has no variance: so slow an average has not forgotten its start by then.
    "centered": lambda rates: gpuprop.RMSProp(rho=0.9999, centered=True),
    "momentum+centered": lambda rates: gpuprop.RMSProp(rho=0.9999, momentum=0.9, centered=True),
    "modulus": lambda rates: gpuprop.RMSProp(second_moment="modulus"),
    "rates": lambda rates: gpuprop.RMSProp(rates),
    "found": lambda rates: gpuprop.RMSProp("auto", momentum=0.9),
    "average": lambda rates: gpuprop.RMSProp(parameter_average=0.999),
    # So slow that x keeps its size.
    "fused": lambda rates: gpuprop.RMSProp(1e-6).fuse("grad = 2 * x"),
}
#: Those of complex parameters, whose parts have the dtype.
COMPLEX = {"modulus"}


@dataclass
class Problem:
    """The arrays that the contenders share: same shape, same dtype, on one device."""

    backend: gpuprop.Backend
    optimizer: gpuprop.RMSProp
    grad: Any
    x: Any
    made: gpuprop.State
    fused: gpuprop.Fused | None = None  # makes the gradient, 2 x, in the step: `grad` is for those who cannot

    @property
    def rule(self) -> gpuprop.Rule:
        return (self.fused or self.optimizer).rule

    @property
    def state(self) -> dict[str, Any]:
        """The optimizer's arrays, by their names in its state."""
        return {name: getattr(self.made, name) for name in self.optimizer.rule.writes[1:]}

    def start(self) -> None:
        """Ordinary numbers: the mean square is above the squared mean, so that there is a variance."""
        self.x[...] = 1
        for name, array in self.state.items():
            array[...] = 2 if "square" in name else 1


def element_of(variant: str, dtype: str) -> np.dtype:
    if dtype == "bfloat16":
        import ml_dtypes  # noqa: F401 - NumPy knows it by that

    return np.result_type(dtype, "complex64") if variant in COMPLEX else np.dtype(dtype)


def rule_and_bytes(variant: str, element: np.dtype) -> tuple[gpuprop.Rule, int]:
    """The rule, and what a step moves for each parameter."""
    rule = VARIANTS[variant](np.ones(2)).rule
    is_complex = element.kind == "c"
    return rule, bandwidth.bytes_per_parameter(rule, element.itemsize // (1 + is_complex), is_complex)


def problem_of(backend: gpuprop.Backend, variant: str, size: int, element: np.dtype) -> Problem:
    xp = backend.xp
    grad = xp.empty(size, element)
    # Gradients away from zero keep every contender's numbers ordinary: no denormals, no NaN.
    for first in range(0, size, 2**20):  # in pieces, as nothing but the arrays may have to fit
        piece = grad[first : first + 2**20]
        piece[...] = xp.linspace(0.5, 1.5, piece.size) * (1 + 1j if element.kind == "c" else 1)
    rates = xp.linspace(0.05, 0.15, size, dtype=grad.real.dtype) if variant == "rates" else None
    optimizer, fused = VARIANTS[variant](rates), None
    if isinstance(optimizer, gpuprop.Fused):
        optimizer, fused = optimizer.optimizer, optimizer
    x = xp.empty_like(grad)
    x[...] = 1
    return Problem(backend, optimizer, grad, x, optimizer.init(x, backend=backend), fused)
