"""Who takes part in the benchmark. To add one: a function of a `Problem`, marked `@contender`.

It returns the step to time, or raises `Absent` with the reason why it cannot take part here. Each
applies the same formula with the same hyperparameters to the problem's own arrays, in place where
its library can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gpuprop
from gpuprop.measure import bandwidth


class Absent(Exception):
    """Why a contender cannot take part."""


@dataclass
class Problem:
    """The arrays that the contenders share: same shape, same dtype, on one device."""

    backend: gpuprop.Backend
    optimizer: gpuprop.RMSProp
    grad: Any
    x: Any
    state: dict[str, Any]  # the optimizer's arrays, by their names in its state

    def start(self) -> None:
        """Ordinary numbers: the mean square is above the squared mean, so that there is a variance."""
        self.x[...] = 1
        for name, array in self.state.items():
            array[...] = 2 if "square" in name else 1


Step = Callable[[], Any]
CONTENDERS: dict[str, Callable[[Problem], Step]] = {}


def contender(name: str) -> Callable:
    def register(make: Callable[[Problem], Step]) -> Callable[[Problem], Step]:
        CONTENDERS[name] = make
        return make

    return register


@contender("gpuprop")
def gpuprop_step(problem: Problem) -> Step:
    optimizer, x, grad = problem.optimizer, problem.x, problem.grad
    state = optimizer.init(x, backend=problem.backend)
    vars(state).update(problem.state)
    return lambda: optimizer.step(x, grad, state)


@contender("floor")
def memory_floor(problem: Problem) -> Step:
    rule, is_complex = problem.optimizer.rule, problem.x.dtype.kind == "c"
    kernel = bandwidth.floor(problem.backend, *bandwidth.numbers_moved(rule, is_complex))
    arrays = problem.grad, *problem.optimizer._reads, problem.x, *problem.state.values()
    return lambda: kernel(*arrays)


@contender("article")
def article(problem: Problem) -> Step:
    """The article's lines in whole-array NumPy, or in CuPy on a GPU."""
    xp, p = problem.backend.xp, problem.optimizer
    if p.momentum or p.centered:
        raise Absent("the article has neither momentum nor a centred average")
    only_numbers(problem)
    w, s, grad = problem.x, problem.state["square_average"], problem.grad

    def step() -> Any:
        nonlocal w, s
        s = p.rho * s + (1 - p.rho) * grad**2
        w = w - p.learning_rate * grad / (xp.sqrt(s) + p.epsilon)
        return w, s

    return step


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
    parameter = torch.from_dlpack(problem.x)
    parameter.grad = torch.from_dlpack(problem.grad)
    p = problem.optimizer
    options |= {"momentum": p.momentum, "centered": p.centered}
    optimizer = torch.optim.RMSprop([parameter], p.learning_rate, p.rho, p.epsilon, **options)
    names = {"square_average": "square_avg", "gradient_average": "grad_avg", "velocity": "momentum_buffer"}
    optimizer.state[parameter] = {"step": torch.zeros(())}
    for name, array in problem.state.items():
        optimizer.state[parameter][names[name]] = torch.from_dlpack(array)
    return optimizer


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


@contender("optax jit")
def optax_jit(problem: Problem) -> Step:
    try:
        import jax
        import optax
    except ImportError:
        raise Absent("jax or optax is not installed") from None
    platform = "gpu" if problem.backend.name == "gpu" else "cpu"
    if jax.default_backend() != platform:
        raise Absent(f"this jax has no {platform}")
    jax.config.update("jax_enable_x64", True)
    p = problem.optimizer
    more = {"momentum": p.momentum or None, "centered": p.centered, "eps_in_sqrt": False}
    method = optax.rmsprop(p.learning_rate, decay=p.rho, eps=p.epsilon, **more)

    def update(x, grad, state):
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
