"""Machine code into memory, by LLVM's loader alone: no compiler is imported for it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Code(NamedTuple):
    """An object file, and the symbol of its function."""

    symbol: str
    object_file: bytes


_engines: list[Any] = []  # the code is in memory as long as its engine


def load(code: Code) -> int:
    """The address of the function.

    Each has an engine of its own: names of helpers in it may be those of others in other code.
    """
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code.object_file))
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address(code.symbol)
