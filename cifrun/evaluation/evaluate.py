"""What a trained model is worth: log-likelihood with its standard error, the bound's gap, and KL to the truth."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from ..build import build_data
from ..cif.importance import Estimate, Sums
from ..cif.memory import chunk_size
from ..cif.model import Model
from ..compute import processes
from ..compute.device import spread
from ..compute.rng import derive, forked
from ..config.schema import Config
from ..data.base import Target, dequantize
from ..data.images.files import read_array
from ..data.tables.base import File
from ..data.tables.in_place import Events
from ..diagnostics import Diagnostics
from ..diagnostics import scalars as measured
from ..errors import ConfigError
from ..io.table_files import TABLES, check_ending, numbered, write_table
from ..io.text import table, with_error
from ..runs.directory import RunDirectory
from ..runs.records import Tracker

__all__ = ["estimate_split", "evaluate", "evaluate_split", "report"]

#: The place of dequantisation among what `eval.seed` seeds, and how many data one of its generators serves.
NOISE, NOISE_ROWS = 2**31, 100
#: What one asks first of a test result.
BEST = ("log_likelihood", "kl_to_truth", "mass_off_support", "bi_lipschitz", "bits_per_dim")
#: Data in a piece of the work.
ROWS = 1000


def evaluate(directory: Path, config: Config) -> dict[str, Any]:
    """Evaluate the best weights of a run, on its test set or on other data, and print a table.

    Arguments:
        directory: The run directory.
        config: The run's config, with the `eval` and `device` settings to use; `data` names a file to evaluate instead
            of the test set, and `per_point` one to write with a line for each datum.

    Errors:
        ConfigError, RunError: something named in the config, or a file of the run, can't be used; or the file that the
            run was trained on has changed, and so its test set.

    Returns:
        What `evaluate_split` does, and for the test set the diagnostics too, if they are on. Of the test set, it is
        also written to `summary.json`, under "test", and shown in TensorBoard; of other data, it is only printed.
    """
    if config.per_point is not None:
        check_ending("per_point", config.per_point, TABLES)
        if not config.per_point.parent.is_dir():
            raise ConfigError(f"per_point = '{config.per_point}' is not possible: there is no such folder")
        if config.data is not None and config.per_point.resolve() == config.data.resolve():
            raise ConfigError(f"per_point = '{config.per_point}' would overwrite the data: choose another file")
    return spread(config.device, _evaluate, directory, config)


def _evaluate(fabric: Fabric, directory: Path, config: Config) -> dict[str, Any]:
    """`evaluate` in one of the processes."""
    run = RunDirectory(directory)
    model = run.load_model().to(fabric.device)
    if config.data is None:
        data = build_data(config)
        run.check_data(data.fingerprint)
        x, target = data.test, data.target
        diagnostics = Diagnostics(config, data)
    else:
        x, target = read_other(config.data, model, config), None
    began = time.monotonic()
    estimate = estimate_split(model, x, config, config.eval.importance_samples)
    result = _summarise(estimate, model, x, target, began)
    if not fabric.is_global_zero:
        return result
    if config.data is None:
        if config.diagnostics.enabled:
            result |= diagnostics(model)
        summary = run.summary()
        run.write_summary({**summary, "test": result})
        with Tracker(directory) as tracker:
            tracker.result(int(summary.get("steps", 0)), scalars(result))
    if config.per_point is not None:
        write_points(config.per_point, estimate)
    print(report(config, result, "test" if config.data is None else config.data.name))
    if config.per_point is not None:
        print(f"{len(x):,} rows → {config.per_point}")
    return result


def read_other(path: Path, model: Model, config: Config) -> Events:
    """Other data for the model of a run, (N, *shape): the columns that it was trained on, found by their names; of
    images, an array of grey levels.

    Says on stderr which other columns the file has. Raises `ConfigError` for a file that lacks one of them, or that
    can't be read.
    """
    if model.levels is not None:
        images = read_array(path, model.shape)
        if (most := int(images.max())) >= model.levels:
            raise ConfigError(f"{path} holds pixels up to {most}; those of the run's images are below {model.levels}")
        return images if model.levels > 2 else images > 0
    columns = model.columns or tuple(numbered(math.prod(model.shape)))
    reader = config.dataset if isinstance(config.dataset, File) else File(name="file")
    values, others = reader.read(path, columns)
    if others and processes.rank() == 0:
        print(f"cifrun: not looked at in {path}: {', '.join(others)}", file=sys.stderr)
    return values.unflatten(1, model.shape)


def write_points(path: Path, estimate: Estimate) -> None:
    """A line for each datum: its place, from 1; log p(x) and the ELBO in nats; the effective sample size."""
    numbers = {name: getattr(estimate, name).cpu().numpy() for name in ("log_likelihood", "elbo", "ess")}
    write_table(path, {"row": np.arange(1, len(estimate.elbo) + 1), **numbers})


def evaluate_split(
    model: Model, x: Events, config: Config, importance_samples: int, target: Target | None = None
) -> dict[str, Any]:
    """Log-likelihood and its companions over a split, in nats per datum; each mean with its standard error over data.

    Arguments:
        model: Set to eval mode for the time being.
        x: (N, *shape); grey levels, as uint8, are dequantised.
        importance_samples: m; a plain flow needs none, and is evaluated once.
        target: The density that x was drawn from, for KL(p* ‖ p) = E[log p*(x) − log p(x)].

    Returns:
        log_likelihood (exact or IWAE_m, as "exact" says), elbo, gap, ess, kl_to_truth, bits_per_dim, each with "…_se"
        where it is a mean over data; importance_samples, num_data, seconds.
    """
    began = time.monotonic()
    return _summarise(estimate_split(model, x, config, importance_samples), model, x, target, began)


@torch.inference_mode()
def estimate_split(model: Model, x: Events, config: Config, importance_samples: int) -> Estimate:
    """The estimates for each datum of x, (N, *shape), of which a piece at a time is brought to the model's device.

    The work is cut into pieces of the data times chunks of importance samples, and shared by all processes. Each piece
    and each chunk has random numbers of its own, so that the estimate is the same (to rounding) whoever does what,
    whenever it happens, and never changes training.
    """
    training, like = model.training, next(model.parameters())
    model.eval()
    model.prepare()
    size = -processes.most(-chunk_size(model, config))  # what all processes have room for
    rows, m = min(size, ROWS), importance_samples if model.indexed else 1
    k = max(1, size // rows)
    chunks = math.ceil(m / k)
    work, count, rank = math.ceil(len(x) / rows) * chunks, processes.count(), processes.rank()
    sums = Sums(len(x), like)
    with forked(config.eval.seed):
        for piece, mine in groupby(range(work * rank // count, work * (rank + 1) // count), lambda i: i // chunks):
            place = slice(piece * rows, (piece + 1) * rows)
            events = _events(x, place, config.eval.seed).to(like)
            torch.manual_seed(derive(config.eval.seed, piece))
            start = model.start(events)  # once for all importance samples
            for i in mine:
                torch.manual_seed(derive(config.eval.seed, piece, i % chunks + 1))
                sums.add(model.finish(start, min(k, m - i % chunks * k)), place)
    model.train(training)
    return sums.of_all_processes().estimate(m)


def _events(x: Events, place: slice, seed: int) -> Tensor:
    """The events x[place]; grey levels with noise that is a matter of the seed and of where a datum stands, alone."""
    blocks = range(place.start // NOISE_ROWS, -(-min(place.stop, len(x)) // NOISE_ROWS))
    noise, parts = torch.Generator(), []
    for block in blocks:
        noise.manual_seed(derive(seed, NOISE, block))
        parts.append(dequantize(x[block * NOISE_ROWS : (block + 1) * NOISE_ROWS], noise))
    before = place.start - blocks.start * NOISE_ROWS
    return torch.cat(parts)[before : before + place.stop - place.start]


def _summarise(estimate: Estimate, model: Model, x: Events, target: Target | None, began: float) -> dict[str, Any]:
    log_p = estimate.log_likelihood.double().cpu()
    elbo = estimate.elbo.double().cpu()
    bits = -1 / math.log(2) / math.prod(model.shape)
    result: dict[str, Any] = {
        **_mean("log_likelihood", log_p),
        **_mean("elbo", elbo),
        **_mean("gap", log_p - elbo),
        "ess": estimate.ess.double().mean().item(),
        **_mean("bits_per_dim", bits * log_p),
    }
    if target is not None:
        result |= _mean("kl_to_truth", target.log_prob(x[:].double().cpu()) - log_p)
    return {
        **result,
        "exact": model.exact,
        "importance_samples": estimate.importance_samples,
        "num_data": len(x),
        "seconds": round(time.monotonic() - began, 3),
    }


def scalars(test: Mapping[str, Any]) -> dict[str, float]:
    """What the records show of a test result: its means, and the standard errors of those that are quoted.

    `BEST` are there a second time, under "best/", a name that comes before all others: TensorBoard's page HPARAMS shows
    of many metrics only the first.
    """
    shown = measured({k: v for k, v in test.items() if k != "seconds"}, "test")
    shown |= {f"test/{k}": test[k] for k in ("log_likelihood_se", "bits_per_dim_se") if k in test}
    return shown | {f"best/{k}": test[k] for k in BEST if k in test}


def report(config: Config, test: Mapping[str, Any], of: str = "test") -> str:
    """A test result, or one of other data, as a small table for the terminal."""
    m = test["importance_samples"]
    kind = "exact" if test["exact"] else f"IWAE_{m}" if config.cif else "unbiased log-det"
    rows = [
        [f"log-likelihood ({kind})", with_error(test["log_likelihood"], test["log_likelihood_se"]), "nats"],
        ["bits per dimension", with_error(test["bits_per_dim"], test["bits_per_dim_se"]), "bits"],
    ]
    if not test["exact"]:
        rows[1:1] = [
            ["ELBO", with_error(test["elbo"], test["elbo_se"]), "nats"],
            ["gap of the bound", with_error(test["gap"], test["gap_se"]), "nats"],
            ["effective sample size", f"{test['ess']:.1f} of {m}", ""],
        ]
    if "kl_to_truth" in test:
        rows.append(["KL to the truth", with_error(test["kl_to_truth"], test["kl_to_truth_se"]), "nats"])
    for name, key in (("mass off the support", "mass_off_support"), ("coverage by the 95 % region", "coverage")):
        if key in test:
            rows.append([name, with_error(test[key], test[f"{key}_se"]), ""])
    if "bi_lipschitz" in test:
        ceiling = f" (ceiling {test['lipschitz_ceiling']:.4g})" if "lipschitz_ceiling" in test else ""
        rows.append(["bi-Lipschitz constant, at least", f"{test['bi_lipschitz']:.4g}{ceiling}", ""])
    if "pareto_k" in test:
        word = test["pareto_k_verdict"].partition(":")[0]
        rows.append(["Pareto k̂ of the weights", f"{test['pareto_k']:.2f} ({word})", ""])
    flow = f"{config.flow.family}{' with its CIF' if config.cif else ', plain'}"
    return table(rows, [f"{config.dataset.name}, {flow}", f"{of}, {test['num_data']:,} data", ""], "lrl")


def _mean(name: str, values: Tensor) -> dict[str, float]:
    std = values.std().item() if len(values) > 1 else math.nan  # one datum says nothing of the spread
    return {name: values.mean().item(), f"{name}_se": std / math.sqrt(len(values))}
