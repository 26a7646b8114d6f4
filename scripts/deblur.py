"""Restore a photograph that a moving camera blurred, with gpuprop.minimize: a use of the driver.

Half the squared misfit to the blurred and noisy photograph, plus its smoothed total variation, is
minimised over grey values between 0 and 1. The photograph is of Grace Hopper (U.S. Navy), from
Matplotlib's sample data.
"""

from __future__ import annotations

from command_line import Parser, progress, say, start, tell, whole, write_files

if __name__ == "__main__":
    start()  # before the imports that take long

import sys
from pathlib import Path
from typing import Any

import numpy as np

import gpuprop
from gpuprop.schedules import cosine_decay_schedule

NOISE, WEIGHT, SMOOTHING = 0.005, 5e-4, 5e-3


def photograph() -> np.ndarray:
    """Grey values in [0, 1], shape (320, 320)."""
    import matplotlib.pyplot as plt
    from matplotlib.cbook import get_sample_data

    with get_sample_data("grace_hopper.jpg") as file:
        colours = plt.imread(file)[30:350, 100:420] / 255
    return colours @ [0.299, 0.587, 0.114]


def blur_spectrum(shape: tuple[int, int], length: float = 21, angle: float = 0.6) -> np.ndarray:
    """The spectrum of a straight movement by `length` pixels while the shutter was open."""
    kernel = np.zeros(shape)
    for t in np.linspace(-length / 2, length / 2, 20 * int(length)):
        kernel[round(t * np.sin(angle)) % shape[0], round(t * np.cos(angle)) % shape[1]] += 1
    return np.fft.rfft2(kernel / kernel.sum())


def convolved(image: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    return np.fft.irfft2(np.fft.rfft2(image) * spectrum, image.shape)


def total_variation(x: np.ndarray, smoothing: float) -> tuple[float, np.ndarray]:
    """Of a periodic image, and its gradient."""
    down, right = np.roll(x, -1, 0) - x, np.roll(x, -1, 1) - x
    length = np.sqrt(down**2 + right**2 + smoothing**2)
    down, right = down / length, right / length
    return np.sum(length), np.roll(down, 1, 0) - down + np.roll(right, 1, 1) - right


def objective(x: np.ndarray, spectrum: np.ndarray, measured: np.ndarray) -> tuple[float, np.ndarray]:
    """f and its gradient."""
    misfit = convolved(x, spectrum) - measured
    variation, slope = total_variation(x, SMOOTHING)
    gradient = convolved(misfit, spectrum.conj()) + WEIGHT * slope
    return np.sum(misfit**2) / 2 + WEIGHT * variation, gradient


def signal_to_noise(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB."""
    return -10 * np.log10(np.mean((image - truth) ** 2))


def restore(spectrum: np.ndarray, measured: np.ndarray, steps: int) -> tuple[Any, np.ndarray]:
    """The result, and after each step f and the largest component of the projected gradient."""
    first, args, history = np.clip(measured, 0, 1), (spectrum, measured), []
    counter = progress(range(steps), steps, "step")

    def record(*, intermediate_result: Any) -> None:
        next(counter, None)
        x = intermediate_result.x
        gradient = np.clip(objective(x, *args)[1], x - 1, x)
        history.append((intermediate_result.fun, abs(gradient).max()))

    method = gpuprop.RMSProp(cosine_decay_schedule(0.01, steps), momentum=0.9, bias_correction=True)
    result = gpuprop.minimize(
        objective, first, args=args, jac=True, method=method, bounds=(0, 1), callback=record,
        options={"maxiter": steps, "gtol": 1e-6},
    )  # fmt: skip
    return result, np.array(history)


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(__doc__)
    parser.add_argument(
        "--steps", type=lambda t: whole(t, 1), default=600, metavar="N", help="(default: 600)"
    )
    parser.add_plot("before and after")
    options = parser.parse_args(arguments)
    parser.check_files(options.plot)
    try:
        truth = photograph()
    except (ImportError, OSError) as error:
        parser.error(f'no photograph: {error}; mend: python -m pip install "gpuprop[plot]"')
    spectrum = blur_spectrum(truth.shape)
    measured = convolved(truth, spectrum) + NOISE * np.random.default_rng(1).normal(size=truth.shape)
    tell("checking the gradient")
    say(str(gpuprop.check_gradient(objective, True, measured, args=(spectrum, measured))))
    tell(f"restoring {truth.shape[0]} x {truth.shape[1]} grey values in at most {options.steps} steps")
    result, history = restore(spectrum, measured, options.steps)
    before, after = (signal_to_noise(image, truth) for image in (measured, result.x))
    say(f"{result.message} f = {result.fun:.6g} after {result.nit} steps: {before:.1f} dB to {after:.1f} dB")

    def draw(file: Path) -> None:
        from figures import plot_restoration

        titles = (
            "photograph",
            f"moved camera and noise ({before:.1f} dB)",
            f"after {result.nit} steps ({after:.1f} dB)",
        )
        images = dict(zip(titles, (truth, measured, result.x), strict=True))
        plot_restoration(file, images, history)

    return write_files((options.plot, draw))


if __name__ == "__main__":
    sys.exit(main())
