"""Files with one thing changed, under a right checksum: none loads as something else."""

import copy
import random
import re

import pytest
from forged_files import KINDS, forged, parts, state_of

from gpuprop import load_state


@pytest.fixture(scope="module", params=KINDS)
def file(request, tmp_path_factory):
    """A file, and a place for another."""
    path = tmp_path_factory.mktemp("absurd") / "state"
    state, arrays = state_of(request.param)
    state.save(path, **arrays)
    return path.read_bytes(), path


def assert_refused_or_the_same(path, content, forgery):
    path.write_bytes(forgery)
    try:
        state = load_state(path)
    except ValueError as error:
        refusal = str(error)
        assert re.fullmatch(rf"{re.escape(str(path))} .*damaged.{{,500}}", refusal, re.DOTALL), refusal
        return False
    state.save(path, **state.extras)
    assert path.read_bytes() == content
    return True


#: What is right nowhere, and what is not right in the place of a value of one kind.
NONSENSE = [
    "ten", "", [], {}, {"a": 1, "b": 2}, [[[]]], {"code": 5}, {"code": {}}, {"float": "ten"}, {"float": 5},
    {"array": "7"}, {"array": []}, {"State": {}}, {"RMSProp": {}}, {"Rule": {}}, {"Schedule": {}},
    {"constant_schedule": {}}, {"constant_schedule": {"value": -1}}, {"SGD": {"learning_rate": 0.1}},
    10**400, -(10**400),
]  # fmt: skip
WRONG = {
    str: [None, True, 1.5, -7],
    bool: [None, 1, 0.0],
    int: [None, True, 1.5, -7],
    float: [None, True],
    list: [None, True, 1.5, -7],
    dict: [True],
    type(None): [],
}


def places(tree, path=()):
    """Every place in a tree of JSON, as its path."""
    yield path
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield from places(tree[key], (*path, key))


def mutated(description, rng):
    """With one thing changed for the worse."""
    tree = [copy.deepcopy(description)]
    # What is said of code is for people, and names are theirs: all texts are right.
    told = [path for path in places(tree) if "code" not in path[:-1] and path[1:2] != ("names",)]
    *path, key = rng.choice(told[1:])
    parent = tree
    for each in path:
        parent = parent[each]
    old, action = parent[key], rng.choice(["replace", "replace", "replace", "delete", "repeat", "rename"])
    if action == "replace":
        parent[key] = rng.choice([new for new in NONSENSE + WRONG[type(old)] if new != old])
    elif isinstance(parent, list):
        parent[key : key + 1] = [] if action == "delete" else [old, old]
    else:
        del parent[key]
        if action != "delete":
            parent[f"{key}?"] = old
    return tree[0] if len(tree) == 1 else tree


def check_mutations(file, number, seed):
    content, path = file
    rng = random.Random(seed)
    header, description, data = parts(content)
    assert forged(header, description, data) == content
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    refused = 0
    for turn in range(number):
        if turn % 4:
            forgery = forged(header, mutated(description, rng), data)
        else:
            changed = mutated(tensors, rng)
            changed = changed if isinstance(changed, dict) else {}
            forgery = forged({"__metadata__": header["__metadata__"], **changed}, description, data)
        refused += not assert_refused_or_the_same(path, content, forgery)
    assert refused > 0.9 * number


def test_a_mutated_description_is_refused_or_means_the_same(file):
    check_mutations(file, 60, seed=1)


@pytest.mark.slow
def test_many_mutated_descriptions_are_refused_or_mean_the_same(file):
    check_mutations(file, 1500, seed=2)
