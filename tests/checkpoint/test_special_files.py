"""What is no regular file is neither read nor replaced, and nobody waits for it."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from saved_states import small_state

from gpuprop import load_state

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no such files")


@pytest.fixture
def fifo(tmp_path):
    """One that nobody writes to; who waits for it is set free after a while, to fail."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    script = (
        "import os, time\n"
        "while True:\n"
        "    time.sleep(5)\n"
        "    os.close(os.open('pipe', os.O_RDWR | os.O_NONBLOCK))\n"
    )
    with subprocess.Popen([sys.executable, "-S", "-c", script], cwd=tmp_path) as watch:
        yield path
        watch.kill()


@pytest.mark.parametrize("kind", ["pipe", "link", "socket", "device"])
def test_what_is_no_regular_file_is_refused_at_once(kind, fifo, tmp_path, monkeypatch):
    path = Path("/dev/null") if kind == "device" else tmp_path / kind
    if kind == "link":
        path.symlink_to(fifo)
    monkeypatch.chdir(tmp_path)  # the paths of sockets must be short
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "socket":
            server.bind(kind)
        state, _ = small_state()
        before, began = os.stat(path), time.monotonic()
        with pytest.raises(ValueError, match="is no regular file; a state must be saved to one"):
            state.save(path)
        with pytest.raises(ValueError, match=f"{path} is no regular file; a state must be loaded from one"):
            load_state(path)
        assert time.monotonic() - began < 4
        assert os.path.samestat(os.stat(path), before)


def test_nor_does_one_that_takes_its_place_meanwhile_make_anybody_wait(fifo, tmp_path):
    path, good = tmp_path / "state", tmp_path / "good"
    state, _ = small_state()
    state.save(good)
    os.link(good, path)
    script = (
        "import os\n"
        "while True:\n"
        "    for each in ('pipe', 'good'):\n"
        "        os.link(each, 'new')\n"
        "        os.replace('new', 'state')\n"
    )
    loaded = refused = 0
    with subprocess.Popen([sys.executable, "-S", "-c", script], cwd=tmp_path) as swapping:
        began = time.monotonic()
        try:
            while time.monotonic() - began < 60 and min(loaded, refused) < 200:
                try:
                    loaded += load_state(path).step
                except ValueError as error:
                    assert "state is no regular file" in str(error)  # noqa: PT017 - that is as right
                    refused += 1
        finally:
            swapping.kill()
    assert min(loaded, refused) >= 200
