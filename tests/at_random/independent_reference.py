"""A step from the formulas of the docstrings, by hand: of the package it imports nothing.

The formulas are written once, over two kinds of numbers: NumPy's arrays of the type in which a step
computes, for what must come out bit for bit; and `running_error.Bounded` ones, for what may come out of
any rounding of each operation.
"""

import numpy as np
from running_error import FORMATS, REAL, Bounded

COMPUTING = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}


def starts(kind, o):
    """The arrays of a new state, and where they start."""
    if kind == "adam":
        return {"gradient_average": 0.0, "square_average": 0.0}
    arrays = {"velocity": 0.0} if o.get("momentum") else {}
    if kind == "adagrad":
        arrays["square_sum"] = o["initial_square_sum"]
    if kind == "rmsprop":
        arrays["square_average"] = o["initial_square_average"]
        arrays |= {"gradient_average": 0.0} if o["centered"] else {}
    return arrays


def bits_of_step(kind, o, t, rate, arrays, places=0):
    """What update number `t` makes of the arrays, which are real, and which elements are finite then.

    Parameters
    ----------
    kind : {"rmsprop", "sgd", "adagrad", "adam"}
    o : dict
        The options by their public names.
    t : int
        1 for the first.
    rate : float
        The learning rate of this step.
    arrays : dict of str to ndarray
        ``grad``, ``x``, those of `starts`, and bounds that are arrays.
    places : int
        How many last places of float64 the factor of ``clip_norm`` is to be another.
    """
    dtype = arrays["x"].dtype
    with np.errstate(all="ignore"):
        native = _Native(np.dtype(COMPUTING[dtype.name]).type)
        values = {name: array.astype(native.real) for name, array in arrays.items()}
        scale = _clip_scale(o, arrays["grad"])
        scale = None if scale is None else float(scale) + places * np.spacing(float(scale))
        new = _updated(kind, o, t, rate, scale, values, native)
        new = {name: value.astype(dtype) for name, value in new.items()}
    finite = np.logical_and.reduce([np.isfinite(a) for a in (arrays["grad"], *new.values())])
    if o["nonfinite"] == "skip":
        new = {name: np.where(finite, value, arrays[name]) for name, value in new.items()}
    return new, finite


def bounds_of_step(kind, o, t, rate, arrays, sample, flushes):
    """What `bits_of_step` gives of a sample of the elements, as `Bounded` numbers; not of skipped ones.

    `flushes` says that numbers below the normal ones may count as zero.
    """
    name = arrays["x"].dtype.name
    format = FORMATS[COMPUTING[name]]
    format = format._replace(least=format.normal) if flushes else format
    bounded = _WithBounds(format)
    with np.errstate(all="ignore"):
        scale = _clip_scale(o, arrays["grad"])
        if scale is not None:
            places = places_of_factor(o, arrays["grad"])
            scale = Bounded(scale, places * np.spacing(abs(float(scale))), FORMATS["float64"])
        values = {n: bounded.loaded(array[sample]) for n, array in arrays.items()}
        new = _updated(kind, o, t, bounded.host(rate), scale, values, bounded)
        stored = FORMATS[name]._replace(least=max(FORMATS[name].least, format.least if flushes else 0))
        return {n: value.rounded_to(stored) for n, value in new.items()}


def places_of_factor(o, grad):
    """How many last places the factor for `grad` may err: its squares may be added in any order."""
    if o["clip_norm"] is None or not np.isfinite(_clip_scale(o, grad)):
        return 0
    return grad.size + 5


def _clip_scale(o, grad):
    """The factor for `grad`, its sign for the direction among it; None for none."""
    if o["clip_norm"] is None:
        return REAL(-1) if o["maximize"] else None
    grad = np.asarray(grad, REAL)
    grad = grad[np.isfinite(grad)] if o["nonfinite"] == "skip" else grad
    with np.errstate(all="ignore"):
        norm = np.sqrt(np.sum(grad * grad))
        return (-1 if o["maximize"] else 1) * (REAL(1) if norm <= o["clip_norm"] else o["clip_norm"] / norm)


class _Native:
    """Arithmetic of NumPy in the type `real`, with scalars from Python's."""

    host = float

    def __init__(self, real):
        self.real = self.number = real

    root = staticmethod(np.sqrt)

    def clamped(self, value, low, high):
        above = value if high is None else np.where(value > high, high, value)
        return above if low is None else np.where(value < low, low, above)


class _WithBounds:
    """The same with numbers that know their errors."""

    root, clamped = staticmethod(Bounded.root), staticmethod(Bounded.clamped)

    def __init__(self, format):
        self.format = format

    def host(self, number):
        return Bounded(number, 0, FORMATS["float64"])

    def number(self, host):
        host = host if isinstance(host, Bounded) else self.host(host)
        return host.rounded_to(self.format) if np.isfinite(host.value) else host

    def loaded(self, array):
        value = np.asarray(array, REAL)
        is_lost = abs(value) < self.format.least
        return Bounded(value, np.where(is_lost, abs(value), 0), self.format)


def _updated(kind, o, t, rate, scale, arrays, on):
    """The new arrays, before they are rounded to what is stored."""
    number, x, g = on.number, arrays["x"], arrays["grad"]
    decay = on.host(o["weight_decay"]) if o["weight_decay"] else None
    if scale is not None:
        g = number(scale) * g
    if o["clip_value"] is not None:
        g = on.clamped(g, number(-o["clip_value"]), number(o["clip_value"]))
    if decay is not None and not o["decoupled_weight_decay"]:
        g = g + number(decay) * x

    momentum = on.host(o["momentum"]) if o.get("momentum") else None
    is_outside = momentum is not None and not o["learning_rate_in_velocity"]
    new, step, divisor = _MOMENTS[kind](o, t, arrays, g, on)
    if kind == "adam":
        step = number(rate / (1 - on.host(o["beta1"]) ** t)) * step
    elif not is_outside:
        step = number(rate) * step
    if divisor is not None:
        step = step / divisor
    if momentum is not None:
        new["velocity"] = velocity = number(momentum) * arrays["velocity"] + step
        if o["nesterov"] and is_outside:
            step = number(rate * momentum) * velocity + number(rate) * step
        elif o["nesterov"]:
            step = number(momentum) * velocity + step
        else:
            step = number(rate) * velocity if is_outside else velocity

    if decay is not None and o["decoupled_weight_decay"]:
        x = number(1 - rate * decay) * x
    low, high = (
        arrays[name] if name in arrays else None if bound is None else number(bound)
        for name, bound in zip(("lower", "upper"), o["bounds"] or (None, None), strict=True)
    )
    new["x"] = on.clamped(x - step, low, high)
    return new


# Each moment: the new averages, what is divided, and by what.


def _of_sgd(o, t, arrays, g, on):
    return {}, g, None


def _of_adagrad(o, t, arrays, g, on):
    total = arrays["square_sum"] + g * g
    return {"square_sum": total}, g, _divisor(o, total, on)


def _of_rmsprop(o, t, arrays, g, on):
    rho = on.host(o["rho"])
    keep, add = on.number(rho), on.number(1 - rho)
    square = keep * arrays["square_average"] + add * (g * g)
    new, variance = {"square_average": square}, square
    correction = on.number(1 / (1 - rho**t)) if o["bias_correction"] else None
    if correction is not None:
        variance = correction * variance
    if o["centered"]:
        new["gradient_average"] = mean = keep * arrays["gradient_average"] + add * g
        mean = mean if correction is None else correction * mean
        variance = on.clamped(variance - mean * mean, on.number(0.0), None)
    return new, g, _divisor(o, variance, on)


def _of_adam(o, t, arrays, g, on):
    beta1, beta2 = on.host(o["beta1"]), on.host(o["beta2"])
    mean = on.number(beta1) * arrays["gradient_average"] + on.number(1 - beta1) * g
    square = on.number(beta2) * arrays["square_average"] + on.number(1 - beta2) * (g * g)
    new = {"gradient_average": mean, "square_average": square}
    return new, mean, _divisor(o, on.number(1 / (1 - beta2**t)) * square, on)


def _divisor(o, variance, on):
    if o.get("epsilon_inside_sqrt"):
        return on.root(variance + on.number(o["epsilon"]))
    return on.root(variance) + on.number(o["epsilon"])


_MOMENTS = {"sgd": _of_sgd, "adagrad": _of_adagrad, "rmsprop": _of_rmsprop, "adam": _of_adam}


def rate_of(schedule, arguments, t):
    """The learning rate after `t` steps by one of the schedules of optax, in `numpy.longdouble`."""
    return _SCHEDULES[schedule](REAL(t), *map(REAL, arguments))


def _linear(t, first, last, steps, begin):
    return first + (last - first) * min(max(t - begin, 0), steps) / steps


def _exponential(t, first, steps, factor, begin, staircase):
    turns = max(t - begin, 0) / steps
    return first * factor ** (np.floor(turns) if staircase else turns)


def _cosine(t, first, steps, share, power):
    half = (1 + np.cos(PI * min(t, steps) / steps)) / 2
    return first * ((1 - share) * half**power + share)


def _warmup_cosine(t, first, peak, warmup, steps, last):
    if t < warmup:
        return first + (peak - first) * t / warmup
    return last + (peak - last) * _cosine(t - warmup, REAL(1), steps - warmup, 0, 1)


PI = 4 * np.arctan(REAL(1))
_SCHEDULES = {
    "linear_schedule": _linear,
    "exponential_decay": _exponential,
    "cosine_decay_schedule": _cosine,
    "warmup_cosine_decay_schedule": _warmup_cosine,
}
