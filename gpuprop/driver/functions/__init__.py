"""The user's functions: f and its gradient, a check of the two, the callback, and Ctrl-C in any of them.

Start with ``objective.py``. This room may import ``backends`` and ``arguments``, and of its neighbours
``arrays``, ``points`` and ``options``.
"""
