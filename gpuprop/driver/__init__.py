"""The driver: SciPy's `minimize` with these optimizers, on any device, and a check of gradients."""

from __future__ import annotations

from gpuprop.driver.gradient_check import check_gradient
from gpuprop.driver.minimize import minimize, minimize_by

__all__ = ["check_gradient", "minimize", "minimize_by"]
