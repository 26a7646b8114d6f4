"""A CUDA device: rules as kernels that CuPy compiles and launches.

Start with ``backend.py``; ``kernels.py`` makes the kernels, and ``compiler.py``, alone with CuPy's
private parts, shows without a device what NVIDIA's compiler makes of them. This room may import the
files of ``backends`` and ``rules``, and nothing of ``backends/cpu``; all that is CuPy's is here.
"""
