"""Which arrays are cut, along their first axis, and which are whole in every part."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from gpuprop.checkpoint.contents import parts_in, prefix_of

#: What `minimize` says of a run, which is rank 0's: its checks may happen to be as many as a part's rows.
_OF_A_RUN = re.compile(r"extras\.minimize\.(?!before$|before\.|best$|best\.)")
#: What each rank may have of its own, or has the sum of.
_OWN = ("skipped", "backend")


def whole_of(descriptions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The description of a state, from those of its parts in the order of their ranks.

    Cut are the arrays of the state and of its optimizer, and those extras that have as many rows as the
    parameters on every rank, or are not the same on all. Others are whole.

    Raises
    ------
    ValueError
        They are not of one state.
    """
    first, *others = descriptions
    for rank, other in enumerate(others, 1):
        _check_common(_common(first), _common(other), f"rank {rank}", "rank 0")
    layouts = {name: [each["arrays"][name] for each in descriptions] for name in first["arrays"]}
    uncut = {**first, "arrays": {name: {"rows": _rows(each)} for name, each in layouts.items()}}
    lengths = parameter_rows(uncut).values()
    whole = {**first, "arrays": {name: _whole(name, each, lengths) for name, each in layouts.items()}}
    if "groups" in first:
        groups = zip(*(each["groups"] for each in descriptions), strict=True)
        return whole | {"groups": [{**parts[0], "skipped": _skipped(parts)} for parts in groups]}
    return whole | {"skipped": _skipped(descriptions)}


def parameter_rows(description: Mapping[str, Any]) -> dict[str, list[int]]:
    """How many rows the parameters have in each part, by the groups' names, where it is known.

    Where neither a state nor its optimizer has arrays, it is known of extras with the usual names: ``x``, or
    for a group ``x.NAME`` or ``NAME``.
    """
    arrays, found = description["arrays"], {}
    for prefix, group in zip(parts_in(dict(description)), description.get("names", [""]), strict=True):
        own = [n for n in arrays if not n.startswith("extras.") and prefix_of(n, description) == prefix]
        usual = [f"extras.x.{group}", f"extras.{group}"] if group else ["extras.x"]
        for name in [*own, *(name for name in usual if name in arrays)][:1]:
            if arrays[name]["rows"] is not None:
                found[group] = arrays[name]["rows"]
    return found


def rows_to_read(description: Mapping[str, Any], comm: Any, given: Sequence[Mapping[str, slice]]) -> Any:
    """Of an array's name, the rows of the whole that each rank reads.

    `given` has those that ranks want of the parameters, by the groups' names; others are cut evenly.
    """
    known = parameter_rows(description)

    def of(name: str) -> list[slice]:
        rows = description["arrays"][name]["rows"]
        alike = sorted(group for group in known if known[group] == rows)
        if not name.startswith("extras."):
            number = list(parts_in(dict(description))).index(prefix_of(name, description))
            alike = [description.get("names", [""])[number]]
        group = next((g for g in alike if name.endswith(f".{g}")), alike[0] if alike else None)
        total = sum(rows)
        even = [slice(0, total)] if comm is None else comm.cuts(total)
        return [wanted.get(group or "", each) for wanted, each in zip(given, even, strict=True)]

    return cache(of)


def check_all_rows(path: str, description: Mapping[str, Any], given: Sequence[Mapping[str, slice]]) -> None:
    """Refuse parts of several ranks that are not the whole, one after the other.

    Raises
    ------
    ValueError
        Rows are left out, or of two ranks, or in another order.
    """
    for name, lengths in parameter_rows(description).items():
        parts = [wanted[name] for wanted in given if name in wanted]
        ends = [0, *(part.stop for part in parts if part.start < part.stop)]
        begins = [*(part.start for part in parts if part.start < part.stop), sum(lengths)]
        if parts and (len(parts) < len(given) or begins != ends):
            told = ", ".join(f"{part.start} to {part.stop}" for part in parts)
            raise ValueError(
                f"part is of the rows {told:.200} on {len(parts)} of {len(given)} ranks; in the order of the "
                f"ranks they must be all of the {sum(lengths)} rows in {path}"
            )


def checked_part(path: str, description: Mapping[str, Any], part: Any) -> dict[str, slice]:
    """The rows of the parameters that a user wants, by the groups' names.

    Raises
    ------
    TypeError, ValueError
        There are no such rows.
    """
    names, known, found = description.get("names"), parameter_rows(description), {}
    if part is not None and names is not None and not (isinstance(part, Mapping) and {*part} <= {*names}):
        raise TypeError(
            f"part is {part!r} and {path} is of groups; it must be a dictionary of slices, by the names "
            f"{', '.join(names)}"
        )
    for name, each in ({} if part is None else {"": part} if names is None else part).items():
        if name not in known:
            raise ValueError(
                f"part is {part!r}, and nothing in {path} tells how many rows the parameters have"
            )
        total = sum(known[name])
        is_plain = isinstance(each, slice) and each.step in (None, 1)
        low, high = (each.start or 0, total if each.stop is None else each.stop) if is_plain else (0, -1)
        if not (
            isinstance(low, (int, np.integer))
            and isinstance(high, (int, np.integer))
            and 0 <= low <= high <= total
        ):
            raise ValueError(f"part is {each!r}; it must be a slice(low, high) of the {total} rows in {path}")
        found[name] = slice(int(low), int(high))
    return found


def _whole(name: str, layouts: list[dict[str, Any]], lengths: Iterable[list[int] | None]) -> dict[str, Any]:
    rows = _rows(layouts)
    kinds = {(layout["dtype"], *layout["shape"], layout["crc32"]) for layout in layouts}
    is_cut = len(kinds) > 1 or not name.startswith("extras.") or rows in lengths
    if _OF_A_RUN.match(name) or not is_cut or (rows is None and len(layouts) == 1):
        return {**layouts[0], "rows": None}
    if rows is None or len({(layout["dtype"], *layout["shape"][1:]) for layout in layouts}) > 1:
        told = sorted({f"{layout['dtype']} of shape {tuple(layout['shape'])}" for layout in layouts})
        raise ValueError(
            f"{name.removeprefix('extras.')} is {' and '.join(told):.300} on several ranks, and not the same "
            "on all; parts must be alike but for the length of their first axis, along which they are joined"
            ": give numpy.array([number]) of a number of each rank, or the same on all"
        )
    largest = max(layouts, key=lambda layout: layout["shape"][0])  # an empty one tells no order of axes
    return {**largest, "shape": [sum(rows), *layouts[0]["shape"][1:]], "rows": rows}


def _rows(layouts: Sequence[Mapping[str, Any]]) -> list[int] | None:
    """The lengths of the first axes."""
    shapes = [layout["shape"] for layout in layouts]
    return [shape[0] for shape in shapes] if all(shapes) else None


def _skipped(parts: Iterable[Mapping[str, Any]]) -> int:
    return sum(part["skipped"] for part in parts)


def _common(description: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same on all ranks."""
    flat = {key: value for key, value in description.items() if key not in ("arrays", "groups", *_OWN)}
    flat["arrays"] = sorted(description["arrays"])
    for group, part in zip(description.get("names", ()), description.get("groups", ()), strict=True):
        flat |= {f"{group}: {key}": value for key, value in part.items() if key not in _OWN}
    return flat


def _check_common(ours: dict[str, Any], theirs: dict[str, Any], one: str, other: str) -> None:
    differing = [key for key in (*ours, *theirs) if ours.get(key) != theirs.get(key)]
    if differing:
        key = differing[0]
        raise ValueError(
            f"{key} is {theirs.get(key)!r:.200} on {one} and {ours.get(key)!r:.200} on {other}; all ranks "
            "must save one state at the same step, with extras of the same names"
        )
