"""The lines of a rule's loops: over a vector, and over arrays of any strides by way of vectors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gpuprop.backends.base import Mode
from gpuprop.rules import Rule
from gpuprop.rules.arithmetic import PREFIX

#: Elements of strided arrays that are brought together at a time, for the vectorised loop.
BLOCK = 64


class Layout(NamedTuple):
    """How arrays lie: along how many strided axes, 0 for contiguous vectors.

    In rows, the last axis is contiguous in each array. Complex numbers are pairs of reals to the loops. Few
    elements are taken one by one: that loop is compiled in a fifth of the time.
    """

    axes: int = 0
    in_rows: bool = False
    is_complex: bool = False
    one_by_one: bool = False


VECTOR = Layout()


def element_lines(rule: Rule, mode: Mode, form: str, axes: int = 1) -> list[str]:
    """The loop over elements, vectorised where they are contiguous; `form` is that of 16-bit elements."""
    counts, at = mode != "plain", f"[{', '.join(f'i{axis}' for axis in range(axes))}]"
    load, store = (f"{way}{form}({{}})" if form else "{}" for way in ("load", "store"))

    def as_kept(value: str) -> str:  # by the array: 16 bits may make an infinity of it
        return load.format(store.format(value))

    # Scalars arrive as float64 and are rounded here, once: in Numba, float32 arithmetic that
    # meets a float64 or an integer goes on in float64.
    before = [f"{PREFIX}{name} = real(scalar_{name})" for name in rule.scalars]
    each = [f"{PREFIX}{name} = {load.format(f'array_{name}{at}')}" for name in rule.arrays]
    if counts:
        each += [f"old_{name} = {PREFIX}{name}" for name in rule.arrays]
        before += ["count = whole(0)"]
    each += [f"{target} = {value}" for target, value, _ in rule.assignments]
    if counts:
        # Of numbers that are finite, and of no others, the difference from themselves is zero.
        kept = [f"old_{rule.arrays[0]}", *(as_kept(PREFIX + name) for name in rule.writes)]
        each += [f"finite = {' + '.join(f'({v} - {v})' for v in kept)} == real(0)"]
        each += ["count = whole(count + whole(not finite))"]
    if mode == "skip":
        each += [f"{PREFIX}{name} = where(finite, {PREFIX}{name}, old_{name})" for name in rule.writes]
    if mode != "count":
        each += [f"array_{name}{at} = {store.format(PREFIX + name)}" for name in rule.writes]
    x = f"array_{rule.writes[0]}"
    loops = ["    " * axis + f"for i{axis} in range({x}.shape[{axis}]):" for axis in range(axes)]
    each = ["    " * axes + line for line in each]
    return [*before, *loops, *each, *(["return count"] if counts else [])]


def strided_lines(rule: Rule, mode: Mode, layout: Layout, arguments: Iterable[str]) -> list[str]:
    """``row_loop`` over rows as they lie, or over blocks that are brought together, and back."""
    *outer, last = range(layout.axes)
    arrays, x = [f"array_{name}" for name in rule.arrays], f"array_{rule.writes[0]}"
    parts = 2 if layout.is_complex else 1
    before, vectors, fetch, bring_back = [f"length = {x}.shape[{last}]"], [], [], []
    loops = [f"for i{axis} in range({x}.shape[{axis}]):" for axis in outer]
    if layout.in_rows:
        for array in arrays:
            offset = " + ".join(f"i{axis} * {array}.strides[{axis}]" for axis in outer)
            vectors.append(f"carray(pointer({array}, {offset}), (length * {parts},), element)")
    else:
        loops.append(f"for start in range(0, length, {BLOCK}):")
        fetch.append(f"size = min({BLOCK}, length - start)")
        for name, array in zip(rule.arrays, arrays, strict=True):
            before += [f"at_{name} = memory_on_the_stack()", f"stride_{name} = {array}.strides[{last}]"]
            before += [f"block_{name} = carray(at_{name}, ({BLOCK},), given)"]
            terms = [*(f"i{axis} * {array}.strides[{axis}]" for axis in outer), f"start * stride_{name}"]
            fetch += [f"first_{name} = {' + '.join(terms)}"]
            place = f"first_{name} + k * stride_{name}"
            fetch += ["for k in range(size):", f"    block_{name}[k] = element_at({array}, {place})"]
            vectors.append(f"carray(at_{name}, (size * {parts},), element)")
            if name in rule.writes and mode != "count":
                bring_back += ["for k in range(size):", f"    put_at({array}, {place}, block_{name}[k])"]
    others = [name for name in arguments if name not in arrays]
    call = f"row_loop({', '.join([*vectors, *others])})"
    body = [*fetch, call if mode == "plain" else f"count += {call}", *bring_back]
    nested = ["    " * depth + line for depth, line in enumerate(loops)]
    nested += ["    " * len(loops) + line for line in body]
    return [*before, *nested] if mode == "plain" else [*before, "count = 0", *nested, "return count"]
