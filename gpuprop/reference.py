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
    step_size=1.0,
    correction=1.0,
    epsilon_inside=0.0,
    modulus=False,
    abs2=np.square,
    **options,
):
    """The new arrays of one step, from the arrays and scalars of the rule of this name.

    `abs2` and `as_complex` are for pairs of reals, which stand for complex numbers on a last axis: the sum of
    both squares, and a pair with 0. With `modulus` there is one second moment for each pair.
    """
    g, square = _gradient(grad, x, **options), abs2 if modulus else np.square
    s = rho * square_average + one_minus_rho * square(g)
    new, variance = {"square_average": s}, correction * s
    if gradient_average is not None:
        a = rho * gradient_average + one_minus_rho * g
        new["gradient_average"] = a
        variance = np.maximum(variance - square(correction * a), 0)
    increment = step_size * g / (np.sqrt(variance + epsilon_inside) + epsilon)
    return new | _move(x, increment, velocity, abs2=abs2, **options)


def sgd_step(*, grad, x, velocity=None, step_size=1.0, **options):
    """As `rmsprop_step`, for plain gradient descent and momentum."""
    return _move(x, step_size * _gradient(grad, x, **options), velocity, **options)


def adagrad_step(
    *,
    grad,
    x,
    square_sum,
    epsilon,
    step_size=1.0,
    epsilon_inside=0.0,
    modulus=False,
    abs2=np.square,
    **options,
):
    """As `rmsprop_step`, for AdaGrad."""
    g, square = _gradient(grad, x, **options), abs2 if modulus else np.square
    square_sum = square_sum + square(g)
    increment = step_size * g / (np.sqrt(square_sum + epsilon_inside) + epsilon)
    return {"square_sum": square_sum} | _move(x, increment, abs2=abs2, **options)


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
    modulus=False,
    abs2=np.square,
    **options,
):
    """As `rmsprop_step`, for Adam."""
    g, square = _gradient(grad, x, **options), abs2 if modulus else np.square
    m = beta1 * gradient_average + one_minus_beta1 * g
    v = beta2 * square_average + one_minus_beta2 * square(g)
    increment = step_size * m / (np.sqrt(correction * v) + epsilon)
    return {"gradient_average": m, "square_average": v} | _move(x, increment, abs2=abs2, **options)


def _gradient(
    grad,
    x,
    gradient_scale=1.0,
    clip_value=np.inf,
    weight_decay=None,
    decay_rate=None,
    lower=-np.inf,
    upper=np.inf,
    projected_gradient=False,
    **_,
):
    """The gradient that the moments see: scaled (-1 to maximise), clipped, with L2 decay, then projected."""
    g = np.clip(gradient_scale * grad, -clip_value, clip_value)
    if weight_decay is not None and decay_rate is None:
        g = g + weight_decay * x
    if projected_gradient:
        outward = ((x <= lower) & (g > 0)) | ((x >= upper) & (g < 0))
        g = np.where(outward, 0, g)
    return g


def _move(
    x,
    increment,
    velocity=None,
    momentum=0.0,
    velocity_share=1.0,
    increment_share=None,
    learning_rate=None,
    rates_are_inside=False,
    shrink=1.0,
    weight_decay=None,
    decay_rate=None,
    lower=-np.inf,
    upper=np.inf,
    lower_modulus=None,
    upper_modulus=np.inf,
    parameter_average=None,
    average_decay=None,
    one_minus_average_decay=None,
    displacement=None,
    abs2=np.square,
    as_complex=np.asarray,
    **_,
):
    """The new x, velocity, average of x and displacement, where there are such.

    The shares of velocity and increment are (1, 0) for Polyak's momentum, and (momentum, 1) for Nesterov's.
    """
    new, rates = {}, 1 if learning_rate is None else learning_rate
    if rates_are_inside:
        increment = rates * increment
    if velocity is not None:
        new["velocity"] = v = momentum * velocity + increment
        increment = velocity_share * v + (0 if increment_share is None else increment_share * increment)
    if learning_rate is not None and not rates_are_inside:
        increment = rates * increment
    if decay_rate is not None:
        shrink = 1 - weight_decay * (decay_rate * rates)
    moved = shrink * x - increment
    moved = np.where(moved < lower, lower, np.where(moved > upper, upper, moved))
    if lower_modulus is not None:
        size = abs2(np.sqrt(np.abs(moved)))  # of complex numbers, the sum of both parts' moduli
        direction = moved / size
        length = np.sqrt(abs2(direction))
        modulus = size * length
        limit = np.where(
            modulus < lower_modulus, lower_modulus, np.where(modulus > upper_modulus, upper_modulus, modulus)
        )
        inside = np.where(size == 0, as_complex(lower_modulus + 0 * size), limit * (direction / length))
        moved = np.where(modulus == limit, moved, inside)
    if parameter_average is not None:
        new["parameter_average"] = average_decay * parameter_average + one_minus_average_decay * moved
    if displacement is not None:
        new["displacement"] = x - moved
    return new | {"x": moved}
