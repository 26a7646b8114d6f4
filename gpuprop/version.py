"""The version, on the ground: files of states name it."""

__version__ = "0.2.0.dev0"
