"""Optimizers that between them use every option: for the tests that hold for each."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpuprop import SGD, AdaGrad, Adam, AdamW, Optimizer, RMSProp, schedules

DECAY = schedules.exponential_decay(0.1, transition_steps=10, decay_rate=0.5)


def variants(lower: Any, upper: Any) -> dict[str, Optimizer]:
    """By name; `lower` and `upper` are arrays like the parameters."""
    return {
        "rmsprop": RMSProp(),
        "momentum": RMSProp(momentum=0.9),
        "nesterov": RMSProp(momentum=0.9, nesterov=True),
        "centered": RMSProp(centered=True, epsilon=1e-3),
        "momentum, centered": RMSProp(momentum=0.9, centered=True, epsilon=1e-3),
        "epsilon inside": RMSProp(epsilon=1e-3, epsilon_inside_sqrt=True, initial_square_average=1.0),
        "bias correction": RMSProp(bias_correction=True),
        "rate in velocity": RMSProp(DECAY, momentum=0.8, learning_rate_in_velocity=True, nesterov=True),
        "schedule": RMSProp(DECAY, momentum=0.8, nesterov=True),
        "weight decay": RMSProp(weight_decay=0.1),
        "decoupled weight decay": RMSProp(DECAY, weight_decay=0.1, decoupled_weight_decay=True),
        "maximize": RMSProp(maximize=True, weight_decay=0.1),
        "clip value": RMSProp(clip_value=0.3, momentum=0.5),
        "clip norm": RMSProp(clip_norm=1.5, maximize=True),
        "bounds": RMSProp(bounds=(-0.5, 0.75)),
        "lower array": RMSProp(bounds=(lower, np.inf)),
        "both arrays": RMSProp(momentum=0.9, bounds=(lower, upper)),
        "everything": RMSProp(
            DECAY, 0.8, 1e-3, momentum=0.9, nesterov=True, centered=True, epsilon_inside_sqrt=True,
            initial_square_average=2.0, bias_correction=True, weight_decay=0.1, decoupled_weight_decay=True,
            maximize=True, clip_value=0.3, clip_norm=20.0, bounds=(-1.0, upper), nonfinite="skip",
        ),
        "sgd": SGD(),
        "sgd momentum": SGD(DECAY, momentum=0.9, weight_decay=0.1),
        "sgd nesterov": SGD(momentum=0.9, nesterov=True, clip_value=0.3, bounds=(lower, 1)),
        "adagrad": AdaGrad(),
        "adagrad options": AdaGrad(
            epsilon=1e-3, epsilon_inside_sqrt=True, initial_square_sum=0.1, weight_decay=0.1,
            bounds=(lower, upper),
        ),
        "adam": Adam(0.1),
        "adam options": Adam(DECAY, clip_value=0.3, maximize=True, bounds=(lower, 1)),
        "adamw": AdamW(0.1),
        "skip": RMSProp(nonfinite="skip"),
        "raise": RMSProp(nonfinite="raise"),
    }  # fmt: skip


NAMES = list(variants(-np.ones(1), np.ones(1)))
