"""States that several ranks have saved: as many ranks as one likes go on from them, bit for bit."""

import os

import numpy as np
import parts_in_files
import pytest
from launch import run
from parts_in_files import CASES, EXTRAS, STEPS

from gpuprop import RMSProp, load_state, select_backend

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


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="this system does not tell what is read")
def test_no_rank_holds_or_reads_the_whole(tmp_path):
    """An array of the whole has 8 MB; a rank of four has 2 MB of each of two, and reads or checks these."""
    paths = [tmp_path / name for name in ("rows", "columns", "parts")]
    for path, x in zip(paths, (np.ones(10**6), np.ones((1000, 1000), order="F")), strict=False):
        RMSProp().init(x, backend=select_backend("numpy")).save(path, x=x)
    run(parts_in_files.save_large, 3, tmp_path, (1000, 1000))
    (tmp_path / "four").mkdir()
    run(parts_in_files.save_large, 4, tmp_path / "four", (1000, 1000))
    paths.append(tmp_path / "four" / "parts")
    found = run(parts_in_files.memory_of_loading, 4, paths)
    assert max(held for rank in found for held, _ in rank) < 7.5e6
    rows, _, three, four = np.array(found)[:, :, 1].T
    # Four parts for four ranks are read once; others of which no rank reads all, twice in all.
    assert max(four) < 4.2e6
    assert max(sum(rows), sum(three)) < 2 * 16.5e6


@pytest.mark.gpu
def test_parts_on_gpus_come_back_to_them(tmp_path):
    found = run(parts_in_files.on_gpu, 2, tmp_path, gpu=True)
    assert [step for _, step in found] == [1, 1]
    assert [len(x) for x, _ in found] == [8, 7]
    whole = load_state(tmp_path / "state", backend=select_backend("numpy"))
    assert_same(np.concatenate([x for x, _ in found]), whole.extras["x"])
