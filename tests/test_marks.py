"""Which tests run on a device is right: the marks, and the few cases of large products."""

from itertools import product

import numpy as np
import pytest
from variants import NAMES, covering_pairs, used_by

import gpuprop


@pytest.mark.parametrize("ask", [lambda: gpuprop.select_backend("gpu"), gpuprop.select_backend])
def test_a_test_without_a_mark_may_not_ask_for_a_device(ask, monkeypatch):
    monkeypatch.delenv("GPUPROP_DEVICE", raising=False)
    with pytest.raises(AssertionError, match="mark it auto"):
        ask()


def test_few_cases_use_each_option_with_each_dtype():
    few, dtypes = covering_pairs(product(NAMES, ("float32", "float64"))), {"float32", "float64"}
    for option in set().union(*map(used_by, NAMES)):
        assert {dtype for name, dtype in few if option in used_by(name)} == dtypes, option
    assert 3 * len(few) < 2 * len(NAMES)


def test_a_variant_uses_what_it_was_given():
    assert used_by("momentum, centered") == {
        "RMSProp", ("momentum", "number"), ("centered", True), ("epsilon", "number"),
    }  # fmt: skip
    assert used_by("lower array") == {"RMSProp", ("bounds", ("array", np.inf))}
    assert used_by("auto sgd") >= {"SGD", ("learning_rate", "auto"), ("nonfinite", "skip")}
    assert used_by("own and more") >= {
        ("learning_rate", "array"),
        ("g", "array"),
        ("bounds", ("array", "number")),
    }
    assert ("learning_rate", "schedule") in used_by("schedule")
