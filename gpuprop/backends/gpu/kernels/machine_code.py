"""The compiled code of a kernel, and what it does: read from machine code, or from PTX."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Kernel:
    """Compiled code of one kernel.

    Attributes
    ----------
    code : str
        The machine code (SASS), or PTX where no disassembler knows the architecture.
    is_machine_code : bool
    registers : int
        32-bit registers of a thread.
    local_bytes : int
        Stack frame and spills of a thread, which would live in memory.
    """

    code: str
    is_machine_code: bool
    registers: int
    local_bytes: int

    def accesses(self) -> Counter[tuple[str, int]]:
        """Global loads and stores an element: ``("ld" or "st", bits)`` to their number."""
        if not self.is_machine_code:
            pattern = r"\b(ld|st)(?:\.volatile)?\.global(?:\.(?!v\d)\w+)*?(?:\.v(\d))?\.[bfsu](\d+)\s"
            found = re.findall(pattern, self.code)
            return Counter((kind, int(many or 1) * int(bits)) for kind, many, bits in found)
        # A generic LD or ST, without the G, may be a global one too.
        found = re.findall(r"\b(LD|ST)G?((?:\.\w+)*) ", self.code)
        return Counter((kind.lower(), _width(modifiers)) for kind, modifiers in found)

    def local_accesses(self) -> list[str]:
        """Loads and stores of a thread's own memory."""
        return self._operations(r"(?:LD|ST)L", r"(?:ld|st)\.local")

    def atomics(self) -> list[str]:
        """Operations on memory between which no other thread's can fall."""
        return self._operations(r"(?:RED|ATOM)G?", r"red|atom")

    def float64(self) -> list[str]:
        """Operations in double precision, and conversions to it."""
        return self._operations(r"D[A-Z]+|MUFU\.\w+64H|F2F(?:\.\w+)*\.F64", r"[a-z][\w.]*\.f64")

    def special_functions(self) -> list[str]:
        """Reciprocals and roots: approximations in machine code, whole operations in PTX."""
        return self._operations("MUFU", r"(?:sqrt|div|rcp|rsqrt)(?:\.\w+)*\.f(?:32|64)")

    def slow_paths(self) -> list[str]:
        """Calls for operands that the inline sequences of a division or a root do not handle."""
        return self._operations("CALL", "call")

    def contractions(self) -> list[str]:
        """Fused multiply-adds as written in the source; a division's own do not show in PTX."""
        return self._operations("(?!)", r"fma")

    def _operations(self, machine: str, ptx: str) -> list[str]:
        pattern = machine if self.is_machine_code else ptx
        return re.findall(rf"(?<![\w.])(?:{pattern})(?![A-Za-z0-9])[\w.]*", self.code)


def _width(modifiers: str) -> int:
    names = modifiers.split(".")
    wide = next((int(n) for n in names if n in ("64", "128", "256")), None)
    return wide or next((int(n[1:]) for n in names if re.fullmatch(r"[US](8|16)", n)), 32)


@cache
def disassembler() -> str | None:
    """``nvdisasm``, of a CUDA toolkit or of the wheel ``nvidia-cuda-nvdisasm``."""
    wheels = find_spec("nvidia")
    folders = wheels.submodule_search_locations if wheels else None
    found = [path for folder in folders or () for path in Path(folder).glob("*/bin/nvdisasm")]
    return shutil.which("nvdisasm") or (str(found[0]) if found else None)


def disassemble(cubin: bytes) -> str | None:
    program = disassembler()
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.cubin")
        file.write_bytes(cubin)
        done = subprocess.run([program, "-c", "-ndf", file], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None  # it knows only some generations
