"""A run of `minimize` that was cut short goes on with another number of ranks, as if nothing had been."""

import programs_of_resuming
import pytest
from launch import run


@pytest.mark.parametrize("saved", [1, 2, 4])
def test_a_run_goes_on_with_any_number_of_ranks(saved, tmp_path):
    others = (1, 3) if saved != 1 else (2, 4)
    run(programs_of_resuming.run_all, saved, tmp_path, others, 17)
    for ranks in others:
        found = run(programs_of_resuming.run_all, ranks, tmp_path, [ranks], 40)
        for turn, method in enumerate(programs_of_resuming.METHODS):
            x, nit, nfev, steps = programs_of_resuming.run(method, None, programs_of_resuming.N, 40)
            for of_rank in found:
                assert of_rank[turn][1:] == (nit, nfev, steps)
            for name, array in x.items():
                joined = [number for of_rank in found for number in of_rank[turn][0][name].tolist()]
                assert joined == array.tolist()


def test_a_run_of_other_parameters_is_told_alike_on_all_ranks(tmp_path):
    run(programs_of_resuming.run_all, 2, tmp_path, ["x"], 5)
    of_one, of_groups = tmp_path / "momentum-x", tmp_path / "groups-x"
    cut = (
        "give each rank its part alone, as numpy.array_split cuts: whole[comm.cut(11)], or name another file"
    )
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for ranks, lengths, shorter, rows in ((2, "6, 6", "5, 5", 6), (3, "4, 4, 4", "4, 3, 3", 4)):
        found = run(programs_of_resuming.resume_with_others, ranks, tmp_path)
        assert found == [found[0]] * ranks
        for name, text in {
            "length": f"x0 has 12 rows on all ranks ({lengths}) and {of_one} has 11; {cut}",
            "whole": f"x0 has {11 * ranks} rows on all ranks (11, 11{', 11' * (ranks - 2)}) and {of_one}",
            "one of a group": f"x0['b'] has 10 rows on all ranks ({shorter}) and {of_groups} has 11; {cut}",
            "dictionary": f"{of_one} is of one array and x0 is a dictionary of a, b; pass an x0 like that of",
            "array": f"{of_groups} is of a dictionary of a, b and x0 is one array; pass an x0 like that of",
            "names": f"{of_groups} is of a dictionary of a, b and x0 is a dictionary of a, c; pass an x0",
            "dtype": f"x of float64 of shape ({rows},) and x0 is of float32 of shape ({rows},); they must be",
            "columns": f"x of float64 of shape ({rows},) and x0 is of float64 of shape ({rows}, 3); they",
            "dtype of one rank": "and x0 is of float32 of shape",
        }.items():
            message, is_as_before = found[0].pop(name)
            assert text in message
            assert is_as_before
        assert not found[0]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
