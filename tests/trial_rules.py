"""Rules that a user might write, for the tests."""

import numpy as np

from gpuprop import Rule

# Names that are keywords of one of the languages, every function, a local, and an augmented line.
EVERYTHING = Rule(
    "everything",
    reads=("grad", "register"),
    writes=("x", "double"),
    scalars=("float", "i"),
    body="""
        step = max(min(grad, float), -float) / (1 + abs(register))
        step *= 2
        double = where(register >= 0.5, double + step, double - 3 * step)
        x = -sqrt(x * x + 1e-3) + i * (step - (double - 1))
    """,
)

CLIPPED = Rule(
    "clipped",
    ("grad",),
    ("x",),
    ("rate", "limit"),
    "x = x - rate * where(grad < -limit, -limit, min(grad, limit)) / sqrt(1 + abs(x))",
)


def apply(backend, rule, arrays, scalars=()):
    backend.update(rule, arrays, scalars, np.zeros(2, np.int64))
