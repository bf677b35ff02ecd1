"""Many run directories as one answer: `cifrun report` prints it, and writes it as Markdown, CSV, LaTeX and HTML.

Runs whose settings differ in nothing but the seed are one group, a row of each table. There is a table for each thing
that one asks of a flow: its fit, where its mass is, how near it is to breaking, how good its estimate is, what it cost.
What is unfinished or can't be read is listed below the tables.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import ConfigError
from ..io.files import inside, replacing, writing
from ..io.text import visible
from .formats import comma_separated, latex, markdown, text
from .groups import Comparison
from .html import page
from .runs import LONG, find_runs

#: The files report.ENDING, and what writes each.
WRITERS: dict[str, Callable[[Comparison], str]] = {"md": markdown, "csv": comma_separated, "tex": latex, "html": page}
#: Endings of files that a report may be taken for.
ENDINGS = (*WRITERS, "pdf", "txt", "png", "json")
#: Seconds between two looks of `watch`.
PAUSE = 5.0


class Report(Comparison):
    """What `cifrun report` says of runs."""

    def text(self) -> str:
        """For the terminal."""
        return text(self)

    def write(self, directory: Path) -> list[Path]:
        """Write report.md, report.csv, report.tex and report.html.

        Raises:
            RunError: They can't be written.
        """
        texts = {directory / f"report.{ending}": writer(self) for ending, writer in WRITERS.items()}
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            for path in directory.glob(".report.*.tmp"):  # of a report that was killed
                path.unlink(missing_ok=True)
        for path, content in texts.items():
            with replacing(path) as file:
                file.write_text(content, encoding="utf-8")
        return list(texts)


def report(directories: Sequence[Path], output: Path | None = None) -> Report:
    """Print the tables of all runs below `directories`, and write them to `output`, by default DIR/report of the first.

    Raises:
        ConfigError: There are none; or `output` can't be a folder.
        RunError: The files can't be written, or DIR/report leads elsewhere.
    """
    place = _place(directories, output)
    result = Report(*find_runs(directories))
    if not result.runs and not result.unreadable:
        raise ConfigError(f"there are no runs in {', '.join(map(str, directories))}")
    print(result.text())
    paths = result.write(place)
    print(f"\nwritten: {', '.join(visible(str(path)) for path in paths)}")
    return result


def _place(directories: Sequence[Path], output: Path | None) -> Path:
    """Where the files go: found wrong before the work rather than after it.

    Raises:
        ConfigError: It can't be a folder.
        RunError: DIR/report leads out of DIR.
    """
    if output is None:
        return inside(directories[0] / "report", directories[0])
    if output.is_dir():
        return output
    if output.exists() or output.suffix.lstrip(".") in ENDINGS:
        names = ", ".join(f"report.{ending}" for ending in WRITERS)
        raise ConfigError(f"output = '{output}' is not allowed: name the folder for {names}")
    if not output.parent.is_dir():
        raise ConfigError(f"output = '{output}' is not possible: there is no folder '{output.parent}'")
    return output


def watch(directories: Sequence[Path], output: Path | None = None) -> Report:
    """Print the tables again every few seconds until no run is under way; then write them. Ctrl-C ends it too.

    A run is under way until it is complete or has failed, or its process is gone; one that has no lock, which would
    tell, until nothing in its directory has changed for an hour. It takes an hour too to give up directories in which
    no run begins.

    Raises:
        ConfigError, RunError: as `report`.
    """
    _place(directories, output)
    began = time.monotonic()
    try:
        while True:
            result = Report(*find_runs(directories))
            clear = "\033[H\033[2J" if sys.stdout.isatty() else ""
            print(f"{clear}{result.text()}\n", flush=True)
            if not (result.runs or result.unreadable):
                if time.monotonic() - began >= LONG:
                    raise ConfigError(f"no run has begun in {', '.join(map(str, directories))} for an hour")
            elif not any(run.under_way for run in result.runs):
                break
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        print()
    return report(directories, output)
