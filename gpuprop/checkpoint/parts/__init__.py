"""States of several ranks in files: a part each, and an index that takes the place of the former one last.

An index is a safetensors file without tensors. Its description is that of the whole: of each array the
shape, and how many rows of its first axis are in each part, or null where it is whole in the first part; and
by the CRC-32 of its header, each part. A part is a file as of one process, beside the index:
``NAME.GENERATION.rankN``. What ranks tell each other travels through their communicator.

Start with ``index.py``. This room may import what ``checkpoint`` may.
"""
