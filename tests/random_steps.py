"""Random arrays, and steps by them."""

import numpy as np


def normal(size, dtype, seed=0):
    random = np.random.default_rng(seed)
    values = random.normal(size=size) + (1j * random.normal(size=size) if np.dtype(dtype).kind == "c" else 0)
    return values.astype(dtype)


def steps(optimizer, backend, x, grads):
    x = backend.asarray(x.copy())
    state = optimizer.init(x, backend=backend)
    for grad in grads:
        optimizer.step(x, backend.asarray(grad), state)
    return backend.to_host(x), {name: backend.to_host(a) for name, a in state.arrays.items()}
