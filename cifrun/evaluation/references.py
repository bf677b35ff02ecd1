"""What a model without a network makes of the same split: a Gaussian, and a mixture of Gaussians, by scikit-learn.

They say what a flow's log-likelihood is worth. Both see the training data standardised; the mixture's number of
components and what is added to its variances are those that are best on the validation data, as a flow's weights are.
"""

from __future__ import annotations

import warnings
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..cif.importance import mean_and_error
from ..data.base import Data
from ..io.optional import need

__all__ = ["references"]

#: Components that a mixture may have; more are tried until the validation data like none of them better.
COMPONENTS = (1, 2, 4, 8, 16, 32, 64)
#: Training data a component at least.
ROWS = 5
#: What is added to variances, of standardised data; of more data than FEW, only the first.
REGULARISATION, FEW = (1e-6, 1e-4, 1e-2, 1e-1), 5_000


def references(data: Data, seed: int) -> dict[str, Any]:
    """Mean test log-likelihoods in nats a datum, in the data's units, with their standard errors over data.

    Arguments:
        data: Vectors, (N, D), in three splits.
        seed: Of the mixture's first guess.

    Returns:
        gaussian, mixture, each with "…_se", and mixture_components.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    train, valid, test = (split[:].double().numpy() for split in (data.train, data.valid, data.test))
    mean, std = train.mean(0), train.std(0)
    train, valid, test = ((split - mean) / std for split in (train, valid, test))
    log_volume = float(np.log(std).sum())
    found = dict[str, Any]()
    gaussian = _best(train, valid, (1,), seed)
    mixture = _best(train, valid, COMPONENTS, seed)
    for name, model in (("gaussian", gaussian), ("mixture", mixture)):
        scores = model.score_samples(test) - log_volume
        found |= mean_and_error(torch.from_numpy(scores), name)
    return {**found, "mixture_components": int(mixture.n_components)}


def _best(train: NDArray[Any], valid: NDArray[Any], components: tuple[int, ...], seed: int) -> Any:
    """The mixture that the validation data like best."""
    sklearn = need("sklearn.mixture", "eval.references=true")
    best, best_score = None, -np.inf
    for count in takewhile(lambda k: k == 1 or k * ROWS <= len(train), components):
        before = best_score
        for added in REGULARISATION[: None if len(train) <= FEW else 1]:
            model = sklearn.GaussianMixture(count, reg_covar=added, random_state=seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it did not converge
                model.fit(train)
            if (score := model.score(valid)) > best_score:
                best, best_score = model, score
        if best_score <= before:
            break
    return best
