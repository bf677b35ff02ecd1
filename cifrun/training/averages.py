"""Averages of weights over training: what is validated, tested, saved and sampled where `optimizer.ema` asks for them.

    θ̄ ← d θ̄ + (1 − d) θ,    d = min(ema, (1 + t) / (10 + t)) after update t = 1, 2, …

A constant learning rate leaves the weights in a cloud around a good place; its middle is better than its points. The
smaller d of the beginning lets the average forget where the weights began.

References: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM Journal on Control and
Optimization 1992; the rule for d is that of `tf.train.ExponentialMovingAverage`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["Averages"]


class Averages:
    """Averages of a model's trained parameters; none if `decay` is 0. Buffers are not averaged.

    Arguments:
        model: Its weights of now are where the averages begin.
        decay: The largest d, from 0 to below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay, self._updates = decay, 0
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._parameters = trained if decay else {}
        self._averages = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take note of the weights after one more update of them."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        if self._parameters:
            average = get_ema_multi_avg_fn(decay)
            average(list(self._averages.values()), list(self._parameters.values()), self._updates)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Inside, the model has the averages for weights."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Give the model the averages for weights, and keep its weights in their place."""
        for name, p in self._parameters.items():
            mine = self._averages[name]
            before = p.detach().clone()
            p.copy_(mine)
            mine.copy_(before)

    def named(self) -> dict[str, Tensor]:
        """The averages by the names of the parameters; as long as they are not in use."""
        return dict(self._averages)

    @torch.no_grad()
    def restore(self, weights: Mapping[str, Tensor], updates: int) -> None:
        """The model has the averages for weights, as saved; from now on these, the ones that are trained.

        Raises:
            ValueError: They are those of another model, or not finite.
        """
        if weights.keys() != self._parameters.keys():
            raise ValueError("weights of other parameters")
        self._updates = updates
        for name, p in self._parameters.items():
            fits = weights[name].shape == p.shape and weights[name].is_floating_point()
            if not fits or not weights[name].isfinite().all():
                raise ValueError(f"weights of {name} that do not fit")
            self._averages[name].copy_(p)
            p.copy_(weights[name])
