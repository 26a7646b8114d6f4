"""What does not fit to a dictionary of arrays as x0, and how it is refused."""

import numpy as np
import pytest
from descents import FIELD, GROUPS, METHODS, TARGET

from gpuprop import Groups, GroupsState, minimize

STATE = GROUPS.init({"plain": TARGET, "field": FIELD})
OF_PLAIN = Groups(plain=METHODS["plain"]).init({"plain": TARGET})
BOTH = {"plain": TARGET, "field": FIELD}


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x0": {**BOTH, "other": TARGET}}, ValueError, "x0 has 'other', for which there is no optimizer"),
        ({"x0": {"plain": TARGET}}, ValueError, "x0 has no 'field'; there must be an array for each"),
        ({"x0": {}, "options": {"state": STATE}}, ValueError, "x0 has no 'plain'"),
        ({"x0": {}, "method": None}, ValueError, "there are no optimizers"),
        ({"x0": {"plain": {}, "field": FIELD}}, TypeError, "plain: x0 is a dictionary; here it must be one"),
        ({"x0": {"plain": TARGET, "field": [None]}}, TypeError, "field: x0 is a .*list of 1, of which NumPy"),
        ({"x0": TARGET}, TypeError, r"method is Groups\(.* and x0 a ndarray; .*: pass a dictionary as x0$"),
        ({"method": METHODS["plain"]}, TypeError,
         r"method is RMSProp\(.* and x0 a dict; .*: pass method=gpuprop.Groups\(\{\.\.\.\}\)$"),
        ({"jac": None}, ValueError, "jac is None and x0 is a dictionary; .* pass jac, or jac=True"),
        ({"jac": "3-point"}, ValueError, "jac is '3-point' and x0 is a dictionary"),
        ({"jac": lambda x: {"other": TARGET}}, TypeError, "the gradient has 'other'; .*among plain, field"),
        ({"jac": lambda x: TARGET}, TypeError, "the gradient is a ndarray; it must be a dictionary"),
        ({"jac": lambda x: {"field": TARGET}}, ValueError, r"field: the gradient has shape \(4,\)"),
        ({"jac": lambda x: {"field": "?"}}, TypeError, "field: the gradient is '\\?', of which NumPy makes"),
        ({"bounds": {"other": (0, 1)}}, ValueError, "bounds has 'other', for which there is no optimizer"),
        ({"bounds": {"field": (2, 1)}}, ValueError, "field: a lower bound is above its upper one"),
        ({"bounds": np.ones((4, 2))}, TypeError, "bounds is a ndarray and x0 a dictionary; .* be one, too"),
        ({"bounds": []}, TypeError, "bounds is a list and x0 a dictionary"),
        ({"options": {"state": STATE["plain"]}}, TypeError, "state is a State and x0 a dictionary"),
        ({"options": {"state": OF_PLAIN}}, ValueError, "state is of plain and x0 has plain, field; they"),
        ({"options": {"state": STATE}, "method": METHODS["plain"], "x0": TARGET}, TypeError,
         "state is a GroupsState and x0 one array; it must be a State"),
        ({"options": {"state": GroupsState(None, STATE)}, "method": None}, ValueError,
         "state has no optimizer, as it was code when it was saved; pass method="),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused_before_anything_is_written(changed, error, message):
    run = {"x0": BOTH, "jac": lambda x: dict(x), "method": GROUPS, "options": {}, **changed}
    run["options"] = {"maxiter": 3, **run["options"]}
    before = {name: array.copy() for name, array in BOTH.items()}
    with pytest.raises(error, match=f"^{message}"):
        minimize(lambda x: 0.0, **run)
    assert (STATE.step, STATE["plain"].step, OF_PLAIN.step) == (0, 0, 0)
    assert not any(array.any() for one in STATE.values() for array in one.arrays.values())
    assert all((before[name] == array).all() for name, array in BOTH.items())
