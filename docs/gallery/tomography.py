"""
Reconstruct a slice from few X-ray views
========================================

Parallel beams from 40 directions, and noise of 1%: fewer measurements than pixels. Half the squared misfit
and the smoothed total variation are minimised over densities from 0 to 1. (In brackets: the peak SNR.)
"""

import matplotlib.pyplot as plt
import numpy as np

import gpuprop

backend = gpuprop.select_backend("cpu")  # "gpu" runs all of this on a GPU
xp, N, BINS, VIEWS, STEPS = backend.xp, 128, 192, 40, 400
y, x = (np.mgrid[:N, :N] - (N - 1) / 2) / (N / 2)
ELLIPSES = """1 .69 .92 0 0 0   -.8 .66 .87 0 -.02 0   -.2 .16 .41 -.22 0 18   -.2 .11 .31 .22 0 -18
    .3 .21 .25 0 .35 0   .4 .05 .05 0 .1 0   .4 .05 .03 -.08 -.6 0"""  # density, half axes, centre, degrees
density, a, b, x0, y0, degrees = np.reshape(ELLIPSES.split(), (-1, 6, 1, 1)).astype(float).swapaxes(0, 1)
z = (x - x0 + 1j * (y - y0)) * np.exp(-1j * np.radians(degrees))
phantom = backend.asarray(np.sum(density * ((z.real / a) ** 2 + (z.imag / b) ** 2 <= 1), axis=0))
# In each view, a pixel is shared by the two nearest bins of the detector.
view = np.arange(VIEWS)[:, None, None]
place = N / 2 * (x * np.cos(view * np.pi / VIEWS) + y * np.sin(view * np.pi / VIEWS)) + BINS / 2
left = np.floor(place) + BINS * view
bins = backend.asarray(np.concatenate([left, left + 1]).astype(int))
share = backend.asarray(np.concatenate([1 - place % 1, place % 1]))


def project(x):
    return xp.bincount(bins.ravel(), (share * x).ravel(), VIEWS * BINS)


def objective(x, weight):
    misfit = project(x) - measured
    down, right = xp.roll(x, -1, 0) - x, xp.roll(x, -1, 1) - x
    length = xp.sqrt(down**2 + right**2 + 0.01**2)
    down, right = down / length, right / length
    variation = xp.roll(down, 1, 0) - down + xp.roll(right, 1, 1) - right
    gradient = (share * misfit[bins]).sum(axis=0) + weight * variation
    return xp.sum(misfit**2) / 2 + weight * xp.sum(length), gradient


measured = project(phantom) + backend.asarray(np.random.default_rng(0).normal(0, 0.4, VIEWS * BINS))
print(gpuprop.check_gradient(objective, True, phantom, args=(1,)))
rate = gpuprop.schedules.cosine_decay_schedule(0.02, STEPS)  # steps do not shrink by themselves
method = gpuprop.RMSProp(rate, momentum=0.9, bias_correction=True, bounds=(0, 1))
start, images = xp.full((N, N), 0.1), {"phantom": phantom}
for name, weight in {"bounds alone": 0, "total variation": 1}.items():
    result = gpuprop.minimize(objective, start, (weight,), method, jac=True, options={"maxiter": STEPS})
    images[f"{name}\n({-10 * xp.log10(xp.mean((result.x - phantom) ** 2)):.1f} dB)"] = result.x

figure, axes = plt.subplots(2, 2, figsize=(5.2, 5.6), layout="constrained")
axes[0, 0].set(title="measured", xlabel="bin", ylabel="view")
axes[0, 0].imshow(backend.to_host(measured).reshape(VIEWS, BINS), cmap="gray", aspect="auto")
for axis, (title, image) in zip(axes.flat[1:], images.items(), strict=True):
    axis.set(title=title, xticks=[], yticks=[])
    axis.imshow(backend.to_host(image), cmap="gray", vmin=0, vmax=1)
plt.show()
