"""A picture of the package: its rooms by floor, and an arrow from each to those it imports.

    python scripts/draw_rooms.py            # writes docs/figures/rooms.png

Only direct arrows are drawn: one is left out where the same rooms are joined by a longer way. `tests/test_house.py`
fails if an arrow runs upward or in a circle. The file holds its arrows as text too, by which a test sees its age.
"""

from __future__ import annotations

import argparse
import ast
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cifrun"
#: What each room is for, and where it stands: column and floor.
ROOMS = {
    "api": ("the Python face", 0, 11),
    "testing": ("checks for plug-ins", -0.85, 6.4),
    "cli": ("words → config → job", 0, 10.1),
    "reporting": ("many runs → one answer", -1.6, 8.6),
    "training": ("the loop, and one step", 0, 9.1),
    "evaluation": ("what a model is worth", 0, 8.2),
    "figures": ("pictures", 1, 6.6),
    "build": ("names → objects", 0, 5),
    "diagnostics": ("topology, trust, …", 1, 5.4),
    "data": ("where x comes from", -1, 4),
    "flows": ("what flow= picks", 0, 4),
    "bases": ("what base= picks", 2, 2.9),
    "objectives": ("what is maximised", 2, 4),
    "optimizers": ("one update of the weights", 1, 0),
    "runs": ("what a run leaves", -1.6, 2.6),
    "cif": ("the density, the index", 1, 3),
    "bijections": ("invertible maps", 1, 2),
    "nets": ("networks", 1, 1),
    "compute": ("devices, processes", 0, 1),
    "config": ("what can be set", -1, 0),
    "registry": ("names, plug-ins", 0, -1),
    "io": ("files and tables", -1, -1),
    "errors": ("sentences for users", 0, -2),
}


def room(name: str) -> str:
    first = name.split(".")[0]
    return {"plugins": "registry", "sklearn": "api"}.get(first, first)


def arrows() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    found: dict[str, set[str]] = {name: set() for name in ROOMS}
    for file in PACKAGE.rglob("*.py"):
        parts = ("cifrun", *file.relative_to(PACKAGE).with_suffix("").parts)
        here = room(parts[1])
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.ImportFrom) and node.level):
                continue
            base = parts[: len(parts) - node.level]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for target in (room((*base, *name.split("."))[1]) for name in names):
                if here in found and target in found and target != here:
                    found[here].add(target)
    return found


def described() -> str:
    """The rooms that each room imports, a line a room."""
    return "\n".join(f"{name}: {' '.join(sorted(targets))}" for name, targets in sorted(arrows().items()))


def below(name: str, down: dict[str, set[str]]) -> set[str]:
    """All that a room rests on."""
    return down[name].union(*(below(target, down) for target in down[name])) if down[name] else set()


def draw() -> Figure:
    figure = Figure(figsize=(11, 10.8), dpi=150, layout="constrained", facecolor="white")
    axes = figure.subplots()
    boxes = {}
    for name, (meaning, column, floor) in ROOMS.items():
        x, y = 3.2 * column, 1.25 * floor
        style: dict[str, Any] = {"facecolor": "#e8f1f8", "edgecolor": "#0072B2", "linewidth": 1.2, "zorder": 2}
        boxes[name] = FancyBboxPatch((x - 1.3, y - 0.36), 2.6, 0.72, boxstyle="round,pad=0,rounding_size=0.12", **style)
        axes.add_patch(boxes[name])
        axes.text(x, y + 0.1, name, ha="center", va="center", fontsize=11, weight="bold", zorder=3)
        axes.text(x, y - 0.17, meaning, ha="center", va="center", fontsize=8, color="#444444", zorder=3)
    down = arrows()
    for name, targets in down.items():
        for target in targets - set().union(*(below(other, down) for other in targets)):
            ends = [(3.2 * ROOMS[end][1], 1.25 * ROOMS[end][2]) for end in (name, target)]
            line: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 12, "color": "#7a8794", "linewidth": 1.2}
            axes.add_patch(
                FancyArrowPatch(*ends, patchA=boxes[name], patchB=boxes[target], shrinkA=0, shrinkB=1, zorder=1, **line)
            )
    axes.set_xlim(-6.7, 8)
    axes.set_ylim(1.25 * -2 - 0.6, 1.25 * 11 + 0.6)
    axes.set_axis_off()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "figures" / "rooms.png", help="(docs)")
    arguments = parser.parse_args()
    draw().savefig(arguments.output, metadata={"Description": described()})
    print(arguments.output)


if __name__ == "__main__":
    main()
