"""
Compare optimizers on one function
==================================

Rosenbrock's function is a curved valley with a flat floor. All 25 starts are one array, as each element is
updated by itself. Each optimizer tries the same seventeen learning rates; shown is the one whose median run
is best, at its worst, in the last 100 of 400 steps. More problems, and fresh runs: :doc:`/comparison`.
"""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import rosen

import gpuprop

backend = gpuprop.select_backend("cpu")  # "gpu" runs all of this on a GPU
names = "SGD", "momentum", "AdaGrad", "Adam", "RMSProp", "RMSProp, momentum"
family = [gpuprop.SGD(), gpuprop.SGD(momentum=0.9), gpuprop.AdaGrad(), gpuprop.Adam()]
family += [gpuprop.RMSProp(), gpuprop.RMSProp(momentum=0.9)]
starts = np.random.default_rng(0).normal([[-1.2], [1]], 0.5, (2, 25))
starts[:, 0] = -1.2, 1  # the usual one: its path is drawn


def descend(optimizer):
    p, path = backend.asarray(starts.copy()), [starts]
    state = optimizer.init(p)
    for _ in range(400):
        off = 200 * (p[1] - p[0] ** 2)
        optimizer.step(p, backend.xp.stack([2 * (p[0] - 1 - p[0] * off), off]), state)
        path.append(backend.to_host(p).copy())
    path = np.moveaxis(path, 1, 0)  # of shape (2, 401, 25)
    return np.median(np.nan_to_num(rosen(path), nan=np.inf), axis=1), path[:, :, 0]


plt.rcParams.update({"font.size": 12, "axes.grid": True, "grid.alpha": 0.3})
figure, curves = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
colors, best = ("black", "#0072b2", "#e69f00", "#009e73", "#b3361b", "#b3361b"), []
curves.set_prop_cycle(color=colors, linestyle=("-", "--", "-.", "-.", "-", "--"))
for name, optimizer in zip(names, family, strict=True):
    with np.errstate(all="ignore"):  # the largest rates diverge
        runs = [(*descend(replace(optimizer, learning_rate=r)), r) for r in np.logspace(-3.5, 0.5, 17)]
    best.append(min(runs, key=lambda run: run[0][-100:].max()))
    print(f"{name:18} learning rate {best[-1][2]:.4f}   median f at the end {best[-1][0][-1]:.0e}")
    curves.semilogy(best[-1][0], label=name)
curves.set(xlabel="step", ylabel="f, median of 25 runs", ylim=(1e-5, 1e4))
figure.legend(loc="outside lower center", ncols=2)

# %%
# The paths from (-1.2, 1) over contours of f; AdaGrad's leaves the window and comes back.
figure, planes = plt.subplots(3, 2, figsize=(5.2, 6.4), layout="constrained", sharex=True, sharey=True)
plane_xy = np.array(np.meshgrid(np.linspace(-2, 1.7, 200), np.linspace(-0.5, 2, 200)))
for plane, name, color, (_, path, _) in zip(planes.flat, names, colors, best, strict=True):
    plane.contour(*plane_xy, rosen(plane_xy), levels=np.logspace(-1, 3, 9), colors="0.75", linewidths=0.8)
    plane.plot(*path, ".-", color=color, markersize=3, linewidth=0.8)
    plane.set(title=name, xlim=(-2, 1.7), ylim=(-0.5, 2))
plt.setp(planes[-1], xlabel="x"), plt.setp(planes[:, 0], ylabel="y")
plt.show()
