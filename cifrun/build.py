"""From a config to data and a model: the one place where names become objects."""

from __future__ import annotations

from collections.abc import Sequence

from .bijections.base import Bijection
from .config import Config
from .data.base import Data
from .errors import ConfigError
from .index import Index
from .model import Model, Step
from .rng import forked
from .table import table

__all__ = ["build_data", "build_model", "build_steps", "describe"]


def build_data(config: Config) -> Data:
    """The three splits, and the target's density where it is known. Raises `ConfigError` if they can't be loaded."""
    return config.dataset.load()


def build_model(config: Config, shape: Sequence[int]) -> Model:
    """The model for events of `shape`, with the initial weights that `config.seed` gives."""
    with forked(config.seed):
        return Model(build_steps(config, shape))


def build_steps(config: Config, shape: Sequence[int]) -> list[Step]:
    """The flat list of steps from the data inward; with `cif=true`, the first `index.depth` indexable ones indexed."""
    bijections = config.flow.build(shape)
    left = 0
    if config.cif:
        indexable = sum(b.indexable for b in bijections)
        left = indexable if config.index.depth == "all" else config.index.depth
        if left > indexable:
            what = f"flow={config.flow.family} has {indexable} steps that can carry an index"
            raise ConfigError(f"index.depth = {left} is not allowed: {what}")
    steps = []
    for bijection in bijections:
        index = Index(bijection.latent_shape, bijection.shape, config.index) if left and bijection.indexable else None
        left -= index is not None
        steps.append(Step(bijection, index))
    return steps


def describe(config: Config) -> str:
    """The model as a table, a line a step: what `cifrun show` prints."""
    data = build_data(config)
    model = build_model(config, data.shape)
    rows = []
    for k, step in enumerate(model.steps):
        f, index = _count(step.bijection), _count(step.index)
        u = "" if step.index is None else f"u ∈ R^{step.index.dim}"
        rows.append([str(k + 1), step.bijection.describe(), u, f"{f:,}", f"{index:,}" if index else ""])
    title = f"{config.dataset.name} {data.shape} ← {config.flow.family}, {'CIF' if model.indexed else 'plain flow'}"
    likelihood = "exact" if model.exact else f"IWAE_{config.eval.importance_samples}" if model.indexed else "unbiased"
    body = table(rows, ["step", "bijection f⁻¹, data first", "index", "parameters", "of the index"], "rllrr")
    return f"{title}\n{body}\n{_count(model):,} parameters; test log-likelihood: {likelihood}"


def _count(module: Model | Bijection | Index | None) -> int:
    return 0 if module is None else sum(p.numel() for p in module.parameters())
