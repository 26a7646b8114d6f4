"""What an update rule is: names, and a body in the arithmetic that every backend compiles."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from typing import Any

from gpuprop.rules.arithmetic import PREFIX, Assignment, parse
from gpuprop.rules.pairs import Parts, couples, in_parts


@dataclass(frozen=True, eq=False)
class Rule:
    """An elementwise update of arrays in place.

    Parameters
    ----------
    name : str
        An identifier; the kernels carry it.
    reads : tuple of str
        Arrays that the body only reads.
    writes : tuple of str
        Arrays that the body reads and assigns, the parameters first.
    scalars : tuple of str
        Numbers that are the same for every element.
    body : str
        Assignments, one a line, of ``+ - * /``, comparisons inside ``where(condition, a, b)``,
        ``sqrt``, ``abs``, ``min`` and ``max`` (a NaN wins, as in `numpy.minimum`), over one
        element of each array, the scalars, numbers, and names assigned on earlier lines. Of complex
        arrays the lines are done for each part by itself, but for ``abs2(a)``, which is
        :math:`|a|^2` (of a real ``a`` its square), and ``as_complex(a)``, whose real part is ``a``.
    reference : callable, optional
        The same in whole-array NumPy, for the backend ``"numpy"``: from the arrays and scalars by
        name to a dictionary with the new value of each array in `writes`. By default that backend
        evaluates `body`. Complex arrays come as pairs of reals on a last axis of length 2, beside which
        that of real ones is 1, and the functions ``abs2`` and ``as_complex`` come by name, where the body
        has one of them or `reals` names arrays.
    reals : tuple of str, optional
        Arrays that are real where the parameters are complex, such as an average of ``abs2(g)``.
    fresh : tuple of str, optional
        Arrays in `writes` that are not read: the body finds 0 in them.
    looks_at : str, optional
        What the body calls what is looked at, beside what it writes, for numbers that are not finite; by
        default the first array that it reads.
    total : str, optional
        What the body calls what is summed over all elements.

    Raises
    ------
    ValueError
        The body cannot work: the message quotes the line and says why.

    Notes
    -----
    A rule is compiled when it is first used, and its kernels are kept by the rule's identity: make
    it once, where a module is loaded, and not anew for each step.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    scalars: tuple[str, ...]
    body: str
    reference: Callable[..., dict[str, Any]] | None = field(default=None, repr=False)
    reals: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    looks_at: str = ""
    total: str = ""
    assignments: tuple[Assignment, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parsed = parse(self.name, self.body, self.reads, self.writes, self.scalars)
        object.__setattr__(self, "assignments", parsed)
        for names in ("reals", "fresh"):
            if not isinstance(getattr(self, names), (tuple, list)):
                raise TypeError(
                    f"rule {self.name!r}: {names} is {getattr(self, names)!r}; it must be a tuple of names"
                )
        for names in ("reads", "writes", "scalars", "reals", "fresh"):
            object.__setattr__(self, names, tuple(getattr(self, names)))
        for names, among in (("reals", self.arrays), ("fresh", self.writes)):
            if unknown := sorted(set(getattr(self, names)) - set(among)):
                raise ValueError(
                    f"rule {self.name!r}: {names} has {unknown[0]!r}; it must be of {', '.join(among)}"
                )
        if self.writes[0] in self.reals:
            raise ValueError(
                f"rule {self.name!r}: {self.writes[0]!r} is what may be complex, and is in reals"
            )
        known = {"", *self.arrays, *(each.target.removeprefix(PREFIX) for each in parsed)}
        for name in (self.looks_at, self.total):
            if not isinstance(name, str) or name not in known:
                raise ValueError(f"rule {self.name!r} has no {name!r} for what it looks at, or for its total")
        if self.couples:
            _ = self._parts  # which refuses what cannot be written so

    @property
    def arrays(self) -> tuple[str, ...]:
        """The arrays in the order in which a kernel takes them."""
        return self.reads + self.writes

    @cached_property
    def couples(self) -> bool:
        """Whether the two parts of complex arrays are updated together."""
        return couples(self.tree(), self.reals)

    @cached_property
    def _parts(self) -> Parts:
        return in_parts(self.name, self.tree(), self.arrays, self.reals)

    def elements(self, is_complex: bool) -> Rule:
        """The rule over real elements.

        Parameters
        ----------
        is_complex : bool
            Whether the parameters are.

        Returns
        -------
        Rule
            Of complex parameters whose parts go together, that over the parts; else this one.
        """
        return self._over_parts if is_complex and self.couples else self

    @property
    def looked_at(self) -> str:
        """What is looked at, beside what is written, for numbers that are not finite."""
        return self.looks_at or self.arrays[0]

    def parts_of(self, array: str, is_complex: bool) -> tuple[str, ...]:
        """What `elements` calls an array, or a name of the body.

        Parameters
        ----------
        array : str
        is_complex : bool
            Whether the parameters are.

        Returns
        -------
        tuple of str
            One name, or those of the real and imaginary parts.
        """
        return self._parts.of[array] if is_complex and self.couples else (array,)

    @cached_property
    def _over_parts(self) -> Rule:
        def each(arrays: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(part for array in arrays for part in self._parts.of[array])

        return Rule(
            self.name, each(self.reads), each(self.writes), self.scalars, self._parts.body,
            fresh=each(self.fresh),
        )  # fmt: skip

    def __deepcopy__(self, memo: dict[int, Any]) -> Rule:
        return self  # immutable, and kernels are kept by identity

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, tuple(getattr(self, f.name) for f in fields(self) if f.init)

    def tree(self) -> ast.Module:
        """The body as Python reads it.

        Returns
        -------
        ast.Module
            The assignments, with the lines where they stand in the body.
        """
        return parsed(self.body)


def parsed(body: str) -> ast.Module:
    """A body as Python reads it."""
    return ast.parse(textwrap.dedent(body).strip("\n"))


@cache
def _unpickled(*fields: Any) -> Rule:
    return Rule(*fields)
