"""Files that say what somebody wants, under a right checksum."""

import json
import math

import numpy as np
from saved_states import LION, NUMPY, small_state

from gpuprop import Adam, Groups, RMSProp, Rule, RuleOptimizer, schedules
from gpuprop.checkpoint import container


def referred(grad, x, average):
    return {"x": x - grad, "average": average + grad}


X = np.arange(6.0).reshape(2, 3).T
LINES = schedules.join_schedules(
    [schedules.linear_schedule(0.0, 0.1, 5), schedules.exponential_decay(0.1, 3, 0.5)], [5]
)
REFERRED = Rule(
    "referred", ("grad",), ("x", "average"), (), "average = average + grad\nx = x - grad", referred
)
OPTIMIZERS = {
    "options": RMSProp(LINES, momentum=0.5, centered=True, clip_norm=None, bounds=(X - 1, math.inf)),
    "a rule": RuleOptimizer(LION, learning_rate=LINES, beta=0.8, nonfinite="skip"),
    "code": Adam(schedules.join_schedules([lambda step: 0.1, LINES], [3])),
    "a reference": RuleOptimizer(REFERRED),
}

GROUPS = {
    "groups": Groups(a=OPTIMIZERS["options"], b=Adam(LINES)),
    "groups with code": Groups(a=OPTIMIZERS["code"], b=RMSProp(0.1, momentum=0.5)),
}
KINDS = [*OPTIMIZERS, *GROUPS]


def state_of(kind):
    """A state after one step, and its parameters by name."""
    if kind in OPTIMIZERS:
        state, x = small_state(X.copy(order="K"), OPTIMIZERS[kind])
        return state, {"x": x}
    arrays = {"a": X.copy(order="K"), "b": np.linspace(-1, 1, 5)}
    state = GROUPS[kind].init(arrays, backend=NUMPY)
    GROUPS[kind].step(arrays, {name: array.copy() for name, array in arrays.items()}, state)
    return state, arrays


def parts(content):
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["gpuprop.description"]), content[8 + length :]


def forged(header, description, data):
    """The file with this header and description, under a right checksum."""
    text = description if isinstance(description, str) else json.dumps(description)
    header["__metadata__"] |= {"gpuprop.description": text, "gpuprop.crc32": container.UNKNOWN}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    text = len(text).to_bytes(8, "little") + text
    signed = container._with_checksum(text, container.UNKNOWN, container.checksum(text))
    return signed + data


def set_in(*path, to):
    """Changes one thing in a description."""

    def change(header, description):
        *parents, key = path
        for each in parents:
            description = description[each]
        description[key] = to

    return change


def call_otherwise(old, new):
    """Calls an array otherwise, in the header and in the description."""

    def change(header, description):
        header[new] = header.pop(old)
        description["arrays"][new] = description["arrays"].pop(old)

    return change


def take_out(*path):
    def change(header, description):
        *parents, key = path
        for each in parents:
            description = description[each]
        del description[key]

    return change
