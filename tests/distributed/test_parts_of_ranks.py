"""Parts of the parameters, one a rank: stepped as the whole is by one process."""

from functools import cache

import numpy as np
import programs_of_options
import programs_of_parts as programs
import pytest
from launch import run
from variants import NAMES, OF_COMPLEX

KINDS = [
    ("float64", NAMES, programs.SIZES),
    ("complex128", OF_COMPLEX, [(3, 2), (43, 3)]),
    ("float32", ["momentum", "everything", "auto", "average and more"], [(3, 2), (400_001,)]),
    ("float16", ["clip norm", "adam", "auto", "raise"], [(3,), (2003,)]),
]
RANKS = [1, 2, 3, 4]


#: Where the compiler of a software device takes its time.
KINDS_ON_GPU = [
    ("float64", ["momentum", "everything", "auto sgd", "raise", "rates"], [(0,), (3, 2), (1003,)])
]


@cache
def told(ranks, device="cpu"):
    """What each rank has to tell; that parts are stepped as the whole, it has seen itself."""
    return run(programs.everything, ranks, device, KINDS, timeout=600)


@pytest.mark.parametrize("ranks", RANKS)
def test_parts_are_stepped_as_the_whole(ranks):
    assert len(told(ranks)) == ranks


@pytest.mark.parametrize("ranks", RANKS)
def test_what_ranks_agree_on_is_the_same_to_the_bit(ranks):
    first, *others = (each["same"] for each in told(ranks))
    assert [name for name, rate, _ in first if rate] == ["auto", "auto displacement", "auto sgd"]
    for other in others:
        assert other == first


@pytest.mark.parametrize("ranks", RANKS)
def test_a_norm_may_be_beyond_the_numbers_whose_squares_are_such(ranks):
    found = np.array([each["norms"] for each in told(ranks)])  # by rank, case and element
    large, one_large, others_large, infinite, undefined = found.swapaxes(0, 1)
    np.testing.assert_allclose(large, np.full((ranks, 3), -((3 * ranks) ** -0.5)), rtol=1e-12)
    np.testing.assert_allclose(one_large[0], [-(3**-0.5)] * 3, rtol=1e-12)
    np.testing.assert_allclose(one_large[1:], np.full((ranks - 1, 3), -(3**-0.5) / 1e200), rtol=1e-12)
    if ranks > 1:
        np.testing.assert_allclose(others_large[1:], np.full((ranks - 1, 3), -((3 * ranks - 3) ** -0.5)))
    assert np.isnan(infinite[0]).all()
    assert not np.any(infinite[1:])
    assert np.isnan(undefined).all()


@pytest.mark.parametrize("ranks", RANKS[1:])
def test_all_ranks_refuse_what_is_not_finite_on_one(ranks):
    first, *others = (each["refusals"] for each in told(ranks))
    assert others == [first] * (ranks - 1)
    size = sum(2 * (4 + rank) for rank in range(ranks))
    first_bad = "first nan at index (2, 1) of rank 1"
    one, clipped, overflow, none = first
    assert one.startswith(f"grad has 2 elements of {size} that are not finite, the {first_bad}; nothing has")
    assert clipped.startswith(f"grad has {2 * (ranks > 2) + 2} elements of {size} that are not finite, the ")
    assert "the first inf at index (2, 1) of rank 1" in clipped
    at = f"the first at index (2, 1) of rank {ranks - 1}, where grad is 1e+300 and x is 1.0"
    assert overflow.startswith(f"of the results of the step 2 would not be finite, {at}; nothing has")
    assert none is None


@pytest.mark.parametrize("ranks", RANKS)
def test_rows_count_for_a_found_rate_as_those_of_the_whole(ranks):
    assert {each["rows"] for each in told(ranks)} == {told(ranks)[0]["rows"]}


@pytest.mark.parametrize("ranks", RANKS)
def test_copies_and_other_optimizers_go_on_with_all_ranks(ranks):
    rates = {rate for *_, rate in (each["loaded"] for each in told(ranks))}
    assert {each["loaded"][:2] for each in told(ranks)} == {(3, 2)}
    assert len(rates) == 1


def test_an_optimizer_that_is_another_on_one_rank_is_refused_on_all():
    first, *others = run(programs_of_options.compared, 3)
    assert others == [first] * 2
    count, told = first
    assert told[:count] == [None] * count
    for said, text in zip(
        told[count:],
        (
            "learning_rate is 0.2 on rank 1 and 0.1 on rank 0",
            "nonfinite is 'propagate' on rank 1 and 'skip' on rank 0",
            "clip_norm is 2.0 on rank 1 and None on rank 0",
            "optimizer is 'SGD' on rank 1 and 'RMSProp' on rank 0",
            "learning_rate is <programs_of_options.Halving object> on rank 1 and 0.1 on rank 0",
            "learning_rate is constant_schedule(value=2.0) on rank 1 and constant_schedule(value=1.0) on",
            "bounds is (an array, 2.0) on rank 1 and (an array, 1.0) on rank 0",
            "r is 2.0 on rank 1 and 1.0 on rank 0",
            "clip_norm is 2.0 on rank 1 and not given on rank 0",
            "optimizer is Rule(name='own', reads=('g',), writes=('x',), scalars=('r',), body='x = x - 2 * r",
            "a: clip_norm is 2.0 on rank 1 and 1.0 on rank 0",
            "the order of groups is ('b', 'a') on rank 1 and ('a', 'b') on rank 0",
            "dtype of x is 'float32' on rank 1 and 'float64' on rank 0; give all ranks the same",
        ),
        strict=True,
    ):
        assert said.startswith(text)


def test_no_step_allocates_an_array():
    for most in run(programs.steps_allocate_nothing, 2):
        assert max(most.values()) < 16_384, most  # the smallest array would have 200,000 bytes


def test_parts_on_the_numpy_backend():
    kinds = [("float64", NAMES, [(3, 2), (103,)]), ("complex64", OF_COMPLEX, [(43, 3)])]
    first, *others = run(programs.everything, 3, "numpy", kinds)
    assert [{**each, "norms": None} for each in others] == [{**first, "norms": None}] * 2


@pytest.mark.gpu
@pytest.mark.parametrize(("ranks", "transport"), [(2, "nccl"), (3, "mpi")])
def test_parts_on_gpus(ranks, transport):
    device = f"gpu by {transport}"
    first, *others = run(programs.everything, ranks, device, KINDS_ON_GPU, gpu=True, timeout=600)
    for other in others:
        assert {**other, "norms": None} == {**first, "norms": None}
    assert all(error is None or "of rank 1" in error or "of rank 2" in error for error in first["refusals"])


@pytest.mark.gpu
def test_what_ranks_tell_each_other_is_not_captured():
    for plain, clipped, found, groups in run(programs.captures, 2, "gpu by nccl", gpu=True):
        assert plain == (3, None)
        for steps, refusal in (clipped, found):
            assert steps == 1
            assert "the ranks tell each other the norm, or the sums of a found rate" in refusal
        assert groups[0] == 1
        assert "one clip_norm of ranks" in groups[1]
