"""Variational autoencoder: one step that does nothing by itself, and an index that does all.

    u ~ p(u) = N(0, I),   z ~ N(0, I),   x = e^{−s(u)} ⊙ z − t(u):        x | u ~ N(−t(u), e^{−2 s(u)})

The decoder is the index's network of (s, t), the encoder its q(u | x). With f = identity this is a continuously indexed
flow of one step whose p(u | z) does not look at z. `flow=vae` therefore chooses `index=vae`.

References: Kingma, Welling, "Auto-encoding variational Bayes", ICLR 2014 (https://arxiv.org/abs/1312.6114); as an
indexed flow: Cornish, Caterini, Deligiannidis, Doucet, ICML 2020 (https://arxiv.org/abs/1909.13833).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bijections.base import Bijection, Identity
from ..config.fields import registered, setting
from ..registry import FLOWS
from .base import FlowConfig, with_norm


@registered(FLOWS, "vae")
class VAE(FlowConfig):
    """Variational autoencoder: an index and no flow (Kingma and Welling, 2014)."""

    needs_index = True
    chooses = "override /index@_global_.index: vae # u of its own size, N(0, I) whatever z is; or index=default"

    depth: int = setting(1, "number of identity steps L; one makes a VAE", ge=1)

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        return with_norm([Identity(shape) for _ in range(self.depth)], self.norm)
