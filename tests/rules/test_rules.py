import pickle

import numpy as np
import pytest
from trial_rules import EVERYTHING, apply

import gpuprop
from gpuprop import RMSProp, Rule


def rule(body: str, **changes: tuple[str, ...]) -> Rule:
    parts = {"reads": ("grad",), "writes": ("x",), "scalars": ("rate",)} | changes
    return Rule("trial", body=body, **parts)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("x = x - rate * gard", "unknown name 'gard'"),
        ("rate = 2 * rate * grad\nx = x - rate", "'rate' is a scalar"),
        ("grad = rate * grad\nx = x - grad", "only read"),
        ("x = x - rate * grad * momentum", "unknown name 'momentum'"),
        ("m = m * rate\nx = x - m * grad", "unknown name 'm'"),
        ("x = x - rate * grad**2", r"write a \* a"),
        ("x = x - rate * exp(grad)", "unknown function 'exp'"),
        ("x = x - rate * np.sqrt(grad)", "unknown function 'np.sqrt'"),
        ("x = x - rate * sqrt(grad, grad)", "takes 1 plain argument$"),
        ("x = where(grad, x, rate)", "must be a comparison"),
        ("x = where(0 < grad < rate, x, 1)", r"two sides; for two, write a where\(\) in a where\(\), as in"),
        ("x = where(0 < grad and x < rate, x, 1)", r"must be a comparison; for two, write .* where\(0 < x,"),
        ("x = where(grad in x, rate, 1)", "a comparison is one of < <= > >= == !="),
        (
            "x = x - 1j * rate * grad",
            "1j is complex, .* are real; make that term outside the lines, as an array",
        ),
        ("x = x - rate * (grad > 0)", "first argument of where"),
        ("x = x - rate * grad[0]", "Subscript is not arithmetic"),
        ("x = x - rate * grad if rate > 0 else x", "IfExp is not arithmetic"),
        ("x = x - rate * grad * 1e999", "inf is not a finite number"),
        ("x = x - rate * grad * True", "True is not a finite number"),
        ("x = x - rate * grad // 2", "operators"),
        ("x, y = rate, grad", "must be one name"),
        ("x[0] = rate * grad", "must be one name"),
        ("for i in x: x = rate * grad", "must be an assignment"),
        ("sqrt = rate * grad\nx = sqrt", "'sqrt' is a function"),
        ("x = x - rate * grad +", "invalid syntax"),
        ("\u03b7 = rate * grad\nx = x - \u03b7", "ASCII"),
    ],
)
def test_refuses_a_line_and_quotes_it(body, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        rule(body)
    assert "rule 'trial', line `" in str(caught.value)
    assert any(line.strip() in str(caught.value) for line in body.splitlines())


TOO_DEEP = "more than 200 operations one within another, .* break it into several lines"


@pytest.mark.parametrize(
    ("term", "reason"),
    [
        ("1" * 400, r"above 1\.8e308, the largest of float64"),
        ("1" * 5000, "Exceeds the limit"),
        ("0x" + "f" * 5000, "above"),
        ("'" + "a" * 5000 + "'", "is not a finite number"),
        ("a" * 5000, "unknown name"),
        ("1" + " + 1" * 201, TOO_DEEP),
        ("1" + " * x" * 5000, TOO_DEEP),
        ("-" * 5000 + "x", TOO_DEEP),
        ("-" * 100_000 + "x", TOO_DEEP),
        ("max(1, " * 150 + "min(1, 1" + " * x" * 100 + ")" * 151, TOO_DEEP),
        ("(" * 5000 + "x" + ")" * 5000, "too many nested parentheses|" + TOO_DEEP),
        ("x" + ".a" * 5000 + "()", TOO_DEEP),
        ("[x for x in 1" + " + 1" * 500 + "]()", TOO_DEEP),
        ("\udc80", "no text that Python reads"),
        ("\0", "null bytes"),
    ],
    ids=lambda text: text[:9].encode("unicode_escape").decode(),
)
def test_refuses_what_is_too_much_in_one_sentence(term, reason):
    for line in (f"x = rate * grad * {term}", f"x -= rate * grad * {term}"):
        with pytest.raises(ValueError, match=f"rule 'trial'.*{reason}") as caught:
            rule(line)
        assert len(str(caught.value)) < 600


def test_exactly_so_deep_may_a_line_be():
    rule("x = x - rate * grad" + " + 1" * 198)
    with pytest.raises(ValueError, match=TOO_DEEP):
        rule("x = x - rate * grad" + " + 1" * 199)


@pytest.mark.slow
def test_what_nests_as_deep_as_may_be_runs_everywhere(backend):
    x, grad = backend.asarray([1.0, 2.0]), backend.asarray([1.0, 1.0])
    apply(backend, rule("x = x - rate * grad" + " + 1" * 198), (grad, x), (4.0,))
    assert x.tolist() == [195, 196]


@pytest.mark.parametrize(
    "changes", [{"body": 5}, {"body": None}, {"reads": None}, {"writes": ("x", 1)}, {"scalars": {"rate": 1}}]
)
def test_refuses_what_is_no_text(changes):
    with pytest.raises(TypeError, match=r"rule 'trial': .*; it must be (lines of text|a tuple of names)"):
        rule(**{"body": "x = x - rate * grad"} | changes)


def test_a_pickle_of_a_rule_is_checked_again():
    pickled = pickle.dumps(rule("x = x - rate * grad" + " + 1" * 198))
    deeper = pickled.replace(b" + 1 + 1", b"+1+1+1+1")
    with pytest.raises(ValueError, match=TOO_DEEP):
        pickle.loads(deeper)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"writes": ("x", "velocity")}, "never assigns its array 'velocity'"),
        ({"reads": ("grad", "mask")}, "never uses 'mask'"),
        ({"scalars": ("rate", "rho")}, "never uses 'rho'"),
        ({"scalars": ("rate", "grad")}, "names 'grad' twice"),
        ({"scalars": "rate"}, "a tuple of names"),
        ({"scalars": ("rate", "2nd")}, "'2nd' cannot be the name"),
        ({"scalars": ("rate", "min")}, "'min' cannot be the name"),
        (
            {"scalars": ("rate", "lambda")},
            "'lambda' .* is a keyword of Python; take another, such as 'lambda_'",
        ),
        ({"reads": ("grad", "in")}, "'in' cannot be the name of an array or a scalar, as it is a keyword"),
        ({"writes": ()}, "at least one array"),
    ],
)
def test_refuses_a_declaration(changes, reason):
    with pytest.raises(ValueError, match=reason):
        rule("x = x - rate * grad", **changes)


def test_refuses_a_name_that_no_kernel_could_carry():
    with pytest.raises(ValueError, match="identifier"):
        Rule("two words", ("grad",), ("x",), (), "x = x - grad")


def test_arrays_are_in_the_order_of_a_kernel():
    assert RMSProp().rule.arrays == ("grad", "x", "square_average")


def everything(grad, register, x, double, limit, i):
    step = 2 * (np.clip(grad, -limit, limit) / (1 + np.abs(register)))
    double = np.where(register >= 0.5, double + step, double - 3 * step)
    return -np.sqrt(x * x + 1e-3) + i * (step - (double - 1)), double


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [7, 100_003])
def test_a_users_own_rule_runs_on_every_backend(backend, dtype, size):
    random = np.random.default_rng(1)
    arrays = [random.normal(size=size).astype(dtype) for _ in range(4)]
    arrays[0][3] = np.nan
    expected = everything(*arrays, 0.75, 0.1)
    given = [backend.asarray(a.copy()) for a in arrays]
    apply(backend, EVERYTHING, given, (0.75, 0.1))
    for array, value in zip(given[2:], expected, strict=True):
        np.testing.assert_array_equal(backend.to_host(array), value)
    for array, value in zip(given[:2], arrays[:2], strict=True):
        np.testing.assert_array_equal(backend.to_host(array), value)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_nan_wins_in_min_and_max(backend, dtype):
    clip = Rule("clip", ("a", "b"), ("low", "high"), (), "low = min(a, b)\nhigh = max(a, b)")
    a = np.array([1, 2, np.nan, 3, np.nan], dtype)
    b = np.array([2, 1, 3, np.nan, np.nan], dtype)
    arrays = [backend.asarray(v) for v in (a, b, np.zeros_like(a), np.zeros_like(a))]
    apply(backend, clip, arrays)
    np.testing.assert_array_equal(backend.to_host(arrays[2]), np.minimum(a, b))
    np.testing.assert_array_equal(backend.to_host(arrays[3]), np.maximum(a, b))


#: Names that the lines of a kernel might use themselves.
INNER = ["length", "start", "stop", "before", "chunk", "chunks", "threads", "nbytes", "at_x", "real", "loop"]
INNER += [
    "address",
    "range",
    "prange",
    "i0",
    "i",
    "n",
    "v_x",
    "array_x",
    "scalar_rate",
    "T",
    "lambda_",
    "double",
]


@pytest.mark.parametrize("size", [5, 600_000])
def test_no_name_of_a_user_meets_one_of_a_kernel(compiled, size, threads):
    threads(2)
    total = " + ".join(INNER)
    scalars = Rule("scalars", ("grad",), ("x",), tuple(INNER), f"x = x - ({total}) * grad")
    reads = Rule("reads", tuple(INNER), ("x",), (), f"x = x - ({total})")
    local = "\n".join(f"{name} = grad" for name in INNER)
    locals_ = Rule("locals_", ("grad",), ("x",), (), f"{local}\nx = x - ({total})")
    ones = compiled.xp.ones(size)
    cases = ((scalars, 1), (reads, len(INNER)), (locals_, 1))
    for tried, given in cases if size == 5 else cases[:1]:
        x = compiled.xp.full(size, 30.0)
        apply(compiled, tried, (*[ones] * given, x), (1.0,) * len(tried.scalars))
        assert (x == 30 - len(INNER)).all()


def test_values_are_all_computed_before_any_is_written(backend):
    swap = Rule("swap", (), ("x", "y"), (), "t = x\nx = y\ny = t")
    x, y = backend.asarray([1.0, 2.0]), backend.asarray([3.0, 4.0])
    apply(backend, swap, (x, y))
    assert (x.tolist(), y.tolist()) == ([3, 4], [1, 2])
    keep = Rule(
        "keep", ("grad",), ("x", "last", "previous"), (), "last = grad\nprevious = x\nx = x - grad / 2"
    )
    last, previous = backend.xp.zeros(2), backend.xp.zeros(2)
    apply(backend, keep, (x, x, last, previous))  # x is its own gradient
    assert (x.tolist(), last.tolist(), previous.tolist()) == ([1.5, 2], [3, 4], [3, 4])


def test_signs_do_not_merge(backend):
    signs = Rule("signs", ("grad",), ("x",), (), "x = x + -(-grad) - -grad + -(+(-(-grad))) * 2")
    x, grad = backend.asarray([1.0]), backend.asarray([10.0])
    apply(backend, signs, (grad, x))
    assert x.tolist() == [1.0]


def test_a_rule_of_the_articles_name_is_the_users_own(backend):
    mine = Rule("rmsprop", ("grad",), ("x",), (), "x = x - grad")
    x, grad = backend.asarray([3.0]), backend.asarray([1.0])
    apply(backend, mine, (grad, x))
    assert x.tolist() == [2.0]


def test_rule_is_public():
    assert gpuprop.Rule is Rule
