"""CuPy's arrays: how they are made, moved and told apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpuprop.backends.library import Library


class CuPyArrays(Library):
    """What a backend knows of its arrays, on whatever device they are."""

    def describe(self) -> str:
        device = self.xp.cuda.Device()
        name = self.xp.cuda.runtime.getDeviceProperties(device.id)["name"].decode()
        return f"{name} (device {device.id}), CuPy {self.xp.__version__}"

    def to_host(self, a: Any) -> np.ndarray:
        return self.xp.asnumpy(a)

    def full_like(self, x: Any, value: Any, dtype: np.dtype | None = None) -> Any:
        with x.device:
            return super().full_like(x, value, dtype)

    def empty_like(self, x: Any, dtype: np.dtype | None = None) -> Any:
        try:
            with x.device:
                return self.xp.empty_like(x, dtype)
        except self.xp.cuda.memory.OutOfMemoryError as error:
            free, total = self.xp.cuda.runtime.memGetInfo()
            raise MemoryError(
                f"there is no room for the {x.nbytes} bytes for an array like x on device "
                f"{x.device.id}, where {free} of {total} are free; free some, or let "
                "cupy.get_default_memory_pool().free_all_blocks() give back what CuPy holds"
            ) from error

    def synchronize(self) -> None:
        self.xp.cuda.Device().synchronize()

    def device_of(self, array: Any) -> int:
        return array.data.device_id

    def are_plainly_alike(self, one: Any, other: Any) -> bool:
        return super().are_plainly_alike(one, other) and one.data.device_id == other.data.device_id

    def on_device_of(self, array: Any) -> Any:
        return array.device

    def address_of(self, array: Any) -> int:
        return array.data.ptr

    def may_overlap(self, a: Any, b: Any) -> bool:
        if a.flags.c_contiguous and b.flags.c_contiguous:
            return a.data.ptr < b.data.ptr + b.nbytes and b.data.ptr < a.data.ptr + a.nbytes
        return True
