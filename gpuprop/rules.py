"""Update rules, each written once, as arithmetic that every backend compiles."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpuprop.arithmetic import Assignment, parse


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
    assignments: tuple[Assignment, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parsed = parse(self.name, self.body, self.reads, self.writes, self.scalars)
        object.__setattr__(self, "assignments", parsed)

    @property
    def arrays(self) -> tuple[str, ...]:
        """The arrays in the order in which a kernel takes them."""
        return self.reads + self.writes


RMSPROP = Rule(
    "rmsprop",
    reads=("grad",),
    writes=("x", "square_average"),
    scalars=("learning_rate", "rho", "one_minus_rho", "epsilon"),
    body="""
        square_average = rho * square_average + one_minus_rho * (grad * grad)
        x = x - learning_rate * grad / (sqrt(square_average) + epsilon)
    """,
)
