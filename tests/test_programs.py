"""Public programs that step arrays by formulas of their own, and the options of gpuprop that step alike.

Each walks 300 steps, and from each of its points gpuprop makes the next: to 1e-10 in float64. What gpuprop
remembers runs on by itself. The formulas are restated in `programs.formulas`; where a package index has the
project, its own walk is held against gpuprop, too.
"""

import zlib
from itertools import pairwise

import numpy as np
import pytest
from programs import formulas
from programs.stepping import PROGRAMS, UPHILL

import gpuprop

STEPS = 300


def problem(name):
    """Where a walk starts, and the noisy gradient of a quadratic whose elements have very different units."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    arrays = PROGRAMS[name][1]

    def draw(shape, dtype, low, high):
        imaginary = 1j * random.uniform(low, high, shape) if dtype is complex else 0
        return random.uniform(low, high, shape) + imaginary

    start = {key: draw(*kind, 0.2, 0.8) for key, kind in arrays.items()}
    curvature = {key: 10 ** random.uniform(-4, 0, shape) for key, (shape, _) in arrays.items()}
    minimum = {key: draw(*kind, -1, 2) for key, kind in arrays.items()}
    noise = {
        key: draw((STEPS, *np.atleast_1d(shape)), dtype, -2, 2) for key, (shape, dtype) in arrays.items()
    }
    sign = -1 if name in UPHILL else 1

    def gradient(x, t):
        return {key: sign * curvature[key] * (x[key] - minimum[key] + noise[key][t]) for key in x}

    return start, gradient


def walk(name):
    """The points of the program by its formula."""
    (x, gradient), formula = problem(name), PROGRAMS[name][0]
    points, memory = [x], {key: {} for key in x}
    for t in range(STEPS):
        grad = gradient(x, t)
        x = {key: formula(memory[key], x[key], grad[key], t) for key in x}
        points.append(x)
    return points


def agree(name, points, backend):
    """Hold each step of gpuprop against the program's from the same point."""

    def there(arrays):
        return {key: backend.asarray(a.copy()) for key, a in arrays.items()}

    gradient, begin = problem(name)[1], PROGRAMS[name][2]
    step = begin(backend, there(points[0]))
    assert len(points) == STEPS + 1
    for t, (before, after) in enumerate(pairwise(points)):
        x = there(before)
        step(x, there(gradient(before, t)), t)
        for key in x:
            given = backend.to_host(x[key])
            np.testing.assert_allclose(given, after[key], rtol=1e-10, atol=0, err_msg=f"{key}, step {t}")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_formula(name, backend):
    agree(name, walk(name), backend)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_walk_goes_where_options_matter(name):
    """Each element moves, or belongs to what the program leaves alone; bounds hold some, some of the time."""
    points = walk(name)
    for key in points[0]:
        path = np.array([point[key] for point in points])
        still = (path == path[0]).all(axis=0)
        if name == "tike probe":
            assert not still[formulas.MAIN_MODE].any()
        elif "cil" in name:
            assert (still == (formulas.SENSITIVITY == 0)).all()
        else:
            assert not still.any()
        if name.startswith(("prysm", "ceviche", "cil")):
            assert 0.01 < (path[1:] == path[:-1]).mean() < 0.9


def library(package, module=None):
    return pytest.importorskip(
        module or package, reason=f"{package} is not installed: python -m pip install {package}"
    )


def by_autograd(name):
    def walk_of(x, gradient):
        optimizers, points = library("autograd", "autograd.misc.optimizers"), []
        last = getattr(optimizers, name)(
            lambda x, t: gradient({"x": x}, t)["x"],
            x["x"],
            callback=lambda x, t, grad: points.append({"x": x.copy()}),
            num_iters=STEPS,
        )
        return [*points, {"x": last}]

    return walk_of


def by_ceviche(direction):
    def walk_of(x, gradient):
        optimizers, points = library("ceviche", "ceviche.optimizers"), []
        with np.printoptions():  # it sets them
            last, _ = optimizers.adam_optimize(
                lambda x: 0.0,
                x["x"],
                lambda x: gradient({"x": x}, len(points) - 1)["x"],
                Nsteps=STEPS,
                bounds=(0, 1),
                direction=direction,
                callback=lambda t, values, x: points.append({"x": x.copy()}),
                verbose=False,
            )
        return [*points, {"x": last}]

    return walk_of


def by_sklearn(x, gradient):
    optimizers = library("scikit-learn", "sklearn.neural_network._stochastic_optimizers")
    optimizer = optimizers.SGDOptimizer(list(x.values()), lr_schedule="adaptive")
    points = [{key: a.copy() for key, a in x.items()}]
    for t in range(STEPS):
        if t and t % 100 == 0:
            optimizer.trigger_stopping("the loss has stopped to fall", verbose=False)
        optimizer.update_params(list(x.values()), list(gradient(x, t).values()))
        points.append({key: a.copy() for key, a in x.items()})
    return points


#: Of the others, what pip has lacks these optimizers (prysm), is large (Pyxu), or is not there.
THEMSELVES = {
    "autograd sgd": by_autograd("sgd"),
    "autograd rmsprop": by_autograd("rmsprop"),
    "autograd adam": by_autograd("adam"),
    "ceviche min": by_ceviche("min"),
    "ceviche max": by_ceviche("max"),
    "sklearn": by_sklearn,
}


@pytest.mark.parametrize("name", THEMSELVES)
def test_the_project_itself(name):
    agree(name, THEMSELVES[name](*problem(name)), gpuprop.select_backend("cpu"))
