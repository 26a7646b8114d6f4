"""Optimizers that are the same on all ranks, or are not, and what is said of them."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from gpuprop import SGD, Groups, RMSProp, Rule, RuleOptimizer
from gpuprop.distributed import communicator
from gpuprop.schedules import constant_schedule


class Halving:
    """A schedule whose text says nothing but where it lies in memory."""

    def __call__(self, step):
        return 0.5**step


def rule(body):
    return Rule("own", ("g",), ("x",), ("r",), body)


def pairs(rates):
    """What the first rank has, and what all others have; how many of the first are the same."""
    own = rule("x = x - r * g")
    same = [
        (RMSProp(rates, weight_decay=rates, bounds=(-rates, 1.0)),) * 2,
        (SGD(lambda step: 0.1), SGD(lambda step: 0.1)),
        (SGD(Halving()), SGD(Halving())),
        (SGD(constant_schedule(1)), SGD(constant_schedule(1.0))),
        (RuleOptimizer(own, r=1), RuleOptimizer(rule("x = x - r * g"), r=1.0)),
        (RuleOptimizer(own, r=rates), RuleOptimizer(own, r=rates)),
        (Groups(a=SGD(rates), clip_norm=1), Groups(a=SGD(rates), clip_norm=1.0)),
    ]
    return len(same), [
        *same,
        (SGD(0.1), SGD(0.2)),
        (SGD(0.1, nonfinite="skip"), SGD(0.1)),
        (RMSProp(rho=0.5), RMSProp(rho=0.5, clip_norm=2.0)),
        (RMSProp(0.1), SGD(0.1)),
        (SGD(0.1), SGD(Halving())),
        (SGD(constant_schedule(1)), SGD(constant_schedule(2))),
        (SGD(bounds=(-rates, 1)), SGD(bounds=(-rates, 2))),
        (RuleOptimizer(own, r=1), RuleOptimizer(own, r=2)),
        (RuleOptimizer(own, r=1), RuleOptimizer(own, r=1, clip_norm=2.0)),
        (RuleOptimizer(own, r=1), RuleOptimizer(rule("x = x - 2 * r * g"), r=1)),
        (Groups(a=SGD(0.1), clip_norm=1.0), Groups(a=SGD(0.1), clip_norm=2.0)),
        (Groups(a=SGD("auto"), b=SGD("auto")), Groups(b=SGD("auto"), a=SGD("auto"))),
    ]


def compared():
    """What is said of each pair; behind it, of x of two dtypes. All ranks but the first have one element."""
    comm = communicator(MPI.COMM_WORLD)
    x = np.ones(1 if comm.rank else 3)
    count, given = pairs(np.full(x.shape, 0.1 + comm.rank))
    said = []
    for optimizer in (*(pair[comm.rank > 0] for pair in given), SGD()):
        last = np.float32(x) if comm.rank and len(said) == len(given) else x
        try:
            groups = getattr(optimizer, "optimizers", None)
            optimizer.init(dict.fromkeys(groups, x) if groups else last, comm=comm)
            said.append(None)
        except ValueError as error:
            said.append(str(error))
    return count, said
