"""Compiled once: from the lines of a kernel to a function that Python calls, by machine code in files.

Start with ``kernel.py``, which says what a kernel is and gives its function; ``entry.py`` is what a call
does, ``store.py`` keeps machine code between processes, by a key that has all of ``environment.py``, and
``loader.py`` loads it; ``team.py`` has the threads. ``compiler.py``, ``entry.py``, ``team.py``,
``intrinsics.py`` and ``memory.py`` alone need Numba, and are imported where there is something to compile.
This room may import ``version.py`` alone.
"""
