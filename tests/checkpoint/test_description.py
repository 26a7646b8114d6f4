import copy
import functools
import json
import math
import pickle
from typing import NamedTuple

import numpy as np
import pytest
import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from saved_states import LION, NUMPY, everything_of, small_state
from trial_schedules import EVERY

from gpuprop import SGD, AdaGrad, Adam, AdamW, RMSProp, Rule, RuleOptimizer, load_state, schedules
from gpuprop.checkpoint import description


def optimizers_of_numbers():
    positive, share = st.floats(0, 1e300), st.floats(0, 1, exclude_max=True)
    bound = st.floats(0, math.inf)
    return st.builds(
        RMSProp,
        positive | st.sampled_from(EVERY),
        share,
        positive,
        momentum=st.floats(1e-300, 0.9),
        nesterov=st.booleans(),
        centered=st.booleans(),
        weight_decay=positive,
        maximize=st.booleans(),
        clip_value=st.none() | st.floats(5e-324, 1e300),
        bounds=st.none() | st.tuples(bound.map(lambda b: -b), bound),
        nonfinite=st.sampled_from(["propagate", "skip", "raise"]),
    )


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(optimizer=optimizers_of_numbers())
def test_hyperparameters_come_back_exactly(optimizer, tmp_path):
    state, _ = small_state()
    state.optimizer = optimizer
    state.save(tmp_path / "state")
    assert load_state(tmp_path / "state").optimizer == optimizer


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
@pytest.mark.parametrize("kind", [RMSProp, SGD, AdaGrad, Adam, AdamW])
def test_every_optimizer_with_every_schedule_comes_back(kind, schedule, tmp_path):
    state, _ = small_state()
    state.optimizer = kind(schedule)
    state.save(tmp_path / "state")
    assert load_state(tmp_path / "state").optimizer == kind(schedule)


def test_a_rule_comes_back_as_it_was_written(tmp_path):
    state, _ = small_state(optimizer=RuleOptimizer(LION, learning_rate=0.1, beta=0.9, nonfinite="skip"))
    state.save(tmp_path / "state")
    again = load_state(tmp_path / "state").optimizer
    for name in ("name", "reads", "writes", "scalars", "body"):
        assert getattr(again.rule, name) == getattr(LION, name)
    assert (again.scalars, again.nonfinite) == ({"learning_rate": 0.1, "beta": 0.9}, "skip")


class OwnOptimizer(RMSProp):
    pass


class Table(NamedTuple):
    rates: tuple

    def __call__(self, step):
        return self.rates[step]


class Halving(float):
    def __call__(self, step):
        return self / 2**step


class OwnRule(Rule):
    pass


def own_schedule(step):
    return 0.1


def own_reference(grad, x, s):
    return {"s": 0.5 * s + grad, "x": x - grad}


OWN_RULE = "own", ("grad",), ("x", "s"), (), "s = 0.5 * s + grad\nx = x - grad"
JOINED = schedules.join_schedules([own_schedule, schedules.constant_schedule(0.2)], [5])
FUNCTION = {"code": {"name": f"{__name__}.own_schedule", "options": {}}}
CODE = {
    "a function": RMSProp(own_schedule, momentum=0.5, clip_value=0.5),
    "a function in a schedule": SGD(JOINED, momentum=0.25, bounds=(-9, np.full(5, 9.0))),
    "a tuple that is a schedule": RMSProp(Table((0.1, 0.2))),
    "a number that is a schedule": RMSProp(Halving(0.1)),
    "a callable object": Adam(functools.partial(own_schedule), beta1=0.5),
    "a class": OwnOptimizer(0.1, rho=0.5, centered=True),
    "a class and a function": OwnOptimizer(own_schedule, bounds=(-9, np.full(5, 9.0))),
    "a reference": RuleOptimizer(Rule(*OWN_RULE, reference=own_reference)),
    "a class of rules": RuleOptimizer(OwnRule(*OWN_RULE), nonfinite="skip"),
}
KEPT = {
    "a function": {"RMSProp": {"learning_rate": FUNCTION, "momentum": 0.5, "clip_value": 0.5}},
    "a function in a schedule": {"SGD": {"momentum": 0.25, "bounds": [-9.0, {"array": "0"}]}},
    "a tuple that is a schedule": {"RMSProp": {"learning_rate": {"code": {"name": f"{__name__}.Table"}}}},
    "a number that is a schedule": {"RMSProp": {"learning_rate": {"code": {"name": f"{__name__}.Halving"}}}},
    "a callable object": {
        "Adam": {"beta1": 0.5, "learning_rate": {"code": {"name": "functools.partial", "options": {}}}}
    },
    "a class": {"code": {"name": f"{__name__}.OwnOptimizer", "options": {"rho": 0.5, "centered": True}}},
    "a class and a function": {"code": {"options": {"learning_rate": FUNCTION}}},
    "a reference": {
        "RuleOptimizer": {
            "rule": {
                "Rule": {
                    "name": "own",
                    "body": OWN_RULE[-1],
                    "reference": {"code": {"name": f"{__name__}.own_reference", "options": {}}},
                }
            }
        }
    },
    "a class of rules": {"code": {"options": {"nonfinite": "skip"}}},
}


@pytest.mark.parametrize("optimizer", CODE.values(), ids=CODE)
def test_a_users_code_is_not_written(optimizer, tmp_path):
    state, x = small_state(optimizer=optimizer)
    state.save(tmp_path / "state", x=x)
    resumed = load_state(tmp_path / "state")
    assert resumed.optimizer is None
    x_again = resumed.extras["x"]
    for each, of in ((x, state), (x_again, resumed)):
        optimizer.step(each, each.copy(), of)
    assert everything_of(NUMPY, x_again, resumed) == everything_of(NUMPY, x, state)


def told(path):
    with safetensors.safe_open(path, "numpy") as file:
        return json.loads(file.metadata()["gpuprop.description"])


def holds(whole, part):
    """Whether JSON holds the keys and values of `part`, and perhaps more."""
    if not isinstance(part, dict):
        return whole == part
    return all(key in whole and holds(whole[key], value) for key, value in part.items())


@pytest.mark.parametrize("case", CODE)
def test_all_that_is_not_code_is_kept_from_file_to_file(case, tmp_path):
    state, x = small_state(optimizer=CODE[case])
    state.save(tmp_path / "state", x=x)
    description = told(tmp_path / "state")
    assert description["rule"] == CODE[case].rule.name
    assert holds(description["optimizer"], KEPT[case])
    for again in (load_state(tmp_path / "state"), pickle.loads(pickle.dumps(load_state(tmp_path / "state")))):
        again.save(tmp_path / "again", x=x)
        assert (tmp_path / "again").read_bytes() == (tmp_path / "state").read_bytes()


FAMILIES = {
    "Adam's, by RMSProp": (Adam(own_schedule), RMSProp(centered=True)),
    "RMSProp's, by Adam": (RMSProp(own_schedule, centered=True), Adam()),
    "that of a class, by Adam": (OwnOptimizer(centered=True), Adam()),
    "that of a rule, by another": (
        RuleOptimizer(Rule(*OWN_RULE, own_reference)),
        RuleOptimizer(Rule("other", *OWN_RULE[1:], own_reference)),
    ),
    "SGD's, by RMSProp": (SGD(own_schedule, momentum=0.5), RuleOptimizer(Rule(
        "other", ("grad",), ("x", "velocity"), (), "velocity = velocity + grad\nx = x - velocity"
    ))),
}  # fmt: skip


@pytest.mark.parametrize(("optimizer", "other"), FAMILIES.values(), ids=FAMILIES)
def test_no_optimizer_of_another_family_goes_on(optimizer, other, tmp_path):
    state, x = small_state(optimizer=optimizer)
    state.save(tmp_path / "state")
    loaded = load_state(tmp_path / "state")
    loaded.save(tmp_path / "again")
    for each in (state, loaded, load_state(tmp_path / "again"), copy.copy(loaded), copy.deepcopy(loaded)):
        before = everything_of(NUMPY, x, each)
        with pytest.raises(
            ValueError, match=r"state is that of .*, whose arrays mean something else; it must"
        ):
            other.step(x, x.copy(), each)
        assert everything_of(NUMPY, x, each) == before
    optimizer.step(x, x.copy(), loaded)
    assert loaded.optimizer is optimizer
    loaded.save(tmp_path / "again")
    assert told(tmp_path / "again")["optimizer"] == told(tmp_path / "state")["optimizer"]


def test_what_a_file_does_not_say_binds_nobody(tmp_path):
    state, x = small_state()
    state.optimizer = None
    state.save(tmp_path / "state", x=x)
    loaded = load_state(tmp_path / "state")
    assert loaded.optimizer is None
    RMSProp(momentum=0.5).step(x, x.copy(), loaded)
    assert loaded.step == 2


def test_a_rule_may_be_told_in_lists(tmp_path):
    rule = Rule("listed", ["grad"], ["x", "s"], [], OWN_RULE[-1])
    state, x = small_state(optimizer=RuleOptimizer(rule))
    state.save(tmp_path / "state", x=x)
    assert load_state(tmp_path / "state").optimizer.rule.writes == ("x", "s")
    assert pickle.loads(pickle.dumps(rule)).reads == ("grad",)


def test_an_optimizer_of_a_newer_version_says_what_to_do(tmp_path, monkeypatch):
    state, _ = small_state(optimizer=OwnOptimizer())
    with monkeypatch.context() as future:
        future.setitem(description.KINDS, "OwnOptimizer", OwnOptimizer)
        future.setattr("gpuprop.checkpoint.container.__version__", "9.8.7")
        state.save(tmp_path / "state")
    with pytest.raises(
        ValueError, match=r"an optimizer of gpuprop 9\.8\.7 .*'OwnOptimizer'.* --upgrade gpuprop"
    ):
        load_state(tmp_path / "state")
