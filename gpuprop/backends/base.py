"""What every backend is."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from gpuprop.backends.library import Library
from gpuprop.backends.norms import clip_factor, joint_norm, norm_of
from gpuprop.rules import Rule
from gpuprop.rules.tuning import FAST


class DeviceUnavailableError(RuntimeError):
    """The device asked for is not there; the message says why and what mends it."""


class Capturing(RuntimeError):
    """What would be done now would be recorded into a CUDA graph instead; nothing has been."""

    def __init__(self) -> None:
        super().__init__("the current stream captures a CUDA graph, for which this has not been prepared")


#: Elements that are summed as one, and up to which a step may be one call.
SHORT = 2**12

#: What a kernel does with elements whose new values, or whose first array, are not finite: as with all
#: others; leave them as they are, and count them; write nothing at all, and count them.
Mode = Literal["plain", "skip", "count"]


class Backend(Library):
    """One way to run a `Rule` on arrays of one kind.

    Attributes
    ----------
    name : {"gpu", "cpu", "numpy"}
    xp : module
        The array module, ``cupy`` or ``numpy``.
    comm : Communicator or None
        Of the ranks whose arrays are parts of one; None where they are whole.
    """

    comm: Any = None

    @abstractmethod
    def update(
        self,
        rule: Rule,
        arrays: Sequence[Any],
        scalars: Sequence[Any],
        clock: np.ndarray,
        skipped: Any = None,
        rows: Any = None,
    ) -> None:
        """Apply `rule` in place.

        Parameters
        ----------
        rule : Rule
        arrays : sequence of array
            In the order of ``rule.arrays``; of one shape, dtype and device, but for ``rule.reals``, which
            are real.
        scalars : sequence of float, or of what `clip_scales` gave
            In the order of ``rule.scalars``; rounded once to the dtype of the computation.
        clock : ndarray of two int64
            The first is advanced before the arrays are written, and the second after: no signal's
            handler runs between. On a GPU both are, when the kernel has been launched; or it is what
            `optimizers.steps.captured` made, and the step is recorded into a graph.
        skipped : array of one integer, optional
            Elements that would not be finite, or whose first array is not, are left as they are, and
            counted here. Complex numbers whose parts go together are one element each.
        rows : array of one dimension of int64, optional
            Which along the first axis are updated, each once; the first array has these alone.

        Raises
        ------
        TypeError, ValueError
            An array cannot take part; nothing has been written.
        Capturing
            A stream captures, and `clock` is that of a step which is done now.
        """

    def run_at_once(
        self, rule: Rule, arrays: Sequence[Any], table: Any, steps: int, clock: Any, skipped: Any = None
    ) -> Any:
        """Apply `rule` in place so many times, in one pass over memory: with the bits of as many updates.

        Parameters
        ----------
        rule, arrays, clock, skipped
            As for `update`.
        table : array of shape (n, number of scalars)
            A row for each step; the last one is for all steps behind it, too.
        steps : int
            At least 1.

        Returns
        -------
        array of `steps` float64, on the device of the arrays, or None
            What ``rule.total`` adds up to in each step (nothing, where a rule has none); None where there is
            no such pass for these arrays, and nothing has been done.
        """
        return None

    def quick(self, rule: Rule, x: Any, mode: Mode) -> Any:
        """The kernel for short vectors like x, if there is one, and it has been used; else None.

        It takes what `update` does, an argument each, and the clock at last, checks all of that itself, and
        returns False where it has written nothing.
        """
        return None

    @abstractmethod
    def count_nonfinite(
        self,
        rule: Rule,
        arrays: Sequence[Any],
        scalars: Sequence[Any],
        rows: Any = None,
        workspace: Any = None,
    ) -> int:
        """How many elements `update` would skip; nothing is written.

        Parameters
        ----------
        rule, arrays, scalars, rows
            As for `update`.
        workspace : what `workspace` gave, optional
            Where it counts; without one, memory may be asked for.
        """

    def compile(self, rule: Rule, arrays: Sequence[Any], modes: Sequence[Mode], finds: bool) -> None:
        """Compile what `update` needs for arrays in these modes, and perhaps `find_rate`; write nothing.

        By default nothing: what is compiled for a few elements is what the whole needs.
        """

    def clip_scales(
        self, grads: Sequence[Any], clip_norm: float, signs: Sequence[float], skips: Sequence[bool],
        workspaces: Sequence[Any],
    ) -> list[Any]:  # fmt: skip
        """The factor that brings all of `grads` together to at most a norm, times the sign of each.

        They are real, checked, and on one device; each has its `workspace`. Of one that `skips`, elements
        that are not finite are left out of the norm. The factors are numbers, or arrays on that device, so
        that nobody waits for them.
        """
        norm, unit = self.joint_norm(grads, skips)
        factor = clip_factor(norm, clip_norm / unit)
        return [sign * factor for sign in signs]

    def joint_norm(self, grads: Sequence[Any], skips: Sequence[bool]) -> tuple[float, float]:
        """The norm of `grads` together, as for `clip_scales`, and the unit that it is in; waits for a GPU."""
        with self.on_device_of(grads[0]):
            return joint_norm([norm_of(self.xp, *each) for each in zip(grads, skips, strict=True)])

    @abstractmethod
    def find_rate(
        self,
        grad: Any,
        last: Any,
        tuning: Any,
        step: int,
        sign: float,
        whole: int,
        momentum: float,
        per_gradient: bool,
        workspace: Any,
    ) -> tuple[Any, Any]:
        """The learning rate and the momentum of the next step, by `gpuprop.rules.LAW`.

        Parameters
        ----------
        grad, last : array
            The gradient and what the last step went along: real, checked, of one shape and device. Elements
            that are not finite are left out.
        tuning : array of shape (2, 3)
            Rate, growth and scale: the row of `step` modulo 2 is read, and the other one written, so that
            nothing has changed until that step is made.
        step : int
            Steps before this one.
        sign : float
            What `grad` is multiplied by.
        whole : int
            How many elements the parameters have, of which a part may be stepped.
        momentum : float
        per_gradient : bool
            Whether steps are as long as the gradient.
        workspace : what `workspace` gave

        Returns
        -------
        rate, momentum : float, or array of one number on the device, so that nobody waits for it
        """

    def tuning(self, x: Any) -> Any:
        """Where the finding of a learning rate for `x` starts: far below its scale, and fast."""
        with self.on_device_of(x), np.errstate(all="ignore"):
            xp, parts = self.xp, (x.real, x.imag) if x.dtype.kind == "c" else (x,)
            each = [xp.maximum(part.max(), -part.min()).astype(np.float64) for part in parts if x.size]
            largest = self.largest(xp.stack([xp.zeros(()), *each]).max())
            scale = xp.where((largest > 0) & (largest < np.inf), largest, 1.0)
            tuning = xp.zeros((2, 3))
            tuning[:, 0], tuning[:, 1] = scale * 2.0**-20, FAST
            return tuning

    def largest(self, value: Any) -> Any:
        """That of the parameters, of which `value` is that of these."""
        return value

    def total(self, value: Any) -> Any:
        """The sum over the parameters, of which `value` is that over these; or an array of such."""
        return value

    def survey(self, rows: Any) -> tuple[int, int, int]:
        """The least and the most of some integers, and the place of one that is there twice, or -1."""
        places = rows.argsort()
        in_order = rows[places]
        repeated = in_order[1:] == in_order[:-1]
        twice = int(places[1:][repeated][0]) if bool(repeated.any()) else -1
        return int(in_order[0]), int(in_order[-1]), twice

    def workspace(self, x: Any) -> Any:
        """What steps need beside the arrays: it belongs to a state, so that a graph can be captured.

        Its ``skipped`` is an array of one integer, 0.
        """
        return SimpleNamespace(skipped=self.xp.zeros(1, self.xp.int64))

    def __repr__(self) -> str:
        return f"<gpuprop backend {self.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        from gpuprop.backends import select_backend

        return select_backend, (self.name,)


def at_once(*calls: partial[Any]) -> None:
    """Make calls that stay in C one after another, with no signal's handler between two of them."""
    deque(map(partial.__call__, calls), 0)
