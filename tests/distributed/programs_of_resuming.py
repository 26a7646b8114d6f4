"""Runs that are cut short, and resumed by other numbers of ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from programs_of_minimize import Separate, world

from gpuprop import Groups, RMSProp, minimize, schedules

N = 11
METHODS = {
    "momentum": RMSProp(schedules.cosine_decay_schedule(0.3, 60), momentum=0.5),
    "groups": Groups(a=RMSProp(0.1), b=RMSProp(schedules.exponential_decay(0.1, 9, 0.8), centered=True)),
}


def run(method, comm, n, steps, path=None):
    case = Separate(comm, n, np)
    options = {"gtol": None, "maxiter": steps, "check_every": 3, "history": True, "return_best": True}
    options |= {"checkpoint": path, "resume": path, "checkpoint_every": 4}
    x0, fun, jac = case.x0, case.fun, case.jac
    if method == "groups":
        x0, fun, jac = {"a": x0, "b": -x0}, case.fun_of_two, case.jac_of_two
    found = minimize(fun, x0, jac=jac, method=METHODS[method], options=options, comm=comm)
    x = found.x if method == "groups" else {"x": found.x}
    return x, found.nit, found.nfev, found.history["step"].tolist()


def run_all(folder, parts, steps):
    """Go on with each file, or begin it."""
    comm = world()
    return [
        run(method, comm, N, steps, Path(folder, f"{method}-{part}")) for method in METHODS for part in parts
    ]


def resume_with_others(folder):
    """What is said where x0 is no part of what the files have, and what x0 is then."""
    comm, found = world(), {}
    rows = np.ones(N)[comm.cut(N)]
    for name, path, x0 in (
        ("length", "momentum-x", np.ones(N + 1)[comm.cut(N + 1)]),
        ("whole", "momentum-x", np.ones(N)),
        ("one of a group", "groups-x", {"a": rows, "b": np.ones(N - 1)[comm.cut(N - 1)]}),
        ("dictionary", "momentum-x", {"a": rows, "b": rows.copy()}),
        ("array", "groups-x", rows),
        ("names", "groups-x", {"a": rows, "c": rows.copy()}),
        ("dtype", "momentum-x", rows.astype("float32")),
        ("columns", "momentum-x", np.ones((len(rows), 3))),
        ("dtype of one rank", "momentum-x", rows.astype("float32") if comm.rank else rows),
    ):
        try:
            minimize(unused, x0, jac=True, options={"resume": Path(folder, path)}, comm=comm)
        except ValueError as error:
            arrays = x0.values() if isinstance(x0, dict) else [x0]
            found[name] = str(error), all((array == 1).all() for array in arrays)
    return found


def unused(x):
    raise AssertionError(f"called with {x}")
