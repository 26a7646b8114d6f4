from contextlib import nullcontext

import numpy as np
import pytest
from descents import GROUPS, METHODS, ByName, Quadratic, falling, twice
from scipy.optimize import Bounds

import gpuprop
from gpuprop import Groups, minimize


@pytest.fixture
def transfers(monkeypatch):
    """The sizes of all arrays that go to the host."""
    cupy = pytest.importorskip("cupy")
    sizes, get = [], cupy.ndarray.get

    def counted(array, *args, **kwargs):
        sizes.append(array.size)
        return get(array, *args, **kwargs)

    monkeypatch.setattr(cupy.ndarray, "get", counted)
    return sizes


@pytest.mark.gpu
@pytest.mark.parametrize("joint", [False, True])
def test_no_array_crosses_to_the_host_and_each_check_reads_once(transfers, joint):
    gpu = gpuprop.select_backend("gpu")
    problem, path = Quadratic(gpu), []
    fun, jac = (problem.both, True) if joint else (problem.fun, problem.jac)
    options = {
        "maxiter": 60,
        "check_every": 20,
        "gtol": 1e-30,
        "xtol": 1e-30,
        "ftol": 0.0,
        "return_best": True,
    }
    method = falling(clip_norm=3.0, nonfinite="skip")
    bounds = Bounds(gpu.asarray(np.full(4, -9.0)), gpu.asarray(np.arange(9.0, 13)))
    x0 = gpu.asarray(np.zeros(4))
    minimize(fun, x0, jac=jac, method=method, bounds=bounds, options={**options, "maxiter": 0})
    start, transfers[:] = len(transfers), []
    result = minimize(fun, x0, jac=jac, method=method, bounds=bounds, callback=path.append, options=options)
    assert result.nit == 60
    assert max(transfers) <= 4 < x0.size + 1
    assert len(transfers) == start + 3  # the checks at 20, 40 and 60


@pytest.mark.gpu
def test_between_checks_nothing_waits_for_the_device(monkeypatch):
    # A stream that is being captured refuses to be waited for; then its steps run as one graph.
    gpu = gpuprop.select_backend("gpu")
    monkeypatch.setattr(type(gpu), "_captures", lambda self: False)  # they are counted as if done
    method = gpuprop.RMSProp(0.01, momentum=0.9)
    problem = Quadratic(gpu)
    x0 = gpu.asarray(np.zeros(4))
    options = {"maxiter": 20, "check_every": 20}
    plain = minimize(problem.fun, x0, jac=problem.jac, method=method, options=options)
    stream, calls = gpu.xp.cuda.Stream(non_blocking=True), []

    def jac(x):
        calls.append(1)
        if len(calls) == 2:
            stream.begin_capture()
        gradient = problem.jac(x)
        if len(calls) == 19:
            stream.end_capture().launch(stream)
        return gradient

    gpu.synchronize()
    with stream:
        captured = minimize(problem.fun, x0, jac=jac, method=method, options=options)
    assert len(calls) == 21
    np.testing.assert_array_equal(gpu.to_host(captured.x), gpu.to_host(plain.x))


@pytest.mark.gpu
def test_the_device_of_x0_is_current_while_functions_run():
    gpu = gpuprop.select_backend("gpu")
    if gpu.xp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two devices")
    with gpu.xp.cuda.Device(1):
        x0 = gpu.asarray([5.0, 4.0])
    seen = set()

    def jac(x):
        seen.add((gpu.xp.cuda.Device().id, x.device.id))
        return 2 * x

    result = minimize(lambda x: (x**2).sum(), x0, jac=jac, method=falling())
    assert seen == {(1, 1)}
    assert (result.success, result.x.device.id) == (True, 1)


@pytest.mark.gpu
def test_a_gradient_that_has_left_the_gpu_is_refused():
    gpu = gpuprop.select_backend("gpu")
    with pytest.raises(TypeError, match=r"the gradient is a numpy\.ndarray"):
        minimize(None, gpu.asarray([5.0]), jac=lambda x: gpu.to_host(x))
    with pytest.raises(TypeError, match=r"the gradient is a builtins.list and x is on a GPU"):
        minimize(None, gpu.asarray([5.0]), jac=lambda x: [1.0])


@pytest.mark.gpu
@pytest.mark.parametrize("number", [float, np.float64, np.asarray])
def test_f_may_be_a_number_on_the_host(number):
    gpu = gpuprop.select_backend("gpu")
    result = minimize(lambda x: number(7), gpu.asarray([5.0]), jac=twice, options={"maxiter": 2})
    assert result.fun == 7


@pytest.mark.gpu
def test_a_state_on_another_device_than_x0_is_refused():
    gpu = gpuprop.select_backend("gpu")
    state = falling().init(gpu.asarray([5.0, 4.0]))
    if gpu.xp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two devices")
    with gpu.xp.cuda.Device(1):
        x0 = gpu.asarray([5.0, 4.0])
    with pytest.raises(ValueError, match="x0 is on device 1 and square_average of the state on device 0"):
        minimize(None, x0, jac=twice, options={"state": state})
    assert state.step == 0


@pytest.mark.gpu
def test_a_state_on_a_gpu_and_x0_on_the_host_are_refused():
    gpu = gpuprop.select_backend("gpu")
    state = falling().init(gpu.asarray([5.0, 4.0]))
    with pytest.raises(TypeError, match=r"x0 is a (builtins\.list|numpy\.ndarray)"):
        minimize(None, [5.0, 4.0], jac=twice, options={"state": state})


@pytest.mark.gpu
@pytest.mark.parametrize("places", [("cpu", 0), (0, "cpu"), (0, 1), (1, 0), (1, 1)], ids=str)
def test_arrays_in_several_places_are_minimised_together(places, request):
    cupy = request.getfixturevalue("other_device" if 1 in places else "cupy") and pytest.importorskip("cupy")
    cpu, gpu = map(gpuprop.select_backend, ("cpu", "gpu"))
    problem = ByName(
        *[cpu if place == "cpu" else gpu for place in places],
        devices=[nullcontext() if place == "cpu" else cupy.cuda.Device(place) for place in places],
    )
    tests = {"gtol": 1e-30, "xtol": 1e-30, "ftol": 0.0, "return_best": True}
    bounds = {"plain": (-1, 2), "field": Bounds(-1.5, 1.5)}
    run = {"jac": problem.jac, "bounds": bounds, "options": {"maxiter": 37, **tests}}
    path = []
    result = minimize(problem.fun, problem.x0, **run, method=GROUPS, callback=path.append)
    alone = {name: problem.alone(name, {"maxiter": 37}, bounds=bounds[name]).x for name in METHODS}
    for points in (result.x, path[-1]):
        problem.assert_same(points, alone)
    where = {name: getattr(x.device, "id", "cpu") for name, x in result.x.items()}
    assert tuple(where.values()) == places
    clipped, options = Groups(METHODS, clip_norm=2.0), {"maxiter": 12, "gtol": None}
    here, there = (
        each.hosted(minimize(each.fun, each.x0, jac=each.jac, method=clipped, options=options).x)
        for each in (ByName(cpu), problem)
    )
    for name, array in here.items():
        np.testing.assert_allclose(there[name], array, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("places", [("cpu", 0), (0, "cpu"), (0, 1), (1, 0), (1, 1)], ids=str)
def test_arrays_in_several_places_go_on_from_one_file(places, request, tmp_path):
    cupy = request.getfixturevalue("other_device" if 1 in places else "cupy") and pytest.importorskip("cupy")
    problem = ByName(
        *[gpuprop.select_backend("cpu" if place == "cpu" else "gpu") for place in places],
        devices=[nullcontext() if place == "cpu" else cupy.cuda.Device(place) for place in places],
    )
    run = {"fun": problem.fun, "x0": problem.x0, "jac": problem.jac, "method": GROUPS}
    options = {"gtol": None, "xtol": 0.0, "return_best": True}
    whole = minimize(**run, options={**options, "maxiter": 30})
    minimize(**run, options={**options, "maxiter": 20, "checkpoint": tmp_path / "run"})
    result = minimize(**run, options={**options, "maxiter": 30, "resume": tmp_path / "run"})
    problem.assert_same(result.x, whole.x)
    assert tuple(getattr(x.device, "id", "cpu") for x in result.x.values()) == places


@pytest.mark.gpu
@pytest.mark.parametrize(("here", "there"), [("cpu", "gpu"), ("gpu", "cpu")])
def test_a_file_goes_on_where_x0_is(here, there, tmp_path):
    path, method = tmp_path / "run", falling()
    options = {"gtol": None, "xtol": 0.0, "return_best": True, "maxiter": 20}
    for name, more in ((here, {"checkpoint": path}), (there, {"resume": path, "maxiter": 30})):
        backend = gpuprop.select_backend(name)
        problem = Quadratic(backend)
        run = {"fun": problem.fun, "x0": backend.asarray(np.zeros(4)), "jac": problem.jac, "method": method}
        result = minimize(**run, options={**options, **more})
        assert isinstance(result.x, backend.xp.ndarray)
    whole = minimize(**run, options={**options, "maxiter": 30})
    assert result.nit == 30
    np.testing.assert_allclose(backend.to_host(result.x), backend.to_host(whole.x), rtol=1e-12)


@pytest.mark.gpu
def test_a_checkpoint_alone_moves_arrays_to_the_host(transfers, tmp_path):
    gpu = gpuprop.select_backend("gpu")
    problem, x0 = Quadratic(gpu), gpu.asarray(np.zeros(4))
    options = {"maxiter": 60, "check_every": 20, "gtol": None, "checkpoint": tmp_path / "run"}
    options["checkpoint_every"] = 30
    numbers = []
    for history in (False, True):
        transfers.clear()
        minimize(problem.fun, x0, jac=problem.jac, method=falling(), options={**options, "history": history})
        numbers.append(sorted(transfers))
    # Two files of x and the state at 30 and 60; f and the gradient in one transfer at each check.
    assert numbers[0] == numbers[1]
    assert numbers[0].count(4) == 4
