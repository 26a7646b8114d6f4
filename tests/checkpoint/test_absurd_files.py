"""Files that are absurd under a right checksum: no such file loads, and each gives the same error."""

import json
import math

import numpy as np
import pytest
from forged_files import OPTIMIZERS, X, forged, parts
from saved_states import small_state

import gpuprop
from gpuprop import Rule, RuleOptimizer, load_state

UNKNOWN = "that this gpuprop .* does not know .*: it is damaged, or of another version; load another copy"


def set_in(*path, to):
    """Changes one thing in a description."""

    def change(header, description):
        *parents, key = path
        for each in parents:
            description = description[each]
        description[key] = to

    return change


def call_array(name):
    """Calls an array of the state otherwise, in the header and in the description."""

    def change(header, description):
        header[name] = header.pop("state.velocity")
        description["arrays"][name] = description["arrays"].pop("state.velocity")

    return change


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
NAMES = ["step", "backend", "optimizer", "arrays", "save", "_clock", "_names", "__class__", "a b", ""]


@pytest.mark.parametrize(
    "change", [*CHANGES, *(f"state.{name}" for name in NAMES), "velocity", "our.velocity"]
)
def test_an_absurd_file_does_not_load(change, tmp_path):
    path = tmp_path / "state"
    state, _ = small_state(X.copy(order="K"), OPTIMIZERS["options"])
    state.save(path)
    header, description, data = parts(path.read_bytes())
    (CHANGES.get(change) or call_array(change))(header, description)
    path.write_bytes(forged(header, description, data))
    with pytest.raises(ValueError, match=UNKNOWN):
        load_state(path)


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
