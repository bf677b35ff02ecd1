"""How the results of scripts/frontier.py were made: with what, and by which calls."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from cifrun.data.base import Target
from cifrun.registry import DATASETS

Record = dict[str, Any]
TARGETS = sorted(name for name in DATASETS if issubclass(DATASETS[name], Target))


def commands(records: Sequence[Record]) -> str:
    """The calls of scripts/frontier.py that give such results: one for all models with the same targets."""
    targets: dict[str, set[str]] = defaultdict(set)
    for record in records:
        targets[record["model"]].add(record["target"])
    calls = []
    for some in dict.fromkeys(map(frozenset, targets.values())):
        alike = {r["model"]: r["kind"] for r in records if targets[r["model"]] == some}
        own = [name.removeprefix("CIF of ") for name, kind in alike.items() if kind != "peer"]
        peers = [name for name, kind in alike.items() if kind == "peer"]
        mine = [r for r in records if r["model"] in alike]
        options = {
            "targets": [] if some == set(TARGETS) else sorted(some),
            "flows": [name for name in own if "=" not in name],
            "settings": [name for name in own if "=" in name],
            "peers": [name for name in peers if ":" not in name],
            "seconds": [f"{budget:g}" for budget in sorted({r["budget"] for r in mine})],
            "seeds": sorted({r["seed"] for r in mine}),
            "threads": sorted({r["threads"] for r in mine}),
            "overrides": dict.fromkeys(word for r in mine for word in r["overrides"]),
        }
        always = ("flows", "peers")  # which are many by default
        words = [
            f"--{option} {shlex.join(map(str, dict.fromkeys(values)))}".strip()
            for option, values in options.items()
            if values or option in always
        ]
        words += [f"--peer {name}" for name in peers if ":" in name]
        calls.append(" \\\n    ".join(["python scripts/frontier.py", *words]))
    return "\n".join(calls)


def conditions(records: Sequence[Record]) -> str:
    """The machine and the versions, and how well the trainings kept to their seconds."""
    lines = []
    for r in records:
        versions = ", ".join(f"{name} {number}" for name, number in r["versions"].items())
        words = [f"{r['threads']} thread{'s' * (r['threads'] > 1)}", r["cpu"], versions, *r["overrides"]]
        lines.append(f"- {'; '.join(words)}")
    shares = [r["seconds"] / r["budget"] for r in records if r.get("steps")]
    if shares:
        lines.append(
            f"- cifrun's trainings took {min(shares):.2f} to {max(shares):.2f} of the seconds that they were given."
        )
    return "\n".join(dict.fromkeys(lines))
