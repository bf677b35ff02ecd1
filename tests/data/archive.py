"""A small archive of the layout of the real one, and a server that can fail in the ways that servers do."""

from __future__ import annotations

import io
import pickle
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np


def pickled(columns: list[str], x: np.ndarray) -> bytes:
    """A data frame as a pandas of 2017 pickled it."""

    def build(module: str, name: str, **body: Any) -> Any:
        made = type(name, (), {"__module__": module, **body})
        vars(sys.modules.setdefault(module, ModuleType(module)))[name] = made
        return made

    def new_index(cls: type, data: dict[str, Any]) -> Any:
        return cls()

    with patch.dict(sys.modules):  # in place of a pandas that is installed, and without touching it
        for name in [name for name in sys.modules if name.partition(".")[0] == "pandas"]:
            del sys.modules[name]
        for package in ("pandas", "pandas.core", "pandas.indexes"):
            sys.modules.setdefault(package, ModuleType(package))
        new_index.__module__, new_index.__qualname__, new_index.__name__ = (
            "pandas.indexes.base",
            "_new_Index",
            "_new_Index",
        )
        reduce = lambda self: (new_index, (type(self), {"data": self.data, "name": None}))  # noqa: E731
        index = build("pandas.indexes.base", "Index", __reduce__=reduce)
        vars(sys.modules["pandas.indexes.base"])["_new_Index"] = new_index
        manager = build("pandas.core.internals", "BlockManager", __getstate__=lambda self: self.state)
        frame = build("pandas.core.frame", "DataFrame", __getstate__=lambda self: self.state)()
        names, rows, blocks = index(), index(), manager()
        names.data, rows.data = np.array(columns, dtype=object), np.arange(len(x))
        evens, odds = np.arange(0, len(columns), 2), np.arange(1, len(columns), 2)  # as where types are mixed
        values = [
            {"values": x[:, evens].T, "mgr_locs": evens},
            {"values": x[:, odds].T, "mgr_locs": slice(1, len(columns), 2)},
        ]
        blocks.state = ([names, rows], [], [], {"0.14.1": {"axes": [names, rows], "blocks": values}})
        frame.state = {"_data": blocks, "_typ": "dataframe", "_metadata": []}
        return pickle.dumps(frame, protocol=2)


def files() -> dict[str, bytes]:
    """The files of the five tables, a few hundred rows each."""
    draw = np.random.default_rng(0)

    def saved(x: np.ndarray) -> bytes:
        stream = io.BytesIO()
        np.save(stream, x)
        return stream.getvalue()

    def csv(x: np.ndarray, columns: int) -> bytes:
        names = ["# label", *(f"f{k}" for k in range(x.shape[1] - 1))][:columns]
        lines = [",".join(names), *(",".join(f"{value:.6e}" for value in row) for row in x)]
        return "\n".join(lines).encode()

    def collisions(rows: int) -> np.ndarray:
        x = draw.normal(size=(rows, 23))
        x[:, 0] = np.arange(rows) % 2
        x[:, 7] = draw.integers(0, 3, rows)  # a column of few values, which goes
        return x

    gas = draw.normal(size=(300, 11)) * 3 + 7
    gas[:, 5] = gas[:, 4] + 0.01 * draw.normal(size=300)
    names = ["Time", "Meth", "Eth", *(f"R{k}" for k in range(8))]
    patches = io.BytesIO()
    with h5py.File(patches, "w") as file:
        for name, rows in (("train", 100), ("validation", 5), ("test", 25)):
            file[name] = draw.normal(size=(rows, 63))
    return {
        "power/data.npy": saved(draw.normal(size=(400, 8)) * 5 + 3),
        "gas/ethylene_CO.pickle": pickled(names, gas),
        "hepmass/1000_train.csv": csv(collisions(600), 23),
        "hepmass/1000_test.csv": csv(np.hstack([collisions(200), np.zeros((200, 1))]), 24),
        "miniboone/data.npy": saved(draw.normal(size=(365, 43)) * 2 + 1),
        "BSDS300/BSDS300.hdf5": patches.getvalue(),
    }


def archive(contents: dict[str, bytes], top: str = "data/") -> bytes:
    """A compressed tar archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


class Server:
    """What it sends, how it fails, and the ranges and paths that it was asked for.

    Attributes:
        cuts: For each of the next answers, after how many bytes the connection ends.
        whole: Whether it ignores ranges, as simple servers do.
        pause: Seconds before it answers.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.cuts: list[int] = []
        self.whole = False
        self.status: int | None = None
        self.asked: list[str | None] = []
        self.paths: list[str] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.url = ""


class _Patient(ThreadingHTTPServer):
    """A client that leaves in the middle is what some tests are about.

    The standard server prints the traceback from its own thread, into the output of
    whichever test runs by then.
    """

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    """A server on this machine, at `url`."""
    server = Server(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.asked.append(asked)
            server.paths.append(self.path)
            server.meanwhile()
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and not server.whole else 0
            body = server.content[start:]
            self.send_response(server.status or (416 if asked and not body else 206 if start else 200))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

        def log_message(self, *_: Any) -> None:
            pass

    http = _Patient(("127.0.0.1", 0), Handler)
    thread = Thread(target=http.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/files/data.tar.gz"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def put(root: Path) -> None:
    """Write the files where `dataset.root=root` finds them."""
    for name, content in files().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
