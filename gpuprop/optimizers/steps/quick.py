"""Steps in fewer of Python's calls: by compiled ones, which check what they are given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpuprop.backends.base import SHORT
from gpuprop.backends.norms import clip_factor
from gpuprop.optimizers.state import State
from gpuprop.optimizers.steps.finding import found_at_once
from gpuprop.optimizers.steps.making import as_total


class Quick:
    """What a state keeps of an optimizer's last step of a short vector on the host, for the next one."""

    def __init__(self, optimizer: Any, x: Any, state: State) -> None:
        backend: Any = state.backend
        self._backend = backend
        self.optimizer, self._kept, self._reads = optimizer, optimizer._kept, optimizer._reads
        #: Bytes of x; below 0 where there is no such step.
        self._most = -1
        self._norm: Any = None
        self._counts: Any = None
        self._clips = optimizer.clip_norm is not None
        self._finds = optimizer._finds_rate
        self._skips = optimizer.nonfinite == "skip"
        #: What makes NumPy's arrays of those of another library.
        self._adopt: Any = None if type(x) is np.ndarray else backend.adopt
        if self._adopt:
            x = backend.adopt("x", x, written=True)
        if optimizer.projected_gradient:
            return
        mode = "skip" if self._skips else "plain"
        self._update = backend.quick(optimizer.rule, x, mode)
        if self._clips:
            self._norm = backend.quick_norm(x, mode == "skip")
        if optimizer.nonfinite == "raise":
            self._counts = backend.quick(optimizer.rule, x, "count")
        is_ready = (
            self._update is not None
            and (self._norm is not None or not self._clips)
            and (self._counts is not None or optimizer.nonfinite != "raise")
        )
        self._most = SHORT * x.itemsize if is_ready else -1

    def ran(self, optimizer: Any, x: Any, grad: Any, state: Any) -> bool:
        """Make the step; or do nothing, and return False: something is out of the ordinary."""
        if (
            optimizer is not self.optimizer
            or state.optimizer is not optimizer
            or state.backend is not self._backend
        ):
            return False
        if self._adopt:
            x, grad = self._adopt("x", x, written=True), self._adopt("grad", grad)
        values = state.__dict__
        try:
            if x.nbytes > self._most:
                return False
            arrays = (grad, *self._reads, x, *[values[name] for name in self._kept])
        except (AttributeError, KeyError):
            return False
        clock = state._clock
        scalars = optimizer._constant_scalars
        if self._finds:
            scalars = found_at_once(optimizer, arrays, state)
            if scalars is None:
                return False
        elif state._rate_scale != 1.0 or (scalars is None and optimizer._template is None):
            scalars = optimizer._scalars_of(state, x)
        elif scalars is None:
            scalars = optimizer._after(clock.item(1))
        if self._clips:
            sums = np.empty(1)
            if not self._norm(grad, sums) or not (square := sums.item(0)) < math.inf:
                return False
            scale = optimizer._sign * clip_factor(math.sqrt(square), optimizer.clip_norm)
            scalars = [*scalars]
            scalars[optimizer._place_of_scale] = scale
        if self._counts is not None:
            count = np.zeros(3, np.int64)
            if not self._counts(*arrays, *scalars, count[:1], count[1:]) or count.item(0):
                return False
        if self._skips:
            return self._update(*arrays, *scalars, state._workspace.skipped, clock)
        return self._update(*arrays, *scalars, clock)


def step_at_once(fused: Any, x: Any, data: Any, state: Any, scalars: dict[str, Any]) -> tuple[Any] | None:
    """Make a step of a `Fused` where nothing is out of the ordinary, for its value; or none, for None."""
    optimizer, lines = fused.optimizer, fused.lines
    try:
        if state.optimizer is not optimizer or len(data) != len(lines.reads) or x.dtype.kind == "c":
            return None
        if type(data) is not dict and lines.reads:  # another mapping may make what it has not
            return None
        given = [data[name] for name in lines.reads]
        more = [scalars[name] for name in lines.scalars]
        arrays = (*given, *optimizer._reads, x, *[getattr(state, name) for name in optimizer._kept])
    except (AttributeError, IndexError, KeyError, TypeError):  # for the checks to refuse
        return None
    counts = not optimizer._is_plain
    if len(scalars) != len(more) or {*map(type, more)} - {float} or (counts and state._workspace is None):
        return None
    skipped = state._workspace.skipped if counts else None
    known: Any = optimizer._constant_scalars
    if known is None or state._rate_scale != 1.0:
        known = optimizer._scalars_of(state, x)
    known = (*known, *more)
    if not lines.value:
        kernel = state.backend.quick(fused.rule, x, "skip" if counts else "plain")
        if not kernel or not kernel(*arrays, *known, *[skipped] * counts, state._clock):
            state.backend.update(fused.rule, arrays, known, state._clock, skipped)
        return (None,)
    sums = state.backend.run_at_once(fused.rule, arrays, [known], 1, state._clock, skipped)
    return None if sums is None else (state.backend.total(as_total(state.backend, sums[0])),)
