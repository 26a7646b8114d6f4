"""Steps of groups of arrays, captured into a CUDA graph."""

import copy

import numpy as np
import pytest
from captured import FALLING, SIZE
from random_steps import normal

import gpuprop
from gpuprop import SGD, Adam, Groups, RMSProp, Rule, RuleOptimizer

pytestmark = pytest.mark.gpu

RULE = Rule("sign", ("g",), ("x",), ("learning_rate",), "x = x - learning_rate * where(g > 0, 1, -1)")


def groups_of(**options):
    return Groups(
        a=Adam(FALLING, nonfinite="skip"), b=RMSProp("auto", momentum=0.9, maximize=True),
        c=RuleOptimizer(RULE, learning_rate=0.1), **options,
    )  # fmt: skip


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_groups_are_replayed(cupy, clip_norm, short_tables, tmp_path):
    groups, kinds = groups_of(clip_norm=clip_norm), {"a": "complex64", "b": "float64", "c": "float32"}
    if clip_norm is not None:
        groups = Groups({**groups.optimizers, "c": RMSProp()}, clip_norm=clip_norm)
    arrays, others = ({n: cupy.asarray(normal(SIZE, kind, 5)) for n, kind in kinds.items()} for _ in range(2))
    gradients = [{n: cupy.empty_like(a) for n, a in each.items()} for each in (arrays, others)]
    states = [groups.init(each) for each in (arrays, others)]
    stream = cupy.cuda.Stream(non_blocking=True)

    def step(arrays, gradients, state, names="abc"):
        for name in names:
            cupy.multiply(arrays[name], 0.5, out=gradients[name])
        groups.step(arrays, {name: gradients[name] for name in names}, state)

    def capture(names):
        cupy.cuda.Device().synchronize()
        with stream:
            stream.begin_capture()
            step(arrays, gradients[0], states[0], names)
            return stream.end_capture()

    step(arrays, gradients[0], states[0])
    step(others, gradients[1], states[1])
    of_all, of_two = capture("abc"), capture("ab")
    assert states[0].step == 1
    for graph, names, many in ((of_all, "abc", 10), (of_two, "ab", 3), (of_all, "abc", 1)):
        for _ in range(many):
            graph.launch(stream)
            step(others, gradients[1], states[1], names)
    for _ in range(2):
        step(arrays, gradients[0], states[0])
        step(others, gradients[1], states[1])
    cupy.cuda.Device().synchronize()
    assert states[0].step == states[1].step == 17
    copied = copy.deepcopy(states[0])
    of_all.launch(stream)
    step(others, gradients[1], states[1])
    cupy.cuda.Device().synchronize()
    assert (states[0].step, copied.step) == (18, 17)
    for name in kinds:
        assert states[0][name].step == states[1][name].step
        np.testing.assert_array_equal(arrays[name].get(), others[name].get())
        for kept, array in states[0][name].arrays.items():
            np.testing.assert_array_equal(array.get(), states[1][name].arrays[kept].get())


def test_groups_of_several_places_are_not_captured_in_part(cupy, other_device):
    here, there = cupy.ones(3), np.ones(3)
    with other_device:
        elsewhere = cupy.ones(3)
    stream, others_stream = cupy.cuda.Stream(non_blocking=True), None
    for other in (there, elsewhere):
        groups = Groups(a=SGD(), b=SGD())
        arrays = {"a": here, "b": other}
        state = groups.init(arrays)
        with stream:
            stream.begin_capture()
            with pytest.raises(RuntimeError, match="elsewhere, where they would be stepped now"):
                groups.step(arrays, arrays, state)
            stream.end_capture()
        assert state.step == 0
        assert (gpuprop.select_backend("gpu").to_host(other) == 1).all()
    groups = Groups(a=SGD(), b=SGD(), clip_norm=1.0)
    state = groups.init(arrays)
    with other_device:
        others_stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with other_device:
            others_stream.use()
            others_stream.begin_capture()
        try:
            with pytest.raises(RuntimeError, match="arrays on several devices must wait"):
                groups.step(arrays, arrays, state)
        finally:
            with other_device:
                others_stream.end_capture()
                cupy.cuda.Stream.null.use()
        stream.end_capture()
    assert state.step == 0
