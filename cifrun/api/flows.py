"""A flow, plain or indexed, as a density in a user's hands.

    model = cifrun.CIF("maf", dim=3, depth=5, index_dim=2)
    model.log_prob(x, importance_samples=100, seed=0)
    model.sample(1000)

It is the model of the command line (`cifrun.cif.model.Model`), built without data, that takes numbers as they come: one
datum or many, tensors, numpy arrays, lists or data frames, in single or double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..bijections.base import Bijection
from ..build import build_model, facts_of, load_model
from ..cif.model import Model
from ..cif.step import Step
from ..config.schema import Config, to_dict
from ..data.base import Data
from ..errors import ConfigError, RunError
from ..runs.directory import RunDirectory
from ..runs.lock import alone
from ..runs.records import METRICS
from ..training.training_state import TrainingState
from .arguments import check_weights, checked_seed, dense, short, whole
from .distribution import FlowDistribution
from .frames import numbers, of_frame

__all__ = ["CIF", "Flow", "load"]

#: What a keyword of an index begins with: `index_dim` is `index.dim` of the command line; and one of a base density.
INDEX, BASE = "index_", "base_"


class Flow(Model):
    """A plain flow, with a density in closed form (or, for a few families, an unbiased estimate of its logarithm).

    Arguments:
        flow: Name of a registered flow, as in `flow=NAME`.
        dim: D of vectors, or the shape of an image, (channels, height, width).
        base: Name of a registered base density, as in `base=NAME`: normal, mixture, …
        seed: Of the initial weights.
        settings: The flow's settings, as in `flow.KEY`: depth, hidden, …; and with `base_` before them those of the
            base density, as in `base.KEY`: base_components, …

    Raises:
        ConfigError: There is no such flow or setting, its value is not allowed, or it can't model such events.

    Example:
        >>> import cifrun, torch
        >>> model = cifrun.Flow("maf", dim=3, depth=2)
        >>> model.log_prob(torch.zeros(5, 3)).shape
        torch.Size([5])
    """

    _cif: ClassVar[bool] = False
    config: Config
    trained: bool

    def __init__(
        self, flow: str, dim: int | Sequence[int], *, base: str = "normal", seed: int = 0, **settings: Any
    ) -> None:
        try:
            shape = tuple(whole("dim", size) for size in (dim if isinstance(dim, Sequence) else (dim,)))
        except ValueError:
            shape = ()
        if not shape:
            what = "give the number of dimensions, or the shape of an image"
            raise ConfigError(f"dim = {short(dim)} is not allowed: {what}")
        index, of_base, family = _by_group(settings)
        if index and not self._cif:
            raise ConfigError(f"{INDEX}{next(iter(index))} is a setting of a CIF: use cifrun.CIF")
        from .commands import composed  # Hydra, which loading a model does not need

        for noun, name in (("flow", flow), ("base", base)):
            if not isinstance(name, str):
                raise ConfigError(f"{noun} = {name!r} is not allowed: give the name of a registered {noun}")
        # As the command line composes it: a flow may choose an index of its own.
        words = ("dataset=file", f"flow={flow}", f"base={base}", f"cif={str(self._cif).lower()}")
        data = to_dict(composed(*words)) | {"seed": seed}
        groups = {"flow": family, "index": index, "base": of_base}
        config = Config.parse(data | {group: {**data[group], **given} for group, given in groups.items()})
        self._become(config, build_model(config, shape))

    def _become(self, config: Config, model: Model) -> None:
        super().__init__(list(model.steps), model.base)
        self.columns, self.levels = model.columns, model.levels
        self.config = config
        #: Whether it has been trained by `cifrun.fit`, or loaded: its first step then stays as it is.
        self.trained = False
        self.train(model.training)

    # --- densities ----------------------------------------------------------------------------------------------------

    def log_prob(self, x: Any, importance_samples: int = 100, chunk_size: int = 10_000, seed: int | None = None) -> Any:
        """log p(x) in nats: exact for a plain flow, else the estimate IWAE_m, a lower bound in expectation.

        It is computed in the model's precision: `model.double()` gives more digits. With a `seed`, the same rows in the
        same order get the numbers that `cifrun eval … per_point=FILE` writes with that `eval.seed`. Gradients take
        memory for all importance samples; without them (`torch.no_grad()`, or arrays) it depends on `chunk_size` alone.

        Arguments:
            x: (batch, *shape), or one datum of `shape`: a tensor, which may be differentiated, a numpy array, a list,
                or a data frame that has the columns that the model was trained on.
            importance_samples: m; ignored by a plain flow.
            chunk_size: data × importance samples evaluated at once.
            seed: Makes the estimate reproducible; None draws from the global random state.

        Returns:
            (batch,), or a scalar for one datum: a tensor if x is one, else a numpy array; of the precision of x.

        Raises:
            ConfigError: So many importance samples have no room in memory, or would never end.
            ValueError: x is of another shape, or holds what can't be read as numbers; a count is no whole number, or
                too large; or a weight is not finite.
        """
        counts = whole("importance_samples", importance_samples), whole("chunk_size", chunk_size), checked_seed(seed)
        return self._of_each(x, lambda events: super(Flow, self).log_prob(events, *counts))

    def elbo(self, x: Any, importance_samples: int = 1, chunk_size: int = 10_000) -> Any:
        """E_q[log w] ≤ log p(x) in nats, by a mean over draws of u; of a plain flow log p(x).

        Arguments and errors as of `log_prob`, and what it returns too.
        """
        counts = whole("importance_samples", importance_samples), whole("chunk_size", chunk_size)
        return self._of_each(x, lambda events: super(Flow, self).elbo(events, *counts))

    def _of_each(self, x: Any, function: Callable[[Tensor], Tensor]) -> Any:
        """A number for each datum, of the kind and the precision of x."""
        check_weights(self)
        events, one = self.events(x)
        with nullcontext() if isinstance(x, Tensor) else torch.no_grad():
            values = function(events)
        values = values[0] if one else values
        if isinstance(x, Tensor):
            return values.to(x) if x.is_floating_point() else values
        kind = getattr(x, "dtype", None)
        wide = isinstance(kind, np.dtype) and kind.kind == "f"
        return values.cpu().numpy().astype(kind if wide else np.float64)[()]

    def events(self, x: Any, precision: torch.dtype | None = None, name: str = "x") -> tuple[Tensor, bool]:
        """x as a batch of events on the model's device; and whether it was one datum.

        Arguments:
            precision: By default that in which the model takes x.
            name: What to call x in an error.

        Raises:
            ValueError: x is of another shape, or a data frame without the model's columns.
        """
        takes = self.takes
        if hasattr(x, "to_numpy"):
            x = of_frame(x, self.columns, name)
        given = dense(x, name) if isinstance(x, Tensor) else torch.from_numpy(numbers(x, name))
        if given.is_complex():
            raise ValueError(f"{name} holds complex numbers, where the model takes real ones")
        events = given.to(takes.device, precision or takes.dtype)
        one = tuple(events.shape) == self.shape
        events = events[None] if one else events
        if tuple(events.shape[1:]) != self.shape:
            raise ValueError(
                f"{name} has the shape {tuple(given.shape)}, where the model takes one event of shape {self.shape} or "
                f"a batch of them"
            )
        return events, one

    def log_w(self, x: Any, importance_samples: int = 1, prepare: bool = True) -> Tensor:
        """log w(x, u) for `importance_samples` draws of u ~ q for each datum: (importance_samples, batch), in nats.

        Its mean is the ELBO, whose negative is the loss of one's own training loop; of a plain flow it is log p(x).

        Arguments:
            x: (batch, *shape), as `log_prob` takes it.
            importance_samples: How many draws of u a datum.
            prepare: False takes what is derived from the weights as the last call left it.

        Raises:
            ConfigError, ValueError: As of `log_prob`.
        """
        return super().log_w(self.events(x)[0], whole("importance_samples", importance_samples), prepare)

    def sample(self, n: int, seed: int | None = None, chunk_size: int = 10_000) -> Tensor:
        """`Model.sample`: n independent draws, (n, *shape).

        Raises:
            ConfigError: They have no room in memory.
            ConvergenceError: An iterative inverse missed its tolerance.
            ValueError: n is negative, too large, or no whole number; the seed is none; or a weight is not finite.
        """
        check_weights(self)
        return super().sample(whole("n", n, 0), checked_seed(seed), whole("chunk_size", chunk_size))

    def rsample(self, n: int, seed: int | None = None) -> Tensor:
        """`Model.rsample`: n draws that can be differentiated in the weights, (n, *shape).

        Raises:
            ConvergenceError, NotImplementedError: As of `Model.rsample`.
            ConfigError, ValueError: As of `sample`.
        """
        check_weights(self)
        return super().rsample(whole("n", n, 0), checked_seed(seed))

    def distribution(self, importance_samples: int = 100) -> FlowDistribution:
        """The model as a distribution of PyTorch, with `log_prob`, `sample`, `rsample` and `event_shape`.

        Arguments:
            importance_samples: m of its `log_prob`, where that is an estimate.
        """
        return FlowDistribution(self, importance_samples)

    def standardize(self, first: Bijection | None) -> None:
        """Put a step before all others that brings the data to a scale of one; None changes nothing."""
        if first is not None:
            self.steps = torch.nn.ModuleList([Step(first), *self.steps]).to(next(self.parameters()))  # type: ignore[assignment]

    # --- on disk ------------------------------------------------------------------------------------------------------

    def save(self, directory: str | Path) -> None:
        """Write the model to a directory that `cifrun.load`, `cifrun eval data=FILE` and `cifrun sample` read.

        Saving again to the same directory replaces what was saved.

        Raises:
            RunError: The directory holds a run with records, or files of others, which would be lost; it can't be
                written; or the model has weights that are not finite.
        """
        check_weights(self, RunError)
        run = RunDirectory(Path(directory))
        if run.path.is_file():
            raise RunError(f"{run.path} is a file, where a directory belongs")
        nothing = torch.empty(0, *self.shape)
        facts = facts_of(self, Data(nothing, nothing, nothing, columns=self.columns, levels=self.levels))
        with alone(run.path):
            run.check_ours()
            if (run.path / METRICS).exists() or run.summary():
                raise RunError(f"{run.path} holds a run with records: save the model to another directory")
            run.create(self.config)
            run.save_checkpoint("latest", TrainingState(**vars(facts)).checkpoint(self))


class CIF(Flow):
    """A continuously indexed flow: each step f is a family F(·; u), with u ~ p(u | z) drawn on the way to the data.

    Its log-density is estimated with importance samples u ~ q(u | x).

    Arguments:
        flow: Name of a registered flow, as in `flow=NAME`.
        dim: D of vectors, or the shape of an image, (channels, height, width).
        base: Name of a registered base density, as in `base=NAME`: normal, mixture, …
        seed: Of the initial weights.
        settings: The flow's settings, as in `flow.KEY`: depth, hidden, …; with `index_` before them those of the
            index, as in `index.KEY`: index_dim, index_depth, index_st, …; and with `base_` those of the base density.

    Raises:
        ConfigError: There is no such flow or setting, its value is not allowed, or it can't model such events.

    Reference: Cornish, Caterini, Deligiannidis, Doucet, "Relaxing bijectivity constraints with continuously indexed
    normalising flows", ICML 2020 (https://arxiv.org/abs/1909.13833).

    Example:
        >>> import cifrun, numpy
        >>> model = cifrun.CIF("maf", dim=3, depth=2, index_dim=2)
        >>> model.log_prob(numpy.zeros((5, 3)), importance_samples=10, seed=0).shape
        (5,)
    """

    _cif = True


def load(directory: str | Path) -> Flow:
    """The trained model of a run directory, or one that was saved, in eval mode, with its best weights, frozen.

    `cifrun.fit` trains it further; a loop of one's own first calls `model.requires_grad_()`.

        model = cifrun.load("outputs/2026-01-31/12-00-00")
        model.log_prob(x, importance_samples=100)   # (batch,), nats
        model.sample(1000)                          # (1000, D)

    Raises:
        RunError: The directory is missing, is no run directory, or its checkpoint is damaged or of another model.
    """
    run = RunDirectory(Path(directory))
    config = run.config()
    model = load_model(run, config)
    kind = CIF if config.cif else Flow
    loaded = kind.__new__(kind)
    loaded._become(config, model)
    loaded.trained = True
    return loaded


def _by_group(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Keywords as settings of the index, of the base density, and of the flow."""
    found = [
        {name[len(start) :]: settings[name] for name in settings if name.startswith(start)} for start in (INDEX, BASE)
    ]
    rest = {name: value for name, value in settings.items() if not name.startswith((INDEX, BASE))}
    return found[0], found[1], rest
