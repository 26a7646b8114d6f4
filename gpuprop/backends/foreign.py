"""Arrays of other libraries, as NumPy's or CuPy's on the same memory."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np


def shared(name: str, array: Any, xp: ModuleType, written: bool = False) -> Any:
    """The memory of `array` as an array of `xp`, not copied; `written` says whether it is going to change.

    Raises
    ------
    TypeError
        It cannot be shared; the message says why.
    """
    try:
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(array, torch.Tensor):
            if xp is np:
                # Writable where DLPack's may be read-only, and it refuses what is no plain memory.
                return array.numpy()
            if array.is_neg():  # which DLPack would lose
                raise ValueError("it stands for the negative of its memory; pass resolve_neg() of it")
        if written and type(array).__module__.partition(".")[0] in ("jax", "jaxlib"):
            # Of a GPU's nothing tells CuPy that it is read-only.
            raise ValueError(f"JAX counts on its arrays not to change; pass {xp.__name__}.array({name})")
        return xp.from_dlpack(array)
    except Exception as error:
        kind = type(array)
        raise TypeError(
            f"{name} is a {kind.__module__}.{kind.__name__} of which {xp.__name__} cannot share the memory: "
            f"{error}"
        ) from error
