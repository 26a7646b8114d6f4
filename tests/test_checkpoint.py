import errno
import json
import math
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_schedules import EVERY

import gpuprop
from gpuprop import SGD, AdaGrad, Adam, AdamW, RMSProp, RuleOptimizer, checkpoint, load_state, schedules

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None

HERE = Path(__file__).parent
NUMPY = gpuprop.select_backend("numpy")
DTYPES = {name: np.dtype(name) for name in ("float16", "float32", "float64", "complex64", "complex128")}
if ml_dtypes is not None:
    DTYPES["bfloat16"] = np.dtype(ml_dtypes.bfloat16)
MORE_DTYPES = [
    *DTYPES.values(),
    *map(np.dtype, ("bool", "int8", "uint16", "int32", "uint64", ">f4", ">i8", ">c16")),
]
LION = gpuprop.Rule(
    "checkpointed_lion",
    reads=("grad",),
    writes=("x", "average"),
    scalars=("learning_rate", "beta"),
    body="""
        average = beta * average + (1 - beta) * grad
        x = x - learning_rate * where(average > 0, 1, -1)
    """,
)


def everything(x):
    """An optimizer with every option that a state could forget, for parameters like `x`."""
    lower = x.copy()
    lower[...] = -0.6
    return RMSProp(
        schedules.warmup_cosine_decay_schedule(0.0, 0.1, 5, 15, end_value=0.01),
        0.87,
        epsilon=0.05,
        epsilon_inside_sqrt=True,
        momentum=0.7,
        nesterov=True,
        centered=True,
        bias_correction=True,
        weight_decay=0.01,
        clip_norm=3.0,
        bounds=(lower, math.inf),
        nonfinite="skip",
    )


OTHER_VARIANTS = {
    "RMSProp": lambda x: RMSProp(0.05),
    "Adam": lambda x: Adam(schedules.exponential_decay(0.05, 3, 0.9)),
    "SGD without any array": lambda x: SGD(0.05),
    "a rule": lambda x: RuleOptimizer(LION, learning_rate=schedules.linear_schedule(0.1, 0.0, 20), beta=0.8),
}
VARIANTS = {"everything": everything, **OTHER_VARIANTS}


def parameters(backend, dtype):
    random = np.random.default_rng(5)
    values = random.normal(size=(3, 50, 7))
    if dtype.kind == "c":
        values = values + 1j * random.normal(size=values.shape)
    # Neither C order nor Fortran order.
    return backend.asarray(values.astype(dtype)).transpose(1, 2, 0)


def gradient(backend, x, step):
    """A gradient that depends on x, with elements that are not finite."""
    g = backend.asarray(np.random.default_rng(step).normal(size=x.shape).astype(x.dtype)) + x
    g[step % len(g)] = math.nan
    return g if step % 3 else backend.xp.nan_to_num(g)


def run(backend, optimizer, x, state, steps):
    for step in steps:
        assert state.step == step
        optimizer.step(x, gradient(backend, x, step), state)


def bits(backend, array):
    host = backend.to_host(array)
    return host.dtype, host.shape, host.tobytes()


def everything_of(backend, x, state):
    arrays = {name: bits(backend, array) for name, array in state.arrays.items()}
    return bits(backend, x), arrays, state.step, state.skipped


@pytest.mark.parametrize(
    ("variant", "dtype"),
    [("everything", dtype) for dtype in DTYPES] + [(variant, "float32") for variant in OTHER_VARIANTS],
)
def test_a_resumed_run_goes_on_bit_for_bit(backend, dtype, variant, tmp_path):
    x = parameters(backend, DTYPES[dtype])
    optimizer = VARIANTS[variant](x)
    state = optimizer.init(x, backend=backend)
    run(backend, optimizer, x, state, range(10))
    state.save(tmp_path / "state", x=x)
    run(backend, optimizer, x, state, range(10, 20))

    resumed = load_state(tmp_path / "state")
    assert resumed.backend is backend
    x_again = resumed.extras["x"]
    assert x_again.strides == x.strides
    assert all(array.strides == x.strides for array in resumed.arrays.values())
    run(backend, resumed.optimizer, x_again, resumed, range(10, 20))
    assert everything_of(backend, x_again, resumed) == everything_of(backend, x, state)
    assert state.skipped or optimizer.nonfinite != "skip"


def test_a_run_is_resumed_in_another_process(backend, tmp_path):
    x = parameters(backend, DTYPES["float32"])
    optimizer = everything(x)
    state = optimizer.init(x, backend=backend)
    run(backend, optimizer, x, state, range(10))
    state.save(tmp_path / "state", x=x)
    run(backend, optimizer, x, state, range(10, 20))
    script = (
        "import sys, gpuprop, test_checkpoint as test\n"
        "state = gpuprop.load_state(sys.argv[1])\n"
        "x = state.extras['x']\n"
        "test.run(state.backend, state.optimizer, x, state, range(10, 20))\n"
        "state.save(sys.argv[1], x=x)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "state"], cwd=HERE, check=True, timeout=120)
    resumed = load_state(tmp_path / "state")
    assert everything_of(backend, resumed.extras["x"], resumed) == everything_of(backend, x, state)


def small_state(x=None, optimizer=None):
    """A state after one step on plain NumPy, and its parameters."""
    x = np.linspace(-1, 1, 5) if x is None else x
    optimizer = optimizer or RMSProp(0.05, momentum=0.5)
    state = optimizer.init(x, backend=NUMPY)
    optimizer.step(x, x.copy(), state)
    return state, x


@st.composite
def any_array(draw):
    """An array of any type, shape and layout, with any bits."""
    dtype = draw(st.sampled_from(MORE_DTYPES))
    shape = draw(arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    data = draw(st.binary(min_size=64, max_size=64))
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind == "b":
        data = bytes(byte % 2 for byte in data)
    array = np.frombuffer((data * (size // 64 + 1))[:size], dtype).reshape(shape)
    array = np.asarray(array, order=draw(st.sampled_from("CF")))
    array = array.transpose(draw(st.permutations(range(array.ndim))))
    step = draw(st.sampled_from([1, 2, -1]))
    return array[(..., slice(None, None, step))] if array.ndim else array


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays=st.lists(any_array(), max_size=6))
def test_any_arrays_come_back_with_their_bits_types_and_orders(arrays, tmp_path):
    state, _ = small_state()
    state.save(tmp_path / "state", **{str(i): array for i, array in enumerate(arrays)})
    loaded = load_state(tmp_path / "state").extras
    assert len(loaded) == len(arrays)
    for i, array in enumerate(arrays):
        assert_same_array(loaded[str(i)], array)


def assert_same_array(loaded, array):
    native = array.astype(array.dtype.newbyteorder("="))
    assert (loaded.dtype, loaded.shape) == (native.dtype, native.shape)
    assert loaded.tobytes() == native.tobytes()
    assert loaded.flags.writeable
    assert loaded.flags.aligned
    if array.flags.c_contiguous or array.flags.f_contiguous:
        assert loaded.flags.c_contiguous == array.flags.c_contiguous
        assert loaded.flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.parametrize("dtype", ["datetime64[s]", "U3", object, "V5"])
def test_refuses_an_array_of_a_type_that_has_no_place_in_a_file(dtype, tmp_path):
    state, _ = small_state()
    with pytest.raises(TypeError, match=r"extras\.label has dtype .*; it must be one of float16"):
        state.save(tmp_path / "state", label=np.zeros(3, dtype))
    assert os.listdir(tmp_path) == []


def test_numbers_and_lists_become_arrays(tmp_path):
    state, _ = small_state()
    state.save(tmp_path / "state", loss=[0.5, 0.25], epoch=7)
    extras = load_state(tmp_path / "state").extras
    assert extras["loss"].tolist() == [0.5, 0.25]
    assert extras["epoch"] == 7


def optimizers_of_numbers():
    positive, share = st.floats(0, 1e300), st.floats(0, 1, exclude_max=True)
    bound = st.floats(0, math.inf)
    return st.builds(
        RMSProp,
        positive | st.sampled_from(EVERY),
        share,
        positive,
        momentum=st.floats(1e-300, 0.9),
        nesterov=st.booleans(),
        centered=st.booleans(),
        weight_decay=positive,
        maximize=st.booleans(),
        clip_value=st.none() | st.floats(5e-324, 1e300),
        bounds=st.none() | st.tuples(bound.map(lambda b: -b), bound),
        nonfinite=st.sampled_from(["propagate", "skip", "raise"]),
    )


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(optimizer=optimizers_of_numbers())
def test_hyperparameters_come_back_exactly(optimizer, tmp_path):
    state, _ = small_state()
    state.optimizer = optimizer
    state.save(tmp_path / "state")
    assert load_state(tmp_path / "state").optimizer == optimizer


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
@pytest.mark.parametrize("kind", [RMSProp, SGD, AdaGrad, Adam, AdamW])
def test_every_optimizer_with_every_schedule_comes_back(kind, schedule, tmp_path):
    state, _ = small_state()
    state.optimizer = kind(schedule)
    state.save(tmp_path / "state")
    assert load_state(tmp_path / "state").optimizer == kind(schedule)


def test_a_rule_comes_back_as_it_was_written(tmp_path):
    state, _ = small_state(optimizer=RuleOptimizer(LION, learning_rate=0.1, beta=0.9, nonfinite="skip"))
    state.save(tmp_path / "state")
    again = load_state(tmp_path / "state").optimizer
    for name in ("name", "reads", "writes", "scalars", "body"):
        assert getattr(again.rule, name) == getattr(LION, name)
    assert (again.scalars, again.nonfinite) == ({"learning_rate": 0.1, "beta": 0.9}, "skip")


class OwnOptimizer(RMSProp):
    pass


@pytest.mark.parametrize(
    "optimizer",
    [
        RMSProp(lambda step: 0.1),
        SGD(schedules.join_schedules([lambda step: 0.1, schedules.constant_schedule(0.2)], [5])),
        OwnOptimizer(0.1),
    ],
    ids=["a function", "a function in a schedule", "a class"],
)
def test_a_users_code_is_not_written(optimizer, tmp_path):
    state, x = small_state(optimizer=optimizer)
    state.save(tmp_path / "state", x=x)
    resumed = load_state(tmp_path / "state")
    assert resumed.optimizer is None
    x_again = resumed.extras["x"]
    for each, of in ((x, state), (x_again, resumed)):
        optimizer.step(each, each.copy(), of)
    assert everything_of(NUMPY, x_again, resumed) == everything_of(NUMPY, x, state)


def test_other_programs_can_read_the_file(tmp_path):
    x = np.asfortranarray(np.arange(6, dtype="complex64").reshape(2, 3) * (1 + 2j))
    state, _ = small_state(x)
    state.save(tmp_path / "state", x=x)
    tensors = safetensors.numpy.load_file(tmp_path / "state")
    assert set(tensors) == {"state.square_average", "state.velocity", "extras.x"}
    assert (tensors["extras.x"][..., 0] == x.real.T).all()
    assert (tensors["extras.x"][..., 1] == x.imag.T).all()
    with safetensors.safe_open(tmp_path / "state", "numpy") as file:
        metadata = file.metadata()
    assert metadata["gpuprop.version"] == gpuprop.__version__
    description = json.loads(metadata["gpuprop.description"])
    assert description["step"] == 1
    assert description["optimizer"]["RMSProp"]["learning_rate"] == 0.05


def test_a_state_moves_between_backends(backend, tmp_path):
    x = parameters(backend, DTYPES["float32"])
    optimizer = everything(x)
    state = optimizer.init(x, backend=backend)
    run(backend, optimizer, x, state, range(5))
    history = np.arange(4)
    state.save(tmp_path / "state", x=x, history=history)

    moved = load_state(tmp_path / "state", backend=NUMPY)
    assert moved.backend is NUMPY
    lower, _ = moved.optimizer.bounds
    for array in (moved.extras["x"], moved.square_average, moved.extras["history"], lower):
        assert isinstance(array, np.ndarray)
    assert everything_of(NUMPY, moved.extras["x"], moved) == everything_of(backend, x, state)
    moved.save(tmp_path / "state", **moved.extras)

    back = load_state(tmp_path / "state", backend=backend)
    assert back.backend is backend
    lower, _ = back.optimizer.bounds
    for array in (back.extras["x"], back.square_average, lower):
        assert isinstance(array, backend.xp.ndarray)
    run(backend, optimizer, x, state, range(5, 8))
    run(backend, back.optimizer, back.extras["x"], back, range(5, 8))
    assert everything_of(backend, back.extras["x"], back) == everything_of(backend, x, state)


def test_an_array_on_the_host_stays_there(backend, tmp_path):
    x = parameters(backend, DTYPES["float32"])
    state = RMSProp().init(x, backend=backend)
    state.save(tmp_path / "state", x=x, history=np.arange(4))
    extras = load_state(tmp_path / "state").extras
    assert type(extras["x"]) is type(x)
    assert isinstance(extras["history"], np.ndarray)


def test_a_state_whose_device_is_gone_says_how_to_load_it(tmp_path, monkeypatch):
    def unavailable(name):
        raise gpuprop.DeviceUnavailableError("no CUDA device; mend: buy one")

    state, x = small_state()
    state.save(tmp_path / "state", x=x)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "select_backend", unavailable)
        with pytest.raises(
            gpuprop.DeviceUnavailableError, match=r"'numpy': .*buy one; or load it elsewhere: "
        ):
            load_state(tmp_path / "state")
        assert load_state(tmp_path / "state", backend=NUMPY).step == 1
    with pytest.raises(TypeError, match="backend is 'cpu'; it must be one that select_backend gave"):
        load_state(tmp_path / "state", backend="cpu")


@pytest.mark.skipif(ml_dtypes is None, reason="ml_dtypes, which brings bfloat16, is not installed")
def test_without_ml_dtypes_a_state_in_bfloat16_says_what_to_do(tmp_path, monkeypatch):
    state, x = small_state(np.ones(3, ml_dtypes.bfloat16))
    state.save(tmp_path / "state", x=x)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(
        ImportError, match=r"state has arrays of bfloat16, .*mend: python -m pip install ml_dtypes"
    ):
        load_state(tmp_path / "state")


# Damage


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    """The bytes of a small file with everything in it, and a place for a damaged one."""
    path = tmp_path_factory.mktemp("damage") / "state"
    x = np.linspace(0, 1, 3)
    state, _ = small_state(x, RMSProp(schedules.linear_schedule(0.1, 0.0, 9), bounds=(np.zeros(3), math.inf)))
    state.save(path, x=x)
    return path.read_bytes(), path


@pytest.mark.parametrize("flip", [0x01, 0x20, 0xFF])
def test_any_damaged_byte_is_an_error(whole_file, flip):
    content, path = whole_file
    path.write_bytes(content)
    assert load_state(path).step == 1
    damaged = bytearray(content)
    with open(path, "r+b", buffering=0) as file:
        for place in range(len(content)):
            damaged[place] ^= flip
            file.seek(0)
            file.write(damaged)
            with pytest.raises(ValueError, match=re.escape(f"{path} ")) as error:
                load_state(path)
            assert any(word in str(error.value) for word in ("damaged", "another program", "upgrade"))
            damaged[place] ^= flip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damaged_run_of_bytes_is_an_error(whole_file, data):
    content, path = whole_file
    place = data.draw(st.integers(0, len(content) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=40))[: len(content) - place]
    damaged = content[:place] + noise + content[place + len(noise) :]
    path.write_bytes(damaged)
    if damaged == content:
        assert load_state(path).step == 1
    else:
        with pytest.raises(ValueError, match=re.escape(f"{path} ")):
            load_state(path)


def test_a_truncated_or_longer_file_is_an_error(whole_file):
    content, path = whole_file
    path.write_bytes(content)
    for length in reversed(range(len(content))):
        os.truncate(path, length)
        with pytest.raises(
            ValueError, match=re.escape(f"{path} is truncated, damaged, or no file of State.save")
        ):
            load_state(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(
        ValueError, match=re.escape(f"{path} is truncated, damaged, or no file of State.save")
    ):
        load_state(path)


def test_the_error_names_the_array_that_is_damaged(whole_file):
    content, path = whole_file
    path.write_bytes(content[:-1] + b"?")
    last = safetensors.safe_open(path, "numpy").offset_keys()[-1]
    with pytest.raises(ValueError, match=f"is damaged in {last}; load another copy"):
        load_state(path)


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n" + bytes(100), b"{}", b"x" * 1000], ids=["PNG", "JSON", "x"]
)
def test_a_file_of_another_kind_is_an_error(content, tmp_path):
    path = tmp_path / "state"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=re.escape(f"{path} is truncated, damaged, or no file of State.save")
    ):
        load_state(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_safetensors_file_of_another_program_is_an_error(metadata, tmp_path):
    safetensors.numpy.save_file({"weight": np.ones(3)}, tmp_path / "state", metadata)
    with pytest.raises(ValueError, match="a safetensors file of another program; it must be one of"):
        load_state(tmp_path / "state")


def test_what_is_no_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_state(tmp_path / "nowhere")
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
        load_state(tmp_path)


def test_a_newer_file_says_what_to_do(tmp_path, monkeypatch):
    state, _ = small_state()
    with monkeypatch.context() as future:
        future.setattr(checkpoint, "FORMAT", 2)
        future.setattr(gpuprop, "__version__", "9.8.7")
        state.save(tmp_path / "state")
    with pytest.raises(
        ValueError,
        match=rf"was written by gpuprop 9\.8\.7 in format 2; this is gpuprop {gpuprop.__version__}, which "
        "reads up to format 1; mend: python -m pip install --upgrade gpuprop",
    ):
        load_state(tmp_path / "state")


def test_an_optimizer_of_a_newer_version_says_what_to_do(tmp_path, monkeypatch):
    from gpuprop import description

    state, _ = small_state(optimizer=OwnOptimizer())
    with monkeypatch.context() as future:
        future.setitem(description._KINDS, "OwnOptimizer", OwnOptimizer)
        future.setattr(gpuprop, "__version__", "9.8.7")
        state.save(tmp_path / "state")
    with pytest.raises(
        ValueError, match=r"an optimizer of gpuprop 9\.8\.7 .*'OwnOptimizer'.* --upgrade gpuprop"
    ):
        load_state(tmp_path / "state")


# The file is the old one or the new one


def assert_old_state_alone(path):
    assert os.listdir(path.parent) == [path.name]
    assert load_state(path).step == 1


@pytest.mark.parametrize("function", ["replace", "fsync", "chmod"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()], ids=repr)
def test_a_save_that_fails_leaves_the_old_file(function, error, tmp_path, monkeypatch):
    path = tmp_path / "state"
    state, _ = small_state()
    state.save(path)
    state.step = 2

    def fail(*args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(type(error)):
            state.save(path)
    assert_old_state_alone(path)


@pytest.mark.skipif(os.name != "posix", reason="directories are synchronised on POSIX")
def test_a_file_is_on_the_disk_before_it_takes_its_name_and_the_name_is_afterwards(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor):
        calls.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def recorded_replace(source, target):
        calls.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    small_state()[0].save(tmp_path / "state")
    assert calls == ["file", "name", "directory"]


@pytest.mark.skipif(os.name != "posix", reason="resource limits are POSIX")
def test_a_full_disk_leaves_the_old_file_and_is_told(tmp_path):
    path = tmp_path / "state"
    small_state()[0].save(path)
    script = (
        "import resource, signal, sys, numpy as np, test_checkpoint as test\n"
        "state, _ = test.small_state()\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    state.save(sys.argv[1], x=np.zeros(100_000))\n"
        "except OSError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path], cwd=HERE, check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f"[Errno {errno.EFBIG}] {os.strerror(errno.EFBIG)}: '{path}'\n"
    assert_old_state_alone(path)


@pytest.mark.skipif(os.name != "posix", reason="fork and SIGKILL are POSIX")
def test_two_hundred_kills_amidst_saving_lose_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, HERE / "kill_while_saving.py", tmp_path / "state", "200", "1"],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    kills, unfinished, step = map(int, done.stdout.split())
    assert kills == 200
    assert unfinished >= 20  # kills that came while a file was being written
    assert step >= 20


def test_a_file_can_be_read_while_another_takes_its_place(tmp_path):
    path = tmp_path / "state"
    state, _ = small_state()
    state.save(path, x=np.full(1000, state.step))
    stop = threading.Event()

    def save_on():
        while not stop.is_set():
            state.step += 1
            state.save(path, x=np.full(1000, state.step))

    saver = threading.Thread(target=save_on)
    saver.start()
    try:
        seen = [load_state(path) for _ in range(200)]
    finally:
        stop.set()
        saver.join()
    assert all((loaded.extras["x"] == loaded.step).all() for loaded in seen)
    steps = [loaded.step for loaded in seen]
    assert steps == sorted(steps)
    assert len(set(steps)) > 1


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_permissions_are_those_of_the_old_file_or_of_any_new_one(tmp_path):
    state, _ = small_state()
    path, other = tmp_path / "state", tmp_path / "other"
    state.save(path)
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode
    path.chmod(0o640)
    state.save(path)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name != "posix", reason="symbolic links need rights on Windows")
def test_a_symbolic_link_is_followed(tmp_path):
    state, _ = small_state()
    (tmp_path / "runs").mkdir()
    target, link = tmp_path / "runs" / "7", tmp_path / "latest"
    link.symlink_to(target)
    for step in (1, 2):
        state.step = step
        state.save(link)
        assert link.is_symlink()
        assert load_state(link).step == load_state(target).step == step
    assert os.listdir(tmp_path / "runs") == ["7"]


def test_a_path_that_cannot_be_written_is_an_error_of_the_system(tmp_path):
    state, _ = small_state()
    with pytest.raises(IsADirectoryError if os.name == "posix" else OSError, match=re.escape(str(tmp_path))):
        state.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        state.save(tmp_path / "nowhere" / "state")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="there are no such files")
def test_a_device_is_not_replaced(tmp_path):
    state, _ = small_state()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is no regular file; a state must be saved to one"):
        state.save(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write to any file")
def test_a_read_only_file_is_not_replaced(tmp_path):
    path = tmp_path / "state"
    state, _ = small_state()
    state.save(path)
    path.chmod(0o400)
    state.step = 2
    with pytest.raises(PermissionError, match="state"):
        state.save(path)
    assert_old_state_alone(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is told in other units elsewhere")
def test_neither_saving_nor_loading_copies_an_array(tmp_path):
    """The greatest memory of a process rises by one array for each that is loaded, and by none to save."""
    script = (
        "import resource, sys, numpy as np, gpuprop, test_checkpoint as test\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "x = np.ones((1000, 5_000), order='F')\n"
        "state = gpuprop.RMSProp().init(x, backend=test.NUMPY)\n"
        "test.small_state()[0].save(sys.argv[1])\n"
        "before = peak()\n"
        "state.save(sys.argv[1], x=x)\n"
        "saved = peak()\n"
        "del x, state\n"
        "test.small_state()[0].save(sys.argv[1] + '2')\n"
        "loaded = gpuprop.load_state(sys.argv[1])\n"
        "print((saved - before) / 40e6, (peak() - before) / 40e6)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "state"],
        cwd=HERE, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    more_to_save, more_to_load = map(float, done.stdout.split())
    assert more_to_save < 0.05
    assert more_to_load < 0.05
