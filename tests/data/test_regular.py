"""Only regular files are opened, and nothing waits for another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cifrun.data import regular
from cifrun.data.regular import check_regular, open_regular
from cifrun.errors import ConfigError


def test_a_file_is_opened_and_measured(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        assert check_regular(tmp_path / name) == 3
        with open_regular(tmp_path / name) as stream:
            assert stream.read() == b"abc"


def test_a_pipe_that_takes_the_place_of_a_file_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(ConfigError, match="what is there is a pipe"):
        open_regular(tmp_path / "a")
    monkeypatch.setattr(regular, "check_regular", lambda _: 0)  # it came after the first look
    with pytest.raises(ConfigError, match="what is there is a pipe"):
        open_regular(tmp_path / "a")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/", "/nowhere", "/a\0b", "/" + "x" * 5000])
def test_all_else_is_one_sentence(path: str) -> None:
    with pytest.raises(ConfigError, match="there is no file") as error:
        check_regular(Path(path))
    assert len(str(error.value).splitlines()) == 1
