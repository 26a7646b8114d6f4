"""States in files: whole after any crash, checked bit by bit when they are read, and no pickle.

A file is a safetensors file. Its tensors are the arrays of the state, ``state.velocity``, those of the
user, ``extras.x``, and those among the hyperparameters, ``optimizer.0``: each in the order it has in
memory, complex ones as pairs of reals. Its metadata are the format, the version of gpuprop, a
description in JSON (the rule's name, hyperparameters, step, backend; of each array the layout and the
CRC-32), and the CRC-32 of the header, in which all of this stands. Of a hyperparameter that is code, such
as a function, there is the name.

What several ranks have saved is a file for each, and an index of them: see ``parts``.

Start with ``saving.py``. This room may import ``arguments``, ``optimizers``, ``backends``, ``schedules``,
``rules`` and ``version``; only ``container.py`` imports the library safetensors.
"""

from __future__ import annotations

from gpuprop.checkpoint.loading import load_state
from gpuprop.checkpoint.saving import save

__all__ = ["load_state", "save"]
