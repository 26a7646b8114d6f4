"""Random programs on several ranks: none hangs, and whatever comes of an operation, comes on every rank."""

import pytest
import random_programs
from launch import run


def go(ranks, count, folder, transport=None):
    first, *others = run(
        random_programs.programs,
        ranks,
        "plain",
        count,
        folder,
        transport,
        gpu=transport is not None,
        timeout=600,
    )
    assert others == [first] * (ranks - 1)
    assert first["do_step", "FloatingPointError"] + first["do_sharded_step", "FloatingPointError"] > 0
    assert first["do_load", "FileNotFoundError"] > 0
    assert {name for name, end in first if end == "done"} == {
        name for name in vars(random_programs.Program) if name.startswith("do_")
    }


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("count", [60, pytest.param(400, marks=pytest.mark.slow)])
def test_no_program_hangs_and_all_ranks_agree(ranks, count, tmp_path):
    go(ranks, count, tmp_path)


@pytest.mark.gpu
@pytest.mark.parametrize("transport", ["mpi", "nccl"])
def test_nor_does_one_on_gpus(transport, tmp_path):
    go(3, 60, tmp_path, transport)
