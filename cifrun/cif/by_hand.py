"""What an index does on the way inward, as one node of the graph, with the gradient written out by hand.

The networks of an index are small, so that in training most of what it costs is the starting of operations. Here the
whole of it, from x = z_l, y = f⁻¹(x) and the noise ε to z_{l−1} and its share of log w, is one operation:

    (μ, λ) = p(y),    (Δμ, Δ) = q(x),    u = μ + e^λ Δμ + e^{λ+Δ} ε
    (s, t) = st(u),   z = e^s (y + t),   (μ', λ') = p(z),   r = (u − μ') e^{−λ'}
    log w = Σ s + Σ (λ + Δ − λ') + ½ Σ (ε² − r²)

The sums run over the dimensions of z and of u; constants cancel. All of it is `Index.q`, `DiagonalGaussian.draw` and
`Index.weigh`, one after the other, for the default index: an affine action, and tanh networks that are not wide, of
which q is relative to p. It takes about two thirds of their time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..compute.rng import normal
from ..nets._kernels import by_hand, differentiable
from ..nets._kernels.tanh import gradients, is_narrow, plain, run, to_input
from ..nets.mlp import MLP
from .actions import AffineAction
from .index import Index

__all__ = ["inward"]

#: Weights and biases of a network.
Layers: TypeAlias = tuple[Sequence[Tensor], Sequence[Tensor]]


def inward(index: Index, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
    """z_{l−1} (batch, D) and the index's share of log w, (batch,), with u ~ q; None if this index or x is not for it.

    Arguments:
        index: Of the step.
        x: z_l, (batch, D).
        y: f⁻¹(x), (batch, D).
    """
    nets = index.st, index.p_net, index.q_net
    if index.gradient is not None:
        return None
    if not (index.relative and type(index.action) is AffineAction and x.ndim == y.ndim == 2):
        return None
    if not (y.dtype == torch.float32 and y.is_cpu and by_hand(y)) or x.shape[1:] != index.data_shape:
        return None
    if y.shape[1:] != index.shape or not all(isinstance(net, MLP) and net.is_tanh for net in nets):
        return None
    layers = [net.layers() for net in nets if isinstance(net, MLP)]
    if not all(len(weights) > 1 and is_narrow(weights) for weights, _ in layers):
        return None
    noise = normal((1, len(y), index.dim), y, dim=1)[0]  # what a draw from q takes
    return _Inward.apply(x, y, noise, *chain(*(chain(*pair) for pair in layers)))


def _split(parameters: Sequence[Tensor]) -> tuple[Layers, Layers, Layers]:
    """The weights and biases of st, p and q: weights are matrices, and a network ends with its last bias."""
    found: list[Layers] = []
    rest = list(parameters)
    while rest:
        count = next(k for k, tensor in enumerate(rest) if tensor.ndim == 1)
        found.append((rest[:count], rest[count : 2 * count]))
        rest = rest[2 * count :]
    st, p, q = found
    return st, p, q


def _formulas(x: Tensor, y: Tensor, noise: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The formulas as they stand."""
    st, p, q = _split(parameters)
    (mean, log_std), (shift, widen) = plain(y, *p).chunk(2, 1), plain(x, *q).chunk(2, 1)
    u = mean + log_std.exp() * shift + (log_std + widen).exp() * noise
    s, t = plain(u, *st).chunk(2, 1)
    z = s.exp() * (y + t)
    mean_after, log_std_after = plain(z, *p).chunk(2, 1)
    r = (u - mean_after) * (-log_std_after).exp()
    return z, s.sum(1) + (log_std + widen - log_std_after + 0.5 * (noise.square() - r.square())).sum(1)


class _Inward(torch.autograd.Function):
    """`inward`; inside, batches lie with their features first."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, noise: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        st, p, q = _split(parameters)
        e = noise.T
        prior, p_states = run(y.T, *p, turned=True)
        posterior, q_states = run(x.T, *q, turned=True)
        (mean, log_std), (shift, widen) = prior.chunk(2), posterior.chunk(2)
        std = log_std.exp()
        spread = widen.exp().mul_(std).mul_(e)
        rise = torch.addcmul(spread, std, shift)
        u = mean + rise
        h, st_states = run(u, *st, turned=True)
        s, t = h.chunk(2)
        scale = s.exp()
        z = (y.T + t).mul_(scale)
        prior_after, after_states = run(z, *p, turned=True)
        mean_after, log_std_after = prior_after.chunk(2)
        narrow = torch.exp(-log_std_after)
        r = (u - mean_after).mul_(narrow)
        terms = (log_std + widen).sub_(log_std_after).addcmul_(e, e, value=0.5).addcmul_(r, r, value=-0.5)
        kept = std, spread, rise, u, scale, z, narrow, r
        ctx.counts = [len(states) for states in (st_states, p_states, q_states)]
        ctx.save_for_backward(x, y, noise, *parameters, *kept, *st_states, *p_states, *q_states, *after_states)
        return z.T, s.sum(0).add_(terms.sum(0))

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor, grad_w: Tensor) -> tuple[Tensor | None, ...]:
        x, y, noise, *rest = ctx.saved_tensors
        own, n_p, n_q = ctx.counts
        count = 2 * (own + n_p + n_q + 3)
        parameters, rest = rest[:count], rest[count:]
        if torch.is_grad_enabled():  # somebody will differentiate this gradient
            wanted = ctx.needs_input_grad
            inputs = x, y, noise, *parameters
            return differentiable(_formulas(x, y, noise, parameters), inputs, (grad_z, grad_w), wanted)
        st, p, q = _split(parameters)
        std, spread, rise, u, scale, z, narrow, r, *states = rest
        ends = own, own + n_p, own + n_p + n_q
        st_states, p_states = states[: ends[0]], states[ends[0] : ends[1]]
        q_states, after_states = states[ends[1] : ends[2]], states[ends[2] :]
        # log p(u | z)
        pull = r * narrow * grad_w
        after = gradients(torch.cat([pull, (r * r - 1).mul_(grad_w)]), z, p[0], after_states, turned=True)
        # z = e^s (y + t)
        grad = grad_z.T + to_input(after.first, p[0], turned=True)
        grad_t = grad * scale
        action = gradients(torch.cat([torch.addcmul(grad_w, grad, z), grad_t]), u, st[0], st_states, turned=True)
        # u, and −log q(u | x)
        grad_u = to_input(action.first, st[0], turned=True) - pull
        grad_prior = torch.cat([grad_u, torch.addcmul(grad_w, grad_u, rise)])
        prior = gradients(grad_prior, y.T, p[0], p_states, turned=True)
        grad_posterior = torch.cat([grad_u * std, torch.addcmul(grad_w, grad_u, spread)])
        posterior = gradients(grad_posterior, x.T, q[0], q_states, turned=True)
        grad_x = to_input(posterior.first, q[0], turned=True).T if ctx.needs_input_grad[0] else None
        grad_y = (grad_t + to_input(prior.first, p[0], turned=True)).T
        twice = [a + b for a, b in zip(prior.parameters, after.parameters, strict=True)]
        return grad_x, grad_y, None, *action.parameters, *twice, *posterior.parameters
