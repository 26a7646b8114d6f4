"""What the optimizers are compared on: its gradients, its least values, its mini-batches."""

import numpy as np
import pytest
from objectives import OBJECTIVES
from scipy import optimize


@pytest.fixture(params=OBJECTIVES)
def objective(request, backend):
    if request.param == "logistic":
        pytest.importorskip("sklearn")
    return OBJECTIVES[request.param](backend)


def test_gradients_are_those_of_the_values(objective):
    random, backend = np.random.default_rng(0), objective.backend
    x = objective.starts(random) + random.normal(size=len(objective.start)) / 2
    slope = backend.to_host(objective.gradient(backend.asarray(x)))
    for k in range(x.shape[1]):
        h = 1e-5 * np.eye(x.shape[1])[k]
        expected = (objective.value(x + h) - objective.value(x - h)) / 2e-5
        np.testing.assert_allclose(slope[:, k], expected, rtol=1e-6, atol=1e-5)


def test_the_least_value_is_what_another_solver_finds(objective):
    def fun(x):
        grad = objective.gradient(objective.backend.asarray(x[None]))
        return objective.value(x), objective.backend.to_host(grad)[0]

    found = optimize.minimize(fun, objective.start, jac=True, method="BFGS", options={"gtol": 1e-8})
    assert found.fun == pytest.approx(objective.minimum, rel=0, abs=1e-10)


def test_a_pass_uses_every_row_once(backend):
    pytest.importorskip("sklearn")
    objective = OBJECTIVES["logistic"](backend)
    x = backend.asarray(np.random.default_rng(0).normal(size=(objective.runs, 31)))
    batches = list(objective.gradients(np.random.default_rng(1)))
    sizes = [64] * 8 + [57]
    mean = (
        sum(size * backend.to_host(gradient(x)) for size, gradient in zip(sizes, batches, strict=True)) / 569
    )
    np.testing.assert_allclose(mean, backend.to_host(objective.gradient(x)), rtol=1e-10, atol=1e-14)
    assert not np.allclose(backend.to_host(batches[0](x)), mean, rtol=0.01)
