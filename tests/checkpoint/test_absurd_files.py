"""Files that are absurd under a right checksum: no such file loads, and each gives the same error."""

import json
import math
import re

import numpy as np
import pytest
from forged_files import X, call_otherwise, forged, parts, set_in, state_of, take_out
from saved_states import small_state

import gpuprop
from gpuprop import Rule, RuleOptimizer, load_state
from gpuprop.__main__ import main

UNKNOWN = "that this gpuprop .* does not know .*: it is damaged, or of another version; load another copy"


def reshape(*shape, axes=None):
    def change(header, description):
        header["state.velocity"]["shape"] = shape
        if axes:
            description["arrays"]["state.velocity"]["axes"] = axes

    return change


def call_integers(header, description):
    header["state.velocity"]["dtype"] = "I64"
    description["arrays"]["state.velocity"]["dtype"] = "int64"


def describe_too_little(header, description):
    del description["arrays"]["state.velocity"]


LAYOUT = "arrays", "state.velocity"
CHANGES = {
    "a step in words": set_in("step", to="ten"),
    "a negative step": set_in("step", to=-1),
    "a fraction of a step": set_in("step", to=1.0),
    "a yes for a step": set_in("step", to=True),
    "a step too far for float64": set_in("step", to=2**53 + 1),
    "a step of 400 digits": set_in("step", to=10**400),
    "less than none skipped": set_in("skipped", to=-1),
    "any backend": set_in("backend", to="auto"),
    "no backend": set_in("backend", to="abacus"),
    "another rule": set_in("rule", to="adam"),
    "an empty rule": set_in("rule", to=""),
    "a rule and no optimizer": set_in("optimizer", to=None),
    "an optimizer as a schedule": set_in("optimizer", "RMSProp", "learning_rate", to={"SGD": {}}),
    "infinity": set_in("optimizer", "RMSProp", "learning_rate", to=math.inf),
    "an infinite number": set_in("optimizer", "RMSProp", "epsilon", to=1e999),
    "no axes": set_in(*LAYOUT, "axes", to=[]),
    "an axis twice": set_in(*LAYOUT, "axes", to=[0, 0]),
    "an axis too many": set_in(*LAYOUT, "axes", to=[0, 1, 2]),
    "an axis that is no number": set_in(*LAYOUT, "axes", to=[False, True]),
    "axes of another order": set_in(*LAYOUT, "axes", to=[0, 1]),
    "half precision": set_in(*LAYOUT, "dtype", to="float16"),
    "a dtype that lies": set_in(*LAYOUT, "dtype", to="int64"),
    "no pairs": set_in(*LAYOUT, "dtype", to="complex128"),
    "no dtype": set_in(*LAYOUT, "dtype", to="float80"),
    "nowhere": set_in(*LAYOUT, "on_device", to=None),
    "integers": call_integers,
    "too little": describe_too_little,
    "another shape": reshape(3, 2),
    "more axes": reshape(2, 3, 1, axes=[0, 1, 2]),
}


def add_a_group(header, description):
    description["groups"].append(description["groups"][1])


GROUP_CHANGES = {
    "groups in a dictionary": set_in("groups", to={"a": {}, "b": {}}),
    "groups in words": set_in("groups", to="ab"),
    "groups that are numbers": set_in("groups", to=[1, 2]),
    "no groups": set_in("groups", to=[]),
    "a group too few": take_out("groups", 1),
    "a group too many": add_a_group,
    "a name twice": set_in("names", to=["a", "a"]),
    "a name too few": set_in("names", to=["a"]),
    "a name too many": set_in("names", to=["a", "b", "b"]),
    "names in words": set_in("names", to="ab"),
    "names in a dictionary": set_in("names", to={"a": 1, "b": 2}),
    "a name that is a number": set_in("names", to=["a", 1]),
    "an empty name": set_in("names", to=["a", ""]),
    "no names": take_out("names"),
    "no step of all": take_out("step"),
    "a negative step of all": set_in("step", to=-1),
    "a step of all in words": set_in("step", to="ten"),
    "a step of one in words": set_in("groups", 1, "step", to="ten"),
    "a step of one too far": set_in("groups", 1, "step", to=2**53 + 1),
    "less than none skipped": set_in("groups", 0, "skipped", to=-1),
    "a negative rate": set_in("groups", 1, "rate_scale", to=-0.5),
    "a yes for a rate": set_in("groups", 1, "rate_scale", to=True),
    "a rate in words": set_in("groups", 1, "rate_scale", to="slow"),
    "an infinite rate": set_in("groups", 1, "rate_scale", to=1e999),
    "a rate of 400 digits": set_in("groups", 1, "rate_scale", to=10**400),
    "a norm in words": set_in("clip_norm", to="5"),
    "a yes for a norm": set_in("clip_norm", to=True),
    "a norm of nothing": set_in("clip_norm", to=0),
    "a negative norm": set_in("clip_norm", to=-1.0),
    "a norm of 400 digits": set_in("clip_norm", to=10**400),
    "no norm": take_out("clip_norm"),
    "no backend": set_in("groups", 1, "backend", to="abacus"),
    "another rule": set_in("groups", 1, "rule", to="sgd"),
    "groups as an optimizer": set_in("groups", 1, "optimizer", to={"Groups": {}}),
    "an array of no group": call_otherwise("state.1.square_average", "state.2.square_average"),
    "an array of a group in words": call_otherwise("state.1.square_average", "state.b.square_average"),
    "an array of all": call_otherwise("state.1.square_average", "state.square_average"),
    "an array of the other group": call_otherwise("state.1.square_average", "state.0.average"),
    "an array without a name": call_otherwise("state.1.square_average", "state.1."),
    "an array with an attribute's name": call_otherwise("state.1.square_average", "state.1.step"),
    "a bound of no group": call_otherwise("optimizer.0.0", "optimizer.7.0"),
    "a bound of the other group": call_otherwise("optimizer.0.0", "optimizer.1.0"),
    "a bound that nothing refers to": call_otherwise("optimizer.0.0", "optimizer.0.1"),
}


NAMES = ["step", "backend", "optimizer", "arrays", "save", "_clock", "_names", "__class__", "a b", ""]
CALLED = {name: call_otherwise("state.velocity", name)
          for name in [*(f"state.{name}" for name in NAMES), "velocity", "our.velocity"]}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "change"),
    [("options", change) for change in (*CHANGES, *CALLED)]
    + [("groups", change) for change in GROUP_CHANGES]
    + [("groups with code", change) for change in GROUP_CHANGES if "bound" not in change],  # it has none
)
def test_an_absurd_file_does_not_load(kind, change, tmp_path, capsys):
    path = tmp_path / "state"
    state_of(kind)[0].save(path)
    header, description, data = parts(path.read_bytes())
    changes = CHANGES | CALLED if kind == "options" else GROUP_CHANGES
    changes[change](header, description)
    path.write_bytes(forged(header, description, data))
    with pytest.raises(ValueError, match=UNKNOWN):
        load_state(path)
    if main(["inspect", str(path)]):  # which looks at less
        assert re.search(UNKNOWN, capsys.readouterr().err)


@pytest.mark.parametrize("depth", [50, 500, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a": ', "}"), ('{"code": ', "}")])
@pytest.mark.parametrize("place", ["", "optimizer", "arrays", "learning_rate"])
def test_what_is_nested_without_an_end_does_not_load(place, opening, closing, depth, tmp_path):
    path = tmp_path / "state"
    small_state()[0].save(path)
    header, description, data = parts(path.read_bytes())
    nested = opening * depth + "0" + closing * depth
    text = json.dumps(description)
    if place:
        found = description if place != "learning_rate" else description["optimizer"]["RMSProp"]
        text = text.replace(f'"{place}": {json.dumps(found[place])}', f'"{place}": {nested}')
    path.write_bytes(forged(header, text if place else nested, data))
    with pytest.raises(ValueError, match=UNKNOWN):
        load_state(path)


@pytest.mark.parametrize("text", ["", "null", "5", '"step"', "[]", "{}", "{", '{"step": NaN}'])
def test_what_is_no_description_does_not_load(text, tmp_path):
    path = tmp_path / "state"
    small_state()[0].save(path)
    header, _, data = parts(path.read_bytes())
    path.write_bytes(forged(header, text, data))
    with pytest.raises(ValueError, match=UNKNOWN):
        load_state(path)


@pytest.mark.parametrize("name", ["gpuprop.description", "gpuprop.version", "gpuprop.format"])
def test_metadata_that_lack_or_are_nonsense_do_not_load(name, tmp_path):
    path = tmp_path / "state"
    small_state()[0].save(path)
    header, description, data = parts(path.read_bytes())
    for value in ("", "ten", "-1", "1e3", "9" * 5000):
        header["__metadata__"][name] = value
        forgery = forged(header, description, data)
        if name == "gpuprop.description":
            forgery = forged(header, value, data)
        path.write_bytes(forgery)
        if name == "gpuprop.version":
            assert load_state(path).step == 1
        else:
            with pytest.raises(ValueError, match=r"--upgrade gpuprop") as error:
                load_state(path)
            assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.5", "1" * 400), ("0.5", "0.5" + " + 1" * 5000), ("0.5", "-" * 9000 + "1"), ("0.5", "(" * 300 + "1")],
    ids=["digits", "terms", "signs", "parentheses"],
)
def test_a_rule_that_is_too_much_does_not_load(old, new, tmp_path):
    path = tmp_path / "state"
    rule = Rule("halved", ("grad",), ("x",), (), "x = x - 0.5 * grad")
    small_state(optimizer=RuleOptimizer(rule))[0].save(path)
    header, description, data = parts(path.read_bytes())
    text = json.dumps(description).replace(old, new)
    path.write_bytes(forged(header, text, data))
    with pytest.raises(ValueError, match=UNKNOWN):
        load_state(path)


def test_a_state_that_could_not_be_loaded_is_not_saved(tmp_path):
    state, _ = small_state()
    state.save(tmp_path / "state")
    before = (tmp_path / "state").read_bytes()
    state.velocity = np.zeros(7)
    with pytest.raises(
        ValueError, match=r"are float64 of shape \(5,\) and float64 of shape \(7,\); they must"
    ):
        state.save(tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == before


@pytest.mark.parametrize("name", ["step", "optimizer", "arrays", "save", "_clock"])
def test_no_array_of_a_state_has_the_name_of_an_attribute(name):
    with pytest.raises(ValueError, match=f"an array is called '{name}', as an attribute of every state is"):
        gpuprop.optimizers.State(None, 0, {name: X}, gpuprop.select_backend("numpy"))
