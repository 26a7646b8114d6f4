"""Arrays on GPUs by an MPI that reads the host's memory only."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpuprop.distributed.buffers import Buffers


class Staged:
    """What `Communicator` promises of arrays, for CuPy's: through pinned memory of the host."""

    def __init__(self, host: Buffers, xp: Any) -> None:
        self._host, self._xp = host, xp
        self._pinned: dict[tuple[str, int, np.dtype], np.ndarray] = {}
        self._gathered: dict[tuple[int, ...], Any] = {}

    def gather(self, numbers: Any) -> Any:
        found = self._host.ranks.gather(numbers.get())
        kept = self._gathered.get(found.shape)
        if kept is None:
            kept = self._gathered[found.shape] = self._xp.empty(found.shape)
        kept.set(found)
        return kept

    def reduce_scatter(self, whole: Any, part: Any, average: bool) -> None:
        of_whole, of_part = self._memory("whole", whole), self._memory("part", part)
        whole.get(out=of_whole)
        self._host.reduce_scatter(of_whole, of_part, average)
        self._back(of_part, part)

    def all_gather(self, whole: Any) -> None:
        host = self._memory("whole", whole)
        whole.get(out=host)
        self._host.all_gather(host)
        self._back(host, whole)

    def _back(self, host: np.ndarray, array: Any) -> None:
        array.set(host)
        self._xp.cuda.get_current_stream().synchronize()  # from pinned memory, which the next call overwrites

    def _memory(self, name: str, like: Any) -> np.ndarray:
        key = (name, like.size, like.dtype)
        if key not in self._pinned:
            memory = self._xp.cuda.alloc_pinned_memory(max(1, like.nbytes))
            self._pinned[key] = np.frombuffer(memory, np.uint8, like.nbytes).view(like.dtype)
        return self._pinned[key]
