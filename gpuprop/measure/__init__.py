"""Whether it is right here, and how fast: the memory's bandwidth, and a check of every device.

Start with ``selfcheck.py``. This is the top floor: it may import ``optimizers``, ``backends`` with both
devices' rooms, ``rules`` and ``version``, and nothing imports it but ``python -m gpuprop`` and the scripts.
"""
