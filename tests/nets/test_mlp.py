"""The multi-layer perceptron: the layers one by one, and a start at zero."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cifrun.nets.mlp import ACTIVATIONS, MLP, zero

FUNCTIONS = {"tanh": torch.tanh, "relu": F.relu, "silu": F.silu, "elu": F.elu}


def test_every_activation_is_tried() -> None:
    assert set(ACTIVATIONS) == set(FUNCTIONS)


@pytest.mark.parametrize("hidden", [[], [5], [6, 4, 7]])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_network_is_its_matrices_with_the_activation_between_them(name: str, hidden: list[int]) -> None:
    torch.manual_seed(0)
    net, x = MLP(3, hidden, 2, name).double(), torch.randn(4, 3, dtype=torch.float64)
    weights = net.state_dict()
    h = x
    for k in range(len(hidden) + 1):
        h = h if k == 0 else FUNCTIONS[name](h)
        h = h @ weights[f"{2 * k}.weight"].T + weights[f"{2 * k}.bias"]
    assert len(weights) == 2 * len(hidden) + 2
    torch.testing.assert_close(net(x), h)


@pytest.mark.parametrize("hidden", [[], [5]])
def test_a_network_that_starts_at_zero_can_leave_it(hidden: list[int]) -> None:
    torch.manual_seed(0)
    net, x = MLP(3, hidden, 2, zero_init=True), torch.randn(4, 3)
    assert torch.equal(net(x), torch.zeros(4, 2))
    net(x).sum().backward()
    assert net[-1].weight.grad.any()


def test_zero_leaves_no_parameter() -> None:
    layer = torch.nn.Linear(3, 2)
    zero(layer)
    assert not any(parameter.any() for parameter in layer.parameters())
