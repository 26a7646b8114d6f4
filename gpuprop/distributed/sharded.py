"""Vectors that every rank holds whole: each steps a part of them, with a state of that part alone."""

from __future__ import annotations

from os import PathLike
from typing import Any

from gpuprop.arguments import check_alike, flag, ranks
from gpuprop.backends import Backend, backend_of
from gpuprop.checkpoint import load_state
from gpuprop.distributed.communicator import Communicator
from gpuprop.distributed.vectors import axes_of, checksum, layout_mark, vector_like, vector_of_x, with_arrays
from gpuprop.optimizers import Optimizer, State


class Sharded:
    """Steps of parameters that every rank holds, by gradients of which every rank has a share.

    Each rank steps its part of the parameters, of about n/P elements, and keeps a state of that part alone: a
    step is a reduce-scatter of the gradients, the step, and an all-gather of the parameters. All methods are
    collective: every rank calls them, in the same order.

    Parameters
    ----------
    optimizer : Optimizer
        With any options, also arrays like the parameters; the same on every rank. A norm, and a learning rate
        that is found, are of the whole vector.
    comm : Communicator
        From `communicator`.
    average : bool
        Whether the step is by the average of the ranks' gradients, or by their sum.

    Raises
    ------
    TypeError
        `optimizer` or `comm` is something else.

    Notes
    -----
    This is the first stage of ZeRO [1]_, by elements and not by tensors: any n and P are right.

    References
    ----------
    .. [1] S. Rajbhandari, J. Rasley, O. Ruwase and Y. He, "ZeRO: memory optimizations toward training
       trillion parameter models", arXiv:1910.02054, 2019.

    Examples
    --------
    On each of the processes that ``mpiexec -n 4 python program.py`` starts::

        comm = gpuprop.distributed.communicator(MPI.COMM_WORLD)
        sharded = gpuprop.distributed.Sharded(gpuprop.RMSProp(learning_rate=0.1), comm)
        state = sharded.init(x)
        for _ in range(100):
            sharded.step(x, gradient_of_my_data(x), state)
    """

    def __init__(self, optimizer: Optimizer, comm: Communicator, average: bool = True) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer is a {type(optimizer).__name__}; it must be one that steps by a gradient in an "
                "array, such as gpuprop.RMSProp (several arrays become one by gpuprop.pack)"
            )
        if not isinstance(comm, Communicator):
            raise TypeError(
                f"comm is of type {type(comm).__name__}; it must be what "
                "gpuprop.distributed.communicator(MPI.COMM_WORLD) gives"
            )
        self.optimizer, self.comm, self.average = optimizer, comm, flag("average", average)
        #: A layout of x, and the optimizer with the options of this rank's part of it.
        self._layout: Any = None
        self._own = optimizer

    def __repr__(self) -> str:
        return f"Sharded({self.optimizer!r}, {self.comm!r}, average={self.average})"

    def init(self, x: Any, *, backend: Backend | None = None) -> State:
        """The state of this rank's part before the first step.

        Parameters
        ----------
        x : array
            All parameters, as for `Optimizer.init`: of any shape, in memory without gaps.
        backend : Backend, optional
            As for `Optimizer.init`.

        Returns
        -------
        State
            Its arrays are vectors, of the part of x as it lies in memory, cut as `numpy.array_split` cuts.

        Raises
        ------
        TypeError, ValueError
            As for `Optimizer.init`; or x has gaps; or it, or an option, is not the same on all ranks.
        """
        chosen = backend or backend_of(x)
        x, whole = vector_of_x(chosen, x)
        x_is = f"{x.dtype} of shape {x.shape} in {chosen.xp.__name__}, axes in the order {axes_of(x)}"
        check_alike(self.comm, {"average": self.average, "all of x": x_is})
        part = whole[self.comm.cut(whole.size)]
        with chosen.on_device_of(part):
            first, *others = self.comm.exchange(checksum(chosen, whole)) if self.comm.size > 1 else [0]
            if differing := [rank for rank, other in enumerate(others, 1) if other != first]:
                raise ValueError(
                    f"x on rank {differing[0]} has other numbers than on rank 0; copies start from one x, as "
                    "MPI.COMM_WORLD.Bcast(x) makes of that of rank 0, or one seed for all ranks"
                )
            state = self._of_part(chosen, x).init(part, backend=chosen, comm=self.comm)
            if self.comm.size > 1:
                state._room_for_gradient(part)
        return state

    def step(self, x: Any, grad: Any, state: State) -> None:
        """Update x in place, on every rank to the same bits, and the state.

        Parameters
        ----------
        x : array
            The parameters that `state` was made for.
        grad : array like `x`
            The gradient at x of this rank's share of the data, in memory in the order of x. It is only read,
            and may be x itself.
        state : State
            From `init`, or from `load`.

        Raises
        ------
        TypeError, ValueError
            As for `Optimizer.step`; or an array has gaps, or grad another order than x. Nothing has been
            written.
        FloatingPointError
            As for `Optimizer.step`, of the sum of the gradients, and on every rank.
        """
        if not isinstance(state, State):
            raise TypeError(f"state is a {type(state).__name__}; it must be one that init gave")
        if state.comm is not ranks(self.comm):
            raise ValueError(
                "state belongs to other ranks than those of this Sharded; it must be one that its init or "
                "load gave"
            )
        backend = state.backend
        x, whole = vector_of_x(backend, x)
        gradients = vector_like(backend, "grad", grad, x)
        part = whole[self.comm.cut(whole.size)]
        with backend.on_device_of(part):
            if self.comm.size == 1:
                self._of_part(backend, x).step(part, gradients, state)
                return
            summed = state._room_for_gradient(part)
            if summed.shape != part.shape or summed.dtype != part.dtype:
                raise ValueError(
                    f"this rank's part of x has {part.size} elements of {part.dtype}, and state is of a part "
                    f"of {summed.size} of {summed.dtype}; it must be the state that init gave for this x"
                )
            own = self._of_part(backend, x)
            self.comm.reduce_scatter(gradients, summed, self.average)
            own.step(part, summed, state)
            self.comm.all_gather(whole)

    def save(self, path: str | PathLike[str], x: Any, state: State) -> None:
        """Write each rank's part of x and of the state, as `State.save` does, and a number of x's layout.

        Parameters
        ----------
        path : str, bytes or path-like
            In a folder that all ranks see.
        x : array
            The parameters.
        state : State

        Raises
        ------
        OSError, TypeError, ValueError, RuntimeError
            As for `State.save`.
        """
        x, whole = vector_of_x(state.backend, x)
        state.save(path, x=whole[self.comm.cut(whole.size)], layout=layout_mark(x))

    def load(self, path: str | PathLike[str], x: Any) -> State:
        """Read what `save` wrote, with any number of ranks, or what one process wrote of a vector.

        Parameters
        ----------
        path : str, bytes or path-like
        x : array
            Like the one that was saved; its elements are overwritten.

        Returns
        -------
        State
            Of this rank's part.

        Raises
        ------
        OSError, ValueError, ImportError
            As for `load_state`; or there is no such x in the file.
        """
        backend = backend_of(x)
        x, whole = vector_of_x(backend, x)
        part = whole[self.comm.cut(whole.size)]
        with backend.on_device_of(part):
            state: State = load_state(path, backend=backend, comm=self.comm)
            saved, wrong = state.extras.pop("x", None), ""
            layout = state.extras.pop("layout", None)
            if saved is None:
                wrong = "has no x"
            elif saved.shape != part.shape or saved.dtype != part.dtype:
                given, has = f"{part.shape} of {part.dtype}", f"{saved.shape} of {saved.dtype}"
                wrong = f"has {has} as the part of x of rank {self.comm.rank}, and the x given has {given}"
            elif layout is not None and layout != layout_mark(x):
                wrong = f"has an x of another shape than {x.shape}, or of another order in memory"
            if found := [each for each in self.comm.exchange(wrong) if each]:
                raise ValueError(f"{str(path)!r} {found[0]}; give an array like the one that was saved")
            part[...] = backend.asarray(saved)
            self.comm.all_gather(whole)
        return state

    def _of_part(self, backend: Backend, x: Any) -> Optimizer:
        """The optimizer whose options that are arrays are of this rank's part."""
        layout = x.shape, axes_of(x)
        if self.optimizer._reads and layout != self._layout:

            def part(array: Any) -> Any:
                return vector_like(backend, "an option", array, x, self.comm.cut(x.size))

            self._own, self._layout = with_arrays(self.optimizer, part), layout
        return self._own
