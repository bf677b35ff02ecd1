"""The x with x + g(x) = z: found for any contraction, as near as the precision goes, in few passes through g."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cifrun.bijections.contraction import Anderson, Broyden, Search
from cifrun.errors import ConvergenceError

KAPPA = 0.98
Function = Callable[[Tensor], Tensor]


def counted(g: Function) -> tuple[Function, list[int]]:
    """g, and of how many rows it was asked."""
    rows: list[int] = []

    def asked(x: Tensor) -> Tensor:
        rows.append(len(x))
        return g(x)

    return asked, rows


def linear(dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """A symmetric matrix with eigenvalues spread from −κ to κ: 1/(1 − κ) is the largest stretch of the inverse."""
    torch.manual_seed(0)
    q = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64))[0]
    return ((q * torch.linspace(-KAPPA, KAPPA, dim, dtype=torch.float64)) @ q.T).to(dtype)


def broyden(g: Function) -> Search:
    def with_jacobian(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            return g(x), torch.func.vmap(torch.func.jacrev(lambda row: g(row[None])[0]))(x)

    return Broyden(g, with_jacobian)


CONTRACTIONS: dict[str, Function] = {
    "smooth": lambda x: KAPPA * torch.sin(x),
    "with corners": lambda x: -KAPPA * x.abs(),
    "a step in its slope at the solution": lambda x: torch.where(x > 0, -KAPPA * x, KAPPA * x),
    "fast": lambda x: 0.01 * KAPPA * torch.sin(100 * x.flip(1)),
    "constant": torch.zeros_like,
}


@pytest.mark.parametrize("method", [Anderson, broyden])
@pytest.mark.parametrize("name", CONTRACTIONS)
@pytest.mark.parametrize("dim", [1, 2, 7])
def test_every_contraction_has_its_inverse(method: Callable[[Function], Search], name: str, dim: int) -> None:
    g = CONTRACTIONS[name]
    torch.manual_seed(0)
    z = 3 * torch.randn(100, dim, dtype=torch.float64)
    x, residual = method(g)(z)
    assert residual < 1e-13
    torch.testing.assert_close(x + g(x), z, rtol=0, atol=1e-12)


@pytest.mark.parametrize("event", [(784,), (4, 14, 14)])
def test_andersons_method_takes_a_fifth_of_the_iterations_at_the_bound(event: tuple[int, ...]) -> None:
    matrix = linear(784)
    g, asked = counted(lambda x: (x.flatten(1) @ matrix).view_as(x))
    z = torch.randn(20, *event, dtype=torch.float64)
    x, _ = Anderson(g)(z)
    truth = torch.linalg.solve(torch.eye(784, dtype=torch.float64) + matrix, z.flatten(1).T).T
    torch.testing.assert_close(x.flatten(1), truth, rtol=0, atol=1e-11)
    # iterating takes log(1e-15) / log(κ) = 1 700 passes a row
    assert sum(asked) / len(z) < 340


@pytest.mark.parametrize("dim", [64, 784])
def test_single_precision_at_the_bound(dim: int) -> None:
    """x is up to 50 times as large as z, and is found as near as numbers of its size can be."""
    matrix = linear(dim, torch.float32)
    x, _ = Anderson(lambda x: x @ matrix)(torch.randn(50, dim))
    back = x.double() + x.double() @ matrix.double()
    again, _ = Anderson(lambda x: x @ matrix)(back.float())
    assert (again - x).abs().max() < 50 * 16 * torch.finfo(torch.float32).eps * (1 + x.abs().max())


def test_rows_do_not_wait_for_each_other() -> None:
    """Nor does a row depend on the others: one that is far off changes nothing."""
    g, asked = counted(lambda x: KAPPA * torch.sin(x))
    z = torch.zeros(100, 5, dtype=torch.float64)
    z[0] = torch.linspace(1, 3, 5, dtype=torch.float64)
    x, _ = Anderson(g)(z)
    assert asked[1:] == [1] * (len(asked) - 1)
    torch.testing.assert_close(x[:1], Anderson(g)(z[:1])[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("method", [Anderson, broyden])
def test_no_rows_and_numbers_that_are_none(
    method: Callable[[Function], Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifrun.bijections.contraction.MAX_ITERATIONS", 20)
    search = method(lambda x: 0.5 * x)
    x, residual = search(torch.zeros(0, 3))
    assert x.shape == (0, 3) and residual == 0
    with pytest.raises(ConvergenceError, match="for 1 of 2 points"):
        search(torch.tensor([[1.0, 2, 3], [1, float("nan"), 3]]))
