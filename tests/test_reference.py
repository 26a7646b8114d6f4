import ast
from pathlib import Path

import article
import numpy as np
import pytest

from gpuprop import reference


def test_prints_the_article():
    points = article.trajectory()
    lines = [f"Epoch {epoch}, current state: {points[epoch]}\n" for epoch in range(0, 101, 20)]
    assert "".join(lines) == article.LINES


def test_one_update_by_hand():
    # s = 0.5 * 2 + 0.5 * 6^2 = 19, update = 0.1 * 6 / (sqrt(19) + 1)
    updates, s = reference.rmsprop(0.1, 0.5, 1.0, np.array([6.0]), np.array([2.0]))
    assert s == pytest.approx([19.0], rel=1e-15)
    assert updates == pytest.approx([0.6 / (19**0.5 + 1)], rel=1e-15)


def test_leaves_its_arguments_alone():
    grad, s = np.array([1.0, -2.0]), np.array([0.5, 0.0])
    reference.rmsprop(0.1, 0.9, 1e-6, grad, s)
    assert grad.tolist() == [1.0, -2.0]
    assert s.tolist() == [0.5, 0.0]


def test_imports_nothing_of_the_package():
    tree = ast.parse(Path(reference.__file__).read_text())
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not [name for name in imported if name.startswith("gpuprop")]
