"""What `compare_rates.py` descends on. To add one: a subclass of `Problem`, in `PROBLEMS`.

Each is small enough that a thousand gradients take a second, and differs from the others in size, in
scale, in curvature, or in what its gradient is of. All is in NumPy and in float64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import deblur
import numpy as np
from scipy import optimize

import gpuprop


class Problem(ABC):
    """A function of an array, and where descents on it start."""

    title: str
    start: np.ndarray
    known_minimum: float | None = 0.0  # None: L-BFGS looks for it

    @abstractmethod
    def value(self, x: np.ndarray) -> float: ...

    @abstractmethod
    def gradient(self, x: np.ndarray) -> np.ndarray:
        """Of complex x: the derivative by the real part, and i times that by the imaginary one."""

    def gradient_of_a_run(self, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        """What a descent is given, which may be of other data at each call."""
        return self.gradient

    def start_of_a_run(self, seed: int) -> np.ndarray:
        """The start; for a seed that is not 0, moved by 2% of its size, or of 1 where it is 0."""
        if not seed:
            return self.start.copy()
        random, size = np.random.default_rng(seed), np.sqrt(np.mean(abs(self.start) ** 2)) or 1.0
        parts = random.normal(0, 0.02 * size, (*self.start.shape, self.start.itemsize // 8))
        return self.start + parts.view(self.start.dtype)[..., 0]

    def minimum(self) -> float:
        """The least value known: of theory, or what L-BFGS reaches from the start."""
        if self.known_minimum is not None:
            return self.known_minimum
        shape, dtype = self.start.shape, self.start.dtype

        def fun(parts: np.ndarray) -> tuple[float, np.ndarray]:
            x = parts.view(dtype).reshape(shape)
            return self.value(x), self.gradient(x).reshape(-1).view(float)

        options = {"maxiter": 5000, "maxfun": 10_000, "maxcor": 30, "ftol": 1e-15, "gtol": 1e-10}
        first = self.start.reshape(-1).view(float)
        return float(optimize.minimize(fun, first, jac=True, method="L-BFGS-B", options=options).fun)


class Quadratic(Problem):
    title = "ill-scaled quadratic"
    curvature = np.array([1.0, 1000.0])

    def __init__(self) -> None:
        self.start = np.array([5.0, 4.0])

    def value(self, x: np.ndarray) -> float:
        return self.curvature @ (x * x) / 2

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return self.curvature * x


class Rosenbrock(Problem):
    """The chained function, from its usual start."""

    def __init__(self, n: int) -> None:
        self.title, self.start = f"Rosenbrock, {n:,}", np.tile([-1.2, 1.0], n // 2)
        self.work = np.empty((2, n))  # fresh memory would take most of the time

    def value(self, x: np.ndarray) -> float:
        return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))

    def gradient(self, x: np.ndarray) -> np.ndarray:
        first, (gradient, slope) = x[:-1], self.work
        off = gradient[1:]
        np.multiply(first, first, out=off)
        np.subtract(x[1:], off, out=off)
        off *= 200
        np.multiply(off, first, out=slope[1:])
        slope[1:] -= first
        slope[1:] += 1
        slope *= -2
        gradient[0] = 0
        gradient[:-1] += slope[1:]
        return gradient


class Logistic(Problem):
    """Logistic regression on the breast cancer data that scikit-learn ships, L2 0.001.

    Each gradient of a run is of `batch` other rows, or of all; the value is always of all.
    """

    def __init__(self, batch: int | None = None) -> None:
        from objectives import Logistic

        self.data, self.batch = Logistic(gpuprop.select_backend("numpy")), batch
        self.title = f"logistic, batches of {batch}" if batch else "logistic regression"
        self.known_minimum = self.data.minimum  # of a Newton solver
        self.start = np.zeros(self.data.rows.shape[1])

    def value(self, x: np.ndarray) -> float:
        return float(self.data.value(x))

    def gradient(self, x: np.ndarray, some: Any = slice(None)) -> np.ndarray:
        rows = self.data.rows[some]
        weight = (1 - np.tanh(rows @ x / 2)) / 2
        return self.data.weight_decay * x - weight @ rows / len(rows)

    def gradient_of_a_run(self, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        if not self.batch:
            return self.gradient
        random, order = np.random.default_rng([seed, 0]), np.empty(0, int)

        def gradient(x: np.ndarray) -> np.ndarray:
            nonlocal order
            if len(order) < self.batch:  # the next pass; what is left over of one is left out
                order = random.permutation(len(self.data.rows))
            some, order = order[: self.batch], order[self.batch :]
            return self.gradient(x, some)

        return gradient


class Photograph(Problem):
    """A part of Matplotlib's photograph, blurred, with noise, as `deblur.py` restores all of it."""

    title, known_minimum = "photograph", None

    def __init__(self) -> None:
        truth = deblur.photograph()[60:156, 100:196]
        self.spectrum = deblur.blur_spectrum(truth.shape, length=9)
        noise = deblur.NOISE * np.random.default_rng(1).normal(size=truth.shape)
        self.start = self.measured = deblur.convolved(truth, self.spectrum) + noise

    def value(self, x: np.ndarray) -> float:
        return deblur.objective(x, self.spectrum, self.measured)[0]

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return deblur.objective(x, self.spectrum, self.measured)[1]


class Tomography(Problem):
    """A phantom from 24 views with noise, as in the gallery: misfit and total variation."""

    title, known_minimum, size, bins, views = "tomography", None, 64, 96, 24
    ellipses = """1 .69 .92 0 0 0   -.8 .66 .87 0 -.02 0   -.2 .16 .41 -.22 0 18   -.2 .11 .31 .22 0 -18
        .3 .21 .25 0 .35 0   .4 .05 .05 0 .1 0   .4 .05 .03 -.08 -.6 0"""

    def __init__(self) -> None:
        from scipy.sparse import csr_array

        n, bins, views = self.size, self.bins, self.views
        y, x = (np.mgrid[:n, :n] - (n - 1) / 2) / (n / 2)
        numbers = np.reshape(self.ellipses.split(), (-1, 6, 1, 1)).astype(float)
        density, a, b, x0, y0, degrees = numbers.swapaxes(0, 1)
        z = (x - x0 + 1j * (y - y0)) * np.exp(-1j * np.radians(degrees))
        phantom = np.sum(density * ((z.real / a) ** 2 + (z.imag / b) ** 2 <= 1), axis=0)
        view = np.arange(views)[:, None, None]
        angle = view * np.pi / views
        place = n / 2 * (x * np.cos(angle) + y * np.sin(angle)) + bins / 2
        left = np.floor(place).astype(int) + bins * view
        rows = np.concatenate([left, left + 1]).ravel()
        share = np.concatenate([1 - place % 1, place % 1]).ravel()
        pixels = np.tile(np.arange(n * n), 2 * views)
        self.beams = csr_array((share, (rows, pixels)), shape=(views * bins, n * n))
        self.back = self.beams.T.tocsr()
        noise = np.random.default_rng(0).normal(0, 0.4, views * bins)
        self.measured = self.beams @ phantom.ravel() + noise
        self.start = np.zeros((n, n))

    def value(self, x: np.ndarray) -> float:
        misfit = self.beams @ x.ravel() - self.measured
        return misfit @ misfit / 2 + deblur.total_variation(x, 0.01)[0]

    def gradient(self, x: np.ndarray) -> np.ndarray:
        misfit = self.beams @ x.ravel() - self.measured
        return (self.back @ misfit).reshape(x.shape) + deblur.total_variation(x, 0.01)[1]


class PhaseRetrieval(Problem):
    """A complex field from the moduli of its spectra behind six random phase masks."""

    title = "phase retrieval, complex"

    def __init__(self, size: int = 48, masks: int = 6) -> None:
        random = np.random.default_rng(0)
        self.masks = np.exp(2j * np.pi * random.random((masks, size, size)))
        phase = random.normal(size=(size, size))
        field = random.random((size, size)) * np.exp(1j * phase)
        self.moduli = abs(self.spectra(field))
        self.start = np.full((size, size), 0.5 + 0j)

    def spectra(self, x: np.ndarray) -> np.ndarray:
        return np.fft.fft2(self.masks * x, norm="ortho")

    def value(self, x: np.ndarray) -> float:
        return np.sum((abs(self.spectra(x)) - self.moduli) ** 2) / 2

    def gradient(self, x: np.ndarray) -> np.ndarray:
        spectra = self.spectra(x)
        length = np.maximum(abs(spectra), np.finfo(float).tiny)
        misfit = spectra * (1 - self.moduli / length)
        return np.sum(self.masks.conj() * np.fft.ifft2(misfit, norm="ortho"), axis=0)


class Factorisation(Problem):
    """A matrix of rank 5, of which 40% is known, with noise and L2 0.05."""

    title, known_minimum = "matrix factorisation", None
    rows, columns, rank, weight = 120, 80, 5, 0.05

    def __init__(self) -> None:
        random, m, n, k = np.random.default_rng(0), self.rows, self.columns, self.rank
        product = random.normal(size=(m, k)) @ random.normal(size=(k, n))
        self.matrix = product + random.normal(0, 0.1, (m, n))
        self.known = random.random((m, n)) < 0.4
        self.start = random.normal(0, 0.1, (m + n, k))

    def misfit(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        u, v = x[: self.rows], x[self.rows :]
        return self.known * (u @ v.T - self.matrix), u, v

    def value(self, x: np.ndarray) -> float:
        return np.sum(self.misfit(x)[0] ** 2) / 2 + self.weight / 2 * np.sum(x * x)

    def gradient(self, x: np.ndarray) -> np.ndarray:
        off, u, v = self.misfit(x)
        return np.concatenate([off @ v, off.T @ u]) + self.weight * x


PROBLEMS: dict[str, Callable[[], Any]] = {
    "quadratic": Quadratic,
    "rosenbrock2": lambda: Rosenbrock(2),
    "rosenbrock100": lambda: Rosenbrock(100),
    "rosenbrock1e5": lambda: Rosenbrock(100_000),
    "logistic": Logistic,
    "batches": lambda: Logistic(batch=64),
    "photograph": Photograph,
    "tomography": Tomography,
    "phase": PhaseRetrieval,
    "factorisation": Factorisation,
}
