"""Files of several ranks that cannot be saved or loaded: all ranks say the same, and what was there stays."""

import errno
import os
import shutil
from unittest import mock

import parts_in_files
import pytest
import trouble_with_files
from launch import run
from trouble_with_files import told

from gpuprop import load_state
from gpuprop.__main__ import main
from gpuprop.checkpoint import replacement
from gpuprop.checkpoint.container import INDEX, header_of
from gpuprop.checkpoint.parts.index import Index, remove_parts


def test_what_one_rank_cannot_save_no_rank_saves(tmp_path):
    ranks = run(trouble_with_files.trouble_with_saving, 3, tmp_path)
    found, step, (names, last), _ = ranks[0]
    assert [each[0] for each in ranks] == [found] * 3
    assert [each[-1] for each in ranks] == [[0], [1], [2]]
    kinds, messages = ({name: error[i] for name, error in found.items()} for i in range(2))
    for name, text in {
        "step": "step is 3 on rank 1 and 2 on rank 0; all ranks must save one state at the same step",
        "optimizer": "'learning_rate': 0.2",
        "names": "['extras.y', 'state.square_average', 'state.velocity'] on rank 1",
        "path": f"rank 1 saves to {tmp_path / 'state1'} and rank 0 to {tmp_path / 'state0'}; all must",
        "columns": "y is float64 of shape (4, 3) and float64 of shape (4, 4) and float64 of shape (4, 5)",
        "number": "seed is int64 of shape () on several ranks, and not the same on all; parts must be alike "
        "but for the length of their first axis, along which they are joined: give numpy.array([number]) of "
        "a number of each rank, or the same on all",
    }.items():
        assert kinds[name] == "ValueError"
        assert text in messages[name]
    assert kinds["under way"] == "RuntimeError"
    assert kinds["type"] == "TypeError"
    assert "y has dtype object" in messages["type"]
    assert kinds["folder"] == "FileNotFoundError"
    assert kinds["no file"] == "IsADirectoryError"
    for name, file in (("disk", "rank1'"), ("index", "state'")):
        assert kinds[name] == "OSError"
        assert "No space left on device" in messages[name]
        assert messages[name].endswith(file)
    # The index and its parts: nothing is left of what failed before all parts were written.
    assert len(names) == len(last) == 4
    assert names[0] == last[0] == "state"
    assert not {*names[1:]} & {*last[1:]}
    assert step == 1


@pytest.fixture
def files(tmp_path):
    """Two sets of three parts each, of the same shapes and not of the same step."""
    for step, name in enumerate(("one", "two"), 1):
        (tmp_path / name).mkdir()
        run(trouble_with_files.save_once, 3, tmp_path / name, step)
    return tmp_path / "one" / "state", tmp_path / "two" / "state"


def parts_of(path):
    return sorted(path.parent / name for name in os.listdir(path.parent) if ".rank" in name)


def test_parts_that_do_not_belong_together_are_told(files, tmp_path):
    paths, expected = [], []

    def other(name, change, text):
        folder = tmp_path / name
        shutil.copytree(files[0].parent, folder)
        change(parts_of(folder / "state"))
        paths.append(folder / "state")
        expected.append(text)

    other("missing", lambda parts: parts[1].unlink(), "rank1 is missing, part 1 of 3 of")
    other("foreign", lambda parts: shutil.copy(parts_of(files[1])[2], parts[2]), "rank2 is not the part of")
    other("swapped", lambda parts: shutil.copy(parts[0], parts[1]), "rank1 is not the part of")
    other("damaged", lambda parts: damage(parts[2], -3), "rank2 is damaged in ")
    other("in header", lambda parts: damage(parts[0], 100), "rank0 is damaged in its header")
    other("truncated", lambda parts: os.truncate(parts[1], 200), "rank1 is truncated, damaged, or no file")
    other("index", lambda parts: damage(parts[0].parent / "state", 300), "state is damaged in its header")
    for ranks in (2, 4):
        errors = run(trouble_with_files.trouble_with_loading, ranks, paths)
        assert errors == [errors[0]] * ranks
        for path, (kind, message), text in zip(paths, errors[0], expected, strict=True):
            assert kind == "ValueError", message
            assert message.startswith(str(path))
            assert text in message
    for path, text in zip(paths, expected, strict=True):
        kind, message = told(lambda path=path: load_state(path))
        assert kind == "ValueError"
        assert text in message


def damage(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


def test_damage_anywhere_is_found_by_one_rank_and_told_by_all(files, tmp_path):
    """Though no rank reads all of a part: one of them checks the rest of it, too."""
    path = tmp_path / "a part" / "state"
    shutil.copytree(files[0].parent, path.parent)
    paths = []
    for number, part in enumerate(parts_of(path)):
        for place in range(len(part.read_bytes()) - 8, len(part.read_bytes()) - 180, -17):
            folder = tmp_path / f"{number} {place}"
            shutil.copytree(path.parent, folder)
            damage(folder / part.name, place)
            paths.append(folder / "state")
    errors = run(trouble_with_files.trouble_with_loading, 4, paths)
    assert errors == [errors[0]] * 4
    assert all("is damaged in" in message for _, message in errors[0])
    assert len(errors[0]) > 30


@pytest.mark.parametrize("part", [slice(0, 19), slice(-1, 2), slice(3, 2), slice(0, 4, 2), slice(0.5, 2), 3])
def test_rows_that_are_not_there_are_told(files, part):
    kind, message = told(lambda: load_state(files[0], part=part))
    assert (kind, f"must be a slice(low, high) of the 18 rows in {files[0]}" in message) == (
        "ValueError",
        True,
    )


def test_rows_of_ranks_that_are_not_the_whole_are_told(files):
    (errors, none), (others, all_rows) = run(trouble_with_files.trouble_with_parts, 2, files[0])
    assert errors == others
    assert (none, all_rows) == ((0, 3), (18, 3))
    for kind, message in errors:
        assert kind == "ValueError"
        assert f"they must be all of the 18 rows in {files[0]}" in message


def test_of_groups_rows_are_by_name(tmp_path):
    state, parts = parts_in_files.begun("groups", None)
    state.save(tmp_path / "state", **parts)
    for part in (slice(0, 2), {"c": slice(0, 2)}, 5):
        kind, message = told(lambda part=part: load_state(tmp_path / "state", part=part))
        assert kind == "TypeError"
        assert "is of groups; it must be a dictionary of slices, by the names a, b" in message


def test_an_index_can_be_looked_into(files, capsys):
    assert main(["inspect", str(files[0])]) == 0
    lines = capsys.readouterr().out.splitlines()
    sizes = [part.stat().st_size for part in parts_of(files[0])]
    assert lines[1] == f"the index of 3 parts, {parts_of(files[0])[0]} and so on: {sum(sizes):,} bytes"
    assert "  extras.x: float32 of shape (18, 3), 216 bytes" in lines
    parts_of(files[0])[1].unlink()
    assert main(["inspect", str(files[0])]) == 0
    assert "1 of them missing" in capsys.readouterr().out


def test_an_index_may_be_called_otherwise_and_its_parts_stay(files):
    """A moved one is not an index of the parts that come after it, and keeps its own."""
    best = files[0].with_name("best")
    files[0].rename(best)
    old = parts_of(best)
    for _ in range(2):
        run(trouble_with_files.save_once, 2, files[0].parent, 7)
    assert load_state(best).step == 1
    assert load_state(files[0]).step == 7
    assert len(parts_of(best)) == len(old) + 2
    files[0].rename(best.with_name("later"))
    best.rename(files[0])  # and back
    run(trouble_with_files.save_once, 2, files[0].parent, 8)
    assert load_state(files[0]).step == 8
    assert load_state(best.with_name("later")).step == 7


def test_only_parts_that_no_index_names_are_removed(files):
    path, folder = files[0], files[0].parent
    best, copied, link = (path.with_name(name) for name in ("best", "copied", "link"))
    shutil.copy(path, copied)
    link.symlink_to(path)
    path.rename(best)
    of_others = [folder / f"{name}.{'0' * 16}.rank0" for name in ("state.other", "other", "xstate")]
    others = [*of_others, folder / f"state.{'0' * 15}.rank0", folder / f"state.{'0' * 16}.rank0.gz"]
    for other in others:
        other.touch()
    of_killed = [folder / f"state.{digit * 16}.rank7" for digit in "09f"]
    expected = {*parts_of(best), *others}
    for part in of_killed:
        part.touch()
    state = load_state(best)
    for count in (1, 2):  # with no file in the place of the index, and with one that is none
        state.save(path, **state.extras)
        assert {*parts_of(best)} == expected, f"save {count}"
        for part in of_killed:
            part.touch()
    run(trouble_with_files.save_once, 2, folder, 7)
    new = {*parts_of(path)} - expected
    assert len(new) == 2
    assert not new & {*of_killed}
    assert (load_state(best).step, load_state(copied).step, load_state(link).step) == (1, 1, 7)
    best.unlink()
    copied.unlink()
    state.save(path, **state.extras)
    assert {*parts_of(path)} == {*others}


def test_where_an_index_cannot_be_read_no_parts_are_removed(files):
    path, best = files[0], files[0].with_name("best")
    before, opened = parts_of(path), replacement.open_regular
    for index in (path, best):  # in its place, and with another name
        path.rename(index)
        for number in (errno.EIO, errno.EMFILE, errno.ESTALE):

            def fails(name, *how, index=index, number=number):
                if name == str(index):
                    raise OSError(number, os.strerror(number), name)
                return opened(name, *how)

            with mock.patch("gpuprop.checkpoint.container.open_regular", fails):
                remove_parts(str(path))
            assert parts_of(path) == before
        assert load_state(index).step == 1
    best.unlink()
    remove_parts(str(path))
    assert parts_of(path) == []


def test_files_of_before_which_name_their_first_generation_are_read(files):
    index = Index.read(str(files[0]))
    index.description["since"] = "0" * 16
    files[0].write_bytes(header_of(index.description, {}, INDEX))
    state = load_state(files[0])
    assert (state.step, state.extras["x"].shape) == (1, (18, 3))
    run(trouble_with_files.save_once, 2, files[0].parent, 7)
    assert len(parts_of(files[0])) == 2


def test_parts_of_an_index_that_a_kill_kept_from_its_place_are_removed(files):
    copied = files[0].with_name(".gpuprop-0123456789abcdef.tmp")
    copied.write_bytes(files[0].read_bytes())
    run(trouble_with_files.save_once, 2, files[0].parent, 7)
    assert len(parts_of(files[0])) == 2


def test_one_process_takes_the_place_of_several(files):
    state = load_state(files[0])
    state.step = 9
    state.save(files[0], **state.extras)
    assert os.listdir(files[0].parent) == ["state"]
    assert load_state(files[0]).step == 9


def test_the_modes_of_parts_are_those_of_the_index(files):
    files[0].chmod(0o600)
    run(trouble_with_files.save_once, 2, files[0].parent)
    assert {path.stat().st_mode & 0o777 for path in (files[0], *parts_of(files[0]))} == {0o600}
    assert len(parts_of(files[0])) == 2
