"""A report as comma-separated values, for other programs."""

from __future__ import annotations

import csv
import io
from typing import Any

from .groups import Comparison, typed

__all__ = ["comma_separated"]


def comma_separated(report: Comparison) -> str:
    """A line for each group, a mean and an error a column, with all digits."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    numbers = [name for metric in report.metrics for name in (metric.name, f"{metric.name}_se")]
    costs = ["estimate", "parameters", "steps", "wall_seconds"]
    writer.writerow(["dataset", "flow", "cif", *report.columns, "seeds", *numbers, *costs])
    for group in report.groups:
        found = [group.cells.get(metric.name) for metric in report.metrics]
        values = [x for c in found for x in ((c.mean, "" if c.se is None else c.se) if c else ("", ""))]
        names = [group.dataset, group.get("flow.family"), typed(bool(group.get("cif")))]
        summary = group.first.summary
        told: list[Any] = [group.first.estimate, summary.get("parameters"), summary.get("steps"), group.seconds]
        writer.writerow([*names, *(typed(group.get(k)) for k in report.columns), len(group.runs), *values, *told])
    return stream.getvalue()
