"""What a file of a state holds, from its header alone; of parts, from their index."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpuprop.checkpoint.contents import parts_in, understanding
from gpuprop.checkpoint.description import KINDS
from gpuprop.checkpoint.parts.index import Index


def lines_about(path: str | os.PathLike[str]) -> Iterator[str]:
    """Lines for people; the arrays, which may be many gigabytes, are not read.

    Raises
    ------
    OSError, ValueError
        As `load_state`, but for damage in the arrays.
    """
    path = os.fsdecode(path)
    index = Index.read(path)
    metadata, description = index.metadata, index.description
    with understanding(path, metadata, "a description"):
        parts = parts_in(description)
        names = description.get("names", [""])
        unknown = {"code": {"name": "unknown"}}
        said = [_text(part["optimizer"] or unknown, prefix) for prefix, part in parts.items()]
    yield f"{path}: {os.path.getsize(path):,} bytes"
    if "parts" in description:
        sizes = [os.path.getsize(file) for file in index.files if os.path.exists(file)]
        number, lost = f"{len(index.files)} parts", len(index.files) - len(sizes)
        number += f", {lost} of them missing" if lost else ""
        yield f"the index of {number}, {index.files[0]} and so on: {sum(sizes):,} bytes"
    yield f"written by gpuprop {metadata.get('gpuprop.version')}, in format {metadata['gpuprop.format']}"
    if "names" in description:
        yield f"groups of {len(parts)}, step: {description['step']}, clip_norm: {description['clip_norm']}"
    for name, part, optimizer in zip(names, parts.values(), said, strict=True):
        of = f"{name!r}: " if "names" in description else ""
        yield f"{of}optimizer: {optimizer}"
        scale = "" if part["rate_scale"] == 1 else f", rate_scale: {part['rate_scale']}"
        scale += f", found_rate: {part['tuning'][0]}" if "tuning" in part else ""
        yield f"{of}step: {part['step']}, elements skipped: {part['skipped']}{scale}"
        yield f"{of}backend: {part['backend']}"
    for name, layout in description["arrays"].items():
        shape = tuple(layout["shape"])
        itemsize = 2 if layout["dtype"] == "bfloat16" else np.dtype(layout["dtype"]).itemsize
        yield f"  {name}: {layout['dtype']} of shape {shape}, {itemsize * math.prod(shape):,} bytes"


def _text(described: Any, prefix: str) -> str:
    """A hyperparameter as Python would write it, without defaults; of what is code, the name.

    `prefix` is of the arrays among them, as the file calls them.
    """
    if isinstance(described, list):
        inner = ", ".join(_text(each, prefix) for each in described)
        return f"({inner}{',' * (len(described) == 1)})"
    if not isinstance(described, dict):
        return repr(described)
    ((kind, content),) = described.items()
    if kind == "float":
        return str(content)
    if kind == "array":
        return f"<the array optimizer.{prefix}{content}>"
    if kind == "code":
        return f"<code, which is in no file: {content['name']}>"
    of_class = getattr(KINDS.get(kind), "__dataclass_fields__", {})
    other = {n: v for n, v in content.items() if n not in of_class or v != of_class[n].default}
    return f"{kind}({', '.join(f'{name}={_text(value, prefix)}' for name, value in other.items())})"
