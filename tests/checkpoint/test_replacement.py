import errno
import os
import re
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from saved_states import small_state

from gpuprop import load_state

HERE = Path(__file__).parent


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
        "import resource, signal, sys, numpy as np, saved_states\n"
        "state, _ = saved_states.small_state()\n"
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


@pytest.mark.slow
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


@pytest.mark.skipif(os.name == "nt", reason="Windows replaces no file that is open")
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
        end = time.monotonic() + 60  # for a disk that is slow to write
        while seen[-1].step == seen[0].step and time.monotonic() < end:
            seen.append(load_state(path))
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


@pytest.mark.skipif(os.name != "posix", reason="paths are bytes on POSIX")
def test_a_path_may_be_bytes(tmp_path):
    state, x = small_state()
    state.save(os.fsencode(tmp_path / "state"), x=x)
    state.save(os.fsencode(tmp_path / "state"), x=x)
    np.testing.assert_array_equal(load_state(os.fsencode(tmp_path / "state")).extras["x"], x)
    (tmp_path / "state").write_bytes(b"?")
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))}"):
        load_state(os.fsencode(tmp_path / "state"))


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
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
    with pytest.raises(IsADirectoryError if os.name == "posix" else OSError, match=re.escape(tmp_path.name)):
        state.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        state.save(tmp_path / "nowhere" / "state")
    assert os.listdir(tmp_path) == []


OWNER, GROUP = 12345, 23456
OWN_GROUP = os.getegid() if os.name == "posix" else None


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(
    ("allowed", "becomes"),
    [
        ("both", (OWNER, GROUP, 0o664)),
        ("the group", (0, GROUP, 0o664)),
        ("neither", (0, OWN_GROUP, 0o644)),  # not what was the group's for another group
    ],
)
def test_the_owner_and_the_group_are_those_of_the_old_file(allowed, becomes, tmp_path, monkeypatch):
    path = tmp_path / "state"
    state, _ = small_state()
    state.save(path)
    path.chmod(0o664)
    os.chown(path, OWNER, GROUP)
    chown = os.chown

    def limited_chown(path, owner, group):
        if allowed == "neither" or (allowed == "the group" and owner != -1):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        chown(path, owner, group)

    with monkeypatch.context() as patch:
        patch.setattr(os, "chown", limited_chown)
        state.step = 2
        state.save(path)
    now = path.stat()
    assert (now.st_uid, now.st_gid, now.st_mode & 0o777) == becomes
    assert load_state(path).step == 2


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="extended attributes are Linux's")
def test_so_is_its_access_control_list(tmp_path):
    path = tmp_path / "state"
    state, _ = small_state()
    state.save(path)
    nobody = 0xFFFFFFFF
    entries = [(1, 6, nobody), (2, 4, OWNER), (4, 0, nobody), (0x10, 4, nobody), (0x20, 0, nobody)]
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", access)
    except OSError as error:
        pytest.skip(f"this file system has none: {error}")
    mode = path.stat().st_mode
    state.save(path)
    assert os.getxattr(path, "system.posix_acl_access") == access
    assert path.stat().st_mode == mode


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
