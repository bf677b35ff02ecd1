"""What makes an index used that a strong flow leaves unused: a table for docs/index_size.md.

    python scripts/check_index.py                 # half an hour on one core

Each change is one of training alone, and no setting of the package. All of a seed see the same data in the same order.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from cifrun.build import build_data, build_model, build_standardize
from cifrun.cif import by_hand
from cifrun.cif.model import Model
from cifrun.cif.paths import generate
from cifrun.cif.step import Inward, Step
from cifrun.cli.hydra_app import configure
from cifrun.compute import rng
from cifrun.compute.device import spread
from cifrun.config.schema import Config
from cifrun.data.loader import Loader
from cifrun.diagnostics.index_use import reach
from cifrun.io.text import with_error
from cifrun.reporting.significance import mean_over_seeds
from cifrun.training.step import Update

MODELS = ("experiment=plane", "flow=nsf_coupling")
#: m of the estimate, and of the bound in the last quarter where that is the change.
EVAL, LATE = 20, 10


class Weighted:
    """The term of u, log p(u) − log q(u), times a weight."""

    def __init__(self) -> None:
        self.weight = 1.0

    @contextmanager
    def inside(self) -> Iterator[None]:
        def after_u(step: Step, below: Tensor, u: Tensor, log_q: Tensor) -> Inward:
            assert step.index is not None
            z, log_det, log_p = step.index.weigh(below, u)
            return Inward(z, log_det + self.weight * (log_p - log_q), (log_det,), u)

        with patch.object(Step, "after_u", after_u), patch.object(by_hand, "inward", lambda *_: None):
            yield


def spread_out(model: Model, scale: float) -> None:
    """Let s and t start at random instead of at zero, with outputs of about that scale."""
    for step in model.steps:
        if step.index is not None:
            last = [layer for layer in step.index.st.modules() if isinstance(layer, nn.Linear)][-1]
            nn.init.normal_(last.weight, std=scale / math.sqrt(last.in_features))


def own_rate(model: Model, optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give the weights of the indices a rate of their own."""
    mine = {id(p) for step in model.steps if step.index is not None for p in step.index.parameters()}
    groups = optimizer.param_groups
    for group in list(groups):
        own = [p for p in group["params"] if id(p) in mine]
        group["params"] = [p for p in group["params"] if id(p) not in mine]
        groups.append({**group, "params": own, "share": factor * group.get("share", 1.0)})
    groups[:] = [group for group in groups if group["params"]]


#: What is changed, by what a row is called: words for `train`.
CHANGES: dict[str, dict[str, Any]] = {
    "plain flow": {"cif": False},
    "CIF, the default": {},
    "s, t start at random, a tenth of unit scale": {"scale": 0.1},
    "s, t start at random, half of unit scale": {"scale": 0.5},
    "log p(u) − log q(u) weighted from 0 to 1 in the first half": {"warm_up": True},
    f"iwae of {LATE} in the last quarter": {"late": True},
    "a rate of its own, five times the flow's": {"rate": 5.0},
    "a rate of its own, a fifth of the flow's": {"rate": 0.2},
}


def train(
    words: list[str],
    steps: int,
    seed: int,
    *,
    cif: bool = True,
    scale: float = 0.0,
    warm_up: bool = False,
    late: bool = False,
    rate: float = 1.0,
) -> tuple[float, float]:
    """KL on the validation set, in nats, and the largest reach of a step."""
    config = configure([*words, "device=cpu", f"seed={seed}", f"cif={str(cif).lower()}"])
    found: list[float] = []

    def work(fabric: Any) -> None:
        rng.seed_all(seed)
        data = build_data(config)
        model = build_model(config, data.shape, build_standardize(config, data))
        loader = Loader(data, config.trainer, seed, fabric.device)
        optimizer = Update(model, config, fabric, loader).optimizer.optimizer
        weighted = Weighted()
        if scale:
            spread_out(model, scale)
        if rate != 1:
            own_rate(model, optimizer, rate)
        with weighted.inside() if warm_up else nullcontext():
            for k in range(steps):
                weighted.weight = min(1.0, 2 * k / steps)
                m = LATE if late and k >= steps * 3 // 4 else 1
                _step(model, config, optimizer, loader.events(loader.fetch(loader.indices(k))), m, k / steps)
        model.eval()
        assert data.target is not None
        with torch.no_grad():
            truth = data.target.log_prob(data.valid.double()).mean().item()
            log_w = torch.cat([model.log_w(part, EVAL) for part in data.valid.float().split(500)], 1)
            estimate = (log_w.logsumexp(0) - math.log(EVAL)).mean().item()
            used = reach(model, generate(model, model.base.draw(2000, log_w))) if cif else []
        found.extend([truth - estimate, max((r for r in used if r is not None), default=0.0)])

    spread(config.device, work)
    return found[0], found[1]


def _step(model: Model, config: Config, optimizer: Any, x: Tensor, m: int, part: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = config.optimizer.lr * 0.5 * (1 + math.cos(math.pi * part)) * group.get("share", 1.0)
    model.train()
    optimizer.zero_grad(set_to_none=True)
    log_w = model(x, m)
    (math.log(m) - log_w.logsumexp(0)).mean().backward()
    nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.max_grad_norm or math.inf)
    optimizer.step()


def show(*cells: str) -> None:
    """Print a line of a table."""
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help="words of cifrun train (%(default)s)")
    parser.add_argument("--target", default="checkerboard", help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="(%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="two or more (%(default)s)")
    options = parser.parse_args()
    if len(options.seeds) < 2:
        parser.error("an error needs two seeds or more")
    for model in options.models:
        words = [f"dataset={options.target}", *model.split(",")]
        show(model, "KL", "− the default", "reach")
        show("---", "---:", "---:", "---:")
        results = {
            name: [train(words, options.steps, seed, **change) for seed in options.seeds]
            for name, change in CHANGES.items()
        }
        default = [kl for kl, _ in results["CIF, the default"]]
        for name, pairs in results.items():
            kls = [kl for kl, _ in pairs]
            less = [a - b for a, b in zip(kls, default, strict=True)]
            told = with_error(*mean_over_seeds(less)) if any(less) else ""
            show(name, with_error(*mean_over_seeds(kls)), told, f"{sum(r for _, r in pairs) / len(pairs):.2g}")


if __name__ == "__main__":
    main()
