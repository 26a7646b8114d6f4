"""Arrays as users give them: parameters, gradients, values of f, bounds and steps, checked and taken over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpuprop.backends import Backend, backend_of
from gpuprop.backends.checks import compute_dtype

_to_float = np.frompyfunc(float, 1, 1)


def adopted(backend: Backend, name: str, given: Any) -> Any:
    """`given`, or the backend's view of its memory: what every array of the user's goes through."""
    if type(given) is backend.xp.ndarray:
        return given
    if hasattr(given, "toarray") and not hasattr(given, "__dlpack__"):
        raise TypeError(f"{name} is a {_type(given)}, which is sparse; it must be dense, as its toarray() is")
    return backend.adopt(name, given)


def numbers(backend: Backend, name: str, given: Any, beside: str = "x") -> Any:
    """`given` as an array of numbers where `beside` is; copied only where it must be."""
    array = adopted(backend, name, given)
    if backend.xp is np:
        try:
            return _on_host(array)
        except (TypeError, ValueError, RuntimeError) as error:
            reason = str(error).partition(". ")[0]
            several = (
                " (numpy.concatenate or gpuprop.pack makes one of several; a function that gives the pair "
                "(f, gradient) is passed as fun, with jac=True)"
            )
            raise TypeError(
                f"{name} is {_brief(given)}, of which NumPy makes no array of numbers ({reason}); it must be "
                "one" + several * isinstance(given, (tuple, list))
            ) from error
    if not isinstance(array, backend.xp.ndarray):
        raise TypeError(f"{name} is a {_type(given)} and {beside} is on a GPU; it must be a cupy.ndarray")
    return array


def one_number(backend: Backend, given: Any, *, may_be_complex: bool = False) -> Any:
    """What `fun` gave as an array of one number, which is no buffer of the user's any more."""
    value = adopted(backend, "f", given)
    is_pair = isinstance(given, (tuple, list)) and len(given) == 2
    try:
        if is_pair:
            raise TypeError
        if backend.xp is np or not isinstance(value, backend.xp.ndarray):  # f may be on the host
            value = _on_host(value)
    except (TypeError, ValueError, RuntimeError):
        hint = ", or with jac=True the pair (f, gradient)" if is_pair else ""
        raise TypeError(f"fun gave {_brief(given)}; it must give one real number{hint}") from None
    if value.size != 1 or (value.dtype.kind == "c" and not may_be_complex):
        raise ValueError(
            f"fun gave shape {value.shape} and dtype {value.dtype}; it must give one real number"
        )
    return value.reshape(()).copy()


def own_copy(
    name: str, given: Any, backend: Backend | None = None, *, may_be_empty: bool = False
) -> tuple[Backend, Any]:
    """Parameters as an array that may be updated, of floats in native byte order; and where it is.

    A number that is no array is a vector of one, as in SciPy. That of one process among several may be empty.
    """
    if isinstance(given, Mapping):
        raise TypeError(f"{name} is a dictionary; here it must be one array, so take each by itself")
    is_array = hasattr(given, "__dlpack__")
    backend = backend or backend_of(given if is_array else np.empty(0))
    array = numbers(backend, name, given, "the state")
    if array.ndim == 0 and not is_array:
        array = array.reshape(1)
    if array.size == 0 and not may_be_empty:
        raise ValueError(f"{name} has shape {array.shape}; it must have at least one element")
    dtype = np.dtype("float64") if array.dtype.kind in "iub" else array.dtype
    with backend.on_device_of(array):
        return backend, array.astype(dtype if dtype.isnative else dtype.newbyteorder("="))


def read(values: list[Any], xp: Any) -> list[float]:
    """Arrays of one number each as floats: from each GPU all in one transfer."""
    if xp is np:
        return [float(value) for value in values]
    found: list[float] = [0.0] * len(values)
    by_device: dict[Any, list[int]] = {}
    for place, value in enumerate(values):
        by_device.setdefault(getattr(getattr(value, "device", None), "id", None), []).append(place)
    for device, places in by_device.items():
        if device is None:  # the host's
            numbers = [float(values[place]) for place in places]
        else:
            with xp.cuda.Device(device):
                together = xp.empty(len(places), xp.float64)
                for k, place in enumerate(places):
                    together[k] = values[place]
                numbers = together.get().tolist()
        for place, number in zip(places, numbers, strict=True):
            found[place] = number
    return found


def _on_host(given: Any) -> np.ndarray:
    array = np.asarray(given)  # no subclass
    if array.dtype.kind in "biufc":
        return array
    if array.dtype.kind == "O":  # such as fractions
        return np.asarray(_to_float(array), np.float64)
    if compute_dtype(array.dtype) is None:
        raise TypeError(f"its dtype is {array.dtype}")
    return array


def _type(given: Any) -> str:
    return f"{type(given).__module__}.{type(given).__name__}"


def _brief(given: Any) -> str:
    if given is None or isinstance(given, (str, bytes)):
        return repr(given)
    return f"a {_type(given)}" + (f" of {len(given)}" if isinstance(given, (tuple, list)) else "")
