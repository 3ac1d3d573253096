"""Files that exist whole or not at all."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from magicstyle.core.atomic import SUFFIX, clear_litter, write_whole

KILLED = """
import os, signal, sys, types
pack = types.ModuleType("magicstyle")
pack.__path__ = [sys.argv[1]]
sys.modules["magicstyle"] = pack
from pathlib import Path
from magicstyle.core.atomic import write_whole

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


def test_the_part_of_a_killed_writer_is_cleared_by_the_next_one_and_that_of_a_living_writer_stays(tmp_path):
    pack = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", KILLED, pack, str(tmp_path / "killed.bin")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline().strip() == b"writing"
        write_whole(tmp_path / "other.bin", lambda file: file.write(b"whole"))
        assert len(parts(tmp_path)) == 1
        writer.kill()
        writer.wait()
    assert len(parts(tmp_path)) == 1
    foreign = tmp_path / ".download.part"
    foreign.write_bytes(b"someone else's")
    write_whole(tmp_path / "again.bin", lambda file: file.write(b"whole"))
    assert parts(tmp_path) == [] and foreign.exists()
    assert not (tmp_path / "killed.bin").exists()


def test_a_folder_without_litter_and_one_that_is_gone_are_no_trouble(tmp_path):
    clear_litter(tmp_path)
    clear_litter(tmp_path / "gone")


def test_what_earlier_versions_left_of_the_same_file_goes_once_it_is_old_and_nothing_else(tmp_path):
    old, young = ".a[1].k3x_9abz.part", ".a[1].00000000.part"
    others = [
        ".b.k3x_9abz.part",
        ".a[1].download.part2",
        ".a[1].K3X-9abz.part",
        ".a[1].k3x_9ab.part",
        ".a1.k3x_9abz.part",
    ]
    for name in (old, young, *others):
        (tmp_path / name).write_bytes(b"half")
        seconds = time.time() - (24 * 3600 + (-60 if name == young else 60))
        os.utime(tmp_path / name, (seconds, seconds))
    write_whole(tmp_path / "a[1].bin", lambda file: file.write(b"whole"))
    assert {path.name for path in tmp_path.iterdir()} == {"a[1].bin", young, *others}


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
