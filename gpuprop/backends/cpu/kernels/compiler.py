"""Numba: from a kernel's lines to machine code. Imported where there is something to compile."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from numba import njit, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from gpuprop.backends.cpu.kernels import entry, team
from gpuprop.backends.cpu.kernels.intrinsics import FUNCTIONS
from gpuprop.backends.cpu.kernels.kernel import Array, Kernel, lock
from gpuprop.backends.cpu.kernels.loader import Code

#: Numba's default error model tests every divisor, which stops vectorisation.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "boundscheck": False}
_OPTIONS |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
#: What machine code may call: it is in every process.
_KNOWN = re.compile(r"Py\w+|sqrtf?|fabsf?|mem(cpy|set|move)|syscall|getpid|sigfillset|pthread_\w+|sched_\w+")
_WORD = types.int64


def machine_code(kernel: Kernel | None, key: str) -> tuple[Code, bool]:
    """The machine code, and whether it can be used in another process: it calls nothing that is Numba's.

    Of None, that of the entry of all kernels.
    """
    for turn in range(3):
        with global_compiler_lock:
            library, symbol = _entry() if kernel is None else _compiled(kernel, key)
        try:
            _, _, (object_file, _) = library.serialize_using_object_code()
            break
        except RuntimeError:  # a signal's handler has raised in LLVM's callback, which brings it: it is lost
            if turn == 2:
                raise
    calls = re.findall(r"^declare .*?@\"?([\w.$]+)\"?\(", library.get_llvm_str(), re.MULTILINE)
    others = [name for name in calls if not name.startswith("llvm.") and not _KNOWN.fullmatch(name)]
    return Code(symbol, object_file), not others


def assembly(kernel: Kernel) -> str:
    return _compiled(kernel, "")[0].get_asm_str()


def _entry() -> tuple[Any, str]:
    name = "gpuprop_entry"
    library = cpu_target.target_context.codegen().create_library(name)
    library.enable_object_caching()
    module = library.create_ir_module(name)
    entry.write(module, name, team.write(module))
    library.add_ir_module(module)
    library.finalize()
    return library, name


def _compiled(kernel: Kernel, key: str) -> tuple[Any, str]:
    """Numba's library of one function, and its name there."""
    signature = _WORD(_WORD, _WORD, _WORD)
    dispatcher = njit(signature, **_OPTIONS)(_function(kernel, key))
    result: Any = next(iter(dispatcher.overloads.values()))
    return result.library, result.fndesc.llvm_func_name


def _function(kernel: Kernel, key: str) -> Callable[..., int]:
    """Python's function of a kernel: of a frame, a chunk and how many chunks there are."""
    namespace: dict[str, Any] = dict(FUNCTIONS)
    namespace |= {name: getattr(types, getattr(kernel, name)) for name in ("real", "whole", "item")}
    namespace["part"] = namespace["real"]
    for inner in kernel.functions:
        inner_function = _defined(inner.name, ", ".join(inner.arguments), inner.lines, namespace)
        namespace[inner.name] = njit(fastmath=set(inner.fast), **_OPTIONS)(inner_function)
    before = []
    if kernel.parted:
        length = kernel.places()[[name for name, _ in kernel.arguments].index(kernel.parted[0])] + 1
        before = [
            f"whole_length = word(frame + {8 * length})",
            "chunk_start = chunk * whole_length // chunks",
            "chunk_stop = (chunk + 1) * whole_length // chunks",
        ]
    for (name, kind), place in zip(kernel.arguments, kernel.places(), strict=False):
        at = f"frame + {8 * place}"
        if not isinstance(kind, Array):
            before.append(f"{name} = {'number_at' if kind == 'float64' else 'word'}({at})")
        elif name != "clock":
            item = kind.item
            ends = "chunk_start, chunk_stop" if name in kernel.parted else f"0, word({at} + 8)"
            if kernel.pairs and item.startswith("complex"):
                item, ends = kernel.real, ", ".join(f"2 * {end}" for end in ends.split(", "))
            layout = "C" if kind.is_contiguous else "A"
            array: Any = types.Array
            namespace[f"type_of_{name}"] = array(getattr(types, item), kind.axes, layout, kind.is_read)
            before.append(f"{name} = array_at({at}, type_of_{name}, {ends})")
    results = f"frame + {8 * kernel.places()[-1]}"
    lines = [
        re.sub(r"\bresult\((\d+), (.*)\)$", rf"put({results} + 8 * \1, \2)", line) for line in kernel.lines
    ]
    return _defined(
        f"{kernel.name}_{key[:16]}", "frame, chunk, chunks", [*before, *lines, "return 0"], namespace
    )


def _defined(name: str, arguments: str, lines: Any, namespace: dict[str, Any]) -> Callable[..., Any]:
    source = "\n    ".join([f"def {name}({arguments}):", *lines])
    exec(compile(source, f"<gpuprop {name}>", "exec"), namespace)
    return namespace[name]


def _hold() -> None:
    lock.acquire()  # first, as whoever compiles a kernel does
    global_compiler_lock.acquire()


def _let_go() -> None:
    global_compiler_lock.release()
    lock.release()


# Held across a fork, the locks around compiling are free in the child, whatever other threads do.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_let_go)
