"""The driver: steps of an optimizer until a test says stop, with SciPy's interface."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from gpuprop.driver.checkpoints import read
from gpuprop.driver.functions.callback import in_place
from gpuprop.driver.functions.objective import Objective
from gpuprop.driver.methods import check_method, keeping_steps, method_of
from gpuprop.driver.options import DriverOptions
from gpuprop.driver.points import check_state, start
from gpuprop.driver.ranks import check_alike
from gpuprop.driver.run import Run
from gpuprop.optimizers import Groups, Optimizer


def minimize(
    fun: Callable[..., Any] | None,
    x0: Any,
    args: Any = (),
    method: Optimizer | Groups | None = None,
    jac: Any = None,
    *,
    bounds: Any = None,
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: dict[str, Any] | None = None,
    comm: Any = None,
) -> Any:
    r"""Minimise a function of one array from its gradient: `scipy.optimize.minimize` on any device.

    Parameters
    ----------
    fun : callable ``fun(x, *args) -> float``, or None
        The function; None where only a gradient exists. On a GPU it may give an array of one
        number, which is read only when a test needs it. It is called where f is due: at the first
        point, at each check, for a callback that is given f, and at the end; there it runs before
        `jac`, and in between `jac` runs alone. A program that computes in `fun` what its `jac` needs
        passes ``jac=True``, or ``check_every=1``.
    x0 : array_like of any shape, or dictionary of such
        Where to start; it is not written. A number is a vector of one, as in SciPy. A CuPy array
        stays on its device, which is the current one while `fun` and `jac` run. Integers become
        float64; float16, bfloat16, float32, float64 and complex arrays keep their dtype. Of a dictionary,
        `fun` and `jac` are given one and `jac` gives one (an array whose gradient is missing or None stays
        where it is), `bounds` is one by name, and ``result.x`` is one.
    args : tuple
        Further arguments of `fun` and `jac`.
    method : Optimizer or Groups, optional
        `Groups` for a dictionary. By default that of ``options["state"]`` or of the file in
        ``options["resume"]``, or else ``RMSProp("auto", rho=0.97, momentum=0.9, bias_correction=True)`` with
        an `epsilon` of no effect (2**-511; 2**-63 in float32 and below), whose path does not depend on the
        units of x and f. Where a rate is ``"auto"``, it begins from one more gradient, or a few, a little way
        along the first step, which takes copies of x and of the state for that time.
    jac : callable ``jac(x, *args) -> array``, True, None, "2-point", "3-point" or "cs"
        The gradient, of the shape of `x0`; of complex parameters :math:`\partial f / \partial \Re x
        + i\, \partial f / \partial \Im x`. It may be a work array that your functions write to
        again. True: `fun` gives the pair ``(f, gradient)``. A name: SciPy's finite differences, at n
        or 2 n evaluations a step, on the host only; None is "2-point", or "3-point" in float32 and
        float16. Below their own error `gtol` means nothing.
    bounds : scipy.optimize.Bounds, sequence of n pairs, or pair of numbers, optional
        ``Bounds(lower, upper)`` of numbers or arrays like `x0`; a pair ``(lower, upper)`` for each
        parameter, with None for no bound; or one pair of numbers for all. By default those of
        `method`. The start and each step are projected onto them.
    tol : float, optional
        Stands for the option `gtol`.
    callback : callable, optional
        ``callback(xk)`` or ``callback(intermediate_result=...)``, told apart by the parameter's name
        as SciPy does; the latter holds ``x``, ``fun``, ``jac``, ``nit`` and ``state``. It is called
        after each step, or at the multiples of `check_every` where that is given, with copies of the
        parameters and the gradient, and with the state itself, whose ``rate_scale`` it may set. It
        stops the run by raising StopIteration or returning True; nothing else that it gives counts.
    options : dict, optional
        gtol : float or None, default 1e-5
            Stop when no component of the gradient is larger. With bounds it is the projected
            gradient, as in L-BFGS-B, and coupled weight decay counts as a part of it.
        xtol : float, default None
            Stop when the largest change of a component in a step is at most
            ``xtol * (xtol + largest component of x)``. (A small learning rate makes small steps, too.)
        ftol : float, default None
            Stop when f has changed since the last check by at most ``ftol * max(|f|, |f before|, 1)``.
        maxiter : int, default 10000
            Most steps in all: where a run goes on, those that its state has taken count.
        maxfev : int, default None
            Most evaluations of `fun`, with those of the file in `resume`; one point is always evaluated.
        maxtime : float, default None
            Seconds of this call, tested after each step: one is taken in any case, so that a run which is
            resumed again and again gets on.
        check_every : int, default 10
            Steps from one check of f and these tolerances to the next: at its multiples, and at the end. A
            GPU is waited for in checks only.
        return_best : bool, default False
            Give the parameters of the least f among the checks, which takes one more array, and one
            more evaluation where they are not the last. (Then ``result.state`` is not of their moment; a
            file has both.)
        history : bool, default False
            Keep what the checks find in ``result.history``, with one element a check: ``step``, ``fun``,
            ``gradient`` (the largest component, as `gtol` sees it) and ``seconds``. The last one is of the
            last point, also where the run stops between two checks.
        disp : bool, default False
            Show progress on stderr.
        copy_x : bool, default True
            Give `fun` and `jac` copies of the parameters, as SciPy does. False saves an array and a
            pass over memory in each evaluation: then they see the very array that is updated in
            place, and must neither write to it nor keep it.
        project : callable ``project(x)``, default None
            Brings x (or the dictionary) to a set that is no box, in place: after each step, together with
            which it is held against Ctrl-C, and at the start of a run that does not go on. `xtol` tests
            the projected step, `gtol` the gradient as it is. On sets that are no products over elements, as
            a sphere, give the gradient along the set, or take SGD.
        state : State, default None
            Go on with an optimizer's state, as a result holds it, from the x of the same moment: the bits
            are those of a run that was not interrupted. It is updated in place. If a function raises,
            it has advanced and the parameters of that moment are lost; a `checkpoint` outlasts that. (A
            state knows of no checks: the first test by `ftol` or `xtol` may come one check later.)
        checkpoint : path, default None
            Write the run to this file: x, the state, and all that `resume` needs; at the multiples of
            `checkpoint_every` and at the end, whatever ends it but an error that is raised. A point
            that is not finite is not written. Where a file cannot be written, the last one stays, with a
            warning.
        checkpoint_every : int, default 100
            Steps.
        resume : path, default None
            Go on from this file, or from `x0` where there is no such file; ``result.message`` says which.
            It may be the file of `checkpoint`, or one of ``state.save(path, x=x)`` (of a dictionary,
            ``state.save(path, **x)``). `x0` and `method`, if given, must be like those of the run that
            wrote it; its history, counts and best point are taken over.
    comm : Communicator, optional
        As `gpuprop.distributed.communicator` gives it, on every rank: `x0` is this rank's part of the
        parameters (it may be empty), as are bounds, the gradient, and ``x`` and ``jac`` of the result; `fun`
        gives the rank's share of f, which is their sum. All else is the same on all ranks, which stop at the
        same step: for `maxtime` by the clock of rank 0. An error, or Ctrl-C, ends the job.

    Returns
    -------
    scipy.optimize.OptimizeResult
        With ``x``; ``fun``, a float, or None; ``jac``, the gradient at ``x``; ``nit`` steps in all;
        ``nfev`` and ``njev`` evaluations; ``state``, with which a run can go on; ``history``, if asked for;
        ``success``, ``message`` and ``status``:

        ===== =========================================== =======
        0     the gradient is within gtol                 success
        1     maxiter
        2     maxfev
        3     maxtime
        4     the step is within xtol                     success
        5     the change of f is within ftol              success
        6     f or the gradient is not finite (unless the
              optimizer's ``nonfinite`` says otherwise)
        7     Ctrl-C: what has been reached is returned
        99    the callback raised StopIteration, or
              returned True
        ===== =========================================== =======

    Raises
    ------
    TypeError, ValueError
        An argument cannot be used; the message says what is needed.
    OSError
        The file in `resume` cannot be read, or the folder of `checkpoint` not be written to.

    Notes
    -----
    With a constant learning rate :math:`\eta` the parameters end up moving to and fro by about
    :math:`\eta / 2`: let it fall, or let ``"auto"`` find it.

    References
    ----------
    .. [1] C. Zhu, R. H. Byrd, P. Lu and J. Nocedal, "Algorithm 778: L-BFGS-B", ACM Trans. Math. Softw.
       23(4), 1997: the projected gradient.

    Examples
    --------
    >>> import gpuprop
    >>> from scipy.optimize import rosen, rosen_der
    >>> result = gpuprop.minimize(rosen, [-1.2, 1.0], jac=rosen_der)
    >>> result.x.round(4), result.success
    (array([1., 1.]), True)
    """
    keywords = dict(options or {})
    if tol is not None:
        keywords["tol"] = tol
    beside = {"fun", "x0", "args", "jac", "method", "optimizer", "bounds", "callback", "comm"}
    misplaced = keywords.keys() & beside
    if misplaced:
        raise TypeError(f"options has {', '.join(sorted(misplaced))}; pass such arguments beside options")
    if isinstance(args, Optimizer):
        raise TypeError(f"args is {args!r}, the third argument as in SciPy; pass method={args!r}")
    return minimize_by(
        method, fun, x0, args, jac=jac, bounds=bounds, callback=callback, comm=comm, **keywords
    )


def minimize_by(
    optimizer: Any,
    fun: Callable[..., Any] | None,
    x0: Any,
    args: Any = (),
    *,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    **options: Any,
) -> Any:
    """`minimize` as `scipy.optimize.minimize` calls a method of one's own."""
    for name, given in (("hess", hess), ("hessp", hessp)):
        if given is not None:
            warnings.warn(
                f"{name} is given and not used: the gradient is all it takes", RuntimeWarning, stacklevel=4
            )
    if not (constraints is None or (isinstance(constraints, (tuple, list)) and not constraints)):
        raise ValueError(
            "constraints are given and can only be bounds here; put them into bounds or into fun as a "
            "penalty, or use SciPy's SLSQP or trust-constr"
        )
    chosen = DriverOptions.of(options)
    if chosen.comm is not None:
        check_alike(chosen.comm, chosen, fun, x0, jac, callback, bounds, optimizer)
    former = None if chosen.resume is None else read(chosen.resume, x0, chosen.comm)
    state = chosen.state if former is None else former.state
    if optimizer is None:
        optimizer = method_of(state, chosen, x0)
    check_method(optimizer, x0)
    if chosen.project is not None:
        optimizer = keeping_steps(optimizer)
    backend, x, optimizer, state = start(x0, optimizer, bounds, state, chosen.comm)
    arrays = x.values() if type(x) is dict else [x]
    with backend.on_device_of(next(array for array in arrays if isinstance(array, backend.xp.ndarray))):
        if chosen.state is not None:
            check_state(optimizer, x, state)
        progress = None if former is None else former.goes_on(optimizer, x)
        if chosen.project is not None and state.step == 0:  # what goes on has been projected
            in_place(chosen.project, x)
        objective = Objective(fun, jac, args, x, backend, getattr(optimizer, "bounds", None), chosen.copy_x)
        return Run(optimizer, x, state, objective, chosen, callback, backend, progress).result()
