"""Matrix products by way of convolutions: the same numbers, to rounding, with all derivatives, whatever the shapes."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cifrun.nets._kernels import linear as products
from cifrun.nets._kernels.jacobian import value_and_tangents
from cifrun.nets._kernels.linear import Linear, linear, transposed_product
from cifrun.nets.masked import MaskedMLP
from cifrun.nets.mlp import MLP


class Operations(TorchDispatchMode):
    """Names of the operations that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **kwargs or {})


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of any size are convolutions, whatever the processor."""
    monkeypatch.setattr(products, "ONEDNN", True)
    monkeypatch.setattr(products, "LARGE", 1)
    monkeypatch.setattr(products, "NARROW", 1)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def derivatives(function: Any, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """The value, its gradient by each input, and the gradient of that gradient's squares."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    y = function(*inputs)
    first = torch.autograd.grad((y * y).sum(), inputs, create_graph=True)
    second = torch.autograd.grad(sum((g * g).sum() for g in first), inputs)
    return [t.detach().double() for t in (y, *first, *second)]


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("shape", [(7, 5), (1, 1), (300, 33), (4, 6, 5), (2, 3, 4, 5), (0, 3)])
@pytest.mark.parametrize("out", [1, 8, 19])
@pytest.mark.parametrize("biased", [False, True])
def test_a_linear_map_and_its_derivatives(shape: tuple[int, ...], out: int, biased: bool) -> None:
    inputs = [draw(*shape), draw(out, shape[-1], seed=1), *([draw(out, seed=2)] if biased else [])]
    with Operations() as operations:
        found = derivatives(linear, inputs)
    assert ("convolution" in operations.names) == (0 not in shape)
    expected = derivatives(F.linear, [x.double() for x in inputs])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(b.abs().max()) if b.numel() else 0))
    assert linear(*inputs).is_contiguous()


@pytest.mark.usefixtures("always")
def test_the_layout_of_the_inputs_does_not_matter() -> None:
    x, weight = draw(6, 40).T, draw(6, 9, seed=1).T
    torch.testing.assert_close(linear(x, weight), x @ weight.T)
    assert linear(x, weight).is_contiguous()
    rows = draw(3, 1, 6).expand(3, 5, 6)
    torch.testing.assert_close(linear(rows, weight), rows @ weight.T)
    grad = draw(9, 40, seed=2).T
    torch.testing.assert_close(transposed_product(grad, x), grad.T @ x)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(("batch", "columns"), [(1, 3), (50, 2), (400, 17)])
@pytest.mark.parametrize("out", [1, 5, 16])
def test_a_transposed_product(batch: int, columns: int, out: int) -> None:
    grad, x = draw(batch, out), draw(batch, columns, seed=1)
    with Operations() as operations:
        found = transposed_product(grad, x)
    assert "convolution_backward" in operations.names
    expected = grad.double().T @ x.double()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * batch**0.5)


def test_small_double_and_other_products_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "ONEDNN", True)
    large = products.LARGE // (64 * 64) + 1
    for x, weight, convolved in (
        (draw(large, 64), draw(64, 64, seed=1), True),
        (draw(large - 2, 64), draw(64, 64, seed=1), False),
        (draw(large, 64).double(), draw(64, 64, seed=1).double(), False),
        (draw(products.LARGE // 2, 2), draw(products.NARROW, 2, seed=1), False),
        (draw(64), draw(64, 64, seed=1), False),
        (draw(3000), draw(3000, 3000, seed=1), False),
        (draw(2, 3000), draw(3000, 3000, seed=1), False),
    ):
        with Operations() as operations:
            y = linear(x, weight)
        assert ("convolution" in operations.names) == convolved
        torch.testing.assert_close(y, F.linear(x, weight), rtol=1e-4, atol=1e-3)
    monkeypatch.setattr(products, "ONEDNN", False)
    with Operations() as operations:
        linear(draw(large, 64), draw(64, 64, seed=1))
    assert "convolution" not in operations.names


def tangents(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
    value, rows = value_and_tangents(x, parameters[:3], parameters[3:])
    return torch.cat([value[None], rows])


@pytest.mark.parametrize("kind", ["tanh", "relu", "masked tanh", "masked residual", "tangents"])
def test_a_networks_gradient_does_not_depend_on_who_multiplies(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    x = torch.randn(60, 3)
    net: nn.Module = {
        "tanh": lambda: MLP(3, [20, 24, 20], 4),
        "relu": lambda: MLP(3, [20, 24], 4, activation="relu"),
        "masked tanh": lambda: MaskedMLP(3, [20, 24], 4),
        "masked residual": lambda: MaskedMLP(3, [20, 20, 20], 4, activation="relu", residual=True),
        "tangents": lambda: MLP(3, [20, 24], 3, activation="silu"),
    }[kind]()
    function: Any = net
    if kind == "tangents":
        layers = list(net.children())[::2]
        parameters = [layer.weight for layer in layers] + [layer.bias for layer in layers]
        function = lambda x: tangents(x, *parameters)  # noqa: E731
    results = []
    for convolved in (False, True):
        monkeypatch.setattr(products, "ONEDNN", False)
        if convolved:
            request.getfixturevalue("always")
        with torch.no_grad():
            frozen = function(x)
        y = function(x)
        leaves = [p for p in net.parameters() if p.requires_grad]
        with Operations() as operations:
            grads = torch.autograd.grad((y * y).sum(), leaves, allow_unused=True)
        assert ("convolution_backward" in operations.names) == convolved
        results.append([frozen, y.detach(), *(g for g in grads if g is not None)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(a.abs().max())))


@pytest.mark.parametrize(
    ("text", "processor", "intel"),
    [
        ("processor : 0\nvendor_id : GenuineIntel\n", "", True),
        ("processor : 0\nvendor_id : AuthenticAMD\n", "", False),
        (None, "Intel64 Family 6 Model 85 Stepping 4, GenuineIntel", True),
        (None, "AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD", False),
    ],
)
def test_whose_processor_it_is(text: str | None, processor: str, intel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(path: str) -> io.StringIO:
        if text is None:
            raise FileNotFoundError(path)
        return io.StringIO(text)

    monkeypatch.setattr(products, "open", opened, raising=False)
    monkeypatch.setattr("platform.processor", lambda: processor)
    assert products._intel() == intel


def test_a_layer_is_a_linear_layer_of_torch() -> None:
    layer, other = Linear(4, 3), nn.Linear(4, 3)
    layer.load_state_dict(other.state_dict())
    assert torch.equal(layer(draw(5, 4)), other(draw(5, 4)))
