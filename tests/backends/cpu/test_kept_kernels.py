"""Kernels that are kept between processes: compiled once, by whomever, and nobody else's code is run."""

import ast
import os
import resource
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gpuprop
from gpuprop.backends.cpu.backend import CPUBackend
from gpuprop.backends.cpu.kernels import environment, kernel, store
from gpuprop.backends.cpu.kernels.loader import Code

pytestmark = pytest.mark.skipif(os.name != "posix", reason="asks for modes, owners, limits and forks")


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


#: Steps; prints what was compiled for them, which libraries are loaded, and the bits.
STEPS = """
import os, sys, zlib
import numpy, gpuprop
from gpuprop.backends.cpu.kernels import kernel
{before}
def step(size=2, dtype="float64", optimizer=gpuprop.RMSProp(0.01)):
    x = numpy.linspace(1, 2, size, dtype=dtype)
    state = optimizer.init(x)
    for _ in range(3):
        optimizer.step(x, numpy.sin(x), state)
    return zlib.crc32(x.tobytes())
bits = [{steps}]
print([kernel.compiled_here, [name in sys.modules for name in ("numba", "scipy")], bits])
"""
ENTRY_AND_KERNEL = ["entry", "rmsprop"]


def command(steps="step()", before=""):
    return [sys.executable, "-c", STEPS.format(steps=steps, before=before)]


def run(folder, steps="step()", before="", limit=None, **environment_):
    """What was compiled, what was loaded, and the bits; what is on stderr fails, but for a warning."""
    limits = None if limit is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    done = subprocess.run(
        command(steps, before), env=os.environ | {"GPUPROP_CACHE": str(folder)} | environment_,
        capture_output=True, text=True, timeout=200, preexec_fn=limits,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *compiled, loaded, bits = ast.literal_eval(done.stdout)
    return compiled[0], loaded, bits, done.stderr


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with the kernel of one rule, and the bits of its steps."""
    folder = tmp_path_factory.mktemp("kept")
    compiled, _, bits, errors = run(folder)
    assert (compiled, errors) == (ENTRY_AND_KERNEL, "")
    return folder, bits


@pytest.fixture
def own(kept, tmp_path):
    """A copy of it to spoil."""
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    for file in kept[0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
        (folder / file.name).chmod(0o600)
    return folder, kept[1]


def test_a_second_process_compiles_nothing_and_imports_no_compiler(kept):
    folder, bits = kept
    assert run(folder) == ([], [False, False], bits, "")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()] == [0o600] * 2


def test_without_files_the_bits_are_the_same_and_none_are_written(kept, tmp_path):
    homes = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "caches")}
    compiled, _, bits, errors = run(0, **homes)
    assert (compiled, bits, errors) == (ENTRY_AND_KERNEL, kept[1], "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_many_kernels_on_threads_and_in_forked_children(tmp_path):
    steps = (
        "step(600_000), step(600_000, 'float16'), step(9, 'complex64'), "
        "step(9, optimizer=gpuprop.Adam('auto', clip_norm=1, nonfinite='skip')), "
        "step(600_000, 'float32', optimizer=gpuprop.Adam('auto', clip_norm=1, nonfinite='raise')), "
        "os.waitpid(child, 0)[1] if (child := os.fork()) else os._exit(step(600_000) == 0)"
    )
    before = "gpuprop.set_num_threads(2)"
    compiled, _, bits, _ = run(tmp_path, steps, before)
    # Code that only this process can run would not be there.
    assert len(compiled) == len(list(tmp_path.iterdir())) > 10
    assert bits[-1] == 0
    again = run(tmp_path, steps, before)
    assert again == ([], [False, False], bits, "")
    pooled = f"{before}; import gpuprop.backends.cpu.pool as p; p.team_is_there = lambda: False"
    compiled, _, *rest = run(tmp_path, steps, pooled)
    assert (compiled, rest) == (["add", "finish"], [bits, ""])
    assert run(tmp_path, steps, pooled) == again
    assert run(0, steps, before)[2] == bits


@pytest.mark.slow
def test_processes_that_begin_at_once(kept, tmp_path):
    environment_ = os.environ | {"GPUPROP_CACHE": str(tmp_path)}
    at_once = [subprocess.Popen(command(), env=environment_, stdout=subprocess.PIPE) for _ in range(3)]
    assert [ast.literal_eval(each.communicate(timeout=200)[0].decode())[2] for each in at_once] == [
        kept[1]
    ] * 3
    assert run(tmp_path)[0] == []
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_writes(kept, tmp_path):
    kill = "import signal\nos.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
    killed = subprocess.run(command(before=kill), env=os.environ | {"GPUPROP_CACHE": str(tmp_path)})
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    assert run(tmp_path)[:3:2] == (ENTRY_AND_KERNEL, kept[1])
    assert left.exists()  # another process may be writing it
    an_age_ago = time.time() - store.ABANDONED - 60
    os.utime(left, (an_age_ago, an_age_ago))
    run(tmp_path, "step(2, 'float32')")
    assert not left.exists()
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.slow
def test_a_disk_that_is_full(kept, tmp_path):
    compiled, _, bits, errors = run(tmp_path, limit=1000)
    assert (compiled, bits, errors) == (ENTRY_AND_KERNEL, kept[1], "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["/proc/gpuprop", "a file", "read-only"])
def test_a_place_that_cannot_be_written(place, kept, tmp_path):
    if place == "a file":
        (tmp_path / "file").touch()
        place = tmp_path / "file" / "folder"
    elif place == "read-only":
        if os.geteuid() == 0:
            pytest.skip("root can write everywhere")
        place = tmp_path / "folder"
        place.mkdir(mode=0o500)
    assert run(place)[::2] == (ENTRY_AND_KERNEL, kept[1])
    assert run(place)[3] == ""


def test_a_folder_that_is_only_read_serves(own):
    folder, bits = own
    for file in folder.iterdir():
        file.chmod(0o400)
    folder.chmod(0o500)
    assert run(folder) == ([], [False, False], bits, "")
    folder.chmod(0o700)


@pytest.mark.parametrize("mode", [0o777, slow(0o770), slow(0o1777)])
@pytest.mark.parametrize("which", ["folder", slow("parent")])
def test_a_folder_that_others_can_write_to_is_not_used(own, mode, which):
    folder, bits = own
    files = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    opened = folder if which == "folder" else folder.parent
    opened.chmod(mode)
    compiled, _, same, errors = run(folder)
    assert same == bits
    if mode & stat.S_ISVTX and which == "parent":  # as /tmp: nobody can rename what is another's
        assert (compiled, errors) == ([], "")
    else:
        assert compiled == ENTRY_AND_KERNEL
        assert (
            f"RuntimeWarning: kernels are not kept in GPUPROP_CACHE: others can write to {opened}" in errors
        )
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == files


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("which", [slow("folder"), slow("parent"), "file"])
def test_what_is_another_users_is_not_used(own, which):
    folder, bits = own
    for place in {"folder": [folder], "parent": [folder.parent], "file": folder.iterdir()}[which]:
        os.chown(place, 12345, -1)
    compiled, _, same, errors = run(folder)
    assert (compiled, same) == (ENTRY_AND_KERNEL, bits)
    assert ("others can write to" in errors) == (which != "file")


@pytest.mark.parametrize("mend", ["mode", slow("link")])
def test_a_file_that_others_could_have_written_is_replaced(own, mend, tmp_path):
    folder, bits = own
    for file in list(folder.iterdir()):
        if mend == "mode":
            file.chmod(0o620)
        else:
            file.symlink_to(file.rename(tmp_path / file.name))
    assert run(folder)[:3:2] == (ENTRY_AND_KERNEL, bits)
    assert run(folder)[0] == []
    assert all(not f.is_symlink() and stat.S_IMODE(f.stat().st_mode) == 0o600 for f in folder.iterdir())


@pytest.mark.parametrize(
    "spoil", [lambda c: c[:-1], slow(lambda c: b""), slow(lambda c: c[:900] + b"!" + c[901:])]
)
def test_a_spoilt_file_is_compiled_anew(own, spoil):
    folder, bits = own
    for file in folder.iterdir():
        file.write_bytes(spoil(file.read_bytes()))
    assert run(folder)[:3:2] == (ENTRY_AND_KERNEL, bits)
    assert run(folder)[:3:2] == ([], bits)


def test_no_byte_of_a_file_can_be_another(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_folder", lambda: tmp_path)
    code = Code("symbol", b"\0object" * 10)
    store.write("key", code)
    assert store.read("key") == code
    assert store.read("other") is None
    content = (tmp_path / "key").read_bytes()
    for at in range(len(content)):
        for spoilt in (content[:at], content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]):
            (tmp_path / "key").write_bytes(spoilt)
            assert store.read("key") is None
    (tmp_path / "key").unlink()
    (tmp_path / "key").mkdir()
    assert store.read("key") is None
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert store.read("pipe") is None  # and does not wait for who writes


def test_what_the_code_depends_on_is_in_the_key(monkeypatch, kept):
    def key():
        environment.text.cache_clear()
        return store.key_of("rule")

    import llvmlite.binding as llvm
    import numpy

    keys = {key(), key()}
    assert len(keys) == 1
    for owner, name, value in (
        (environment, "__version__", "9"), (numpy, "__version__", "9"), (sys, "version", "9"),
        (environment, "_version_file", lambda package: "9"), (llvm, "get_host_cpu_name", lambda: "abacus"),
        (llvm, "llvm_version_info", (9, 9, 9)),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, value)
        keys.add(key())
    monkeypatch.setenv("NUMBA_OPT", "1")
    keys.add(key())
    assert len(keys) == 8
    assert len({store.key_of(text) for text in ("rule", "rule 2")}) == 2
    monkeypatch.undo()
    assert key() in keys


@pytest.mark.slow
def test_another_processor_has_code_of_its_own(own):
    folder, bits = own
    name = "x86-64" if os.uname().machine == "x86_64" else "generic"
    compiled = [run(folder, NUMBA_CPU_NAME=name)[0] for _ in range(2)]
    assert compiled == [ENTRY_AND_KERNEL, []]
    assert run(folder)[:3:2] == ([], bits)


@pytest.mark.slow
def test_another_text_of_a_rule_is_another_kernel(own):
    folder, _ = own
    rule = "optimizer=gpuprop.RuleOptimizer(gpuprop.Rule('rmsprop', ('g',), ('x',), (), 'x = x - {} * g'))"
    steps = f"step({rule.format(2)}), step({rule.format(3)})"
    compiled, _, bits, _ = run(folder, steps)
    assert compiled == ["rmsprop", "rmsprop"]
    assert bits[0] != bits[1]
    assert run(folder, steps) == ([], [False, False], bits, "")


@pytest.mark.parametrize("value", ["", "1"])
@pytest.mark.parametrize("cache_home", [True, False])
def test_the_folder_by_default(value, cache_home, tmp_path):
    homes = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "xdg") if cache_home else "not/absolute"}
    ask = "from gpuprop.backends.cpu.kernels import store; print(store._folder())"
    shown = subprocess.run(
        [sys.executable, "-c", ask], env=os.environ | homes | {"GPUPROP_CACHE": value}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    folder = Path(shown.stdout.strip())
    if sys.platform == "linux":
        assert folder == tmp_path / ("xdg" if cache_home else ".cache") / "gpuprop"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_depends_on_where_one_is_is_refused(monkeypatch):
    monkeypatch.setenv("GPUPROP_CACHE", "kernels")
    with pytest.raises(ValueError, match=r"GPUPROP_CACHE is 'kernels'; it must be 0 .* or the absolute path"):
        store._folder.__wrapped__()


def test_arrays_that_lie_otherwise_are_found_out_before_any_kernel_looks_at_one(monkeypatch):
    for place, words in enumerate(kernel.PLACES):
        moved = (*kernel.PLACES[:place], words - 1, *kernel.PLACES[place + 1 :])
        with monkeypatch.context() as patch:
            patch.setattr(kernel, "PLACES", moved)
            with pytest.raises(gpuprop.DeviceUnavailableError, match="keeps arrays in memory in a way"):
                CPUBackend()
    assert CPUBackend().name == "cpu"


def test_other_files_in_the_folder_are_left_alone(own):
    folder, *_ = own
    others = [folder / name for name in ("thesis.tex", ".bashrc", "f" * 64 + ".txt")]
    abandoned = folder / f"{'a' * 64}.12.34"
    for file in (*others, abandoned):
        file.write_text("mine")
        os.utime(file, (time.time() - 2 * store.ABANDONED,) * 2)
    (folder / "a.folder").mkdir()
    run(folder, "step(optimizer=gpuprop.SGD(0.1))")
    assert all(file.exists() for file in others)
    assert not abandoned.exists()


@pytest.mark.slow
def test_the_folders_above_are_made_for_this_user_alone(tmp_path):
    run("1", before="os.umask(0o002)", HOME=str(tmp_path), XDG_CACHE_HOME="")
    assert stat.S_IMODE((tmp_path / ".cache").stat().st_mode) == 0o700
    assert run("1", HOME=str(tmp_path), XDG_CACHE_HOME="")[0] == []


def test_a_fork_while_another_thread_compiles(tmp_path):
    """Whoever forks waits for the locks in the order in which whoever compiles takes them."""
    before = """
import threading
from gpuprop.backends.cpu.kernels import store
read, reading = store.read, threading.Event()
def slowly(key):
    reading.set()
    time.sleep(0.3)
    return read(key)
import time
step(optimizer=gpuprop.SGD(0.1))
store.read = slowly
thread = threading.Thread(target=lambda: step(optimizer=gpuprop.AdaGrad()))
thread.start()
reading.wait()
child = os.fork()
if child == 0:
    step(optimizer=gpuprop.Adam())
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
thread.join()
"""
    code = STEPS.format(before="", steps="") + before
    subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"GPUPROP_CACHE": "0"}, check=True, timeout=60
    )
