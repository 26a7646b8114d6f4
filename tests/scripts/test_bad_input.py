"""Arguments that cannot be: in every script one line on stderr, exit code 2, and nothing on stdout."""

import benchmark
import compare_optimizers
import compare_rates
import prove_on_gpu
import pytest
import run_quadratic
import time_launches
import time_ranks

ALL = [benchmark, compare_optimizers, compare_rates, run_quadratic]
FILES = [
    (["--json", "/no/such/folder/file"], "cannot write '/no/such/folder/file': there is no folder '/no/such"),
    (["--json", "f", "--plot", "./f"], "--plot and --json name the same file, 'f'"),
    (["--plot", "a.docx"], "argument --plot: cannot write 'a.docx': Format 'docx' is not supported"),
    (["--json", "f" * 300], "': File name too long"),
    (["--plot", "/"], "cannot write '/': it is a folder"),
    (["--fast"], "unrecognized arguments: --fast"),
]


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        *((script, *case) for script in ALL for case in FILES),
        (run_quadratic, ["--device", "tpu"], "invalid choice: 'tpu'"),
        (run_quadratic, ["--transport", "mpi"], "--transport is of several ranks; give --mpi, too"),
        (run_quadratic, ["--size", "0"], "'0' is not a whole number of at least 1"),
        (run_quadratic, ["--size", "1.5"], "'1.5' is not a whole number"),
        (run_quadratic, ["--size", "1e400"], "'1e400' is not a whole number"),
        (run_quadratic, ["--epochs", "-1"], "'-1' is not a whole number of at least 0"),
        (run_quadratic, ["--every", "0"], "'0' is not a whole number of at least 1"),
        (run_quadratic, ["--learning-rate", "nan"], "learning_rate is nan; it must be finite"),
        (run_quadratic, ["--learning-rate", "fast"], "invalid float value: 'fast'"),
        (run_quadratic, ["--rho", "1"], "rho is 1.0; it must be in [0, 1)"),
        (run_quadratic, ["--epsilon", "-1"], "epsilon is -1.0; it must be finite and at least 0"),
        (run_quadratic, ["--dtype", "int8"], "invalid choice: 'int8'"),
        (compare_optimizers, ["--device", "tpu"], "invalid choice: 'tpu'"),
        (compare_optimizers, ["--problems", "easy"], "invalid choice: 'easy'"),
        (compare_optimizers, ["--steps", "0"], "'0' is not a whole number of at least 1"),
        (compare_optimizers, ["--steps", "1.5"], "'1.5' is not a whole number"),
        (compare_optimizers, ["--seed", "-1"], "'-1' is not a whole number of at least 0"),
        (compare_rates, ["--problems", "easy"], "invalid choice: 'easy'"),
        (compare_rates, ["--methods", "LBFGS"], "invalid choice: 'LBFGS'"),
        (compare_rates, ["--steps", "10", "0"], "'0' is not a whole number of at least 1"),
        (compare_rates, ["--seed", "-1"], "'-1' is not a whole number of at least 0"),
        (benchmark, ["--sizes", "0"], "'0' is not a whole number of at least 1"),
        (benchmark, ["--contenders", "us"], "invalid choice: 'us'"),
        (benchmark, ["--threads", "5000"], "--threads is 5000, and there are "),
        (benchmark, ["--dtypes", "float16", "--variants", "modulus"], "whose parts are float32 or float64"),
        (prove_on_gpu, [], "give either --out FOLDER, to run the parts, or --page FILE"),
        (prove_on_gpu, ["--out", "x", "--page", "y"], "give either --out FOLDER"),
        (prove_on_gpu, ["--out", "x", "--parts", "dance"], "invalid choice: 'dance'"),
        (prove_on_gpu, ["--out", "x", "--budget", "0"], "'0' is not a whole number of at least 1"),
        (run_quadratic, ["--mpi", "--fused"], "--fused makes no array of gradients, which ranks could add"),
        (run_quadratic, ["--transport", "post"], "invalid choice: 'post'"),
        (time_ranks, ["--size", "0"], "'0' is not a whole number of at least 1"),
        (time_launches, ["--sizes", "0"], "'0' is not a whole number of at least 1"),
        (time_launches, ["--json", "/"], "cannot write '/': it is a folder"),
    ],
)
def test_arguments_that_are_refused(script, arguments, words, capsys):
    with pytest.raises(SystemExit) as exit:
        script.main(arguments)
    printed = capsys.readouterr()
    assert (exit.value.code, printed.out) == (2, "")
    assert len(printed.err.splitlines()) == 1
    assert words in printed.err


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        (run_quadratic, ["--size", str(10**15)], "for 3 arrays of 1000000000000000 parameters"),
        (run_quadratic, ["--fused", "--size", str(10**15)], "for 2 arrays of 1000000000000000 parameters"),
        (
            compare_optimizers, ["--steps", "1e14", "--problems", "saddle"],
            "for 100000000000000 steps; choose fewer with --steps",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_in_memory(script, arguments, words, capsys):
    assert script.main(["--device", "numpy", *arguments]) == 2
    printed = capsys.readouterr()
    where, why = printed.err.splitlines()
    assert "running on numpy: " in where
    assert f"not enough memory {words}" in why
    assert script is compare_optimizers or not printed.out  # which says first how it compares
