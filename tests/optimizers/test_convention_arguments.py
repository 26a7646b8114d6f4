"""What the constructors of other libraries' conventions take beside numbers, and what they refuse."""

import pickle

import numpy as np
import pytest
from peers import halving, library

from gpuprop import RMSProp, load_state, schedules


def test_what_only_chooses_an_implementation_changes_nothing():
    assert RMSProp.pytorch(capturable=True, foreach=True) == RMSProp.pytorch()
    assert RMSProp.keras(name="mine", ema_momentum=0.5, ema_overwrite_frequency=3) == RMSProp.keras()
    assert RMSProp.tensorflow(0.1, use_locking=True, name="mine") == RMSProp.tensorflow(0.1)


@pytest.mark.parametrize(
    ("constructor", "given", "message"),
    [
        (RMSProp.pytorch, {"differentiable": True}, "differentiable is True; .* must be False"),
        (RMSProp.keras, {"use_ema": True}, "use_ema is True.*: average x between steps instead"),
        (RMSProp.keras, {"loss_scale_factor": 8.0}, "loss_scale_factor is 8.0.*: divide the gradient"),
        (RMSProp.keras, {"gradient_accumulation_steps": 4}, "gradient_accumulation_steps is 4.*: step with"),
        (RMSProp.keras, {"clipnorm": 1.0, "clipvalue": 2.0}, "clipnorm is 1.0, clipvalue 2.0 and"),
        (RMSProp.pytorch, {"alpha": 1.0}, "rho is 1.0"),
        (RMSProp.timm, {"caution": True}, "caution is True, which takes a mean over all elements"),
    ],
)
def test_what_cannot_be_done_is_refused(constructor, given, message):
    with pytest.raises(ValueError, match=message):
        constructor(**given)


def test_a_clip_of_zero_is_none_as_in_keras():
    assert RMSProp.keras(clipnorm=0, weight_decay=0.0) == RMSProp.keras(clipvalue=0.0) == RMSProp.keras()


def test_nesterov_without_momentum_is_nothing_as_in_optax():
    assert RMSProp.optax(0.1, nesterov=True) == RMSProp.optax(0.1, momentum=0.0)


def no_argument():
    return np.float32(0.25)


@pytest.mark.parametrize("constructor", [RMSProp.keras, RMSProp.tensorflow])
def test_a_learning_rate_may_be_a_callable_without_arguments(constructor):
    optimizer, x = constructor(no_argument), np.zeros(1)
    same, y = constructor(0.25), np.zeros(1)
    for o, array in ((optimizer, x), (same, y)):
        o.step(array, np.ones(1), o.init(array))
    assert x == y
    assert pickle.loads(pickle.dumps(optimizer)) == constructor(no_argument) != constructor(halving)


@pytest.mark.parametrize(
    "constructor", [RMSProp.pytorch, RMSProp.optax, RMSProp.keras, RMSProp.chainer, RMSProp.timm]
)
def test_a_learning_rate_may_be_a_schedule(constructor):
    optimizer = constructor(halving)
    assert [optimizer.learning_rate(step) for step in (0, 99, 100)] == [2**-7, 2**-7, 2**-8]


@pytest.mark.parametrize(
    ("constructor", "name", "array"),
    [
        (RMSProp.pytorch, "torch", lambda torch: torch.tensor([0.5])),
        (RMSProp.optax, "jax", lambda jax: jax.numpy.asarray(0.5)),
    ],
)
def test_a_learning_rate_may_be_an_array_of_one_element(constructor, name, array):
    assert constructor(array(library(name))) == constructor(0.5)


@pytest.mark.parametrize("convention", [RMSProp.keras, RMSProp.tensorflow, RMSProp.optax])
def test_a_schedule_of_this_package_is_kept_so_that_it_can_be_saved(convention, tmp_path):
    optimizer = convention(schedules.exponential_decay(0.1, 5, 0.5))
    x = np.ones(3)
    state = optimizer.init(x)
    optimizer.step(x, x.copy(), state)
    state.save(tmp_path / "state")
    assert load_state(tmp_path / "state").optimizer == optimizer
