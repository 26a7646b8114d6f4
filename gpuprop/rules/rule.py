"""What an update rule is: names, and a body in the arithmetic that every backend compiles."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from gpuprop.rules.arithmetic import Assignment, parse


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
        element of each array, the scalars, numbers, and names assigned on earlier lines.
    reference : callable, optional
        The same in whole-array NumPy, for the backend ``"numpy"``: from the arrays and scalars by
        name to a dictionary with the new value of each array in `writes`. By default that backend
        evaluates `body`.

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
    assignments: tuple[Assignment, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parsed = parse(self.name, self.body, self.reads, self.writes, self.scalars)
        object.__setattr__(self, "assignments", parsed)
        for names in ("reads", "writes", "scalars"):
            object.__setattr__(self, names, tuple(getattr(self, names)))

    @property
    def arrays(self) -> tuple[str, ...]:
        """The arrays in the order in which a kernel takes them."""
        return self.reads + self.writes

    def __deepcopy__(self, memo: dict[int, Any]) -> Rule:
        return self  # immutable, and kernels are kept by identity

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.name, self.reads, self.writes, self.scalars, self.body, self.reference)

    def tree(self) -> ast.Module:
        """The body as Python reads it.

        Returns
        -------
        ast.Module
            The assignments, with the lines where they stand in the body.
        """
        return ast.parse(textwrap.dedent(self.body).strip("\n"))


@cache
def _unpickled(*fields: Any) -> Rule:
    return Rule(*fields)
