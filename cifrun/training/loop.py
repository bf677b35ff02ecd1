"""Training: one loop that reads from top to bottom, and whatever it needs to be killed and continued bit for bit.

    for each step:  batch → log w → objective → gradient → update → log → validate → checkpoint

What the next step depends on is in `checkpoints/latest`: weights, optimiser, generators, counters. The order of the
data is a function of the seed and the step alone. Validation draws from its own generator, so that it never changes
training.
"""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
import yaml

from ..build import build_data, build_model, build_standardize, check_has_data, facts_of, saved_first_step, warm_start
from ..cif.model import Model
from ..compute import processes, rng
from ..compute.device import Fabric, spread
from ..compute.launch_env import started
from ..config.schema import Config, to_dict
from ..data.base import Data
from ..data.loader import Loader
from ..diagnostics.measure import Diagnostics
from ..diagnostics.measure import scalars as measured
from ..errors import CifrunError, ConfigError, RunError, TrainingError
from ..evaluation.evaluate import report
from ..figures.run import draw, title_of
from ..figures.style import rendered
from ..figures.training import Film
from ..io.terminal import tell
from ..runs.directory import DONE, RunDirectory
from ..runs.lock import alone
from ..runs.progress import Progress
from ..runs.unwritten import Unwritten
from .base_fit import fit_base
from .clock import Clock
from .ending import VALID, finish, validate
from .schedule import learning_rate
from .signals import stop_requests
from .step import Update
from .summary import hyperparameters, summarise
from .training_state import TrainingState


def train(config: Config, directory: Path, resume: bool = False) -> dict[str, Any]:
    """Train the model that `config` describes in a run directory, test its best weights, and print the result.

    Arguments:
        config: What to train.
        directory: Where the run's files go.
        resume: Go on from its `checkpoints/latest`; from the start, if it was killed before there was one.

    Returns:
        The content of `summary.json`.

    Raises:
        ConfigError: Something named in the config can't be used.
        RunError: A file of the run can't be used, or another process is at work in the directory.
        TrainingError: Too many losses in a row were not finite; the last good checkpoint is kept.
        KeyboardInterrupt: Ctrl-C, SIGTERM, SIGUSR1 or SIGUSR2; the state was saved, and a sentence says how to go on.
    """
    process = started()
    leads = process is None or process.rank == 0
    with alone(directory) if leads else nullcontext():
        if leads and not resume:
            RunDirectory(directory).check_free()  # here, where nobody else can begin one
        return spread(config.device, _train, config, directory, resume)


def _train(fabric: Fabric, config: Config, directory: Path, resume: bool) -> dict[str, Any]:
    """`train` in one of the processes; all of them go the same way, and the one of rank 0 keeps the records."""
    run = RunDirectory(fabric.broadcast(directory), writes=fabric.is_global_zero)
    with stop_requests(at_once=True):
        try:
            resume = resume and not run.unbegun()
            if resume:  # whatever today's default is, a run keeps its first step
                check_has_data(run, config, "train it from Python, with cifrun.load and cifrun.fit")
                run.check_places()
                first = saved_first_step(run)
            rng.seed_all(config.seed)
            data = build_data(config)
            if resume:
                run.check_data(data.fingerprint)
            first = first if resume else build_standardize(config, data)
            model = build_model(config, data.shape, first)
            if config.warm_start is not None and not resume:
                warm_start(model, config.warm_start, first, data.columns)
        except KeyboardInterrupt:
            if run.writes:
                tell("stopped before the first step")
            raise

    def of_the_data(sentence: str) -> None:
        tell(f"dataset '{config.dataset.name}': {sentence}")

    if run.writes and config.trainer.progress:
        count = sum(p.numel() for p in model.parameters())
        what = f"{title_of(config)}, {count:,} parameters, on {fabric.device}"
        print(f"{what}\nwatch it with: tensorboard --logdir {shlex.quote(str(run.path))}", file=sys.stderr)
    summary = optimise(fabric, config, run, data, model, resume, of_the_data)
    with stop_requests():  # what there is to say is said
        if run.writes:
            print(report(config, summary["test"]))
            print(f"run directory: {run.path}\npictures:      {run.figures}")
    return summary


def optimise(
    fabric: Fabric,
    config: Config,
    run: RunDirectory | Unwritten,
    data: Data,
    model: Model,
    resume: bool,
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """Train a model on data, and test its best weights, which it then has; the summary.

    Arguments:
        fabric: Device and precision.
        config: How to train, evaluate and measure.
        run: Where what is kept goes: to a directory, or nowhere.
        data: The three splits. Where there are no test data, nothing is tested.
        model: On the CPU; its weights are where training begins, unless it resumes.
        resume: Go on from the checkpoint "latest" of `run`.
        warn: Is called with each sentence that says what is wrong with the data, once a run.

    Raises:
        RunError, TrainingError, KeyboardInterrupt: as `train`.
    """
    # Set up; for a continued run, everything from its checkpoint.
    options, leads = config.trainer, fabric.is_global_zero
    began = Clock(0.0)
    if not resume:
        fit_base(model, data, config)
    loader = Loader(data, options, config.seed, fabric.device)
    update = Update(model, config, fabric, loader)
    diagnostics = Diagnostics(config, data)
    if resume:
        run.check_data(data.fingerprint)
        origin = str(run.checkpoint_path("latest"))
        state = TrainingState.restore(run.load_checkpoint("latest"), model, update.optimizer, origin, update.averages)
        update.start_from(state)
        if options.max_steps < state.step:
            raise ConfigError(
                f"trainer.max_steps = {options.max_steps} is not allowed: the run has done {state.step} steps, and can "
                f"only grow"
            )
        run.load_best()  # what the end needs is there
        run.create(config)
        if not state.finished(options):
            run.drop_checkpoint("final")
    else:
        state = TrainingState(**vars(facts_of(model, data)), wall_seconds=began.total())
        for sentence in state.warnings if leads else ():
            warn(sentence)
        run.create(config)
        run.save_checkpoint("latest", update.checkpoint(state))
    run.write_summary(summarise(config, model, state, "running"))

    progress = Progress(options.max_steps, initial=state.step, enabled=options.progress and leads)
    pictures = leads and run.figures is not None
    film = Film(run.figures) if run.figures else None
    with (
        _failure(run, config, model, state),
        run.tracker(state.step if resume else None, diagnostics.absent()) as tracker,
        progress,
        stop_requests() as stop_requested,
    ):
        tracker.text("config", textwrap.indent(yaml.safe_dump(to_dict(config), sort_keys=False), "    "))
        tracker.hparams(hyperparameters(config), {})
        fitted = config.warm_start is not None or model.base.fitted
        if fitted and state.step == 0:  # what it begins with may be the best there will be
            valid = validate(model, data, config)
            tracker.scalars(0, valid)
            if state.improves(valid[VALID]):
                run.save_checkpoint("start", state.checkpoint(model))
                run.save_checkpoint("best", state.checkpoint(model))
        clock = Clock(state.wall_seconds)
        while not state.finished(options):
            # One update: a batch, its log-weights, the objective and its gradient.
            lr = learning_rate(config.optimizer, state.step, options.max_steps, state.cuts)
            outcome = update(loader.indices(state.step), lr)
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
                    raise TrainingError(
                        f"the loss was not finite for {state.bad_steps} steps in a row, up to step {state.step}; "
                        f"the last good checkpoint is kept in {run.checkpoint_path('latest')}; "
                        f"a smaller optimizer.lr or an optimizer.max_grad_norm may help"
                    )
            validates = state.step % options.valid_every == 0
            draws = pictures and options.plot_every > 0 and state.step % options.plot_every == 0
            diagnoses = leads and diagnostics.due(state.step)
            if validates or draws or diagnoses:
                with clock.paused(), update.averages.used():
                    if validates:
                        valid = validate(model, data, config)
                        tracker.scalars(state.step, valid)
                        progress.update(state.step, valid=valid[VALID])
                        if state.improves(valid[VALID]):
                            run.save_checkpoint("best", state.checkpoint(model))
                        state.lowers(config.optimizer)
                    if draws:
                        for name, figure in draw(model, data, config, state.step):
                            png = rendered(figure)
                            tracker.image(state.step, f"figures/{name}", png)
                            if film and name == "density":
                                film.add(state.step, png)
                    if diagnoses:
                        tracker.scalars(state.step, measured(diagnostics(model), "diagnostics"))
            state.wall_seconds = clock.total()

            # Processes must agree to stop, and have time for that when they log.
            stopping = (logs or processes.count() == 1) and processes.agree(stop_requested())
            last = state.finished(options)
            if stopping or last or state.step % options.checkpoint_every == 0:
                update.count(state)
                if state.bad_steps == 0:
                    run.save_checkpoint("latest", update.checkpoint(state))
            if stopping and not last:
                progress.close()
                if leads:
                    print(f"stopped at step {state.step} of {options.max_steps}{run.how_to_go_on()}", file=sys.stderr)
                processes.barrier()
                raise KeyboardInterrupt
        progress.close()
    with _failure(run, config, model, state), stop_requests(at_once=True):
        try:
            update.averages.exchange()
            return finish(run, config, data, model, state, diagnostics)
        except KeyboardInterrupt:
            done = run.summary().get("status") in DONE
            if leads:
                what = "while it drew: pictures are missing" if done else "before the end of the test"
                print(f"stopped {what}{run.how_to_go_on()}", file=sys.stderr)
            raise


@contextmanager
def _failure(run: RunDirectory | Unwritten, config: Config, model: Model, state: TrainingState) -> Iterator[None]:
    """An error inside, whatever it is, leaves a run that failed, with a sentence on it; a request to stop leaves one
    that was interrupted.
    """

    def end(status: str, error: str | None = None) -> None:
        with suppress(RunError):  # as on a full disk
            if run.summary().get("status") not in DONE:  # in which case it has its test result, and lacks pictures
                run.write_summary(summarise(config, model, state, status, error))

    try:
        yield
    except KeyboardInterrupt:
        end("interrupted")
        raise
    except Exception as error:
        kind = "" if isinstance(error, CifrunError) else f"{type(error).__name__}: "
        end("failed", f"{kind}{' '.join(str(error).split())}")
        raise
