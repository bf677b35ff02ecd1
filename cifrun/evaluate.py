"""What a trained model is worth: log-likelihood with its standard error, the bound's gap, and KL to the truth."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .build import build_data
from .config import Config
from .data.base import Target
from .device import launch
from .model import Model
from .rng import forked
from .run import RunDirectory
from .table import table, with_error
from .tracking import Tracker

__all__ = ["evaluate", "evaluate_split", "report"]


def evaluate(directory: Path, config: Config) -> dict[str, Any]:
    """Evaluate the best weights of a run on its test set; print a table, and write it to the run's records.

    Arguments:
        directory: The run directory.
        config: The run's config, with the `eval` and `device` settings to use.

    Returns:
        The numbers that `summary.json` holds under "test".
    """
    run = RunDirectory(directory)
    model = run.load_model().to(launch(config.device).device)
    data = build_data(config)
    test = evaluate_split(model, data.test, config, config.eval.importance_samples, data.target)
    summary = run.summary()
    run.write_summary({**summary, "test": test})
    with Tracker(directory) as tracker:
        tracker.scalars(int(summary.get("steps", 0)), scalars(test))
    print(report(config, test))
    return test


@torch.no_grad()
def evaluate_split(
    model: Model, x: Tensor, config: Config, importance_samples: int, target: Target | None = None
) -> dict[str, Any]:
    """Log-likelihood and its companions over a split, in nats per datum; each mean with its standard error over data.

    Arguments:
        model: Set to eval mode for the time being.
        x: (N, *shape).
        importance_samples: m; a plain flow needs none, and is evaluated once.
        target: The density that x was drawn from, for KL(p* ‖ p) = E[log p*(x) − log p(x)].

    Returns:
        log_likelihood (exact or IWAE_m, as "exact" says), elbo, gap, ess, kl_to_truth, bits_per_dim, each with "…_se"
        where it is a mean over data; importance_samples, num_data, seconds.
    """
    began = time.monotonic()
    training, like = model.training, next(model.parameters())
    model.eval()
    # A generator of its own: evaluation gives the same number whenever it happens, and never changes training.
    with forked(config.eval.seed):
        estimate = model.estimate(x.to(like), importance_samples, config.eval.chunk_size)
    model.train(training)

    log_p = estimate.log_likelihood.double().cpu()
    elbo = estimate.elbo.double().cpu()
    result: dict[str, Any] = {
        **_mean("log_likelihood", log_p),
        **_mean("elbo", elbo),
        **_mean("gap", log_p - elbo),
        "ess": estimate.ess.double().mean().item(),
        "bits_per_dim": -log_p.mean().item() / math.log(2) / math.prod(model.shape),
    }
    if target is not None:
        result |= _mean("kl_to_truth", target.log_prob(x.double().cpu()) - log_p)
    return {
        **result,
        "exact": model.exact,
        "importance_samples": estimate.importance_samples,
        "num_data": len(x),
        "seconds": round(time.monotonic() - began, 3),
    }


def scalars(test: Mapping[str, Any]) -> dict[str, float]:
    """What the records show of a test result: its means, and the standard error of the one that is quoted."""
    shown = (k for k in test if k == "log_likelihood_se" or not k.endswith("_se"))
    return {f"test/{k}": test[k] for k in shown if isinstance(test[k], float) and k != "seconds"}


def report(config: Config, test: Mapping[str, Any]) -> str:
    """A test result as a small table for the terminal."""
    m = test["importance_samples"]
    kind = "exact" if test["exact"] else f"IWAE_{m}" if config.cif else "unbiased log-det"
    rows = [
        [f"log-likelihood ({kind})", with_error(test["log_likelihood"], test["log_likelihood_se"]), "nats"],
        ["bits per dimension", f"{test['bits_per_dim']:.4f}", "bits"],
    ]
    if not test["exact"]:
        rows[1:1] = [
            ["ELBO", with_error(test["elbo"], test["elbo_se"]), "nats"],
            ["gap of the bound", with_error(test["gap"], test["gap_se"]), "nats"],
            ["effective sample size", f"{test['ess']:.1f} of {m}", ""],
        ]
    if "kl_to_truth" in test:
        rows.append(["KL to the truth", with_error(test["kl_to_truth"], test["kl_to_truth_se"]), "nats"])
    flow = f"{config.flow.family}{' with its CIF' if config.cif else ', plain'}"
    return table(rows, [f"{config.dataset.name}, {flow}", f"test, {test['num_data']:,} data", ""], "lrl")


def _mean(name: str, values: Tensor) -> dict[str, float]:
    std = values.std().item() if len(values) > 1 else math.nan  # one datum says nothing of the spread
    return {name: values.mean().item(), f"{name}_se": std / math.sqrt(len(values))}
