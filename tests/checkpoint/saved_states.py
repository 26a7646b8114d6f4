"""States with everything that a file must keep, and what tells whether it has kept it."""

import math

import numpy as np

import gpuprop
from gpuprop import SGD, Adam, RMSProp, RuleOptimizer, schedules

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None

NUMPY = gpuprop.select_backend("numpy")
DTYPES = {name: np.dtype(name) for name in ("float16", "float32", "float64", "complex64", "complex128")}
if ml_dtypes is not None:
    DTYPES["bfloat16"] = np.dtype(ml_dtypes.bfloat16)
LION = gpuprop.Rule(
    "checkpointed_lion",
    reads=("grad",),
    writes=("x", "average"),
    scalars=("learning_rate", "beta"),
    body="""
        average = beta * average + (1 - beta) * grad
        x = x - learning_rate * where(average > 0, 1, -1)
    """,
)


def everything(x):
    """An optimizer with every option that a state could forget, for parameters like `x`."""
    lower = x.copy()
    lower[...] = -0.6
    return RMSProp(
        schedules.warmup_cosine_decay_schedule(0.0, 0.1, 5, 15, end_value=0.01),
        0.87,
        epsilon=0.05,
        epsilon_inside_sqrt=True,
        momentum=0.7,
        nesterov=True,
        centered=True,
        bias_correction=True,
        weight_decay=0.01,
        clip_norm=3.0,
        bounds=(lower, math.inf),
        nonfinite="skip",
    )


OTHER_VARIANTS = {
    "RMSProp": lambda x: RMSProp(0.05),
    "Adam": lambda x: Adam(schedules.exponential_decay(0.05, 3, 0.9)),
    "SGD without any array": lambda x: SGD(0.05),
    "a rule": lambda x: RuleOptimizer(LION, learning_rate=schedules.linear_schedule(0.1, 0.0, 20), beta=0.8),
}
VARIANTS = {"everything": everything, **OTHER_VARIANTS}


def parameters(backend, dtype):
    random = np.random.default_rng(5)
    values = random.normal(size=(3, 50, 7))
    if dtype.kind == "c":
        values = values + 1j * random.normal(size=values.shape)
    # Neither C order nor Fortran order.
    return backend.asarray(values.astype(dtype)).transpose(1, 2, 0)


def gradient(backend, x, step):
    """A gradient that depends on x, with elements that are not finite."""
    g = backend.asarray(np.random.default_rng(step).normal(size=x.shape).astype(x.dtype)) + x
    g[step % len(g)] = math.nan
    return g if step % 3 else backend.xp.nan_to_num(g)


def run(backend, optimizer, x, state, steps):
    for step in steps:
        assert state.step == step
        optimizer.step(x, gradient(backend, x, step), state)


def bits(backend, array):
    host = backend.to_host(array)
    return host.dtype, host.shape, host.tobytes()


def everything_of(backend, x, state):
    arrays = {name: bits(backend, array) for name, array in state.arrays.items()}
    return bits(backend, x), arrays, state.step, state.skipped


def small_state(x=None, optimizer=None):
    """A state after one step on plain NumPy, and its parameters."""
    x = np.linspace(-1, 1, 5) if x is None else x
    optimizer = optimizer or RMSProp(0.05, momentum=0.5)
    state = optimizer.init(x, backend=NUMPY)
    optimizer.step(x, x.copy(), state)
    return state, x
