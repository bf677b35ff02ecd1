"""An index in one node of the graph: the same numbers as its formulas, their gradient, and the gradient of that."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor

from cifrun.bijections.linear import ElementwiseAffine
from cifrun.cif import by_hand
from cifrun.cif.actions import AffineAction, PlanarAction
from cifrun.cif.index import Index
from cifrun.cif.step import Step
from cifrun.nets.mlp import MLP

SIZES = [(2, 1, (10, 10), (10, 10)), (3, 2, (5,), (16, 4, 7)), (1, 3, (8, 8), (6,))]


def index_of(features: int, dim: int, p: tuple[int, ...], q: tuple[int, ...], **settings: Any) -> Index:
    """An index whose networks are far from their start, where most of them are zero."""
    torch.manual_seed(features)
    index = Index((features,), (features,), AffineAction(), dim, st=p, p=p, q=q, **settings)
    with torch.no_grad():
        for parameter in index.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return index


def rows(features: int, count: int = 50, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, count, features, generator=generator, dtype=dtype).unbind()
    return x.requires_grad_(), y.requires_grad_()


@pytest.mark.parametrize("sizes", SIZES)
def test_the_gradient_and_its_gradient(sizes: tuple[Any, ...]) -> None:
    """In double precision, against finite differences."""
    index = index_of(*sizes).double()
    x, y = rows(sizes[0], 4, torch.float64)
    noise = torch.randn(4, sizes[1], dtype=torch.float64)
    nets = [net for net in (index.st, index.p_net, index.q_net) if isinstance(net, MLP)]
    parameters = chain(*(chain(*net.layers()) for net in nets))
    inputs = (x, y, noise, *parameters)
    assert torch.autograd.gradcheck(by_hand._Inward.apply, inputs)
    assert torch.autograd.gradgradcheck(by_hand._Inward.apply, inputs, gen_non_contig_grad_outputs=True)


@pytest.mark.parametrize("with_x", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_it_is_what_q_a_draw_and_the_action_make_one_after_the_other(sizes: tuple[Any, ...], with_x: bool) -> None:
    index = index_of(*sizes)
    x, y = rows(sizes[0])
    x.requires_grad_(with_x)
    wanted = [y, *index.parameters(), *([x] if with_x else [])]

    def one_after_the_other() -> tuple[Tensor, Tensor]:
        u, log_q = index.q(x, y).draw()
        z, log_det, log_p = index.weigh(y, u)
        return z, log_det + log_p - log_q

    def results(inward: Callable[[], tuple[Tensor, Tensor] | None]) -> list[Tensor]:
        torch.manual_seed(1)
        moved = inward()
        assert moved is not None
        state = torch.get_rng_state()
        value = (moved[0] * torch.linspace(-1, 1, 50)[:, None]).sin().sum() + moved[1].cos().sum()
        return [*moved, *torch.autograd.grad(value, wanted), state]

    found = results(lambda: by_hand.inward(index, x, y))
    for a, b in zip(found, results(one_after_the_other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5 * max(1.0, b.detach().abs().max().item()))


def test_a_step_takes_it_in_training_alone() -> None:
    index = index_of(*SIZES[0])
    step, x = Step(ElementwiseAffine((2,)), index), rows(2)[0]
    results = []
    for training in (True, False):
        torch.manual_seed(0)
        results.append(step.train(training).inward(x))
    fused, whole = results
    assert fused.u is None and whole.u is not None and whole.q is not None
    torch.testing.assert_close(fused.z, whole.z)
    torch.testing.assert_close(fused.log_w, whole.log_w, rtol=1e-5, atol=1e-5)
    assert "_Inward" in type(fused.z.grad_fn).__name__


@pytest.mark.parametrize(
    "settings",
    [
        {"relative": False},
        {"activation": "silu"},
        {"p": "standard_normal"},
        {"q": "learned_constant"},
        {"st": (40,)},
        {"q": ()},
        {"action": PlanarAction()},
    ],
)
def test_other_indices_are_left_to_the_formulas(settings: dict[str, Any]) -> None:
    index = Index((2,), (2,), **{"action": AffineAction(), **settings})
    x, y = rows(2)
    state = torch.get_rng_state()
    assert by_hand.inward(index, x, y) is None
    assert torch.equal(torch.get_rng_state(), state)
    step = Step(ElementwiseAffine((2,)), index).train()
    assert torch.isfinite(step.inward(x).log_w).all()


def test_other_precisions_are_left_to_the_formulas() -> None:
    index, (x, y) = index_of(*SIZES[0]), rows(2)
    assert by_hand.inward(index.double(), x.double(), y.double()) is None
    with torch.autocast("cpu"):
        assert by_hand.inward(index.float(), x, y) is None
    assert by_hand.inward(index, x[:0], y[:0]) is not None
