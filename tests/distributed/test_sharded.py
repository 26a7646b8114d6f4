"""Copies of a vector on all ranks, of whose state each has a part: the same points as one process has."""

import tracemalloc

import numpy as np
import programs_of_sharded as programs
import pytest
from launch import run
from variants import NAMES, OF_COMPLEX

from gpuprop.backends import backend_of
from gpuprop.distributed.vectors import checksum

RANKS = [1, 2, 3, 4]
SOME = ["everything", "auto", "both arrays", "adam options", "decay by element", "own", "raise"]
SHAPES = [1, 3, (5, 1, 7)]
#: Of each, how it goes on ranks that share two CPUs, and on one device for each.
TRANSPORTS = [("cpu", "mpi"), *[pytest.param("gpu", t, marks=pytest.mark.gpu) for t in ("mpi", "nccl")]]


def nothing_wrong(ranks, *arguments, **how):
    for rank, wrong in enumerate(run(programs.compare, ranks, *arguments, **how)):
        assert not wrong, f"on rank {rank}: {wrong[:5]}"


@pytest.mark.parametrize("ranks", RANKS)
def test_every_option_gives_the_points_of_one_process(ranks):
    nothing_wrong(ranks, "numpy", "auto", NAMES, np.float32, SHAPES)


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_every_option_for_complex_numbers(ranks):
    nothing_wrong(ranks, "numpy", "auto", OF_COMPLEX, np.complex64, SHAPES)


@pytest.mark.parametrize(("device", "transport"), TRANSPORTS)
@pytest.mark.parametrize("ranks", [2, 3])
def test_kernels_give_the_points_of_one_process(ranks, device, transport):
    nothing_wrong(ranks, device, transport, SOME, np.float32, [1, 300, (50, 101)], gpu=device == "gpu")


@pytest.mark.parametrize("dtype", programs.TYPES)
@pytest.mark.parametrize(("device", "transport"), TRANSPORTS)
def test_every_type(dtype, device, transport):
    nothing_wrong(3, device, transport, ["momentum", "skip"], dtype, [0, 1, (), 35], gpu=device == "gpu")


@pytest.mark.parametrize("ranks", [2, 3])
def test_gradients_are_averaged(ranks):
    for found in run(programs.averages, ranks):
        for name, ours, one in found:
            np.testing.assert_allclose(ours, one, rtol=1e-6 if "64" in name else 1e-2, err_msg=name)


def test_arrays_may_lie_in_any_order():
    assert run(programs.layouts, 3) == [[]] * 3


@pytest.mark.parametrize("ranks", [1, 4])
def test_x_may_be_its_own_gradient(ranks):
    for x in run(programs.is_its_own_gradient, ranks):
        np.testing.assert_array_equal(x, (1 - ranks / 4) * np.array([5, 4, 3]))


def test_what_cannot_be_stepped_is_refused_before_anything_is_written():
    for said, x in run(programs.refusals, 2):
        texts = iter(said)
        for text in (
            "TypeError: optimizer is a Fused; it must be one that steps by a gradient in an array",
            "TypeError: comm is of type Intracomm; it must be what gpuprop.distributed.communicator(",
            "TypeError: average is 1; it must be True or False",
            "ValueError: x has shape (3, 2) and strides (32, 16), with gaps in memory",
            "ValueError: an option has shape (3, 4) and x has (5,); they must be the same",
            "ValueError: all of x is 'float64 of shape (4,) in numpy, axes in the order (0,)' on rank 1 and "
            "'float64 of shape (3,) in numpy, axes in the order (0,)' on rank 0; give all ranks the same",
            "ValueError: all of x is 'float64 of shape (3,) in numpy",
            "ValueError: average is False on rank 1 and True on rank 0; give all ranks the same",
            "ValueError: learning_rate is 1.1 on rank 1 and 0.1 on rank 0; give all ranks the same",
            "(Sharded has no minimize: write the loop over its step, or pass parts of x, and comm=)",
            "ValueError: grad has strides (8, 24) and x has (32, 8); they must lie alike in memory",
            "ValueError: grad has shape (2, 4) and x has (3, 4); they must be the same",
            "TypeError: grad has dtype float32 and x has float64; they must be the same, as "
            "grad.astype(x.dtype) makes",
            "TypeError: grad has dtype complex128 and x has float64; they must be the same: make x complex",
            "ValueError: grad has shape (12,) and x has (3, 4); they must be the same, as "
            "grad.reshape(x.shape) is",
            "TypeError: grad is a builtins.list",
            "TypeError: state is a NoneType; it must be one that init gave",
            "ValueError: this rank's part of x has 20 elements of float64, and state is of a part of 6",
            "FloatingPointError: ",
        ):
            assert text in next(texts)
        assert next(texts, None) is None
        np.testing.assert_array_equal(x, np.arange(12.0).reshape(3, 4))


def refuses_each_start(ranks, *arguments, **how):
    first, *others = run(programs.starts, ranks, *arguments, **how)
    assert others == [first] * (ranks - 1)  # all ranks say the same
    assert {said for said in first if said is not None} == {
        f"x on rank {ranks - 1} has other numbers than on rank 0; copies start from one x, as "
        "MPI.COMM_WORLD.Bcast(x) makes of that of rank 0, or one seed for all ranks"
    }


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_start_that_is_another_on_one_rank_is_refused_on_all(ranks):
    refuses_each_start(ranks, "cpu", programs.TYPES)


@pytest.mark.gpu
def test_a_start_that_is_another_on_one_gpu_is_refused_on_all():
    refuses_each_start(2, "gpu", [np.float16, np.float32, np.complex128], gpu=True)


@pytest.mark.parametrize("dtype", programs.TYPES)
def test_a_start_is_compared_without_a_copy(dtype):
    x = np.ones(1_000_000, dtype)
    backend = backend_of(x)
    tracemalloc.start()
    checksum(backend, x)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_of_options_that_lie_otherwise_than_x_a_part_is_kept():
    shape = (60, 100)
    for like_x, otherwise in run(programs.memory_of_options, 3, shape):
        assert like_x == (8 * 2000, 0)
        assert otherwise == (8 * 2000, 8 * 2000)


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_state_is_divided_and_a_step_allocates_no_array(ranks):
    size = 300_000
    for kept, made, most in run(programs.memory, ranks, size):
        assert kept == 2 * size // ranks * 4  # the two moments of Adam
        assert kept <= made < kept + size // ranks * 4 + 100_000  # and the sum of the gradients of the part
        assert most < 50_000


def test_a_run_goes_on_with_another_number_of_ranks(tmp_path):
    first, *others = run(programs.saved_and_resumed, 3, tmp_path, True)
    for ranks in (1, 2, 4):
        others += run(programs.saved_and_resumed, ranks, tmp_path, False)
    for other in others:
        for x, y in zip(first, other, strict=True):
            np.testing.assert_array_equal(y, x)


def test_files_of_another_x_are_refused(tmp_path):
    for (longer, narrower, flat, without), x in run(programs.loads, 2, tmp_path / "state"):
        assert "has (4,) of float64 as the part of x of rank 0, and the x given has (5,) of float64" in longer
        assert (
            "has (4,) of float64 as the part of x of rank 0, and the x given has (4,) of float32" in narrower
        )
        assert "has an x of another shape than (2, 4), or of another order in memory; give an array" in flat
        assert "has no x; give an array like the one that was saved" in without
        np.testing.assert_array_equal(x, np.ones(8))
