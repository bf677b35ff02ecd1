"""Weights derived from parameters: computed once for each version of them at inference, and never saved."""

from __future__ import annotations

import copy
import io
import pickle

import torch

from cifrun.nets.masked import MaskedLinear


def folded_linear() -> tuple[MaskedLinear, torch.Tensor]:
    torch.manual_seed(0)
    return MaskedLinear(torch.ones(4, 3).tril()), torch.randn(5, 3)


def test_with_gradients_they_are_computed_anew_and_belong_to_the_graph() -> None:
    layer, _ = folded_linear()
    first, second = layer.derived(), layer.derived()
    assert first is not second and torch.equal(first, second)
    (gradient,) = torch.autograd.grad(first.sum(), layer.weight)
    assert torch.equal(gradient, torch.ones(4, 3).tril())
    with torch.no_grad():
        assert torch.equal(layer.derived(), first) and not layer.derived().requires_grad


def test_fold_is_kept_until_the_weight_changes() -> None:
    layer, _ = folded_linear()
    with torch.no_grad():
        first = layer.derived()
        assert layer.derived() is first
        layer.weight.mul_(2)
        torch.testing.assert_close(layer.derived(), 2 * first)
        layer.weight = torch.nn.Parameter(torch.ones(4, 3))
        assert torch.equal(layer.derived(), torch.ones(4, 3).tril())
        layer.weight.data.fill_(3)  # no version counts this; changing the mode does
        layer.eval()
        assert layer.derived().max() == 3


def test_fold_of_inference_mode_may_be_used_anywhere() -> None:
    layer, x = folded_linear()
    with torch.inference_mode():
        layer(x)
        weight = layer.derived()
    assert not weight.is_inference()
    with torch.no_grad():
        assert layer.derived() is weight
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.triu(1).abs().max() == 0


def test_fold_is_not_saved_copied_or_pickled() -> None:
    layer, x = folded_linear()
    with torch.no_grad():
        layer(x)
    assert layer._kept is not None
    assert set(layer.state_dict()) == {"weight", "bias"}
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin._kept is None
        assert torch.equal(twin(x), layer(x))
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    assert buffer.tell() < 4 * 16 + 3000


def test_fold_follows_a_change_of_dtype() -> None:
    layer, x = folded_linear()
    with torch.no_grad():
        layer(x)
        assert layer.double()(x.double()).dtype == torch.float64
        assert layer.float()(x).dtype == torch.float32
