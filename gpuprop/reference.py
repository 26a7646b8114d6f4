"""The article's RMSProp in plain NumPy: the oracle of the tests and the ``"numpy"`` backend.

Nothing of the package is imported here, so that these lines can be trusted on their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def rmsprop(learning_rate: float, rho: float, epsilon: float, grad: Any, s_prev: Any) -> tuple[Any, Any]:
    """One update of RMSProp.

    ::

        s       = rho * s_prev + (1 - rho) * grad**2
        updates = learning_rate * grad / (sqrt(s) + epsilon)

    Parameters
    ----------
    learning_rate : float
        Step size, in the units of the parameters.
    rho : float
        Decay of the moving average, in [0, 1).
    epsilon : float
        Added to the root, in the units of the gradient.
    grad : array_like of floats, any shape
        Gradient at the current parameters.
    s_prev : array_like, shape of `grad`
        Moving average of the squared gradient so far; zero at the start.

    Returns
    -------
    updates : ndarray
        What to subtract from the parameters.
    s : ndarray
        The new moving average.

    References
    ----------
    .. [1] T. Tieleman and G. Hinton, "Lecture 6.5 - rmsprop", COURSERA: Neural Networks for Machine
       Learning, 2012. Epsilon outside the root, as in the article that the package implements.
    """
    grad, s_prev = np.asarray(grad), np.asarray(s_prev)
    s = rho * s_prev + (1 - rho) * np.square(grad)
    updates = learning_rate * grad / (np.sqrt(s) + epsilon)
    return updates, s


def rmsprop_step(
    *,
    grad,
    x,
    square_average,
    rho,
    one_minus_rho,
    epsilon,
    gradient_average=None,
    velocity=None,
    learning_rate=1.0,
    correction=1.0,
    epsilon_inside=0.0,
    **options,
):
    """The new arrays of one step, from the arrays and scalars of the rule of this name."""
    g = _gradient(grad, x, **options)
    s = rho * square_average + one_minus_rho * g**2
    new, variance = {"square_average": s}, correction * s
    if gradient_average is not None:
        a = rho * gradient_average + one_minus_rho * g
        new["gradient_average"] = a
        variance = np.maximum(variance - (correction * a) ** 2, 0)
    increment = learning_rate * g / (np.sqrt(variance + epsilon_inside) + epsilon)
    return new | _move(x, increment, velocity, **options)


def sgd_step(*, grad, x, velocity=None, learning_rate=1.0, **options):
    """As `rmsprop_step`, for plain gradient descent and momentum."""
    return _move(x, learning_rate * _gradient(grad, x, **options), velocity, **options)


def adagrad_step(*, grad, x, square_sum, epsilon, learning_rate=1.0, epsilon_inside=0.0, **options):
    """As `rmsprop_step`, for AdaGrad."""
    g = _gradient(grad, x, **options)
    square_sum = square_sum + g**2
    increment = learning_rate * g / (np.sqrt(square_sum + epsilon_inside) + epsilon)
    return {"square_sum": square_sum} | _move(x, increment, **options)


def adam_step(
    *,
    grad,
    x,
    gradient_average,
    square_average,
    step_size,
    beta1,
    one_minus_beta1,
    beta2,
    one_minus_beta2,
    correction,
    epsilon,
    **options,
):
    """As `rmsprop_step`, for Adam."""
    g = _gradient(grad, x, **options)
    m = beta1 * gradient_average + one_minus_beta1 * g
    v = beta2 * square_average + one_minus_beta2 * g**2
    increment = step_size * m / (np.sqrt(correction * v) + epsilon)
    return {"gradient_average": m, "square_average": v} | _move(x, increment, **options)


def _gradient(grad, x, gradient_scale=1.0, clip_value=np.inf, weight_decay=None, **_):
    """The gradient that the moments see: scaled (-1 to maximise), clipped, then with L2 decay."""
    g = np.clip(gradient_scale * grad, -clip_value, clip_value)
    return g if weight_decay is None else g + weight_decay * x


def _move(
    x,
    increment,
    velocity=None,
    momentum=0.0,
    velocity_share=1.0,
    increment_share=None,
    shrink=1.0,
    lower=-np.inf,
    upper=np.inf,
    **_,
):
    """The new x, and velocity where there is one: shares (1, 0) are Polyak's, (momentum, 1) Nesterov's."""
    new = {}
    if velocity is not None:
        new["velocity"] = v = momentum * velocity + increment
        increment = velocity_share * v + (0 if increment_share is None else increment_share * increment)
    moved = shrink * x - increment
    new["x"] = np.where(moved < lower, lower, np.where(moved > upper, upper, moved))
    return new
