"""Many run directories as one answer: tables of means over seeds with their standard errors, and what is unfinished.

Runs whose settings differ in nothing but the seed are one group, a row of each table. There is a table for each thing
that one asks of a flow: its fit, where its mass is, how near it is to breaking, how good its estimate is, what it cost.
With n > 1 seeds a number is the mean over seeds ± s/√n, s their standard deviation; with one seed, ± is the error over
the test data, and marked so.
In each dataset the best mean of a metric is marked, and with it each group that lies within two standard errors of the
difference, √(se₁² + se₂²), of it: which of those is best, these runs don't tell.

Reading needs neither torch nor Hydra, only the runs' files; torch and matplotlib come in where curves are drawn.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, RunError
from ..io.files import replacing, writing
from ..io.text import MINUS, table, with_error
from ..runs.records import METRICS, read_metrics
from .html import page

__all__ = ["DONE", "METRIC_COLUMNS", "Cell", "Group", "Report", "Run", "find_runs", "report", "watch"]

#: Settings that say where, when and for how long something is shown, not what was trained; and the seeds.
VOLATILE = (
    *("sweep.name", "seed", "dataset.seed", "dataset.root", "run", "resume", "output", "data", "per_point", "n"),
    *("trainer.progress", "trainer.log_every", "trainer.plot_every", "trainer.checkpoint_every"),
    *("device.accelerator", "device.count", "device.compile", "device.cuda_graph"),
)
#: States of a run that has a test result; `stopped_early` is one whose patience ran out.
DONE = ("completed", "stopped_early")
#: These three name a row, and so are always shown.
NAMES = ("dataset.name", "flow.family", "cif")
#: Seconds between two looks of `watch`.
PAUSE = 5.0


@dataclass(frozen=True)
class Metric:
    """A number of a run's test result, and which way is better: +1 more, -1 less, 0 neither."""

    key: str
    title: str
    better: int = 0
    indexed: bool = False  # says something of a CIF only


@dataclass(frozen=True)
class Theme:
    """What is asked of a flow, the numbers that answer it, and how to read them."""

    name: str
    hint: str
    metrics: tuple[Metric, ...] = ()


THEMES = (
    Theme(
        "fit",
        "Log-likelihood of the test data under the best weights, exact or estimated from m importance samples; KL to "
        "the truth is 0 for a perfect model.",
        (
            Metric("log_likelihood", "log-likelihood [nats]", +1),
            Metric("kl_to_truth", "KL to the truth [nats]", -1),
            Metric("bits_per_dim", "bits/dim", -1),
        ),
    ),
    Theme(
        "topology",
        "Where the model puts its mass: off the support of the target, in a wrong piece of it or in none; and how much "
        "of the data is in the region that holds 95 % of the model.",
        (
            Metric("mass_off_support", "mass off the support", -1),
            Metric("mass_misplaced", "mass misplaced", -1),
            Metric("coverage", "coverage, ideally 0.95"),
        ),
    ),
    Theme(
        "invertibility",
        "How near x = F(z; u) is to breaking: the larger of Lip F and Lip F⁻¹, found from below; the ceiling that the "
        "architecture sets it, if any; and how far a sample is from what F makes of its own inverse in float32.",
        (
            Metric("bi_lipschitz", "bi-Lipschitz, at least"),
            Metric("lipschitz_ceiling", "its ceiling"),
            Metric("round_trip_samples_float32", "round-trip error"),
        ),
    ),
    Theme(
        "trust",
        "How good IWAE_m is for indexed flows: what the ELBO lacks, the effective sample size, Pareto k̂ of "
        "the m weights (below 0.5 good, below 0.7 usable), and the gap between two bounds on log p(x).",
        (
            Metric("gap", "gap of the ELBO [nats]", indexed=True),
            Metric("ess", "ESS", indexed=True),
            Metric("pareto_k", "Pareto k̂", indexed=True),
            Metric("bracket_gap", "gap of bounds [nats]", indexed=True),
        ),
    ),
    Theme("cost", "What was trained, and how long that took, with validation and pictures."),
)
METRIC_COLUMNS = tuple(metric for theme in THEMES for metric in theme.metrics)


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A run directory, as far as it got."""

    path: Path
    settings: Mapping[str, Any]  # of config.yaml, by dotted name
    summary: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Run:
        """Raises `RunError` with a sentence that names the file that can't be read."""
        file = path / "config.yaml"
        try:
            config = yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise RunError(f"{file} can't be read as YAML") from error
        if not isinstance(config, dict) or not isinstance(config.get("dataset"), dict):
            raise RunError(f"{file} does not hold the configuration of a run")
        file = path / "summary.json"
        try:
            summary = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except (OSError, ValueError) as error:
            raise RunError(f"{file} can't be read as JSON") from error
        if not isinstance(summary, dict):
            raise RunError(f"{file} does not hold the summary of a run")
        return cls(path, dict(_flat(config)), summary)

    @property
    def seed(self) -> tuple[Any, Any]:
        return self.settings.get("seed"), self.settings.get("dataset.seed")

    @property
    def status(self) -> str:
        return str(self.summary.get("status", "begun"))

    @property
    def test(self) -> Mapping[str, Any]:
        test = self.summary.get("test")
        return test if isinstance(test, dict) else {}

    @property
    def completed(self) -> bool:
        return self.status in DONE and _number(self.test.get("log_likelihood")) is not None

    @property
    def settled(self) -> bool:
        """Whether nothing more will come of it: complete or failed."""
        return self.status in (*DONE, "failed")

    @property
    def estimate(self) -> str:
        """What the log-likelihood is: exact, an estimate IWAE_m, or one with an unbiased log-determinant."""
        if self.test.get("exact"):
            return "exact"
        return f"IWAE_{self.test.get('importance_samples', '?')}" if self.settings.get("cif") else "unbiased"

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        file = self.path / METRICS
        return read_metrics(file) if file.is_file() else []

    def progress(self) -> str:
        """`running, step 300 of 1 000, last wrote 2 minutes ago`."""
        step = self.metrics[-1]["step"] if self.metrics else 0
        files = [file for name in (METRICS, "summary.json") if (file := self.path / name).is_file()]
        age = time.time() - max((file.stat().st_mtime for file in files), default=time.time())
        of = self.settings.get("trainer.max_steps", "?")
        state = "running, or killed" if self.status == "running" else self.status
        return f"{state}, step {step} of {of}, last wrote {_ago(age)}"


def find_runs(directories: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """All runs in and below `directories`, in order of their paths, and a sentence for each that can't be read.

    Raises `ConfigError` for a directory that does not exist.
    """
    paths: dict[Path, None] = {}
    for directory in directories:
        if not directory.is_dir():
            raise ConfigError(f"there is no directory {directory}")
        for file in sorted(directory.rglob("config.yaml")):
            paths.setdefault(file.parent.resolve() if directory.is_absolute() else file.parent)
    runs, unreadable = [], []
    for path in paths:
        try:
            runs.append(Run.read(path))
        except RunError as error:
            unreadable.append(str(error))
    return runs, unreadable


# --- groups -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A mean and its standard error; None where it has none."""

    mean: float
    se: float | None
    rank: str = ""  # "best", "near": not told apart from the best; or neither

    @property
    def text(self) -> str:
        if self.se is not None:
            return with_error(self.mean, self.se)
        number, _, power = f"{self.mean:.4g}".partition("e")
        return f"{number}e{int(power)}".replace("-", MINUS) if power else number.replace("-", MINUS)

    @property
    def parts(self) -> tuple[str, str]:
        """The mean, and its error or nothing, each with the power of ten that they may share."""
        mean, _, error = self.text.partition(" ± ")
        if mean.startswith("("):
            error, _, power = error.partition(")")
            return mean[1:] + power, error + power
        return mean, error


@dataclass(frozen=True)
class Table:
    """What the groups, a row each, have to say on a theme. `align` has "l" or "r" for each column."""

    theme: Theme
    header: list[str]
    align: str
    rows: list[list[str | Cell]]


@dataclass
class Group:
    """The complete runs of the same settings, one a seed."""

    runs: list[Run]
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def dataset(self) -> str:
        return str(self.first.settings.get("dataset.name"))

    @property
    def name(self) -> str:
        flow = str(self.first.settings.get("flow.family"))
        return f"{flow} CIF" if self.first.settings.get("cif") else f"{flow} plain"

    @property
    def seconds(self) -> float:
        """What its runs took on average."""
        return statistics.fmean(_number(run.summary.get("wall_seconds")) or 0.0 for run in self.runs)

    def get(self, key: str) -> Any:
        return self.first.settings.get(key)

    def measure(self, metric: Metric) -> Cell | None:
        """Its mean over seeds ± s/√n, or of the one seed ± the error over the test data; None if a run lacks it."""
        if metric.indexed and not self.first.settings.get("cif"):
            return None
        values = [_number(run.test.get(metric.key)) for run in self.runs]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        if len(known) == 1:
            return Cell(known[0], _number(self.first.test.get(f"{metric.key}_se")))
        # Numbers that are the same for all seeds, as a ceiling is, have no error.
        return Cell(statistics.fmean(known), statistics.stdev(known) / math.sqrt(len(known)) or None)


class Report:
    """What `cifrun report` says.

    Arguments:
        runs: Of any state.
        unreadable: Sentences on directories that are no whole runs.
    """

    def __init__(self, runs: Sequence[Run], unreadable: Sequence[str] = ()) -> None:
        self.runs = list(runs)
        self.unreadable = list(unreadable)
        self.unfinished = [run for run in runs if not run.completed]
        self.repeated: list[Run] = []
        self.groups = self._group([run for run in runs if run.completed])
        self.columns = self._columns()
        self.metrics = [m for m in METRIC_COLUMNS if self._measure(m)]

    def _group(self, runs: Sequence[Run]) -> list[Group]:
        groups: dict[str, dict[Any, Run]] = defaultdict(dict)
        for run in runs:
            key = json.dumps({k: v for k, v in run.settings.items() if k not in VOLATILE}, sort_keys=True, default=str)
            before = groups[key].get(run.seed)
            if before is not None:  # the same job twice is no second seed: the later one counts
                older, run = sorted((before, run), key=lambda r: (r.path / "summary.json").stat().st_mtime)
                self.repeated.append(older)
            groups[key][run.seed] = run
        result = [Group(sorted(g.values(), key=lambda run: str(run.seed))) for g in groups.values()]
        return sorted(result, key=lambda g: (g.dataset, str(g.get("flow.family")), bool(g.get("cif"))))

    def _columns(self) -> list[str]:
        """The settings that tell rows of one dataset, flow and side apart."""
        alike: dict[tuple[str, ...], list[Group]] = defaultdict(list)
        for group in self.groups:
            alike[tuple(str(group.get(name)) for name in NAMES)].append(group)
        found: dict[str, None] = {}
        for groups in alike.values():
            keys = dict.fromkeys(key for group in groups for key in group.first.settings)
            for key in keys:
                if key not in VOLATILE and len({str(group.get(key)) for group in groups}) > 1:
                    found.setdefault(key)
        return list(found)

    def _measure(self, metric: Metric) -> bool:
        """Fill in a metric's cells and their ranks; whether any group has it."""
        if metric.key == "bits_per_dim" and not any(g.get("dataset.preprocess") for g in self.groups):
            return False  # meant for images
        by_dataset: dict[str, list[tuple[Group, Cell]]] = defaultdict(list)
        for group in self.groups:
            if (cell := group.measure(metric)) is not None:
                by_dataset[group.dataset].append((group, cell))
        for found in by_dataset.values():
            best = max((metric.better * cell.mean for _, cell in found), default=0.0)
            winner = next(cell for _, cell in found if metric.better * cell.mean == best)
            for group, cell in found:
                rank = ""
                if metric.better and len(found) > 1:
                    error = math.hypot(cell.se or 0.0, winner.se or 0.0)
                    near = abs(cell.mean - winner.mean) <= 2 * error
                    rank = "best" if cell is winner else "near" if near else ""
                group.cells[metric.key] = Cell(cell.mean, cell.se, rank)
        return bool(by_dataset)

    # --- as rows ------------------------------------------------------------------------------------------------------

    def tables(self) -> Iterator[Table]:
        """A table for each theme of which some group knows a number; without the columns that name a row."""
        if not self.groups:
            return
        for theme in THEMES:
            metrics = [metric for metric in theme.metrics if metric in self.metrics]
            header, align = [metric.title for metric in metrics], "r" * len(metrics)
            rows: list[list[str | Cell]] = [[g.cells.get(m.key, "–") for m in metrics] for g in self.groups]
            if theme.name == "fit":
                header, align = [*header, "estimate"], align + "l"
                estimates = [_several(run.estimate for run in group.runs) for group in self.groups]
                rows = [[*row, estimate] for row, estimate in zip(rows, estimates, strict=True)]
            if theme.name == "cost":
                header, align = ["parameters", "steps", "minutes"], "rrr"
                rows = [list(_cost(group)) for group in self.groups]
            if header:
                yield Table(theme, header, align, rows)

    def whole(self, part: Table) -> Table:
        """A table with the columns that name a row."""
        rows: list[list[str | Cell]] = []
        for group, row in zip(self.groups, part.rows, strict=True):
            seeds = str(len(group.runs)) if len(group.runs) > 1 else "1 *"
            rows.append([group.dataset, group.name, *(_plain(group.get(key)) for key in self.columns), seeds, *row])
        align = "ll" + "l" * len(self.columns) + "r"
        return Table(part.theme, ["dataset", "flow", *self.columns, "seeds", *part.header], align + part.align, rows)

    def notes(self) -> list[str]:
        """What has to be said beside the tables."""
        notes = ["± is the standard error over seeds."]
        if any(len(group.runs) == 1 for group in self.groups):
            notes = ["± is the standard error over seeds; where there is one seed (*), over its test data."]
        notes.append("IWAE_m is a lower bound of the log-likelihood in expectation.")
        commits = {str(run.summary.get("git_commit")) for group in self.groups for run in group.runs}
        if len(commits) > 1:
            notes.append(f"The runs were made by {len(commits)} different versions of the code.")
        if self.repeated:
            notes.append(f"{len(self.repeated)} runs repeat the settings and seed of a later one, which counts.")
        return notes

    def left(self) -> list[str]:
        """A line for each run that is not in the tables."""
        return [*(f"{run.path}: {run.progress()}" for run in self.unfinished), *self.unreadable]

    # --- as text ------------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """For the terminal."""
        marks = {"best": " ◀", "near": " ≈", "": "  "}
        parts = []
        for part in map(self.whole, self.tables()):
            rows = [[_mark(cell, marks) for cell in row] for row in part.rows]
            parts.append(f"{part.theme.name}\n{table(rows, part.header, part.align)}")
        if parts:
            ranked = "◀ best of its dataset; ≈ not told apart from it, within two standard errors."
            parts.append("\n".join([*self.notes(), ranked]))
        if left := self.left():
            parts.append("\n".join(["not in the tables:", *(f"  {line}" for line in left)]))
        return "\n\n".join(parts) if parts else "no runs found"

    def markdown(self) -> str:
        def cell(value: str | Cell) -> str:
            if isinstance(value, str):
                return value.replace("|", "\\|")
            return {"best": "**{}**", "near": "{} ≈", "": "{}"}[value.rank].format(value.text)

        parts = []
        for part in map(self.whole, self.tables()):
            lines = [part.header, [{"l": "---", "r": "---:"}[side] for side in part.align]]
            lines += [[cell(value) for value in row] for row in part.rows]
            body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            parts.append(f"## {part.theme.name.capitalize()}\n\n{part.theme.hint}\n\n{body}\n")
        if parts:
            parts.append(" ".join([*self.notes(), "**Bold** is best of its dataset, ≈ not told apart from it."]) + "\n")
        if left := self.left():
            parts.append("\n".join(["Not in the tables:\n", *(f"- {line}" for line in left)]) + "\n")
        return "\n".join(parts)

    def csv(self) -> str:
        """A line for each group, a mean and an error a column, with all digits."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        numbers = [name for metric in self.metrics for name in (metric.key, f"{metric.key}_se")]
        costs = ["estimate", "parameters", "steps", "wall_seconds"]
        writer.writerow(["dataset", "flow", "cif", *self.columns, "seeds", *numbers, *costs])
        for group in self.groups:
            found = [group.cells.get(metric.key) for metric in self.metrics]
            values = [x for c in found for x in ((c.mean, "" if c.se is None else c.se) if c else ("", ""))]
            names = [group.dataset, group.get("flow.family"), str(bool(group.get("cif"))).lower()]
            summary = group.first.summary
            told: list[Any] = [group.first.estimate, summary.get("parameters"), summary.get("steps"), group.seconds]
            writer.writerow([*names, *(_plain(group.get(k)) for k in self.columns), len(group.runs), *values, *told])
        return stream.getvalue()

    def latex(self) -> str:
        """Tables of the package booktabs, one after the other."""

        def cell(value: str | Cell) -> str:
            if isinstance(value, str):
                return _tex(value)
            number = value.text.replace(MINUS, "-").replace("±", r"\pm")
            number = re.sub(r"e(-?\d+)$", r" \\times 10^{\1}", number)
            return rf"$\mathbf{{{number}}}$" if value.rank == "best" else f"${number}$"

        lines = []
        for part in map(self.whole, self.tables()):
            lines += [f"% {part.theme.name}", rf"\begin{{tabular}}{{{part.align}}}", r"\toprule"]
            lines += [" & ".join(map(_tex, part.header)) + r" \\", r"\midrule"]
            lines += [" & ".join(cell(value) for value in row) + r" \\" for row in part.rows]
            lines += [r"\bottomrule", r"\end{tabular}", ""]
        return "\n".join([*lines, *(f"% {_tex(note)}" for note in [*self.notes(), *self.left()])]) + "\n"

    def page(self) -> str:
        """One HTML page that needs nothing else: its pictures are part of it."""
        return page(self)

    def told(self, group: Group) -> list[str]:
        """The settings of a group that tell it from others of its dataset, flow and side."""
        return [f"{key} {_plain(group.get(key))}" for key in self.columns if group.get(key) is not None]

    def label(self, group: Group) -> str:
        """What to call a group: flow, side, and those settings of it that tell rows apart."""
        return ", ".join([group.name, *self.told(group)])

    def write(self, directory: Path) -> list[Path]:
        """report.md, report.csv, report.tex and report.html. Raises `RunError` if they can't be written."""
        texts = {"md": self.markdown(), "csv": self.csv(), "tex": self.latex(), "html": self.page()}
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
        paths = []
        for ending, text in texts.items():
            paths.append(directory / f"report.{ending}")
            with replacing(paths[-1]) as file:
                file.write_text(text, encoding="utf-8")
        return paths


# --- what the verb does -----------------------------------------------------------------------------------------------


def report(directories: Sequence[Path], output: Path | None = None) -> Report:
    """Print the tables of all runs below `directories`, and write them to `output`, by default DIR/report of the first.

    Raises `ConfigError` if there are none.
    """
    result = Report(*find_runs(directories))
    if not result.runs and not result.unreadable:
        raise ConfigError(f"there are no runs in {', '.join(map(str, directories))}")
    print(result.text())
    paths = result.write(output or directories[0] / "report")
    print(f"\nwritten: {', '.join(str(path) for path in paths)}")
    return result


def watch(directories: Sequence[Path], output: Path | None = None) -> Report:
    """Print the tables again every few seconds until no run is under way; then write them. Ctrl-C ends it too."""
    try:
        while True:
            result = Report(*find_runs(directories))
            clear = "\033[H\033[2J" if sys.stdout.isatty() else ""
            print(f"{clear}{result.text()}\n", flush=True)
            if all(run.settled for run in result.runs) and result.runs:
                break
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        print()
    return report(directories, output)


# --- parts ------------------------------------------------------------------------------------------------------------


def _cost(group: Group) -> Iterator[str]:
    yield f"{group.first.summary.get('parameters', 0):,}"
    yield _several(f"{run.summary.get('steps', 0):,}" for run in group.runs)
    yield f"{group.seconds / 60:.1f}"


def _several(values: Iterable[str]) -> str:
    """What all have, or each of what they have."""
    return ", ".join(dict.fromkeys(values))


def _mark(value: str | Cell, marks: Mapping[str, str]) -> str:
    return value if isinstance(value, str) else value.text + marks[value.rank]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted name."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _plain(value: Any) -> str:
    """A setting as one would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_plain, value))}]"
    return "–" if value is None else str(value)


def _ago(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else f"{seconds / 3600:.0f} h ago"


def _tex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "–": "--",
        "±": r"$\pm$",
    }
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text).replace("k̂", r"$\hat{k}$")
