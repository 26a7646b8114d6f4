"""States of groups in files: whole, of one moment, and the same run afterwards, bit for bit."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from saved_states import NUMPY, bits

from gpuprop import SGD, Adam, Groups, GroupsState, RMSProp, load_state
from gpuprop.__main__ import main
from gpuprop.schedules import exponential_decay

HERE = Path(__file__).parent
CLIPS = pytest.mark.parametrize("clip_norm", [None, 5.0])


def started(backend, clip_norm=5.0):
    """Groups with what a file could forget, their arrays and their state, of several dtypes and orders."""
    random = np.random.default_rng(2)
    field = random.normal(size=(5, 6)) + 1j * random.normal(size=(5, 6))
    arrays = {
        "field": backend.asarray(field.astype("complex64")).T,
        "weights": backend.asarray(random.normal(size=7)),
    }
    upper = backend.asarray(np.linspace(0.5, 1.5, 7))
    groups = Groups(
        field=Adam(exponential_decay(0.05, 9, 0.5), nonfinite="skip"),
        weights=RMSProp(0.02, momentum=0.5, bounds=(-np.inf, upper), weight_decay=0.01),
        clip_norm=clip_norm,
    )
    return groups, arrays, groups.init(arrays, backend=backend)


def run(groups, arrays, state, steps):
    """Each has a gradient in other steps than the others, and a rate changes on the way."""
    first = next(iter(state.values()))
    for step in steps:
        gradients = {}
        for k, (name, array) in enumerate(arrays.items()):
            if (step + k) % 3:
                numbers = np.random.default_rng([step, k]).normal(size=array.shape)
                gradients[name] = state[name].backend.asarray(np.asarray(numbers, array.dtype))
                gradients[name] += array
        if "field" in gradients:
            gradients["field"][step % 5] = np.nan
        if step % 4 == 3:
            first.rate_scale *= 0.5
        groups.step(arrays, gradients, state)


def everything_of(arrays, state):
    each = {
        name: (
            bits(one.backend, arrays[name]),
            {kind: bits(one.backend, array) for kind, array in one.arrays.items()},
            (one.step, one.skipped, one.rate_scale, one.backend),
        )
        for name, one in state.items()
    }
    return list(state), state.step, each


def own(state):
    """The parameters among the extras of a state."""
    return {name: state.extras[name] for name in state}


def test_a_file_of_groups_comes_back_whole_and_goes_on_bit_for_bit(backend, tmp_path):
    groups, arrays, state = started(backend)
    run(groups, arrays, state, range(8))
    state.save(tmp_path / "state", losses=np.arange(3), **arrays)
    loaded = load_state(tmp_path / "state")
    assert isinstance(loaded, GroupsState)
    assert everything_of(own(loaded), loaded) == everything_of(arrays, state)
    assert [(one.step, one.rate_scale) for one in loaded.values()] == [(5, 0.25), (6, 1)]
    assert (loaded.step, loaded["field"].skipped > 0) == (8, True)
    assert loaded.extras.keys() == {"losses", *arrays}
    for name, array in own(loaded).items():
        assert (type(array), array.strides) == (type(arrays[name]), arrays[name].strides)
    again = loaded.optimizer
    assert (again.clip_norm, again.optimizers["field"]) == (5, groups.optimizers["field"])
    lower, upper = again.optimizers["weights"].bounds
    assert (lower, bits(backend, upper)) == (-np.inf, bits(backend, groups.optimizers["weights"].bounds[1]))
    assert replace(again.optimizers["weights"], bounds=None) == replace(
        groups.optimizers["weights"], bounds=None
    )
    content = (tmp_path / "state").read_bytes()
    loaded.save(tmp_path / "state", **loaded.extras)
    assert (tmp_path / "state").read_bytes() == content
    parameters = own(loaded)
    run(groups, arrays, state, range(8, 20))
    run(again, parameters, loaded, range(8, 20))
    assert everything_of(parameters, loaded) == everything_of(arrays, state)


@CLIPS
def test_before_the_first_step_there_is_as_much(backend, clip_norm, tmp_path):
    _, arrays, state = started(backend, clip_norm)
    state.save(tmp_path / "state")
    loaded = load_state(tmp_path / "state")
    assert (loaded.step, loaded.extras, loaded.optimizer.clip_norm) == (0, {}, clip_norm)
    assert everything_of(arrays, loaded) == everything_of(arrays, state)


def test_a_run_of_groups_is_resumed_in_another_process(tmp_path):
    groups, arrays, state = started(NUMPY)
    run(groups, arrays, state, range(8))
    state.save(tmp_path / "state", **arrays)
    run(groups, arrays, state, range(8, 12))
    script = (
        "import sys, gpuprop, test_files_of_groups\n"
        "state = gpuprop.load_state(sys.argv[1])\n"
        "arrays = test_files_of_groups.own(state)\n"
        "test_files_of_groups.run(state.optimizer, arrays, state, range(8, 12))\n"
        "state.save(sys.argv[1], **arrays)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "state"], cwd=HERE, check=True, timeout=120)
    resumed = load_state(tmp_path / "state")
    assert everything_of(own(resumed), resumed) == everything_of(arrays, state)


def in_two_places(backend):
    """A state whose arrays are on `backend` and on plain NumPy."""
    groups = Groups(there=RMSProp(0.1, momentum=0.5), here=RMSProp(0.1, momentum=0.5))
    arrays = {"there": backend.asarray(np.linspace(-1, 1, 5)), "here": np.linspace(2, 3, 4)}
    places = {"there": backend, "here": NUMPY}
    states = {name: one.init(arrays[name], backend=places[name]) for name, one in groups.optimizers.items()}
    return groups, arrays, GroupsState(groups, states)


def test_groups_in_several_places_go_back_there_or_together_elsewhere(backend, tmp_path):
    groups, arrays, state = in_two_places(backend)
    run(groups, arrays, state, range(4))
    state.save(tmp_path / "state", history=np.arange(2), **arrays)
    loaded, moved = load_state(tmp_path / "state"), load_state(tmp_path / "state", backend=NUMPY)
    assert [one.backend for one in loaded.values()] == [backend, NUMPY]
    assert [one.backend for one in moved.values()] == [NUMPY, NUMPY]
    assert everything_of(own(loaded), loaded) == everything_of(arrays, state)
    for name, one in moved.items():
        assert isinstance(moved.extras[name], np.ndarray)
        assert one.velocity.tobytes() == bits(state[name].backend, state[name].velocity)[2]
    moved.save(tmp_path / "moved", **moved.extras)
    assert [one.backend for one in load_state(tmp_path / "moved", backend=backend).values()] == [backend] * 2
    run(groups, arrays, state, range(4, 9))
    parameters = own(loaded)
    run(loaded.optimizer, parameters, loaded, range(4, 9))
    assert everything_of(parameters, loaded) == everything_of(arrays, state)


@CLIPS
def test_of_groups_with_code_the_arrays_stay_and_another_family_is_refused(clip_norm, tmp_path):
    x = {"known": np.linspace(-1, 1, 5), "code": np.linspace(1, 2, 5)}
    code = RMSProp(lambda step: 0.1 / (1 + step), momentum=0.5)
    groups = Groups(known=RMSProp(0.1, momentum=0.5), code=code, clip_norm=clip_norm)
    state = groups.init(x, backend=NUMPY)
    run(groups, x, state, range(5))
    state.save(tmp_path / "state", **x)
    content = (tmp_path / "state").read_bytes()
    loaded = load_state(tmp_path / "state")
    assert (loaded.optimizer, loaded["code"].optimizer) == (None, None)
    assert loaded["known"].optimizer == groups.optimizers["known"]
    loaded.save(tmp_path / "state", **loaded.extras)  # and says as much as before
    assert (tmp_path / "state").read_bytes() == content
    parameters = own(loaded)
    for other in (Groups(known=groups.optimizers["known"], code=Adam()), Groups(known=SGD(), code=code)):
        before = everything_of(parameters, loaded)
        with pytest.raises((TypeError, ValueError), match=r"^(code|known): "):
            other.step(parameters, dict(parameters), loaded)
        assert everything_of(parameters, loaded) == before
    run(groups, x, state, range(5, 9))
    run(groups, parameters, loaded, range(5, 9))
    assert everything_of(parameters, loaded) == everything_of(x, state)


def test_no_file_is_of_a_moment_within_a_step_of_one_of_them(tmp_path):
    _, arrays, state = in_two_places(NUMPY)
    state.save(tmp_path / "state", **arrays)
    before = (tmp_path / "state").read_bytes()
    state["here"]._clock[0] += 1
    with pytest.raises(RuntimeError, match="a step of it is under way"):
        state.save(tmp_path / "state", **arrays)
    assert (tmp_path / "state").read_bytes() == before


def test_inspect_tells_of_each_array_by_its_name(tmp_path, capsys):
    groups, arrays, state = started(NUMPY)
    run(groups, arrays, state, range(4))
    state.save(tmp_path / "state", **arrays)
    assert main(["inspect", str(tmp_path / "state")]) == 0
    _, _, of_all, *lines = capsys.readouterr().out.splitlines()
    assert of_all == "groups of 2, step: 4, clip_norm: 5.0"
    field, field_step, field_place, weights, weights_step, weights_place, *arrays = lines
    assert field.startswith("'field': optimizer: Adam(learning_rate=exponential_decay(init_value=0.05, ")
    assert field_step == "'field': step: 2, elements skipped: 10, rate_scale: 0.5"
    assert weights.startswith("'weights': optimizer: RMSProp(learning_rate=0.02, weight_decay=0.01, ")
    assert "<the array optimizer.1.0>" in weights
    assert weights_step == "'weights': step: 3, elements skipped: 0"
    assert [field_place, weights_place] == ["'field': backend: numpy", "'weights': backend: numpy"]
    assert {line.strip() for line in arrays} == {
        "state.0.gradient_average: complex64 of shape (6, 5), 240 bytes",
        "state.0.square_average: complex64 of shape (6, 5), 240 bytes",
        "extras.field: complex64 of shape (6, 5), 240 bytes",
        "state.1.square_average: float64 of shape (7,), 56 bytes",
        "state.1.velocity: float64 of shape (7,), 56 bytes",
        "optimizer.1.0: float64 of shape (7,), 56 bytes",
        "extras.weights: float64 of shape (7,), 56 bytes",
    }


@pytest.mark.skipif(os.name != "posix", reason="fork and SIGKILL are POSIX")
def test_kills_amidst_saving_leave_the_old_states_together_or_the_new_ones(tmp_path):
    done = subprocess.run(
        [sys.executable, HERE / "kill_while_saving.py", tmp_path / "state", "50", "1", "groups"],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    kills, unfinished, step = map(int, done.stdout.split())
    assert kills == 50
    assert unfinished >= 5  # kills that came while a file was being written
    assert step >= 5
