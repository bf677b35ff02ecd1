"""The metrics of a run, as `metrics.yaml` beside this file has them: meaning, unit, direction, where it is shown.

Everything that shows a number reads this table: TensorBoard's descriptions and charts, the table in the terminal at the
end of a run, the tables of `cifrun report`, and `docs/metrics.md`. `docs/diagnostics.md` has the formulas.

A metric's name is its key in `summary.json` under "test". In `metrics.jsonl` and TensorBoard it follows a group:
train/, valid/, test/, diagnostics/ (of the test set during training), or best/ (the first of test/ again).
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..io.text import minus, with_error


@dataclass(frozen=True)
class Row:
    """A line in the terminal's table of a test result."""

    place: int
    label: str
    value: str = ""
    more: str = ""
    estimated: bool = False


@dataclass(frozen=True)
class Metric:
    """A number that a run writes. `metrics.yaml` says what each field is."""

    name: str
    meaning: str
    unit: str = ""
    better: int = 0
    title: str = ""
    of: str = ""
    valid: bool = False
    row: Row | None = None
    headline: int = 0
    quoted: bool = False
    hparam: bool = False

    @property
    def heading(self) -> str:
        """The title with its unit: "log-likelihood [nats]"."""
        return self.title if self.unit in self.title else f"{self.title} [{self.unit}]"

    @property
    def sentence(self) -> str:
        """The meaning with its unit."""
        return f"{self.meaning} In {self.unit}." if self.unit else self.meaning

    def fits(self, kinds: Container[str]) -> bool:
        """Whether it says something of a run of those kinds."""
        return not self.of or self.of in kinds

    def told(self, result: Mapping[str, Any]) -> str:
        """Its value in a result, as its row of the terminal's table has it."""
        if self.row is None:
            return with_error(result[self.name], result[f"{self.name}_se"])
        # Of a verdict, "good: the weights have …", the first word is enough.
        words = {key: value.partition(":")[0] if isinstance(value, str) else value for key, value in result.items()}
        text = minus(self.row.value.format_map(words))
        if not self.row.value:
            text = with_error(result[self.name], result[f"{self.name}_se"])
        with suppress(KeyError):  # a flow without a ceiling
            text += self.row.more.format_map(words)
        return text


@dataclass(frozen=True)
class Theme:
    """What is asked of a flow, the numbers that answer it, and how to read them."""

    name: str
    hint: str
    metrics: tuple[Metric, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Curves that belong together, on TensorBoard's page "Custom Scalars"."""

    section: str
    title: str
    tags: tuple[str, ...]


def kinds(*, cif: bool, target: bool, images: bool) -> list[str]:
    """What a run is, of that of which alone some metrics say something (`of` in the table)."""
    return [kind for kind, so in {"CIF": cif, "targets": target, "images": images}.items() if so]


def _metric(name: str, row: Mapping[str, Any] | None = None, **fields: Any) -> Metric:
    return Metric(name, row=None if row is None else Row(**row), **fields)


_TABLE: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
THEMES = tuple(
    Theme(
        name,
        theme["hint"],
        tuple(_metric(key, **fields) for key, fields in theme["metrics"].items()),
        tuple(theme.get("columns", ())),
    )
    for name, theme in _TABLE["themes"].items()
)
PICTURES: dict[str, str] = _TABLE["pictures"]
CHARTS = tuple(
    Chart(section, title, tuple(tags)) for section, charts in _TABLE["charts"].items() for title, tags in charts.items()
)
NUMBERS = tuple(metric for theme in THEMES for metric in theme.metrics)
BY_NAME = {metric.name: metric for metric in NUMBERS}
#: The lines of the terminal's table; the numbers of a test in TensorBoard, the first also under best/; and the columns
#: of its page HPARAMS.
RESULT = sorted(((metric, metric.row) for metric in NUMBERS if metric.row), key=lambda pair: pair[1].place)
HEADLINE = [metric.name for metric in sorted(NUMBERS, key=lambda metric: metric.headline) if metric.headline]
HPARAMS = [metric.name for metric in NUMBERS if metric.hparam]


def estimate(exact: Any, indexed: Any, importance_samples: Any) -> str:
    """What a log-likelihood is: "exact", "IWAE_m" of a CIF, or "unbiased" where a log-determinant was estimated."""
    return "exact" if exact else f"IWAE_{importance_samples}" if indexed else "unbiased"


def meaning(tag: str) -> str:
    """What the number or picture `group/name` is, in a sentence; nothing if the name is not known."""
    group, _, name = tag.rpartition("/")
    if group.startswith("figures"):
        return PICTURES.get(name, "")
    if name.endswith("_se"):
        return f"Standard error of {name.removesuffix('_se')}."
    if name.endswith("_q999"):
        return f"As {name.removesuffix('_q999')}, but what all but one point in a thousand stay below."
    if name.startswith("mass of "):
        where = "in no piece of the target" if name == "mass of none" else f"in the target's piece “{name[8:]}”"
        return f"Share of the model's mass that is {where}."
    if name not in BY_NAME:
        return ""
    of = "Of the best weights, on the test set. " if group == "best" else ""
    return of + BY_NAME[name].sentence
