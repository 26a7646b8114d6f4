"""A CUDA device: rules as kernels that CuPy compiles and launches.

Start with ``backend.py``. ``library.py`` is about CuPy's arrays, ``kernels/`` has all that is compiled, and
``graphs.py`` makes replays of a CUDA graph steps. This room may import the files of ``backends`` and
``rules``, and nothing of ``backends/cpu``; all that is CuPy's is here.
"""
