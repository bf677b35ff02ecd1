"""The end of a run: its best weights are tested and drawn, and what came of it is written down."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..cif.model import Model
from ..compute import processes
from ..config.schema import Config
from ..data.base import Data
from ..diagnostics.measure import Diagnostics
from ..evaluation.evaluate import estimate_split, evaluate_split, result_of, scalars
from ..figures.run import draw, draw_diagnostics, title_of
from ..figures.style import save_twice
from ..figures.training import Film, training_figure
from ..io.terminal import tell
from ..runs.directory import RunDirectory
from ..runs.metrics import HPARAMS, NUMBERS, kinds
from ..runs.records import Silent, Tracker
from ..runs.unwritten import Unwritten
from .summary import hyperparameters, summarise
from .training_state import TrainingState

#: The number that says which weights are best.
VALID = "valid/log_likelihood"


def validate(model: Model, data: Data, config: Config) -> dict[str, float]:
    """What is logged of the validation data."""
    _, valid = evaluate_split(model, data.valid, config, config.eval.valid_importance_samples)
    mine = kinds(cif=config.cif, target=data.target is not None, images=bool(data.levels))
    return {f"valid/{m.name}": valid[m.name] for m in NUMBERS if m.valid and m.fits(mine)}


def finish(
    run: RunDirectory | Unwritten,
    config: Config,
    data: Data,
    model: Model,
    state: TrainingState,
    diagnostics: Diagnostics,
) -> dict[str, Any]:
    """Test the best weights, draw them, and write down how the run ended.

    Arguments:
        model: With the last weights. They are validated too, where the last step was none of validation, and count as
            "final" if they are the best; so does what the run began with, where training brought too little. What a
            longer run does does not depend on that.
    """

    def say(what: str) -> None:
        if run.writes and config.trainer.progress:
            print(what, file=sys.stderr, flush=True)

    last: dict[str, float] = {}
    if state.step % config.trainer.valid_every:
        say("validating the last weights")
        last = validate(model, data, config)
        copy = replace(state)
        if copy.improves(last[VALID]):
            run.save_checkpoint("final", copy.checkpoint(model))
            state = copy
    processes.barrier()  # the checkpoints are written
    tag, best = run.load_best()
    best.load_model(model, str(run.checkpoint_path(tag)))
    if run.has_checkpoint("start") and not _worth_it(run, config, data, model):
        say("on validation, training is not ahead of what it began with by a standard error: that is kept")
        state = replace(state, best_valid=run.load_checkpoint("start").state["best_valid"])
    status = "completed" if state.step >= config.trainer.max_steps else "stopped_early"
    if not len(data.test):
        return summarise(config, model, state, status)
    say(f"testing on {len(data.test):,} data" + ", and diagnosing" * config.diagnostics.enabled)
    _, test = result_of(model, data, config, diagnostics if run.writes else None)
    if not run.writes:
        return {}
    summary = {**summarise(config, model, state, status), "test": test}
    if isinstance(run, Unwritten):
        return summary
    with run.tracker() as tracker:
        tracker.result(state.step, {**last, **scalars(test)})
        tracker.hparams(hyperparameters(config), {f"test/{name}": test[name] for name in HPARAMS})
        run.write_summary(summary)
        say("drawing")
        try:
            _draw(run, config, data, model, state.step, test, tracker)
        except Exception as error:  # whatever a library has against it: a picture is no reason to lose the run
            tell(f"pictures are missing: {' '.join(str(error).split())}")
    return summary


def _worth_it(run: RunDirectory | Unwritten, config: Config, data: Data, model: Model) -> bool:
    """Whether the best weights, which the model has, beat those it began with by the one-standard-error rule.

    Of two models whose validation log-likelihoods differ by less than the standard error of their mean difference, the
    simpler is kept: what was fitted before training (Breiman et al., "Classification and regression trees", 1984,
    section 3.4.3). If it is, the model has it, as the checkpoint "final".
    """

    def validated() -> Tensor:
        return estimate_split(model, data.valid, config, config.eval.valid_importance_samples).log_likelihood.double()

    start, (tag, best) = run.load_checkpoint("start"), run.load_best()
    if best.state["step"] == start.state["step"]:
        return False
    trained = validated()
    start.load_model(model, str(run.checkpoint_path("start")))
    gain = trained - validated()
    if gain.mean() > gain.std() / math.sqrt(len(gain)):
        best.load_model(model, str(run.checkpoint_path(tag)))
        return True
    run.save_checkpoint("final", start)
    processes.barrier()
    return False


def _draw(
    run: RunDirectory,
    config: Config,
    data: Data,
    model: Model,
    step: int,
    test: Mapping[str, Any],
    tracker: Tracker | Silent,
) -> None:
    """All pictures of a run that has ended, into `figures/` and TensorBoard; its film and its curves too."""
    pictures, titles = {"figures": draw(model, data, config)}, config.trainer.pdf_titles
    if config.diagnostics.enabled:
        pictures["figures of diagnostics"] = draw_diagnostics(model, data, config, test)
    for group, drawn in pictures.items():
        for name, figure in drawn:
            png = save_twice(figure, run.figures / f"{name}.png", pdf_title=titles)
            tracker.image(step, f"{group}/{name}", png)
    if gif := Film(run.figures).write(run.figures / "density.gif", step):
        tracker.image(step, "figures/density over training", gif)
    truth = None if data.target is None else data.target.log_prob(data.test.double()).mean().item()
    curves = training_figure(run.metrics(), title_of(config), truth=truth)
    save_twice(curves, run.figures / "training.png", pdf_title=titles)
