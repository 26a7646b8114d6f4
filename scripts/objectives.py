"""What the optimizers are compared on. To add one: a subclass of `Objective`, in `OBJECTIVES`.

Independent runs go side by side: the parameters are an array of shape (runs, n). Gradients are
computed on the backend's device; values on the host, of all recorded points at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import gpuprop


class Objective(ABC):
    """A function, and how runs on it are started and judged."""

    title: str
    formula: str
    start: tuple[float, ...]
    spread: tuple[float, ...]  # standard deviation of the runs' starts about it
    target: float  # of f - f*
    minimum = 0.0  # f*
    steps, unit, runs = 1000, "steps", 25
    weight_decay = 0.0  # f has this / 2 times the squared norm of the parameters
    stochastic = False  # whether `gradients` are of mini-batches

    def __init__(self, backend: gpuprop.Backend) -> None:
        self.backend = backend

    def starts(self, random: np.random.Generator) -> np.ndarray:
        """Points of shape (runs, n)."""
        return random.normal(self.start, self.spread, (self.runs, len(self.start)))

    @abstractmethod
    def value(self, points: np.ndarray) -> np.ndarray:
        """f at points of shape (..., n)."""

    @abstractmethod
    def gradient(self, x: Any) -> Any:
        """Gradient at each row of `x`."""

    def gradients(self, random: np.random.Generator) -> Iterator[Callable[[Any], Any]]:
        """What to step along in one unit."""
        yield self.gradient


class Quadratic(Objective):
    """Its axes are those of the parameters, so that a scale for each parameter can mend it."""

    title, formula = "ill-scaled quadratic", "(x² + 1000 y²) / 2"
    start, spread, target = (5.0, 4.0), (2.0, 2.0), 1.0

    def value(self, points: np.ndarray) -> np.ndarray:
        return (points[..., 0] ** 2 + 1000 * points[..., 1] ** 2) / 2

    def gradient(self, x: Any) -> Any:
        grad = x.copy()
        grad[:, 1] *= 1000
        return grad


class Rosenbrock(Objective):
    """A curved valley with a flat floor, from its usual start; The Computer Journal 3, 1960."""

    title, formula = "Rosenbrock", "(1 - x)² + 100 (y - x²)²"
    start, spread, target = (-1.2, 1.0), (0.5, 0.5), 0.1

    def value(self, points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0], points[..., 1]
        return (1 - x) ** 2 + 100 * (y - x**2) ** 2

    def gradient(self, x: Any) -> Any:
        a, b, grad = x[:, 0], x[:, 1], self.backend.xp.empty_like(x)
        off = 200 * (b - a * a)
        grad[:, 0] = 2 * (a - 1 - a * off)
        grad[:, 1] = off
        return grad


class Saddle(Objective):
    """A saddle at 0, where f = 0, between minima at y = -1 and 1; runs start beside its ridge."""

    title, formula = "saddle", "50 x² - y²/2 + y⁴/4"
    start, spread, target = (2.0, 1e-4), (1.0, 1e-4), 0.125
    minimum = -0.25

    def value(self, points: np.ndarray) -> np.ndarray:
        x2, y2 = points[..., 0] ** 2, points[..., 1] ** 2
        return 50 * x2 - y2 / 2 + y2**2 / 4

    def gradient(self, x: Any) -> Any:
        y, grad = x[:, 1], 100 * x
        grad[:, 1] = y * y * y - y
        return grad


class Logistic(Objective):
    """Breast Cancer Wisconsin (Diagnostic), 569 x 30, as scikit-learn ships it, standardised.

    f is the mean log-loss + weight_decay / 2 |w|²; a column of ones makes the intercept, and runs
    start at w = 0. The least value is that of scikit-learn's Newton solver. Raises ImportError
    where scikit-learn is missing.
    """

    title, formula = "logistic regression on breast cancer data", "mean log-loss + 0.001/2 |w|²"
    target, weight_decay, stochastic = 5e-3, 1e-3, True
    steps, unit, runs = 20, "passes", 5
    batch = 64

    def __init__(self, backend: gpuprop.Backend) -> None:
        super().__init__(backend)
        from sklearn.datasets import load_breast_cancer
        from sklearn.linear_model import LogisticRegression as Solver

        features, classes = load_breast_cancer(return_X_y=True)
        features = (features - features.mean(axis=0)) / features.std(axis=0)
        features = np.column_stack([features, np.ones(len(features))])
        # With the labels -1 and 1 the loss depends on their product with the features alone.
        self.rows = (2 * classes - 1)[:, None] * features
        self.device_rows = backend.asarray(self.rows)
        self.start = self.spread = (0.0,) * features.shape[1]
        strength = 1 / (self.weight_decay * len(features))
        solver = Solver(C=strength, fit_intercept=False, solver="newton-cholesky", tol=1e-10)
        self.minimum = float(self.value(solver.fit(features, classes).coef_[0]))

    def value(self, points: np.ndarray) -> np.ndarray:
        loss = np.logaddexp(0, -(points @ self.rows.T)).mean(axis=-1)
        return loss + self.weight_decay / 2 * (points**2).sum(axis=-1)

    def gradient(self, x: Any) -> Any:
        return self.gradient_of_rows(self.device_rows, x)

    def gradient_of_rows(self, rows: Any, x: Any) -> Any:
        # Sums in place of `@`, which on a GPU needs cuBLAS; the rest runs without it.
        margin = (rows * x[:, None]).sum(axis=2)
        weight = (1 - self.backend.xp.tanh(margin / 2)) / 2  # 1 / (1 + exp(margin)), without overflow
        return self.weight_decay * x - (rows * weight[..., None]).mean(axis=1)

    def gradients(self, random: np.random.Generator) -> Iterator[Callable[[Any], Any]]:
        """One pass over the data, shuffled for each run, in mini-batches."""
        order = random.permuted(np.tile(np.arange(len(self.rows)), (self.runs, 1)), axis=1)
        rows = self.device_rows[self.backend.asarray(order)]
        for first in range(0, len(self.rows), self.batch):
            yield partial(self.gradient_of_rows, rows[:, first : first + self.batch])


OBJECTIVES = {"quadratic": Quadratic, "rosenbrock": Rosenbrock, "saddle": Saddle, "logistic": Logistic}
