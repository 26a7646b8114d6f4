"""Schedules of every kind, for the tests that hold for each."""

from gpuprop import schedules
from gpuprop.schedules import constant_schedule, exponential_decay, join_schedules, linear_schedule

CASES = [
    ("constant_schedule", {"value": 0.3}),
    ("linear_schedule", {"init_value": 0.3, "end_value": 0.1, "transition_steps": 40}),
    ("linear_schedule", {"init_value": 0, "end_value": 1, "transition_steps": 7, "transition_begin": 30}),
    ("exponential_decay", {"init_value": 0.3, "transition_steps": 10, "decay_rate": 0.7}),
    ("exponential_decay", {"init_value": 0.3, "transition_steps": 7, "decay_rate": 0.7, "staircase": True}),
    (
        "exponential_decay",
        {"init_value": 0.3, "transition_steps": 5, "decay_rate": 0.6, "transition_begin": 9, "end_value": 0},
    ),
    ("exponential_decay", {"init_value": 0.3, "transition_steps": 5, "decay_rate": 0.6, "end_value": 0.4}),
    ("exponential_decay", {"init_value": 0.3, "transition_steps": 5, "decay_rate": 1.5, "end_value": 2}),
    ("exponential_decay", {"init_value": 0.3, "transition_steps": 5, "decay_rate": 1, "end_value": 0.1}),
    ("cosine_decay_schedule", {"init_value": 0.3, "decay_steps": 50}),
    ("cosine_decay_schedule", {"init_value": 0.3, "decay_steps": 1, "alpha": 0.1}),
    ("cosine_decay_schedule", {"init_value": 0.3, "decay_steps": 50, "alpha": 0.05, "exponent": 1.7}),
    ("warmup_constant_schedule", {"init_value": 0.01, "peak_value": 0.3, "warmup_steps": 11}),
    (
        "warmup_cosine_decay_schedule",
        {"init_value": 0.01, "peak_value": 0.3, "warmup_steps": 11, "decay_steps": 60},
    ),
    (
        "warmup_cosine_decay_schedule",
        {
            "init_value": 0.5, "peak_value": 0.3, "warmup_steps": 0, "decay_steps": 60, "end_value": 0.02,
            "exponent": 2,
        },
    ),
    ("piecewise_constant_schedule", {"init_value": 0.3}),
    (
        "piecewise_constant_schedule",
        {"init_value": 0.3, "boundaries_and_scales": {50: 0.1, 0: 0.5, 20: 3.0, 70: 0.0}},
    ),
]  # fmt: skip

JOINED = join_schedules(
    [linear_schedule(0.0, 0.3, 5), exponential_decay(0.3, 4, 0.9), constant_schedule(0.01)], [5, 40]
)
EVERY = [getattr(schedules, name)(**arguments) for name, arguments in CASES] + [JOINED]
