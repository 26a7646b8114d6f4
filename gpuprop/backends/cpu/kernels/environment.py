"""What machine code depends on beside its kernel: versions, the processor, and what is said to Numba."""

from __future__ import annotations

import os
import platform
import re
import sys
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from gpuprop.version import __version__

#: The number of Linux's call by which threads sleep and wake each other; None where there is none.
_FUTEXES = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
FUTEX = _FUTEXES.get(platform.machine()) if sys.platform == "linux" else None


@cache
def text() -> str:
    """All of it, for the key of what is kept."""
    import llvmlite.binding as llvm

    named = {name: value for name, value in os.environ.items() if name.startswith("NUMBA_")}
    own = sorted(Path(__file__).parent.glob("*.py"))
    facts = {
        "gpuprop": __version__,
        "room": [sha256(file.read_bytes()).hexdigest() for file in own],
        "python": (sys.version, sys.implementation.cache_tag, object.__basicsize__),
        "numpy": np.__version__,
        "numba": _version_file("numba"),
        "llvmlite": _version_file("llvmlite"),
        "llvm": llvm.llvm_version_info,
        "machine": (platform.machine(), llvm.get_process_triple()),
        "processor": (llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()),
        "settings": (sorted(named.items()), _settings_file()),
    }
    return repr(facts)


def _settings_file() -> bytes:
    """What Numba reads for the same settings, where the process was started."""
    try:
        return Path(".numba_config.yaml").read_bytes()
    except OSError:
        return b""


@cache
def _version_file(package: str) -> str:
    """The text that holds the version: to import the package, or to ask for its metadata, takes longer."""
    spec = find_spec(package) if sys.modules.get(package, package) is not None else None
    if spec is None or spec.origin is None:
        raise ImportError(f"No module named {package!r}")
    try:
        return Path(spec.origin).with_name("_version.py").read_text()
    except OSError:
        from importlib.metadata import version

        return version(package)


@cache
def numba_version() -> str:
    found = re.search(r'"version": "([^"]+)"|^([\w.+]+)$', _version_file("numba"))
    return found[1] or found[2] if found else "of unknown version"


def compiler_is_off() -> bool:
    """Whether the user has switched Numba's compiler off."""
    if "numba" in sys.modules:
        return bool(sys.modules["numba"].config.DISABLE_JIT)
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


@cache
def converts_half() -> bool:
    """Whether the processor that Numba compiles for has instructions for it: without, LLVM would
    call functions that are not there."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    if os.environ.get("NUMBA_CPU_NAME"):
        return "+f16c" in os.environ.get("NUMBA_CPU_FEATURES", "")
    import llvmlite.binding as llvm

    return bool(llvm.get_host_cpu_features().get("f16c"))
