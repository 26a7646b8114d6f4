"""Which backend runs, and what is said where one is missing."""

import os
import subprocess
import sys

import numpy as np
import pytest

import gpuprop

pytestmark = pytest.mark.auto

#: Python that makes one package impossible to import.
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {0!r}:
            raise ModuleNotFoundError(f"No module named {0!r}", name={0!r})
sys.meta_path.insert(0, Missing())
"""


def run(code: str, **environment: str) -> str:
    """What `code` prints in a process of its own; it must leave with 0."""
    env = {
        k: v for k, v in os.environ.items() if k == "GPUPROP_CACHE" or not k.startswith("GPUPROP_")
    } | environment
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_backend_says_what_it_is(backend):
    assert backend.xp.__name__ == ("cupy" if backend.name == "gpu" else "numpy")
    assert backend.name in repr(backend)
    array = backend.asarray([1, 2], "float32")
    assert isinstance(array, backend.xp.ndarray)
    assert array.dtype == "float32"
    backend.synchronize()
    host = backend.to_host(array)
    assert type(host) is np.ndarray
    assert host.tolist() == [1, 2]


def test_the_same_backend_is_made_once(backend):
    assert gpuprop.select_backend(backend.name) is backend


def test_an_unknown_name_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="device is 'cuda'; it must be one of auto, gpu, cpu, numpy"):
        gpuprop.select_backend("cuda")
    monkeypatch.setenv("GPUPROP_DEVICE", "tpu")
    with pytest.raises(ValueError, match="GPUPROP_DEVICE is 'tpu'"):
        gpuprop.select_backend()


def test_auto_is_what_the_environment_says(monkeypatch):
    for name in ("cpu", "numpy"):
        monkeypatch.setenv("GPUPROP_DEVICE", name)
        assert gpuprop.select_backend().name == name
    assert gpuprop.select_backend("cpu").name == "cpu"


def test_the_type_of_the_array_picks_the_backend(backend):
    x = backend.asarray([1.0, 2.0])
    expected = "cpu" if backend.name == "numpy" else backend.name
    assert gpuprop.backends.backend_of(x).name == expected


def test_the_environment_turns_host_arrays_to_the_reference():
    code = "import numpy, gpuprop; print(gpuprop.backends.backend_of(numpy.ones(2)).name)"
    assert run(code, GPUPROP_DEVICE="numpy") == "numpy"
    assert run(code) == "cpu"


NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # hides the devices of a machine that has some

ASK_FOR_GPU = """
import warnings, gpuprop
try:
    gpuprop.select_backend("gpu")
except gpuprop.DeviceUnavailableError as error:
    print(error)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(gpuprop.select_backend("gpu", fallback=True).name, len(caught), caught[0].category.__name__)
    print(gpuprop.select_backend().name, len(caught))
"""


def test_no_device():
    pytest.importorskip("cupy")
    reason, fallback, auto = run(ASK_FOR_GPU, **NO_GPU).splitlines()
    assert "mend: " in reason
    assert "driver" in reason
    assert fallback == "cpu 1 RuntimeWarning"
    assert auto == "cpu 1"


DRIVERS = {
    "there is no NVIDIA driver": {"driverGetVersion": lambda: 0},
    "the NVIDIA driver knows CUDA 11.8 and CuPy needs 12.9": {"driverGetVersion": lambda: 11080},
    "the NVIDIA driver shows no device": {"getDeviceCount": lambda: 0},
}


@pytest.mark.parametrize("reason", DRIVERS)
def test_what_is_said_of_a_driver(reason, monkeypatch):
    cupy = pytest.importorskip("cupy")
    from gpuprop.backends.gpu.backend import GPUBackend

    good = {
        "driverGetVersion": lambda: 12090,
        "runtimeGetVersion": lambda: 12090,
        "getDeviceCount": lambda: 1,
    }
    for name, value in (good | DRIVERS[reason]).items():
        monkeypatch.setattr(cupy.cuda.runtime, name, value)
    with pytest.raises(gpuprop.DeviceUnavailableError, match=f"{reason}.*; mend: "):
        GPUBackend()


def test_no_cupy():
    reason, fallback, auto = run(WITHOUT.format("cupy") + ASK_FOR_GPU).splitlines()
    assert reason.startswith('CuPy is not installed; mend: python -m pip install "gpuprop[cuda12]"')
    assert (fallback, auto) == ("cpu 1 RuntimeWarning", "cpu 1")


def test_broken_cupy(tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('libcudart.so.12: no such file\\nand more')")
    reason, *_ = run(ASK_FOR_GPU, PYTHONPATH=str(tmp_path)).splitlines()
    assert reason.startswith("CuPy cannot be imported (libcudart.so.12: no such file and more); mend: ")


def test_no_numba():
    code = """
import gpuprop, numpy
x = numpy.array([5.0, 4.0])
optimizer = gpuprop.RMSProp()
state = optimizer.init(x)
optimizer.step(x, 2 * x, state)
print(state.backend.name, x)
try:
    gpuprop.select_backend("cpu")
except gpuprop.DeviceUnavailableError as error:
    print(error)
print(gpuprop.select_backend().name)
"""
    step, reason, auto = run(WITHOUT.format("numba") + code, **NO_GPU).splitlines()
    assert step == "numpy [4.68377233 3.68377236]"
    assert reason.endswith("mend: python -m pip install numba")
    assert auto == "numpy"


def test_import_is_light():
    code = """
import sys, time
start = time.process_time()
import numpy
between = time.process_time()
import gpuprop
ratio = (time.process_time() - between) / (between - start)
print(ratio, *(name in sys.modules for name in ("numba", "cupy", "scipy")))
"""
    runs = [run(code).split() for _ in range(3)]
    assert min(float(ratio) for ratio, *_ in runs) < 1.5  # of the time that NumPy takes; it is 0.8
    assert all(loaded == ["False"] * 3 for _, *loaded in runs)


def test_without_numbas_compiler_the_reference_steps_and_says_so():
    code = """
import warnings, numpy, gpuprop
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert gpuprop.select_backend().name == "numpy"
    assert gpuprop.select_backend("cpu", fallback=True).name == "numpy"
    x = numpy.ones(3)
    state = gpuprop.RMSProp().init(x)
    gpuprop.RMSProp().step(x, x.copy(), state)
assert state.backend.name == "numpy" and x[0] < 1
assert len(caught) == 3 and all("switched off by NUMBA_DISABLE_JIT" in str(w.message) for w in caught)
try:
    gpuprop.select_backend("cpu")
except gpuprop.DeviceUnavailableError as error:
    print(error)
"""
    assert run(code, NUMBA_DISABLE_JIT="1", CUDA_VISIBLE_DEVICES="").endswith(
        "mend: unset it, or set it to 0"
    )
