"""The driver: SciPy's `minimize` with these optimizers, on any device, and a check of gradients.

Start with ``minimize.py``, then ``run.py``. Every array of a user's function goes through
``arrays.py``. This room may import ``checkpoint``, ``optimizers``, ``backends``, ``schedules`` and
``arguments``, and alone imports SciPy.
"""

from __future__ import annotations

from gpuprop.driver.functions.gradient_check import check_gradient
from gpuprop.driver.minimize import minimize, minimize_by

__all__ = ["check_gradient", "minimize", "minimize_by"]
