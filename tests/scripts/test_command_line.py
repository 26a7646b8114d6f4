"""What all scripts share: two streams, exit codes, files, progress."""

import os
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import command_line
import pytest

SCRIPTS = Path(command_line.__file__).parent
#: Each with arguments that leave it little to do.
COMMANDS = {
    "run_quadratic.py": "--device numpy",
    "compare_optimizers.py": "--device numpy --steps 3 --problems saddle",
    "compare_rates.py": "--problems quadratic --methods SGD --steps 3",
    "benchmark.py": "--device cpu --sizes 10 --rounds 1 --contenders gpuprop",
    "inspect_kernels.py": "--rules sgd --dtypes float32 --architectures sm_90",
    "deblur.py": "--steps 2",
}
SMALL = '''"""Say a line.

And more.
"""
import logging, sys
sys.path.insert(0, {scripts!r})
from command_line import Parser, say, start
start()
Parser(__doc__).parse_args()
logging.warning("a note")
say("x\u00b2")
'''
FULL = "small.py: cannot write to stdout: No space left on device\n"
NOTE = "WARNING:root:a note\n"
CLOSED = "small.py: stdout is closed; send it to a file, or to /dev/null\n"

posix = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")


def shell(*command: object, redirect: str = "", cwd: object = None, **environment: str):
    join = subprocess.list2cmdline if os.name == "nt" else shlex.join
    line = join([sys.executable, *map(str, command)]) + " " + redirect
    env = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "", **environment}
    return subprocess.run(
        line, shell=True, env=env, cwd=cwd, capture_output=True, encoding="utf-8", timeout=100
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    file = tmp_path_factory.mktemp("script") / "small.py"
    file.write_text(SMALL.format(scripts=str(SCRIPTS)))
    return file


@posix
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("redirect", "code", "out", "errors"),
    [
        ("", 0, "x\u00b2\n", NOTE),
        ("<&-", 0, "x\u00b2\n", NOTE),
        (">&-", 2, "", CLOSED),
        ("2>&-", 0, "x\u00b2\n", ""),
        (">&- 2>&- <&-", 2, "", ""),
        (">/dev/full", 2, "", NOTE + FULL),
        ("2>/dev/full", 0, "x\u00b2\n", ""),
        (">/dev/full 2>/dev/full", 2, "", ""),
        (">/dev/full 2>&-", 2, "", ""),
        ("| true", 0, "", NOTE),
        ("--help >&-", 2, "", CLOSED),
        ("--help >/dev/full", 2, "", FULL),
        ("--other 2>/dev/full", 2, "", ""),
        ("--other 2>&-", 2, "", ""),
        ("--other >&-", 2, "", CLOSED),
        ("--other", 2, "", "small.py: unrecognized arguments: --other\n"),
    ],
)
def test_streams_that_cannot_be_written(small, redirect, code, out, errors, unbuffered):
    done = shell(small, redirect=redirect, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, errors)


def test_help_without_docstrings_and_lines_that_the_encoding_lacks(small):
    assert shell(small, "--help").stdout.startswith("usage: small.py [-h]\n\nSay a line.\n\n")
    done = shell("-OO", small, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: small.py [-h]\n\noptions:")
    assert shell(small, PYTHONIOENCODING="ascii").stdout == "x\\xb2\n"
    assert "[-h]" in shell(small, "--help", COLUMNS="1").stdout


@posix
def test_a_folder_that_is_gone(small, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    done = shell(small, redirect=f"--help; cd {folder}; rmdir {folder}; {sys.executable} {small}")
    assert done.returncode == 2
    assert done.stderr.startswith("small.py: cannot go on in this folder: ")
    assert len(done.stderr.splitlines()) == 1


@cache
def as_usual(script):
    done = shell(SCRIPTS / script, *COMMANDS[script].split())
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
@posix
@pytest.mark.parametrize("script", COMMANDS)
@pytest.mark.parametrize(
    ("options", "redirect", "environment", "code"),
    [
        ("-OO", "", {}, 0),
        ("", ">&-", {}, 2),
        ("", "2>&-", {}, 0),
        ("", ">/dev/full", {}, 2),
        ("", "2>/dev/full", {}, 0),
        ("", "<&-", {"PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nowhere"}, 0),
        ("", "", {"PYTHONIOENCODING": "ascii", "COLUMNS": "0"}, 0),
        ("", "--plot a.xyz", {}, 2),
        ("", "--other", {}, 2),
    ],
)
def test_every_script_in_odd_places(script, options, redirect, environment, code, tmp_path, request):
    if script == "deblur.py":
        pytest.importorskip("matplotlib")
    if script == "inspect_kernels.py":
        request.getfixturevalue("nvidias_compiler")
    path, arguments, plain = SCRIPTS / script, COMMANDS[script].split(), as_usual(script)
    done = shell(*options.split(), path, *arguments, redirect=redirect, cwd=tmp_path, **environment)
    assert done.returncode == code
    assert "Traceback" not in done.stderr + done.stdout
    if code == 0 and script in ("run_quadratic.py", "inspect_kernels.py"):
        assert done.stdout == plain.stdout
    elif code == 0:
        assert len(done.stdout.splitlines()) == len(plain.stdout.splitlines())
    else:
        lines = [line for line in done.stderr.splitlines() if line not in plain.stderr]
        assert (done.stdout, len(lines)) == ("", 1)
        assert lines[0].startswith(f"{script}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("a.jpg", b"\xff\xd8\xff"),
        ("a.PDF", b"%PDF"),
        ("a.b.svg", b"<?xml"),
        ("a.png", b"\x89PNG"),
        ("picture", b"\x89PNG"),
        (".hidden", b"\x89PNG"),
    ],
)
def test_a_picture_is_what_its_extension_says(name, begins, tmp_path):
    figures = pytest.importorskip("figures", reason="matplotlib is not installed", exc_type=ImportError)
    figure = figures.plt.figure(figsize=(1, 1))
    figures.check_format(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    figures.save(figure, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)


@pytest.mark.parametrize("name", ["a.xyz", "a.json", "a.bmp", "a.PNGG"])
def test_a_format_that_matplotlib_cannot_write_is_refused_before_the_work(name, tmp_path, capsys):
    parser = command_line.Parser(None)
    with pytest.raises(SystemExit, match="2"):
        parser.check_files(tmp_path / name)
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert "argument --plot: cannot write " in errors
    assert "not supported (supported formats: " in errors


@posix
@pytest.mark.parametrize(
    ("name", "words"),
    [("a" * 300, "File name too long"), ("loop", "loop"), ("kept/a", "Not a directory|no folder")],
)
def test_a_path_that_is_none_is_refused(name, words, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "kept").write_text("precious")
    with pytest.raises(command_line.argparse.ArgumentTypeError, match=f"(?s)cannot write .*({words})"):
        command_line.writable_file(str(tmp_path / name))


@posix
def test_a_file_that_cannot_be_written_stops_no_other(tmp_path, capsys):
    good, gone, full = tmp_path / "a.json", tmp_path / "gone" / "b.json", Path("/dev/full")
    numbers = {"here": [1.5, float("nan"), {"deep": float("-inf")}]}
    code = command_line.write_files(
        *((file, lambda file: command_line.write_json(file, numbers)) for file in (gone, None, full, good))
    )
    assert code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(f"cannot write '{gone}': No such file or directory")
    assert second.endswith("cannot write '/dev/full': No space left on device")
    assert command_line.json.loads(good.read_text()) == {"here": [1.5, None, {"deep": None}]}
    assert command_line.write_files((good, Path.unlink)) == 0


@pytest.mark.skipif(os.name == "nt", reason="terminals are those of POSIX")
@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_is_lines_where_there_is_no_room_for_a_bar(is_terminal, capfd, monkeypatch):
    monkeypatch.setattr(command_line, "SECONDS", 0)
    parent, child = os.openpty()  # a new terminal has no columns
    with os.fdopen(child, "w") as terminal, os.fdopen(parent, "rb", buffering=0) as shown:
        if is_terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
        assert list(command_line.progress(iter("abc"), 3, "letter")) == ["a", "b", "c"]
        text = b"".join(shown.readline() for _ in "abc").decode() if is_terminal else capfd.readouterr().err
    assert [line.split(": ", 1)[1] for line in text.splitlines()] == [
        "letter: 0 of 3", "letter: 1 of 3", "letter: 2 of 3"
    ]  # fmt: skip


def test_progress_is_silent_where_it_is_soon_done(capsys):
    assert sum(command_line.progress(range(1000), 1000, "number")) == 499_500
    assert capsys.readouterr().err == ""
