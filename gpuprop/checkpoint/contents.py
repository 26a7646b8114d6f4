"""What a file must say of itself to be a state; a right checksum alone does not make it one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gpuprop.backends import NAMES
from gpuprop.checkpoint.container import CODES
from gpuprop.version import __version__


@contextmanager
def understanding(path: str, metadata: Mapping[str, str], what: str) -> Iterator[None]:
    """One error for all that `what` raises where its parts are not what they are taken for."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        version = metadata.get("gpuprop.version", "(unknown)")
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{path} has {what} of gpuprop {version:.40} that this gpuprop {__version__} does not "
            f"know ({reason:.200}): it is damaged, or of another version; load another copy, or mend: "
            "python -m pip install --upgrade gpuprop"
        ) from error


def contents_of(metadata: Mapping[str, str], tensors: Any) -> dict[str, Any]:
    """The description of a file, which fits to its tensors.

    Raises
    ------
    What `understanding` is for
        It is none.
    """
    text = metadata["gpuprop.description"]
    description = json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_number)
    for name in ("step", "skipped"):
        if type(description[name]) is not int or not 0 <= description[name] < 2**63:
            raise ValueError(f"{name} is {description[name]!r}")
    if description["backend"] not in NAMES:
        raise ValueError(f"backend is {description['backend']!r}")
    rule = description.setdefault("rule", None)  # which 0.1.0 did not write
    if rule is not None and (not rule.isidentifier() or description["optimizer"] is None):
        raise ValueError(f"rule is {rule!r}")
    if set(description["arrays"]) != set(tensors.keys()):
        raise ValueError("the arrays are others than those described")
    for name, layout in description["arrays"].items():
        _check_layout(name, layout, tensors.get_slice(name))
    return description


def check_one_state(arrays: Iterable[Any]) -> None:
    """Refuse arrays that no step could take together, as those of a state and the bounds of its optimizer."""
    kinds = {f"{array.dtype} of shape {tuple(array.shape)}" for array in arrays}
    if len(kinds) > 1:
        raise ValueError(f"the arrays of one state are {' and '.join(sorted(kinds))}; they must be alike")


def _check_layout(name: str, layout: Any, tensor: Any) -> None:
    kind, _, own_name = name.partition(".")
    if kind not in ("state", "extras", "optimizer") or (kind == "state" and not own_name.isidentifier()):
        raise ValueError(f"{name!r} is no name of an array")
    dtype, axes, shape = layout["dtype"], layout["axes"], tensor.get_shape()
    if dtype.startswith("complex"):
        *shape, pair = shape
        if pair != 2:
            raise ValueError(f"{name} has no pairs of real and imaginary parts")
    if tensor.get_dtype() != CODES[dtype]:
        raise ValueError(f"{name} is {dtype} and has {tensor.get_dtype()}")
    whole = isinstance(axes, list) and all(type(axis) is int for axis in axes)
    if not whole or sorted(axes) != list(range(len(shape))):
        raise ValueError(f"{name} has the axes {axes!r}")
    if not isinstance(layout["on_device"], bool) or not isinstance(layout["crc32"], str):
        raise TypeError(f"{name} is on_device: {layout['on_device']!r}, crc32: {layout['crc32']!r}")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # JSON has no such number, but Python's does
        raise ValueError(f"{text:.20} is no number")
    return int(text) if text.lstrip("-").isdecimal() else number
