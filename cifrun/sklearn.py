"""A flow as a density estimator of scikit-learn: in pipelines, cross-validation and grid searches.

from cifrun.sklearn import FlowDensity

density = FlowDensity(flow="maf", cif=True).fit(X)
density.score_samples(X)          # log p(x) of each row, nats
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch

from .api.fit import History, fit
from .api.flows import CIF, Flow
from .cif.importance import ROWS
from .compute.rng import alike
from .errors import CifrunError, ConfigError

try:
    from sklearn.base import BaseEstimator, DensityMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ConfigError("cifrun.sklearn needs scikit-learn 1.6 or newer: pip install 'scikit-learn>=1.6'") from error

__all__ = ["FlowDensity"]


class FlowDensity(DensityMixin, BaseEstimator):
    """The density of rows of numbers, by a flow or its CIF.

    Parameters are kept as they are given and checked by `fit`, as scikit-learn asks.

    Arguments:
        flow: Name of a registered flow, as in `flow=NAME`.
        cif: Whether its steps carry an index.
        settings: More settings of the model, as keywords of `cifrun.CIF`: {"depth": 3, "index_dim": 2}.
        steps: Optimiser steps, at most.
        batch_size: Rows a step, at most the training rows.
        lr: Learning rate; None is the optimiser's own.
        valid: Share of the rows that is held out to choose the best weights.
        patience: Stop after so many validations in a row without a better one; 0 never does.
        standardize: Whether the model first brings each column to mean 0 and standard deviation 1: True, False, "auto",
            or "whiten".
        importance_samples: m of the estimate IWAE_m of a CIF's log-density; a plain flow needs none.
        random_state: Of the weights, the split, training and the estimate: an int, a RandomState, or None.
        device: "auto", "cpu" or "gpu".

    Attributes:
        model_: The trained `cifrun.Flow` or `cifrun.CIF`, in double precision.
        history_: How training went, a `cifrun.History`.
        n_features_in_: D.
        feature_names_in_: Names of the columns, where X was a data frame.

    Example:
        >>> import numpy
        >>> from cifrun.sklearn import FlowDensity
        >>> X = numpy.random.default_rng(0).normal(size=(200, 2))
        >>> density = FlowDensity(flow="realnvp", cif=False, steps=20, random_state=0).fit(X)
        >>> density.score_samples(X).shape, density.sample(5).shape
        ((200,), (5, 2))
    """

    model_: Flow
    history_: History

    def __init__(
        self,
        flow: str = "maf",
        *,
        cif: bool = True,
        settings: Mapping[str, Any] | None = None,
        steps: int = 1000,
        batch_size: int = 1000,
        lr: float | None = None,
        valid: float = 0.1,
        patience: int = 0,
        standardize: bool | Literal["auto", "whiten"] = True,
        importance_samples: int = 100,
        random_state: Any = None,
        device: str = "cpu",
    ) -> None:
        self.flow = flow
        self.cif = cif
        self.settings = settings
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.valid = valid
        self.patience = patience
        self.standardize = standardize
        self.importance_samples = importance_samples
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: Any = None) -> FlowDensity:
        """Train on rows X, (N, D); y is ignored.

        Raises:
            ValueError: A parameter is not allowed, or no density can be learned from X; the sentence says why.
        """
        X = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=3)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        if not isinstance(self.cif, bool | np.bool_):
            raise ValueError(f"cif = {self.cif!r} is not allowed: it should be True or False")
        if not isinstance(self.importance_samples, Integral) or self.importance_samples < 1:
            raise ValueError(f"importance_samples = {self.importance_samples!r} is not allowed: a whole number from 1")
        with _errors_of_scikit_learn():
            model = self._model(X.shape[1], seed)
            model.columns = tuple(map(str, getattr(self, "feature_names_in_", ())))
            self.history_ = fit(
                model,
                X,
                valid=self.valid,
                steps=self.steps,
                batch_size=self.batch_size,
                lr=self.lr,
                patience=self.patience,
                standardize=self.standardize,
                device=self.device,
            )
        self.model_ = model.double()
        return self

    def _model(self, features: int, seed: int) -> Flow:
        kind = CIF if self.cif else Flow
        try:
            return kind(self.flow, features, seed=seed, **(self.settings or {}))
        except ConfigError as error:
            # scikit-learn's own words, where one column may be what is wrong.
            raise ConfigError(f"{error} (n_features = 1)" if features == 1 else str(error)) from error

    def score_samples(self, X: Any) -> np.ndarray:
        """log p(x) of each row of X (N, D) in nats, (N,): exact for a plain flow, else IWAE_m.

        The random numbers of the estimate are the same for each row, so that a row's number does not depend on the
        others. Errors of the estimate therefore do not average out over rows; more importance samples make them small.

        Raises:
            NotFittedError: `fit` comes first.
            ValueError: X has other columns than those of `fit`, or holds what is no finite number.
        """
        check_is_fitted(self)
        rows = torch.from_numpy(np.array(validate_data(self, X, dtype=np.float64, reset=False), order="C"))
        parts, m, seed = [], int(self.importance_samples), self.model_.config.seed
        for block in rows.split(ROWS):
            with torch.no_grad(), alike(len(block)):
                parts.append(self.model_.log_prob(block, m, seed=seed).cpu())
        return torch.cat(parts).numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`, in nats a row; y is ignored.

        Raises:
            NotFittedError, ValueError: As of `score_samples`.
        """
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draws, (n_samples, D).

        Arguments:
            n_samples: How many.
            random_state: An int, a RandomState, or None.

        Raises:
            NotFittedError: `fit` comes first.
            ValueError: n_samples is no whole number from 0, or an iterative inverse missed its tolerance.
        """
        check_is_fitted(self)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        with _errors_of_scikit_learn():
            return self.model_.sample(n_samples, seed=seed).cpu().numpy()


@contextmanager
def _errors_of_scikit_learn() -> Iterator[None]:
    """Inside, what is wrong with parameters or data is a `ValueError`, which scikit-learn knows how to handle."""
    try:
        yield
    except (CifrunError, TypeError) as error:
        raise ValueError(str(error)) from error
