"""Programs of several ranks: under ``mpiexec``, each calls one function and gives back what that returns.

A test calls ``run(function, ranks, *arguments)``, and has a list of what the ranks returned. The function
is one of a module beside the test; arguments and results travel by pickle, NumPy's arrays too. Starting
ranks takes about a second: a function goes through many cases. What ends otherwise is a `Job`.
"""

from __future__ import annotations

import importlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: The one of the environment that runs the tests, before any other.
MPIEXEC = shutil.which("mpiexec", path=os.path.dirname(sys.executable)) or shutil.which("mpiexec")
BEGIN = time.time()
#: For programs that need no GPU.
HIDDEN = {"CUDA_VISIBLE_DEVICES": ""}


def devices() -> int:
    import cupy

    return cupy.cuda.runtime.getDeviceCount()


def need_devices(ranks: int) -> None:
    """Skip a test of ranks that have a GPU each, where there are fewer."""
    import pytest

    if (count := devices()) < ranks:
        pytest.skip(f"{ranks} ranks have a GPU each, and there are {count}")


def run(function: Callable[..., Any], ranks: int, *arguments: Any, timeout: float = 100, **how: Any) -> list:
    """What each rank's ``function(*arguments)`` returned; `how` is as of `Job`."""
    with Job(function, ranks, *arguments, **how) as job:
        assert job.wait(timeout) == 0, job.report()
        return job.results()


class Job:
    """Ranks that run, for a ``with`` block, after which none is left.

    Parameters
    ----------
    function : callable
        Of a module; each rank calls it with the `arguments`.
    ranks : int
        How many.
    gpu : bool
        Show CUDA devices: a software device has one for each rank. By default none is seen.
    plain : bool
        Without ``-m mpi4py``: nothing but the program itself ends a job of which one rank raises.
    environment : dict, optional
        Variables for the ranks.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        ranks: int,
        *arguments: Any,
        gpu: bool = False,
        plain: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.ranks, self.folder = ranks, Path(tempfile.mkdtemp(prefix="gpuprop-ranks-"))
        call = (sys.path, function.__module__, function.__name__, arguments)
        Path(self.folder, "call").write_bytes(pickle.dumps(call))
        if gpu:
            need_devices(ranks)
        module = [] if plain else ["-m", "mpi4py"]
        with open(self.folder / "out", "wb") as out, open(self.folder / "err", "wb") as err:
            self.process = subprocess.Popen(
                [MPIEXEC, "-n", str(ranks), sys.executable, "-W", "error", *module, __file__, self.folder],
                env=os.environ | ({} if gpu else HIDDEN) | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,  # Ctrl-C at the tests is theirs alone
            )

    def pid(self, rank: int, timeout: float = 60) -> int:
        """The process of a rank, as soon as it is about to call the function."""
        return int(self.told(f"{rank}.pid", timeout))

    def told(self, name: str, timeout: float = 60) -> str:
        """What a rank has told by `tell`, waited for."""
        end = time.monotonic() + timeout
        while not (self.folder / name).exists():
            assert self.process.poll() is None, f"the job ended before it told {name}\n{self.report()}"
            assert time.monotonic() < end, f"nobody told {name} in {timeout} s\n{self.report()}"
            time.sleep(0.005)
        return (self.folder / name).read_text()

    def wait(self, timeout: float = 100) -> int:
        """The exit status of ``mpiexec``; a job that does not end is a failure."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the job did not end in {timeout} s\n{self.report()}") from None

    def results(self) -> list:
        return [pickle.loads((self.folder / f"{rank}.result").read_bytes()) for rank in range(self.ranks)]

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text(errors="replace")

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text(errors="replace")

    def report(self) -> str:
        return f"status {self.process.poll()}\n{self.out}\n{self.err}"

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()  # its ranks die with it
        self.process.wait()
        for file in self.folder.glob("*.pid"):
            _kill(int(file.read_text()), str(self.folder))
        if self.process.returncode:
            remove_left_over()
        shutil.rmtree(self.folder, ignore_errors=True)


def _kill(pid: int, mark: str) -> None:
    """End a rank that its launcher has left, or was about to end."""
    try:
        if mark in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    except OSError:
        pass  # it has ended, or there is no such folder on this system


def remove_left_over() -> None:
    """Delete the shared memory, 2 to 4 MB, that each killed job of MPICH leaves, where no process has it."""
    files = [file for file in Path("/dev/shm").glob("mpich_shm_*") if _age(file) > 2]
    if files:
        maps = [_text(file) for file in Path("/proc").glob("[0-9]*/maps")]
        for file in files:
            if not any(file.name in text for text in maps):
                file.unlink(missing_ok=True)


def _age(file: Path) -> float:
    """In seconds; 0 for what was there before the tests, or is gone."""
    try:
        made = file.stat().st_mtime
    except OSError:
        return 0.0
    return time.time() - made if made >= BEGIN else 0.0


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def tell(name: str, text: str = "") -> None:
    """Let the test know, from inside a rank: it waits by `Job.told`."""
    new = Path(sys.argv[1], f"{name}.new")
    new.write_text(text)
    new.rename(Path(sys.argv[1], name))


def main(folder: Path) -> None:
    path, module, name, arguments = pickle.loads(Path(folder, "call").read_bytes())
    sys.path[:] = path
    # As this module's own name, so that a program's `from launch import tell` has the same one.
    sys.modules["launch"] = sys.modules["__main__"]
    function = getattr(importlib.import_module(module), name)
    from mpi4py import MPI

    rank = MPI.COMM_WORLD.Get_rank()
    tell(f"{rank}.pid", str(os.getpid()))
    Path(folder, f"{rank}.result").write_bytes(pickle.dumps(function(*arguments)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
