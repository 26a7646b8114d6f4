"""Several arrays of parameters, each with an optimizer of its own, stepped together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from gpuprop import arguments as check
from gpuprop.backends import Backend
from gpuprop.backends.checks import as_real
from gpuprop.backends.norms import joint_factor
from gpuprop.backends.together import Taken, check_together
from gpuprop.optimizers.base import Optimizer
from gpuprop.optimizers.options import Options
from gpuprop.optimizers.state import GroupsState
from gpuprop.optimizers.steps import refusals
from gpuprop.optimizers.steps.captured import all_captured
from gpuprop.optimizers.steps.parts import part_of


class Groups:
    """Optimizers of named arrays, of any shapes, dtypes and devices.

    Parameters
    ----------
    optimizers : mapping of str to Optimizer, optional
        By the name of the array; or as keywords.
    clip_norm : float, optional
        The gradients together are scaled to at most this Euclidean norm, before all else that is done to
        them. Arrays on one device are not waited for; those of several devices meet on the host.
    **named : Optimizer
        The same by keywords, as in ``Groups(object=Adam(0.1), probe=RMSProp(1e-3))``.

    Raises
    ------
    TypeError, ValueError
        There are none, one is no optimizer, or one has a `clip_norm` beside that of all.

    Examples
    --------
    >>> import numpy as np, gpuprop
    >>> arrays = {"object": np.ones((4, 4), complex), "probe": np.ones(4)}
    >>> groups = gpuprop.Groups(object=gpuprop.Adam(0.1), probe=gpuprop.RMSProp(1e-3))
    >>> state = groups.init(arrays)
    >>> groups.step(arrays, {"object": 2 * arrays["object"], "probe": None}, state)
    >>> state["object"].step, state["probe"].step
    (1, 0)
    """

    optimizers: Mapping[str, Options]
    clip_norm: float | None
    #: What steps: with a scale of the gradient where the norm is that of all.
    _stepping: Mapping[str, Options]
    #: Kinds of arrays that the full checks have let pass.
    _known: set[Any]

    def __init__(
        self, optimizers: Mapping[str, Optimizer] | None = None, /, *, clip_norm: float | None = None,
        **named: Optimizer,
    ) -> None:  # fmt: skip
        if optimizers is not None and not isinstance(optimizers, Mapping):
            raise TypeError(f"optimizers is a {type(optimizers).__name__}; it must be a dictionary by name")
        together: dict[str, Any] = {**(optimizers or {}), **named}
        if not together:
            raise ValueError("there are no optimizers; give one for each array, by its name")
        if clip_norm is not None:
            clip_norm = check.number("clip_norm", clip_norm, positive=True)
        for name, optimizer in together.items():
            if not isinstance(name, str) or not name:
                raise TypeError(f"the name of an array is {name!r}; it must be a text")
            if not isinstance(optimizer, Options):
                raise TypeError(f"{name} is {optimizer!r}; it must be an optimizer such as gpuprop.RMSProp()")
            if clip_norm is not None and optimizer.clip_norm is not None:
                raise ValueError(
                    f"{name} has clip_norm={optimizer.clip_norm} and all together have {clip_norm}; one of "
                    "them can be: leave out the other"
                )
        stepping = {
            n: o if clip_norm is None else o._replaced(clip_norm=clip_norm) for n, o in together.items()
        }
        vars(self).update(
            optimizers=MappingProxyType(together), clip_norm=clip_norm, _stepping=stepping, _known=set()
        )

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"cannot assign {name!r}: hyperparameters are immutable; make other groups")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Groups) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash((frozenset(self.optimizers.items()), self.clip_norm))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (dict(self.optimizers), self.clip_norm)

    def __repr__(self) -> str:
        clip = "" if self.clip_norm is None else f", clip_norm={self.clip_norm}"
        return f"Groups({dict(self.optimizers)!r}{clip})"

    def init(self, arrays: Any, *, backend: Backend | None = None, comm: Any = None) -> GroupsState:
        """The states before the first step.

        Parameters
        ----------
        arrays : mapping of str to array
            The parameters, one array for each optimizer: see `Optimizer.init`.
        backend, comm
            As for `Optimizer.init`, of all arrays.

        Returns
        -------
        GroupsState
            With a state for each array, by its name.

        Raises
        ------
        TypeError, ValueError
            An array is missing, is one too many, or cannot take part; or ranks have other orders of groups.
        """
        given, states = self._all_named(arrays), {}
        if check.ranks(comm):  # ranks exchange for one group after the other
            check.check_alike(comm, {"the order of groups": (*self._stepping,)})
        for name, optimizer in self._stepping.items():
            with check.naming(name):
                states[name] = optimizer.init(given[name], backend=backend, comm=comm)
        return GroupsState(self, states)

    def compile(self, arrays: Mapping[str, Any], *, backend: Backend | None = None) -> None:
        """Compile ahead what steps of such arrays need: see `Optimizer.compile`.

        Parameters
        ----------
        arrays, backend
            As for `init`.
        """
        given = self._all_named(arrays)
        for name, optimizer in self._stepping.items():
            with check.naming(name):
                optimizer.compile(given[name], backend=backend)

    def step(
        self, arrays: Mapping[str, Any], gradients: Mapping[str, Any], state: GroupsState,
        at: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Update arrays and their states in place.

        Parameters
        ----------
        arrays : mapping of str to array
            The parameters that `state` was made for.
        gradients : mapping of str to array or None
            Of each array, as for `Optimizer.step`. One whose gradient is missing or None is left alone, and
            its step does not count.
        state : GroupsState
            From `init`.
        at : mapping of str to index, optional
            Parts of arrays that are stepped: see `Optimizer.step`.

        Raises
        ------
        TypeError, ValueError, IndexError, FloatingPointError, RuntimeError
            As `Optimizer.step` for one of the arrays, which the message names: none has been written.

        Notes
        -----
        One launch for each array, and no wait for a device, unless one `clip_norm` is of arrays on several.
        What interrupts between two launches, or a device that fails then, leaves one array stepped and the
        other not: each belongs to its own state.
        """
        if not isinstance(state, GroupsState) or state.keys() != self.optimizers.keys():
            raise TypeError(f"state is a {type(state).__name__}; it must be what init of these groups gave")
        gradients = self._named("gradients", gradients)
        given = {name: gradients[name] for name in self.optimizers if gradients.get(name) is not None}
        places = self._named("at", at or {})
        parameters = self._named("arrays", arrays)
        taken = {}
        for name, gradient in given.items():
            optimizer, backend = self._stepping[name], state[name].backend
            if name not in parameters:
                raise ValueError(f"gradients has {name!r} and arrays has not; give both")
            rows = None
            with check.naming(name):
                one: Any = optimizer._arrays_of(optimizer.rule, (parameters[name],), gradient, state[name])
                if places.get(name) is not None:
                    one, rows = part_of(backend, optimizer.rule, one, places[name])
            taken[name] = Taken(backend, optimizer.rule, one, rows)
        for name, one in check_together(taken, self._known).items():
            taken[name] = taken[name]._replace(arrays=one)
        captures = all_captured(taken)
        scales = self._scales(taken, state, captures)
        ready: list[Callable[[], None]] = []
        for name, (_, rule, one, rows) in taken.items():
            with check.naming(name):
                scale = scales.get(name)
                ready.append(self._stepping[name]._ready(rule, one, state[name], rows, scale, captures))
        for update in ready:
            update()
        if state.optimizer is not self:
            state.optimizer = self
        if captures:
            backend, rule, one, _ = next(iter(taken.values()))
            state._record_step(backend, one[len(rule.reads)])
        else:
            state._clock[1] = state._clock.item(1) + 1

    def _scales(self, taken: Mapping[str, Taken], state: GroupsState, captures: bool) -> dict[str, Any]:
        """What brings all gradients together to the norm, for each of them."""
        if self.clip_norm is None or not taken:
            return {}
        grads, spaces = [], []
        for name, (backend, rule, arrays, rows) in taken.items():
            self._stepping[name]._provide_workspace(rule, arrays, state[name], rows)
            grads.append(as_real(backend, arrays[0]))
            spaces.append(state[name]._workspace)
        signs = [self._stepping[name]._sign for name in taken]
        skips = [self._stepping[name].nonfinite == "skip" for name in taken]
        backends = [one.backend for one in taken.values()]
        places = {(backend.name, backend.device_of(g)) for backend, g in zip(backends, grads, strict=True)}
        if captures and (len(places) > 1 or state.comm):
            raise refusals.captured("one clip_norm of ranks or arrays on several devices must wait")
        if len(places) == 1:
            scales = backends[0].clip_scales(grads, self.clip_norm, signs, skips, spaces)
        else:
            norms = [b.joint_norm([g], [s]) for b, g, s in zip(backends, grads, skips, strict=True)]
            factor = joint_factor(norms, self.clip_norm)
            scales = [sign * factor for sign in signs]
        return dict(zip(taken, scales, strict=True))

    def _all_named(self, arrays: Mapping[str, Any]) -> Mapping[str, Any]:
        given = self._named("arrays", arrays)
        if missing := sorted(self.optimizers.keys() - given.keys()):
            raise ValueError(f"arrays has no {missing[0]!r}; there must be one for each optimizer")
        return given

    def _named(self, what: str, given: Any) -> Mapping[str, Any]:
        if not isinstance(given, Mapping):
            raise TypeError(f"{what} is a {type(given).__name__}; it must be a dictionary by name")
        if unknown := [name for name in given if name not in self.optimizers]:
            raise ValueError(
                f"{what} has {unknown[0]!r}, for which there is no optimizer; there are "
                f"{', '.join(self.optimizers)}"
            )
        return given


def _rebuilt(optimizers: dict[str, Optimizer], clip_norm: float | None) -> Groups:
    return Groups(optimizers, clip_norm=clip_norm)
