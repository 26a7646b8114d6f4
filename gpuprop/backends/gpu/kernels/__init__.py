"""What is compiled for a CUDA device.

Start with ``wide.py``, the kernel of contiguous arrays, and ``elementwise.py``, that of all others, which
has what becomes of an element. ``passes.py`` takes several steps in one launch; ``reductions.py`` and
``finding.py`` are what comes before a step. ``compiler.py``, alone with CuPy's private parts, and
``machine_code.py`` show without a device what NVIDIA's compiler makes of them. This room may import the
files of ``backends``, and ``rules``.
"""
