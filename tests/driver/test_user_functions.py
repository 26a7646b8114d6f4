"""In which order the user's functions are called, and what they may do with arrays that they have given."""

import signal

import numpy as np
import pytest
import scipy.optimize
from descents import CURVATURE, TARGET, Quadratic, cubic, cubic_der, falling

import gpuprop
from gpuprop import RMSProp, check_gradient, minimize

START = np.zeros(4)
DOORS = pytest.mark.parametrize("door", [minimize, scipy.optimize.minimize])


class OneWorkArray(Quadratic):
    """The same function, by a program that computes all that it gives in the same two arrays."""

    def __init__(self, backend):
        super().__init__(backend)
        self.work, self.f = backend.asarray(np.empty(4)), backend.asarray(np.empty(1))

    def fun(self, x):
        self.f[0] = super().fun(x)
        self.work[:] = x  # whatever fun needs it for
        return self.f

    def jac(self, x):
        self.work[:] = super().jac(x)
        self.f[0] = 1e9
        return self.work

    def both(self, x):
        gradient = self.jac(x)
        self.f[0] = Quadratic.fun(self, x)
        return self.f, gradient


class Remembering(Quadratic):
    """A program that computes in `fun` what its `jac` needs."""

    def fun(self, x):
        self.seen, self.difference = x.copy(), x - self.target
        return super().fun(x)

    def jac(self, x):
        assert (x == self.seen).all()
        return self.curvature * self.difference


class Recording(Quadratic):
    """Notes who is called at which point."""

    def __init__(self, backend):
        super().__init__(backend)
        self.log = []

    def fun(self, x):
        self.log.append(("fun", x.tobytes()))
        return super().fun(x)

    def jac(self, x):
        self.log.append(("jac", x.tobytes()))
        return super().jac(x)


def callback_of(kind, action):
    """A callback that does `action` with the parameters, of each kind that SciPy knows."""

    def callback(xk):
        action(xk)

    def callback_of_a_result(*, intermediate_result):
        action(intermediate_result.x)

    return {"none": None, "plain": callback, "result": callback_of_a_result}[kind]


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("kind", ["none", "plain", "result"])
@pytest.mark.parametrize("options", [{}, {"check_every": 1}, {"copy_x": False}, {"return_best": True}])
def test_a_program_may_compute_all_in_one_work_array(backend, options, kind, joint):
    def descent(program):
        functions = (program.both, True) if joint else (program.fun, program.jac)
        return minimize(
            functions[0], backend.asarray(START), jac=functions[1], method=RMSProp(0.5),
            callback=callback_of(kind, lambda x: program.jac(program.target + program.fun(3 * x))),
            options={"maxiter": 25, "xtol": 1e-9, **options},
        )  # fmt: skip

    result, expected = descent(OneWorkArray(backend)), descent(Quadratic(backend))
    assert result.nit == 25
    assert (result.fun, result.nfev, result.njev) == (expected.fun, expected.nfev, expected.njev)
    for name in ("x", "jac"):
        np.testing.assert_array_equal(backend.to_host(result[name]), backend.to_host(expected[name]))


@pytest.mark.parametrize("jac", [None, "3-point", "cs"])
def test_f_in_a_work_array_is_no_reason_for_wrong_differences(jac):
    program, f = Quadratic(gpuprop.select_backend("numpy")), np.empty(1, complex if jac == "cs" else float)

    def fun(x):
        f[0] = program.fun(x)
        return f

    result, expected = (minimize(g, START, jac=jac, options={"maxiter": 15}) for g in (fun, program.fun))
    np.testing.assert_array_equal(result.x, expected.x)


@DOORS
@pytest.mark.parametrize("kind", ["none", "plain", "result"])
@pytest.mark.parametrize("stop", [None, 3])
@pytest.mark.parametrize("best", [False, True])
def test_a_program_may_remember_in_fun_what_its_jac_needs(door, best, stop, kind):
    program, steps = Remembering(gpuprop.select_backend("cpu")), []

    def stopping(x):
        steps.append(x)
        if len(steps) == stop:
            raise StopIteration

    result = door(
        program.fun, START, jac=program.jac, callback=callback_of(kind, stopping),
        method=RMSProp(2.0, rho=0.5),  # which hops about the minimum
        options={"maxiter": 9, "check_every": 1, "return_best": best},
    )  # fmt: skip
    assert result.nit == (stop if stop and kind != "none" else 9)
    np.testing.assert_array_equal(result.jac, CURVATURE * (result.x - TARGET))
    assert result.fun == program.fun(result.x)


def stop(x):
    raise StopIteration


def interrupt(x):
    raise KeyboardInterrupt


@DOORS
@pytest.mark.parametrize(
    ("options", "kind", "at_the_end", "checks"),
    [
        ({"maxiter": 25}, "none", None, {0, 10, 20, 25}),
        ({"maxiter": 3, "check_every": 2}, "plain", None, {0, 2, 3}),
        ({"maxiter": 3}, "result", None, {0, 1, 2, 3}),
        ({"maxfev": 3}, "none", None, {0, 10, 20}),
        ({"maxtime": 0.0}, "none", None, {0, 1}),
        ({"gtol": 1e9}, "none", None, {0}),
        ({}, "plain", stop, {0, 7}),
        ({}, "plain", interrupt, {0, 7}),
        ({}, "result", stop, set(range(8))),
    ],
)
def test_fun_comes_before_jac_where_f_is_due_and_elsewhere_jac_alone(door, options, kind, at_the_end, checks):
    program, calls = Recording(gpuprop.select_backend("cpu")), []

    def action(x):
        calls.append(1)
        if at_the_end and len(calls) == 7:
            at_the_end(x)

    result = door(program.fun, START, jac=program.jac, method=falling(), callback=callback_of(kind, action),
                  options=options)  # fmt: skip
    points = list(dict.fromkeys(x for _, x in program.log))
    assert {points.index(x) for who, x in program.log if who == "fun"} == checks
    for before, (who, x) in zip(program.log, program.log[1:], strict=False):
        assert before != ("fun", x) or who == "jac"
    assert program.log[-2:] == [("fun", result.x.tobytes()), ("jac", result.x.tobytes())]
    assert (result.nfev, result.njev) == (program.funs, program.jacs)


@pytest.mark.parametrize("kind", ["none", "plain", "result"])
@pytest.mark.parametrize("every", [1, 3, 10])
def test_a_gradient_is_copied_only_where_a_callback_comes_between(monkeypatch, every, kind):
    program, shared, step = OneWorkArray(gpuprop.select_backend("cpu")), [], RMSProp.step

    def watched(self, x, grad, state):
        shared.append(np.shares_memory(grad, program.work))
        step(self, x, grad, state)

    monkeypatch.setattr(RMSProp, "step", watched)
    minimize(
        program.fun, START, jac=program.jac, method=RMSProp(), callback=callback_of(kind, lambda x: None),
        options={"maxiter": 21, "check_every": every},
    )  # fmt: skip
    assert shared == [kind == "none" or k == 0 or k % every != 0 for k in range(21)]


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[:], lambda x: x.reshape(2, 2).reshape(4)])
@pytest.mark.parametrize("kind", ["none", "result"])
def test_without_copies_the_gradient_may_be_x_itself(kind, view):
    path = [START + 1]
    result = minimize(
        lambda x: (x @ x) / 2, START + 1, jac=view, method=RMSProp(),
        callback=callback_of(kind, path.append), options={"copy_x": False, "maxiter": 12},
    )  # fmt: skip
    expected = minimize(None, START + 1, jac=lambda x: 1 * x, method=RMSProp(), options={"maxiter": 12})
    np.testing.assert_array_equal(result.x, expected.x)
    np.testing.assert_array_equal(result.jac, result.x)
    assert not np.may_share_memory(result.x, result.jac)


@DOORS
@pytest.mark.parametrize("kind", ["none", "plain", "result"])
@pytest.mark.parametrize("where", ["fun", "jac", "both", "differences"])
@pytest.mark.parametrize("call", [1, 4])
def test_stop_iteration_is_a_message_of_the_callback_alone(door, call, where, kind):
    program, calls = Quadratic(gpuprop.select_backend("cpu")), []

    def counted(function):
        def stopping(x):
            calls.append(1)
            if len(calls) == call:
                raise StopIteration("of my own")
            return function(x)

        return stopping

    fun, jac = {
        "fun": (counted(program.fun), program.jac),
        "jac": (program.fun, counted(program.jac)),
        "both": (counted(program.both), True),
        "differences": (counted(program.fun), None),
    }[where]
    with pytest.raises(StopIteration, match="of my own"):
        door(fun, START, jac=jac, method=falling(), callback=callback_of(kind, lambda x: None))


@pytest.mark.parametrize("program", [OneWorkArray, Remembering])
@pytest.mark.parametrize("joint", [False, True])
def test_a_gradient_is_checked_in_the_same_order_and_with_the_same_care(backend, joint, program):
    program = program(backend)
    x = backend.asarray(TARGET + 1)
    assert check_gradient(*((program.both, True) if joint else (program.fun, program.jac)), x)
    wrong = check_gradient(program.fun, lambda x: program.jac(x) * backend.asarray([1, 1, 3, 1]), x).wrong
    assert [component.index for component in wrong] == [(2,)]


def test_stop_iteration_comes_out_of_a_check_of_a_gradient_too():
    calls = []

    def fun(x):
        calls.append(1)
        if len(calls) == 5:
            raise StopIteration("of my own")
        return cubic(x)

    with pytest.raises(StopIteration, match="of my own"):
        check_gradient(fun, cubic_der, np.ones(20))


@pytest.mark.parametrize("moment", ["start", "end"])
def test_ctrl_c_while_handlers_change_leaves_them_as_they_were(monkeypatch, moment):
    set_handler, hits = signal.signal, []

    def interrupted(number, handler):
        is_start = handler is not signal.default_int_handler
        if not hits and is_start == (moment == "start"):
            hits.append(moment)
            if is_start:
                set_handler(number, handler)
            signal.raise_signal(signal.SIGINT)
        return set_handler(number, handler)

    before = set_handler(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr(signal, "signal", interrupted)
        result = minimize(None, START, jac=lambda x: x - TARGET, options={"maxiter": 3})
        assert (hits, result.status) == ([moment], 7)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        set_handler(signal.SIGINT, before)
