"""An array as blocks of bytes, in the order it has in memory, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gpuprop.backends import Backend
from gpuprop.checkpoint.container import CODES, UNKNOWN

#: Elements that are copied at a time.
BLOCK = 2**14


def as_array(backend: Backend, name: str, array: Any) -> Any:
    """`array` as one of the backend or of NumPy; that of another library is adopted, not copied."""
    array = backend.adopt(name, array)
    return array if isinstance(array, (np.ndarray, backend.xp.ndarray)) else np.asarray(array)


def layout_of(backend: Backend, name: str, array: Any) -> dict[str, Any]:
    """What the description says of an array whose checksum is not known yet."""
    if array.dtype.name not in CODES:
        raise TypeError(f"{name} has dtype {array.dtype}; it must be one of {', '.join(CODES)}")
    axes = range(array.ndim)
    # From the longest stride to the shortest, an array of any order is one block of memory.
    in_memory = axes if array.flags.c_contiguous else sorted(axes, key=lambda k: -abs(array.strides[k]))
    return {
        "dtype": array.dtype.name,
        "axes": list(in_memory),
        "on_device": isinstance(array, backend.xp.ndarray),
        "backend": backend.name,
        "crc32": UNKNOWN,
    }


def blocks(backend: Backend, array: Any, layout: Mapping[str, Any]) -> Iterator[bytes]:
    """The bytes of an array in its layout, little-endian.

    Each block is a copy: the array may change while it is written, and what is checksummed must be what
    is written.
    """
    ordered = array.transpose(layout["axes"])
    if not isinstance(ordered, np.ndarray):
        with backend.on_device_of(ordered):
            backend.synchronize()  # with steps on other streams, too
        ordered = backend.to_host(ordered)
    flags = ["external_loop", "buffered", "zerosize_ok"]
    little = ordered.dtype.newbyteorder("<")
    for block in np.nditer(ordered, flags, order="C", op_dtypes=[little], casting="equiv", buffersize=BLOCK):  # type: ignore[call-overload]
        yield block.tobytes()


def complex_of(tensor: np.ndarray, layout: Mapping[str, Any]) -> np.ndarray:
    """The complex numbers whose pairs a tensor is, where it is of such."""
    if not layout["dtype"].startswith("complex"):
        return tensor
    return tensor.reshape(-1).view(layout["dtype"]).reshape(tensor.shape[:-1])


def in_order(tensor: Any, layout: Mapping[str, Any]) -> Any:
    """A view with the array's own order of axes."""
    axes = layout["axes"]
    return tensor.transpose(sorted(range(len(axes)), key=axes.__getitem__))


def restored(backend: Backend, tensor: np.ndarray, layout: Mapping[str, Any]) -> Any:
    """The array that had this layout, where it was: on the backend's device or on the host."""
    return in_order(backend.asarray(tensor) if layout["on_device"] else tensor, layout)
