"""
Fit a regression with a million coefficients
============================================

Logistic regression, with an L2 penalty, on ten variables of 100 000 levels each, a few common and most rare.
The loop is yours, in float32. Halfway its state goes to a file, and the run goes on from there.
"""

from tempfile import TemporaryDirectory
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np

import gpuprop

backend = gpuprop.select_backend("cpu")  # "gpu" runs all of this on a GPU
xp, ROWS, LEVELS, STEPS, random = backend.xp, 500_000, 100_000, 100, np.random.default_rng(0)
levels = backend.asarray((LEVELS * random.random((10, ROWS)) ** 3).astype(int))
truth = backend.asarray(random.normal(0, 0.5, (10, LEVELS)).astype(np.float32))
score = sum(map(xp.take, truth, levels)) + backend.asarray(random.logistic(size=ROWS))
label = xp.where(score > 0, 1, -1).astype(np.float32)
rate = gpuprop.schedules.cosine_decay_schedule(0.03, STEPS)
optimizer = gpuprop.RMSProp(rate, momentum=0.9, bias_correction=True)
x, heights, clock = xp.zeros_like(truth), [], []
state = optimizer.init(x)
while state.step < STEPS:
    begin = perf_counter()
    margin = label * sum(map(xp.take, x, levels))
    pull = (label / (1 + xp.exp(margin))).astype(float)
    grad = 4 * x - xp.stack([xp.bincount(k, pull, LEVELS) for k in levels]).astype(np.float32)
    heights.append(float(xp.logaddexp(0, -margin).sum(dtype=float) + 2 * (x**2).sum(dtype=float)))
    middle = perf_counter()
    optimizer.step(x, grad, state)
    backend.synchronize()
    clock.append((middle - begin, perf_counter() - middle))
    if state.step == STEPS // 2:
        with TemporaryDirectory() as folder:
            state.save(f"{folder}/half.safetensors", x=x)
            state = gpuprop.load_state(f"{folder}/half.safetensors")
        x, optimizer = state.extras["x"], state.optimizer
gradient, step = 1000 * np.median(clock, axis=0)
print(f"f and its gradient: {gradient:.0f} ms. The step: {step:.1f} ms, {step / (gradient + step):.1%}.")
# %%
# Common levels are found, a little small, as what rare levels add is noise to them. Rare ones stay near 0.
figure, plane = plt.subplots(figsize=(4.4, 3.6), layout="constrained")
truth, fitted = backend.to_host(truth), backend.to_host(x)
seen = np.stack([np.bincount(k, minlength=LEVELS) for k in backend.to_host(levels)])
for low, high, color in ((1, 9, "#e69f00"), (100, 999, "#56b4e9"), (1000, 9999, "black")):
    some = (seen >= low) & (seen <= high)
    plane.plot(truth[some][:800], fitted[some][:800], ".", color=color, ms=4, label=f"{low} to {high} rows")
plane.axline((0, 0), slope=1, color="0.4", linewidth=1)
plane.set(xlabel="true coefficient", ylabel="fitted coefficient", aspect="equal")
plane.legend(loc="upper left", title="level seen in")
# %%
figure, curve = plt.subplots(figsize=(4.4, 3), layout="constrained")
curve.semilogy(np.array(heights[:-1]) - heights[-1], color="#0072b2")
curve.set(xlabel="step", ylabel="f above its last value")
plt.show()
