"""The page about several processes says what several processes do."""

import numpy as np
import programs_of_page
import pytest
from launch import run
from test_documentation import DOCS, PROMISE, blocks

CODES = blocks((DOCS / "distributed.md").read_text("utf-8"))
(BORDERS,) = (code for code in CODES if "Sendrecv" in code)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_block_runs_on_ranks_and_prints_its_line_once(ranks, tmp_path):
    found = run(programs_of_page.in_turn, ranks, CODES, str(tmp_path))
    promises = [line for code in CODES for line, _ in PROMISE.findall(code)]
    assert [one["printed"].splitlines() for one in found] == [promises] + [[]] * (ranks - 1)
    assert promises


def test_borders_leave_the_minimum_where_it_is(tmp_path):
    rows, columns = 64, 48
    row, column = np.mgrid[:rows, :columns]
    noise = np.random.default_rng(1).normal(0, 0.3, row.shape)
    data = np.sin(row / 9 + column / 7) + noise
    jumps = np.diff(np.eye(rows), axis=0)
    matrix = np.eye(rows) + 4 * jumps.T @ jumps
    right = np.linalg.solve(matrix, data)
    least = np.sum((right - data) ** 2) + 4 * np.sum((jumps @ right) ** 2)
    values = []
    for ranks in (1, 2, 3, 4):
        found = run(programs_of_page.in_turn, ranks, [BORDERS], str(tmp_path))
        x = np.concatenate([one["x"] for one in found])
        # gtol is 1e-5 for the gradient, 2 * matrix @ (x - right); no row sum of the inverse exceeds 1.
        np.testing.assert_allclose(x, right, rtol=0, atol=0.5e-5)
        assert len({one["f"] for one in found}) == 1
        values.append(found[0]["f"])
    np.testing.assert_allclose(values, least, rtol=1e-9)
    np.testing.assert_allclose(values, values[0], rtol=1e-12)
