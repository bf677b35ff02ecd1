"""From a config to data and a model, from a run directory to its model: here names become objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from .bases.base import BaseConfig
from .bijections.base import Bijection
from .bijections.permutation import Flatten
from .bijections.preprocess.pixels import Centre, Logit
from .bijections.preprocess.standardize import Standardize, Whiten
from .cif.actions import ACTIONS
from .cif.bounds import beyond_bound
from .cif.index import Index
from .cif.model import Model
from .cif.step import Step
from .compute.memory import TooLarge, building
from .compute.rng import forked
from .config.schema import Config, IndexConfig
from .data.base import AnyDataset, Data, DatasetConfig
from .data.checks import check_data
from .data.findings import findings
from .data.images.base import Images
from .data.tables.base import File
from .errors import ConfigError, RunError
from .flows.base import FlowConfig
from .io.optional import need
from .io.text import table
from .registry import FLOWS
from .runs.checkpoint import Checkpoint, DataFacts
from .runs.directory import RunDirectory
from .runs.metrics import estimate

#: With `standardize: auto`, standard deviations that are left as they are, and how far from 0 means may lie.
UNIT_SCALE, UNIT_MEAN = (0.1, 10.0), 10.0

#: What a checkpoint calls the first step that `dataset.standardize`, or for images `dataset.preprocess`, brings in.
FIRST_STEPS: dict[str | bool, type[Standardize | Whiten | Logit | Centre]] = {
    True: Standardize,
    "whiten": Whiten,
    "logit": Logit,
    "centre": Centre,
}

#: Training data that are sent through a model to see whether its splines reach them.
LOOKED_AT = 10_000
#: Standard deviation of a coordinate given those before it, over its own, below which it counts as a function of them.
DEPENDENT = 1e-5


def dataset_of(config: Config) -> AnyDataset:
    """The dataset's settings, with what they can do."""
    return cast(AnyDataset, config.dataset)


def flow_of(config: Config) -> FlowConfig:
    """The flow's settings, with what they can do."""
    return cast(FlowConfig, config.flow)


def base_of(config: Config) -> BaseConfig:
    """The settings of p_0, with what they can do."""
    return cast(BaseConfig, config.base)


def build_data(config: Config) -> Data:
    """The three splits, and the target's density where it is known.

    Raises:
        ConfigError: They can't be loaded, or no density can be learned from them, or none that the flow models.
    """
    flow, data = flow_of(config), check_data(dataset_of(config).load(), config.dataset.name)
    if data.binary != flow.binary:
        names = [f"flow={name}" for name in FLOWS if FLOWS[name].binary == data.binary]
        pixels = "pixels that are 0 or 1" if data.binary else "numbers that are not 0 or 1 only"
        what = f"dataset '{config.dataset.name}' holds {pixels}, which flow={flow.family} does not model"
        if isinstance(config.dataset, Images):
            names.insert(0, f"dataset.binarize={str(flow.binary).lower()}")
        raise ConfigError(f"{what}: choose {' or '.join(names)}")
    if config.eval.references:
        if data.levels is not None or len(data.shape) != 1:
            raise ConfigError(f"eval.references = true is not possible: dataset '{config.dataset.name}' has no vectors")
        need("sklearn", "eval.references=true")
    return data


def build_standardize(config: Config, data: Data) -> Bijection | None:
    """The first step of a model of `data` if `dataset.standardize` wants one; "auto" does for data of another scale.

    For images, the one that `dataset.preprocess` names, if their pixels are grey levels.

    Raises:
        ConfigError: "whiten" is asked of data that have no invertible covariance matrix.
    """
    if isinstance(config.dataset, Images):
        return _build_pixels(config.dataset, data)
    if not isinstance(config.dataset, DatasetConfig):
        return None
    mean, std = data.moments
    low, high = UNIT_SCALE
    near = bool(((std >= low) & (std <= high) & (mean.abs() <= UNIT_MEAN)).all())
    wanted = not near if config.dataset.standardize == "auto" else config.dataset.standardize
    if wanted == "whiten":
        return Whiten(data.shape, mean, std[:, None] * _correlation_factor(data, std))
    return Standardize(data.shape, mean, std) if wanted else None


def _build_pixels(dataset: Images, data: Data) -> Bijection | None:
    if data.binary or data.levels is None or dataset.preprocess == "none":
        return None
    if dataset.preprocess == "centre":
        return Centre(data.shape, data.levels)
    return Logit(data.shape, data.levels, dataset.logit_lambda)


def _correlation_factor(data: Data, std: Tensor) -> Tensor:
    """The lower triangular factor of the correlation matrix: that of the covariance, with row i divided by std_i."""
    if len(data.shape) != 1:
        raise ConfigError(f"dataset.standardize = 'whiten' is for points, not for events of shape {data.shape}")
    factor, failed = torch.linalg.cholesky_ex(data.covariance() / std[:, None] / std)
    if failed or factor.diagonal().min() < DEPENDENT:
        k = int(failed) - 1 if failed else int(factor.diagonal().argmin())
        raise ConfigError(
            f"dataset.standardize = 'whiten' is not possible: {data.column(k)} is a linear function of those before "
            f"it, so no density holds them all; leave it out"
        )
    return factor


def kind_of(step: Bijection | None) -> str | bool:
    """What a checkpoint calls the step that `build_standardize` made."""
    return next((kind for kind, cls in FIRST_STEPS.items() if type(step) is cls), False)


def saved_first_step(run: RunDirectory) -> Bijection | None:
    """The first step of the run's model, for the numbers of its checkpoint "latest" to be loaded into."""
    facts = DataFacts.of(run.load_checkpoint("latest").state, str(run.checkpoint_path("latest")))
    return first_step(facts.shape, facts.standardized)


def facts_of(model: Model, data: Data) -> DataFacts:
    """What a checkpoint of the model says of the data."""
    kind, told = kind_of(model.steps[0].bijection), [finding.sentence for finding in findings(data)]
    if data.levels is None:
        looked_at = data.train[:LOOKED_AT].to(model.takes)
        told += filter(None, [beyond_bound(model, looked_at, data.column)])
    return DataFacts(list(data.shape), kind, list(data.columns), data.levels, data.fingerprint, told)


def first_step(shape: Sequence[int], kind: str | bool) -> Bijection | None:
    """A step of the kind that `kind_of` told, for its numbers to be loaded into."""
    step = FIRST_STEPS.get(kind)
    with building():
        return step(shape) if step else None


def build_model(config: Config, shape: Sequence[int], standardize: Bijection | None = None) -> Model:
    """The model for events of `shape`, with the initial weights that `config.seed` gives.

    `standardize` stands before the flow's own steps.
    """
    with forked(config.seed), building():
        steps = build_steps(config, shape)
        base = base_of(config).build(steps[-1].bijection.latent_shape)
    return Model(steps if standardize is None else [Step(standardize), *steps], base)


def build_steps(config: Config, shape: Sequence[int]) -> list[Step]:
    """The flat list of steps from the data inward; with `cif=true`, the first `index.depth` indexable ones indexed.

    Raises:
        ConfigError: The flow can't model such events; it has fewer than `index.depth` steps that can carry an index; or
            it is made of its index, and `cif=false`.
    """
    flow = flow_of(config)
    flatten = len(shape) > 1 and not flow.images
    bijections = flow.build((math.prod(shape),) if flatten else shape)
    if flow.needs_index and not config.cif:
        what = f"flow={flow.family} is made of its index"
        raise ConfigError(f"{what}: with cif=false nothing is left to learn, so leave cif=true, or choose another flow")
    if flatten:
        bijections.insert(0, Flatten(shape))
    left = 0
    if config.cif:
        indexable = sum(b.indexable for b in bijections)
        left = indexable if config.index.depth == "all" else config.index.depth
        if left > indexable:
            what = f"flow={flow.family} has {indexable} steps that can carry an index"
            raise ConfigError(f"index.depth = {left} is not allowed: {what}")
    steps = []
    for bijection in bijections:
        indexed = left > 0 and bijection.indexable
        left -= indexed
        steps.append(Step(bijection, _index(config.index, bijection) if indexed else None))
    return steps


def _index(config: IndexConfig, f: Bijection) -> Index:
    """The index of a step: it acts on what f changes, and infers u from that, or from all of x if f changes shapes."""
    seen = f.active_shape if f.shape == f.latent_shape else f.shape
    settings = {name: getattr(config, name) for name in ("dim", "st", "p", "q", "relative", "activation")}
    return Index(f.active_shape, seen, ACTIONS[config.action](), **settings)


# --- a trained model --------------------------------------------------------------------------------------------------


def load_model(run: RunDirectory, config: Config | None = None, tag: str | None = None) -> Model:
    """The model of a run in eval mode on the CPU, with the weights of a checkpoint and in their precision.

    Arguments:
        config: The run's, if it has been read already.
        tag: "best" or "latest"; by default the best, or the latest where there was no validation.

    Raises:
        RunError: A file of the run is missing, damaged, or of another model.
    """
    config = run.config() if config is None else config
    tag, checkpoint = run.load_best() if tag is None else (tag, run.load_checkpoint(tag))
    origin = str(run.checkpoint_path(tag))
    facts = DataFacts.of(checkpoint.state, origin)
    if not facts.shape:
        raise RunError(f"{origin} is damaged: it has no 'shape'")
    saved = checkpoint.part("model")
    try:
        with building(sum(value.numel() for value in saved.values())):
            model = build_model(config, facts.shape, first_step(facts.shape, facts.standardized))
    except TooLarge as error:  # before it takes memory: what is saved has taken its own
        raise RunError(f"{origin} holds the weights of another model than the run's config.yaml describes") from error
    model.columns, model.levels = tuple(facts.columns), facts.levels
    precisions = {saved[name].dtype for name, _ in model.named_parameters() if name in saved}
    if len(precisions) == 1 and (precision := precisions.pop()).is_floating_point:
        model.to(precision)
    checkpoint.load_model(model, origin)
    return model.eval().requires_grad_(False)


def warm_start(model: Model, directory: Path, first: Bijection | None, columns: Sequence[str] = ()) -> None:
    """Give a model the best weights of a run, and its first step; an index that the run has not stays as it is made.

    A new index does nothing yet (s = t = 0 and q = p), so that the model has the run's density. Where q is not relative
    to p, q starts at random: the density is the run's, but the bound of it is loose. Where p is a constant, s and t
    start at random too, and the model is near that density only.

    Arguments:
        first: The model's first step, which should be of the run's kind.
        columns: Names of the coordinates of its data, where they have any; they should be the run's.

    Raises:
        RunError: The run's model is of another flow or of other columns, or it has an index and the model has not.
    """
    run = RunDirectory(directory)
    config = run.config()
    tag, checkpoint = run.load_best()
    origin = str(run.checkpoint_path(tag))
    facts = DataFacts.of(checkpoint.state, origin)
    theirs, mine = checkpoint.part("model"), model.state_dict()
    fits = theirs.keys() <= mine.keys() and all(mine[name].shape == value.shape for name, value in theirs.items())
    if columns and facts.columns and list(columns) != facts.columns:
        raise RunError(
            f"warm_start = '{directory}' is not possible: that run's columns are {', '.join(facts.columns)}, and these "
            f"data's {', '.join(columns)}"
        )
    if facts.standardized != kind_of(first):
        raise RunError(
            f"warm_start = '{directory}' is not possible: that run has dataset.standardize = "
            f"{str(facts.standardized).lower()} and this one {str(kind_of(first)).lower()}: say the same"
        )
    if any(".index." in name for name in theirs.keys() - mine.keys()):
        raise RunError(
            f"warm_start = '{directory}' is not possible: that run's {config.flow_name} has an index that this model "
            f"has not: add cif=true, and the run's index.depth"
        )
    if not fits or any(".index." not in name for name in mine.keys() - theirs.keys()):
        raise RunError(
            f"warm_start = '{directory}' is not possible: that run's {config.flow_name} has other sizes, another base "
            f"or other data than this model; see {run.path / 'config.yaml'}"
        )
    Checkpoint({f"model.{name}": value for name, value in {**mine, **theirs}.items()}, {}).load_model(model, origin)


def check_has_data(run: RunDirectory, config: Config, instead: str) -> None:
    """Refuse a model that was saved without a run, where its data are needed; `instead` is what to do.

    Raises:
        RunError: The directory holds such a model.
    """
    if isinstance(config.dataset, File) and config.dataset.path is None and run.exists():
        raise RunError(f"{run.path} is a saved model, and holds no data: {instead}")


# --- for a reader -----------------------------------------------------------------------------------------------------


def describe(config: Config) -> str:
    """The model as a table, a line a step, and what is wrong with the data: what `cifrun show` prints."""
    data = build_data(config)
    model = build_model(config, data.shape, build_standardize(config, data))
    rows = []
    for k, step in enumerate(model.steps):
        f, index = _count(step.bijection), _count(step.index)
        u = "" if step.index is None else f"u ∈ R^{'×'.join(map(str, step.index.u_shape))}"
        rows.append([str(k + 1), step.bijection.describe(), u, f"{f:,}", f"{index:,}" if index else ""])
    if base := _count(model.base):
        rows.append(["", model.base.describe(), "", f"{base:,}", ""])
    title = f"{config.dataset.name} {data.shape} ← {config.flow_name}"
    likelihood = estimate(model.exact, model.indexed, config.eval.importance_samples)
    body = table(rows, ["step", "bijection f⁻¹, data first", "index", "parameters", "of the index"], "rllrr")
    told = [f"dataset '{config.dataset.name}': {sentence}" for sentence in facts_of(model, data).warnings]
    return "\n".join([title, body, f"{_count(model):,} parameters; test log-likelihood: {likelihood}", *told])


def _count(module: nn.Module | None) -> int:
    return 0 if module is None else sum(p.numel() for p in module.parameters())
