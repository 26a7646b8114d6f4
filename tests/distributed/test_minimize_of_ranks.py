"""`minimize` over ranks: the path of one process, and a file for any number of ranks."""

import re

import numpy as np
import programs_of_minimize as programs
import pytest
from launch import Job, run

SIZES = (9, 2)
SAME = ("nit", "nfev", "njev", "status", "success", "message")


def joined(parts):
    if isinstance(parts[0], dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


def check_same_bits(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            check_same_bits(one[name], other[name])
    else:
        assert one.dtype == other.dtype
        assert np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()


def check_path(case, ranks, alone):
    """That all ranks have gone the way of one process: by the same bits, but for the sum that f is."""
    first = ranks[0]
    for other in ranks[1:]:
        assert {name: other[name] for name in SAME} == {name: first[name] for name in SAME}
        assert other["fun"] == first["fun"] or np.isnan(first["fun"])
        check_same_bits(other["history"], first["history"])
    digits = re.compile(r"f = [-+.e\d]+")
    assert digits.sub("f", first.pop("message")) == digits.sub("f", alone.pop("message"))
    assert {name: first[name] for name in SAME[:-1]} == {name: alone[name] for name in SAME[:-1]}
    for name in ("x", "jac", "state"):
        check_same_bits(joined([rank[name] for rank in ranks]), alone[name])
    for name in ("step", "gradient"):
        check_same_bits(first["history"][name], alone["history"][name])
    rtol = 1e-6 if case == "float32" else 1e-13
    np.testing.assert_allclose(first["history"]["fun"], alone["history"]["fun"], rtol)
    if case != "no f":
        np.testing.assert_allclose(first["fun"], alone["fun"], rtol)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_all_ranks_go_the_way_of_one_process(ranks):
    found = run(programs.descents, ranks, SIZES)
    for name, n in found[0]:
        alone = programs.descend(None, n, np, name)
        check_path(name, [each[name, n] for each in found], alone)
    statuses = {found[0][name, 9]["status"] for name in programs.CASES}
    assert statuses == {0, 1, 2, 4, 5, 6}


@pytest.mark.gpu
def test_all_ranks_go_the_way_of_one_gpu():
    import cupy

    found = run(programs.descents, 2, SIZES, True, gpu=True)
    for name, n in found[0]:
        check_path(name, [each[name, n] for each in found], programs.descend(None, n, cupy, name))


@pytest.mark.parametrize("ranks", [2, 4])
def test_parameters_of_one_rank_may_depend_on_those_of_another(ranks):
    found = run(programs.coupled, ranks, 1, programs.SGD(0.02, momentum=0.8), {"gtol": 1e-10})
    x = np.concatenate([each["x"] for each in found])
    assert {each["status"] for each in found} == {0}
    np.testing.assert_allclose(x, found[0]["least"], rtol=1e-8)


@pytest.mark.parametrize(("name", "n"), [("one", 9), ("one", 3), ("two", 9)])
def test_a_run_goes_on_with_any_number_of_ranks(tmp_path, name, n):
    """One of 40 steps by one process, against parts of it by 3 ranks, 2 and 1."""
    files = [str(tmp_path / f"{k}.safetensors") for k in range(4)]
    run(programs.go_on_from, 3, n, name, files[0], files[1], 13)
    found = run(programs.go_on_from, 2, n, name, files[1], files[2], 27)
    assert found[0]["message"] == found[1]["message"]
    assert f"The run went on from {files[1]} at step 13." in found[0]["message"]
    last = programs.go_on(None, n, np, name, 40, resume=files[2])
    alone = programs.go_on(None, n, np, name, 40)
    for of_run in ("x", "jac", "state"):
        check_same_bits(last[of_run], alone[of_run])
    assert [last[key] for key in ("nit", "nfev", "njev", "status")] == [
        alone[key] for key in ("nit", "nfev", "njev", "status")
    ]
    for key in ("step", "gradient"):
        check_same_bits(last["history"][key], alone["history"][key])
    np.testing.assert_allclose(last["history"]["fun"], alone["history"]["fun"], 1e-13)


def test_a_file_of_more_rows_than_the_ranks_have_is_refused(tmp_path):
    path = str(tmp_path / "run.safetensors")
    programs.go_on(None, 9, np, "one", 10, checkpoint=path)
    with Job(programs.go_on_with_another_length, 2, path) as job:
        assert job.wait() != 0
        assert f"and {path} has 9; give each rank its part alone" in job.err


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_rate_is_found_for_all_ranks(ranks):
    found = run(programs.coupled, ranks, 1, None, {"gtol": 1e-8})
    assert {each["status"] for each in found} == {0}
    assert len({each["found_rate"] for each in found}) == 1
    x = np.concatenate([each["x"] for each in found])
    np.testing.assert_allclose(x, found[0]["least"], rtol=1e-6)
    alone = programs.coupled(1, None, {"gtol": 1e-8}, programs.Alone())
    first, whole = (one["history"]["gradient"][:3] for one in (found[0], alone))
    np.testing.assert_allclose(first, whole, rtol=1e-9)
