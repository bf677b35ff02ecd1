"""Lipschitz constants of maps whose constants are known, and Jacobians against independent ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cifrun.bijections.base import Bijection, Compose, Identity, Invert
from cifrun.bijections.linear import ElementwiseAffine, LULinear
from cifrun.bijections.norm import ActNorm, BatchNorm
from cifrun.bijections.permutation import Flip, Permutation
from cifrun.bijections.planar import Planar
from cifrun.bijections.preprocess.standardize import Standardize, Whiten
from cifrun.bijections.residual import ResidualBlock
from cifrun.build import build_model
from cifrun.cif import paths
from cifrun.cif.model import Model
from cifrun.cif.step import Step
from cifrun.diagnostics import invertibility
from cifrun.errors import ConvergenceError
from cifrun.nets.lipschitz.networks import LipschitzMLP
from tests.helpers import SMALL_INDEX, randomise, small_config, small_model


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Linear(Bijection):
    """z = A x."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__((len(matrix),))
        self.register_buffer("matrix", matrix)

    def _forward(self, x):
        return x @ self.matrix.T, torch.linalg.slogdet(self.matrix)[1].expand(len(x))

    def _inverse(self, z):
        return torch.linalg.solve(self.matrix, z.T).T


def stack(*bijections: Bijection) -> Model:
    return Model([Step(b) for b in bijections]).double().eval()


def measured(model: Model, n: int = 20):
    x = torch.randn(n, *model.shape, dtype=torch.float64)
    return invertibility.lipschitz(model, [paths.infer(model, x)])


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_linear_maps_have_their_singular_values(dim: int) -> None:
    a, b = torch.randn(2, dim, dim, dtype=torch.float64)
    result = measured(stack(Linear(a), Linear(b)))
    values = torch.linalg.svdvals(b @ a)
    assert result["lip_f_inverse"] == pytest.approx(values[0].item())
    assert result["lip_f"] == pytest.approx(1 / values[-1].item())
    assert result["bi_lipschitz"] == pytest.approx(max(values[0].item(), 1 / values[-1].item()))
    first, second = result["lipschitz_by_depth"]
    assert first["depth"] == 1 and first["lip_f_inverse"] == pytest.approx(torch.linalg.svdvals(a)[0].item())
    norms = [torch.linalg.svdvals(m)[0].item() for m in (a, b)]
    assert second["product_f_inverse"] == pytest.approx(math.prod(norms))
    assert "lipschitz_ceiling" not in result  # a map that tells no bound


@pytest.mark.parametrize("limit", [64, 1])
@pytest.mark.parametrize("kind", [Standardize, Whiten])
@pytest.mark.parametrize("flow", ["maf", "resflow"])
def test_a_step_that_standardises_is_left_out(
    flow: str, kind: type[Bijection], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of incomes, constants are those of the flow behind it, by autograd; and of five blocks there are five depths."""
    monkeypatch.setattr(invertibility, "EXACT_UP_TO", limit)
    mean, scale = torch.tensor([3e4, 40.0, -2.0]).double(), torch.tensor([1e4, 10.0, 0.01]).double()
    first = Standardize((3,), mean, scale) if kind is Standardize else Whiten((3,), mean, scale.diag())
    flow_alone = build_model(small_config(flow, False, flow={"depth": 5}), (3,)).double().eval()
    randomise(flow_alone, scale=0.1)
    model = Model([Step(first), *flow_alone.steps]).double().eval()
    z = torch.randn(20, 3, dtype=torch.float64)
    result = invertibility.lipschitz(model, [paths.infer(model, mean + z * scale)])

    def inward(z: Tensor) -> Tensor:
        *_, last = flow_alone.inward(z[None], [None] * len(flow_alone.steps))
        return last.z[0]

    values = torch.linalg.svdvals(torch.stack([torch.autograd.functional.jacobian(inward, row) for row in z]))
    assert result["lip_f_inverse"] == pytest.approx(values[:, 0].max().item(), rel=1e-4)
    assert result["lip_f"] == pytest.approx(1 / values[:, -1].min().item(), rel=1e-4)
    depths = [row["depth"] for row in result["lipschitz_by_depth"]]
    assert depths[-1] == len(flow_alone.steps) and len(depths) == min(len(flow_alone.steps), 8 if limit == 1 else 64)
    if flow == "resflow":
        assert result["lipschitz_ceiling"] == pytest.approx(1e5)
        assert [row["ceiling"] for row in result["lipschitz_by_depth"]] == pytest.approx([10.0**k for k in range(1, 6)])


def test_of_a_model_that_only_standardises_that_is_measured() -> None:
    only = Standardize((1,), torch.zeros(1), torch.tensor([4.0]))
    assert measured(stack(only))["lip_f"] == pytest.approx(4)


def test_rotations_change_nothing_and_scales_may_cancel() -> None:
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]]).double()
    result = measured(stack(Linear(turn), Linear(4 * turn), Linear(turn.T / 4), Flip((2,))))
    rows = result["lipschitz_by_depth"]
    assert [row["lip_f_inverse"] for row in rows] == pytest.approx([1, 4, 1, 1])
    assert [row["product_f_inverse"] for row in rows] == pytest.approx([1, 4, 1, 1])
    assert [row["product_f"] for row in rows] == pytest.approx([1, 0.25, 1, 1])
    stretch = torch.diag(torch.tensor([2.0, 0.5])).double()
    result = measured(stack(Linear(stretch), Linear(torch.linalg.inv(stretch))))
    assert result["bi_lipschitz"] == pytest.approx(1)  # the composition is the identity; the product does not see that
    assert result["lipschitz_by_depth"][-1]["product_f"] == pytest.approx(4)


@pytest.mark.parametrize("kappa", [0.3, 0.9])
def test_residual_blocks_stay_below_their_ceiling_and_can_come_near(kappa: float) -> None:
    blocks = [ResidualBlock((2,), LipschitzMLP(2, [16], kappa)) for _ in range(3)]
    model = stack(*blocks)
    randomise(model, 2.0)
    result = measured(model, 200)
    assert result["lipschitz_ceiling"] == pytest.approx(max(1 + kappa, 1 / (1 - kappa)) ** 3)
    for row in result["lipschitz_by_depth"]:
        assert row["lip_f"] <= row["product_f"] * (1 + 1e-9) <= row["ceiling"] * (1 + 1e-6)
        assert row["lip_f_inverse"] <= row["product_f_inverse"] * (1 + 1e-9) <= (1 + kappa) ** row["depth"] * (1 + 1e-6)
    # g = −κ x reaches it: z = (1 − κ) x
    linear = stack(Linear((1 - kappa) * torch.eye(2, dtype=torch.float64)))
    assert measured(linear)["bi_lipschitz"] == pytest.approx(1 / (1 - kappa))


def bounded() -> list[Bijection]:
    factor = torch.tensor([[2.0, 0.0], [1.0, 0.3]])
    batch_norm = BatchNorm((2,))
    batch_norm.running_var.copy_(torch.tensor([0.04, 9.0]))
    norms = [ActNorm((2,)), batch_norm, ElementwiseAffine((2,)), LULinear((2,))]
    for norm in norms:
        randomise(norm)
    return [
        Identity((2,)), Flip((2,)), Permutation((2,)), *norms,
        Standardize((2,), torch.zeros(2), torch.tensor([0.1, 5.0])), Whiten((2,), torch.zeros(2), factor),
        ResidualBlock((2,), LipschitzMLP(2, [8], 0.5)), Compose([LULinear((2,)), norms[0]]), Invert(norms[3]),
    ]  # fmt: skip


@pytest.mark.parametrize("bijection", bounded(), ids=lambda b: type(b).__name__)
def test_ceilings_hold_and_are_exact_for_linear_maps(bijection: Bijection) -> None:
    result = measured(stack(bijection))
    assert result["bi_lipschitz"] <= result["lipschitz_ceiling"] * (1 + 1e-6)
    if not isinstance(bijection, ResidualBlock):
        assert result["bi_lipschitz"] == pytest.approx(result["lipschitz_ceiling"], rel=1e-5)


def test_one_map_without_a_bound_or_one_index_leaves_no_ceiling() -> None:
    assert invertibility.ceilings(stack(Flip((2,)), Planar(2))) is None
    assert invertibility.ceilings(small_model("resflow", True)) is None
    assert invertibility.ceilings(small_model("resflow", False)) == pytest.approx([10, 100])


@pytest.mark.parametrize("flow", ["resflow", "maf", "nsf_coupling", "cnf"])
@pytest.mark.parametrize("cif", [False, True])
def test_jacobians_are_those_of_the_maps_both_ways(flow: str, cif: bool) -> None:
    """∂F⁻¹/∂x against autograd through the whole map with u held fixed, and ∂F/∂z against differences of F itself."""
    model = small_model(flow, cif, dim=3, index=SMALL_INDEX)
    path = paths.infer(model, torch.randn(4, 3, dtype=torch.float64))
    product = torch.eye(3, dtype=torch.float64).expand(4, 3, 3)
    for jacobian in invertibility.step_jacobians(model, path):
        product = jacobian @ product

    def into(x: Tensor) -> Tensor:
        *_, last = model.inward(x, path.u)
        return last.z

    torch.testing.assert_close(into(path.x), path.z)
    step = 1e-5
    for i in range(3):
        e = step * torch.eye(3, dtype=torch.float64)[i]
        inward = (into(path.x + e) - into(path.x - e)) / (2 * step)
        torch.testing.assert_close(product[:, :, i], inward, rtol=1e-5, atol=1e-5)
        outward = (paths.outward(model, path.z + e, path.u) - paths.outward(model, path.z - e, path.u)) / (2 * step)
        torch.testing.assert_close(torch.linalg.inv(product)[:, :, i], outward, rtol=1e-4, atol=1e-4)
    dets = invertibility.log_abs_det(model, [path])
    log_det = -torch.linalg.slogdet(product)[1]
    assert dets["log_abs_det_min"] == pytest.approx(log_det.min().item(), abs=1e-5)
    assert dets["log_abs_det_max"] == pytest.approx(log_det.max().item(), abs=1e-5)


def test_weights_along_a_path_are_the_models() -> None:
    """A draw's log w is log p(x, u) − log q(u | x); a plain flow's is log p(x)."""
    plain = small_model("maf", False)
    path = paths.generate(plain, torch.randn(5, 2, dtype=torch.float64))
    torch.testing.assert_close(paths.log_weight(plain, path), plain.log_prob(path.x))
    cif = small_model("maf", True)
    x = torch.randn(5, 2, dtype=torch.float64)
    torch.manual_seed(3)
    expected = cif.log_w(x)[0]
    torch.manual_seed(3)
    torch.testing.assert_close(paths.log_weight(cif, paths.infer(cif, x)), expected)


# --- above 64 dimensions ----------------------------------------------------------------------------------------------


def extremes(matrices: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    def matvec(v):
        return (matrices @ v[..., None])[..., 0]

    def rmatvec(w):
        return (matrices.mT @ w[..., None])[..., 0]

    return invertibility.extreme_singular_values(matvec, rmatvec, torch.randn(matrices.shape[:2]).double(), steps)


def test_bidiagonalisation_of_random_matrices() -> None:
    matrices = torch.randn(6, 40, 40, dtype=torch.float64)
    exact = torch.linalg.svdvals(matrices)
    before = torch.zeros(6, dtype=torch.float64), torch.full((6,), math.inf, dtype=torch.float64)
    for steps in (1, 5, 20, 40):
        high, low = extremes(matrices, steps)
        assert (high <= exact[:, 0] * (1 + 1e-9)).all() and (low >= exact[:, -1] * (1 - 1e-6)).all()
        assert (high >= before[0] * 0.99).all()
        before = high, low
    torch.testing.assert_close(high, exact[:, 0])
    torch.testing.assert_close(low, exact[:, -1], rtol=1e-6, atol=1e-9)


def test_bidiagonalisation_beats_a_power_iteration_of_as_many_products() -> None:
    matrices = torch.randn(6, 100, 100, dtype=torch.float64)
    high, _ = extremes(matrices, 12)
    v = torch.randn(6, 100, 1).double()
    for _ in range(12):
        v = torch.nn.functional.normalize(matrices.mT @ (matrices @ v), dim=1)
    assert (high >= (matrices @ v).norm(dim=1)[:, 0]).all()


def test_bidiagonalisation_of_a_multiple_of_a_rotation() -> None:
    """Every line is an invariant subspace: it ends after one step, and says so of each row by itself."""
    rotation = torch.linalg.qr(torch.randn(30, 30, dtype=torch.float64))[0]
    high, low = extremes(torch.stack([3 * rotation, torch.randn(30, 30).double()]), 30)
    assert high[0].item() == pytest.approx(3) and low[0].item() == pytest.approx(3)
    assert high[1] > low[1] > 0


@pytest.mark.parametrize("flow", ["realnvp", "maf", "resflow"])
@pytest.mark.parametrize("cif", [False, True])
def test_many_dimensions_agree_with_whole_jacobians(flow: str, cif: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(flow, cif, dim=12)
    path = paths.infer(model, torch.randn(5, 12, dtype=torch.float64))
    exact, _, depths = invertibility.singular_values(model, path)
    monkeypatch.setattr(invertibility, "EXACT_UP_TO", 8)
    estimated, single, same = invertibility.singular_values(model, path)
    assert same == depths and single.shape == exact.shape
    torch.testing.assert_close(estimated, exact, rtol=1e-4, atol=1e-8)


def test_few_depths_of_many() -> None:
    model = build_model(small_config("realnvp", False, flow={"depth": 20}), (70,)).double().eval()
    _, _, depths = invertibility.singular_values(model, paths.infer(model, torch.randn(2, 70, dtype=torch.float64)))
    assert len(depths) == invertibility.MOST_DEPTHS and depths[-1] == len(model.steps)


# --- round trips and failures -----------------------------------------------------------------------------------------


def test_round_trips_show_the_precision() -> None:
    # Far from the identity in one direction: the way back magnifies rounding a thousandfold.
    model = stack(Linear(torch.diag(torch.tensor([1e-3, 1.0])).double()), Linear(torch.ones(2, 2).double().tril()))
    x = torch.randn(50, 2, dtype=torch.float64)
    double = invertibility.round_trip(model, x)
    single = invertibility.round_trip(model.float(), x.float())
    assert double < 1e-12 and 1e-8 < single < 1e-3


def test_a_map_that_is_no_bijection_is_found_out() -> None:
    class Wrong(Linear):
        def _inverse(self, z):
            return super()._inverse(z) + 0.5

    class Broken(Linear):
        def _inverse(self, z):
            return z * math.nan

    x = torch.zeros(3, 2, dtype=torch.float64)
    assert invertibility.round_trip(stack(Wrong(torch.eye(2))), x) == pytest.approx(0.5)
    with pytest.raises(ConvergenceError, match="3 of 3"):
        invertibility.round_trip(stack(Broken(torch.eye(2))), x)
    with pytest.raises(ConvergenceError, match="singular or not finite at 20 of 20"):
        measured(stack(Linear(torch.diag(torch.tensor([1.0, 0.0])))))
