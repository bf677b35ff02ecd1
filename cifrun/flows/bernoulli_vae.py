"""Variational autoencoder of binary images: a vector z ~ N(0, I), and pixels of 0 and 1 drawn given it.

    z ~ N(0, I),    x_i | z ~ Bernoulli(sigmoid(η_i(z))),        log w = log p(z) + log p(x | z) − log q(z | x)

Reference: Kingma, Welling, "Auto-encoding variational Bayes", ICLR 2014 (https://arxiv.org/abs/1312.6114).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bijections.base import Bijection
from ..bijections.bernoulli import BernoulliDecoder
from ..config.fields import Sizes, registered, setting
from ..registry import FLOWS
from .base import Activation, FlowConfig


@registered(FLOWS, "bernoulli_vae")
class BernoulliVAE(FlowConfig):
    """Variational autoencoder of binary images, dataset.binarize=true (Kingma and Welling, 2014)."""

    needs_index = True
    images = True
    binary = True

    dim: int = setting(20, "size of z", ge=1)
    hidden: Sizes = setting([500], "hidden sizes of the encoder; of the decoder in reverse")
    activation: Activation = setting("tanh", "activation of both networks")

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        return [BernoulliDecoder(shape, self.dim, self.hidden, self.activation)]
