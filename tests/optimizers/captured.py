"""Descents whose steps are captured into a CUDA graph, and their twins, whose steps are not."""

import numpy as np
from random_steps import normal

from gpuprop import schedules

SIZE = 37
FALLING = schedules.exponential_decay(0.1, transition_steps=10, decay_rate=0.5)


class Descent:
    """x, its gradient by `slopes`, and a state: stepped, or captured and replayed."""

    def __init__(self, cupy, optimizer, x, slopes, **options):
        self.cupy, self.optimizer, self.options = cupy, optimizer, options
        self.x, self.slopes = cupy.asarray(x), cupy.asarray(slopes)
        self.grad, self.state = cupy.empty_like(self.x), optimizer.init(self.x)
        self.stream = cupy.cuda.Stream(non_blocking=True)

    def step(self, many=1):
        for _ in range(many):
            self.cupy.multiply(self.x, self.slopes, out=self.grad)
            self.optimizer.step(self.x, self._part(), self.state, **self.options)

    def _part(self):
        at = self.options.get("at", ...)
        return self.grad[: len(at)] if isinstance(at, list) else self.grad[at]

    def capture(self, many=1):
        self.cupy.cuda.Device().synchronize()
        with self.stream:
            self.stream.begin_capture()
            self.step(many)
            self.graph = self.stream.end_capture()

    def replay(self, many=1):
        for _ in range(many):
            self.graph.launch(self.stream)

    def found(self):
        numbers = {"x": self.x, **self.state.arrays}
        self.cupy.cuda.Device().synchronize()
        return {
            **{name: array.get().tobytes() for name, array in numbers.items()},
            "step": self.state.step, "skipped": self.state.skipped, "rate": self.state.found_rate,
        }  # fmt: skip


def twins(cupy, optimizer, dtype="float32", spoilt=False, shape=SIZE, **options):
    x, slopes = normal(shape, dtype, 1), abs(normal(shape, dtype, 2)).astype(dtype)
    if spoilt:
        slopes.reshape(-1)[3] = np.nan
    return [Descent(cupy, optimizer, x, slopes, **options) for _ in range(2)]
