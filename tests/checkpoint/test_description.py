import math
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from saved_states import LION, NUMPY, everything_of, small_state
from test_schedules import EVERY

import gpuprop
from gpuprop import SGD, AdaGrad, Adam, AdamW, RMSProp, RuleOptimizer, load_state, schedules
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


@pytest.mark.parametrize(
    "optimizer",
    [
        RMSProp(lambda step: 0.1),
        RMSProp(Table((0.1, 0.2))),
        RMSProp(Halving(0.1)),
        SGD(schedules.join_schedules([lambda step: 0.1, schedules.constant_schedule(0.2)], [5])),
        OwnOptimizer(0.1),
    ],
    ids=[
        "a function",
        "a tuple that is a schedule",
        "a number that is a schedule",
        "a function in a schedule",
        "a class",
    ],
)
def test_a_users_code_is_not_written(optimizer, tmp_path):
    state, x = small_state(optimizer=optimizer)
    state.save(tmp_path / "state", x=x)
    resumed = load_state(tmp_path / "state")
    assert resumed.optimizer is None
    x_again = resumed.extras["x"]
    for each, of in ((x, state), (x_again, resumed)):
        optimizer.step(each, each.copy(), of)
    assert everything_of(NUMPY, x_again, resumed) == everything_of(NUMPY, x, state)


def test_an_optimizer_of_a_newer_version_says_what_to_do(tmp_path, monkeypatch):
    state, _ = small_state(optimizer=OwnOptimizer())
    with monkeypatch.context() as future:
        future.setitem(description._KINDS, "OwnOptimizer", OwnOptimizer)
        future.setattr(gpuprop, "__version__", "9.8.7")
        state.save(tmp_path / "state")
    with pytest.raises(
        ValueError, match=r"an optimizer of gpuprop 9\.8\.7 .*'OwnOptimizer'.* --upgrade gpuprop"
    ):
        load_state(tmp_path / "state")
