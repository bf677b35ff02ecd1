"""docs/frontier.md and its pictures, of the results of scripts/frontier.py."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from frontier_made import Record, commands, conditions

from cifrun.errors import CifrunError
from cifrun.figures import style
from cifrun.io.files import replacing
from cifrun.io.text import with_error
from cifrun.reporting.significance import Sample, differ

LEVELS = (0.1, 0.05, 0.02)  # of KL, whose seconds are told
ROUNDING = 1e-6  # nats; models that differ by less have the same log-densities, up to single precision
SORTED = 60  # seconds that the tables are sorted by, if there are results of it
FLOOR = 1e-3  # the lowest KL that pictures show: the test data tell no smaller ones from 0
EARLY = 0.8  # of its seconds: a peer that needed less had come to its end
KINDS = {"CIF": "CIF", "plain": "plain flow", "peer": "peer"}


class Cell:
    """A model after a number of seconds: its repetitions."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.all = records
        self.good = [record for record in records if "error" not in record]

    def sample(self, key: str = "kl") -> Sample:
        return Sample({record["seed"]: record[key] for record in self.good})

    def mean(self, key: str = "kl") -> float:
        return self.sample(key).mean if self.good else math.nan

    def error(self) -> float | None:
        return self.sample().error()[0] if len(self.good) > 1 else None

    def text(self, key: str = "kl") -> str:
        if not self.good:
            return "failed" if self.all else "–"
        error = self.sample(key).error()[0] if len(self.good) > 1 else None
        part = f" ({len(self.good)} of {len(self.all)} seeds)" if len(self.good) < len(self.all) else ""
        return with_error(self.mean(key), error) + part


class Row:
    """A model on a target."""

    def __init__(self, name: str, records: Sequence[Record], budgets: Sequence[float]) -> None:
        self.name, self.kind = name, records[0]["kind"]
        self.cells = {budget: Cell([r for r in records if r["budget"] == budget]) for budget in budgets}

    def curve(self) -> list[tuple[float, float, float]]:
        """Seconds, KL and its standard error over seeds, by seconds; a peer that ended early stays as it is."""
        points = []
        for budget, cell in self.cells.items():
            if cell.good:
                seconds, kl = cell.mean("seconds"), (cell.mean(), cell.error() or 0.0)
                early = self.kind == "peer" and seconds < EARLY * budget
                points += [(budget, *kl)] if early else [(seconds, *kl)]
                points += [(seconds, *kl)] if early and len(points) == 1 else []
        return sorted(points)


class Table:
    """All models on a target, the best after `at` seconds first."""

    def __init__(self, target: str, records: Sequence[Record]) -> None:
        self.target = target
        self.budgets = sorted({record["budget"] for record in records})
        self.at = SORTED if SORTED in self.budgets else self.budgets[-1]
        names = dict.fromkeys(record["model"] for record in records)
        rows = [Row(name, [r for r in records if r["model"] == name], self.budgets) for name in names]
        rows.sort(key=lambda row: (math.isnan(row.cells[self.at].mean()), row.cells[self.at].mean()))
        self.rows = rows
        self.ranked = [row for row in rows if row.cells[self.at].good]
        self.decides = any(len(row.cells[self.at].good) > 1 for row in self.ranked)

    def differ(self, a: Row, b: Row, models: int) -> bool:
        """Whether two models, of so many, differ at 5 % for all pairs; one seed decides nothing."""
        samples = [row.cells[self.at].sample() for row in (a, b)]
        if min(len(sample.values) for sample in samples) < 2 or abs(samples[0].mean - samples[1].mean) < ROUNDING:
            return False
        return differ(samples[0], samples[1], models)

    def best(self, kind: str) -> Row | None:
        return next((row for row in self.ranked if row.kind == kind), None)

    def lines(self) -> list[str]:
        """The table as Markdown: the best is bold, and what does not differ from it has a ≈."""
        heads = [f"KL, {budget:g} s" for budget in self.budgets] + [f"log-likelihood, {self.at:g} s"]
        levels = LEVELS if len(self.budgets) > 1 else ()
        heads += ["seconds", *(f"s to {level:g}" for level in levels)]
        lines = [f"| model | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
        for row in self.rows:
            texts = {budget: cell.text() for budget, cell in row.cells.items()}
            if row is self.rows[0] and row in self.ranked:
                texts[self.at] = f"**{texts[self.at]}**"
            elif self.decides and row in self.ranked and not self.differ(self.rows[0], row, len(self.ranked)):
                texts[self.at] += " ≈"
            log_likelihood = row.cells[self.at].text("log_likelihood")
            spent = _seconds(row.cells[self.at].mean("seconds")) if row in self.ranked else "–"
            reached = [spent, *(seconds_to(level, row.curve()) for level in levels)]
            lines.append(f"| {' | '.join([row.name, *texts.values(), log_likelihood, *reached])} |")
        return lines

    def verdict(self) -> str:
        """Who is ahead, in a sentence."""
        if not self.ranked:
            return "No training came to its end."
        if not self.decides:
            return "It takes two seeds or more to say who is ahead."
        best, *others = self.ranked
        near = [row.name for row in others if not self.differ(best, row, len(self.ranked))]
        if near:
            whose = f"{len(near)} of the {len(others)} others" if len(near) > 3 else " and ".join(near)
            return f"After {self.at:g} s {best.name} has the lowest KL, not told apart from that of {whose} (≈)."
        return f"After {self.at:g} s {best.name} is ahead of all others."


def seconds_to(level: float, curve: Sequence[tuple[float, float, float]]) -> str:
    """When the mean KL first is at a level, between two trainings linear in the logarithm of the seconds."""
    if not any(kl <= level for _, kl, _ in curve):
        return "–"
    if curve[0][1] <= level:
        return f"≤ {_seconds(curve[0][0])}"
    for (a, high, _), (b, low, _) in pairwise(curve):
        if low <= level:
            return _seconds(a * (b / a) ** ((high - level) / (high - low)))
    raise AssertionError("some KL is at the level or below")


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


# --- all targets in one table -----------------------------------------------------------------------------------------


def overview(tables: Sequence[Table]) -> str:
    """The best of each kind on each target, and who is ahead."""
    lines = ["| target | best CIF | best plain flow | best peer | CIF ÷ peer | CIF or peer | CIF or plain |"]
    lines.append("|---|---|---|---|---:|---|---|")
    counts: dict[str, list[str]] = defaultdict(list)
    for table in tables:
        best = {kind: table.best(kind) for kind in KINDS}
        cells = [f"{row.name}, {row.cells[table.at].text()}" if row else "–" for row in best.values()]
        cif, peer = (row.cells[table.at].mean() if row else math.nan for row in (best["CIF"], best["peer"]))
        cells.append(f"{cif / peer:.2f}" if peer > 0 and cif > 0 else "–")
        for other in ("peer", "plain"):
            who = ahead(table, best["CIF"], best[other])
            counts[other] += [who] if who != "–" else []
            cells.append(who)
        lines.append(f"| {table.target} | {' | '.join(cells)} |")
    verdicts = []
    for other, found in counts.items():
        words = [f"{name} on {found.count(name)}" for name in ("CIF", KINDS[other], "neither") if name in found]
        if words:
            verdicts.append(
                f"- Ahead, of best CIF and best {KINDS[other]}, of {len(found)} targets: {', '.join(words)}."
            )
    return "\n".join([*lines, *([""] if verdicts else []), *verdicts])


def ahead(table: Table, cif: Row | None, other: Row | None) -> str:
    if cif is None or other is None or not table.decides:
        return "–"
    if not table.differ(cif, other, models=2):
        return "neither"
    first = min(cif, other, key=lambda row: row.cells[table.at].mean())
    return KINDS[first.kind]


# --- pictures ---------------------------------------------------------------------------------------------------------


def picture(table: Table, path: Path) -> None:
    """KL against seconds, a line and a band for each model."""
    from matplotlib.ticker import NullLocator

    figure, axis = style.panel(
        (8.6, 4.8), table.target.replace("_", " "), "seconds of training", "KL to the truth, nats"
    )
    looks = _looks(table.rows)
    last = [(row, row.curve()) for row in table.rows if row.curve()]
    for row, curve in sorted(last, key=lambda pair: pair[1][-1][1]):  # the legend is in the order of where lines end
        seconds, kl, error = (list(column) for column in zip(*curve, strict=True))
        middle = [max(FLOOR, k) for k in kl]
        low = [max(FLOOR, k - e) for k, e in zip(kl, error, strict=True)]
        high = [max(FLOOR, k + e) for k, e in zip(kl, error, strict=True)]
        look = looks[row.name]
        axis.plot(seconds, middle, label=row.name, linewidth=1.8, markersize=4.5, **look)
        axis.fill_between(seconds, low, high, color=look["color"], alpha=0.15, linewidth=0)
    axis.set_xscale("log")
    axis.set_xticks(table.budgets, [f"{budget:g}" for budget in table.budgets])
    axis.xaxis.set_minor_locator(NullLocator())
    style.log_scale(axis)
    if last:
        axis.legend(frameon=False, fontsize=style.TICK, loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=3.2)
    style.save(figure, path)


def dots(tables: Sequence[Table], path: Path) -> None:
    """KL on each target, a mark for each model with its error, where there is one number of seconds."""
    rows = {row.name: row for table in tables for row in table.rows}
    looks = _looks([rows[name] for name in sorted(rows, key=lambda name: (rows[name].kind == "peer", name))])
    size = (8.6, 1.2 + 0.42 * len(tables))
    title = f"after {tables[0].at:g} s of training"
    figure, axis = style.panel(size, title, "KL to the truth, nats", "", lines=False)
    for k, name in enumerate(looks):
        cells = [(i, row.cells[t.at]) for i, t in enumerate(tables) for row in t.ranked if row.name == name]
        values = [(i, cell.sample().error()[0], cell.mean()) for i, cell in cells]
        shift = 0.6 * (k / max(1, len(looks) - 1) - 0.5)
        look = {**looks[name], "linestyle": "none"}
        axis.errorbar(
            [max(FLOOR, kl) for *_, kl in values],
            [-i - shift for i, *_ in values],
            xerr=[[min(error, max(0.0, kl - FLOOR)) for _, error, kl in values], [error for _, error, _ in values]],
            label=name,
            markersize=5,
            linewidth=1,
            **look,
        )
    for i in range(1, len(tables)):
        axis.axhline(0.5 - i, color="0.9", linewidth=0.8)
    axis.set_yticks([-i for i in range(len(tables))], [table.target.replace("_", " ") for table in tables])
    axis.set_ylim(0.5 - len(tables), 0.5)
    style.log_scale(axis, across=True)
    axis.legend(frameon=False, fontsize=style.TICK, loc="center left", bbox_to_anchor=(1.01, 0.5))
    style.save(figure, path)


def _looks(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """A flow has a colour, its CIF a solid line and the plain one a dashed; peers are grey and dotted."""
    base = {row.name: row.name.removeprefix("CIF of ") for row in rows if row.kind != "peer"}
    flows = {flow: style.PALETTE[k % len(style.PALETTE)] for k, flow in enumerate(sorted(set(base.values())))}
    looks: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.kind != "peer":
            lines = {"linestyle": "-", "marker": "o"} if row.kind == "CIF" else {"linestyle": "--", "marker": "s"}
            looks[row.name] = {"color": flows[base[row.name]], **lines}
    for k, name in enumerate(sorted(row.name for row in rows if row.kind == "peer")):
        grey, marker = ("#000000", "#555555", "#888888", "#aaaaaa")[k % 4], "Dv^Xp*"[k % 6]
        looks[name] = {"color": grey, "linestyle": ":", "marker": marker}
    return looks


# --- the page ---------------------------------------------------------------------------------------------------------

DOCUMENT = """# To the truth, in seconds

KL(truth ‖ model) in nats per point, lower is better, against the seconds that a model was trained: mean ± standard
error over seeds; a number without an error has a single seed. A seed has its own data, the same for all models, and
each number of seconds its own training. KL and log-likelihood are means over the test data, exact but for a CIF, whose
log-likelihood is IWAE_m, a lower bound in expectation, so that its KL is an upper one.

- cifrun's flows are trained by `cifrun train dataset=T flow=F cif=…` at its defaults, or with the words that a row is
  named by in place of flow=F, with as many steps as the seconds hold. The seconds count validation and the fitting of a
  base, and neither the start nor the test.
- zuko's NSF and MAF have their own sizes, Adam with a cosine over the seconds, batches of {batch}, and the weights that
  are best on validation. The learning rate is the best of {rates} after short trainings, which are not counted.
- scikit-learn's GaussianMixture has the components, and KernelDensity the bandwidth, that are best on the validation
  data; the seconds are those of the search. All four see standardised data.

**Bold** is the lowest KL of the column that a table is sorted by; ≈ is what Student's t test does not tell from it,
seed by seed, at 5 % for the whole table: each of its pairs is tested at 5 % over their number. "s to 0.1" is when the
mean KL first is 0.1, between two trainings linear in the logarithm of the seconds. Pictures end at a KL of {floor:g}.
The first table compares two models, each the best of its kind, at 5 % and not corrected for having been chosen.

{overview}

{all}{tables}{failed}## Made with

{conditions}

To repeat it, and to go on where it was stopped (`--peer` adds other estimators):

```text
{commands}
```
"""


def write(records: Sequence[Record], docs: Path, note: str = "") -> Path:
    """The page and its pictures; where the page is. A note says what the records do not."""
    from frontier_peers import BATCH, RATES

    if all("error" in record for record in records):
        raise CifrunError(f"there are no results; {len(records)} trainings failed")
    targets = sorted({record["target"] for record in records})
    tables = [Table(target, [r for r in records if r["target"] == target]) for target in targets]
    text = ""
    (docs / "figures").mkdir(parents=True, exist_ok=True)
    once = len({record["budget"] for record in records}) == 1  # then there is nothing to draw against seconds
    if once:
        dots(tables, docs / "figures/frontier.png")
    for table in tables:
        name = f"figures/frontier_{table.target}.png"
        if not once:
            picture(table, docs / name)
        drawn = "" if once else f"![KL against seconds on {table.target}]({name})\n\n"
        lines = "\n".join(table.lines())
        text += f"## {table.target}\n\n{drawn}{lines}\n\n{table.verdict()}\n\n"
    page = DOCUMENT.format(
        tables=text,
        all="![KL of each model on each target](figures/frontier.png)\n\n" if once else "",
        overview=overview(tables),
        failed=_failed(records),
        commands=commands(records),
        conditions=conditions(records) + (f"\n- {note}" if note else ""),
        batch=BATCH,
        floor=FLOOR,
        rates=", ".join(f"{rate:g}" for rate in RATES),
    )
    path = docs / "frontier.md"
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _failed(records: Sequence[Record]) -> str:
    lines = [
        f"- {r['target']}, {r['model']}, {r['budget']:g} s, seed {r['seed']}: {r['error']}\n"
        for r in records
        if "error" in r
    ]
    return f"## Failed\n\n{''.join(lines)}\n" if lines else ""
