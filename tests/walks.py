"""Walks of an optimizer on ill-scaled problems, and how far rounding may move them."""

import numpy as np

import gpuprop
from gpuprop import SGD, AdaGrad, Adam

STEPS, CHECKPOINTS, SIZE = 300, (1, 10, 100, 300), 6
TINY = 1e-30


class Problem:
    """A random convex quadratic whose gradient is noisy, of parameters in very different units.

    The curvatures span eight decades, and the noise is as large as the gradient at the start: what
    is divided by is then well above its own rounding errors. All numbers are float32 numbers: the
    problem is the same in each dtype.
    """

    def __init__(self, seed):
        random = np.random.default_rng(seed)
        unit = 10 ** random.permutation(np.linspace(-3.5, 0.5, SIZE))
        rotation, _ = np.linalg.qr(random.normal(size=(SIZE, SIZE)))
        coupling = (rotation * random.uniform(1, 10, SIZE)) @ rotation.T
        noise = 40 * unit * random.normal(size=(STEPS, SIZE))
        minimum, start = random.uniform(1, 2, SIZE), random.uniform(3, 5, SIZE)
        numbers = [a.astype("float32") for a in (unit[:, None] * coupling * unit, minimum, noise, start)]
        self.numbers = {dtype: [a.astype(dtype) for a in numbers] for dtype in ("float32", "float64")}

    def gradient(self, x, step):
        curvature, minimum, noise, _ = self.numbers[x.dtype.name]
        return curvature @ (x - minimum) + noise[step]


def walk(problem, dtype, make_step):
    """The start and the points after each step of ``make_step(start)``, a function (x, grad) -> x."""
    points = [problem.numbers[dtype][3]]
    step = make_step(points[0].copy())
    for t in range(STEPS):
        points.append(step(points[-1], problem.gradient(points[-1], t)).copy())
    return np.array(points)


def steps_of(optimizer, backend=None, history=None):
    """`walk`'s `make_step`; `history` takes the state that each step begins with."""
    backend = backend or gpuprop.select_backend("numpy")

    def make_step(start):
        x = backend.asarray(start)
        state = optimizer.init(x, backend=backend)

        def step(_, grad):
            if history is not None:
                history.append({n: backend.to_host(a).copy() for n, a in state.arrays.items()})
            optimizer.step(x, backend.asarray(grad), state)
            return backend.to_host(x)

        return step

    return make_step


# By how many units of rounding each result of `one_step` may err in any of the libraries: by its own
# operations, and by hyperparameters rounded to the dtype.
UNITS = {
    "decay": 3, "g": 1,
    "old_s": 3, "new_s": 4, "s": 1, "old_a": 3, "new_a": 4, "a": 1,
    "corrected_s": 1, "square_of_mean": 3, "root": 6, "increment": 8,
    "old_v": 2, "v": 1, "ahead": 2, "step": 3, "x": 1,
}  # fmt: skip


def one_step(o, rate, t, x, s, a, v, g, w):
    """x, s, a and v after step `t` of the optimizer `o`, each result multiplied by its factor in `w`."""
    if o.clip_value:
        g = np.where(abs(g.real) > o.clip_value, np.sign(g.real) * o.clip_value, g)
    g = (g + (not o.decoupled_weight_decay) * o.weight_decay * x * w["decay"]) * w["g"]
    increment = g
    if not isinstance(o, SGD):
        adam, is_sum = isinstance(o, Adam), isinstance(o, AdaGrad)
        keep = 1 if is_sum else o.beta2 if adam else o.rho
        keep_a = o.beta1 if adam else keep
        s = (keep * s * w["old_s"] + (1 if is_sum else 1 - keep) * g * g * w["new_s"]) * w["s"]
        a = (keep_a * a * w["old_a"] + (1 - keep_a) * g * w["new_a"]) * w["a"]
        corrected = adam or getattr(o, "bias_correction", False)
        c = 1 / (1 - keep ** (t + 1)) * w["c"] if corrected else 1
        variance = c * s * w["corrected_s"]
        if getattr(o, "centered", False):
            variance = variance - (c * a) ** 2 * w["square_of_mean"]
        inside = getattr(o, "epsilon_inside_sqrt", False)
        root = (np.sqrt(variance + inside * o.epsilon) + (not inside) * o.epsilon) * w["root"]
        increment = (a / (1 - keep_a ** (t + 1)) * w["c_of_a"] if adam else g) / root
    momentum = getattr(o, "momentum", 0)
    in_velocity = momentum and o.learning_rate_in_velocity
    increment = increment * (rate if in_velocity else 1) * w["increment"]
    v = (momentum * v * w["old_v"] + increment) * w["v"]
    ahead = increment + momentum * v * w["ahead"] if momentum and o.nesterov else v
    shrunk = (1 - rate * o.decoupled_weight_decay * o.weight_decay) * x * w["shrunk"]
    return (shrunk - (1 if in_velocity else rate) * ahead * w["step"]) * w["x"], s, a, v


def rounding_bound(o, points, states, problem):
    """How far rounding may move each walk of `o` from the exact one at the checkpoints, in units u.

    A first-order running error analysis (N. J. Higham, *Accuracy and Stability of Numerical
    Algorithms*, 2nd ed., ch. 3): each result of a step errs by a few u of itself, as `UNITS` says,
    and the error is carried to the checkpoint by the derivatives of the steps between. These are
    taken by complex steps (W. Squire and G. Trapp, SIAM Review 40, 1998) along the walk in float64,
    `points` and `states`, and multiplied from the checkpoint back.
    """
    t = np.arange(STEPS)[:, None, None]
    constant = not callable(o.learning_rate)
    rate = np.array([o.learning_rate if constant else o.learning_rate(i) for i in range(STEPS)])
    x, zero = points[:-1], np.zeros(SIZE)
    s = [state.get("square_average", state.get("square_sum", zero)) for state in states]
    a, v = ([state.get(name, zero) for state in states] for name in ("gradient_average", "velocity"))

    # The gradient: what it errs by, and how it is scaled to the norm, with the derivative of that.
    curvature, minimum, noise, _ = problem.numbers["float64"]
    grad = (x - minimum) @ curvature.T + noise
    grad_error = (SIZE + 2) * (abs(x - minimum) @ abs(curvature.T) + abs(noise))
    norm = np.linalg.norm(grad, axis=1, keepdims=True)
    scale = np.minimum(1, (o.clip_norm or np.inf) / norm) * (-1 if o.maximize else 1)
    direction = np.where(abs(scale) < 1, grad / norm, 0)
    scaling = scale[..., None] * (np.eye(SIZE) - direction[:, :, None] * direction[:, None, :])
    scaling_error = (SIZE + 4) * abs(scale * grad) * (o.clip_norm is not None)

    def correction_error(decay):  # of 1 - decay^t, where that is computed in the dtype
        return 3 + (t + 5) * decay ** (t + 1.0) / (1 - decay ** (t + 1.0))

    units = UNITS | {"shrunk": 3 * o.decoupled_weight_decay}
    units["c"] = correction_error(getattr(o, "beta2", getattr(o, "rho", 0)))
    units["c_of_a"] = correction_error(getattr(o, "beta1", 0))
    nudge = 1j * TINY * np.eye(5 + len(units))[:, :, None]
    given = (np.array(value)[:, None] + nudge[k] for k, value in enumerate((x, s, a, v, scale * grad)))
    factors = {name: 1 + nudge[5 + k] for k, name in enumerate(units)}
    new = np.broadcast_arrays(*one_step(o, rate[:, None, None], t, *given, factors))
    derivative = np.stack(new, axis=1).imag.transpose(0, 3, 1, 2) / TINY  # step, element, of, by
    units = np.concatenate([np.broadcast_to(unit, t.shape) for unit in units.values()], axis=2)

    # back[element, row]: the derivative by x, s, a and v of an element of x at a checkpoint, a row each.
    rows = len(CHECKPOINTS) * SIZE
    back, bound = np.zeros((SIZE, rows, 4)), np.zeros(rows)
    for step in reversed(range(STEPS)):
        if step + 1 in CHECKPOINTS:
            first = CHECKPOINTS.index(step + 1) * SIZE
            back[range(SIZE), range(first, first + SIZE), 0] = 1
        by = back @ derivative[step]
        by_scaled = by[:, :, 4].T
        by_grad = by_scaled @ scaling[step]
        bound += (abs(by[:, :, 5:]) @ units[step, 0]).sum(0)
        bound += abs(by_scaled) @ scaling_error[step] + abs(by_grad) @ grad_error[step]
        back = by[:, :, :4].copy()
        back[:, :, 0] += (by_grad @ curvature).T
    return bound.reshape(len(CHECKPOINTS), SIZE)


def agree(optimizer, theirs, problem, backend=None):
    """Hold the walk of `optimizer` against `theirs`, which is as `walk` takes it."""
    states = []
    points = walk(problem, "float64", steps_of(optimizer, backend, states))
    # Two walks, each so far from the exact one, and terms of second order.
    bound = 2 * 1.02 * rounding_bound(optimizer, points, states, problem)
    here = list(CHECKPOINTS)
    assert (bound * 2**-53 < 1e-10 * abs(points[here])).all()
    np.testing.assert_allclose(points, walk(problem, "float64", theirs), rtol=1e-10, atol=0)
    assert (bound * 2**-24 < 0.02 * abs(points[here])).all()
    single = walk(problem, "float32", steps_of(optimizer, backend))
    difference = abs(single.astype("float64") - walk(problem, "float32", theirs))
    assert (difference[here] <= bound * 2**-24).all()
