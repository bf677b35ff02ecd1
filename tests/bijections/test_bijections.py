"""What every bijection promises: its log-determinant, its inverse, gradients, shapes, and rows that do not mix.

Each promise is written down in `cifrun.testing.bijections`. To cover one more bijection, add a small instance of it to
`FACTORIES`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

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
from cifrun.bijections.univariate import Affine
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


CASES = {name: BijectionCase(make) for name, make in FACTORIES.items()}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("promise", CHECKS)
def test_a_bijection_keeps_its_promise(promise: str, name: str) -> None:
    try:
        keep(CHECKS[promise], CASES[name])
    except NotPromised as reason:
        pytest.skip(str(reason))
