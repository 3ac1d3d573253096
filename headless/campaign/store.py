"""Where inputs lie and outputs go: a folder, or an object store such as s3:// or gs:// through fsspec.

Whatever is put appears whole or not at all: a file is renamed once all of it is on the disk, an object appears with the
one request that brings it. Names are relative, with "/" between their parts.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from ...banks.atomic import clear_litter, write_whole
from ...core.errors import MagicStyleError, one_line
from ..uris import is_uri

FILE = "file://"
EXTRA = 'pip install ".[ray]" in the folder of the pack brings them'
VERSIONS = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created")  # the first that a store tells
PACKAGES = {"s3": "fsspec and s3fs", "gs": "fsspec and gcsfs", "gcs": "fsspec and gcsfs"}


class StoreEntry(NamedTuple):
    """Something in a store, and what changes when it does."""

    name: str
    tag: str


class Store(ABC):
    """A root under which things are read, listed and put."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @abstractmethod
    def entries(self, under: str = "") -> Iterator[StoreEntry]:
        """Everything below a folder, in no order; nothing where there is no such folder."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """All of it; FileNotFoundError where it is not there."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write whole or not at all, in place of what has the name; OSError where nothing can be written."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Forget what has the name."""

    def is_there(self) -> bool:
        """Whether the root can be seen from this machine; an object store answers when it is read."""
        return True

    @abstractmethod
    def within(self, other: Store) -> str | None:
        """The name of this root below another one; None where it is not there."""


class FolderStore(Store):
    """A folder of this machine, or one that all machines mount."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self._root = root
        self._tidied: set[Path] = set()

    def entries(self, under: str = "") -> Iterator[StoreEntry]:
        """By a walk that looks at each file once, and does not follow links to folders."""
        folders = [under]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self._root / folder) as found:
                    for entry in found:
                        name = f"{folder}/{entry.name}" if folder else entry.name
                        if entry.name.startswith("."):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(name)
                        elif entry.is_file():
                            facts = entry.stat()
                            yield StoreEntry(name, f"{facts.st_size}-{facts.st_mtime_ns}")
            except FileNotFoundError:
                continue

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        return self._path(name).read_bytes()

    def put(self, name: str, data: bytes) -> None:
        """Beside its name first, then under it; what killed writers left in a folder is cleared once."""
        path = self._path(name)
        if path.parent not in self._tidied:
            clear_litter(path.parent)
            self._tidied.add(path.parent)
        write_whole(path, lambda file: file.write(data))

    def remove(self, name: str) -> None:
        """Unlink a file."""
        self._path(name).unlink(missing_ok=True)

    def is_there(self) -> bool:
        """Whether there is such a folder; one that was not mounted is none, or empty."""
        return self._root.is_dir()

    def _path(self, name: str) -> Path:
        if leaves(name):
            raise MagicStyleError(f"{name} names a place outside {self.uri}: rename it.")
        return self._root / name

    def within(self, other: Store) -> str | None:
        """By resolved paths."""
        if not isinstance(other, FolderStore):
            return None
        own, outer = self._root.resolve(), other._root.resolve()
        return own.relative_to(outer).as_posix() if own.is_relative_to(outer) else None


class ObjectStore(Store):
    """Whatever fsspec knows."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._fs, root = _filesystem(uri)
        self._root = root.rstrip("/")

    def entries(self, under: str = "") -> Iterator[StoreEntry]:
        """By one listing, which is never remembered."""
        self._fs.invalidate_cache()
        start = f"{self._root}/{under}".rstrip("/")
        for path, facts in self._fs.find(start, detail=True).items():
            name = path[len(self._root) :].lstrip("/")
            if name and not any(part.startswith(".") for part in name.split("/")):
                yield StoreEntry(name, _tag(facts))

    def read(self, name: str) -> bytes:
        """By one request."""
        return bytes(self._fs.cat_file(self._path(name)))

    def put(self, name: str, data: bytes) -> None:
        """By one request: an object appears whole."""
        path = self._path(name)
        if self.uri.partition("://")[0] not in PACKAGES:  # object stores know no folders
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self._fs.pipe_file(path, data)

    def remove(self, name: str) -> None:
        """Delete an object."""
        self._fs.rm_file(self._path(name))

    def within(self, other: Store) -> str | None:
        """By the text of their addresses."""
        own, outer = f"{self.uri.rstrip('/')}/", f"{other.uri.rstrip('/')}/"
        return own[len(outer) :].rstrip("/") if own.startswith(outer) else None

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def open_store(uri: str) -> Store:
    """The store of a folder or an address."""
    if uri.startswith(FILE):
        return FolderStore(Path(local_path(uri)))
    return ObjectStore(uri) if is_uri(uri) else FolderStore(Path(uri))


def local_path(uri: str) -> str:
    """The path of a file:// address; that of a Windows drive, file:///C:/x, begins with the drive."""
    return re.sub(r"^/([A-Za-z]:)", r"\1", uri.removeprefix(FILE))


def leaves(name: str, kind: type[PurePath] = PurePath) -> bool:
    """Whether a relative name, read as a path of this system, leads out of the folder that it is put below.

    A backslash is a letter of a name in an object store and on Linux, and parts folders on Windows.
    """
    path = kind(name)
    return bool(path.anchor) or ".." in path.parts


def _filesystem(uri: str) -> tuple[Any, str]:
    scheme = uri.partition("://")[0]
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(uri, **({"use_listings_cache": False} if scheme in PACKAGES else {}))
    except ImportError:
        packages = PACKAGES.get(scheme, "fsspec")
        raise MagicStyleError(f"{uri} is reached with {packages}, which are not installed: {EXTRA}.") from None
    except Exception as error:  # fsspec's and each store's own
        raise MagicStyleError(f"{uri} cannot be opened ({one_line(error)}): write s3://, gs:// or a folder.") from None


def _tag(facts: dict[str, Any]) -> str:
    """What an object store says of a version of an object."""
    changed = next((facts[key] for key in VERSIONS if key in facts), "")
    return f"{facts.get('size')}-{str(changed).strip(chr(34))}"
