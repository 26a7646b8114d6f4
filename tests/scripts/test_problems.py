"""What the automatic rate is compared on: its gradients, its starts, its least values, its batches."""

import math

import numpy as np
import pytest
from compare_rates import METHODS, by_hand
from problems import PROBLEMS, Logistic


@pytest.fixture(params=PROBLEMS)
def problem(request):
    if request.param in ("logistic", "batches"):
        pytest.importorskip("sklearn")
    return PROBLEMS[request.param]()


def test_gradients_are_those_of_the_values(problem):
    random, x = np.random.default_rng(0), problem.start_of_a_run(1)
    along = random.normal(size=(*x.shape, x.itemsize // 8)).view(x.dtype)[..., 0]
    slope = np.vdot(problem.gradient(x), along).real
    h = 1e-5
    expected = (problem.value(x + h * along) - problem.value(x - h * along)) / (2 * h)
    assert slope == pytest.approx(expected, rel=1e-5, abs=1e-6 * abs(problem.gradient(x)).max())


@pytest.mark.slow
def test_a_seed_moves_the_start_by_two_percent(problem):
    assert (problem.start_of_a_run(0) == problem.start).all()
    assert not np.shares_memory(problem.start_of_a_run(0), problem.start)
    first, again, other = map(problem.start_of_a_run, (1, 1, 2))
    assert (first == again).all()
    assert (first != other).all()
    size = math.sqrt(np.mean(abs(problem.start) ** 2)) or 1.0
    parts = (first - problem.start).reshape(-1).view(float)
    assert abs(parts).max() < 0.12 * size
    if parts.size > 1000:
        assert parts.std() == pytest.approx(0.02 * size, rel=0.1)


@pytest.mark.slow
def test_the_least_value_is_less_than_a_descent_finds(problem):
    least = problem.minimum()
    (found,) = by_hand(problem, METHODS["RMSProp"](0.01), [50], 0)
    assert -1e-12 <= least < found < problem.value(problem.start)


def test_batches_are_of_other_rows_at_each_call():
    pytest.importorskip("sklearn")
    problem, rows = Logistic(batch=64), []
    problem.gradient = lambda x, some: rows.append(some)
    draw = problem.gradient_of_a_run(5)
    for _ in range(20):
        draw(problem.start)
    assert {len(some) for some in rows} == {64}
    for first in (0, 8):  # passes of eight, and 57 rows left over
        assert len(set(np.concatenate(rows[first : first + 8]))) == 512
    again = problem.gradient_of_a_run(5)
    again(problem.start)
    assert (rows[-1] == rows[0]).all()
    problem.gradient_of_a_run(6)(problem.start)
    assert (rows[-1] != rows[0]).any()
