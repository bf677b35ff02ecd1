"""Data files that were altered: bytes, lengths, shapes that are claimed, names, numbers, encodings."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet

NAMES = ("height", "weight")
CELLS = (
    *(
        "",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "1e400",
        "1e308",
        "1,5",
        "x",
        "NULL",
        "0x10",
        " 1",
        "1_0",
        "٣",
        "１",
        "true",
        "2020-01-01",
    ),
    *('"', '"1', "1\0", "=1+1", "\ufeff1", "1;2", "1\t2", "9" * 400, "\x1b[31m", "\u2028"),
)
HEADERS = (
    *(
        "height,height",
        "height,",
        ",",
        "",
        "1.5,2.5",
        "height",
        "height,weight,age",
        "height;weight",
        '"height","weight',
        "a\0b,c",
    ),
    *(
        "\x1b[31m,b",
        "height,weight\nheight,weight",
        "ü,☃",
        "x" * 10_000 + ",b",
        "=1+1,@b",
        "|,`",
        ",".join("abcdefgh" * 500),
    ),
)
HEADS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (%s), }",
    "{'descr': '<f8', 'fortran_order': True, 'shape': (%s), }",
    "{'descr': [('a', '<f4'), ('a', '<f4')], 'fortran_order': False, 'shape': (%s), }",
    "{'descr': '<c16', 'fortran_order': False, 'shape': (%s), }",
    "{'descr': __import__('os').getcwd(), 'shape': (%s), }",
    "%s" + "(" * 500,
)
SHAPES = (
    "300, 2",
    "10**12, 2",
    "1000000000000, 2",
    "300, 1000000000",
    "-1, 2",
    "300,",
    "",
    "0, 2",
    "300, 0",
    f"{2**63}, 2",
    "True, 2",
)


def write(folder: Path, draw: Random) -> Path:
    """An altered table of two columns in some format."""
    values = np.random.default_rng(0).normal(size=(300, 2)) * [1, 20] + [5, 100]
    ending = draw.choice([".csv", ".csv", ".csv", ".tsv", ".parquet", ".npy", ".npz", ".csv.gz", ".pkl", ".txt"])
    path = folder / f"data{ending}"
    path.write_bytes({".parquet": _parquet, ".npy": _npy, ".npz": _npz}.get(ending, _text)(values, draw, ending))
    _spoil(path, draw)
    return path


def _text(values: np.ndarray, draw: Random, ending: str) -> bytes:
    rows = [[f"{x:.6f}" for x in row] for row in values]
    separator = "\t" if ending == ".tsv" else ","
    for _ in range(draw.choice([0, 0, 1, 3])):
        rows[draw.randrange(300)][draw.randrange(2)] = draw.choice(CELLS)
    if draw.random() < 0.15:
        rows[draw.randrange(300)].append("1")
    if draw.random() < 0.1:
        rows = rows[: draw.choice([0, 1, 2, 3, 10])]
    header = draw.choice(HEADERS).replace(",", separator) if draw.random() < 0.4 else separator.join(NAMES)
    text = draw.choice(["\n", "\n", "\r\n", "\r"]).join([header, *(separator.join(row) for row in rows), ""])
    data = text.encode(draw.choice(["utf-8", "utf-8", "utf-8", "utf-16", "latin-1", "utf-8-sig"]), errors="replace")
    return gzip.compress(data) if ending.endswith(".gz") or draw.random() < 0.03 else data


def _parquet(values: np.ndarray, draw: Random, _: str) -> bytes:
    stream = io.BytesIO()
    names = draw.choice([NAMES, NAMES, ("a", "a"), ("", "b"), ("=1", "\x1b[31m")])
    columns: list[object] = [arrow.array(values[:, 0]), arrow.array(values[:, 1])]
    kinds = [
        [None] * 300, ["x"] * 300, [[1.0]] * 300, [{"a": 1}] * 300, [b"\xff"] * 300, [True] * 300, [2**63 - 1] * 300,
        [float("nan")] * 300,
    ]  # fmt: skip
    if draw.random() < 0.5:
        columns[draw.randrange(2)] = arrow.array(draw.choice(kinds))
    parquet.write_table(arrow.table(columns, names=list(names)), stream)
    return stream.getvalue()


def _npy(values: np.ndarray, draw: Random, _: str) -> bytes:
    stream = io.BytesIO()
    kinds = ["<f4", "<f8", "<f2", "<i8", "<u1", "?", "<c8", "U8", "S8", "M8[s]", "O"]
    np.save(stream, values.astype(draw.choice(kinds)), allow_pickle=True)
    data = stream.getvalue()
    if draw.random() < 0.5:
        head = (draw.choice(HEADS) % draw.choice(SHAPES)).encode()
        claimed = draw.choice([len(head), len(head), len(head), 0, 65535])
        data = b"\x93NUMPY\x01\x00" + struct.pack("<H", claimed) + head + data[128:]
    return data


def _npz(values: np.ndarray, draw: Random, ending: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in draw.choice([NAMES, NAMES, ("data",), ("../../outside", "b"), ("a", "a"), ("a/b", "c"), ()]):
            whole = name in ("data",) or draw.random() < 0.1
            archive.writestr(f"{name}.npy", _npy(values if whole else values[:, 0], draw, ending))
        if draw.random() < 0.1:
            archive.writestr("zeros.npy", b"\0" * 2**28)  # a few kilobytes in the archive
    return stream.getvalue()


def _spoil(path: Path, draw: Random) -> None:
    content = bytearray(path.read_bytes())
    kind = draw.choice(["not", "not", "flip", "flips", "cut", "empty", "noise", "twice"])
    if kind in ("flip", "flips") and content:
        for _ in range(1 if kind == "flip" else 30):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif kind == "cut" and content:
        del content[draw.randrange(len(content)) :]
    elif kind == "empty":
        content.clear()
    elif kind == "noise":
        content[:] = draw.randbytes(draw.choice([1, 100, 10_000]))
    elif kind == "twice":
        content *= 2
    path.write_bytes(content)
