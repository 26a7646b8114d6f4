"""What gpuprop 0.1.0 wrote, and where its next steps went: ``python generate.py``, with that version.

Of each run there is a file of ``State.save``, a pickle of the parameters and the state, and in
``went_on.json`` the gradients of five more steps and the arrays after them, their bytes in C order
as hexadecimal digits. Later versions must go on from the files and the pickles to the same bits
(test_of_0_1_0.py), so that this is run again for no version but 0.1.0.
"""

import json
import pickle
from pathlib import Path

import ml_dtypes
import numpy as np

import gpuprop
from gpuprop import SGD, AdaGrad, Adam, AdamW, RMSProp, RuleOptimizer, schedules

HERE = Path(__file__).parent
NUMPY = gpuprop.select_backend("numpy")
LION = gpuprop.Rule(
    "lion_of_0_1_0",
    reads=("grad",),
    writes=("x", "average"),
    scalars=("learning_rate", "beta"),
    body="""
        average = beta * average + (1 - beta) * grad
        x = x - learning_rate * where(average > 0, 1, -1)
    """,
)


def own_schedule(step):
    return 0.1 / (1 + step)


def normal(*shape, dtype="float64", seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * np.random.default_rng(seed + 1).normal(size=shape)
    return values.astype(dtype)


def runs():
    """By name: the parameters and the optimizer."""
    # Schedules of + - * / alone, so that no library's cosine has a part in the bits.
    line = schedules.linear_schedule(0.1, 0.01, 10)
    joined = schedules.join_schedules([line, schedules.piecewise_constant_schedule(0.1, {2: 0.5})], [8])
    half = normal(5, dtype="float16")
    return {
        "rmsprop": (
            np.asfortranarray(normal(2, 3)),
            RMSProp(0.05, 0.8, 1e-3, momentum=0.5, centered=True),
        ),
        "options": (
            normal(3, 2, 2, dtype="float32").transpose(1, 2, 0),
            RMSProp(
                joined, 0.87, 0.05, momentum=0.7, nesterov=True, centered=True, epsilon_inside_sqrt=True,
                initial_square_average=1.0, bias_correction=True, learning_rate_in_velocity=True,
                weight_decay=0.01, decoupled_weight_decay=True, maximize=True, clip_value=1.5,
                nonfinite="skip",
            ),
        ),
        "adam": (normal(6, dtype="float32"), Adam(0.1, nonfinite="skip")),
        "adamw": (normal(2, 3, dtype="complex64"), AdamW(line)),
        "rule": (normal(4), RuleOptimizer(LION, learning_rate=line, beta=0.8, nonfinite="raise")),
        "bounds": (half, RMSProp(momentum=0.9, bounds=(half - np.float16(0.25), 0.5))),
        "bfloat16": (normal(5, dtype=ml_dtypes.bfloat16), RMSProp(0.05, centered=True)),
        "sgd": (normal(3, 2, dtype="complex128").T, SGD(line, momentum=0.9, weight_decay=0.1)),
        "adagrad": (normal(5, dtype="float32"), AdaGrad(0.2, epsilon_inside_sqrt=True, bounds=(-0.5, 0.5))),
        "own_schedule": (normal(5), RMSProp(own_schedule)),
    }  # fmt: skip


def gradients(name, x, optimizer):
    """Five gradients before the state is kept, and five after it."""
    steps = normal(10, *x.shape, dtype=x.dtype, seed=2)
    if optimizer.nonfinite == "skip":
        steps.reshape(10, -1)[[1, 4, 7], [0, 2, 3]] = np.nan, np.inf, np.nan
    return steps[:5], steps[5:]


def main():
    went_on = {}
    for name, (x, optimizer) in runs().items():
        before, after = gradients(name, x, optimizer)
        state = optimizer.init(x, backend=NUMPY)
        for grad in before:
            optimizer.step(x, grad, state)
        state.save(HERE / f"{name}.safetensors", x=x, losses=np.arange(3))
        if name != "own_schedule":  # which a pickle would look for in a module of that name
            (HERE / f"{name}.pickle").write_bytes(pickle.dumps((x, state), protocol=4))
        for grad in after:
            optimizer.step(x, grad, state)
        went_on[name] = {
            "gradients": [grad.tobytes().hex() for grad in after],
            "arrays": {n: a.tobytes().hex() for n, a in {"x": x, **state.arrays}.items()},
            "skipped": state.skipped,
        }
    (HERE / "went_on.json").write_text(json.dumps(went_on, indent=1) + "\n")


if __name__ == "__main__":
    main()
