"""Backends as a parameter: a test written once runs on every one of them."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from parameters import BACKENDS, COMPILED

import gpuprop


def pytest_configure(config: pytest.Config) -> None:
    """Kernels of all the suite's processes are kept together, and nowhere else."""
    if not hasattr(config, "workerinput"):  # workers inherit it
        os.environ["GPUPROP_CACHE"] = config.kernels = tempfile.mkdtemp(prefix="gpuprop-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(getattr(config, "kernels", ""), ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:  # a device that is slow to compile for is spared the rest of a product
        few = item.get_closest_marker("few")
        if few is not None and item.get_closest_marker("gpu"):
            names, cases = few.args
            if tuple(item.callspec.params[name] for name in names) not in cases:
                item.add_marker("card")
    try:
        gpuprop.select_backend("gpu")
    except gpuprop.DeviceUnavailableError as error:
        skip = pytest.mark.skip(reason=f"no CUDA device: {error}")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> gpuprop.Backend:
    return gpuprop.select_backend(request.param)


@pytest.fixture(params=COMPILED)
def compiled(request: pytest.FixtureRequest) -> gpuprop.Backend:
    """A backend that runs kernels made from rules."""
    return gpuprop.select_backend(request.param)


@pytest.fixture(autouse=True)
def a_device_is_for_what_is_marked(request, monkeypatch):
    """The run on a device leaves out all other tests: none of them may come to ask for one."""
    if request.node.get_closest_marker("gpu") or request.node.get_closest_marker("auto"):
        return
    backend_called = gpuprop.backends._backend

    def marked(name):
        assert name != "gpu", "it goes to a GPU where there is one: mark it auto, or gpu where it needs one"
        return backend_called(name)

    monkeypatch.setattr(gpuprop.backends, "_backend", marked)


@pytest.fixture
def threads():
    """Sets the number of threads for one test."""
    yield gpuprop.set_num_threads
    gpuprop.set_num_threads(None)


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


@pytest.fixture(scope="session")
def nvidias_compiler():
    """CuPy also runs where something else stands in for NVRTC."""
    pytest.importorskip("cupy", reason="CuPy generates the kernels")
    compiler = pytest.importorskip("gpuprop.backends.gpu.kernels.compiler")
    try:
        code, _ = compiler._run('extern "C" __global__ void nothing() {}', "compute_80", "ptx")
    except Exception as error:
        pytest.skip(f"NVRTC cannot be used: {error}")
    if b"\n.target sm_80" not in code:
        pytest.skip("the NVRTC that CuPy uses here is not NVIDIA's: it writes no PTX")


@pytest.fixture
def other_device(cupy):
    """A device that is not the current one."""
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two CUDA devices")
    assert cupy.cuda.runtime.getDevice() == 0
    return cupy.cuda.Device(1)


@pytest.fixture
def requests(cupy):
    """Counts how often CuPy is asked for memory, in a ``with`` block."""

    class Requests(cupy.cuda.MemoryHook):
        name = "requests"
        count = 0

        def malloc_preprocess(self, **_):
            self.count += 1

    return Requests()


@pytest.fixture
def short_tables(monkeypatch):
    """Scalars of fewer steps of a captured graph: those of many take long to make."""
    monkeypatch.setattr("gpuprop.backends.gpu.graphs.STEPS", 300)
