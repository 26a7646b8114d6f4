"""Steps of short vectors on the host: by compiled calls alone, which check what they are given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpuprop.backends.base import SHORT
from gpuprop.backends.norms import clip_factor
from gpuprop.optimizers.state import State
from gpuprop.optimizers.steps.finding import found_at_once


class Quick:
    """What a state keeps of an optimizer's last step, to make the next one in fewer of Python's."""

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
