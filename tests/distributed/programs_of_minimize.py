"""Runs of `minimize` that each rank makes on its part, and one process alone on the whole."""

from __future__ import annotations

import numpy as np

import gpuprop
from gpuprop import SGD, Groups, RMSProp, schedules
from gpuprop.distributed import communicator


def world():
    from mpi4py import MPI

    return communicator(MPI.COMM_WORLD)


class Separate:
    """A sum of one function for each parameter, so that gradients have the same bits however it is cut.

    `last` is of whichever rank has the last parameter, and of no other.
    """

    def __init__(self, comm, n, xp, dtype="float64"):
        def mine(whole):
            return xp.asarray(whole if comm is None else whole[comm.cut(n)])

        self.xp, self.x0 = xp, mine(np.full(n, 3, dtype))
        self.weights, self.target = mine(np.linspace(1, 2, n)), mine(np.cos(np.arange(n)))
        self.last = mine(np.arange(n) == n - 1)
        self.low = xp.where(self.last, 1.5, -xp.inf)

    def fun(self, x):
        return float((self.weights * abs(x - self.target) ** 2).sum()) / 2

    def jac(self, x):
        return (self.weights * (x - self.target)).astype(x.dtype)

    def both(self, x):
        return self.fun(x), self.jac(x)

    def is_near(self, x):
        return self.last & (abs(x - self.target) < 1)

    def jac_with_nan(self, x):
        return self.xp.where(self.is_near(x), self.xp.nan, self.jac(x))

    def fun_with_infinity(self, x):
        return self.fun(x) + (np.inf if bool(self.is_near(x).any()) else 0)

    def fun_of_two(self, x):
        return self.fun(x["a"]) + self.fun(x["b"])

    def jac_of_two(self, x):
        return {name: self.jac(array) for name, array in x.items()}


def cap(x):
    x[...] = x.clip(-0.9, 0.9)


PLAIN, FALLING = SGD(0.3), RMSProp(schedules.cosine_decay_schedule(0.3, 60))
#: The method, the arguments beside it (names are of `Separate`), and the options.
CASES = {
    "gtol": (PLAIN, {}, {"gtol": 1e-6}),
    "momentum": (SGD(0.1, momentum=0.8), {}, {}),
    "maxiter": (FALLING, {}, {"maxiter": 37}),
    "maxfev": (FALLING, {"fun": "both", "jac": True}, {"maxfev": 25}),
    "xtol": (PLAIN, {}, {"gtol": None, "xtol": 1e-4}),
    "ftol": (PLAIN, {}, {"gtol": None, "ftol": 1e-7}),
    "no f": (PLAIN, {"fun": None}, {}),
    "nan": (PLAIN, {"jac": "jac_with_nan"}, {"check_every": 1}),
    "infinity": (PLAIN, {"fun": "fun_with_infinity"}, {"check_every": 1}),
    "skipped": (RMSProp(0.05, nonfinite="skip"), {"jac": "jac_with_nan"}, {"maxiter": 80}),
    "bounds of all": (PLAIN, {"bounds": (-0.5, 0.5)}, {}),
    "bound of one": (PLAIN, {"bounds": "low"}, {}),
    "best": (RMSProp(0.9), {}, {"return_best": True, "maxiter": 43, "check_every": 3}),
    "project": (PLAIN, {}, {"project": cap, "gtol": None, "xtol": 1e-6}),
    "decay": (SGD(0.2, weight_decay=0.3), {}, {}),
    "climb": (SGD(0.01, maximize=True), {}, {"maxiter": 20}),
    "float32": (FALLING, {"dtype": "float32"}, {}),
    "complex": (FALLING, {"dtype": "complex128"}, {}),
    "two": (Groups({"a": PLAIN, "b": SGD(0.2)}), {"fun": "fun_of_two", "jac": "jac_of_two"}, {"gtol": 1e-3}),
}


def descend(comm, n, xp, name):
    """The result of a case, on the host."""
    method, given, options = CASES[name]
    given = {"fun": "fun", "jac": "jac"} | given
    problem = Separate(comm, n, xp, given.pop("dtype", "float64"))
    fun, jac = (getattr(problem, f) if isinstance(f, str) else f for f in (given["fun"], given["jac"]))
    x0, bounds = problem.x0, given.get("bounds")
    if isinstance(method, Groups):
        x0 = {"a": x0, "b": 2 * x0}
    if bounds == "low":
        bounds = xp.stack([problem.low, xp.full_like(x0, xp.inf)], axis=1)
    options = {"history": True, **options}
    return told(gpuprop.minimize(fun, x0, (), method, jac, bounds=bounds, options=options, comm=comm))


def told(result):
    names = ("fun", "nit", "nfev", "njev", "status", "success", "message")
    return {name: result[name] for name in names} | {
        "x": on_host(result.x),
        "jac": on_host(result.jac),
        "history": dict(result.history) if "history" in result else {},
        "state": {name: on_host(array) for name, array in arrays_of(result.state).items()},
    }


def arrays_of(state):
    if not hasattr(state, "keys"):
        return state.arrays
    return {f"{name}.{key}": array for name in state for key, array in state[name].arrays.items()}


def on_host(point):
    if isinstance(point, dict):
        return {name: on_host(array) for name, array in point.items()}
    return point.get() if hasattr(point, "get") else point


def descents(sizes, on_gpu=False):
    """Each case for each size on this rank's part."""
    xp = np
    comm = world()
    if on_gpu:
        import cupy as xp

        xp.cuda.Device(comm.rank % xp.cuda.runtime.getDeviceCount()).use()
    return {(name, n): descend(comm, n, xp, name) for name in CASES for n in sizes}


def coupled(seed, method, options, comm=None):
    """Least squares in which each residual has parameters of all ranks; and what NumPy finds."""
    comm, random = comm or world(), np.random.default_rng(seed)
    matrix, right = random.standard_normal((20, 7)), random.standard_normal(20)
    cut = comm.cut(7)

    def fun(x):
        residual = matrix @ np.concatenate(comm.exchange(x)) - right
        return float(residual @ residual) / 2 / comm.size, matrix[:, cut].T @ residual

    options = {"history": True, **options}
    result = gpuprop.minimize(fun, np.zeros(7)[cut], method=method, jac=True, comm=comm, options=options)
    least = np.linalg.lstsq(matrix, right)[0]
    return told(result) | {"least": least, "found_rate": result.state.found_rate}


class Alone:
    """In the place of a communicator: one rank."""

    rank, size, over = 0, 1, None

    def cut(self, length):
        return slice(0, length)

    def exchange(self, value):
        return [value]


#: With a state of arrays, and what a run knows of former steps; and of two arrays.
RUNS = {
    "one": (RMSProp(0.9, momentum=0.5), {"fun": "fun", "jac": "jac"}),
    "two": (Groups({"a": SGD(0.01), "b": RMSProp(0.9)}), {"fun": "fun_of_two", "jac": "jac_of_two"}),
}


def go_on(comm, n, xp, name, maxiter, **options):
    """A run, or more of it, whose checks look back, and which keeps its best point; how it ended."""
    problem, (method, functions) = Separate(comm, n, xp), RUNS[name]
    fun, jac = (getattr(problem, f) for f in functions.values())
    x0 = problem.x0 if name == "one" else {"a": problem.x0, "b": 2 * problem.x0}
    options |= {"maxiter": maxiter, "gtol": None, "xtol": 1e-12, "return_best": True, "history": True}
    return told(gpuprop.minimize(fun, x0, (), method, jac, comm=comm, options=options))


def go_on_from(n, name, path, new_path, maxiter):
    return go_on(world(), n, np, name, maxiter, resume=path, checkpoint=new_path, checkpoint_every=5)


def go_on_with_another_length(path):
    go_on(world(), 8, np, "one", 40, resume=path)
