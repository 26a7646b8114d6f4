"""Who takes part in the benchmark. To add one: a function of a `Problem`, marked `@contender`.

It returns the step to time, or raises `Absent` with the reason why it cannot take part here. Each
applies the same formula with the same hyperparameters to the problem's own arrays, in place where
its library can.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from timing import Step
from workloads import Problem

import gpuprop
from gpuprop.measure import bandwidth


class Absent(Exception):
    """Why a contender cannot take part."""


CONTENDERS: dict[str, Callable[[Problem], Step]] = {}


def contender(name: str) -> Callable:
    def register(make: Callable[[Problem], Step]) -> Callable[[Problem], Step]:
        CONTENDERS[name] = make
        return make

    return register


@contender("gpuprop")
def gpuprop_step(problem: Problem) -> Step:
    optimizer, x, grad, state = problem.optimizer, problem.x, problem.grad, problem.made
    if fused := problem.fused:
        return lambda: fused.step(x, (), state)
    return lambda: optimizer.step(x, grad, state)


@contender("gradient + step")
def gradient_and_step(problem: Problem) -> Step:
    """The gradient in a pass of its own, into an array that is there."""
    optimizer, x, grad, state = problem.optimizer, problem.x, problem.grad, problem.made
    multiply = problem.backend.xp.multiply

    def step() -> None:
        multiply(x, 2, out=grad)
        optimizer.step(x, grad, state)

    return step


@contender("ten in a pass")
def ten_in_a_pass(problem: Problem) -> Step:
    fused, x, state = problem.fused, problem.x, problem.made

    def step() -> None:
        fused.run(x, (), state, steps=step.steps)

    step.steps = 10
    return step


#: Who takes part only where the gradient is made of x, and who else then.
OF_FUSED = ("gradient + step", "ten in a pass")
WITH_FUSED = ("gpuprop", *OF_FUSED, "floor", "article", "optax jit")


@contender("floor")
def memory_floor(problem: Problem) -> Step:
    rule, is_complex = problem.rule, problem.x.dtype.kind == "c"
    if problem.backend.name == "cpu" and problem.x.dtype.itemsize == 2:
        raise Absent("Numba has no arithmetic in 16 bits")
    kernel = bandwidth.floor(problem.backend, *bandwidth.numbers_moved(rule, is_complex))
    grads = () if problem.fused else (problem.grad,)
    arrays = *grads, *problem.optimizer._reads, problem.x, *problem.state.values()
    return lambda: kernel(*arrays)


@contender("article")
def article(problem: Problem) -> Step:
    """The article's lines in whole-array NumPy, or in CuPy on a GPU."""
    only_the_article(problem)
    xp, p = problem.backend.xp, problem.optimizer
    w, s, grad = problem.x, problem.state["square_average"], problem.grad

    def step() -> Any:
        nonlocal w, s, grad
        if problem.fused:
            grad = 2 * w
        s = p.rho * s + (1 - p.rho) * grad**2
        w = w - p.learning_rate * grad / (xp.sqrt(s) + p.epsilon)
        return w, s

    return step


@contender("cupy.fuse")
def cupy_fused(problem: Problem) -> Step:
    """The article's lines in one kernel of CuPy's making, which returns new arrays."""
    if problem.backend.name != "gpu":
        raise Absent("it is CuPy's")
    only_the_article(problem)
    p, xp, grad = problem.optimizer, problem.backend.xp, problem.grad

    @xp.fuse()
    def update(w, s, grad):
        s = p.rho * s + (1 - p.rho) * grad * grad
        return w - p.learning_rate * grad / (xp.sqrt(s) + p.epsilon), s

    w, s = problem.x, problem.state["square_average"]

    def step() -> Any:
        nonlocal w, s
        w, s = update(w, s, grad)
        return w, s

    return step


def only_the_article(problem: Problem) -> None:
    if problem.optimizer.momentum or problem.optimizer.centered:
        raise Absent("the article has neither momentum nor a centred average")
    only_numbers(problem)
    if problem.x.dtype.kind == "c":
        raise Absent("the article squares a complex number, and not its parts")


def only_numbers(problem: Problem) -> None:
    """Refuse what only gpuprop has: complex moduli, arrays of rates, averages of the parameters."""
    rule = problem.optimizer.rule
    if rule.reals or len(rule.reads) > 1 or "parameter_average" in rule.writes:
        raise Absent("it has no such option, or not in this step")


def torch_rmsprop(problem: Problem, **options: Any) -> Any:
    only_numbers(problem)
    try:
        import torch
    except ImportError:
        raise Absent("torch is not installed") from None
    if problem.backend.name == "gpu" and not torch.cuda.is_available():
        raise Absent("this torch has no CUDA device")
    torch.set_num_threads(gpuprop.get_num_threads())
    parameter = as_torch(problem.x)
    parameter.grad = as_torch(problem.grad)
    p = problem.optimizer
    options |= {"momentum": p.momentum, "centered": p.centered}
    optimizer = torch.optim.RMSprop([parameter], p.learning_rate, p.rho, p.epsilon, **options)
    names = {"square_average": "square_avg", "gradient_average": "grad_avg", "velocity": "momentum_buffer"}
    optimizer.state[parameter] = {"step": torch.zeros(())}
    for name, array in problem.state.items():
        optimizer.state[parameter][names[name]] = as_torch(array)
    return optimizer


def as_torch(array: Any) -> Any:
    import torch

    if array.dtype.name == "bfloat16":  # which not every version of NumPy or CuPy exchanges
        return torch.from_dlpack(array.view("int16")).view(torch.bfloat16)
    return torch.from_dlpack(array)


@contender("torch single")
def torch_single(problem: Problem) -> Step:
    return torch_rmsprop(problem, foreach=False).step


@contender("torch foreach")
def torch_foreach(problem: Problem) -> Step:
    return torch_rmsprop(problem, foreach=True).step


@contender("torch.compile")
def torch_compiled(problem: Problem) -> Step:
    optimizer = torch_rmsprop(problem)
    import torch

    torch._dynamo.reset()  # each size is compiled for itself, not as one more of a few variants
    return torch.compile(optimizer.step, dynamic=False)


@contender("bitsandbytes")
def bitsandbytes_32bit(problem: Problem) -> Step:
    """Its state has 32 bits; a step of it waits for the device."""
    only_numbers(problem)
    p = problem.optimizer
    if problem.x.dtype.name != "float32":
        raise Absent("its state is float32, whatever the parameters are")
    if p.momentum or p.centered:
        raise Absent("its step knows neither momentum nor a centred average")
    try:
        import torch
        from bitsandbytes.optim import RMSprop32bit
    except ImportError:
        raise Absent("bitsandbytes is not installed") from None
    if problem.backend.name == "gpu" and not torch.cuda.is_available():
        raise Absent("this torch has no CUDA device")
    parameter = as_torch(problem.x)
    parameter.grad = as_torch(problem.grad)
    optimizer = RMSprop32bit([parameter], p.learning_rate, p.rho, p.epsilon)
    optimizer.state[parameter] = {"step": 0, "state1": as_torch(problem.state["square_average"])}
    return optimizer.step


@contender("optax jit")
def optax_jit(problem: Problem) -> Step:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else it takes most of a GPU's memory
    try:
        import jax
        import optax
    except ImportError:
        raise Absent("jax or optax is not installed") from None
    platform = "gpu" if problem.backend.name == "gpu" else "cpu"
    if jax.default_backend() != platform:
        raise Absent(f"this jax has no {platform}")
    if problem.x.dtype.kind == "c":
        raise Absent("it keeps one real second moment of a complex number")
    jax.config.update("jax_enable_x64", True)
    p = problem.optimizer
    more = {"momentum": p.momentum or None, "centered": p.centered, "eps_in_sqrt": False}
    method = optax.rmsprop(p.learning_rate, decay=p.rho, eps=p.epsilon, **more)

    def update(x, grad, state):
        grad = 2 * x if problem.fused else grad
        updates, state = method.update(grad, state, x)
        return optax.apply_updates(x, updates), state

    compiled = jax.jit(update, donate_argnums=(0, 2))
    grad = jax.device_put(problem.backend.to_host(problem.grad))
    x = jax.device_put(problem.backend.to_host(problem.x))
    state = method.init(x)

    def step() -> Any:
        nonlocal x, state
        x, state = compiled(x, grad, state)
        if platform == "cpu":  # where the next step would be queued beside this one
            jax.block_until_ready(x)
        return x, state[0].nu

    return step
