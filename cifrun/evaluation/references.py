"""What a model without a network makes of the same split: a Gaussian, and a mixture of Gaussians, by scikit-learn.

They say what a flow's log-likelihood is worth. Both see the training data standardised; the mixture's number of
components and what is added to its variances are those that are best on the validation data, as a flow's weights are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..bases.mixture import best_mixture
from ..cif.importance import mean_and_error
from ..data.base import Data

__all__ = ["references"]

#: Components that a mixture may have.
COMPONENTS = 64


def references(data: Data, seed: int) -> dict[str, Any]:
    """Mean test log-likelihoods in nats a datum, in the data's units, with their standard errors over data.

    Arguments:
        data: Vectors, (N, D), in three splits.
        seed: Of the mixture's first guesses.

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
    gaussian = best_mixture(train, valid, 1, seed)
    mixture = best_mixture(train, valid, COMPONENTS, seed)
    for name, model in (("gaussian", gaussian), ("mixture", mixture)):
        scores = model.score_samples(test) - log_volume
        found |= mean_and_error(torch.from_numpy(scores), name)
    return {**found, "mixture_components": int(mixture.n_components)}
