"""SciPy's own tests of `minimize`, from the wheel that is installed, with an optimizer as the method.

Each test in CHOSEN runs as SciPy has it, but that `minimize` puts METHOD in the place of the method that
the test names.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
import warnings
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType

import pytest
import scipy.optimize
from scipys_tests import CHOSEN, LEFT_OUT, SLOW, WITH, WRITTEN_FOR

import gpuprop

STEPS = 10_000
METHOD = gpuprop.RMSProp("auto", rho=0.97, epsilon=2**-511, momentum=0.9, bias_correction=True)
#: Where a test gives none. A quasi-Newton method, which SciPy's tolerances are made for, ends far within its
#: gtol, and a first-order method just within. Differences know a gradient to about 1e-8 of f.
GTOL, GTOL_BY_DIFFERENCES = 1e-8, 1e-7
#: Options that mean here what they mean there; others are of the method that the test names.
OPTIONS = {"gtol", "ftol", "maxiter", "disp"}
#: Of a test for several methods, the one most like ours: without a Hessian and, if there is one, with bounds.
NAMED = ("l-bfgs-b", "bfgs", "newton-cg", "powell")
#: Marks of SciPy's suite, which pytest must know before it imports it.
MARKS = """fail_slow parallel_threads_limit skip_xp_backends thread_unsafe timeout uses_xp_capabilities
xfail_on_32bit xfail_xp_backends xslow"""


def minimizer(of_test, calls):
    """`minimize` of SciPy's as a test calls it, whose method is METHOD whatever the test names."""
    scipys = scipy.optimize.minimize

    def minimize(fun, x0, args=(), method=None, jac=None, *rest, options=None, **more):
        calls.append(method)
        given = {name: value for name, value in (options or {}).items() if name in OPTIONS}
        gtol = GTOL if jac is True or callable(jac) else GTOL_BY_DIFFERENCES
        defaults = {"maxiter": STEPS} if more.get("tol") is not None else {"maxiter": STEPS, "gtol": gtol}
        if isinstance(more.get("bounds"), tuple):
            # Two lists in a tuple are refused here: they may be all lower bounds and all upper ones.
            more["bounds"] = list(more["bounds"])
        return scipys(fun, x0, args, METHOD, jac, *rest, options=defaults | given | of_test, **more)

    return minimize


def names_in(code: CodeType):
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


def calls_minimize(function, owner) -> bool:
    """Whether `minimize` is in its code, or in that of a method of its class that it calls (check_limits)."""
    names = set(names_in(function.__code__))
    helpers = [getattr(owner, name, None) for name in names if not name.startswith("test")]
    return "minimize" in names or any(
        calls_minimize(one, None) for one in helpers if isinstance(one, FunctionType)
    )


@cache
def modules():
    """The modules of SciPy's tests of optimization that speak of `minimize`."""
    tests = pytest.importorskip("scipy.optimize.tests", reason="this SciPy comes without its tests")
    files = [
        file for file in sorted(Path(tests.__path__[0]).glob("test_*.py"))
        if re.search(r"\bminimize\(", file.read_text("utf-8"))
    ]  # fmt: skip
    if not files:
        pytest.skip("this SciPy comes without its tests")
    return [importlib.import_module(f"scipy.optimize.tests.{file.stem}") for file in files]


@cache
def suite_of_scipys():
    """By name: the module, the class that a test belongs to, or None, and the function."""
    found = {}
    for module in modules():
        for thing in list(vars(module).values()):
            is_test = isinstance(thing, (type, FunctionType)) and thing.__name__.lower().startswith("test")
            if not is_test or thing.__module__ != module.__name__:
                continue
            owner = thing if inspect.isclass(thing) else None
            functions = (
                [getattr(owner, name) for name in dir(owner) if name.startswith("test")] if owner else [thing]
            )
            for function in functions:
                if calls_minimize(function, owner):
                    found.setdefault(function.__qualname__, (module, owner, function))
    return found


def cases(owner, function):
    """The arguments that its marks give it, with one method in the place of all."""
    axes = []
    for mark in [*getattr(owner, "pytestmark", []), *getattr(function, "pytestmark", [])]:
        if mark.name == "parametrize":
            names, values = mark.args
            names = names.split(",") if isinstance(names, str) else names
            values = [value if len(names) > 1 else (value,) for value in values]
            if list(names) == ["method"]:
                among = {value[0].lower(): value for value in values}
                values = [next(among[name] for name in NAMED if name in among)]
            axes.append([dict(zip((name.strip() for name in names), value, strict=True)) for value in values])
    for case in itertools.product(*axes):
        yield {name: value for part in case for name, value in part.items()}


@pytest.fixture(scope="module", autouse=True)
def suite(pytestconfig):
    for mark in MARKS.split():
        pytestconfig.addinivalue_line("markers", f"{mark}: of SciPy's suite")
    return suite_of_scipys()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for names in CHOSEN.values()
        for name in names.split()
    ],
)
def test_of_scipys(name, suite, monkeypatch):
    if name not in suite:
        pytest.skip(f"SciPy {scipy.__version__} has no such test")
    module, owner, function = suite[name]
    calls = []
    ours = minimizer(WITH.get(name, {}), calls)
    monkeypatch.setattr(scipy.optimize, "minimize", ours)
    if hasattr(module, "minimize"):
        monkeypatch.setattr(module, "minimize", ours)
    if hasattr(module, "MINIMIZE_METHODS"):  # loops over all methods would be one and the same
        monkeypatch.setattr(module, "MINIMIZE_METHODS", ["l-bfgs-b"])
    warnings.filterwarnings("ignore", "hessp? is given and not used", RuntimeWarning)
    for case in cases(owner, function):
        instance = [] if owner is None else [owner()]
        if hasattr(owner, "setup_method"):
            instance[0].setup_method()
        function(*instance, **case)
    assert calls


def test_each_of_scipys_tests_is_chosen_or_left_out_for_a_reason(suite):
    listed = [name for names in (*CHOSEN.values(), *LEFT_OUT.values()) for name in names.split()]
    assert len(listed) == len(set(listed))
    unlisted = sorted(suite.keys() - set(listed))
    if unlisted and not scipy.__version__.startswith(WRITTEN_FOR):
        pytest.skip(f"SciPy {scipy.__version__} has tests of minimize in no list: {', '.join(unlisted)}")
    assert not unlisted
    if scipy.__version__.startswith(WRITTEN_FOR[-1]):
        assert not set(listed) - suite.keys()
