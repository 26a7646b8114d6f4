"""Central differences of a function beside its gradient, and how far each can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gpuprop.arguments import number
from gpuprop.backends.checks import as_real
from gpuprop.driver.arrays import adopted, read
from gpuprop.driver.functions.objective import Objective

#: Factors of the step, tried one after another until one tells right from wrong.
_FACTORS = (1.0, 0.1, 10.0, 0.01, 100.0, 1e-3, 1e-4)
#: Roundings of f, in its last place, that a difference may hold.
_ROUNDINGS = 10
#: The share of the gradient's size below which an error must be for a comparison to tell.
_TELLING = 0.01
#: Wrong components that are looked for.
MOST_NAMED = 5


@dataclass(frozen=True)
class WrongComponent:
    """A component in which gradient and differences disagree.

    Attributes
    ----------
    index : tuple of int
        Its place in x.
    part : {"", "real part", "imaginary part"}
        Of complex x, which.
    given, measured : float
        The gradient's value, and that of central differences.
    """

    index: tuple[int, ...]
    part: str
    given: float
    measured: float

    def __str__(self) -> str:
        place = self.index[0] if len(self.index) == 1 else self.index
        part = f", {self.part}," if self.part else ""
        differences = "" if math.isnan(self.measured) else f" and differences give {self.measured + 0.0:.6g}"
        return f"component {place}{part} is {self.given + 0.0:.6g}{differences}"


class Difference(NamedTuple):
    """f(x + d) - f(x - d), what the gradient claims it is, and what both can be held against."""

    measured: float
    claimed: float
    size: float  # of the gradient's terms, as a Euclidean norm
    noise: float  # what rounding f makes of it
    moved: float  # sum of all distances
    least: float  # of them: 0 where a component has been lost in the rounding of x


class Comparison(NamedTuple):
    agrees: bool | None  # None: cannot tell
    error: float
    relative: float


class Differences:
    """Central differences of a function, beside its gradient, on the parameters as real numbers."""

    def __init__(self, objective: Objective, x: Any, backend: Any, step: Any, rtol: float | None) -> None:
        self._objective, self._x, self._backend = objective, x, backend
        self._xp = xp = backend.xp
        given = None if step is None else _steps_like(x, adopted(backend, "step", step), xp)
        real = as_real(backend, x).reshape(-1)
        self.n = real.size
        value = objective.value(x.copy())  # first: the gradient may need what it leaves behind
        self._gradient = as_real(backend, objective.gradient(x.copy())).reshape(-1).astype(xp.float64)
        objective.forget()
        self._epsilon = max(_epsilon(real.dtype), _epsilon(value.dtype))
        self._step = self._own_step(real)
        if self._epsilon < _epsilon(np.dtype("float32")) and self._is_narrow():
            self._epsilon = _epsilon(np.dtype("float32"))
            self._step = self._own_step(real)
        self._rtol = self._epsilon**0.4 if rtol is None else number("rtol", rtol)
        if given is not None:
            # For both parts of complex parameters.
            parts = xp.ones((*x.shape, 2) if x.dtype.kind == "c" else x.shape)
            self._step = (parts * (given[..., None] if x.dtype.kind == "c" else given)).reshape(-1)
        (self._typical,) = read([2 * xp.sqrt(xp.mean((self._gradient * self._step) ** 2))], xp)

    def _own_step(self, real: Any) -> Any:
        xp = self._xp
        wide = real.astype(xp.float64)
        (rms,) = read([xp.sqrt(xp.mean(wide * wide))], xp)
        return self._epsilon ** (1 / 3) * xp.maximum(abs(wide), rms or 1.0)

    def _is_narrow(self) -> bool:
        """Whether f is a float32 made wider, as told by its value at a point that is not round."""
        point = self._point(self.like(np.ones(self.n, "int8")), slice(None), 1.0)
        with np.errstate(all="ignore"):
            (value,) = read([self._objective.at(point)], self._xp)
            return float(np.float32(value)) == value

    def like(self, signs: np.ndarray) -> Any:
        return self._xp.asarray(signs)

    def first_nonfinite(self) -> int | None:
        finite = self._xp.isfinite(self._gradient)
        return None if bool(finite.all()) else int(finite.argmin())

    def compare(self, signs: Any, part: slice) -> Comparison:
        """Whether gradient and differences agree along `signs` in this part of the components."""
        seen: list[tuple[float, float]] = []
        disagreements = 0
        for factor in _FACTORS:
            with np.errstate(all="ignore"):  # a step may leave the domain of f: then another is tried
                one, two = [self._difference(signs, part, multiple * factor) for multiple in (1, 2)]
            error, error_of_two = one.measured - one.claimed, two.measured - two.claimed
            if not math.isfinite(error) or not math.isfinite(error_of_two) or not one.least > 0:
                continue
            curvature = abs(error_of_two - 2 * error)  # six times what it is in `error`
            size = max(one.size, abs(one.measured))
            tolerance = self._rtol * size + one.noise + curvature
            reference = max(size, factor * self._typical)
            seen.append((abs(error) / factor, abs(error) / reference if reference else 0.0))
            if abs(error) > tolerance:
                disagreements += 1
                if disagreements == 2:
                    return Comparison(False, *seen[-1])
            elif tolerance <= max(_TELLING, 2 * self._rtol) * reference:
                return Comparison(True, *seen[-1])
        return Comparison(None, *(seen[0] if seen else (0.0, 0.0)))

    def search(self, signs: Any, part: slice, found: list[WrongComponent]) -> None:
        """Add wrong components among this part, which is known to disagree."""
        if part.stop - part.start == 1:
            found.append(self.component(part.start))
            return
        middle = (part.start + part.stop) // 2
        halves = [slice(part.start, middle), slice(middle, part.stop)]
        comparisons = [self.compare(signs, half) for half in halves]
        wrong = [h for h, c in zip(halves, comparisons, strict=True) if c.agrees is False]
        for half in wrong or [halves[comparisons[1].error > comparisons[0].error]]:
            if len(found) < MOST_NAMED:
                self.search(signs, half, found)

    def component(self, i: int, measure: bool = True) -> WrongComponent:
        measured = math.nan
        if measure:
            ones = self.like(np.ones(self.n, "int8"))
            difference = self._difference(ones, slice(i, i + 1), 1.0)
            measured = difference.measured / difference.moved
        part = ""
        if self._x.dtype.kind == "c":
            part = ("real part", "imaginary part")[i % 2]
        place = np.unravel_index(i // 2 if part else i, self._x.shape)
        return WrongComponent(tuple(map(int, place)), part, float(self._gradient[i]), measured)

    def _point(self, signs: Any, part: slice, factor: float) -> Any:
        point = self._x.copy()
        real = as_real(self._backend, point).reshape(-1)  # a view: the copy is in C order
        real[part] += (factor * self._step[part] * signs[part]).astype(real.dtype)
        return point

    def _difference(self, signs: Any, part: slice, factor: float) -> Difference:
        xp = self._xp
        points = [self._point(signs, part, direction) for direction in (factor, -factor)]
        plus, minus = (as_real(self._backend, point).reshape(-1)[part].astype(xp.float64) for point in points)
        moved = plus - minus  # which rounding makes a little more or less
        terms = self._gradient[part] * moved
        sums = [terms.sum(), xp.sqrt((terms * terms).sum()), abs(moved).sum(), abs(moved).min()]
        values = [self._objective.at(point) for point in points]
        above, below, claimed, size, distance, least = read([*values, *sums], xp)
        noise = _ROUNDINGS * self._epsilon * max(abs(above), abs(below))
        return Difference(above - below, claimed, size, noise, distance, least)


def _steps_like(x: Any, step: Any, xp: Any) -> Any:
    try:
        given = xp.asarray(step, xp.float64)
    except (TypeError, ValueError):
        given = xp.asarray(math.nan)
    if given.shape not in ((), x.shape) or not bool(((given > 0) & (given < math.inf)).all()):
        raise ValueError(f"step is {step!r}; it must be a number or an array like x, finite and above 0")
    return given


def _epsilon(dtype: Any) -> float:
    """Of a dtype of floats; other numbers do not round."""
    if dtype.kind in "iub":
        return 0.0
    if dtype.kind == "V":  # bfloat16, of which NumPy knows nothing
        return 2.0**-7
    return float(np.finfo(dtype).eps)
