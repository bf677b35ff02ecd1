"""A fingerprint sees the size, both ends, and of a file that is not too large everything."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cifrun.io import files
from cifrun.io.files import fingerprint


def test_all_of_a_small_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert fingerprint(path) == hashlib.sha256(b"3abc").hexdigest()
    content = bytearray(3 * 2**20 + 17)
    seen = set()
    for place in (0, 2**20 - 1, 2**20, 2 * 2**20 + 5, len(content) - 1):
        content[place] = 1
        path.write_bytes(content)
        seen.add(fingerprint(path))
    assert len(seen) == 5


def test_of_a_large_file_size_ends_and_pieces_at_equal_distances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WHOLE", 1000), ("SAMPLES", 5), ("BLOCK", 10)):
        monkeypatch.setattr(files, name, value)
    path, content = tmp_path / "a", bytes(2000)
    path.write_bytes(content)
    first = fingerprint(path)
    changes = []
    for place in range(len(content)):
        path.write_bytes(content[:place] + b"x" + content[place + 1 :])
        changes.append(fingerprint(path) != first)
    starts = (0, 497, 995, 1492, 1990)
    assert [place for place, seen in enumerate(changes) if seen] == [s + k for s in starts for k in range(10)]
    path.write_bytes(content + b"\0")
    assert fingerprint(path) != first
