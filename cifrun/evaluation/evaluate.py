"""What a trained model is worth: log-likelihood with its standard error, the bound's gap, and KL to the truth."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..build import build_data, check_has_data, load_model
from ..cif.importance import ROWS, Estimate, Sums, accumulate, mean_and_error, pieces
from ..cif.memory import chunk_size
from ..cif.model import Model
from ..cif.modes import evaluating
from ..compute import processes
from ..compute.device import Fabric, spread
from ..compute.rng import derive, forked, seeding
from ..config.schema import Config
from ..data.base import Data, Target
from ..data.grey_levels import dequantize
from ..data.images.files import read_array
from ..data.tables.base import File
from ..data.tables.source import listed
from ..diagnostics.measure import Diagnostics
from ..diagnostics.measure import scalars as measured
from ..errors import ConfigError, RunError
from ..io.table_files import TABLES, numbered, write_table
from ..io.terminal import tell
from ..io.text import table
from ..runs.directory import RunDirectory
from ..runs.lock import alone
from ..runs.metrics import HEADLINE, NUMBERS, RESULT, estimate
from ..runs.records import Tracker
from .outputs import check_output
from .references import references

#: Data that are looked over for NaN at once.
NAN_ROWS = 2**16
#: The place of dequantisation among what `eval.seed` seeds, and how many data one of its generators serves.
NOISE, NOISE_ROWS = 2**31, 100
#: Reach of an index (`index_use.reach`), in units of z, below which it counts as unused: of a hundredth of the width of
#: a standardised coordinate, no topology is made.
UNUSED = 0.01


def evaluate(directory: Path, config: Config) -> dict[str, Any]:
    """Evaluate the best weights of a run, on its test set or on other data, and print a table.

    Arguments:
        directory: The run directory.
        config: The run's config, with the `eval` and `device` settings to use; `data` names a file to evaluate instead
            of the test set, and `per_point` one to write with a line for each datum.

    Raises:
        ConfigError: something named in the config can't be used.
        RunError: a file of the run can't be used; the file that the run was trained on has changed, and so its test
            set; the directory is a saved model, which has no test set; or a log-likelihood is no number.

    Returns:
        The means of `evaluate_split`, and for the test set the diagnostics too, if they are on. Of the test set, it is
        also written to `summary.json`, under "test", with the diagnostics that are there already, and shown in
        TensorBoard; but not while another process is at work in the directory, nor if it holds other weights by then,
        nor where nobody may write: a line on stderr says so. Of other data, it is only printed.
    """
    if config.data is None:
        check_has_data(RunDirectory(directory), config, "name a file to evaluate it on, data=FILE")
    if config.per_point is not None:
        check_output("per_point", config.per_point, TABLES, config)
    return spread(config.device, _evaluate, directory, config)


def _evaluate(fabric: Fabric, directory: Path, config: Config) -> dict[str, Any]:
    """`evaluate` in one of the processes."""
    run = RunDirectory(directory)
    weights = run.version()
    model = load_model(run, config).to(fabric.device)
    leads = fabric.is_global_zero
    if config.data is None:
        data = build_data(config)
        run.check_data(data.fingerprint)
        measure = Diagnostics(config, data) if leads else None
        estimate, result = result_of(model, data, config, measure, strict=True)
    else:
        estimate, result = evaluate_whole(model, read_other(config.data, model, config), config)
    if not leads:
        return result
    if config.per_point is not None:
        write_points(config.per_point, estimate)
    print(report(config, result, "test" if config.data is None else config.data.name))
    if config.per_point is not None:
        print(f"{len(estimate.elbo):,} rows → {config.per_point}")
    if config.data is None:
        try:
            _keep(run, result, weights)
        except RunError as error:
            tell(f"this result is not kept: {error}")
    return result


def _keep(run: RunDirectory, result: dict[str, Any], weights: object) -> None:
    """Write a test result down.

    Raises:
        RunError: It is of other weights than those that are there now, or another process is at work there, or nobody
            may write there.
    """
    with alone(run.path):
        if run.version() != weights:
            raise RunError(f"{run.path} holds other weights by now")
        run.clean()
        summary = run.summary()
        known = {name: value for name, value in summary.get("test", {}).items() if name not in result}
        run.write_summary({**summary, "test": {**result, **known}})
        with Tracker(run.path) as tracker:
            tracker.result(int(summary.get("steps", 0)), scalars(result))


def result_of(
    model: Model, data: Data, config: Config, diagnostics: Diagnostics | None, strict: bool = False
) -> tuple[Estimate, dict[str, Any]]:
    """The estimates for each datum of the test set, and what a run's test result is.

    Arguments:
        diagnostics: Measured too if they are on; None in a process that leaves them to another.
        strict: Refuse a log-likelihood that is no number; else it is told on stderr, as a trained run is worth keeping.

    Raises:
        RunError: Some log p(x) are NaN or +∞, and it is strict.
    """
    estimate, result = evaluate_split(model, data.test, config, config.eval.importance_samples, data.target)
    if problem := no_numbers(estimate, f"the {len(data.test):,} test data"):
        if strict:
            raise RunError(problem)
        if processes.rank() == 0:
            tell(problem)
    if diagnostics is not None and config.diagnostics.enabled:
        result |= diagnostics(model)
    if config.eval.references and processes.rank() == 0:
        result |= references(data, config.seed)
    return estimate, result


def no_numbers(estimate: Estimate, of: str, rows: Tensor | None = None) -> str | None:
    """A sentence if log p(x) is NaN or +∞ for some data; −∞, a density too small for its precision, is a number.

    Arguments:
        of: What the data are.
        rows: The place of each of them, from 0; without, they are numbered.
    """
    bad = (~(estimate.log_likelihood < math.inf)).nonzero().flatten().cpu()
    if not len(bad):
        return None
    first = int(bad[0] if rows is None else rows[bad[0]]) + 1
    return (
        f"log p(x) is no number for {len(bad):,} of {of}, row {first:,} first: the weights of the model, or these "
        f"data, are too large to compute with"
    )


def read_other(path: Path, model: Model, config: Config) -> Tensor:
    """Other data for the model of a run, (N, *shape): the columns that it was trained on, found by their names; of
    images, an array of grey levels.

    Says on stderr which other columns the file has. With `dataset.missing=skip`, rows with an empty cell hold NaN.

    Raises:
        ConfigError: The file lacks one of them, or can't be read.
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
        tell(f"ignored columns of {path}: {listed(others)}")
    return values.unflatten(1, model.shape)


def evaluate_whole(model: Model, x: Tensor, config: Config) -> tuple[Estimate, dict[str, Any]]:
    """`evaluate_split` of the data without NaN; the others keep their place, with NaN, and are counted as "skipped".

    Raises:
        ConfigError: All of them hold NaN.
        RunError: Some log p(x) are NaN or +∞.
    """
    m = config.eval.importance_samples
    whole = torch.ones(len(x), dtype=torch.bool)
    if x.is_floating_point():
        whole = ~torch.cat([_has_nan(part) for part in x.split(NAN_ROWS)])
    if not bool(whole.any()):
        raise ConfigError(f"{config.data} has no row without an empty cell")
    all_whole = bool(whole.all())
    found, result = evaluate_split(model, x if all_whole else x[whole], config, m)
    if problem := no_numbers(found, f"the {len(found.elbo):,} data in {config.data}", whole.nonzero().flatten()):
        raise RunError(problem)
    if all_whole:
        return found, result
    names = ("log_likelihood", "elbo", "ess")
    spread_out = {name: getattr(found, name).new_full((len(x),), math.nan) for name in names}
    for name, values in spread_out.items():
        values[whole.to(values.device)] = getattr(found, name)
    estimate = Estimate(**spread_out, importance_samples=found.importance_samples)
    return estimate, {**result, "skipped": int((~whole).sum())}


def _has_nan(x: Tensor) -> Tensor:
    """Whether each of x, (N, *shape), holds NaN, (N,)."""
    return x.flatten(1).isnan().any(1)


def write_points(path: Path, estimate: Estimate) -> None:
    """A line for each datum: its place, from 1; log p(x) and the ELBO in nats; the effective sample size."""
    numbers = {name: getattr(estimate, name).cpu().numpy() for name in ("log_likelihood", "elbo", "ess")}
    write_table(path, {"row": np.arange(1, len(estimate.elbo) + 1), **numbers})


def evaluate_split(
    model: Model, x: Tensor, config: Config, importance_samples: int, target: Target | None = None
) -> tuple[Estimate, dict[str, Any]]:
    """Log-likelihood and its companions over a split, in nats per datum; each mean with its standard error over data.

    Arguments:
        model: Set to eval mode for the time being.
        x: (N, *shape); grey levels, as uint8, are dequantised.
        importance_samples: m; a plain flow needs none, and is evaluated once.
        target: The density that x was drawn from, for KL(p* ‖ p) = E[log p*(x) − log p(x)].

    Returns:
        The estimates for each datum; and log_likelihood (exact or IWAE_m, as "exact" says), elbo, gap, ess,
        kl_to_truth, bits_per_dim, each with "…_se" where it is a mean over data; importance_samples, num_data, seconds.
    """
    began = time.monotonic()
    estimate = estimate_split(model, x, config, importance_samples)
    log_p = estimate.log_likelihood.double().cpu()
    elbo = estimate.elbo.double().cpu()
    bits = -1 / math.log(2) / math.prod(model.shape)
    result: dict[str, Any] = {
        **mean_and_error(log_p, "log_likelihood"),
        **mean_and_error(elbo, "elbo"),
        **mean_and_error(log_p - elbo, "gap"),
        "ess": estimate.ess.double().mean().item(),
        **mean_and_error(bits * log_p, "bits_per_dim"),
    }
    if target is not None:
        result |= mean_and_error(target.log_prob(x[:].double().cpu()) - log_p, "kl_to_truth")
    result |= {
        "exact": model.exact,
        "importance_samples": estimate.importance_samples,
        "num_data": len(x),
        "seconds": round(time.monotonic() - began, 3),
    }
    return estimate, result


@torch.inference_mode()
def estimate_split(model: Model, x: Tensor, config: Config, importance_samples: int) -> Estimate:
    """The estimates for each datum of x, (N, *shape), of which a piece at a time is brought to the model's device.

    All processes share the work. Each piece of it has random numbers of its own, so that the estimate is the same (to
    rounding) whoever does what, whenever it happens, and never changes training.
    """
    like, takes, seed = next(model.parameters()), model.takes, config.eval.seed
    size = -processes.most(-chunk_size(model, config.eval.chunk_size))  # what all processes have room for
    m = importance_samples if model.indexed else 1
    work = pieces(len(x), m, min(size, ROWS), size)
    count, rank = processes.count(), processes.rank()
    mine = work[len(work) * rank // count : len(work) * (rank + 1) // count]

    with evaluating(model), forked(seed):
        found = accumulate(model.log_weights(lambda rows: _events(x, rows, seed).to(takes), mine, seeding(seed), m > 1))
    blocks = {piece.block: piece.rows for piece in work}
    parts = [found.get(k) or Sums.nothing(rows.stop - rows.start, like) for k, rows in blocks.items()]
    here = Sums(*map(torch.cat, zip(*parts, strict=True)))
    log_sum, log_sum_squares = processes.log_total(here.log_sum), processes.log_total(here.log_sum_squares)
    total, correction = processes.total(here.total), processes.total(here.part_of(log_sum))
    return Sums(log_sum, log_sum_squares, total, correction).estimate(m)


def _events(x: Tensor, place: slice, seed: int) -> Tensor:
    """The events x[place]; grey levels with noise that is a matter of the seed and of where a datum stands, alone."""
    blocks = range(place.start // NOISE_ROWS, -(-min(place.stop, len(x)) // NOISE_ROWS))
    noise, parts = torch.Generator(), []
    for block in blocks:
        noise.manual_seed(derive(seed, NOISE, block))
        parts.append(dequantize(x[block * NOISE_ROWS : (block + 1) * NOISE_ROWS], noise))
    before = place.start - blocks.start * NOISE_ROWS
    return torch.cat(parts)[before : before + place.stop - place.start]


def scalars(test: Mapping[str, Any]) -> dict[str, float]:
    """What the records show of a test result: its means, and the standard errors of those that are quoted.

    The first of them is there a second time, under "best/", a name that comes before all others: TensorBoard's page
    HPARAMS shows only the first of many metrics.
    """
    shown = measured({k: v for k, v in test.items() if k != "seconds"}, "test")
    errors = (f"{metric.name}_se" for metric in NUMBERS if metric.quoted)
    shown |= {f"test/{name}": test[name] for name in errors if name in test}
    return shown | {f"best/{HEADLINE[0]}": test[HEADLINE[0]]}


def report(config: Config, test: Mapping[str, Any], of: str = "test") -> str:
    """A test result, or one of other data, as a small table for the terminal; and a sentence if the index is unused."""
    exact = test["exact"]
    kind = estimate(exact, config.cif, test["importance_samples"]).replace("unbiased", "unbiased log-det")
    shown = ((m, row) for m, row in RESULT if m.name in test and not (exact and row.estimated))
    rows = [[row.label.format(kind=kind), m.told(test), m.unit] for m, row in shown]
    data = f"{of}, {test['num_data']:,} data{skipped(test)}"
    told = table(rows, [f"{config.dataset.name}, {config.flow_name}", data, ""], "lrl")
    reach = max((row["reach"] for row in test.get("index_reach", ())), default=None)
    if reach is None or not reach < UNUSED:
        return told
    return (
        f"{told}\nthe index is hardly used: u moves a coordinate by {reach:.2g} at most, at any step, so that this is "
        f"about the plain flow"
    )


def skipped(test: Mapping[str, Any]) -> str:
    """How many data had no score, for the head of a table; nothing if all had one."""
    return f", {test['skipped']:,} skipped" if "skipped" in test else ""
