"""Measures the variance of the estimators of the gradient of q, and writes docs/gradients.md.

    python scripts/check_gradients.py            # some minutes on one core

A small CIF is trained by an objective with its plain gradient. Then, at these weights, each estimator's gradient of φ,
the weights of q, is drawn many times for the same data, with new u each time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cifrun.build import build_data, build_model, build_standardize
from cifrun.cif.gradients import Gradient
from cifrun.cif.importance import mean_se
from cifrun.cif.model import Model
from cifrun.cli.hydra_app import configure
from cifrun.compute.device import launch
from cifrun.compute.rng import seed_all
from cifrun.data.loader import Loader
from cifrun.io.text import with_error
from cifrun.objectives.base import Objective
from cifrun.registry import OBJECTIVES
from cifrun.training.step import Update

MODEL = (
    "dataset=two_moons flow=maf cif=true flow.depth=2 flow.hidden=[32,32] index.dim=1 index.st=[32,32] index.p=[32,32] "
    "index.q=[32,32] optimizer=adam device=cpu trainer.batch_size=500"
)
LR = 3e-3
#: By objective: how many importance samples, the estimators with less variance, and what they are called.
CASES = {"elbo": (1, "stl"), "iwae": (10, "dreg"), "rws": (10, "dreg")}
DATA, DRAWS, SEEDS = 200, 100, (1, 2, 3)


def trained(objective: str, m: int, seed: int, steps: int) -> tuple[Model, Tensor]:
    """A model after so many updates by the plain gradient, in double precision, and data."""
    words = f"{MODEL} objective={objective} objective.importance_samples={m} seed={seed}"
    config = configure(words.split())
    seed_all(seed)
    data = build_data(config)
    model = build_model(config, data.shape, build_standardize(config, data))
    fabric = launch(config.device)
    loader = Loader(data, config.trainer, seed, fabric.device)
    update = Update(model, config, fabric, loader)
    for step in range(steps):
        update(loader.indices(step), LR * min(1.0, 2 - 2 * step / steps))
    return model.double(), data.test[:DATA].double()


def gradient(model: Model, x: Tensor, objective: Objective, kind: type[Gradient], m: int) -> Tensor:
    """One draw of the gradient of all φ, for a mean over data."""
    value = objective(model(x, m, gradient=kind())).mean()
    model.zero_grad()
    value.backward()
    phi = [parameter for index in model.indices for parameter in index.q_net.parameters()]
    return torch.cat([parameter.grad.flatten() for parameter in phi if parameter.grad is not None])


class Measured(NamedTuple):
    """What became known of an estimator."""

    variance: float  # of the gradient of one datum, summed over φ
    squared_mean: float  # length of its mean over data
    seconds: float  # of all draws


def measured(model: Model, x: Tensor, name: str, estimators: Sequence[str], m: int) -> list[Measured]:
    """The estimators of an objective, each of which draws in turn."""
    objective = OBJECTIVES[name]
    draws: list[list[Tensor]] = [[] for _ in estimators]
    seconds = [0.0] * len(estimators)
    for _ in range(DRAWS):
        for k, estimator in enumerate(estimators):
            begin = time.perf_counter()
            draws[k].append(gradient(model, x, objective, objective.gradients[estimator], m))
            seconds[k] += time.perf_counter() - begin
    found = []
    for several, taken in zip(map(torch.stack, draws), seconds, strict=True):
        variance, mean = several.var(0).sum().item(), several.mean(0)
        found.append(Measured(len(x) * variance, mean.square().sum().item() - variance / DRAWS, taken))
    return found


def rows(name: str, m: int, other: str, steps: int) -> list[str]:
    """The lines of an objective: for each estimator its variance, that against the plain one's, and its time."""
    estimators = ("reparametrised", other)
    found = [measured(*trained(name, m, seed, steps), name, estimators, m) for seed in SEEDS]
    plain, others = ([one[k] for one in found] for k in (0, 1))
    title = f"{name}, m = {m}"
    return [
        row(title, estimator, several, plain) for estimator, several in zip(estimators, (plain, others), strict=True)
    ]


def row(title: str, estimator: str, several: Sequence[Measured], plain: Sequence[Measured]) -> str:
    """A line of the table: means over seeds with their standard errors."""

    def told(values: Sequence[float]) -> str:
        return with_error(*mean_se(torch.tensor(values, dtype=torch.float64)))

    ratio = cost = "1"
    if several is not plain:
        ratio = told([one.variance / other.variance for one, other in zip(several, plain, strict=True)])
        cost = f"{sum(one.seconds for one in several) / sum(other.seconds for other in plain):.1f}"
    cells = [told([one.variance for one in several]), ratio, told([one.squared_mean for one in several]), cost]
    return f"| {title} | {estimator} | {' | '.join(cells)} |"


def table(steps: int) -> str:
    """The table in Markdown."""
    lines = [
        "| objective | gradient | variance | against the plain one's | squared mean | time |",
        f"|---|---|{'---:|' * 4}",
    ]
    for name, (m, other) in CASES.items():
        lines += rows(name, m, other, steps)
        print(*lines[-2:], sep="\n", flush=True)
    return "\n".join(lines)


DOCUMENT = """# Estimators of the gradient

The networks of q, whose weights are φ, have a gradient that is estimated from the draws of u. Where q comes near the
posterior, log w depends on u less and less. Yet the plain estimator goes on making noise: it has the score
∂φ log q(u | x) in it, whose mean is zero and whose variance is not. `objective.gradient` picks estimators without it:

- `stl`, "sticking the landing", for `objective=elbo`;
- `dreg`, doubly reparametrised, for `objective=iwae` and `objective=rws`.

They have the same mean as the plain one. [Theory](explanation/theory.md#gradients) has the formulas.

The table has the variance over draws of u, summed over φ, of the gradient of one datum, and the squared length of the
mean over {data} data. The model is a CIF of maf with two steps, after {steps} steps on two_moons by the plain gradient;
± is the standard error over {seeds} seeds. The last column is the time of a gradient, all weights included.

{table}

To repeat: `python scripts/check_gradients.py`.
"""


def main() -> None:
    """Write the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="of training (%(default)s)")
    arguments = parser.parse_args()
    found = table(arguments.steps)
    text = DOCUMENT.format(data=DATA, steps=f"{arguments.steps:,}".replace(",", " "), seeds=len(SEEDS), table=found)
    (arguments.docs / "gradients.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
