"""Many run directories as one answer: a table of means over seeds with their standard errors, and what is unfinished.

Runs whose settings differ in nothing but the seed are one group, a row of the table. With n > 1 seeds a number is the
mean over seeds ± s/√n, s their standard deviation; with one seed, ± is the error over the test data, and marked so.
In each dataset the best mean of a metric is marked, and with it each group that lies within two standard errors of the
difference, √(se₁² + se₂²), of it: which of those is best, these runs don't tell.

Reading needs neither torch nor Hydra, only the runs' files; torch and matplotlib come in where curves are drawn.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError, RunError
from .files import replacing, writing
from .table import MINUS, table, with_error
from .tracking import METRICS, read_metrics

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
#: Figures of a group's first run that the page shows.
FIGURES = ("density.png", "samples.png", "reconstructions.png", "marginals.png", "lipschitz.png")
#: Seconds between two looks of `watch`.
PAUSE = 5.0


@dataclass(frozen=True)
class Metric:
    """A number of a run's test result, and which way is better: +1 more, -1 less, 0 neither."""

    key: str
    title: str
    better: int


METRIC_COLUMNS = (
    Metric("log_likelihood", "log-likelihood [nats]", +1),
    Metric("kl_to_truth", "KL to the truth [nats]", -1),
    Metric("bits_per_dim", "bits/dim", -1),
    Metric("mass_off_support", "mass off the support", -1),
    Metric("bi_lipschitz", "bi-Lipschitz, at least", 0),
    Metric("lipschitz_ceiling", "its ceiling", 0),
)


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
        return f"{self.mean:.4g}".replace("-", MINUS) if self.se is None else with_error(self.mean, self.se)


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

    def get(self, key: str) -> Any:
        return self.first.settings.get(key)

    def measure(self, metric: Metric) -> Cell | None:
        """Its mean over seeds ± s/√n, or of the one seed ± the error over the test data; None if a run lacks it."""
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

    def header(self) -> list[str]:
        names = ["dataset", "flow", *self.columns, "seeds", *(m.title for m in self.metrics)]
        return [*names, "estimate", "parameters", "steps", "minutes"]

    @property
    def align(self) -> str:
        return "ll" + "l" * len(self.columns) + "r" * (1 + len(self.metrics)) + "lrrr"

    def row(self, group: Group) -> list[str | Cell]:
        """The cells of a group, those of metrics as numbers."""
        cells: list[str | Cell] = [group.dataset, group.name, *(_plain(group.get(key)) for key in self.columns)]
        cells.append(str(len(group.runs)) if len(group.runs) > 1 else "1 *")
        cells += [group.cells.get(metric.key, "–") for metric in self.metrics]
        summary = group.first.summary
        seconds = statistics.fmean(_number(run.summary.get("wall_seconds")) or 0.0 for run in group.runs)
        estimates = dict.fromkeys(run.estimate for run in group.runs)
        steps = dict.fromkeys(str(run.summary.get("steps", "?")) for run in group.runs)
        return [
            *cells,
            ", ".join(estimates),
            f"{summary.get('parameters', 0):,}",
            ", ".join(steps),
            f"{seconds / 60:.1f}",
        ]

    def notes(self) -> list[str]:
        """What has to be said beside the table."""
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
        """A line for each run that is not in the table."""
        return [*(f"{run.path}: {run.progress()}" for run in self.unfinished), *self.unreadable]

    # --- as text ------------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """For the terminal."""
        marks = {"best": " ◀", "near": " ≈", "": "  "}
        rows = [[_mark(cell, marks) for cell in self.row(group)] for group in self.groups]
        parts = []
        if rows:
            ranked = " ◀ best of its dataset; ≈ not told apart from it, within two standard errors."
            parts.append(table(rows, self.header(), self.align))
            parts.append("\n".join([*self.notes(), ranked.strip()]))
        if left := self.left():
            parts.append("\n".join(["not in the table:", *(f"  {line}" for line in left)]))
        return "\n\n".join(parts) if parts else "no runs found"

    def markdown(self) -> str:
        def cell(value: str | Cell) -> str:
            if isinstance(value, str):
                return value.replace("|", "\\|")
            return {"best": "**{}**", "near": "{} ≈", "": "{}"}[value.rank].format(value.text)

        lines = [self.header(), [{"l": "---", "r": "---:"}[side] for side in self.align]]
        lines += [[cell(value) for value in self.row(group)] for group in self.groups]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        notes = " ".join([*self.notes(), "**Bold** is best of its dataset, ≈ not told apart from it."])
        left = "".join(f"\n- {line}" for line in self.left())
        return f"{body}\n\n{notes}\n" + (f"\nNot in the table:\n{left}\n" if left else "")

    def csv(self) -> str:
        """A line for each group, a mean and an error a column, with all digits."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        numbers = [name for metric in self.metrics for name in (metric.key, f"{metric.key}_se")]
        writer.writerow(["dataset", "flow", "cif", *self.columns, "seeds", *numbers, "estimate", "parameters", "steps"])
        for group in self.groups:
            found = [group.cells.get(metric.key) for metric in self.metrics]
            values = [x for c in found for x in ((c.mean, "" if c.se is None else c.se) if c else ("", ""))]
            names = [group.dataset, group.get("flow.family"), str(bool(group.get("cif"))).lower()]
            told = [group.first.estimate, group.first.summary.get("parameters"), group.first.summary.get("steps")]
            writer.writerow([*names, *(_plain(group.get(k)) for k in self.columns), len(group.runs), *values, *told])
        return stream.getvalue()

    def latex(self) -> str:
        """A table of the package booktabs."""

        def cell(value: str | Cell) -> str:
            if isinstance(value, str):
                return _tex(value)
            number = value.text.replace(MINUS, "-").replace("±", r"\pm")
            return rf"$\mathbf{{{number}}}$" if value.rank == "best" else f"${number}$"

        lines = [rf"\begin{{tabular}}{{{self.align}}}", r"\toprule", " & ".join(map(_tex, self.header())) + r" \\"]
        lines.append(r"\midrule")
        lines += [" & ".join(cell(value) for value in self.row(group)) + r" \\" for group in self.groups]
        notes = "".join(f"% {_tex(note)}\n" for note in [*self.notes(), *self.left()])
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + f"\n{notes}"

    def page(self) -> str:
        """One HTML page that needs nothing else: its pictures are part of it."""

        def cell(value: str | Cell, side: str, name: str) -> str:
            if isinstance(value, str):
                text = html.escape(value)
            else:
                text = {"best": "<strong>{}</strong>", "near": "{} ≈", "": "{}"}[value.rank].format(value.text)
            return f'<td class="{side}" data-name="{html.escape(name, quote=True)}"><span>{text}</span></td>'

        head = "".join(f'<th class="{s}">{html.escape(h)}</th>' for h, s in zip(self.header(), self.align, strict=True))
        rows = (zip(self.row(group), self.align, self.header(), strict=True) for group in self.groups)
        body = "\n".join(f"<tr>{''.join(cell(*parts) for parts in row)}</tr>" for row in rows)
        notes = " ".join([*self.notes(), "Bold is best of its dataset, ≈ not told apart from it."])
        left = "".join(f"<li>{html.escape(line)}</li>" for line in self.left())
        parts = [f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>']
        parts.append(f"<p>{html.escape(notes)}</p>")
        parts += [f"<h2>Not in the table</h2><ul>{left}</ul>"] if left else []
        parts += self._pictures()
        return PAGE.replace("BODY", "\n".join(parts))

    def _pictures(self) -> Iterator[str]:
        """For each dataset and flow the curves of its rows, and the figures of each row's first seed."""
        flows: dict[tuple[str, str], list[Group]] = defaultdict(list)
        for group in self.groups:
            flows[group.dataset, str(group.get("flow.family"))].append(group)
        for (dataset, flow), groups in flows.items():
            yield f"<h2>{html.escape(f'{dataset}, {flow}')}</h2>"
            yield _picture(self._curves(groups), f"{dataset}, {flow}: validation log-likelihood over training")
            for group in groups:
                found = [path for name in FIGURES if (path := group.first.path / "figures" / name).is_file()]
                if found:
                    yield f"<h3>{html.escape(self.label(group))}, seed {group.first.seed[0]}</h3>"
                yield from (_picture(path.read_bytes(), f"{self.label(group)}: {path.stem}") for path in found)

    def label(self, group: Group) -> str:
        """What to call a group: flow, side, and those settings of it that tell rows apart."""
        known = [key for key in self.columns if group.get(key) is not None]
        return ", ".join([group.name, *(f"{key} {_plain(group.get(key))}" for key in known)])

    def _curves(self, groups: Sequence[Group]) -> bytes:
        from .plots import curves

        figure = curves({self.label(group): [run.metrics for run in group.runs] for group in groups})
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
        return stream.getvalue()

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
    """Print the table of all runs below `directories`, and write it to `output`, by default DIR/report of the first.

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
    """Print the table again every few seconds until no run is under way; then write it. Ctrl-C ends it too."""
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

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>cifrun report</title><link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; --line: #ccc; --back: #fff; --text: #1a1a1a; }
@media (prefers-color-scheme: dark) { :root { --line: #444; --back: #161616; --text: #e6e6e6; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 76rem;
       background: var(--back); color: var(--text); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid var(--line); white-space: nowrap; text-align: left; }
.r { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; } figure { margin: 0.5rem 0 1.5rem; }
li, h3 { overflow-wrap: anywhere; }
@media (max-width: 44rem) { /* a row becomes a card, each cell with the name of its column */
  thead { display: none; } table, tbody, tr { display: block; }
  tr { border: 1px solid var(--line); border-radius: 6px; margin-bottom: 0.8rem; padding: 0.3rem 0; }
  td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: 0.1rem 0.7rem; }
  td::before { content: attr(data-name); opacity: 0.65; } td span { text-align: right; overflow-wrap: anywhere; }
}
</style></head><body><h1>Runs compared</h1>
BODY
</body></html>
"""


def _picture(png: bytes, text: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    return f'<figure><img alt="{html.escape(text, quote=True)}" src="data:image/png;base64,{data}"></figure>'


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
    return "".join(special.get(character, character) for character in text)
