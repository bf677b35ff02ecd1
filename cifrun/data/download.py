"""Files from a public archive: downloaded once, checked, unpacked, each one whole or not there.

Nothing of an archive decides where a file is written, and none of it is run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any, ClassVar

from filelock import FileLock, Timeout
from pydantic import Field
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from ..config.fields import STRICT, Role, setting
from ..errors import ConfigError, RunError
from ..io.files import cache, replacing, writing
from .base import AnyDataset
from .tables.base import AbsolutePath

__all__ = ["MD5", "Fetched", "FetchedFiles", "Stored", "archive", "checksums", "download", "place", "unpack"]

#: MD5, in hexadecimal.
MD5 = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
#: The setting `url` of a dataset that is `Fetched`, and of one that is `FetchedFiles`.
archive = partial(setting, meaning="the archive that cifrun data fetch downloads", pattern=r"^https?://")
place = partial(setting, meaning="the place that cifrun data fetch downloads them from", pattern=r"^https?://")
#: Bytes that are moved at once.
BLOCK = 2**20
#: Seconds without a byte, until a connection counts as lost.
TIMEOUT = 30
#: Seconds before each further try.
WAITS = (1, 5)


@dataclass(config=STRICT)
class Stored(AnyDataset):
    """A dataset whose files come from a public place. Subclasses set `files`, and write `download`."""

    root: AbsolutePath | None = setting(
        None,
        "folder of the dataset's files; null for $CIFRUN_DATA, else ~/.cache/cifrun",
        role=Role.EXECUTION,
        may_change=("train", "eval"),
    )

    #: The files, as paths below `folder`.
    files: ClassVar[tuple[str, ...]] = ()

    @property
    def folder(self) -> Path:
        return self.root or cache()

    def fetch(self) -> None:
        """Download the files unless they are there."""
        there = all(self.find(file) for file in self.files)
        if not there:
            self.download()
        places = ", ".join(str(self.path(file)) for file in self.files)
        print(f"{self.name} is there already: {places}" if there else f"{self.name} → {places}")

    @abstractmethod
    def download(self) -> None:
        """Put the files below `folder`."""

    def find(self, file: str) -> Path | None:
        """Where one of the files is; None if it is not there."""
        return path if (path := self.folder / file).is_file() else None

    def path(self, file: str) -> Path:
        """One of the files.

        Raises:
            ConfigError: It is not there.
        """
        if found := self.find(file):
            return found
        raise ConfigError(
            f"there is no {self.folder / file}: cifrun data fetch {self.name} downloads it, or "
            f"dataset.root=DIR says where it is"
        )


def checksums(files: Sequence[str], *md5: str) -> Any:
    """The setting `md5` of a dataset that is `FetchedFiles`."""
    return setting(dict(zip(files, md5, strict=True)), "their checksums")


@dataclass(config=STRICT)
class Fetched(Stored):
    """A dataset whose files come out of one archive, where their names end in `files`."""

    url: str = archive("")
    md5: MD5 = setting("", "its checksum")

    def download(self) -> None:
        archive = self.folder / self.url.rpartition("/")[2].partition("?")[0]
        download(self.url, archive, self.md5)
        unpack(archive, {file: self.folder / file for file in self.files})
        print(f"{archive} may hold more than was taken out of it; delete it when you want none of that")


@dataclass(config=STRICT)
class FetchedFiles(Stored):
    """A dataset whose files are downloaded one by one."""

    url: str = place("")
    md5: dict[str, MD5] = checksums(())

    def download(self) -> None:
        for file in self.files:
            if file not in self.md5:
                raise ConfigError(f"dataset.md5 has no checksum of {file}, which is one of {', '.join(self.files)}")
            download(f"{self.url.rstrip('/')}/{file}", self.folder / file, self.md5[file])


def download(url: str, path: Path, md5: str) -> None:
    """Download `url` to `path`, with a progress bar on a terminal; nothing happens if it is there and whole.

    What has arrived is kept beside it as PATH.part, from where this or another call goes on. Of several processes one
    downloads, and the others wait for it.

    Raises:
        RunError: the server refuses, the connection is lost again and again, the disk is full, or what came has
            another checksum; in that last case it is thrown away.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        if not path.is_file() or checksum(path) != md5:
            _download(url, path, md5)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Inside, no other process downloads to `path`: it waits, as this one does first if another came before.

    The system takes the lock from a process that ends, however it ends, so none is ever left over.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with writing(path):
        try:
            held = lock.acquire(blocking=False)
        except Timeout:
            print(f"waiting for another process, which downloads {path}", file=sys.stderr)
            held = lock.acquire()
    with held:
        yield


def _download(url: str, path: Path, md5: str) -> None:
    part = path.with_name(f"{path.name}.part")
    with writing(path):
        part.touch()
    for wait in (*WAITS, None):
        try:
            _continue(url, part)
            break
        except urllib.error.HTTPError as error:
            raise RunError(f"{url} can't be downloaded: the server says {error.code} {error.reason}") from error
        except (_Lost, HTTPException, OSError) as error:  # of the network: those of the file are `RunError` by now
            if wait is None:
                reason = getattr(error, "reason", error)
                raise RunError(
                    f"{url} can't be downloaded, or not whole: {reason}; {part.stat().st_size:,} bytes are kept, "
                    f"and the same command goes on from there"
                ) from error
            time.sleep(wait)
    if (found := checksum(part)) != md5:
        with writing(part):
            part.unlink()
        raise RunError(
            f"what {url} holds has the checksum {found}, and not {md5}: it was thrown away, as it is damaged or "
            f"another file; try again"
        )
    with writing(path):
        os.replace(part, path)


class _Lost(Exception):
    """The connection ended before the file did."""


def _continue(url: str, part: Path) -> None:
    """Append to `part` what is still to come."""
    have = part.stat().st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to come
            return
        raise
    with response:
        if response.status != 206:  # a server that only sends all of it
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, file=sys.stderr, disable=None)
        with bar, writing(part), open(part, "ab" if have else "wb") as stream:
            while block := _receive(response):
                stream.write(block)
                have += len(block)
                bar.update(len(block))
    if total is not None and have < total:
        raise _Lost(f"the connection ended after {have:,} of {total:,} bytes")


def _receive(response: Any) -> bytes:
    try:
        return response.read1(BLOCK)
    except OSError as error:  # from the network, and so none of the file's
        raise _Lost(str(error)) from error


def checksum(path: Path) -> str:
    """MD5 of a file, in hexadecimal: it guards against damage, not against malice."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def unpack(archive: Path, files: Mapping[str, Path]) -> None:
    """Copy the regular files of a tar archive whose names end in the keys of `files` to its values.

    Raises:
        RunError: The archive is damaged or lacks one of them; those that were copied are whole.
    """
    left = dict(files)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = next((name for name in left if f"/{member.name}".endswith(f"/{name}")), None)
                stream = tar.extractfile(member) if name is not None and member.isreg() else None
                if name is None or stream is None:
                    continue
                target = left.pop(name)
                with writing(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                with replacing(target) as temporary, open(temporary, "wb") as copy:
                    shutil.copyfileobj(stream, copy, BLOCK)
                if not left:
                    return
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise RunError(f"{archive} is damaged: {error}; delete it, and fetch again") from error
    raise RunError(f"{archive} does not hold {', '.join(left)}")
