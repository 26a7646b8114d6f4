"""The optimizers: immutable hyperparameters that make a state and step through it in place.

Start with ``base.py``; ``steps/`` makes a step ready, ``rmsprop.py`` and ``siblings.py`` turn
hyperparameters into the scalars of a rule, ``conventions/`` speaks other libraries' arguments,
``fused.py`` takes a user's lines into the step, and ``groups.py`` steps several arrays. This room may import
``backends``, ``rules``, ``schedules`` and ``arguments``.
"""

from __future__ import annotations

from gpuprop.optimizers.base import Optimizer
from gpuprop.optimizers.fused import Fused
from gpuprop.optimizers.groups import Groups
from gpuprop.optimizers.rmsprop import RMSProp
from gpuprop.optimizers.rule import RuleOptimizer
from gpuprop.optimizers.siblings import SGD, AdaGrad, Adam, AdamW
from gpuprop.optimizers.state import GroupsState, State

__all__ = [
    "SGD", "AdaGrad", "Adam", "AdamW", "Fused", "Groups", "GroupsState", "Optimizer", "RMSProp",
    "RuleOptimizer", "State",
]  # fmt: skip
