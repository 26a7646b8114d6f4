"""The automatic rate against the best of many: the counting, the score, the bar."""

import json
import math
import statistics
import sys

import compare_rates
import numpy as np
import pytest
from compare_rates import METHODS, RATES, WITH_MOMENTUM, automatic, by_hand, main, score
from problems import PROBLEMS, Quadratic

import gpuprop


def test_runs_by_hand_are_what_algebra_says():
    problem, rate = Quadratic(), 1.5e-3
    values = by_hand(problem, gpuprop.SGD(rate), [7, 3], 0)
    for k, value in zip((7, 3), values, strict=True):
        x = problem.start * (1 - rate * problem.curvature) ** k
        assert value == pytest.approx(problem.value(x))
    with np.errstate(all="ignore"):
        assert by_hand(problem, gpuprop.SGD(1e4), [1, 200], 0)[1] == math.inf


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("seed", [0, 3])
def test_minimize_with_a_given_rate_goes_where_steps_by_hand_go(name, seed):
    problem, optimizer = PROBLEMS["factorisation"](), METHODS[name](1e-3)
    values, first = automatic(problem, optimizer, [4, 20], seed)
    assert (values, first) == (by_hand(problem, optimizer, [4, 20], seed), 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_MOMENTUM)
def test_all_gradients_count(name):
    problem, points = PROBLEMS["factorisation"](), []

    def gradient_of_a_run(seed):
        def gradient(x):
            points.append(x.copy())
            return problem.gradient(x)

        return gradient

    problem.gradient_of_a_run = gradient_of_a_run
    values, first = automatic(problem, METHODS[name]("auto"), [10, 25], 0)
    assert values == [problem.value(points[10]), problem.value(points[25])]
    assert 0 <= first < 10
    assert values[1] < values[0] < problem.value(problem.start)


def tries(ours, *others):
    return {"constant": [others[0], math.inf], "cosine": list(others[1:]), "automatic": ours}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (tries(11, 11, 20), 1),
        (tries(20, 11, 110), 3 / 2),
        (tries(11, 110, 20), 2 / 3),
        (tries(10 + 1e-12, 10, 10), 1),  # both are down by nine decades, and more do not count
        (tries(20, 2000, math.inf), 0),
        (tries(1010, 11, 11), math.inf),
        (tries(1100, 11, 11), math.inf),
        (tries(math.inf, 11, 11), math.inf),
    ],
)
def test_the_score_is_a_ratio_of_decades(row, expected):
    assert score(row, 1010, 10) == pytest.approx(expected)


def cells(text):
    """The cells of each row, by the title of its table and its own."""
    found, table = {}, None
    for line in text.splitlines():
        if ": f after " in line:
            table = found[line] = {}
        elif table is not None and line[:24].strip():
            table[line[:24].strip()] = line[24:].split()
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Printed, written and drawn."""
    folder, printed = tmp_path_factory.mktemp("rates"), []
    arguments = ["--problems", "quadratic", "factorisation", "quadratic", "--steps", "30", "6", "30"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_rates, "say", printed.append)
        files = ["--json", str(folder / "report.json"), "--plot", str(folder / "picture.png")]
        assert main([*arguments, *files]) == 0
    report = json.loads((folder / "report.json").read_text())
    return "\n".join(printed), report, folder / "picture.png"


@pytest.mark.slow
def test_the_table_says_what_the_json_says(run):
    text, report, _ = run
    tables = cells(text)
    assert report["gradients"] == [6, 30]
    assert list(report["problems"]) == ["quadratic", "factorisation"]
    assert list(tables) == [
        f"{name}: f after {count} gradients" for name in WITH_MOMENTUM for count in (6, 30)
    ]
    for place, (title, table) in enumerate(tables.items()):
        name, scores = title.split(":")[0], []
        for problem in report["problems"].values():
            entry = problem["methods"][name]
            row = entry["f"][place % 2]
            expected = [f"{problem['start']:.4g}"]
            for kind in ("constant", "cosine"):
                values = [math.inf if f is None else f for f in row[kind]]
                assert len(values) == len(RATES) == 13
                least = int(np.argmin(values))
                expected += [f"{values[least]:.4g}", "at", f"{RATES[least]:.2g}"]
            outcome = "lost" if row["lost"] else f"{row['score']:.2f}"
            expected += [f"{row['automatic']:.4g}", str(entry["first"]), outcome]
            assert table[problem["title"]] == expected
            assert row["lost"] == (row["automatic"] is None or row["automatic"] > problem["start"])
            scores.append(math.inf if row["score"] is None else row["score"])
        assert table["median"] == [f"{statistics.median(scores):.2f}"]


@pytest.mark.slow
def test_the_least_value_is_no_larger_than_that_of_any_run(run):
    for problem in run[1]["problems"].values():
        for entry in problem["methods"].values():
            for row in entry["f"]:
                found = [f for f in (*row["constant"], *row["cosine"], row["automatic"]) if f is not None]
                assert problem["minimum"] <= min(found)


@pytest.mark.slow
def test_the_picture_is_one(run):
    import matplotlib.image

    pixels = matplotlib.image.imread(run[2])
    assert pixels.shape[0] > 900
    assert pixels.shape[1] > 500
    assert pixels[..., :3].std() > 0.1


@pytest.mark.slow
def test_the_seed_decides_the_runs(capsys):
    outputs = []
    for seed in ("7", "7", "8"):
        main(["--steps", "3", "--problems", "quadratic", "--methods", "SGD", "--seed", seed])
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


def test_without_its_data_a_problem_is_left_out(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    few = ["--steps", "2", "--methods", "Adam"]
    assert main([*few, "--problems", "logistic", "quadratic"]) == 0
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if line.startswith("left out: logistic ("))
    assert "sklearn" in line
    assert line.endswith('; mend: python -m pip install "gpuprop[compare,plot]")')
    (table,) = cells(out).values()
    assert list(table) == ["ill-scaled quadratic", "median"]
    assert main([*few, "--problems", "batches"]) == 2
    assert capsys.readouterr().err.endswith("nothing could be compared\n")


@pytest.mark.slow
def test_the_automatic_rate_is_near_the_best_of_26(tmp_path):
    """What the guide claims. (The two that are left out take as long as the others together.)"""
    pytest.importorskip("sklearn")
    file = tmp_path / "report.json"
    assert main(["--problems", *PROBLEMS.keys() - {"rosenbrock1e5", "photograph"}, "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert not report["left_out"]
    for name in WITH_MOMENTUM:
        rows = [problem["methods"][name]["f"] for problem in report["problems"].values()]
        assert not any(row["lost"] for pair in rows for row in pair)
        for scores in zip(*([row["score"] for row in pair] for pair in rows), strict=True):
            assert statistics.median(scores) <= 1.5, (name, scores)
