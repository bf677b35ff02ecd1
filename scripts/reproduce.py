"""The paper's comparison on a target in the plane: a residual flow and its CIF, three seeds, a table and the figures.

    python scripts/reproduce.py two_uniforms            # about 20 minutes on two cores
    python scripts/reproduce.py rings --quick           # two minutes: a smaller model, one seed, 300 steps
    python scripts/reproduce.py checkerboard --full     # the published length, 200 000 steps: days

Stop it with Ctrl-C, or lose the machine: the same command does what is left. The models are those of
`experiment=two_d_resflow`, 10 blocks of [128]×4, half a million parameters, plain and indexed; the data are as
published, not standardised. Under --output are
multirun/NAME with a directory for each run; in report/ of it the table as text, Markdown, CSV, LaTeX and HTML; beside
that densities.png (target, plain, CIF on one colour scale), training.png, invertibility.png (the bi-Lipschitz constant
over training, and its ceiling) and depth.png (Lipschitz constants by depth), each also as PDF.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import cast

from matplotlib.figure import Figure

from cifrun import load
from cifrun.data.base import Target
from cifrun.errors import CifrunError
from cifrun.figures.density import compare_densities
from cifrun.figures.diagnostics import lipschitz_figure
from cifrun.figures.style import save_twice
from cifrun.figures.training import compare_training
from cifrun.registry import DATASETS
from cifrun.reporting.groups import Group
from cifrun.reporting.report import Report, report
from cifrun.runs.directory import RunDirectory

#: Steps, seeds, and what the model is given beside its preset.
BUDGETS = {
    "quick": (300, (1,), "flow.depth=5 flow.hidden=[64,64] dataset.num_test=2000"),
    "default": (1000, (1, 2, 3), ""),
    "full": (200_000, (1, 2, 3), ""),
}


def train(target: str, budget: str, output: Path) -> Path:
    """Do what is left of the sweep; its directory. Raises `CifrunError` if a run failed."""
    steps, seeds, more = BUDGETS[budget]
    name = f"{target}-{budget}"
    words = (
        f"experiment=two_d_resflow dataset={target} dataset.standardize=false "
        f"cif=false,true seed={','.join(map(str, seeds))} sweep.name={name} "
        f"trainer.max_steps={steps} trainer.valid_every={max(1, steps // 20)} trainer.plot_every=0 "
        f"diagnostics.every={max(1, steps // 10)} {more}"
    )
    output.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cifrun", "train", "-m", *words.split()]
    print(" ".join(["cifrun", *command[3:]]), flush=True)
    if code := subprocess.run(command, cwd=output).returncode:
        raise CifrunError(f"the sweep ended with exit code {code}; the same command goes on with it")
    return output / "multirun" / name


def figures(groups: dict[str, Group], target: str) -> dict[str, Figure]:
    """The pictures, by name, of a plain flow's runs and its CIF's."""
    first = {label: group.first.path for label, group in groups.items()}
    metrics = {label: [run.metrics for run in group.runs] for label, group in groups.items()}
    rows = {label: group.first.test["lipschitz_by_depth"] for label, group in groups.items()}
    truth = cast(Target, RunDirectory(next(iter(first.values()))).config().dataset)
    constant = "bi-Lipschitz constant, at least"
    return {
        "densities": compare_densities(truth, {label: load(path) for label, path in first.items()}),
        "training": compare_training(metrics, target),
        "invertibility": compare_training(metrics, target, tag="diagnostics/bi_lipschitz", ylabel=constant, log=True),
        "depth": lipschitz_figure(rows, target),
    }


def main() -> None:
    """Train, draw, and print the table."""
    summary, _, _ = (__doc__ or "").partition("\n\nStop it")
    parser = argparse.ArgumentParser(description=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
    planar = [name for name in DATASETS if hasattr(DATASETS[name], "window")]
    parser.add_argument("target", choices=planar, metavar="TARGET", help=f"one of {', '.join(planar)}")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--quick", dest="budget", action="store_const", const="quick", default="default")
    budget.add_argument("--full", dest="budget", action="store_const", const="full", help="the published length")
    parser.add_argument("--output", type=Path, default=Path("outputs/reproduce"), help="(%(default)s)")
    arguments = parser.parse_args()
    try:
        sweep = train(arguments.target, arguments.budget, arguments.output)
        result: Report = report([sweep])
        found = {("residual flow", "its CIF")[bool(group.get("cif"))]: group for group in result.groups}
        for name, figure in figures(found, arguments.target).items():
            save_twice(figure, sweep / f"{name}.png")
        print(f"pictures: {sweep}/densities.png, training.png, invertibility.png, depth.png")
    except CifrunError as error:
        sys.exit(f"reproduce: {error}")
    except KeyboardInterrupt:
        sys.exit("reproduce: stopped; the same command goes on")


if __name__ == "__main__":
    main()
