"""The lines of a rule's loops: over a vector, and over arrays of any strides by way of vectors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gpuprop.backends.base import Mode
from gpuprop.rules import Rule
from gpuprop.rules.arithmetic import PREFIX

#: Rows from the one that is fetched to the one that is updated: a row anywhere in memory takes its time.
AHEAD = 8
#: Elements of strided arrays that are brought together at a time, for the vectorised loop.
BLOCK = 64


class Layout(NamedTuple):
    """How arrays lie: along how many strided axes, 0 for contiguous vectors.

    In rows, the last axis is contiguous in each array. Few elements are taken one by one: that loop is
    compiled in a fifth of the time. Of gathered arrays, all but the first, ``rows`` says what is taken along
    the first axis.
    """

    axes: int = 0
    in_rows: bool = False
    is_complex: bool = False
    one_by_one: bool = False
    is_gathered: bool = False


VECTOR = Layout()


def form_of(part: np.dtype) -> str:
    """How the conversions of elements end that are, or have parts, of this dtype."""
    return {"float16": "_half", "bfloat16": "_brain"}.get(part.name, "")


def element_lines(
    rule: Rule, mode: Mode, form: str, layout: Layout = VECTOR, sums: bool = False
) -> list[str]:
    """The loop over elements, vectorised where they are contiguous; `form` is that of 16-bit elements.

    Complex numbers are elements here where `rule` couples their parts, and pairs of reals where not. In a
    mode that counts, ``count`` is how many results are not finite; where it `sums`, what is to be summed is
    left in ``values``.
    """
    axes, counts = range(max(layout.axes, 1)), mode != "plain"
    at = f"[{', '.join(f'i{axis}' for axis in axes)}]"
    load, store = (f"{way}{form}({{}})" if form else "{}" for way in ("load", "store"))
    elements = rule.elements(layout.is_complex)
    parts = {name: rule.parts_of(name, layout.is_complex) for name in rule.arrays}

    def as_kept(value: str) -> str:  # by the array: 16 bits may make an infinity of it
        return load.format(store.format(value))

    # Scalars arrive as float64 and are rounded here, once: in Numba, float32 arithmetic that
    # meets a float64 or an integer goes on in float64.
    before = [f"{PREFIX}{name} = real(scalar_{name})" for name in rule.scalars]
    each = []
    for name, of_name in parts.items():
        if name in rule.fresh:
            each += [f"{PREFIX}{part} = real(0)" for part in of_name]
        elif len(of_name) == 2:
            each += [f"pair = array_{name}{at}"]
            each += [
                f"{PREFIX}{part} = pair.{side}" for part, side in zip(of_name, ("real", "imag"), strict=True)
            ]
        else:
            each.append(f"{PREFIX}{name} = {load.format(f'array_{name}{at}')}")
    if counts:
        each += [f"old_{name} = {PREFIX}{name}" for name in elements.arrays]
        before += ["count = whole(0)"]
    each += [f"{target} = {value}" for target, value, _ in elements.assignments]
    if counts:
        # Of numbers that are finite, and of no others, the difference from themselves is zero.
        prefix = "old_" if rule.looked_at in parts else PREFIX
        kept = [prefix + part for part in rule.parts_of(rule.looked_at, layout.is_complex)]
        kept += [as_kept(PREFIX + name) for name in elements.writes]
        each += [f"finite = {' + '.join(f'({v} - {v})' for v in kept)} == real(0)"]
        each += ["count = whole(count + whole(not finite))"]
    if mode == "skip":
        each += [f"{PREFIX}{name} = where(finite, {PREFIX}{name}, old_{name})" for name in elements.writes]
    if sums:
        total = rule.parts_of(rule.total, layout.is_complex)
        each.append(f"values[i0] = {' + '.join(PREFIX + part for part in total)}")
    if mode != "count":
        for name in rule.writes:
            values = [PREFIX + part for part in parts[name]]
            value = store.format(values[0]) if len(values) == 1 else f"complex({', '.join(values)})"
            each.append(f"array_{name}{at} = {value}")
    x = f"array_{rule.writes[0]}"
    loops = ["    " * axis + f"for i{axis} in range({x}.shape[{axis}]):" for axis in axes]
    each = ["    " * len(axes) + line for line in each]
    return [*before, *loops, *each]


def strided_lines(rule: Rule, mode: Mode, layout: Layout, arguments: Iterable[str]) -> list[str]:
    """``row_loop`` over rows as they lie, or over blocks that are brought together, and back."""
    *outer, last = range(layout.axes)
    arrays, first = [f"array_{name}" for name in rule.arrays], f"array_{rule.arrays[0]}"
    couples = layout.is_complex and rule.couples
    parts = 2 if layout.is_complex and not couples else 1
    ahead = layout.is_gathered and layout.in_rows and layout.axes == 2
    before, vectors, fetch, bring_back = [f"length = {first}.shape[{last}]"], [], [], []
    loops = [f"for i{axis} in range({first}.shape[{axis}]):" for axis in outer]
    loops += [] if layout.in_rows else [f"for start in range(0, length, {BLOCK}):"]
    fetch += [] if layout.in_rows else [f"size = min({BLOCK}, length - start)"]
    for name, array in zip(rule.arrays, arrays, strict=True):
        gathers = layout.is_gathered and array != first
        terms = [f"{f'rows[i{axis}]' if gathers and axis == 0 else f'i{axis}'} * {array}.strides[{axis}]"
                 for axis in outer]  # fmt: skip
        item = "part" if couples and name in rule.reals else "item"
        element = item if parts == 1 else "part"
        if gathers and ahead:
            place = f"rows[min(i0 + {AHEAD}, len(rows) - 1)] * {array}.strides[0]"
            # A short row may lie in two lines of the cache.
            fetch += [f"place = {place}", f"prefetch({array}, place)"]
            fetch += [f"prefetch({array}, place + length * {array}.itemsize - 1)"]
        if layout.in_rows:
            vectors.append(f"vector(pointer({array}, {' + '.join(terms)}), length * {parts}, {element})")
            continue
        before += [f"at_{name} = memory_on_the_stack({BLOCK})", f"stride_{name} = {array}.strides[{last}]"]
        before += [f"block_{name} = vector(at_{name}, {BLOCK}, {item})"]
        place = f"first_{name} + k * stride_{name}"
        if gathers and not outer:
            place = f"rows[start + k] * stride_{name}"
        else:
            fetch.append(f"first_{name} = {' + '.join([*terms, f'start * stride_{name}'])}")
        if name not in rule.fresh:
            fetch += ["for k in range(size):", f"    block_{name}[k] = element_at({array}, {place})"]
        vectors.append(f"vector(at_{name}, size * {parts}, {element})")
        if name in rule.writes and mode != "count":
            bring_back += ["for k in range(size):", f"    put_at({array}, {place}, block_{name}[k])"]
    others = [name for name in arguments if name not in (*arrays, "rows")]
    call = f"row_loop({', '.join([*vectors, *others])})"
    body = [*fetch, call if mode == "plain" else f"count += {call}", *bring_back]
    nested = ["    " * depth + line for depth, line in enumerate(loops)]
    nested += ["    " * len(loops) + line for line in body]
    return [*before, *nested] if mode == "plain" else [*before, "count = 0", *nested]
