"""The optimizers: immutable hyperparameters that make a state and step through it in place.

Start with ``base.py``, where a step is; ``rmsprop.py`` and ``siblings.py`` turn hyperparameters into
the scalars of a rule, and ``conventions/`` speaks other libraries' arguments. This room may import
``backends``, ``rules``, ``schedules`` and ``arguments``.
"""

from __future__ import annotations

from gpuprop.optimizers.base import Optimizer
from gpuprop.optimizers.rmsprop import RMSProp
from gpuprop.optimizers.rule import RuleOptimizer
from gpuprop.optimizers.siblings import SGD, AdaGrad, Adam, AdamW
from gpuprop.optimizers.state import State

__all__ = ["SGD", "AdaGrad", "Adam", "AdamW", "Optimizer", "RMSProp", "RuleOptimizer", "State"]
