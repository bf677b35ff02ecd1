"""The run directory: the files a run leaves, written so that a kill at any moment leaves each one whole.

    config.yaml            the resolved config; enough to rebuild the model
    summary.json           status, what was run, and the test results
    metrics.jsonl          one line a logged step
    checkpoints/latest.safetensors, checkpoints/best.safetensors, and perhaps checkpoints/final.safetensors
    figures/*.png

`RunDirectory` is the one reader of all of them. It checks what it reads, as a file may have been changed or cut off,
and says in one sentence what is wrong.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ..config.roles import command_defaults, flattened
from ..config.schema import Config, to_dict
from ..errors import ConfigError, RunError
from ..io.files import inside, is_there, left_over, overwrite, read_text, replacing, writing
from ..io.yaml_files import read_yaml
from . import summary
from .checkpoint import Checkpoint
from .records import METRICS, Silent, Tracker, read_metrics
from .validation import check, is_any

__all__ = ["DONE", "RunDirectory"]

#: States of a run that has a test result; `stopped_early` is one whose patience ran out.
DONE = ("completed", "stopped_early")

#: Of the checkpoints that a run may have.
TAGS = ("latest", "best", "final", "start")

#: Bytes of a config and of a summary, at most.
CONFIG, SUMMARY = 2**20, 2**26

#: What every config names, and by which readers tell runs apart.
NAMED = {
    "seed": ("a whole number from 0",),
    "cif": ("true or false",),
    "dataset.name": ("a text",),
    "flow.family": ("a text",),
}


class RunDirectory:
    """Reads and writes the files of one run.

    Arguments:
        path: The directory; `create` makes it.
        writes: False for a process that leaves all writing to another; its `create`, `write_…` and `save_…` do nothing.

    Raises:
        RunError: A file is missing, damaged, or can't be written; the message names it.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path = Path(path)
        self.writes = writes
        self.figures = self.path / "figures"

    # --- the config ---------------------------------------------------------------------------------------------------

    def create(self, config: Config) -> None:
        """Make the directory, without what killed processes left in it, and write `config.yaml`."""
        if self.writes:
            with writing(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                for folder in (self._at("checkpoints"), self._at("figures")):
                    folder.mkdir(exist_ok=True)
                self.clean()
        self.write_config(config)

    def clean(self) -> None:
        """Remove what killed processes left half-written; for whoever is alone there."""
        for names in ((), ("checkpoints",), ("figures",), ("figures", "frames")):
            for file in left_over(self._at(*names)):
                file.unlink(missing_ok=True)

    def check_places(self) -> None:
        """Refuse a directory of which a file that a run reads or writes leads elsewhere, before any work is done."""
        for name in ("config.yaml", "summary.json", METRICS, "figures"):
            self._at(name)
        for tag in TAGS:
            inside(self.checkpoint_path(tag), self.path)

    def write_config(self, config: Config) -> None:
        """`config.yaml`, with what belongs to one command only (run, output, data, n, …) as if nobody had typed it."""
        data = to_dict(config) | command_defaults()
        self._write("config.yaml", yaml.safe_dump(data, sort_keys=False, allow_unicode=True))

    def exists(self) -> bool:
        """Whether there is a run here, however far it got."""
        return os.path.isfile(self.path / "config.yaml")

    def begun(self) -> bool:
        """Whether there is something to go on with."""
        return self.exists() and os.path.isfile(self.checkpoint_path("latest"))

    def unbegun(self) -> bool:
        """Whether there is a run that was killed before it had anything to go on with, and can begin again."""
        if self.begun() or (self.path / METRICS).exists() or (self.path / "summary.json").exists():
            return False
        try:
            return bool(self.config())
        except RunError:
            return False

    def check_ours(self) -> None:
        """Raise `RunError` if there are files here of a run's names that this program has not written."""
        if self.exists():
            try:
                self.config()
            except RunError as error:
                raise RunError(f"{error}: choose another directory, as this one would be overwritten") from error
            return
        for file in (self.path / "summary.json", self.path / METRICS, *map(self.checkpoint_path, TAGS)):
            if is_there(file):
                raise RunError(f"{file} is there, without the config.yaml of a run: choose another directory")

    def check_free(self) -> None:
        """Raise `RunError` if there is a run that a new one would overwrite, or what is none."""
        self.check_ours()
        if self.exists() and not self.unbegun():
            raise RunError(
                f"'{self.path}' already holds a run: resume={self.path}, in Python resume=True, continues it"
            )

    def _at(self, *names: str) -> Path:
        """A place in the directory that does not lead out of it."""
        return inside(self.path.joinpath(*names), self.path)

    def last_written(self) -> float | None:
        """When its records or its summary were last written, in seconds since 1970; None if there are none."""
        files = [file for name in (METRICS, "summary.json") if (file := self.path / name).is_file()]
        return max((file.stat().st_mtime for file in files), default=None)

    def last_changed(self) -> float:
        """When something in it was last made, written or removed, in seconds since 1970; 0 if it is gone."""
        places = [self.path, self.path / "checkpoints", self.figures]
        for folder in tuple(places):
            with suppress(OSError):
                places += folder.iterdir()
        times = [0.0]
        for place in places:
            with suppress(OSError):
                times.append(place.lstat().st_mtime)
        return max(times)

    @staticmethod
    def below(directory: Path) -> list[Path]:
        """The run directories in and below a directory, in order of their paths."""
        return [file.parent for file in sorted(directory.rglob("config.yaml"))]

    def plain_config(self) -> dict[str, Any]:
        """What `config.yaml` holds, as plain data: its names, types and ranges are `Config.parse`'s to check."""
        if not self.path.is_dir():
            raise RunError(f"there is no run directory {self.path}")
        file = self._at("config.yaml")
        if not os.path.isfile(file):
            raise RunError(f"{self.path} is not a run directory: it has no config.yaml")
        try:
            data = read_yaml(read_text(file, CONFIG))
        except OSError as error:
            raise RunError(f"{file} can't be read: {error.strerror or error}") from error
        except ValueError as error:
            raise RunError(f"{file} can't be read as YAML") from error
        groups = [data.get(key) for key in ("dataset", "flow")] if isinstance(data, dict) else [None]
        if not all(isinstance(group, dict) and all(isinstance(name, str) for name in group) for group in groups):
            raise RunError(f"{file} does not hold the configuration of a run")
        return data

    def config(self) -> Config:
        """The run's config."""
        data = self.plain_config()
        try:
            return Config.parse(data)
        except ConfigError as error:
            raise RunError(f"{self.path / 'config.yaml'} is not a valid configuration: {error}") from error

    def settings(self) -> dict[str, Any]:
        """The run's config by dotted names, of which `NAMED` are checked: its flow may be one that is not installed."""
        found = flattened(self.plain_config())
        check(found, NAMED, str(self.path / "config.yaml"), complete=True)
        return found

    # --- what became of it --------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """`summary.json`, or an empty dict when the run has not written one yet."""
        file = self._at("summary.json")
        try:
            found = json.loads(read_text(file, SUMMARY))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise RunError(f"{file} can't be read: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise RunError(f"{file} can't be read as JSON") from error
        if not isinstance(found, dict):
            raise RunError(f"{file} does not hold the summary of a run")
        check(found, summary.KINDS, str(file))
        test = found.get("test", {})
        check(test, {**dict.fromkeys(test, summary.RESULT), **summary.TEST}, f"'test' of {file}")
        return found

    def write_summary(self, content: Mapping[str, Any]) -> None:
        """`summary.json`; numbers that are not finite become null."""
        text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)
        try:
            self._write("summary.json", f"{text}\n")
        except RunError as error:
            full = getattr(error.__cause__, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
            if not full or not (self.path / "summary.json").is_file():
                raise
            with writing(self.path / "summary.json"):
                overwrite(self._at("summary.json"), f"{text}\n")

    def _write(self, name: str, text: str) -> None:
        if self.writes:
            with replacing(self._at(name)) as file:
                file.write_text(text, encoding="utf-8")

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, without values that are no numbers; none if the run has not logged yet."""
        file = self._at(METRICS)
        try:
            rows = read_metrics(file)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(f"{file} can't be read: {error.strerror or error}") from error
        numbers = ("null", "a number")
        return [{name: value for name, value in row.items() if is_any(value, numbers)} for row in rows]

    def tracker(self, resume_from: int | None = None, absent: Sequence[str] = ()) -> Tracker | Silent:
        """What keeps the records; arguments as of `Tracker`."""
        if self.writes and not self.path.is_dir():
            raise RunError(f"{self.path} is gone")
        return Tracker(self.path, resume_from=resume_from, absent=absent) if self.writes else Silent()

    def how_to_go_on(self) -> str:
        """What follows "stopped at step 3 of 10"."""
        return f"; all is saved\ngo on with: cifrun train resume={self.path}"

    def check_data(self, fingerprint: str | None) -> None:
        """Raise `RunError` if the run was trained on a file that has another fingerprint than this, of its data now."""
        known = self.summary().get("data_fingerprint")
        if known is not None and known != fingerprint:
            raise RunError(
                f"the file that {self.path} was trained on has changed since, and with it which rows are for training "
                f"and which for the test: bring back what it was, or train anew"
            )

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def checkpoint_path(self, tag: str) -> Path:
        """Where the checkpoint "latest", "best", "final" or "start" is."""
        return self.path / "checkpoints" / f"{tag}.safetensors"

    def best_tag(self) -> str:
        """The checkpoint to use: "final", the last weights where they turned out the best when the run ended; or the
        best of the validations; or, where there was none, the latest.
        """
        return next((tag for tag in ("final", "best") if self.has_checkpoint(tag)), "latest")

    def has_checkpoint(self, tag: str) -> bool:
        """Whether there is such a checkpoint."""
        return is_there(self.checkpoint_path(tag))

    def load_best(self) -> tuple[str, Checkpoint]:
        """The checkpoint to use, and its tag; never other weights than those that a validation chose."""
        checkpoint = self.load_checkpoint(tag := self.best_tag())
        if tag == "latest" and checkpoint.state.get("best_valid") is not None:
            raise RunError(f"{self.checkpoint_path('best')} is missing, with the weights that were best in validation")
        return tag, checkpoint

    def version(self) -> object:
        """What changes whenever the checkpoint to use does."""
        try:
            file = self.checkpoint_path(self.best_tag()).stat()
        except OSError:
            return None
        return file.st_ino, file.st_size, file.st_mtime_ns

    def save_checkpoint(self, tag: str, checkpoint: Checkpoint) -> None:
        """Write `checkpoints/TAG.safetensors`; what was there stays until the new one is whole and on disk."""
        if self.writes:
            checkpoint.save(inside(self.checkpoint_path(tag), self.path))

    def drop_checkpoint(self, tag: str) -> None:
        """Remove a checkpoint, if it is there."""
        if self.writes:
            with writing(self.checkpoint_path(tag)):
                inside(self.checkpoint_path(tag), self.path).unlink(missing_ok=True)

    def load_checkpoint(self, tag: str) -> Checkpoint:
        """Read `checkpoints/TAG.safetensors`."""
        file = inside(self.checkpoint_path(tag), self.path)
        if not is_there(file):
            raise RunError(f"{self.path} has no checkpoint '{tag}': {file} is missing")
        return Checkpoint.read(file)


def _finite(value: Any) -> Any:
    """The same with null for numbers that are not finite, which JSON does not have."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
