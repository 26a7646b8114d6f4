"""The CPU: rules as loops that are compiled, vectorised and on several threads.

Start with ``backend.py``; ``lines.py`` and ``loops.py`` make the loops, and ``layouts.py`` says which of them
fit arrays; ``kernels/`` compiles them, and keeps them between processes. ``threads.py`` says how many
threads there may be, and ``pool.py`` how a call goes to them. This room may import the files of
``backends`` and ``rules``, and ``version``, and nothing of ``backends/gpu``; all that is Numba's is here.
"""
