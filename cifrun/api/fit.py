"""Train a model on data in memory, by the loop of the command line.

```python
history = cifrun.fit(model, x, valid=0.1, steps=2000)
history.best_valid  # nats
steps, values = history.curve("valid/log_likelihood")
```
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..build import build_standardize, check_has_data, dataset_of
from ..compute.device import launch
from ..config.fields import Role
from ..config.roles import differing, flattened
from ..config.schema import Config, to_dict
from ..data.base import Data
from ..data.checks import check_data
from ..data.precision import loses
from ..errors import ConfigError, DataWarning, RunError, TrainingError
from ..io.files import fingerprint, is_there, writing
from ..io.table_files import numbered, write_table
from ..runs.directory import RunDirectory
from ..runs.lock import alone
from ..runs.unwritten import Unwritten
from ..training.loop import optimise
from .arguments import checked_seed, short, whole
from .commands import composed
from .flows import Flow
from .frames import names_of
from .process import as_it_was, outside

__all__ = ["History", "fit"]

#: What may differ between a fit and the run in its directory.
NOT_TRAINED = (Role.EXECUTION, Role.COMMAND, Role.MEASUREMENT, Role.LENGTH)

#: The groups whose settings `fit` takes.
CHANGEABLE = ("trainer", "optimizer", "objective", "eval", "diagnostics", "device")
#: The file of a run's own directory that its data are in, and the words of its split column.
DATA, SPLITS = "data.parquet", ("train", "valid", "test")


@dataclass(frozen=True)
class History:
    """How a training went.

    Attributes:
        rows: {"step": …, name: number, …} in order, as in `metrics.jsonl`; `docs/metrics.md` says what they are.
        summary: The content of `summary.json`: status, steps, seconds, and under "test" the test result, if there is
            one.
    """

    rows: list[dict[str, Any]]
    summary: dict[str, Any]

    @property
    def best_valid(self) -> float | None:
        """The best mean log-likelihood of the validation data, that of the weights that the model has now, in nats."""
        return self.summary["best_valid_log_likelihood"]

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The steps at which a number was logged, and its values: both (n,).

        Raises:
            KeyError: No such number was logged.
        """
        found = [(row["step"], row[name]) for row in self.rows if row.get(name) is not None]
        if not found:
            known = sorted({key for row in self.rows for key in row} - {"step", "time"})
            raise KeyError(f"'{name}' was not logged; there are {', '.join(known)}")
        steps, values = zip(*found, strict=True)
        return np.array(steps), np.array(values)


def fit(
    model: Flow,
    x: Any,
    *,
    valid: float | Any = 0.1,
    test: float | Any | None = None,
    steps: int = 1000,
    batch_size: int = 1000,
    lr: float | None = None,
    patience: int = 0,
    objective: str = "elbo",
    optimizer: str = "muon",
    standardize: bool | Literal["auto", "whiten"] = True,
    seed: int | None = None,
    device: str = "auto",
    progress: bool = False,
    directory: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> History:
    """Train a model in place; afterwards it has the weights that were best on the validation data, in eval mode.

    Training is in single precision, or as `device.precision` says. The global random state is as before afterwards, and
    the same call gives the same model, bit for bit on a CPU. Nothing is printed: the result is in the history.

    Data whose density can grow without limit, or can't be learned, bring a `DataWarning` for each thing about them; it
    is in `history.summary["data_warnings"]` too.

    With a `directory` it leaves a whole run there, its data too: `cifrun eval`, `sample`, `report` and `train resume=`
    take it. The same call with the same directory goes on with a run that was stopped.

    Arguments:
        model: Of `cifrun.Flow` or `cifrun.CIF`.
        x: Data, (N, *shape): a tensor, a numpy array, or a data frame of numbers.
        valid: The share of x that is held out for validation, or validation data of their own.
        test: The same for a test after training; None is 0.1 with a directory, and without one nothing.
        steps: Optimiser steps, at most.
        batch_size: Data a step, at most the training set.
        lr: Learning rate; None is the optimiser's own.
        patience: Stop after this many validations without improvement; 0 never does.
        objective: Name of a registered objective, "elbo", "iwae" or "rws", with its defaults, as in `objective=NAME`.
        optimizer: Name of a registered optimiser, with its defaults, as in `optimizer=NAME`.
        standardize: Whether the model first brings each coordinate to mean 0 and standard deviation 1: True, False,
            "auto" (if a scale is far from that), or "whiten" (and takes out correlations). A model keeps what its first
            training chose.
        seed: Of the split, the order of the data and every draw; by default the model's.
        device: "auto", "cpu" or "gpu".
        progress: Whether to show a progress bar on stderr.
        directory: Where to leave a run.
        settings: More settings, by the dotted names of the command line: {"optimizer.schedule": "cosine"}.

    Raises:
        ConfigError: A setting is not allowed, or no density can be learned from the data; the sentence says why.
        TypeError: The model is none of `cifrun.Flow` or `cifrun.CIF`.
        ValueError: x is of another shape than the model's events, or a count or the seed is no whole number.
        RunError: The directory holds another run, or another process is at work there.
        TrainingError: Too many losses in a row were not finite; the model has the last good weights.
        KeyboardInterrupt: Ctrl-C; the model has the last weights that were kept.

    Example:
        >>> import cifrun, torch
        >>> model = cifrun.Flow("realnvp", dim=2, depth=2)
        >>> history = cifrun.fit(model, torch.randn(500, 2), steps=20)
        >>> history.summary["status"]
        'completed'
    """
    if not isinstance(model, Flow):
        raise TypeError(f"model is a {type(model).__name__}, where a cifrun.Flow or cifrun.CIF belongs: fit(model, x)")
    steps, batch_size, patience = whole("steps", steps), whole("batch_size", batch_size), whole("patience", patience, 0)
    seed, held_out = checked_seed(seed), 0.0 if directory is None else 0.1
    if hasattr(x, "columns") and not model.columns:
        model.columns = names_of(x)
    splits = _split(model, x, valid, held_out if test is None else test, model.config.seed if seed is None else seed)
    _check_range(splits)
    model.float()
    double = model.takes.dtype == torch.float64 if model.trained else bool(standardize) and loses(splits[0])
    if not double:
        splits = [split.float() for split in splits]
    for name in settings or {}:
        if str(name).partition(".")[0] not in CHANGEABLE:
            raise ConfigError(f"'{name}' is no setting of training: fit takes those of {', '.join(CHANGEABLE)}")
    chosen = composed(f"objective={objective}", f"optimizer={optimizer}")
    asked = {
        "seed": seed,
        "trainer.max_steps": steps,
        "trainer.valid_every": min(model.config.trainer.valid_every, max(1, steps // 10)),
        "trainer.batch_size": batch_size,
        "trainer.patience": patience,
        "trainer.progress": progress,
        "optimizer.lr": lr,
        "dataset.standardize": standardize,
        "device.accelerator": device,
    }
    config = _configured(
        model.config,
        {
            **flattened({"objective": to_dict(chosen.objective), "optimizer": to_dict(chosen.optimizer)}),
            **{name: value for name, value in asked.items() if value is not None},
            **(settings or {}),
        },
    )
    if config.device.count > 1 or config.device.nodes > 1:
        raise ConfigError("device.count and device.nodes are for the command line: fit trains on one device")
    if directory is None:
        config = replace(config, diagnostics=replace(config.diagnostics, enabled=False))
        return _train(model, config, Unwritten(), _data(splits, model.columns), False)
    run = RunDirectory(Path(directory).absolute())
    with alone(run.path):
        return _train(model, *_in_directory(run, config, splits, model))


def _train(model: Flow, config: Config, run: RunDirectory | Unwritten, data: Data, resume: bool) -> History:
    """`fit` where all is known: the run and its data, and whether it goes on."""
    if not model.trained:
        model.standardize(build_standardize(config, data))
    model.config, model.trained = config, True
    if not any(p.requires_grad for p in model.parameters()):  # as it was loaded; who freezes a part leaves another
        model.requires_grad_()
    with as_it_was(config.seed):
        try:
            summary = optimise(launch(config.device), config, run, data, model, resume, _warn)
        except (TrainingError, KeyboardInterrupt):  # the last good weights, and not those of a step that broke
            run.load_checkpoint("latest").load_model(model, str(run.checkpoint_path("latest")))
            raise
        finally:
            model.eval()
    return History(run.metrics(), summary)


def _warn(sentence: str) -> None:
    warnings.warn(sentence, DataWarning, stacklevel=outside())


def _configured(config: Config, asked: Mapping[str, Any]) -> Config:
    """The config with other values of some settings, by their dotted names."""
    data = to_dict(config)
    for name, value in asked.items():
        *groups, key = name.split(".")
        place: Any = data
        for group in groups:
            place = place.get(group)
            if not isinstance(place, dict):
                raise ConfigError(f"there is no setting '{name}'")
        place[key] = value
    return Config.parse(data)


def _split(model: Flow, x: Any, valid: Any, test: Any, seed: int) -> list[Tensor]:
    """Training, validation and test data, each (N, *shape), float64 on the CPU."""
    rest, parts = _events(model, x, "x"), []
    order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))
    total = len(rest)
    for name, share in (("valid", valid), ("test", test)):
        if not isinstance(share, int | float | np.number):
            parts.append(_events(model, share, name))
            continue
        if not 0 <= share < 1 or (name == "valid" and share == 0):
            raise ConfigError(f"{name} = {short(share)} is not allowed: give a share of the data below 1, or data")
        count = max(1, round(share * total)) if share else 0
        parts.append(rest[order[:count]])
        order = order[count:]
    if not len(order):
        raise ConfigError(f"x has {total} rows, of which none is left to train on: give more, or validation data apart")
    return [rest[order.sort().values], *parts]


def _events(model: Flow, x: Any, name: str) -> Tensor:
    events, one = model.events(x, torch.float64, name)
    if one:
        raise ValueError(f"{name} is one event of shape {model.shape}, where many are wanted: (N, *shape)")
    return events.detach().cpu()


def _check_range(splits: Sequence[Tensor]) -> None:
    """Refuse numbers that single precision, in which a model is trained, has no room for."""
    most = torch.finfo(torch.float32).max
    if any(bool((split.isfinite() & (split.abs() > most)).any()) for split in splits):
        raise ConfigError(f"x holds numbers beyond {most:.1e}, the most that single precision has: change their unit")
    if bool(((splits[0] != 0) & (splits[0].float() == 0)).all(0).any()):
        least = torch.finfo(torch.float32).tiny
        raise ConfigError(f"x holds numbers below {least:.1e}, the least that single precision has: change their unit")


def _data(splits: Sequence[Tensor], columns: tuple[str, ...]) -> Data:
    train, valid, test = splits
    data = check_data(Data(train, valid, test if len(test) else valid, columns=columns), "x")
    return replace(data, test=test)


def _in_directory(
    run: RunDirectory, config: Config, splits: Sequence[Tensor], model: Flow
) -> tuple[Config, RunDirectory, Data, bool]:
    """The config and the data of a run in a directory, where its data are written; and whether it goes on."""
    if len(model.shape) > 1:
        raise ConfigError("directory is for events that are vectors, rows of a table: save the model instead")
    if not len(splits[2]):
        raise ConfigError("test = 0 is not allowed with a directory, as a run ends with a test")
    columns = list(model.columns) or numbered(model.shape[0])
    label = next(name for name in ("split", "_split", "__split") if name not in columns)
    path = run.path / DATA
    kept = {name: value for name, value in vars(config.dataset).items() if name == "standardize"}
    dataset = {"name": "file", "path": str(path), "columns": columns, "split_column": label, **kept}
    config = Config.parse({**to_dict(config), "dataset": dataset})
    if run.exists():
        check_has_data(run, run.config(), "give another directory")
        another = RunError(f"{run.path} holds another run: give another directory")
        if not path.is_file():
            raise another
        another_run = differing(to_dict(config), to_dict(run.config()), NOT_TRAINED)
        data = _load(config)
        same = all(map(torch.equal, (data.train[:], data.valid[:], data.test[:]), splits))
        if not same or set(another_run) - {"trainer.valid_every"}:  # which follows the length
            raise another
        return config, run, data, run.begun()
    run.check_ours()
    # The data first: a run that is killed between the two begins again.
    with writing(run.path):
        run.path.mkdir(parents=True, exist_ok=True)
    table = torch.cat(list(splits)).numpy()
    words = np.repeat(np.array(SPLITS), [len(part) for part in splits])
    content = {**dict(zip(columns, table.T, strict=True)), label: words}
    if is_there(path):
        with TemporaryDirectory() as folder:
            write_table(again := Path(folder) / DATA, content)
            if not path.is_file() or fingerprint(path) != fingerprint(again):
                raise RunError(f"{path} is there already, with other data: give another directory")
    write_table(path, content)
    run.create(config)
    return config, run, _load(config), False


def _load(config: Config) -> Data:
    return check_data(dataset_of(config).load(), "x")
