"""Runs compared: groups of those that differ in their seed alone, and a table for each thing that one asks of a flow.

With n > 1 seeds a number is the mean over seeds ± s/√n, s their standard deviation; with one seed, ± is the error over
the test data, and marked so. In each dataset the best mean of a metric is marked, and with it each group that Student's
t test does not tell apart from it (`significance`): which of those is best, these runs don't tell. The test is one of
settings where there are several seeds, and one of trained models where there is one, as its error knows no others.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..config.fields import Role
from ..config.roles import role_of
from ..config.schema import flow_name
from ..io.text import MINUS, with_error
from ..runs.directory import RunDirectory
from ..runs.metrics import NUMBERS, THEMES, Metric, Theme, kinds
from .runs import Run, number
from .significance import LEVEL, Sample, differ, mean

#: What two runs of a group agree in. They may be repetitions of each other, in other places, seen by other commands.
DEFINING = (Role.DATA, Role.TRAINED, Role.LENGTH, Role.MEASUREMENT)


@dataclass(frozen=True)
class Cell:
    """A mean and its standard error; None where it has none."""

    mean: float
    se: float | None
    rank: str = ""  # "best", "near": no significant difference from the best; or neither

    @property
    def text(self) -> str:
        """`−1.681 ± 0.054`, or four digits where there is no error."""
        if self.se is not None:
            return with_error(self.mean, self.se)
        digits, _, power = f"{self.mean:.4g}".partition("e")
        return f"{digits}e{int(power)}".replace("-", MINUS) if power else digits.replace("-", MINUS)

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
    dataset: str  # what to call its data
    cells: dict[str, Cell] = field(default_factory=dict)  # by the name of a metric

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def name(self) -> str:
        """Flow and side: "resflow", "CIF of resflow"."""
        return flow_name(str(self.get("flow.family")), bool(self.get("cif")))

    @property
    def kinds(self) -> list[str]:
        """What it is, of that of which alone some metrics say something; whether it has a target, its numbers show."""
        return kinds(cif=bool(self.get("cif")), target=True, images=bool(self.get("dataset.preprocess")))

    @property
    def seeds(self) -> str:
        """How many there are; one is marked, as its errors are of another kind."""
        return str(len(self.runs)) if len(self.runs) > 1 else "1 *"

    @property
    def seconds(self) -> float:
        """What its runs took on average."""
        return mean([number(run.summary.get("wall_seconds")) or 0.0 for run in self.runs])

    def get(self, key: str) -> Any:
        """A setting by its dotted name."""
        return self.first.settings.get(key)

    def sample(self, metric: Metric) -> Sample | None:
        """Its values by repetition; None if a run lacks it."""
        if not metric.fits(self.kinds):
            return None
        values = {run.repetition: number(run.test.get(metric.name)) for run in self.runs}
        known = {repetition: value for repetition, value in values.items() if value is not None}
        if len(known) < len(values):
            return None
        se, count = number(self.first.test.get(f"{metric.name}_se")), number(self.first.test.get("num_data"))
        return Sample(known, se, int(count or 2))

    def measure(self, metric: Metric) -> Cell | None:
        """Its mean over seeds ± s/√n, or of the one seed ± the error over the test data; None if a run lacks it."""
        sample = self.sample(metric)
        if sample is None:
            return None
        # Numbers that are the same for all seeds, as a ceiling is, have no error.
        error = sample.se if len(sample.values) == 1 else sample.error()[0] or None
        return Cell(sample.mean, error)


def several(values: Iterable[str]) -> str:
    """What all have, or each of what they have."""
    return ", ".join(dict.fromkeys(values))


#: The columns of a theme that are no metrics: on which side they stand, and what a group has there.
COLUMNS: dict[str, tuple[str, Callable[[Group], str]]] = {
    "estimate": ("l", lambda group: several(run.estimate for run in group.runs)),
    "parameters": ("r", lambda group: f"{group.first.summary.get('parameters', 0):,}"),
    "steps": ("r", lambda group: several(f"{run.summary.get('steps', 0):,}" for run in group.runs)),
    "minutes": ("r", lambda group: f"{group.seconds / 60:.1f}"),
}


def _titles(runs: Sequence[Run]) -> dict[Any, str]:
    """What to call each data: a dataset's name, and where several have it what tells them apart."""
    named: dict[str, dict[Any, None]] = defaultdict(dict)
    for run in runs:
        named[run.dataset][run.data] = None
    titles = {}
    for name, found in named.items():
        settings = [dict(data) for data in found]
        keys = dict.fromkeys(key for own in settings for key in own)
        apart = [key for key in keys if len({own.get(key) for own in settings}) > 1]
        for data, own in zip(found, settings, strict=True):
            titles[data] = f"{name} ({_told(own, apart)})" if apart else name
    return titles


def _told(own: Mapping[str, Any], keys: Sequence[str]) -> str:
    """`noise 0.2, columns ['a']`; of a fingerprint, its first six signs."""
    told = {key.removeprefix("dataset."): own.get(key) for key in keys}
    if "data_fingerprint" in told:
        told["content"] = str(told.pop("data_fingerprint"))[:6]
    return ", ".join(f"{key} {value}" for key, value in told.items())


class Comparison:
    """Runs of any state, grouped and ranked.

    Arguments:
        runs: The runs.
        unreadable: Sentences on directories that are no whole runs.

    Attributes:
        groups: The complete runs, in groups that are sorted by dataset and flow.
        columns: The settings that tell groups of one dataset, flow and side apart.
        metrics: Those that some group has.
        repeated: Runs that a later one with the same settings and seed replaces.
    """

    def __init__(self, runs: Sequence[Run], unreadable: Sequence[str] = ()) -> None:
        self.runs = list(runs)
        self.unreadable = list(unreadable)
        self.repeated: list[Run] = []
        self.groups = self._group([run for run in runs if run.completed])
        self.columns = self._columns()
        self.metrics = [metric for metric in NUMBERS if metric.title and self._measure(metric)]

    def _group(self, runs: Sequence[Run]) -> list[Group]:
        groups: dict[str, dict[Any, Run]] = defaultdict(dict)
        for run in runs:
            defining = {k: v for k, v in run.settings.items() if role_of(k, run.settings) in DEFINING}
            defining |= {"data": run.data, "dataset.path": None}  # a file is known by what it holds
            key = json.dumps(defining, sort_keys=True, default=str)
            before = groups[key].get(run.repetition)
            if before is not None:  # the same job twice is no second seed: the later one counts
                older, run = sorted((before, run), key=lambda r: RunDirectory(r.path).last_written() or 0.0)
                self.repeated.append(older)
            groups[key][run.repetition] = run
        titles = _titles(runs)
        made = (sorted(group.values(), key=lambda run: str(run.repetition)) for group in groups.values())
        result = [Group(ordered, titles[ordered[0].data]) for ordered in made]
        return sorted(result, key=lambda g: (g.dataset, str(g.get("flow.family")), bool(g.get("cif"))))

    def _columns(self) -> list[str]:
        alike: dict[tuple[str, ...], list[Group]] = defaultdict(list)
        for group in self.groups:
            alike[group.dataset, group.name].append(group)
        found: dict[str, None] = {}  # in order
        for groups in alike.values():
            settings = [group.first.settings for group in groups]
            keys = dict.fromkeys(key for own in settings for key in own if role_of(key, own) in DEFINING)
            keys.pop("dataset.path", None)
            found |= dict.fromkeys(key for key in keys if len({str(own.get(key)) for own in settings}) > 1)
        return list(found)

    def _measure(self, metric: Metric) -> bool:
        """Fill in a metric's cells and their ranks; whether any group has it."""
        by_dataset: dict[str, list[tuple[Group, Sample]]] = defaultdict(list)
        for group in self.groups:
            if (sample := group.sample(metric)) is not None:
                by_dataset[group.dataset].append((group, sample))
        for found in by_dataset.values():
            winner = max((sample for _, sample in found), key=lambda sample: metric.better * sample.mean)
            for group, sample in found:
                rank = ""
                if metric.better and len(found) > 1:
                    rank = "best" if sample is winner else "" if differ(sample, winner, len(found)) else "near"
                if (cell := group.measure(metric)) is not None:
                    group.cells[metric.name] = replace(cell, rank=rank)
        return bool(by_dataset)

    # --- what it says -------------------------------------------------------------------------------------------------

    def tables(self) -> Iterator[Table]:
        """A table for each theme of which some group knows a number; without the columns that name a row."""
        if not self.groups:
            return
        for theme in THEMES:
            metrics = [metric for metric in theme.metrics if metric in self.metrics]
            header, align = [metric.heading for metric in metrics], "r" * len(metrics)
            rows: list[list[str | Cell]] = [[g.cells.get(m.name, "–") for m in metrics] for g in self.groups]
            for name in theme.columns:
                side, told = COLUMNS[name]
                header, align = [*header, name], align + side
                for row, group in zip(rows, self.groups, strict=True):
                    row.append(told(group))
            if header:
                yield Table(theme, header, align, rows)

    def named_tables(self) -> Iterator[Table]:
        """The tables with the columns that name a row."""
        header = ["dataset", "flow", *self.columns, "seeds"]
        align = "ll" + "l" * len(self.columns) + "r"
        names = [[g.dataset, g.name, *(typed(g.get(k)) for k in self.columns), g.seeds] for g in self.groups]
        for part in self.tables():
            rows = [[*name, *row] for name, row in zip(names, part.rows, strict=True)]
            yield Table(part.theme, [*header, *part.header], align + part.align, rows)

    def notes(self) -> list[str]:
        """What has to be said beside the tables."""
        notes = ["± is the standard error over seeds."]
        if any(len(group.runs) == 1 for group in self.groups):
            notes = ["± is the standard error over seeds; where there is one seed (*), over its test data."]
        compared: dict[str, list[int]] = defaultdict(list)
        for group in self.groups:
            compared[group.dataset].append(len(group.runs))
        repeated = [min(seeds) > 1 for seeds in compared.values() if len(seeds) > 1]
        if any(repeated):
            notes.append(
                f"Each metric of each dataset is a comparison of its own: of those of equal models, with several seeds "
                f"each, at most {100 * LEVEL:.0f} % call any of them worse by chance."
            )
        if not all(repeated):
            notes.append(
                "The error of one seed leaves out what differs from seed to seed: a difference from such a row is one "
                "of that trained model, and may be the chance of its seed."
            )
        notes.append("IWAE_m is a lower bound of the log-likelihood in expectation.")
        commits = {str(run.summary.get("git_commit")) for group in self.groups for run in group.runs}
        if len(commits) > 1:
            notes.append(f"The runs were made by {len(commits)} different versions of the code.")
        doubtful = sorted({g.dataset for g in self.groups if any(run.summary.get("data_warnings") for run in g.runs)})
        if doubtful:
            what = "data_warnings in summary.json says what"
            notes.append(f"Something is wrong with the data of {', '.join(doubtful)}: {what}.")
        if self.repeated:
            notes.append(f"{len(self.repeated)} runs repeat the settings and seed of a later one, which counts.")
        return notes

    def left(self) -> list[str]:
        """A line for each run that is not in the tables."""
        unfinished = (f"{run.path}: {run.progress()}" for run in self.runs if not run.completed)
        return [*unfinished, *self.unreadable]

    def told(self, group: Group) -> list[str]:
        """Those settings of a group that tell it from others of its dataset, flow and side."""
        return [f"{key} {typed(group.get(key))}" for key in self.columns if group.get(key) is not None]

    def label(self, group: Group) -> str:
        """What to call a group: flow, side, and those settings of it that tell rows apart."""
        return ", ".join([group.name, *self.told(group)])


def typed(value: Any) -> str:
    """A setting as one would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    return "–" if value is None else str(value)
