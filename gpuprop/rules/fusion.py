"""Lines of a user's around a rule: what makes the gradient, what follows the step, and what is summed."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from gpuprop.rules.arithmetic import FUNCTIONS, PREFIX, assignment, check_names, names_of, read_lines
from gpuprop.rules.composition import free_name, renamed
from gpuprop.rules.rule import Rule, parsed


class Lines(NamedTuple):
    """What `Options.fuse` was given, and which of the arrays are real beside complex parameters."""

    before: str = ""
    after: str = ""
    reads: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()
    value: str = ""
    reals: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """All that the lines and the value call by a name, functions too."""
        return set().union(*(names_of(parsed(text)) for text in (self.before, self.after, self.value)))

    def among(self, taken: Iterable[str], x: str, gradient: str) -> Lines:
        """The same in a rule that has `taken` names, and calls the parameters and the gradient otherwise."""
        own = self.names - {*FUNCTIONS, "x", "grad"}
        names, used = {"x": x, "grad": gradient}, {*taken}
        for name in sorted(own):  # what one is called now, another may have been called before
            names[name] = free_name(name, used | own - {name})
            used.add(names[name])
        texts: dict[str, Any] = {
            field: renamed(getattr(self, field), names) for field in ("before", "after", "value")
        }
        tuples: dict[str, Any] = {
            field: tuple(names[name] for name in getattr(self, field))
            for field in ("reads", "scalars", "reals")
        }
        return self._replace(**texts, **tuples)


def checked_lines(
    before: str, after: str, reads: tuple[str, ...], scalars: tuple[str, ...], value: str | None
) -> Lines:
    """What works together.

    Raises
    ------
    ValueError
        A line cannot work; it is quoted. Or a name is missing, or is one too many.
    TypeError
        Lines are no text, or names no tuple.
    """
    if any(isinstance(names, (tuple, list)) and "x" in names for names in (reads, scalars)):
        raise ValueError("x is the parameter, which every line knows; leave it out of reads and scalars")
    check_names("fuse", "fuse", reads, ("x",), scalars)
    fixed = dict.fromkeys(reads, "an array that is only read") | dict.fromkeys(scalars, "a scalar")
    made = read_lines("before", before, {*fixed, "x"}, fixed | {"x": "the parameter, which the step changes"})
    known = {*fixed, "x", *(line.target.removeprefix(PREFIX) for line in made)}
    if "grad" not in known:
        raise ValueError(
            f"before is {before!r}, which never assigns grad, nor is it among reads; add a line such as "
            "`grad = 2 * x`, or the array grad to reads"
        )
    if not isinstance(value, (str, type(None))):
        raise TypeError(f"value is {value!r}; it must be an expression as text, or None")
    if value is not None:
        line = f"({' '.join(value.split())})"  # in brackets, so that it is one
        read_lines("value", f"value = {line}", known, {})
        value = ast.unparse(parsed(line))
    changed = read_lines("after", after, known, fixed | {"grad": "what the step was made of"})
    before, after = (textwrap.dedent(text).strip("\n") for text in (before, after))
    if after and PREFIX + "x" not in {line.target for line in changed}:
        raise ValueError(f"after is {after!r}, which never assigns x; add a line such as `x = max(x, 0)`")
    # A gradient that is an array comes first, as everywhere.
    in_order = tuple(sorted(reads, key="grad".__ne__))
    lines = Lines(before, after, in_order, tuple(scalars), value or "")
    for unused in sorted(fixed.keys() - lines.names - {"grad"}):
        raise ValueError(f"{unused!r} is used neither in before nor in after or value; leave it out")
    return lines


@cache
def maker(lines: Lines, what: str) -> Rule:
    """The rule that writes nothing but what `lines` make: their ``grad``, or their ``value``.

    Of complex x the value is complex, and its sum is that of both parts.
    """
    body, target, end = lines.before, what, ""
    if what == "value":
        target = free_name(what, {*lines.names, "x"})
        local = free_name(f"{target}_", {*lines.names, "x"})
        body, end = f"{body}\n{local} = {lines.value}", f"\n{target} = {{}}"
    kept, needed = _needed(body, {local if end else target})
    reads, scalars, reals = (
        tuple(name for name in names if name in needed)
        for names in ((*lines.reads, "x"), lines.scalars, lines.reals)
    )

    def rule(body: str) -> Rule:
        return Rule(what, reads, (target,), scalars, body, reals=reals, fresh=(target,))

    if not end:
        return rule(kept)
    try:
        return rule(kept + end.format(f"as_complex({local})"))
    except ValueError:  # it has two parts already
        return rule(kept + end.format(local))


@cache
def behind_gradient(lines: Lines) -> Lines:
    """What is left of `lines` where their ``grad`` is an array."""
    before = lines.before
    if "grad" not in lines.reads:  # what was made of it before it was whole, is made again
        before = renamed(before, {"grad": free_name("made", lines.names)})
    kept, needed = _needed(before, names_of(parsed(lines.after)))
    reads, scalars, reals = (
        tuple(name for name in names if name in needed and name != "grad")
        for names in (lines.reads, lines.scalars, lines.reals)
    )
    return lines._replace(before=kept, reads=("grad", *reads), scalars=scalars, value="", reals=reals)


def _needed(body: str, wanted: set[str]) -> tuple[str, set[str]]:
    """The lines without which those names would not be what they are, and all that they need in turn."""
    kept, needed = [], set(wanted)
    for line in reversed(parsed(body).body):
        name, value = assignment(line)
        if name in needed:
            needed = needed - {name} | names_of(value)
            kept.append(f"{name} = {ast.unparse(value)}")
    return "\n".join(reversed(kept)), needed
