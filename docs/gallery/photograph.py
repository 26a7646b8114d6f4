"""
Restore a blurred photograph
============================

A photograph seen through a camera that moved, with noise: half the squared misfit and the smoothed total
variation are minimised over grey values from 0 to 1. (Grace Hopper, U.S. Navy; Matplotlib's sample data.)
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cbook import get_sample_data

import gpuprop

backend = gpuprop.select_backend("cpu")  # "gpu" runs all of this on a GPU; CuPy's FFT needs NVIDIA's cuFFT
xp = backend.xp
NOISE, WEIGHT, SMOOTHING, STEPS = 0.005, 5e-4, 5e-3, 400
with get_sample_data("grace_hopper.jpg") as file:
    truth = plt.imread(file)[60:316, 130:386] @ [0.299, 0.587, 0.114] / 255
kernel = np.zeros(truth.shape)
for t in np.linspace(-9, 9, 360):  # in pixels: a straight movement while the shutter was open
    kernel[round(0.56 * t), round(0.83 * t)] += 1 / 360
spectrum = backend.asarray(np.fft.rfft2(kernel))
noise = backend.asarray(NOISE * np.random.default_rng(1).normal(size=truth.shape))


def convolved(image, spectrum):
    return xp.fft.irfft2(xp.fft.rfft2(image) * spectrum, image.shape)


def objective(x):
    misfit = convolved(x, spectrum) - measured
    down, right = xp.roll(x, -1, 0) - x, xp.roll(x, -1, 1) - x
    length = xp.sqrt(down**2 + right**2 + SMOOTHING**2)
    down, right = down / length, right / length
    variation = xp.roll(down, 1, 0) - down + xp.roll(right, 1, 1) - right
    gradient = convolved(misfit, spectrum.conj()) + WEIGHT * variation
    return xp.sum(misfit**2) / 2 + WEIGHT * xp.sum(length), gradient


measured = convolved(backend.asarray(truth), spectrum) + noise
print(gpuprop.check_gradient(objective, True, measured))
rate = gpuprop.schedules.cosine_decay_schedule(0.01, STEPS)  # steps do not shrink by themselves
method = gpuprop.RMSProp(rate, momentum=0.9, bias_correction=True, bounds=(0, 1))
result = gpuprop.minimize(objective, measured, jac=True, method=method, options={"maxiter": STEPS})
print(f"{result.nit} steps: {result.message}")

# %%
# In brackets: the peak signal-to-noise ratio. The error is grey where there is none.
seen, restored = backend.to_host(measured), backend.to_host(result.x)
figure, axes = plt.subplots(2, 2, figsize=(5.2, 5.6), layout="constrained")
for axis, name, image in zip(axes[0], ("blurred", "restored"), (seen, restored), strict=True):
    axis.set_title(f"{name} ({-10 * np.log10(np.mean((image - truth) ** 2)):.1f} dB)")
for axis, image in zip(axes.flat, (seen, restored, truth, 0.5 + 3 * (restored - truth)), strict=True):
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.axis("off")
axes[1, 0].set_title("photograph")
axes[1, 1].set_title("error, tripled")
plt.show()
