"""When a run stops, and what is said of it: the tests of its points, and what the last checks show.

Start with ``checks.py``. This room may import ``backends``, and of its neighbours ``arrays``, ``bounds``,
``checkpoints``, ``functions``, ``options`` and ``points``.
"""

from gpuprop.driver.stopping.checks import Stopping
from gpuprop.driver.stopping.outcome import Status

__all__ = ["Status", "Stopping"]
