"""
Follow RMSProp down a bowl
==========================

The experiment of the article that this project began with: f(x, y) = x² + y² from (5, 4), epochs 0 to 100.
``optimizer.step`` updates x and the state in place. The six lines below are the same on every device.
"""

import matplotlib.pyplot as plt
import numpy as np

import gpuprop

backend = gpuprop.select_backend("cpu")  # "gpu" runs all of this on a GPU


def descend(learning_rate, epochs):
    x = backend.asarray([5.0, 4.0])
    optimizer = gpuprop.RMSProp(learning_rate, rho=0.9, epsilon=1e-6)
    state, path = optimizer.init(x), [[5.0, 4.0]]
    for _ in range(epochs):
        grad = 2 * x
        optimizer.step(x, grad, state)
        path.append(backend.to_host(x).copy())
    return np.array(path)


path = descend(0.1, 101)
for epoch in range(0, 101, 20):
    print(f"Epoch {epoch}, current state: {path[epoch + 1]}")

# %%
# **The path.** Each component of the gradient is divided by the root of its average square. So at first both
# coordinates move by the same amount, however long the gradient is, and the path does not aim at the minimum.

plt.rcParams.update({"font.size": 12, "axes.grid": True, "grid.alpha": 0.3})
figure, plane = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
u, v = np.linspace(-0.8, 5.8, 200), np.linspace(-0.8, 4.8, 200)
plane.contour(u, v, u**2 + v[:, None] ** 2, levels=np.arange(1, 8) ** 2, colors="0.7", linewidths=1)
plane.plot(*path.T, "o-", color="#b3361b", markersize=4, linewidth=1, label="after each epoch")
plane.plot(5, 4, "ko", markersize=7, label="start")
plane.plot(0, 0, "k*", markersize=13, label="minimum")
plane.set(xlabel="x", ylabel="y", aspect="equal", title="The path over contours of f")
plane.grid(False)
plane.legend(loc="upper left", framealpha=1)

# %%
# **Why a rate should fall.** With three times the epochs and a constant rate, x does not stay at the minimum:
# steps do not shrink by themselves, and end as moves to and fro by half the rate. One that falls ends them.
falling = descend(gpuprop.schedules.cosine_decay_schedule(0.1, 300), 300)
figure, decay = plt.subplots(figsize=(5.2, 4), layout="constrained")
for points, label, style in ((descend(0.1, 300), "constant rate 0.1", "-"), (falling, "falling to 0", "--")):
    color = "#b3361b" if style == "-" else "#0072b2"
    decay.semilogy(np.linalg.norm(points[1:], axis=1), style, color=color, linewidth=2, label=label)
decay.axvline(100, color="0.4", linewidth=1, linestyle=":")
decay.set(xlabel="epoch", ylabel="distance to the minimum", title="The distance to the minimum")
decay.annotate("the article\nends here", (104, 1e-20), (125, 1e-19), va="center", color="0.3")
figure.legend(loc="outside lower center", ncols=2)
plt.show()
