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
    T. Tieleman and G. Hinton, "Lecture 6.5 - rmsprop", COURSERA: Neural Networks for Machine
    Learning, 2012. Epsilon outside the root, as in the article that the package implements.
    """
    grad, s_prev = np.asarray(grad), np.asarray(s_prev)
    s = rho * s_prev + (1 - rho) * grad**2
    updates = learning_rate * grad / (np.sqrt(s) + epsilon)
    return updates, s


def rmsprop_step(
    grad: Any, x: Any, square_average: Any, learning_rate: float, rho: float, _: float, epsilon: float
) -> tuple[Any, Any]:
    """The new parameters and moving average, from the arrays and scalars of the rule ``rmsprop``."""
    updates, s = rmsprop(learning_rate, rho, epsilon, grad, square_average)
    return x - updates, s
