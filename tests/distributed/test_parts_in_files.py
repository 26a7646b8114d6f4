"""States that several ranks have saved: as many ranks as one likes go on from them, bit for bit."""

import os

import parts_in_files
import pytest
from launch import run
from parts_in_files import CASES, EXTRAS, STEPS

from gpuprop import load_state

RANKS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    pytest.importorskip("ml_dtypes")
    folder = tmp_path_factory.mktemp("parts")
    for ranks in RANKS:
        run(parts_in_files.save_all, ranks, folder)
    return folder


@pytest.fixture(scope="module")
def expected():
    """What one process has, without any file, after the first steps and after the others."""
    found = {}
    for case in CASES:
        state, parts = parts_in_files.begun(case, None)
        rows = {name: slice(0, len(x)) for name, x in parts.items()}
        found[case] = parts_in_files.continued(state, parts, case, rows)
    return found


def assert_is_part(found, expected, names):
    """Whether a rank has, to the last bit, its rows of what one process has."""
    rows, before, skipped, after, extras = found
    whole, all_skipped, last, _ = expected
    assert before.keys() == whole.keys()
    for name, array in before.items():
        own = rows[names[int(name.split(".")[0])] if "." in name else name]
        assert_same(array, whole[name][own])
    for name, array in after.items():
        assert_same(array, last[name][rows[name]])
    assert skipped == all_skipped
    assert extras.keys() == EXTRAS.keys()
    for name, array in EXTRAS.items():
        assert_same(extras[name], array)


def assert_same(one, other):
    assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@pytest.mark.parametrize("ranks", RANKS)
def test_any_number_of_ranks_goes_on_bit_for_bit_from_any_other(files, expected, ranks):
    for rank, of_rank in enumerate(run(parts_in_files.load_all, ranks, files, RANKS)):
        for (case, saved), found in of_rank.items():
            print(f"{case} of {saved} ranks, on rank {rank} of {ranks}")
            assert_is_part(found, expected[case], list(parts_in_files.start(case)))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("saved", RANKS)
def test_one_process_without_mpi_has_the_whole(files, expected, case, saved):
    found = parts_in_files.loaded(files / f"{case}-{saved}", case)
    assert_is_part(found, expected[case], list(parts_in_files.start(case)))


def test_a_part_can_be_had_by_one_process_too(files):
    for saved in RANKS:
        x = load_state(files / f"everything-{saved}").extras["x"]
        for low, high in ((0, 11), (0, 0), (3, 4), (2, 9), (10, 11)):
            state = load_state(files / f"everything-{saved}", part=slice(low, high))
            assert_same(state.extras["x"], x[low:high])
            assert (state.step, state.velocity.shape) == (STEPS, (high - low, 3))
        state = load_state(files / f"groups-{saved}", part={"a": slice(5, None)})
        assert (state.extras["a"].shape, state.extras["b"].shape) == ((4,), (2, 5))


@pytest.mark.parametrize("saved", RANKS)
def test_nothing_is_left_but_an_index_and_its_parts(files, saved):
    for case in CASES:
        names = [name for name in os.listdir(files) if name.startswith(f"{case}-{saved}")]
        assert len(names) == (1 if saved == 1 else 1 + saved)
    assert not [name for name in os.listdir(files) if name.endswith(".tmp")]
