"""
Factorise a matrix of ratings by rows
=====================================

Two million ratings of 10 000 items by a million users, few of them eager, are fitted by U Vᵀ of rank 8. Each
mini-batch meets few rows of U and V, and ``at=rows`` steps these alone; the others and their averages stay.
"""

from timeit import default_timer, repeat

import matplotlib.pyplot as plt
import numpy as np

import gpuprop

backend = gpuprop.select_backend("cpu")  # "gpu" runs all of this on a GPU
xp, random, held = backend.xp, np.random.default_rng(0), slice(1_900_000, None)
eager = random.lognormal(0, 2, 1_000_000)
users = random.choice(1_000_000, 2_000_000, p=eager / eager.sum())
items = (10_000 * random.random(2_000_000) ** 2).astype(int)
U, V = random.normal(size=(1_000_000, 8)), random.normal(size=(10_000, 8))
ratings = U[users] * V[items] @ (0.87 * 0.5 ** np.arange(8)) + random.normal(0, 0.3, len(users))
users, items, ratings = backend.asarray(users), backend.asarray(items), backend.asarray(ratings.astype("f"))
U, V = (backend.asarray(random.normal(0, 0.1, x.shape).astype("f")) for x in (U, V))
batches = backend.asarray(np.reshape([random.permutation(held.start) for epoch in range(3)], (-1, 4000)))
seen = xp.bincount(users[: held.start], minlength=len(U))[users[held]]
groups = {"1 to 9": (seen > 0) & (seen < 10), "10 to 99": (seen > 9) & (seen < 100), "100 or more": seen > 99}


def residual(some):
    return xp.sum(U[users[some]] * V[items[some]], axis=1) - ratings[some]


def by_rows(index, parts):  # each row once, with the sum of its parts
    rows, place = xp.unique(index, return_inverse=True)
    return rows, xp.stack([xp.bincount(place, part, len(rows)) for part in parts.T], 1).astype("f")


optimizer = gpuprop.RMSProp(gpuprop.schedules.cosine_decay_schedule(0.1, len(batches)))
states, errors, clock, whole = [optimizer.init(U), optimizer.init(V)], [], [], xp.zeros_like(U)
for batch, some in enumerate(batches, 1):  # f: half the sum of residual² + 0.05 |u|² + 0.05 |v|²
    off, u, v = residual(some)[:, None], U[users[some]], V[items[some]]
    grads = by_rows(users[some], off * v + 0.05 * u), by_rows(items[some], off * u + 0.05 * v)
    for x, state, (rows, grad) in zip((U, V), states, grads, strict=True):
        begin = default_timer()
        optimizer.step(x, grad, state, at=rows)
        backend.synchronize()
        clock.append(1000 * (default_timer() - begin))
    if batch % 95 == 0:
        errors.append([float(xp.mean(residual(held)[group] ** 2)) ** 0.5 for group in groups.values()])
all_rows = repeat(lambda: (optimizer.step(U, whole, states[0]), backend.synchronize()), number=1, repeat=99)
few, dense = np.median(clock[::2]), 1000 * np.median(all_rows)
print(f"A step of U by rows: {few:.2f} ms; of all its rows: {dense:.2f} ms, {dense / few:.0f} times as long.")
figure, curve = plt.subplots(figsize=(5.2, 3.8), layout="constrained")
for name, color, column in zip(groups, ("#b3361b", "#e69f00", "#0072b2"), np.transpose(errors), strict=True):
    curve.plot(np.arange(1, 16) / 5, column, color=color, label=f"{name} ratings: {column[-1]:.2f}")
curve.set(xlabel="epochs", ylabel="root mean square error (of the noise: 0.3)", ylim=(0.3, 1.1))
curve.legend(title="held out, by users of")
plt.show()
