"""Files that exist whole or not at all."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from magicstyle.banks import atomic
from magicstyle.banks.atomic import SUFFIX, clear_litter, write_whole

KILLED = """
import os, signal, sys, types
pack = types.ModuleType("magicstyle")
pack.__path__ = [sys.argv[1]]
sys.modules["magicstyle"] = pack
from pathlib import Path
from magicstyle.banks.atomic import write_whole

def write(file):
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()

write_whole(Path(sys.argv[2]), write)
"""


def parts(folder):
    return [path for path in folder.iterdir() if path.name.endswith(SUFFIX)]


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no umask")
@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_new_file_has_the_rights_that_the_umask_leaves(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "new" / "a.bin", lambda file: file.write(b"whole"))
    finally:
        os.umask(before)
    path = tmp_path / "new" / "a.bin"
    assert path.read_bytes() == b"whole" and stat.S_IMODE(path.stat().st_mode) == mode
    assert [entry.name for entry in path.parent.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_earlier_file_and_no_part(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"earlier")

    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_whole(path, write)
    assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path]


def test_a_name_of_the_greatest_length_can_be_written(tmp_path):
    path = tmp_path / ("x" * 251 + ".bin")
    write_whole(path, lambda file: file.write(b"whole"))
    assert path.read_bytes() == b"whole"


def test_the_part_of_a_killed_writer_is_cleared_and_that_of_a_living_writer_stays(tmp_path):
    pack = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", KILLED, pack, str(tmp_path / "killed.bin")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline().strip() == b"writing"
        clear_litter(tmp_path)
        assert len(parts(tmp_path)) == 1
        writer.kill()
        writer.wait()
    assert len(parts(tmp_path)) == 1
    foreign = tmp_path / ".download.part"
    foreign.write_bytes(b"someone else's")
    clear_litter(tmp_path)
    assert parts(tmp_path) == [] and foreign.exists()
    assert not (tmp_path / "killed.bin").exists()


def test_a_folder_without_litter_and_one_that_is_gone_are_no_trouble(tmp_path):
    clear_litter(tmp_path)
    clear_litter(tmp_path / "gone")


def test_writing_a_file_lists_no_folder(tmp_path, monkeypatch):
    """25,000 manifests lie in one folder: a listing for each would be 300 million names."""
    listed = []
    with monkeypatch.context() as watched:
        watched.setattr(Path, "glob", lambda *args: listed.append(args) or iter(()))
        watched.setattr(Path, "iterdir", lambda *args: listed.append(args) or iter(()))
        write_whole(tmp_path / "a.bin", lambda file: file.write(b"whole"))
    assert listed == [] and (tmp_path / "a.bin").read_bytes() == b"whole"


def test_a_part_that_another_writer_takes_for_litter_is_begun_anew(tmp_path, monkeypatch):
    """Several writers share a folder: one clears it just when the part of another is made and not yet locked."""
    made, opened = [], Path.open

    def cleared(path, mode):
        file = opened(path, mode)
        if not made:
            made.append(path)
            monkeypatch.undo()
            clear_litter(tmp_path)
        return file

    monkeypatch.setattr(Path, "open", cleared)
    write_whole(tmp_path / "picture.png", lambda file: file.write(b"whole"))
    assert made and (tmp_path / "picture.png").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


# --- on Windows, which has no flock, removes no open file and renames none -------------------------------------------


@pytest.fixture
def windows(monkeypatch):
    """The file system of Windows, as this module sees it: a file that is open can be neither moved nor removed."""
    opened, plain_open, unlink, replace = {}, Path.open, Path.unlink, os.replace

    def open_known(path, mode="r"):
        opened[path] = plain_open(path, mode)
        return opened[path]

    def check(*paths):
        if any(not opened[path].closed for path in paths if path in opened):
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")

    def unlink_closed(path, missing_ok=False):
        check(path)
        unlink(path, missing_ok)

    def replace_closed(part, path):
        check(part, path)
        replace(part, path)

    monkeypatch.setattr(atomic, "fcntl", None)
    monkeypatch.setattr(atomic, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(Path, "open", open_known)
    monkeypatch.setattr(Path, "unlink", unlink_closed)
    monkeypatch.setattr(os, "replace", replace_closed)


def test_windows_gives_a_closed_part_its_name_and_leaves_none(tmp_path, windows):
    path = tmp_path / "a.bin"
    for data in (b"one", b"two"):
        write_whole(path, lambda file, data=data: file.write(data))
        assert path.read_bytes() == data and parts(tmp_path) == []


def test_windows_waits_for_a_scanner_that_holds_the_file_for_a_moment(tmp_path, windows, monkeypatch):
    path, tried, replace = tmp_path / "a.bin", [], os.replace

    def held_twice(part, path):
        tried.append(part)
        if len(tried) < 3:
            raise PermissionError(5, "Access is denied")
        replace(part, path)

    monkeypatch.setattr(os, "replace", held_twice)
    write_whole(path, lambda file: file.write(b"whole"))
    assert path.read_bytes() == b"whole" and len(tried) == 3


def test_windows_leaves_the_earlier_file_where_it_stays_held(tmp_path, windows):
    path = tmp_path / "a.bin"
    path.write_bytes(b"earlier")
    with path.open("rb") as held:
        with pytest.raises(PermissionError):
            write_whole(path, lambda file: file.write(b"new"))
        assert held.read() == b"earlier"
    assert parts(tmp_path) == []


def test_windows_clears_the_parts_of_killed_writers_and_none_that_is_about_to_get_its_name(tmp_path, windows):
    """Between closing a part and renaming it nothing holds it: another writer must not take it for litter."""
    living, closed, litter = (tmp_path / f".{name}.0a1b2c3d{SUFFIX}" for name in ("living", "closed", "litter"))
    for part in (living, closed, litter):
        part.write_bytes(b"part")
    long_ago = time.time() - atomic.CLOSED - 60
    for part in (living, litter):
        os.utime(part, (long_ago, long_ago))
    with living.open("rb"):
        clear_litter(tmp_path)
    assert {path.name for path in parts(tmp_path)} == {living.name, closed.name}
