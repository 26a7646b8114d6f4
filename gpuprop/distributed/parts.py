"""Arrays that are parts, one a rank: backends whose norms and sums are those of all ranks together."""

from __future__ import annotations

from functools import cache
from typing import Any

from gpuprop.backends.base import Backend


class Parts(Backend):
    """Mixed into a backend's class; whatever is done by elements, is done by that backend as before."""

    comm: Any

    @staticmethod
    def of(backend: Backend, comm: Any) -> Backend:
        """The backend, with this communicator; what it has compiled is shared."""
        parts = object.__new__(_class_of(type(backend)))
        vars(parts).update(vars(backend), comm=comm)
        return parts

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
