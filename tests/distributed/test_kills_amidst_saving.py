"""Ranks that are killed while they save: what they saved before, or the next, is whole."""

import os
import random
import signal
import struct
import time

import pytest
import trouble_with_files
from launch import Job, remove_left_over

from gpuprop import load_state
from gpuprop.checkpoint.parts.index import Index

SIZE = 20_000


def killed(folder, step, ranks, kill, rng, wait):
    """Kill ranks that save the steps after `step`; the last one that rank 0 acknowledged."""
    acknowledged = folder / "acknowledged"
    acknowledged.write_bytes(b"")
    with Job(trouble_with_files.save_for_ever, ranks, folder, step, SIZE) as job:
        job.told("saving")
        time.sleep(wait)
        assert job.process.poll() is None, job.report()
        if kill == "all":
            job.process.kill()  # its ranks die with it
        else:
            os.kill(job.pid(rng.randrange(ranks)), signal.SIGKILL)
        assert job.wait(60) != 0
    saved = struct.unpack(f"<{len(data) // 8}q", data) if (data := acknowledged.read_bytes()) else ()
    return saved[-1] if saved else step


def assert_whole(state, saved):
    assert state.step in (saved, saved + 1), f"step {state.step}, acknowledged {saved}"
    assert list(state.extras) == ["x"]
    for array in (*state.arrays.values(), *state.extras.values()):
        assert array.shape[1:] == (3,)
        assert (array == state.step).all(), "elements of another step"


@pytest.mark.slow
@pytest.mark.parametrize("kills", [20])
def test_kills_of_ranks_amidst_saving_lose_nothing(tmp_path, kills):
    rng = random.Random(1)
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "state"
    step, wait, unfinished = 0, 0.05, 0
    for number in range(kills):
        ranks, kind = rng.randint(2, 4), "all" if number % 4 == 3 else "one"
        saved = killed(tmp_path, step, ranks, kind, rng, rng.uniform(0, 2 * wait))
        # About half of the kills come before the first save is done.
        wait *= 1.1 if saved == step else 1 / 1.1
        others = {str(path.parent / name) for name in os.listdir(path.parent) if ".rank" in name}
        if saved or path.exists():  # the first ones come before there is an index
            state = load_state(path)
            assert_whole(state, saved)
            step = state.step
            others -= set(Index.read(str(path)).files)
        assert len(others) <= 4, "what earlier kills have left is still there"
        unfinished += bool(others)
    remove_left_over()
    print(f"{kills} kills, {unfinished} of them amidst parts, {step} steps")
    assert unfinished >= kills // 10
    assert step >= kills // 4
    state.save(path, **state.extras)
    assert [name for name in os.listdir(path.parent) if not name.endswith(".tmp")] == ["state"]
