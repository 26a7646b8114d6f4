"""Whether there is CUDA here: CuPy with a device, or the reason and what mends it."""

from __future__ import annotations

from typing import Any

from gpuprop.backends.base import DeviceUnavailableError


def cupy_with_a_device() -> Any:
    """Import CuPy and make sure that it finds a device.

    Raises
    ------
    DeviceUnavailableError
        With the reason and the command that mends it.
    """
    install = 'python -m pip install "gpuprop[cuda12]" (or "gpuprop[cuda13]")'
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise DeviceUnavailableError(f"CuPy cannot be imported ({error}); mend: {install}") from error
        raise DeviceUnavailableError(f"CuPy is not installed; mend: {install}") from None
    except Exception as error:
        text = " ".join(str(error).split())
        raise DeviceUnavailableError(f"CuPy cannot be imported ({text}); mend: {install}") from error
    runtime = cupy.cuda.runtime
    try:
        driver, needed = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        if driver == 0:
            reason = "there is no NVIDIA driver on this machine"
            mend = "install one from nvidia.com/drivers if it has an NVIDIA card, else use the device 'cpu'"
        elif driver // 1000 < needed // 1000:
            reason = (
                f"the NVIDIA driver knows CUDA {cuda_version(driver)} and CuPy needs {cuda_version(needed)}"
            )
            mend = "update the driver, or install the CuPy of your driver's CUDA: " + install
        elif runtime.getDeviceCount() == 0:
            reason, mend = _NO_DEVICE
        else:
            cupy.cuda.nvrtc.getVersion()
            return cupy
    except ImportError as error:
        reason, mend = f"CuPy finds no NVRTC, with which it compiles kernels ({error})", install
    except runtime.CUDARuntimeError as error:
        if "cudaErrorNoDevice" in str(error):
            reason, mend = _NO_DEVICE
        else:
            reason, mend = f"CUDA says {error}", "see nvidia-smi"
    raise DeviceUnavailableError(f"{reason}; mend: {mend}")


_NO_DEVICE = (
    "the NVIDIA driver shows no device to this process",
    "look at nvidia-smi and at the environment variable CUDA_VISIBLE_DEVICES",
)


def cuda_version(number: int) -> str:
    """What CUDA's runtime and driver call 12090, as people write it: 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"
