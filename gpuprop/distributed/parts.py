"""Arrays that are parts, one a rank: backends whose norms and sums are those of all ranks together."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from gpuprop.backends.base import Backend, Mode
from gpuprop.backends.norms import joint_norm


class Parts(Backend):
    """Mixed into a backend's class; whatever is done by elements, is done by that backend as before."""

    comm: Any

    @staticmethod
    def of(backend: Backend, comm: Any) -> Backend:
        """The backend, with this communicator; what it has compiled is shared."""
        parts = object.__new__(_class_of(type(backend)))
        vars(parts).update(vars(backend), comm=comm)
        return parts

    def joint_norm(self, grads: Any, skips: Any) -> tuple[float, float]:
        return joint_norm(self.comm.gather([*super().joint_norm(grads, skips)]).tolist())

    def sums_for_rate(self, grad: Any, last: Any, whole: int) -> list[float]:
        sums_here: Any = super()
        return self.comm.sum(sums_here.sums_for_rate(grad, last, whole))

    def largest(self, value: Any) -> Any:
        return self.xp.asarray(*self.comm.maximum([float(value)]))

    def total(self, value: Any) -> Any:
        each = self.comm.gather(self.xp.asarray(value, np.float64).reshape(-1))
        sums = each.sum(axis=0).reshape(self.xp.shape(value))
        return sums if self.name == "gpu" or sums.ndim else float(sums)

    # Of what one compiled call does, a part is of all ranks.

    def quick(self, rule: Any, x: Any, mode: Mode) -> Any:
        return None if mode == "count" else super().quick(rule, x, mode)

    def quick_norm(self, x: Any, finite_only: bool) -> None: ...

    def find_at_once(self, *arguments: Any) -> None: ...

    def __repr__(self) -> str:
        return f"<gpuprop backend {self.name!r}, rank {self.comm.rank} of {self.comm.size}>"

    def __deepcopy__(self, memo: Any) -> Backend:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            "a state of several ranks cannot be pickled, as their communicator belongs to this job; write it "
            "by state.save, and read it by gpuprop.load_state with comm"
        )


@cache
def _class_of(kind: type) -> Any:
    return kind if issubclass(kind, Parts) else type(kind.__name__, (Parts, kind), {})
