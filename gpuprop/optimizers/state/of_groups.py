"""What groups remember between steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuprop.optimizers.state.saved import Saved
from gpuprop.optimizers.state.single import State

if TYPE_CHECKING:
    from gpuprop.optimizers.groups import Groups


class GroupsState(Saved, Mapping[str, State]):
    """What `Groups` remember between steps: ``state[name]`` is the `State` of one array.

    Attributes
    ----------
    optimizer : Groups or None
        As for `State`.
    step : int
        Steps of the groups so far; each array counts its own.
    extras : dict of str to array
        What `save` was given beside the states, where it comes from `load_state`.
    """

    def __init__(
        self,
        optimizer: Groups | None,
        states: Mapping[str, State],
        step: int = 0,
        extras: Mapping[str, Any] | None = None,
        clip_norm: float | None = None,
    ) -> None:
        self.optimizer, self._states = optimizer, dict(states)
        self._clock: Any = np.array([step, step])
        self.extras = dict(extras or {})
        #: Of the groups in a file, where one of them has code: for the next file.
        self._clip_norm = clip_norm

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("optimizer", "step", "extras") and not name.startswith("_"):
            raise AttributeError(
                f"the state of groups has no {name!r} to set; each array's has: state[name].{name} = ..."
            )
        object.__setattr__(self, name, value)

    @property
    def comm(self) -> Any:
        """As of each `State`."""
        return next(iter(self.values())).comm

    @property
    def step(self) -> int:
        return self._clock.item(1)

    @step.setter
    def step(self, value: int) -> None:
        self._clock[:] = value

    def _record_step(self, backend: Any, x: Any) -> None:
        """Let a CUDA graph count a step where x is."""
        with backend.aside(x):
            self._clock = backend.clock_on_device(self._clock, x)
        with backend.on_device_of(x):
            self._clock.tick()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy starts from: a count of its own."""
        return {**vars(self), "_clock": np.array([self.step] * 2)}

    def __getitem__(self, name: str) -> State:
        return self._states[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def __repr__(self) -> str:
        return f"GroupsState(step={self.step}, {self._states!r})"
