"""What every bijection promises: its log-determinant, its inverse, gradients, shapes, and rows that do not mix.

Each promise is written down in `cifrun.testing.bijections`. To cover one more bijection, add a small instance of it to
`FACTORIES`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.bijections.autoregressive import Autoregressive
from cifrun.bijections.base import Bijection, Compose, Identity, Invert
from cifrun.bijections.bnaf import BlockAutoregressive
from cifrun.bijections.cnf import CNF
from cifrun.bijections.coupling import Coupling
from cifrun.bijections.linear import ElementwiseAffine, LULinear
from cifrun.bijections.norm import ActNorm, BatchNorm
from cifrun.bijections.permutation import Flip, Permutation
from cifrun.bijections.planar import Planar
from cifrun.bijections.sos import SumOfSquares
from cifrun.bijections.spline import RationalQuadraticSpline
from cifrun.bijections.univariate import Affine, Univariate
from cifrun.errors import ConvergenceError
from cifrun.testing.bijections import CHECKS, BijectionCase
from cifrun.testing.promises import NotPromised, keep

FACTORIES: dict[str, Callable[[], Bijection]] = {
    "identity": lambda: Identity((3,)),
    "flip": lambda: Flip((4,)),
    "flip-image": lambda: Flip((2, 3, 3)),
    "permutation": lambda: Permutation((5,)),
    "elementwise-affine": lambda: ElementwiseAffine((3,)),
    "elementwise-affine-image": lambda: ElementwiseAffine((2, 2, 3)),
    "actnorm": lambda: ActNorm((3,)),
    "batchnorm": lambda: BatchNorm((3,)),
    "batchnorm-image": lambda: BatchNorm((2, 2, 2)),
    "maf-1": lambda: Autoregressive(1, Affine(), [8, 8]),
    "maf-2": lambda: Autoregressive(2, Affine(), [8, 8]),
    "maf-5": lambda: Autoregressive(5, Affine(), [8, 7], "silu"),
    "maf-residual": lambda: Autoregressive(4, Affine(), [9, 9, 9], "elu", residual=True),
    "coupling-2": lambda: Coupling(2, Affine(), [8]),
    "coupling-5": lambda: Coupling(5, Affine(), [8, 8], parity=1),
    "coupling-separate": lambda: Coupling(4, Affine(), [8], shared_nets=False),
    "coupling-unconditional": lambda: Coupling(3, Affine(), [8], unconditional=True),
    "lu-1": lambda: LULinear((1,)),
    "lu-4": lambda: LULinear((4,)),
    "spline-ar-1": lambda: Autoregressive(1, RationalQuadraticSpline(4, 2.0), [8]),
    "spline-ar-3": lambda: Autoregressive(3, RationalQuadraticSpline(5, 2.0), [8, 8], "relu", residual=True),
    "spline-coupling": lambda: Coupling(3, RationalQuadraticSpline(4, 1.5), [8], unconditional=True),
    "sos-1": lambda: Autoregressive(1, SumOfSquares(2, 2), [8]),
    "sos-3": lambda: Autoregressive(3, SumOfSquares(2, 3), [8, 8]),
    "planar-1": lambda: Planar(1),
    "planar-4": lambda: Planar(4),
    "bnaf-1": lambda: BlockAutoregressive(1, 5, 2),
    "bnaf-3": lambda: BlockAutoregressive(3, 4, 3),
    "cnf-1": lambda: CNF(1, [8], 1e-9, 1e-9),
    "cnf-3": lambda: CNF(3, [8, 8], 1e-9, 1e-9),
    "cnf-estimated": lambda: CNF(3, [8, 8], 1e-9, 1e-9, exact=False),
    "compose": lambda: Compose([Autoregressive(3, Affine(), [8]), Flip((3,)), Coupling(3, Affine(), [8])]),
    "invert": lambda: Invert(Coupling(3, Affine(), [8])),
}

UNIVARIATE: dict[str, Univariate] = {
    "affine": Affine(),
    "spline": RationalQuadraticSpline(8, 3.0),
    "sum-of-squares": SumOfSquares(2, 4),
}


CASES = {name: BijectionCase(make) for name, make in FACTORIES.items()}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("promise", CHECKS)
def test_a_bijection_keeps_its_promise(promise: str, name: str) -> None:
    try:
        keep(CHECKS[promise], CASES[name])
    except NotPromised as reason:
        pytest.skip(str(reason))


# --- univariate maps --------------------------------------------------------------------------------------------------

scale = st.sampled_from([0.01, 1.0, 30.0])


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(UNIVARIATE)), scale, scale, st.integers(0, 10**6))
def test_univariate_maps_increase_and_invert(name: str, width: float, spread: float, seed: int) -> None:
    f = UNIVARIATE[name]
    generator = torch.Generator().manual_seed(seed)
    x = (width * torch.randn(2, 40, generator=generator, dtype=torch.float64)).sort().values
    h = (spread * torch.randn(2, 1, f.size, generator=generator, dtype=torch.float64)).expand(2, 40, -1)
    z, log_slope = f.forward(x, h)
    assert z.isfinite().all()
    assert log_slope.isfinite().all()
    assert (z.diff() >= 0).all()
    back = f.inverse(z, h)
    tolerance = 1e-9 * (1 + x.abs() + z.abs() * (-log_slope).exp())  # what rounding of z does to x
    assert ((back - x).abs() <= 1e3 * tolerance).all()


@pytest.mark.parametrize("name", UNIVARIATE)
def test_univariate_maps_start_near_the_identity(name: str) -> None:
    f = UNIVARIATE[name]
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    z, log_slope = f.forward(x, x.new_zeros(9, f.size))
    torch.testing.assert_close(z, x, rtol=0.02, atol=0.02)
    torch.testing.assert_close(log_slope, torch.zeros_like(x), rtol=0, atol=0.02)


def test_affine_maps_do_not_overflow() -> None:
    h = torch.tensor([[1e6, 0.0], [-1e6, 0.0]])
    z, log_slope = Affine().forward(torch.ones(2), h)
    assert log_slope.tolist() == [8.0, -8.0]
    assert z.isfinite().all()


# --- permutations and norms -------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 10**6))
def test_permutations_permute(size: int, seed: int) -> None:
    permutation = Permutation((size,), torch.Generator().manual_seed(seed))
    again = Permutation((size,), torch.Generator().manual_seed(seed))
    assert torch.equal(permutation.order, again.order)
    assert sorted(permutation.order.tolist()) == list(range(size))
    assert size == 1 or permutation.order.tolist() != list(range(size))


@pytest.mark.parametrize("shape", [(3,), (2, 4, 4)])
def test_actnorm_standardises_its_first_training_batch(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm, x = ActNorm(shape), 5 * torch.randn(200, *shape) + 3
    assert torch.equal(norm.eval()(x)[0], x)  # evaluation sets nothing
    z = norm.train()(x)[0]
    assert abs(z.mean()) < 1e-5
    assert abs(z.std() - 1) < 0.02
    weights = copy.deepcopy(norm.state_dict())
    norm(x + 10)
    assert all(torch.equal(weights[k], v) for k, v in norm.state_dict().items())
    resumed = ActNorm(shape)
    resumed.load_state_dict(weights)
    torch.testing.assert_close(resumed(x)[0], z)


def test_actnorm_leaves_the_scale_of_a_constant_coordinate() -> None:
    x = torch.stack([torch.randn(50), torch.full((50,), 7.0)], 1)
    z, log_det = ActNorm((2,))(x)
    assert z.isfinite().all()
    assert log_det.isfinite().all()
    assert z[:, 1].abs().max() < 1e-5


def test_batchnorm_uses_the_batch_in_training_and_averages_in_evaluation() -> None:
    torch.manual_seed(0)
    norm = BatchNorm((2,), momentum=0.2)
    x = torch.randn(500, 2) * torch.tensor([3.0, 0.5]) + torch.tensor([1.0, -2.0])
    z, log_det = norm(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(0, unbiased=False), torch.ones(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(log_det[0], -0.5 * (x.var(0, unbiased=False) + norm.eps).log().sum())
    for _ in range(60):
        norm(x)
    torch.testing.assert_close(norm.eval()(x)[0], z, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(norm.inverse(norm(x)[0]), x, atol=1e-5, rtol=1e-5)


def test_a_coupling_needs_two_coordinates() -> None:
    with pytest.raises(ValueError, match="at least two"):
        Coupling(1, Affine(), [8])


# --- what belongs to one family ---------------------------------------------------------------------------------------


def test_planar_maps_stay_invertible_whatever_their_parameters() -> None:
    """u that points against w is corrected, and w = 0 is no division by zero."""
    x = torch.randn(20, 3, dtype=torch.float64)
    for u, w in [([-9.0, 0, 0], [3.0, 0, 0]), ([1.0, 2, 3], [0.0, 0, 0]), ([-1.0, 0, 0], [1e-9, 0, 0])]:
        planar = Planar(3).double()
        planar.u.data, planar.w.data = torch.tensor(u).double(), torch.tensor(w).double()
        z, log_det = planar(x)
        assert log_det.isfinite().all()
        with torch.no_grad():
            torch.testing.assert_close(planar.inverse(z), x, rtol=0, atol=1e-8)
        assert planar.inverse_residual < 1e-10


def test_splines_are_the_identity_outside_their_square() -> None:
    f = RationalQuadraticSpline(8, 3.0)
    x = torch.tensor([-1e6, -3.0, 3.0, 4.0, 1e6])
    z, log_slope = f.forward(x, torch.randn(5, f.size))
    assert torch.equal(z, x)
    assert torch.equal(log_slope, torch.zeros(5))


def test_polynomials_of_polynomials_do_not_overflow() -> None:
    f = SumOfSquares(2, 4)
    z = torch.tensor([-1e5, 1e5])
    for _ in range(3):
        z, log_slope = f.forward(z, torch.full((2, f.size), 0.1))
        assert log_slope.isfinite().all()
    assert z.isfinite().all()


def test_a_lu_matrix_has_the_log_det_of_its_diagonal() -> None:
    linear, x = CASES["lu-4"].example()
    matrix = torch.autograd.functional.jacobian(lambda x: linear(x[None])[0][0], x[0])
    torch.testing.assert_close(linear(x)[1][0], torch.linalg.slogdet(matrix).logabsdet)


def test_the_estimated_trace_is_unbiased() -> None:
    """Within five standard errors of the mean of 400 estimates: a false alarm once in a million runs."""
    torch.manual_seed(0)
    exact = CNF(3, [8, 8], 1e-6, 1e-6)
    estimated = CNF(3, [8, 8], 1e-6, 1e-6, exact=False)
    with torch.no_grad():
        for p in exact.parameters():
            p.add_(0.3 * torch.randn_like(p))
    estimated.load_state_dict(exact.state_dict())
    x = torch.randn(3)
    with torch.no_grad():
        truth = exact(x[None])[1]
        estimates = estimated(x.expand(400, 3))[1]
    assert not estimated.exact_log_det
    assert abs(estimates.mean() - truth) < 5 * estimates.std() / 400**0.5


def test_the_trace_is_exact_up_to_eight_dimensions_and_in_evaluation_up_to_more() -> None:
    assert CNF(8, [4]).exact_in_training and not CNF(9, [4]).exact_in_training
    assert CNF(32, [4]).exact_log_det and not CNF(33, [4]).exact_log_det
    torch.manual_seed(0)
    model, x = CNF(9, [4]), torch.randn(2, 9)
    with torch.no_grad():
        assert not torch.equal(model(x)[1], model(x)[1])
        assert torch.equal(model.eval()(x)[1], model(x)[1])


def test_a_cnf_counts_evaluations_and_meets_its_tolerance() -> None:
    torch.manual_seed(0)
    cnf, x = CNF(2, [16], 1e-3, 1e-9).double(), torch.randn(5, 2, dtype=torch.float64)
    with torch.no_grad():
        for p in cnf.parameters():
            p.mul_(3)
        coarse, few = cnf.train()(x)[0], cnf.evaluations
        fine, many = cnf.eval()(x)[0], cnf.evaluations
    assert 0 < few < many
    assert 0 < (coarse - fine).abs().max() < 0.05


def test_a_stiff_cnf_says_so_and_a_broken_one_gives_no_number() -> None:
    cnf, x = CNF(1, [4]), torch.ones(2, 1)
    with torch.no_grad():
        for p in cnf.velocity.linear.parameters():
            p.mul_(1e6)
        with pytest.raises(ConvergenceError, match="too stiff"):
            cnf(x)
        assert cnf(x * float("nan"))[1].isnan().all()
