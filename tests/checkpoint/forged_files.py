"""Files that say what somebody wants, under a right checksum."""

import json
import math

import numpy as np
from saved_states import LION

from gpuprop import Adam, RMSProp, Rule, RuleOptimizer, schedules
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
