"""A CUDA device: rules as kernels that CuPy compiles and launches.

Start with ``backend.py``; ``wide.py`` makes the kernel of contiguous arrays and ``kernels.py`` that of all
others. ``reductions.py`` is what comes before a step, and ``graphs.py`` makes replays of a CUDA graph steps.
``compiler.py``, alone with CuPy's private parts, and ``machine_code.py`` show without a device what NVIDIA's
compiler makes of them. This room may import the files of ``backends`` and ``rules``, and nothing of
``backends/cpu``; all that is CuPy's is here.
"""
