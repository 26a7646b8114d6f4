"""What a kernel is, and the function of it: of machine code from a file, or else compiled."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from threading import RLock
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from gpuprop.backends.cpu.kernels import loader, store

#: Held while machine code is made or loaded; a signal's handler may step, too.
lock = RLock()
#: Kernels that this process has compiled.
compiled_here: list[str] = []
#: The most threads of a team.
MOST_THREADS = 1024
#: Memory of the team, see `team.py`.
team = loader.kept_for_ever(np.zeros(16 * (11 + MOST_THREADS), np.int64))

_HEADER = object.__basicsize__ // 8
#: In words of an object: its type, and of an array its data, number of axes (32 bits), shape, strides, dtype
#: and flags (32 bits); of a dtype the kind, a byte, with the byte order two behind it, and the itemsize.
PLACES = tuple(_HEADER + at for at in (-1, 0, 1, 2, 3, 5, 6, 1, 3))

#: What begins a frame, in words of 8 bytes: the kernel, how many chunks, and on how many threads.
BEGIN = 3
#: Words of a frame. All that a call has on the stack is less than a page of memory.
FRAME = 256
#: What stands before what is said of each argument; of each, so many words.
ABOUT, EACH = 15, 4
NUMBER, WHOLE_NUMBER = -1, -2
ALIGNED, WRITEABLE, C_CONTIGUOUS = 0x0100, 0x0400, 0x0001


class UnknownLayout(RuntimeError):
    """Arrays are not where kernels look for what they are."""


class Array(NamedTuple):
    """An argument that is an array: of which dtype, of how many axes, contiguous or not, only read or not."""

    item: str
    axes: int = 1
    is_contiguous: bool = True
    is_read: bool = False


#: The name of each argument, and the array or the kind of number that it is.
Arguments: TypeAlias = tuple[tuple[str, Array | Literal["float64", "int64"]], ...]


class Function(NamedTuple):
    """What a kernel's lines may call."""

    name: str
    arguments: tuple[str, ...]
    lines: tuple[str, ...]
    fast: tuple[str, ...] = ()  # what Numba's ``fastmath`` may do


class Kernel(NamedTuple):
    """What is compiled, and how it is called; it says it all, so that its text is the key of its code.

    The lines find each argument by its name, and may do the part of the work that is `chunk` of `chunks`.
    The function takes the arguments, and then perhaps four integers: whether the arrays have been checked,
    and `chunk`, `chunks` and a number of threads. With those it does all chunks on that many threads, or,
    where that is 0, that one chunk alone, and where there are 0 chunks, nothing but check. It returns False,
    and has written nothing, where an array is not as said, or where arrays overlap that must not; and else
    True, or a tuple.

    Parameters
    ----------
    name : str
    arguments : tuple of (str, Array or "float64" or "int64")
        An array that is called ``clock`` is of two integers, which are advanced before and after all else: by
        the integer ``steps`` where there is one, and else by 1.
    lines : tuple of str
    apart : int
        So many arrays are all of one size where they are contiguous, and apart from each other.
    reads : int
        Of those, the first that are only read. They may overlap, and the very first may be the first that
        is written, if contiguous.
    parted : tuple of str
        Arrays of which the lines find only that part of the first axis.
    pairs : bool
        Whether the lines find arrays of complex numbers as vectors of twice as many real ones.
    results : int
        How many numbers the tuple has, which lines put by ``result(i, value)``.
    real, whole, item : str
        Types that the lines may name: of arithmetic, of a count, and of elements.
    functions : tuple of Function
    """

    name: str
    arguments: Arguments
    lines: tuple[str, ...]
    apart: int = 0
    reads: int = 0
    parted: tuple[str, ...] = ()
    pairs: bool = False
    results: int = 0
    real: str = "float64"
    whole: str = "int64"
    item: str = "float64"
    functions: tuple[Function, ...] = ()

    def places(self) -> list[int]:
        """The word of the frame at which each argument begins, and that of the first result."""
        places = [BEGIN]
        for _, kind in self.arguments:
            places.append(places[-1] + (1 + 2 * kind.axes if isinstance(kind, Array) else 1))
        return places

    @property
    def fits(self) -> bool:
        return self.places()[-1] + self.results <= FRAME


def function_of(kernel: Kernel) -> Callable[..., Any]:
    """The function that runs `kernel`, if that fits; see there what it takes."""
    if not kernel.fits:
        raise ValueError(f"{kernel.name} takes more than the {FRAME} words that a call has room for")
    with lock:
        return _callable(kernel, _address(None), _about(kernel, _address(kernel)))


def prepare() -> None:
    """Load what all kernels are called by.

    Raises
    ------
    ImportError
        Numba, or llvmlite, cannot be imported, and nothing has been compiled with them.
    """
    with lock:
        _check_layout()
        _address(None)


def _check_layout() -> None:
    """Look at an array as `entry.py` does, but only within the object itself.

    Raises
    ------
    UnknownLayout
        This NumPy, or this Python, keeps arrays in another way.
    """
    names = ("type", "data", "ndim", "shape", "strides", "dtype", "flags", "kind", "itemsize")
    at = dict(zip(names, PLACES, strict=True))
    array, word = np.zeros((2, 3), np.float32)[:, :2], ctypes.c_int64.from_address
    place = {name: id(array) + 8 * words for name, words in at.items()}
    looked: list[Any] = [word(place[name]).value for name in ("type", "data", "dtype")]
    looked += [ctypes.c_int.from_address(place[name]).value for name in ("ndim", "flags")]
    axes = [word(place[name]).value for name in ("shape", "strides")]
    looked.append(axes[1] - axes[0])  # one piece of memory has both, and then it is safe to look there
    known: list[Any] = [id(np.ndarray), array.ctypes.data, id(array.dtype), 2, array.flags.num, 16]
    if looked == known:
        letters, dtype = ctypes.string_at(id(array.dtype) + 8 * at["kind"], 3), id(array.dtype)
        looked = [word(first + 8 * i).value for first in axes for i in (0, 1)]
        looked += [letters[:1], letters[2:], word(dtype + 8 * at["itemsize"]).value]
        known = [*array.shape, *array.strides, b"f", b"=", 4]
    if looked != known:
        raise UnknownLayout(
            f"NumPy {np.__version__} with Python {sys.version.split()[0]} keeps arrays in memory in a way "
            "that the kernels do not know"
        )


_addresses: dict[Kernel | None, int] = {}  # that of None is the entry of all


def _address(kernel: Kernel | None) -> int:
    if kernel not in _addresses:
        key = store.key_of(repr(kernel))
        code = store.read(key)
        if code is None:
            from gpuprop.backends.cpu.kernels import compiler

            code, is_alone = compiler.machine_code(kernel, key)
            compiled_here.append("entry" if kernel is None else kernel.name)
            if is_alone:
                store.write(key, code)
        _addresses[kernel] = loader.load(code)
    return _addresses[kernel]


def _about(kernel: Kernel, address: int) -> np.ndarray:
    places, names = kernel.places(), [name for name, _ in kernel.arguments]
    kinds = [kind for _, kind in kernel.arguments]
    clock = places[names.index("clock")] if "clock" in names else -1
    arrays = [kind for kind in kinds[: kernel.apart] if isinstance(kind, Array)]
    is_contiguous = all(array.is_contiguous for array in arrays)
    alignment = max((_part_size(array) for array in arrays), default=1)
    about = [
        address, team.ctypes.data, 0, id(np.ndarray), id(False), id(True), len(kinds), kernel.apart,
        kernel.reads, alignment, is_contiguous, clock, kernel.results, places[-1],
        places[names.index("steps")] if "steps" in names else -1,
    ]  # fmt: skip
    for kind in kinds:
        if isinstance(kind, Array):
            dtype = np.dtype(kind.item)
            flags = ALIGNED | (C_CONTIGUOUS * kind.is_contiguous) | (WRITEABLE * (not kind.is_read))
            about += [ord(dtype.kind), kind.axes, flags, dtype.itemsize]
        else:
            about += [NUMBER if kind == "float64" else WHOLE_NUMBER, 0, 0, 0]
    return np.array(about, np.int64)


def _part_size(array: Array) -> int:
    dtype = np.dtype(array.item)
    return dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize


class _Method(ctypes.Structure):
    """CPython's ``PyMethodDef``."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )  # fmt: skip


_FASTCALL = 0x80


def _callable(kernel: Kernel, entry: int, about: np.ndarray) -> Callable[..., Any]:
    """A function of Python's own kind, which is called in a tenth of a microsecond."""
    method = loader.kept_for_ever(_Method(kernel.name.encode(), entry, _FASTCALL, None))
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.py_object, ctypes.py_object)
    return make(ctypes.addressof(method), about, None)


# Held across a fork, the lock is free in the child, whatever other threads do.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
