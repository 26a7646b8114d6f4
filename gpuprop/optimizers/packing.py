"""Several arrays of parameters as one, so that one launch updates them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpuprop.backends import backend_of
from gpuprop.backends.checks import check_array


def pack(arrays: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Copy arrays into one vector, and give views of their parts.

    Parameters
    ----------
    arrays : sequence of array
        NumPy arrays, or CuPy arrays of one device; of one dtype and any shapes.

    Returns
    -------
    flat : array of one dimension
        Their elements in turn: step on this.
    views : list of array
        What of `flat` was each array, in its shape: read and write these.

    Raises
    ------
    TypeError, ValueError
        There are none, or they are not of one kind, dtype and device.

    Examples
    --------
    >>> import numpy as np, gpuprop
    >>> flat, (phase, offset) = gpuprop.pack([np.zeros((2, 2)), np.ones(3)])
    >>> flat[:4] = 7
    >>> phase
    array([[7., 7.],
           [7., 7.]])
    """
    arrays = list(arrays)
    if not arrays:
        raise ValueError("there are no arrays to pack; give at least one")
    backend = backend_of(arrays[0])
    arrays = [backend.adopt(f"array {i}", array) for i, array in enumerate(arrays)]
    first = arrays[0]
    for i, array in enumerate(arrays):
        check_array(backend, f"array {i}", array, written=False)
        if array.dtype != first.dtype:
            raise TypeError(
                f"array {i} has dtype {array.dtype} and array 0 has {first.dtype}; they must be the same: "
                "pack those of each dtype by themselves"
            )
        if backend.device_of(array) != backend.device_of(first):
            raise ValueError(
                f"array {i} is on device {backend.device_of(array)} and array 0 on device "
                f"{backend.device_of(first)}; they must be on one"
            )
    with backend.on_device_of(first):
        flat = backend.xp.concatenate([array.ravel() for array in arrays])
    ends = np.cumsum([array.size for array in arrays]).tolist()
    views = [flat[end - a.size : end].reshape(a.shape) for a, end in zip(arrays, ends, strict=True)]
    return flat, views
