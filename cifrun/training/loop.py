"""Training: one loop that reads from top to bottom, and whatever it needs to be killed and continued bit for bit.

    for each step:  batch → log w → objective → gradient → update → log → validate → checkpoint

What the next step depends on is in `checkpoints/latest`: weights, optimiser, generators, counters. The order of the
data is a function of the seed and the step alone. Validation draws from its own generator, so that it never changes
training.
"""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric import Fabric
from torch import Tensor

from .. import __version__
from ..build import build_data, build_model, build_standardize, kind_of
from ..cif.model import Model
from ..compute import processes, rng
from ..compute.device import send, spread
from ..compute.slurm import STOPS, hand_on
from ..config.schema import Config, to_dict
from ..data.base import Data, dequantize
from ..diagnostics import Diagnostics
from ..diagnostics import scalars as measured
from ..errors import TrainingError
from ..evaluation.evaluate import evaluate_split, report, scalars
from ..figures import plots
from ..figures.of_run import Film, draw, draw_diagnostics, title_of
from ..runs.directory import RunDirectory
from ..runs.records import METRICS, Progress, Silent, Tracker, read_metrics
from .optim import learning_rate
from .state import Batches, TrainingState
from .step import Update

__all__ = ["train"]

#: Bytes of training data that are put on the device as a whole.
RESIDENT = 2 * 2**30


def train(config: Config, directory: Path, resume: bool = False) -> dict[str, Any]:
    """Train the model that `config` describes in a run directory, test its best weights, and return the summary.

    Arguments:
        config: What to train.
        directory: Where the run's files go.
        resume: Go on from `checkpoints/latest` of that directory.

    Errors:
        ConfigError, RunError: something named in the config, or a file of the run, can't be used.
        TrainingError: too many losses in a row were not finite; the last good checkpoint is kept.
        KeyboardInterrupt: Ctrl-C, SIGTERM, SIGUSR1 or SIGUSR2; the state was saved, and a sentence says how to go on.
    """
    return spread(config.device, _train, config, directory, resume)


def _train(fabric: Fabric, config: Config, directory: Path, resume: bool) -> dict[str, Any]:
    """`train` in one of the processes; all of them go the same way, and the one of rank 0 keeps the records."""
    # Set up: everything from the config, then, for a continued run, everything from its checkpoint.
    directory = fabric.broadcast(directory)
    options, leads = config.trainer, fabric.is_global_zero
    run = RunDirectory(directory, writes=leads)
    rng.seed_all(config.seed)
    data = build_data(config)
    standardize = build_standardize(config, data)
    model = build_model(config, data.shape, standardize)
    # What is larger stays where it is, perhaps on disk, and only batches travel.
    resident = data.train.to(fabric.device) if data.train.nbytes <= RESIDENT else None
    batches = Batches.of(data.train, options, config.seed)

    def fetch(rows: Tensor) -> Tensor:
        return send(rows if resident is not None else data.train[rows], fabric.device)

    def events(fetched: Tensor) -> Tensor:
        return dequantize(fetched if resident is None else resident[fetched])

    update = Update(model, config, fabric, fetch, events)
    diagnostics = Diagnostics(config, data)
    if resume:
        run.check_data(data.fingerprint)
        state = TrainingState.restore(
            run.load_checkpoint("latest"), model, update.optimizer, str(run.checkpoint_path("latest"))
        )
        update.start_from(state)
        run.write_config(config)
    else:
        state = TrainingState(
            shape=list(data.shape),
            standardized=kind_of(standardize),
            columns=list(data.columns),
            levels=data.levels,
            fingerprint=data.fingerprint,
        )
        run.create(config)
        run.save_checkpoint("latest", state.checkpoint(model, update.optimizer))
    run.write_summary(_summary(config, model, state, "running"))

    film = Film(run.figures)
    absent = diagnostics.absent()
    tracker = Tracker(directory, resume_from=state.step if resume else None, absent=absent) if leads else Silent()
    progress = Progress(options.max_steps, initial=state.step, enabled=options.progress and leads)
    with tracker, progress, _stop_requests() as stop_requested:
        tracker.text("config", f"```yaml\n{yaml.safe_dump(to_dict(config), sort_keys=False)}```")
        tracker.hparams(_hparams(config), {})
        clock = _Clock(state.wall_seconds)
        while not state.finished(options):
            # One update: a batch, its log-weights, the objective and its gradient.
            lr = learning_rate(config.optimizer, state.step, options.max_steps)
            outcome = update(batches.indices(state.step), lr)
            state.step += 1
            clock.tick()

            # What is due after this step, each at its own pace; until something is, nobody waits for the device.
            progress.update(state.step)
            logs = state.finished(options) or state.step % options.log_every == 0
            if logs:
                update.count(state)
                loss, elbo, norm = torch.stack(outcome).tolist()
                progress.update(state.step, loss)
                rates = {"train/grad_norm": norm, "train/lr": lr, "train/step_seconds": clock.step_seconds()}
                costs = {f"train/{name}": value for name, value in model.statistics().items()}
                counts = {"train/skipped_steps": state.skipped}
                tracker.scalars(state.step, {"train/loss": loss, "train/elbo": elbo, **rates, **costs, **counts})
                if state.bad_steps >= options.max_bad_steps:
                    run.write_summary(_summary(config, model, state, "failed"))
                    raise TrainingError(
                        f"the loss was not finite for {state.bad_steps} steps in a row, up to step {state.step}; "
                        f"the last good checkpoint is kept in {run.checkpoint_path('latest')}; "
                        f"a smaller optimizer.lr or an optimizer.max_grad_norm may help"
                    )
            with clock.paused():
                if state.step % options.valid_every == 0:
                    valid = evaluate_split(model, data.valid, config, config.eval.valid_importance_samples)
                    shown = ["log_likelihood", "elbo", "ess", *(["bits_per_dim"] if data.levels else [])]
                    tracker.scalars(state.step, {f"valid/{k}": valid[k] for k in shown})
                    progress.update(state.step, valid=valid["log_likelihood"])
                    if state.improves(valid["log_likelihood"]):
                        run.save_checkpoint("best", state.checkpoint(model))
                if leads and options.plot_every and state.step % options.plot_every == 0:
                    for name, figure in draw(model, data, config, state.step):
                        tracker.figure(state.step, f"figures/{name}", figure)
                        if name == "density":
                            film.add(state.step, figure)
                if leads and diagnostics.due(state.step):
                    tracker.scalars(state.step, measured(diagnostics(model), "diagnostics"))
            state.wall_seconds = clock.total()
            # Processes must agree to stop, and have time for that when they log.
            stopping = (logs or processes.count() == 1) and processes.agree(stop_requested())
            last = state.finished(options)
            if stopping or last or state.step % options.checkpoint_every == 0:
                update.count(state)
                if state.bad_steps == 0:
                    run.save_checkpoint("latest", state.checkpoint(model, update.optimizer))
            if stopping and not last:
                run.write_summary(_summary(config, model, state, "interrupted"))
                progress.close()
                if leads:
                    print(f"stopped at step {state.step} of {options.max_steps}; all is saved", file=sys.stderr)
                    print(f"go on with: cifrun train resume={directory}", file=sys.stderr)
                processes.barrier()
                raise KeyboardInterrupt
        progress.close()
    return _finish(run, config, data, model, state, diagnostics)


def _finish(
    run: RunDirectory, config: Config, data: Data, model: Model, state: TrainingState, diagnostics: Diagnostics
) -> dict[str, Any]:
    """Test the best weights, draw them, and write down how the run ended."""
    processes.barrier()  # the checkpoints are written
    tag = "best" if run.checkpoint_path("best").is_file() else "latest"
    run.load_checkpoint(tag).load_model(model, str(run.checkpoint_path(tag)))
    test = evaluate_split(model, data.test, config, config.eval.importance_samples, data.target)
    if not run.writes:
        return {}
    if config.diagnostics.enabled:
        test |= diagnostics(model)
    with Tracker(run.path) as tracker:
        tracker.result(state.step, scalars(test))
        pictures = {"figures": draw(model, data, config)}
        if config.diagnostics.enabled:
            pictures["figures of diagnostics"] = draw_diagnostics(model, data, config, test)
        for group, drawn in pictures.items():
            for name, figure in drawn:
                tracker.figure(state.step, f"{group}/{name}", figure)
                for ending in ("png", "pdf"):
                    plots.save(figure, run.figures / f"{name}.{ending}")
        if gif := Film(run.figures).write(run.figures / "density.gif", state.step):
            tracker.image(state.step, "figures/density over training", gif)
        truth = None if data.target is None else data.target.log_prob(data.test[:].double()).mean().item()
        curves = plots.curves_figure(read_metrics(run.path / METRICS), title_of(config), truth=truth)
        for ending in ("png", "pdf"):
            plots.save(curves, run.figures / f"training.{ending}")
        tracker.hparams(_hparams(config), {"test/log_likelihood": test["log_likelihood"], "test/elbo": test["elbo"]})
    status = "completed" if state.step >= config.trainer.max_steps else "stopped_early"
    summary = {**_summary(config, model, state, status), "test": test}
    run.write_summary(summary)
    print(report(config, test))
    print(f"run directory: {run.path}\npictures:      {run.figures}")
    return summary


# --- what the loop leans on -------------------------------------------------------------------------------------------


class _Clock:
    """Seconds of training, and seconds a step without the time that evaluation and pictures take."""

    def __init__(self, spent: float) -> None:
        self._start = time.monotonic() - spent
        self._since, self._steps = time.monotonic(), 0

    def tick(self) -> None:
        self._steps += 1

    def step_seconds(self) -> float:
        """Mean since the last call."""
        now = time.monotonic()
        mean = (now - self._since) / max(1, self._steps)
        self._since, self._steps = now, 0
        return mean

    def total(self) -> float:
        return round(time.monotonic() - self._start, 3)

    @contextmanager
    def paused(self) -> Iterator[None]:
        before = time.monotonic()
        yield
        self._since += time.monotonic() - before


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Inside, a first signal only asks for a stop after the present step; a second Ctrl-C stops at once.

    What handled the signal before, as the queue of a cluster does, is told of it when all is saved.
    """
    requested: signal.Signals | None = None

    def ask(number: int, _: object) -> None:
        nonlocal requested
        requested = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        for number in before:
            signal.signal(number, ask)
    except ValueError:  # not the main thread: whoever owns the process handles its signals
        yield lambda: False
        return
    try:
        yield lambda: requested is not None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if requested is not None:
            hand_on(requested, before[requested])


def _summary(config: Config, model: Model, state: TrainingState, status: str) -> dict[str, Any]:
    return {
        "status": status,
        "dataset": config.dataset.name,
        "data_fingerprint": state.fingerprint,
        "flow": config.flow.family,
        "cif": config.cif,
        "seed": config.seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": state.step,
        "skipped_steps": state.skipped,
        "best_valid_log_likelihood": state.best_valid,
        "wall_seconds": state.wall_seconds,
        "device": _device(model),
        "versions": {"cifrun": __version__, "python": platform.python_version(), "torch": torch.__version__},
        "git_commit": _git_commit(),
    }


def _device(model: Model) -> str:
    """What the numbers are computed on: the name of the GPU, or "cpu"."""
    device = next(model.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _git_commit() -> str | None:
    """The commit of the source that runs, when it runs from its own git checkout."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # not a copy installed inside another checkout
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None


def _hparams(config: Config) -> dict[str, bool | int | float | str]:
    """The config as dotted keys with plain values, without what belongs to other commands."""

    def flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        for key, value in data.items():
            if isinstance(value, Mapping):
                yield from flatten(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value if isinstance(value, (bool, int, float)) else str(value)

    keep = ("dataset", "flow", "cif", "index", "objective", "optimizer", "seed", "trainer")
    return dict(flatten({key: value for key, value in to_dict(config).items() if key in keep}))
