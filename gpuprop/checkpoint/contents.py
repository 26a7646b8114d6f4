"""What a file must say of itself to be a state; a right checksum alone does not make it one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gpuprop.backends import NAMES
from gpuprop.backends.checks import real_dtype
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
    """The description of a file, which fits to its tensors, with the ``shape`` of each array.

    Raises
    ------
    What `understanding` is for
        It is none.
    """
    description = described(metadata)
    if set(description["arrays"]) != set(tensors.keys()):
        raise ValueError("the arrays are others than those described")
    for name, layout in description["arrays"].items():
        _check_layout(name, layout, tensors.get_slice(name), description)
    return description


def described(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The description of a file, right in what it says of all but the arrays."""
    text = metadata["gpuprop.description"]
    description = json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_number)
    if "groups" in description:
        _check_groups(description)
    for part in parts_in(description).values():
        _check_part(part)
    return description


def parts_in(description: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What is said of each state, by what its arrays' names begin with."""
    if "groups" not in description:
        return {"": description}
    return {f"{number}.": part for number, part in enumerate(description["groups"])}


def prefix_of(name: str, description: Mapping[str, Any]) -> str:
    """Which of `parts_in` an array of a state or an optimizer belongs to."""
    return name.split(".")[1] + "." if "groups" in description else ""


def check_one_state(arrays: Iterable[Any]) -> None:
    """Refuse arrays that no step could take together, as those of a state and arrays of its optimizer.

    Some may be real where the others are complex.
    """
    kinds = {f"{array.dtype} of shape {tuple(array.shape)}": array for array in arrays}
    alike = {(real_dtype(array.dtype), tuple(array.shape)) for array in kinds.values()}
    if len(alike) > 1:
        raise ValueError(f"the arrays of one state are {' and '.join(sorted(kinds))}; they must be alike")


def _check_groups(description: Mapping[str, Any]) -> None:
    names, groups, clip_norm = (description[key] for key in ("names", "groups", "clip_norm"))
    if not isinstance(groups, list) or not groups or not all(isinstance(part, dict) for part in groups):
        raise ValueError("groups are no list of descriptions")
    named = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not named or not len(set(names)) == len(names) == len(groups):
        raise ValueError(f"names are {names!r}")
    if clip_norm is not None and (type(clip_norm) not in (int, float) or clip_norm <= 0):
        raise ValueError(f"clip_norm is {clip_norm!r}")
    _check_count("step", description["step"])


def _check_part(part: dict[str, Any]) -> None:
    for name in ("step", "skipped"):
        _check_count(name, part[name])
    scale = part.setdefault("rate_scale", 1.0)  # which 0.1.0 did not have
    if type(scale) not in (int, float) or scale < 0:
        raise ValueError(f"rate_scale is {scale!r}")
    tuning = part.get("tuning", [0, 0, 0])
    is_right = isinstance(tuning, list) and len(tuning) == 3
    if not (is_right and all(type(number) in (int, float) and number >= 0 for number in tuning)):
        raise ValueError(f"tuning is {tuning!r}")
    if part["backend"] not in NAMES:
        raise ValueError(f"backend is {part['backend']!r}")
    rule = part.setdefault("rule", None)  # which 0.1.0 did not write
    if rule is not None and (not rule.isidentifier() or part["optimizer"] is None):
        raise ValueError(f"rule is {rule!r}")


def _check_count(name: str, value: Any) -> None:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{name} is {value!r}")


def _check_layout(name: str, layout: Any, tensor: Any, description: Mapping[str, Any]) -> None:
    check_layout(name, layout, description)
    dtype, shape = layout["dtype"], tensor.get_shape()
    if dtype.startswith("complex"):
        *shape, pair = shape
        if pair != 2:
            raise ValueError(f"{name} has no pairs of real and imaginary parts")
    if tensor.get_dtype() != CODES[dtype]:
        raise ValueError(f"{name} is {dtype} and has {tensor.get_dtype()}")
    if len(layout["axes"]) != len(shape):
        raise ValueError(f"{name} has the axes {layout['axes']!r}")
    if not isinstance(layout["crc32"], str):
        raise TypeError(f"{name} is crc32: {layout['crc32']!r}")
    layout["shape"] = [shape[layout["axes"].index(axis)] for axis in range(len(shape))]


def check_layout(name: str, layout: Any, description: Mapping[str, Any]) -> None:
    """Refuse what is said of an array of no state that is described, or with axes that none has."""
    kind, _, own_name = name.partition(".")
    if kind != "extras" and "groups" in description:
        number, _, own_name = own_name.partition(".")
        if f"{number}." not in parts_in(description):  # type: ignore[arg-type]
            raise ValueError(f"{name!r} is of no group")
    if kind not in ("state", "extras", "optimizer") or (kind == "state" and not own_name.isidentifier()):
        raise ValueError(f"{name!r} is no name of an array")
    dtype, axes = layout["dtype"], layout["axes"]
    if dtype not in CODES:
        raise ValueError(f"{name} is {dtype!r}")
    whole = isinstance(axes, list) and all(type(axis) is int for axis in axes)
    if not whole or sorted(axes) != list(range(len(axes))):
        raise ValueError(f"{name} has the axes {axes!r}")
    if not isinstance(layout["on_device"], bool):
        raise TypeError(f"{name} is on_device: {layout['on_device']!r}")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # JSON has no such number, but Python's does
        raise ValueError(f"{text:.20} is no number")
    return int(text) if text.lstrip("-").isdecimal() else number
