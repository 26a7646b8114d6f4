"""What an optimizer remembers between steps."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuprop.backends import Backend

if TYPE_CHECKING:
    from gpuprop.optimizers.base import Optimizer


class State:
    """What an optimizer remembers between steps: made by its ``init``, and by `gpuprop.load_state`.

    The constructor is private, and may change; a state can be copied (``copy.deepcopy`` with arrays of
    its own, ``copy.copy`` with the same), and pickled.

    Attributes
    ----------
    step : int
        Number of steps taken; may be set.
    optimizer : Optimizer or None
        Whose hyperparameters the last step used.
    backend : Backend
        Where steps run.
    arrays : dict of str to array
        The arrays like the parameters, such as ``"square_average"``; each is an attribute, too:
        ``state.square_average``.
    extras : dict of str to array
        What `save` was given beside the state, where it comes from `load_state`.
    skipped : int
        Elements that ``nonfinite="skip"`` has left out so far; to ask waits for a GPU.
    """

    def __init__(
        self,
        optimizer: Optimizer | None,
        step: int,
        arrays: Mapping[str, Any],
        backend: Backend,
        *,
        skipped: int = 0,
        extras: Mapping[str, Any] | None = None,
        rule_name: str | None = None,
        outline: Any = None,
    ) -> None:
        self.optimizer = optimizer
        #: Of the rule that the arrays belong to, where the optimizer is not known; None where nothing is.
        self._rule_name = rule_name
        #: What a file said of that optimizer, where a part of it is code: for the next file.
        self._outline = outline
        # Steps begun and steps done: what writes the arrays advances both, before and after, in one call
        # that no signal's handler can come between.
        self._clock = np.zeros(2, np.int64)
        self.step = step
        self.backend = backend
        self.extras = dict(extras or {})
        self._names: tuple[str, ...] = ()
        self._skipped_before = skipped
        self._workspace: Any = None  # of steps that look at the gradient first; counts what is skipped
        for name in arrays:
            if hasattr(self, name):
                raise ValueError(f"an array is called {name!r}, as an attribute of every state is; rename it")
        self._names = tuple(arrays)
        self.__dict__.update(arrays)

    @property
    def step(self) -> int:
        return self._clock.item(1)

    @step.setter
    def step(self, value: int) -> None:
        try:
            number = -1 if isinstance(value, bool) else index(value)
        except TypeError:
            number = -1
        if not 0 <= number <= 2**53:
            raise ValueError(f"step is {value!r}; it must be a whole number of at least 0, and at most 2**53")
        self._clock[:] = number

    @property
    def _owner(self) -> str | None:
        """The name of the rule that the arrays belong to, where it is known."""
        return self._rule_name if self.optimizer is None else self.optimizer.rule.name

    @property
    def arrays(self) -> dict[str, Any]:
        return {name: getattr(self, name, None) for name in self._names}

    @property
    def skipped(self) -> int:
        return self._skipped_before + (0 if self._workspace is None else int(self._workspace.skipped[0]))

    def __getstate__(self) -> dict[str, Any]:
        """What a copy starts from: counters of its own, and the arrays of this one."""
        content = {name: value for name, value in vars(self).items() if name != "_clock"}
        return content | {"step": self.step, "_skipped_before": self.skipped, "_workspace": None}

    def __setstate__(self, content: dict[str, Any]) -> None:
        self.__init__(content["optimizer"], content["step"], {}, content["backend"])  # type: ignore[misc]
        self.__dict__.update({name: value for name, value in content.items() if name != "step"})
        if self._workspace is not None:  # gpuprop 0.1.0 gave it to copies, too
            self._skipped_before, self._workspace = self.skipped, None

    def save(self, /, path: str | PathLike[str], **arrays: Any) -> None:
        """Write the state into a safetensors file, which replaces an old one in one move.

        Parameters
        ----------
        path : str or path-like
        **arrays : array
            More arrays for the same file, above all the parameters, ``x=x``: a resumed run needs
            those of the same moment. They come back in ``state.extras`` of `gpuprop.load_state`.

        Raises
        ------
        OSError, TypeError, ValueError
            See `gpuprop.checkpoint.save`, which also has the details.
        """
        from gpuprop import checkpoint

        checkpoint.save(self, path, **arrays)

    def __repr__(self) -> str:
        arrays = "".join(f", {name}={array!r}" for name, array in self.arrays.items())
        return f"State(step={self.step}{arrays})"
