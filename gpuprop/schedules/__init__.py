r"""Learning rates that change with the step, under the names, arguments and values of optax.

A schedule is called with the number :math:`t = 0, 1, \dots` of steps taken and gives the learning
rate of the next one, in the units of the parameters; called with an array of such numbers it gives
the array of their rates. It is a plain value, computed on the host in float64: it can be compared,
hashed, pickled, printed, and written into a file by ``State.save``.

Where optax is given an argument that makes no sense (no transition steps, a decay rate of 0, a
negative beginning) and carries on with a constant, a schedule here raises ValueError.

Start with ``schedule.py``; ``curves.py`` has the smooth ones, ``pieces.py`` those with boundaries. This
room may import ``arguments`` and nothing else of the package.

References
----------
DeepMind, optax 0.2.8, ``optax.schedules``, https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html

Examples
--------
>>> from gpuprop import schedules
>>> rate = schedules.warmup_cosine_decay_schedule(0.0, 0.1, warmup_steps=100, decay_steps=1100)
>>> [round(rate(step), 4) for step in (0, 50, 100, 600, 1100, 2000)]
[0.0, 0.05, 0.1, 0.05, 0.0, 0.0]
"""

from gpuprop.schedules.curves import (
    constant_schedule,
    cosine_decay_schedule,
    exponential_decay,
    linear_schedule,
    warmup_constant_schedule,
    warmup_cosine_decay_schedule,
)
from gpuprop.schedules.pieces import join_schedules, piecewise_constant_schedule
from gpuprop.schedules.schedule import Schedule

__all__ = [
    "Schedule",
    "constant_schedule",
    "cosine_decay_schedule",
    "exponential_decay",
    "join_schedules",
    "linear_schedule",
    "piecewise_constant_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
]
