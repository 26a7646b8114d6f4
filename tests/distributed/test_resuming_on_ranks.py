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


def test_a_run_of_another_length_is_told(tmp_path):
    run(programs_of_resuming.run_all, 2, tmp_path, ["x"], 5)
    for ranks in (2, 3):
        found = run(programs_of_resuming.resume_with_another_length, ranks, tmp_path / "momentum-x")
        assert found == [found[0]] * ranks
        assert f"of the 11 rows in {tmp_path / 'momentum-x'}" in found[0]
