"""Where features go."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from magicstyle.banks import placement
from magicstyle.banks.placement import OnDisk, page_locked, settle_place
from magicstyle.core.errors import MagicStyleError
from safetensors import safe_open

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    "place, device, estimate, expected",
    [
        ("auto", CUDA, 100, "gpu"),
        ("auto", CUDA, 101, "cpu"),
        ("auto", CPU, 1, "cpu"),
        ("cpu", CUDA, 1, "cpu"),
        ("gpu", CUDA, 10**6, "gpu"),
        ("disk", CUDA, 1, "disk"),
    ],
)
def test_auto_is_the_device_while_features_take_an_eighth_of_its_free_memory(place, device, estimate, expected):
    assert settle_place(place, device, estimate, free_on_device=800) == expected


def test_memory_that_cannot_be_locked_is_ordinary_memory(monkeypatch):
    ordinary = torch.empty

    def refuse(*shape, **options):
        if options.get("pin_memory"):
            raise RuntimeError("CUDA error: out of memory")
        return ordinary(*shape, **options)

    monkeypatch.setattr(torch, "empty", refuse)
    room = page_locked("output.6.0.k", (3, 1, 4, 8), torch.float16)
    assert room.shape == (3, 1, 4, 8) and room.dtype == torch.float16 and not room.is_pinned()


# --- storage_device disk -------------------------------------------------------------------------------------------

ROOM = 256 * 1024
# a process that fills stacks of 64 KiB until there is no room; a signal would end it before it could say anything
FILL = """
import sys, types
pack = types.ModuleType("magicstyle")
pack.__path__ = [sys.argv[1]]
sys.modules["magicstyle"] = pack
from pathlib import Path
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.banks.placement import OnDisk

limit = int(sys.argv[3])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
room, kept = OnDisk(Path(sys.argv[2])), []
try:
    for number in range(16):
        stack = room(f"output.{number}.0.k", (number + 1, 1, 256, 64), torch.float16)
        stack.fill_(1.0)
        kept.append(stack)
except MagicStyleError as error:
    names = [f"output.{number}.0.k.safetensors" for number in range(len(kept))]
    print(len(kept), sorted(path.name for path in room.path.iterdir()) == names, error)
"""


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB, where the test may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount") and sys.platform == "linux"
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    if not mount or subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, limit=0):
    pack = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", FILL, pack, str(folder), str(limit)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(os.name == "nt", reason="no limits for files on this system")
def test_a_full_disk_is_one_sentence_and_the_process_lives(small_disk, tmp_path):
    # a process that may write 100 KB to a file is refused the fourth stack, as it is on this disk
    done = fill(tmp_path / "limited", 100_000) if small_disk is None else fill(small_disk)
    assert done.returncode == 0, done
    count, only_whole_files, sentence = done.stdout.split(maxsplit=2)
    assert (count, only_whole_files) == ("3", "True")
    assert sentence.startswith("storage_device disk: no room for 131072 bytes of features in ")
    assert sentence.strip().endswith("choose storage latents, or free some disk space.") and sentence.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="no limits for files on this system")
def test_a_quota_is_the_same_sentence(tmp_path):
    done = fill(tmp_path, 50_000)
    assert done.returncode == 0 and done.stdout.startswith("1 True storage_device disk: no room for 65536 bytes"), done


def test_where_room_cannot_be_reserved_it_is_counted(tmp_path, monkeypatch):
    monkeypatch.delattr(placement.os, "posix_fallocate", raising=False)
    room = OnDisk(tmp_path)
    free = namedtuple("Usage", "free")
    monkeypatch.setattr(placement.shutil, "disk_usage", lambda path: free(4096 + 128))
    with pytest.raises(MagicStyleError, match="no room for 8192 bytes of features in .*No space left"):
        room("output.6.0.q", (1, 1, 64, 64), torch.float16)
    assert room("output.6.0.k", (1, 1, 32, 64), torch.float16).shape == (1, 1, 32, 64)
    assert [path.name for path in room.path.iterdir()] == ["output.6.0.k.safetensors"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "temp").write_text("a file where the folder should be")
    with pytest.raises(MagicStyleError, match="_device disk: .*temp cannot be written to .*choose storage latents"):
        OnDisk(tmp_path / "temp")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_a_stack_on_disk_is_a_safetensors_file_with_aligned_data(tmp_path, dtype):
    room = OnDisk(tmp_path)
    stack = room("output.6.0.k", (3, 1, 5, 7), dtype)
    assert stack.data_ptr() % 64 == 0 and stack.dtype == dtype
    stack.copy_(torch.randn(3, 1, 5, 7, generator=torch.Generator().manual_seed(0)).to(dtype))
    with safe_open(str(room.path / "output.6.0.k.safetensors"), "pt") as file:
        assert list(file.keys()) == ["output.6.0.k"]
        assert torch.equal(file.get_tensor("output.6.0.k").float(), stack.float())
