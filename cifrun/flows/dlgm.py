"""Deep latent Gaussian model: several steps that do nothing by themselves, each with an index.

    u_l | z_{l−1} ~ N(μ_l(z_{l−1}), σ_l(z_{l−1})²),   z_l = e^{−s_l(u_l)} ⊙ z_{l−1} − t_l(u_l),     l = 1 … L,  x = z_L

Each layer is a small Gaussian network, and noise comes in at each. With linear s and t (`index.st=[]`) and s = 0 it is
the model of the reference, z_l = T_l(z_{l−1}) + G_l ξ_l with ξ_l ~ N(0, I).

Reference: Rezende, Mohamed, Wierstra, "Stochastic backpropagation and approximate inference in deep generative models",
ICML 2014 (https://arxiv.org/abs/1401.4082).
"""

from __future__ import annotations

from ..config.fields import registered, setting
from ..registry import FLOWS
from .vae import VAE


@registered(FLOWS, "dlgm")
class DLGM(VAE):
    """Deep latent Gaussian model: several indices and no flow (Rezende et al., 2014)."""

    chooses = ""

    depth: int = setting(5, "number of layers L, each an identity step and its index", ge=1)
