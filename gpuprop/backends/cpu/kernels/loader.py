"""Machine code into memory, by LLVM's loader alone: no compiler is imported for it."""

from __future__ import annotations

import ctypes
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Code(NamedTuple):
    """An object file, and the symbol of its function."""

    symbol: str
    object_file: bytes


def kept_for_ever(value: T) -> T:
    """What is there beyond the end of Python, at which modules lose all they have.

    Functions that are collected later point to it, and threads may be asleep in it.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
    return value


def load(code: Code) -> int:
    """The address of the function.

    Each has an engine of its own: names of helpers in it may be those of others in other code.
    """
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = kept_for_ever(llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine))
    engine.add_object_file(llvm.ObjectFileRef.from_data(code.object_file))
    engine.finalize_object()
    return engine.get_function_address(code.symbol)
