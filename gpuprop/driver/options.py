"""The options of a run of the driver, checked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from gpuprop.arguments import number, ranks, whole
from gpuprop.optimizers import GroupsState, State


@dataclass(frozen=True)
class DriverOptions:
    """The options of `gpuprop.minimize`, which explains them."""

    gtol: float | None = 1e-5
    xtol: float | None = None
    ftol: float | None = None
    maxiter: int = 10_000
    maxfev: int | None = None
    maxtime: float | None = None
    check_every: int | None = None
    return_best: bool = False
    disp: bool = False
    copy_x: bool = True
    state: State | GroupsState | None = None
    checkpoint: str | bytes | os.PathLike[str] | None = None
    checkpoint_every: int = 100
    resume: str | bytes | os.PathLike[str] | None = None
    history: bool = False
    project: Callable[[Any], None] | None = None
    comm: Any = None

    @classmethod
    def of(cls, options: dict[str, Any]) -> DriverOptions:
        """From the keywords of a SciPy method, where `tol` stands for `gtol`."""
        options = dict(options)
        tol = options.pop("tol", None)
        if tol is not None:
            options.setdefault("gtol", tol)
        names = {field.name for field in fields(cls)}
        unknown = sorted(options.keys() - names)
        if unknown:
            from scipy.optimize import OptimizeWarning

            warnings.warn(
                f"unknown options {', '.join(unknown)} are ignored; there are {', '.join(sorted(names))}",
                OptimizeWarning,
                stacklevel=4,
            )
        return cls(**{name: value for name, value in options.items() if name in names})

    def __post_init__(self) -> None:
        object.__setattr__(self, "comm", ranks(self.comm))
        if self.comm is not None and self.comm.rank:
            object.__setattr__(self, "disp", False)
        for name in ("gtol", "xtol", "ftol", "maxtime"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, number(name, getattr(self, name)))
        counts = {"maxiter": 0, "maxfev": 1, "check_every": 1, "checkpoint_every": 1}
        for name, least in counts.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole(name, getattr(self, name), least))
        for name in ("maxiter", "checkpoint_every"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(DriverOptions, name))
        if self.state is not None and not isinstance(self.state, (State, GroupsState)):
            raise TypeError(
                f"state is a {type(self.state).__name__}; it must be one that init or a result gave"
            )
        if self.project is not None and not callable(self.project):
            raise TypeError(
                f"project is {self.project!r}; it must be a function of x that works in place on it"
            )
        for name in ("checkpoint", "resume"):
            path = getattr(self, name)
            if path is not None and not isinstance(path, (str, bytes, os.PathLike)):
                raise TypeError(f"{name} is {path!r}; it must be the path of a file")
        if self.state is not None and self.resume is not None:
            raise ValueError(
                "state and resume are given, and each says where to go on; leave out one of them"
            )
        if self.checkpoint is not None:
            _check_place(os.fsdecode(self.checkpoint))


def _check_place(path: str) -> None:
    """Whether a file could be written there: said before a run of hours, and not at the end of it."""
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"checkpoint is {path!r} and there is no folder {folder!r}; make it first")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"checkpoint is {path!r}, which is no regular file; name another")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"checkpoint is {path!r} and {folder!r} cannot be written to; name another")
