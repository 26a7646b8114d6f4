"""What an optimizer remembers between steps."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuprop.arguments import number
from gpuprop.backends import Backend
from gpuprop.optimizers.state.saved import Saved
from gpuprop.rules.tuning import FAST, SLOW

if TYPE_CHECKING:
    from gpuprop.optimizers.base import Optimizer


_SETTABLE = ("optimizer", "backend", "extras", "step", "rate_scale", "found_rate")


class State(Saved):
    """What an optimizer remembers between steps: made by its ``init``, and by `load_state`.

    The constructor is private, and may change; a state can be copied (``copy.deepcopy`` with arrays of
    its own, ``copy.copy`` with the same), and pickled. Each of its arrays is an attribute, too:
    ``state.square_average``.

    Attributes
    ----------
    optimizer : Optimizer or None
        Whose hyperparameters the last step used; None where a part of it was code when it was saved.
    backend : Backend
        Where steps run.
    extras : dict of str to array
        What `save` was given beside the state, where it comes from `load_state`.
    """

    def __init__(
        self,
        optimizer: Optimizer | None,
        step: int,
        arrays: Mapping[str, Any],
        backend: Backend,
        *,
        skipped: int = 0,
        rate_scale: float = 1.0,
        extras: Mapping[str, Any] | None = None,
        rule_name: str | None = None,
        outline: Any = None,
        tuning: Any = None,
    ) -> None:
        self.optimizer = optimizer
        #: Of the rule that the arrays belong to, where the optimizer is not known; None where nothing is.
        self._rule_name = rule_name
        #: What a file said of that optimizer, where a part of it is code: for the next file.
        self._outline = outline
        # Steps begun and steps done: what writes the arrays advances both, before and after, in one call
        # that no signal's handler can come between. Once a graph was captured, the device counts.
        self._clock: Any = np.zeros(2, np.int64)
        #: Of a learning rate that is found: a row for steps of even numbers, and one for those of odd ones,
        #: which is written before the step that makes it count.
        self._tuning = tuning
        self.backend = backend
        self.step = step
        self.rate_scale = rate_scale
        self.extras = dict(extras or {})
        self._names: tuple[str, ...] = ()
        self._skipped_before = skipped
        self._quick: Any = None  # what is known of the last step, for the next
        self._workspace: Any = None  # of steps that look at the gradient first; counts what is skipped
        for name in arrays:
            if hasattr(self, name):
                raise ValueError(f"an array is called {name!r}, as an attribute of every state is; rename it")
        self._names = tuple(arrays)
        self.__dict__.update(arrays)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "backend" and name in self.__dict__ and (comm := self.comm):
            value = comm.over(value)
        if name not in self.__dict__ and name not in _SETTABLE and not name.startswith("_"):
            raise AttributeError(
                f"a state has no {name!r} to set; it has step, rate_scale, found_rate, and its arrays "
                f"{', '.join(self._names) or '(none)'}"
            )
        object.__setattr__(self, name, value)

    @property
    def comm(self) -> Any:
        """What `init` was given for arrays that are parts, one a rank; None for one process alone."""
        return self.backend.comm

    @property
    def step(self) -> int:
        """The number of steps taken, an int; it may be set.

        To ask waits for the device once a step was captured into a CUDA graph, whose replays count.

        Raises
        ------
        RuntimeError
            Replays have come to the end of the steps that their graph knows; all before are done.
        """
        return self._clock.item(1)

    @step.setter
    def step(self, value: int) -> None:
        try:
            number = -1 if isinstance(value, bool) else index(value)
        except TypeError:
            number = -1
        if not 0 <= number <= 2**53:
            raise ValueError(f"step is {value!r}; it must be a whole number of at least 0, and at most 2**53")
        if self._tuning is not None:
            with self.backend.on_device_of(self._tuning):
                self._tuning[:] = self._tuning[self.step % 2].copy()
        self._clock[:] = number

    @property
    def rate_scale(self) -> float:
        """What the learning rate is multiplied by, a float of at least 0 that may be set; 1 at the start."""
        return self._rate_scale

    @rate_scale.setter
    def rate_scale(self, value: float) -> None:
        self._rate_scale = number("rate_scale", value)

    @property
    def _is_untuned(self) -> bool:
        """Whether nothing is known yet of a learning rate that is to be found."""
        return self._tuning is not None and float(self._tuning[self.step % 2, 1]) == FAST

    @property
    def found_rate(self) -> float | None:
        """The learning rate that ``"auto"`` has found so far, in the units of x; to ask waits for a GPU.

        It may be set, to go on from there; None where the learning rate is given.
        """
        return None if self._tuning is None else float(self._tuning[self.step % 2, 0])

    @found_rate.setter
    def found_rate(self, value: float) -> None:
        if self._tuning is None:
            raise ValueError("found_rate is None, as the learning rate is given; it is set with 'auto' alone")
        rate = number("found_rate", value, positive=True)
        with self.backend.on_device_of(self._tuning):
            self._tuning[:, :2] = self.backend.asarray(np.array([rate, SLOW]))

    @property
    def _owner(self) -> str | None:
        """The name of the rule that the arrays belong to, where it is known."""
        return self._rule_name if self.optimizer is None else self.optimizer.rule.name

    @property
    def arrays(self) -> dict[str, Any]:
        """The arrays like the parameters, by name, such as ``"square_average"``."""
        return {name: getattr(self, name, None) for name in self._names}

    @property
    def skipped(self) -> int:
        """The elements that ``nonfinite="skip"`` has left out so far, an int; to ask waits for a GPU.

        Of parts, those of all ranks, which all ask.
        """
        return int(self.comm.sum([self._skipped_here])[0]) if self.comm else self._skipped_here

    @property
    def _skipped_here(self) -> int:
        """Those of this rank."""
        return self._skipped_before + (0 if self._workspace is None else int(self._workspace.skipped[0]))

    def _room_for_gradient(self, x: Any) -> Any:
        """An array like `x` for gradients that a step makes itself."""
        if self._workspace is None:
            self._workspace = self.backend.workspace(x)
        if not hasattr(self._workspace, "gradient"):
            self._workspace.gradient = self.backend.empty_like(x)
        return self._workspace.gradient

    def __getstate__(self) -> dict[str, Any]:
        """What a copy starts from: counters of its own, and the arrays of this one."""
        content = {name: value for name, value in vars(self).items() if name != "_clock"}
        content |= {
            "step": self.step,
            "_skipped_before": self._skipped_here,
            "_workspace": None,
            "_quick": None,
        }
        if self._tuning is not None:
            with self.backend.on_device_of(self._tuning):
                content["_tuning"] = self._tuning.copy()
        return content

    def __setstate__(self, content: dict[str, Any]) -> None:
        content = {"_rate_scale": 1.0, "_tuning": None} | content  # which 0.1.0 did not have
        self.__init__(content["optimizer"], content["step"], {}, content["backend"])  # type: ignore[misc]
        self.__dict__.update({name: value for name, value in content.items() if name != "step"})
        if self._workspace is not None:  # gpuprop 0.1.0 gave it to copies, too
            self._skipped_before, self._workspace = self._skipped_here, None

    def __repr__(self) -> str:
        rates = {} if self.found_rate is None else {"found_rate": self.found_rate}
        if self.rate_scale != 1:
            rates["rate_scale"] = self.rate_scale
        content = "".join(f", {name}={value!r}" for name, value in {**rates, **self.arrays}.items())
        return f"State(step={self.step}{content})"
