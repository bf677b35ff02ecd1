"""What several test modules need: small models of every flow, ways to train them for a moment, and to stop training."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from cifrun.bijections.base import Bijection
from cifrun.build import build_model
from cifrun.cif.model import Model
from cifrun.cli.main import main
from cifrun.config.schema import Config
from cifrun.registry import FLOWS
from cifrun.runs.directory import RunDirectory
from cifrun.runs.records import METRICS, read_metrics

#: Of the repository.
ROOT = Path(__file__).resolve().parents[1]

#: An optimiser whose rate does not depend on how long training will be, so that a run can be made longer bit for bit.
STEADY = {"name": "adam", "lr": 1e-3, "schedule": "none", "max_grad_norm": None}

#: Small enough that a job takes about a second, long enough that a kill finds one under way.
JOB = (
    "dataset=two_uniforms dataset.num_train=200 dataset.num_valid=50 dataset.num_test=50 flow=affine flow.depth=1 "
    "trainer.batch_size=100 trainer.max_steps=150 trainer.checkpoint_every=10 trainer.valid_every=50 "
    "trainer.plot_every=0 trainer.progress=false diagnostics.enabled=false device=cpu"
)

#: An index of one number and small networks: with random weights, it bends less than the default's.
SMALL_INDEX: dict[str, Any] = {"dim": 1, "st": [10, 10], "p": [10, 10], "q": [10, 10]}

#: Settings under which any flow is small; a flow takes those that it has.
SMALL: dict[str, Any] = {"depth": 2, "hidden": [16, 16]}


def script(name: str) -> ModuleType:
    """scripts/NAME.py as a module, which is none of a package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where its dataclasses look for it
    spec.loader.exec_module(module)
    return module


def small_config(
    family: str, cif: bool, dataset: str = "two_uniforms", flow: dict[str, Any] | None = None, **overrides: Any
) -> Config:
    """A config of a small model: `flow` adds settings of the flow, `overrides` are whole groups or top-level values."""
    names = {f.name for f in fields(FLOWS[family])}
    settings = {"family": family, **{k: v for k, v in SMALL.items() if k in names}, **(flow or {})}
    base = {
        "dataset": {"name": dataset, "num_train": 2000, "num_valid": 200, "num_test": 500},
        "flow": settings,
        "cif": cif,
        "optimizer": STEADY,
    }
    return Config.parse({**base, **overrides})


def randomise(model: torch.nn.Module, scale: float = 0.3, seed: int = 0) -> None:
    """Move every parameter away from where initialisation put it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(noise, alpha=scale)


def small_model(flow: str, cif: bool, dim: int = 2, double: bool = True, **overrides: Any) -> Model:
    """A small model away from its initialisation, in eval mode."""
    model = build_model(small_config(flow, cif, **overrides), (dim,))
    model = model.double() if double else model
    randomise(model)
    return model.eval()


@torch.enable_grad()
def train_a_little(model: Model, x: torch.Tensor, steps: int, lr: float = 5e-3, m: int = 1) -> Model:
    """A few hundred Adam steps on the ELBO."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(steps):
        batch = x[torch.randint(len(x), (256,), generator=generator)]
        optimizer.zero_grad()
        (-model.log_w(batch, m).mean()).backward()
        optimizer.step()
    return model.eval()


@contextmanager
def without_pictures() -> Iterator[None]:
    """Inside, a run in this process draws nothing when it ends: pictures take ten times as long as a small run.

    Which pictures a run leaves is tested in `tests/runs/test_directory.py`.
    """
    with patch("cifrun.training.ending._draw"):  # by name, so that who imports this file need not import that one
        yield


@contextmanager
def unrendered() -> Iterator[None]:
    """Inside, figures are made and laid out, but their files show one pixel: for who looks at names and tags only."""

    def savefig(figure: Any, file: Any, *, format: str) -> None:
        from PIL import Image

        Image.new("RGB", (1, 1)).save(file, format)

    with patch("matplotlib.figure.Figure.savefig", savefig):
        yield


def plain_main(words: Sequence[str]) -> int:
    """A command that draws no pictures, for a process of its own."""
    with without_pictures():
        return main(words)


@contextmanager
def after_steps(count: int, act: Callable[[], None]) -> Iterator[None]:
    """Inside, `act` is called after so many steps of an optimiser, counted from here.

    What it does comes at the same step each time, however fast the machine is, and nobody has to look how far it is.
    """
    done = 0

    def step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        nonlocal done
        if "orthogonal" in optimizer.param_groups[0] and type(optimizer) is torch.optim.Adam:  # a part of Muon
            return
        done += 1
        if done == count:
            act()

    hook = register_optimizer_step_post_hook(step)
    try:
        yield
    finally:
        hook.remove()


def autograd_log_det(bijection: Bijection, x: torch.Tensor) -> torch.Tensor:
    """log|det ∂z/∂x| from autograd's Jacobians, one datum at a time."""
    rows = [torch.autograd.functional.jacobian(lambda v: bijection(v[None])[0][0], row) for row in x]
    return torch.linalg.slogdet(torch.stack(rows).flatten(2).reshape(len(x), x[0].numel(), -1))[1]


def assert_same_run(one: Path, other: Path) -> None:
    """Two complete runs ended bit for bit the same: all of their last checkpoint, and every row of their records."""
    first, second = (RunDirectory(path).load_checkpoint("latest") for path in (one, other))
    assert first.tensors.keys() == second.tensors.keys()
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name
    ours, theirs = ([_timeless(row) for row in read_metrics(path / METRICS)] for path in (one, other))
    assert ours == theirs
    ours, theirs = (_timeless(RunDirectory(path).summary()["test"]) for path in (one, other))
    assert ours == theirs


def _timeless(row: Any) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("time", "seconds", "train/step_seconds")}


if __name__ == "__main__":
    sys.exit(plain_main(sys.argv[1:]))
