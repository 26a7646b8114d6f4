"""
Find an object and the probe that lights it
===========================================

Ptychography: a complex probe, known roughly, lights a complex object in 100 windows that overlap, and the
photons of each diffraction pattern are counted. As in `ePIE <https://doi.org/10.1016/j.ultramic.2009.05.012>`_,
each step moves what one window shows, and the probe, here from epoch 5 on; RMSProp gives each its own rate.
(Grace Hopper, U.S. Navy, and hills at the Jacksboro fault: Matplotlib's sample data.)
"""

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cbook import get_sample_data

import gpuprop

backend = gpuprop.select_backend("cpu")  # "gpu" runs all of this on a GPU; CuPy's FFT needs NVIDIA's cuFFT
xp, random, EPOCHS = backend.xp, np.random.default_rng(0), 60
with get_sample_data("grace_hopper.jpg") as photo, get_sample_data("jacksboro_fault_dem.npz") as hills:
    light = plt.imread(photo)[60:380:2, 90:410:2] @ [0.299, 0.587, 0.114] / 255
    truth = (0.3 + 0.7 * light) * np.exp(0.004j * hills["elevation"][:320:2, :320:2])
square = np.add.outer(np.fft.fftfreq(64, 1 / 64) ** 2, np.fft.fftfreq(64, 1 / 64) ** 2)
lens = (square < 400) * np.exp(1j * square * np.reshape([0.035, 0.027], (2, 1, 1)))  # out of focus
probe, guess = 64e3 * np.fft.fftshift(np.fft.ifft2(lens), (1, 2)) / np.sum(square < 400) ** 0.5
corners = np.stack(np.mgrid[2:93:10, 2:93:10], -1).reshape(-1, 2) + random.integers(-2, 3, (100, 2))
windows = [np.s_[top : top + 64, left : left + 64] for top, left in corners.tolist()]
waves = np.fft.fft2([truth[window] * probe for window in windows], norm="ortho")
moduli = backend.asarray(random.poisson(abs(waves) ** 2) ** 0.5)  # about 10⁶ photons a window


def misfit(pair, modulus):  # half the sum of (|wave| - modulus)², and its gradient
    wave = xp.fft.fft2(pair[0] * pair[1], norm="ortho")
    off = wave - modulus * xp.exp(1j * xp.angle(wave))
    return xp.sum(abs(off) ** 2) / 2, xp.fft.ifft2(off, norm="ortho") * pair[::-1].conj()


def compared(found, true):  # but for a factor and a ramp of phase, which the counts do not show
    found, place = backend.to_host(found), np.arange(len(true))
    turn = found.conj() * true
    down, right = np.angle([np.vdot(turn[:-1], turn[1:]), np.vdot(turn[:, :-1], turn[:, 1:])])
    found = found * np.exp(1j * (down * place[:, None] + right * place))
    found *= np.vdot(found, true) / np.vdot(found, found)
    return found, np.linalg.norm(found - true) / np.linalg.norm(true)


print(gpuprop.check_gradient(misfit, True, backend.asarray([truth[windows[0]], guess]), args=moduli[:1]))
falling = [gpuprop.schedules.cosine_decay_schedule(rate, 100 * EPOCHS) for rate in (0.05, 0.8)]
for_object = gpuprop.RMSProp(falling[0], rho=0.95, second_moment="modulus", modulus_bounds=(0, 1))
for_probe = gpuprop.RMSProp(falling[1], rho=0.95, second_moment="modulus")
groups = gpuprop.Groups(object=for_object, probe=for_probe)
arrays = {"object": xp.ones(truth.shape, complex), "probe": backend.asarray(guess)}
state, lit, errors = groups.init(arrays), np.s_[24:-24, 24:-24], []
for epoch in range(EPOCHS):
    for k in random.permutation(100):
        by_object, by_probe = misfit(xp.stack([arrays["object"][windows[k]], arrays["probe"]]), moduli[k])[1]
        gradients = {"object": by_object, "probe": by_probe if epoch >= 5 else None}
        groups.step(arrays, gradients, state, at={"object": windows[k]})
    pairs = compared(arrays["object"][lit], truth[lit]), compared(arrays["probe"], probe)
    errors.append([error for _, error in pairs])
print("Relative errors after the last epoch: object {:.1%}, probe {:.1%}.".format(*errors[-1]))
figure, axes = plt.subplots(2, 2, figsize=(5.2, 5.5), layout="constrained")
for column, name, image in zip(axes.T, ("the object", "found"), (truth[lit], pairs[0][0]), strict=True):
    column[0].set_title(f"{name}: modulus")
    column[0].imshow(abs(image), cmap="gray", vmin=0, vmax=1)
    column[1].set_title(f"{name}: phase")
    column[1].imshow(np.angle(image * np.exp(-2j)), cmap="viridis", vmin=-1.1, vmax=1.8)
plt.setp(axes, xticks=[], yticks=[])

# %%
# The real part of the probe, and the errors. Given the true probe, the same run ends 2.6% off: the rest is
# the noise of the photons. Where the guess is kept to the end, it is 27% off.
figure, axes = plt.subplot_mosaic("abc;ddd", figsize=(5.2, 5), layout="constrained", height_ratios=(2, 3))
for key, name, image in zip("abc", ("guess", "the probe", "found"), (guess, probe, pairs[1][0]), strict=True):
    axes[key].imshow(image[8:-8, 8:-8].real, cmap="RdBu", vmin=-60, vmax=60)
    axes[key].set(title=name, xticks=[], yticks=[])
for column, name, style in zip(np.transpose(errors), arrays, ("#0072b2", "#b3361b"), strict=True):
    axes["d"].semilogy(np.arange(1, EPOCHS + 1), column, color=style, label=name)
axes["d"].set(xlabel="epochs", ylabel="relative error")
axes["d"].grid(alpha=0.3)
axes["d"].legend()

# %%
# The first epochs again, with the probe held, and each step beside the same lines in NumPy.
x, twin, average = xp.ones(truth.shape, complex), xp.ones(truth.shape, complex), xp.zeros(truth.shape)
state, held, clock = for_object.init(x), backend.asarray(guess), []
for k in [*range(100)] * 5:
    grad, begin = misfit(xp.stack([x[windows[k]], held]), moduli[k])[1][0], perf_counter()
    for_object.step(x, grad, state, at=windows[k])
    middle = perf_counter()
    y, s = twin[windows[k]], average[windows[k]]
    s *= 0.95
    s += 0.05 * (grad.real**2 + grad.imag**2)
    y -= falling[0](state.step - 1) * grad / (xp.sqrt(s) + 1e-6)
    y /= xp.maximum(abs(y), 1)
    clock.append((middle - begin, perf_counter() - middle))
step, hand = np.median(clock, axis=0)
print(f"In NumPy it takes {hand / step:.1f} times as long. The objects differ by {abs(x - twin).max():.0e}.")
plt.show()
