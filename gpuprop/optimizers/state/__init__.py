"""What optimizers remember between steps: of one array, and of groups of such.

Start with ``single.py``. This room may import ``arguments``, ``backends`` and ``rules``, and hands a call of
``save`` upwards.
"""

from gpuprop.optimizers.state.of_groups import GroupsState
from gpuprop.optimizers.state.single import State

__all__ = ["GroupsState", "State"]
