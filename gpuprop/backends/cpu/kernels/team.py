"""Threads that share the chunks of a call: asleep until there is one, and woken without Python.

They soon sleep, on a futex, so that idle they leave the processors to whatever computes the next gradient.
Who calls begins at once, does also the chunks of threads that are slow to wake, and waits in the end for
those alone that have begun. Thread k begins with the k-th part of the chunks: it finds in its cache, and in
the memory next to it, what it has left there. One call has the team, and others wait. A process that has been
forked, by whatever means, knows by its own number that it has none of the threads, nor the lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from gpuprop.backends.cpu.kernels.entry import INT, WORD, WORDS, Lines, define
from gpuprop.backends.cpu.kernels.environment import FUTEX

#: Places in the team's memory, on cache lines of their own; from the last on there is one for each thread.
LOCK, WAITERS, PROCESS, HIRED, NAMED, CALL, CPU, TICKETS, FRAME, DONE, WAITS, NEXT = (
    16 * i for i in range(12)
)
_WAIT, _WAKE, _ALONE = 0, 1, 128  # operations of a futex, which no other process has
_SET_MASK = 2
#: How often the caller looks whether all are done, and a thread whether there is another call, before it
#: sleeps: for tens of microseconds, and for some, which is from one step to the next with nothing between.
_PATIENCE, _BRIEFLY = 20_000, 5_000


def write(module: ir.Module) -> Any:
    """Define what does all chunks of a frame, of the team's memory and how many threads there may be."""
    if FUTEX is None:
        return None
    share = _share(module)
    hire = _hire(module, _serve(module, share))
    do, b, team, frame, threads = define(module, "do", ir.VoidType(), WORDS, WORDS, WORD)
    process, lock = b.call_c("getpid", INT), _at(b, team, LOCK, INT)
    with _for_ever(b) as (again, leave):
        holder = _look(b, lock)
        with b.if_then(b.not_(b.is_(holder, process))):  # free, or held by a thread of before a fork
            b.cbranch(b.extract_value(b.cmpxchg(lock, holder, process, "seq_cst"), 1), leave, again)
        b.atomic_rmw("add", _at(b, team, WAITERS), WORD(1), "seq_cst")
        _futex(b, lock, _WAIT, process)
        b.atomic_rmw("sub", _at(b, team, WAITERS), WORD(1), "seq_cst")
    helpers = b.call(hire, (team, b.sext(process, WORD), b.sub(threads, WORD(1))))
    threads, chunks = b.add(helpers, WORD(1)), b.word(frame, 1)
    b.put(frame, 2, threads)
    with cgutils.for_range(b, threads) as loop:
        start = b.udiv(b.mul(loop.index, chunks), threads)
        b.store(start, _next(b, team, loop.index))
    b.put(team, FRAME, b.ptrtoint(frame, WORD))
    b.put(team, CPU, b.sext(b.call_c("sched_getcpu", INT), WORD))
    b.put(team, WAITS, WORD(0))
    done, tickets, call = _at(b, team, DONE, INT), _at(b, team, TICKETS), _at(b, team, CALL, INT)
    b.store_atomic(INT(0), done, "seq_cst", 4)
    b.store_atomic(helpers, tickets, "seq_cst", 8)
    b.atomic_rmw("add", call, INT(1), "seq_cst")
    _futex(b, call, _WAKE, b.trunc(helpers, INT))
    b.call(share, (team, frame, WORD(0)))
    left = b.atomic_rmw("xchg", tickets, WORD(0), "seq_cst")
    begun = b.sub(helpers, b.select(b.icmp_signed(">", left, WORD(0)), left, WORD(0)))
    _wait(b, team, done, b.trunc(begun, INT))
    b.atomic_rmw("xchg", lock, INT(0), "seq_cst")
    with b.if_then(b.not_(b.is_(_look(b, _at(b, team, WAITERS)), 0)), likely=False):
        _futex(b, lock, _WAKE, INT(1))
    b.ret_void()
    return do


def _wait(b: Lines, team: Any, done: Any, begun: Any) -> None:
    """Until all are done that have begun."""
    patience = cgutils.alloca_once_value(b, WORD(_PATIENCE))
    with _for_ever(b) as (again, leave):
        so_far = _look(b, done)
        b.leave_if(b.is_(so_far, begun), leave)
        left = b.sub(b.load(patience), WORD(1))
        b.store(left, patience)
        b.leave_if(b.icmp_signed(">", left, WORD(0)), again)
        with b.if_then(b.is_(left, 0)):  # from now on whoever is done says so; and look once more
            b.atomic_rmw("xchg", _at(b, team, WAITS), WORD(1), "seq_cst")
            b.branch(again)
        _futex(b, done, _WAIT, so_far)


def _share(module: ir.Module) -> Any:
    """Do chunks until none is left: of thread `me`'s part, then of the others'."""
    share, b, team, frame, me = define(module, "share", ir.VoidType(), WORDS, WORDS, WORD)
    kernel, chunks, threads = (b.word(frame, i) for i in range(3))
    with cgutils.for_range(b, threads) as loop:
        owner = b.urem(b.add(me, loop.index), threads)
        place = _next(b, team, owner)
        stop = b.udiv(b.mul(b.add(owner, WORD(1)), chunks), threads)
        with _for_ever(b) as (_, leave):
            b.leave_if(b.icmp_signed(">=", _look(b, place), stop), leave)
            chunk = b.atomic_rmw("add", place, WORD(1), "seq_cst")
            b.leave_if(b.icmp_signed(">=", chunk, stop), leave)
            b.run(kernel, frame, chunk, chunks)
    b.ret_void()
    return share


def _serve(module: ir.Module, share: Any) -> Any:
    """What a thread does for ever."""
    serve, b, team = define(module, "serve", WORDS, WORDS)
    me = b.add(b.atomic_rmw("add", _at(b, team, NAMED), WORD(1), "seq_cst"), WORD(1))
    call, done, tickets = _at(b, team, CALL, INT), _at(b, team, DONE, INT), _at(b, team, TICKETS)
    patience = cgutils.alloca_once_value(b, WORD(0))
    with _for_ever(b) as (again, _):
        seen = _look(b, call)
        with b.if_then(b.icmp_signed(">", _look(b, tickets), WORD(0))):  # to look writes nothing
            ticket = b.atomic_rmw("sub", tickets, WORD(1), "seq_cst")
            with b.if_then(b.icmp_signed(">", ticket, WORD(0))):
                b.call(share, (team, b.address(b.word(team, FRAME)), me))
                b.atomic_rmw("add", done, INT(1), "seq_cst")
                with b.if_then(b.is_(_look(b, _at(b, team, WAITS)), 1)):
                    _futex(b, done, _WAKE, INT(1))
                b.store(WORD(_BRIEFLY), patience)
                b.branch(again)
        left = b.sub(b.load(patience), WORD(1))
        b.store(left, patience)
        b.leave_if(b.icmp_signed(">", left, WORD(0)), again)
        _futex(b, call, _WAIT, seen)
        cpu = b.sext(b.call_c("sched_getcpu", INT), WORD)
        is_callers = b.and_(b.is_(cpu, _look(b, _at(b, team, CPU))), b.icmp_unsigned("<", cpu, WORD(1024)))
        with b.if_then(is_callers, likely=False):
            _leave_processor(b, cpu)
    b.unreachable()
    return serve


def _leave_processor(b: Lines, cpu: Any) -> None:
    """Go to another one, and be free to come back.

    A kernel of Linux wakes a thread where it was last, though it is there that the caller computes, and so
    it would be each time.
    """
    size = WORD(128)
    mask = b.gep(cgutils.alloca_once(b, ir.ArrayType(WORD, 16)), [WORD(0), WORD(0)])
    with b.if_then(b.icmp_signed(">=", b.call_c("sched_getaffinity", INT, INT(0), size, mask), INT(0))):
        place = b.gep(mask, [b.lshr(cpu, WORD(6))])
        allowed = b.load(place)
        b.store(b.and_(allowed, b.not_(b.shl(WORD(1), b.and_(cpu, WORD(63))))), place)
        b.call_c("sched_setaffinity", INT, INT(0), size, mask)
        b.store(allowed, place)
        b.call_c("sched_setaffinity", INT, INT(0), size, mask)


def _hire(module: ir.Module, serve: Any) -> Any:
    """Have threads, and return how many there are, at most so many as wanted; signals are not theirs."""
    hire, b, team, process, wanted = define(module, "hire", WORD, WORDS, WORD, WORD)
    with b.if_then(b.not_(b.is_(b.word(team, PROCESS), process)), likely=False):
        for place in (HIRED, NAMED, TICKETS):  # but not WAITERS, who may be of this process already
            b.put(team, place, WORD(0))
        b.put(team, PROCESS, process)
    hired = cgutils.alloca_once_value(b, b.word(team, HIRED))
    with b.if_then(b.icmp_signed("<", b.load(hired), wanted), likely=False):
        every, before = (b.gep(b.alloca(ir.ArrayType(WORD, 16)), [WORD(0), WORD(0)]) for _ in range(2))
        thread = b.alloca(WORD)
        b.call_c("sigfillset", INT, every)
        b.call_c("pthread_sigmask", INT, INT(_SET_MASK), every, before)
        with _for_ever(b) as (_, leave):
            b.leave_if(b.icmp_signed(">=", b.load(hired), wanted), leave)
            function_of_thread = b.bitcast(serve, WORDS)
            failed = b.call_c("pthread_create", INT, thread, WORDS(None), function_of_thread, team)
            b.leave_if(b.not_(b.is_(failed, 0)), leave)
            b.store(b.add(b.load(hired), WORD(1)), hired)
        b.call_c("pthread_sigmask", INT, INT(_SET_MASK), before, WORDS(None))
        b.put(team, HIRED, b.load(hired))
    has = b.load(hired)
    b.ret(b.select(b.icmp_signed("<", has, wanted), has, wanted))
    return hire


def _at(b: Lines, team: Any, place: int, kind: Any = WORD) -> Any:
    return b.bitcast(b.gep(team, [WORD(place)]), kind.as_pointer())


def _next(b: Lines, team: Any, thread: Any) -> Any:
    """Where the next chunk is of a thread's part."""
    return b.gep(team, [b.add(WORD(NEXT), b.mul(thread, WORD(16)))])


def _look(b: Lines, place: Any) -> Any:
    return b.load_atomic(place, "seq_cst", place.type.pointee.width // 8)


def _futex(b: Lines, place: Any, operation: int, number: Any) -> None:
    b.call_c("syscall", WORD, WORD(FUTEX), b.ptrtoint(place, WORD), WORD(operation | _ALONE),
             b.sext(number, WORD), WORD(0), WORD(0), WORD(0))  # fmt: skip


@contextmanager
def _for_ever(b: Lines) -> Iterator[tuple[Any, Any]]:
    """A loop, and the blocks that begin it and come after it."""
    again, leave = b.append_basic_block(), b.append_basic_block()
    b.branch(again)
    b.position_at_end(again)
    yield again, leave
    b.branch(again)
    b.position_at_end(leave)
