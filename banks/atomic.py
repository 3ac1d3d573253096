"""Files that exist whole or not at all: written beside their name, and given it once everything is on the disk."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

# of what a disk says that takes nothing more, whatever is written
DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EPERM}

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed: that is lock enough
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".magicstyle.part"
MAX_STEM = 40  # characters of a name, so that the longer name of its part stays legal
CLOSED = 600.0  # seconds: without locks a part is closed a moment before it gets its name, and litter long after
PAUSES = (0.05, 0.2, 1.0)  # seconds: on Windows a scanner or a viewer holds a file for a moment


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file, which then takes the name `path` with the rights that the umask leaves to new files.

    What fails or is interrupted leaves no part behind, and an earlier file of that name as it was. What killed writers
    left is cleared by `clear_litter`, once for a folder and not for each of its files. Raises OSError as the file
    system does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, file = _begun(path)
    try:
        with file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # some file systems tell only now that there is no room
            if fcntl is not None:
                os.replace(part, path)
        if fcntl is None:
            _replace_closed(part, path)
    finally:
        with suppress(OSError):
            part.unlink()


def _replace_closed(part: Path, path: Path) -> None:
    """Windows renames closed files alone, and none while another program holds what has the name."""
    for pause in PAUSES:
        try:
            os.replace(part, path)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(part, path)


def _begun(path: Path) -> tuple[Path, BinaryIO]:
    """An empty part of our own, locked: the sign that its writer lives.

    Between making and locking it another writer may take it for litter; then it is begun anew.
    """
    while True:
        part = path.with_name(f".{path.stem[:MAX_STEM]}.{secrets.token_hex(4)}{SUFFIX}")
        file = part.open("xb")
        if _is_there(part, file.fileno()):
            return part, file
        file.close()


def _is_there(part: Path, handle: int) -> bool:
    """Lock a part, which waits for whoever just removes it -> whether it is still there."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks, on which nothing is cleared
            fcntl.flock(handle, fcntl.LOCK_EX)
    return part.exists()


def clear_litter(folder: Path) -> None:
    """Remove the parts in a folder whose writers are gone."""
    for part in folder.glob(f".*{SUFFIX}"):
        with suppress(OSError):
            _remove_if_abandoned(part)


def _remove_if_abandoned(part: Path) -> None:
    if fcntl is None:  # one that is open cannot be removed; one that was just closed is about to get its name
        if time.time() - part.stat().st_mtime > CLOSED:
            part.unlink()
        return
    with part.open("rb+") as file:
        if _lock(file.fileno()):
            part.unlink()


def _lock(handle: int) -> bool:
    """Whether the file is ours alone now; never on a file system that knows no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
