"""The proof on a card: its parts, the time it is given, and the page."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import prove_on_gpu
import pytest
from article import trajectory
from parts import Part

import gpuprop

CARD = {
    "name": "NVIDIA of this test", "compute_capability": "9.0", "memory_bytes": 80 * 2**30,
    "peak_bytes_per_second": 2e12, "cuda_of_the_driver": "13.0", "cuda": "12.9", "cupy": "14.2.0",
    "driver": "580.1",
}  # fmt: skip


def part(name, code, **options):
    """A part that runs `code`, which may write its report: an empty object."""
    write = f"open(r'{{folder}}/{name}.json', 'w').write('[]'); "
    return Part(
        name, f"about {name}", ("-c", write + code), options.pop("most", 60), f"{name}.json", **options
    )


def proof_of(parts, folder, budget=100.0):
    code = prove_on_gpu.prove(parts, folder, budget, CARD)
    proof = json.loads((folder / "proof.json").read_text())
    return code, proof, {row["name"]: row for row in proof["parts"]}


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(prove_on_gpu, "find_spec", lambda name: None if name == "matplotlib" else name)
    monkeypatch.setattr(prove_on_gpu.signal, "signal", lambda *_: None)


NOTHING = {"read": lambda file: {}}


def test_a_part_that_fails_stops_no_other(no_pictures, tmp_path, capsys):
    parts = [
        part("first", "print('well')", read=lambda file: {"list": json.loads(file.read_text())}),
        part("second", "print('so it is'); raise SystemExit(3)", **NOTHING),
        part("third", "", read=lambda file: {"of": json.loads(file.read_text())["nothing"]}),
        part("fourth", "", missing="there is no fourth"),
        part("fifth", "", **NOTHING),
    ]
    code, proof, rows = proof_of(parts, tmp_path)
    assert (code, proof["good"]) == (1, False)
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {
        "first": "good",
        "second": "failed",
        "third": "failed",
        "fourth": "left out",
        "fifth": "good",
    }
    assert rows["first"]["figures"] == {"list": []}
    assert (rows["second"]["rc"], rows["second"]["why"]) == (3, "so it is")
    assert rows["third"]["rc"] == 0
    assert rows["third"]["why"].startswith("no figures: ")
    assert (tmp_path / "first.log").read_text() == "well\n"
    assert proof["left_out"] == {"fourth": "there is no fourth"}
    assert rows["first"]["command"].startswith("python -c ")
    assert str(tmp_path) not in json.dumps(proof)
    assert "left out: fourth (there is no fourth)\n" in capsys.readouterr().out


def test_good_is_exit_0_and_what_a_run_before_has_left_is_not_taken(no_pictures, tmp_path):
    assert proof_of([part("one", "", **NOTHING)], tmp_path)[:1] == (0,)
    code, _, rows = proof_of([Part("one", "", ("-c", ""), 60, "one.json")], tmp_path)
    assert code == 1
    assert rows["one"]["why"].startswith("no figures: ")


@pytest.mark.slow
def test_one_that_takes_too_long_is_ended_with_all_that_it_started(no_pictures, tmp_path):
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text(f"import time; time.sleep(3); open({str(tmp_path / 'woken')!r}, 'w')")
    code = f"import subprocess, sys; subprocess.run([sys.executable, {str(sleeper)!r}])"
    started = time.monotonic()
    code, _, rows = proof_of([part("slow", code, most=1.0, **NOTHING), part("next", "", **NOTHING)], tmp_path)
    assert time.monotonic() - started < 3
    assert code == 1
    assert rows["slow"] | {"seconds": 0, "command": ""} == {
        "name": "slow", "about": "about slow", "command": "", "state": "failed", "seconds": 0, "rc": None,
        "why": "it was not done after 1 seconds", "figures": {},
    }  # fmt: skip
    assert rows["next"]["state"] == "good"
    if hasattr(os, "killpg"):
        time.sleep(max(0.0, 4.0 - (time.monotonic() - started)))
        assert not (tmp_path / "woken").exists()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no groups of processes")
def test_one_that_runs_is_ended_where_the_script_is(tmp_path):
    scripts = Path(prove_on_gpu.__file__).parent
    sleeper = "import time; open({!r}, 'w'); time.sleep(2); open({!r}, 'w')"
    files = tmp_path / "asleep", tmp_path / "woken"
    program = f"""
import sys; sys.path.insert(0, {str(scripts)!r})
import pathlib, parts, prove_on_gpu
part = parts.Part("a", "", ("-c", {sleeper.format(*map(str, files))!r}), 60, "a.json")
prove_on_gpu.prove([part], pathlib.Path({str(tmp_path)!r}), 100, {{}})
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    while not files[0].exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    time.sleep(2.5)
    assert not files[1].exists()


def test_when_the_time_is_up_the_less_important_parts_are_cut(no_pictures, tmp_path):
    parts = [part("long", "import time; time.sleep(1.2)", **NOTHING), part("late", "", **NOTHING)]
    code, proof, rows = proof_of(parts, tmp_path, budget=6)
    assert (code, proof["good"]) == (0, True)
    assert [row["state"] for row in rows.values()] == ["good", "cut"]
    assert proof["left_out"] == {"late": "the 6 seconds were up"}
    code, proof, rows = proof_of(parts, tmp_path, budget=1)
    assert (code, proof["good"]) == (1, False)  # nothing has been proved
    assert {row["state"] for row in rows.values()} == {"cut"}


def test_one_that_stops_itself_is_told_when(no_pictures, tmp_path):
    code = "import sys; print(sys.argv[1:])"
    proof_of([part("benchmark", code, most=50, stops_itself=True, **NOTHING)], tmp_path)
    assert (tmp_path / "benchmark.log").read_text() == "['--seconds', '40']\n"


def test_without_a_device_it_says_what_it_would_do(monkeypatch, capsys, tmp_path):
    def none(device):
        raise gpuprop.DeviceUnavailableError("there is none; mend: buy one")

    monkeypatch.setattr(gpuprop, "select_backend", none)
    assert prove_on_gpu.main(["--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.err.endswith(": there is none; mend: buy one\n")
    names = [line.partition(":")[0] for line in printed.out.splitlines() if line and line[0] not in " w"]
    assert names == list(prove_on_gpu.NAMES)
    assert (
        "  python scripts/run_quadratic.py --device gpu --no-fallback --json FOLDER/main.json\n"
        in printed.out
    )
    assert "  python -m gpuprop selfcheck --json FOLDER/selfcheck.json\n" in printed.out
    assert "'torch single'" in printed.out
    assert not (tmp_path / "out").exists()


def test_what_it_would_do_can_be_done():
    """Each script takes the arguments that it would be given."""
    import benchmark
    import time_launches

    options = prove_on_gpu.parse_arguments(["--out", "x"])
    parse = {
        "scripts/benchmark.py": benchmark.parse_arguments,
        "scripts/time_launches.py": time_launches.parse_arguments,
    }
    taken = {}
    for each in prove_on_gpu.parts_of(options):
        if each.command[0] in parse:
            given = [a.replace("{folder}", "/tmp" if os.name == "posix" else ".") for a in each.command[1:]]
            given += ["--seconds", "10"] if each.stops_itself else []
            taken[each.name] = parse[each.command[0]](given)
    assert list(taken) == ["sizes", "peers", "launches", "peers by dtype"]
    assert taken["sizes"].sizes == [10**3, 10**4, 10**5, 10**6, 10**7, 10**8, 10**9, "fit"]
    assert set(taken["peers"].contenders) == set(benchmark.CONTENDERS) - set(benchmark.OF_FUSED)
    assert taken["peers by dtype"].dtypes == taken["sizes"].dtypes[1:]


def test_tests_that_are_not_there_are_left_out_by_name():
    options = prove_on_gpu.parse_arguments(["--out", "x", "--parts", "tests", "--tests", "tests/none"])
    (only,) = prove_on_gpu.parts_of(options)
    assert only.missing == "there is no tests/none"


def test_the_main_job_is_held_against_the_article(tmp_path):
    file = tmp_path / "main.json"
    report = {"device_description": "a card", "trajectory": [[5.0, 4.0], *trajectory().tolist()]}
    file.write_text(json.dumps(report))
    found = prove_on_gpu.main_job(file)
    assert list(found["lines"]) == [0, 20, 40, 60, 80, 100]
    assert found["lines"][100] == "[-3.07701828e-17  2.18862195e-20]"
    report["trajectory"][61][1] *= 1.0001
    file.write_text(json.dumps(report))
    with pytest.raises(ValueError, match=r"epoch 60 is \[0.13761293 0.00745289\], and in NumPy \[0.1"):
        prove_on_gpu.main_job(file)


def test_tests_are_counted(tmp_path):
    file = tmp_path / "tests.xml"
    file.write_text(
        '<testsuites><testsuite><testcase classname="a.b" name="c"/><testcase classname="a" name="d">'
        '<failure/></testcase><testcase name="e" classname="a"><skipped/></testcase>'
        '<testcase classname="a" name="f"/></testsuite></testsuites>'
    )
    assert prove_on_gpu.tests(file) == {"passed": 2, "failure": 1, "skipped": 1, "failed": ["a::d"]}


@pytest.mark.gpu
def test_from_end_to_end(tmp_path):
    script = Path(__file__).parents[2] / "scripts" / "prove_on_gpu.py"
    done = subprocess.run(
        [sys.executable, str(script), "--out", str(tmp_path / "proof"), "--sizes", "1e3", "--rounds", "1",
         "--parts", "main job", "tests", "sizes", "launches",
         "--tests", "tests/backends/gpu/test_gpu_guards.py", "--workers", "1"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    proof = json.loads((tmp_path / "proof" / "proof.json").read_text())
    rows = {row["name"]: row for row in proof["parts"]}
    results = {name: (row["state"], row["rc"]) for name, row in rows.items()}
    assert results == dict.fromkeys(("main job", "tests", "sizes", "launches"), ("good", 0))
    assert rows["main job"]["figures"]["lines"]["100"] == "[-3.07701828e-17  2.18862195e-20]"
    assert rows["tests"]["figures"]["passed"] >= 1
    timed = rows["sizes"]["figures"]["rows"]
    assert [row["dtype"] for row in timed] == rows["sizes"]["command"].partition("--dtypes ")[2].split()[
        : len(timed)
    ]
    assert all(row["seconds_per_step"].keys() == {"gpuprop", "floor"} for row in timed)
    (graphs,) = rows["launches"]["figures"]["graphs"]
    assert graphs["same_bits"]
    assert graphs["seconds_per_step"].keys() == {"launches", "graphs of 1", "graphs of 10", "graphs of 100"}
    assert proof["card"]["memory_bytes"] > 2**30
    page = (tmp_path / "proof" / "proof.md").read_text(encoding="utf-8")
    for name in ("shares.png", "launches.png"):
        assert (tmp_path / "proof" / name).read_bytes().startswith(b"\x89PNG")
        assert f"]({name})" in page
