"""Fetching: whatever network, disk or archive do, each file is whole or not there, and one sentence says why."""

from __future__ import annotations

import errno
import hashlib
import io
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from cifrun.cli.main import main
from cifrun.data import download as module
from cifrun.data.download import download, unpack
from cifrun.errors import RunError

from .archive import Server, archive, files, serving

CONTENT = archive(files())
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
#: Seconds after which what waits for something that does not come fails.
HANG = 600


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "WAITS", (0, 0))
    with serving(CONTENT) as server:
        yield server


def fetch(name: str, server: Server, root: Path, *words: str, md5: str = MD5) -> int:
    return main(
        ["data", "fetch", name, f"dataset.root={root}", f"dataset.url={server.url}", f"dataset.md5={md5}", *words]
    )


def left(folder: Path) -> list[str]:
    """The files below a folder, without the empty ones by which processes wait for each other."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return sorted(str(path.relative_to(folder)) for path in paths)


@pytest.mark.parametrize("name", ["power", "gas", "hepmass", "miniboone", "bsds300"])
def test_fetch_puts_a_table_where_training_finds_it(
    name: str, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "a folder, new"
    assert fetch(name, server, root) == 0
    out, err = capsys.readouterr()
    assert err == "" and f"{name} → {root}" in out and "delete it" in out
    wanted = [file for file in files() if file.lower().startswith(name)]
    assert left(root) == sorted([*wanted, "data.tar.gz"])
    for file in wanted:
        assert (root / file).read_bytes() == files()[file]
    assert fetch(name, server, root) == 0
    assert "there already" in capsys.readouterr().out
    assert len(server.asked) == 1


def test_one_archive_serves_all(server: Server, tmp_path: Path) -> None:
    assert fetch("power", server, tmp_path) == fetch("gas", server, tmp_path) == 0
    assert server.asked == [None]


def test_a_lost_connection_is_taken_up_again(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000, 500]
    download(server.url, tmp_path / "x", MD5)
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-", "bytes=1500-"]


def test_the_next_command_goes_on_where_this_one_gave_up(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.cuts = [1000, 1000, 1000]
    assert fetch("power", server, tmp_path) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "3,000 of" in err and "3,000 bytes are kept" in err and "same command" in err
    assert left(tmp_path) == ["data.tar.gz.part"]
    assert fetch("power", server, tmp_path) == 0
    assert server.asked[-1] == "bytes=3000-"
    assert left(tmp_path) == ["data.tar.gz", "power/data.npy"]


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.cuts, server.whole = [1000], True
    download(server.url, tmp_path / "x", MD5)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_part_that_is_all_of_it(server: Server, tmp_path: Path) -> None:
    """The process was killed between the last byte and the rename."""
    (tmp_path / "x.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "x", MD5)
    assert left(tmp_path) == ["x"]


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch("power", server, tmp_path, md5="0" * 32) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and MD5 in err and "0" * 32 in err and "thrown away" in err
    assert left(tmp_path) == []


def test_a_stale_part_is_thrown_away_and_the_next_try_works(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(b"something else")
    with pytest.raises(RunError, match="thrown away"):
        download(server.url, tmp_path / "x", MD5)
    download(server.url, tmp_path / "x", MD5)
    assert left(tmp_path) == ["x"]


def test_what_is_there_and_damaged_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(CONTENT[:-1])
    download(server.url, tmp_path / "x", MD5)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, block: Any) -> int:
            if self.tell() + len(block) > 2000:
                super().write(block[: 2000 - self.tell()])
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(block)

    with monkeypatch.context() as patch:
        patch.setattr(module, "open", lambda path, mode: Full(path, mode), raising=False)
        with pytest.raises(RunError, match=r"x\.part can't be written: No space left on device"):
            download(server.url, tmp_path / "x", MD5)
    assert len(server.asked) == 1, "more tries make no room"
    assert (tmp_path / "x.part").stat().st_size == 2000
    download(server.url, tmp_path / "x", MD5)  # when there is room again
    assert server.asked[-1] == "bytes=2000-" and left(tmp_path) == ["x"]


def test_a_full_disk_while_unpacking(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.tar.gz").write_bytes(CONTENT)
    monkeypatch.setattr(module.shutil, "copyfileobj", full)
    with pytest.raises(RunError, match=r"data\.npy can't be written: No space left on device"):
        unpack(tmp_path / "a.tar.gz", {"power/data.npy": tmp_path / "power/data.npy"})
    assert left(tmp_path) == ["a.tar.gz"]


def test_of_three_at_once_one_downloads_and_two_wait(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    waiting = Barrier(3)

    def say(text: str, file: Any) -> None:
        said.append(text)
        waiting.wait(HANG)

    monkeypatch.setattr(module, "print", say, raising=False)
    server.meanwhile = lambda: waiting.wait(HANG)  # until both others have said that they wait
    with ThreadPoolExecutor(3) as threads:
        done = [threads.submit(download, server.url, tmp_path / "x", MD5) for _ in range(3)]
    assert [future.result() for future in done] == [None, None, None]
    assert (tmp_path / "x").read_bytes() == CONTENT and left(tmp_path) == ["x"]
    assert server.asked == [None]
    assert len(said) == 2 and all(text.startswith("waiting for another process, which downloads") for text in said)


def test_a_process_that_was_killed_holds_nobody_up(server: Server, tmp_path: Path) -> None:
    """What it had downloaded is taken up by the next."""
    process: Future[subprocess.Popen[bytes]] = Future()
    server.meanwhile = lambda: process.result(HANG).kill()
    code = (
        f"from cifrun.data.download import download; from pathlib import Path; download({server.url!r}, Path('x'), '')"
    )
    process.set_result(subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path))
    assert process.result().wait(HANG) == -signal.SIGKILL
    server.meanwhile = lambda: None
    (tmp_path / "x.part").write_bytes(CONTENT[:700])
    download(server.url, tmp_path / "x", MD5)
    assert server.asked == [None, "bytes=700-"] and left(tmp_path) == ["x"]


def test_a_server_that_refuses_and_one_that_is_not_there(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(RunError, match=r"can't be downloaded: the server says 404"):
        download(server.url, tmp_path / "x", MD5)
    assert len(server.asked) == 1
    with pytest.raises(RunError, match=r"can't be downloaded, or not whole: .*refused"):
        download("http://127.0.0.1:9/x", tmp_path / "x", MD5)


@pytest.mark.parametrize("size", [0, 10, 5000, len(CONTENT) * 3 // 4])
def test_a_truncated_archive(size: int, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(CONTENT[:size])
    with pytest.raises(RunError, match=r"a\.tar\.gz (is damaged|does not hold)"):
        unpack(tmp_path / "a.tar.gz", {"BSDS300/BSDS300.hdf5": tmp_path / "b"})
    assert left(tmp_path) == ["a.tar.gz"]


def test_an_archive_does_not_say_where_files_go(tmp_path: Path) -> None:
    """Paths that lead outside, links and devices: only the content of a regular file is taken, to the place we name."""
    home = tmp_path / "home"
    home.mkdir()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, kind in (("x/../../evil.npy", tarfile.REGTYPE), ("a/link.npy", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, "/etc/passwd", 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"evil"))
    (home / "a.tar.gz").write_bytes(stream.getvalue())
    unpack(home / "a.tar.gz", {"evil.npy": home / "in/evil.npy"})
    assert left(tmp_path) == ["home/a.tar.gz", "home/in/evil.npy"]
    with pytest.raises(RunError, match=r"does not hold link\.npy"):
        unpack(home / "a.tar.gz", {"link.npy": home / "link.npy"})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["cifrun data fetch NAME"]),
        (["fetch"], ["cifrun data fetch NAME"]),
        (["fech", "power"], ["cifrun data fetch NAME"]),
        (["fetch", "dataset=power"], ["cifrun data fetch NAME"]),
        (["fetch", "powr"], ["no dataset 'powr'", "did you mean 'power'?"]),
        (["fetch", "rings"], ["'rings' has nothing to download"]),
        (["fetch", "power", "dataset.md5=12"], ["dataset.md5 = 12"]),
        (["fetch", "power", "dataset.url=file:///etc/passwd"], ["dataset.url = 'file:///etc/passwd'"]),
    ],
)
def test_one_sentence_for_a_command_that_can_not_be_done(
    words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and all(word in err for word in expected), err
