"""The article's experiment, and how far rounding may move it."""

from __future__ import annotations

import numpy as np

from gpuprop import reference

LEARNING_RATE, RHO, EPSILON, EPOCHS = 0.1, 0.9, 1e-6, 101

LINES = """\
Epoch 0, current state: [4.68377233 3.68377236]
Epoch 20, current state: [2.3688824  1.47561697]
Epoch 40, current state: [0.95903672 0.35004133]
Epoch 60, current state: [0.13761293 0.00745214]
Epoch 80, current state: [3.91649374e-04 3.12725069e-09]
Epoch 100, current state: [-3.07701828e-17  2.18862195e-20]
"""


def trajectory(dtype: str = "float64") -> np.ndarray:
    """All 101 points, by the reference in `dtype`."""
    w, s = np.array([5, 4], dtype), np.zeros(2, dtype)
    points = []
    for _ in range(EPOCHS):
        updates, s = reference.rmsprop(LEARNING_RATE, RHO, EPSILON, 2 * w, s)
        w = w - updates
        points.append(w)
    return np.array(points)


def rounding_bound(dtype: str) -> np.ndarray:
    """How far a trajectory computed in `dtype` may be from the exact one, at each point.

    A first-order running error analysis (N. J. Higham, *Accuracy and Stability of Numerical
    Algorithms*, 2nd ed., ch. 3): the rounding errors of each step, at most a few units u of each
    quantity, are carried to each later point by the derivative of the steps between. Of (w, s),
    with g = 2 w and r = sqrt(s'), a step's derivative is that of

        s' = rho s + (1 - rho) g^2,    w' = w - eta g / (r + epsilon).

    Rounded: rho, 1 - rho, two products, g^2 and the sum, so s' errs by at most 4 u s'; eta,
    epsilon, the product, root, sum and quotient, so the update errs by at most 6 u of itself, and
    the difference by one more u of w'. Terms of second order are allowed for by a hundredth.
    """
    u = np.finfo(dtype).eps / 2
    w, s = np.array([5.0, 4.0]), np.zeros(2)
    carried = np.zeros((0, 2, 2, 2))  # step of origin, coordinate, (w, s), (error in w, error in s)
    bound = []
    for _ in range(EPOCHS):
        s_new = RHO * s + (1 - RHO) * 4 * w**2
        root = np.sqrt(s_new)
        update = LEARNING_RATE * 2 * w / (root + EPSILON)
        by_s = LEARNING_RATE * w / (root * (root + EPSILON) ** 2)  # -d update / d s'
        ds = np.stack([8 * (1 - RHO) * w, np.full(2, RHO)], axis=-1)
        dw = np.stack([1 - 2 * LEARNING_RATE / (root + EPSILON), np.zeros(2)], axis=-1) + by_s[:, None] * ds
        derivative = np.stack([dw, ds], axis=-2)
        w, s = w - update, s_new
        local_s = 4 * u * s
        local_w = 6 * u * np.abs(update) + u * np.abs(w)
        zero = np.zeros(2)
        # An error of s' enters w' in the same step.
        local = np.stack([np.stack([local_w, by_s * local_s], -1), np.stack([zero, local_s], -1)], -2)
        carried = np.concatenate([derivative @ carried, local[None]])
        bound.append(np.abs(carried[:, :, 0, :]).sum(axis=(0, 2)))
    return 1.01 * np.array(bound)
