"""How a step is made ready: its scalars, the part of the parameters it takes, and what refuses it.

Start with ``stepping.py``; ``captured.py`` is for CUDA graphs. This room may import ``backends`` and
``rules``, and of its neighbours ``state``.
"""
