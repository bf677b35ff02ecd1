"""What all bijections have from their base: shapes that are checked, composition, and turning around."""

from __future__ import annotations

import pytest
import torch

from cifrun.bijections.base import Compose, Identity, Invert
from cifrun.bijections.cnf import CNF
from cifrun.bijections.linear import ElementwiseAffine, LULinear
from cifrun.bijections.multiscale import Squeeze
from cifrun.bijections.permutation import Flip
from cifrun.bijections.planar import Planar
from tests.helpers import autograd_log_det, randomise

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def linear(seed: int) -> LULinear:
    step = LULinear((3,)).double().eval()
    randomise(step, seed=seed)
    return step


@pytest.mark.parametrize("shape", [(3,), (2, 2), (2, 3, 1), ()])
def test_a_wrong_shape_is_a_sentence_with_both_shapes(shape: tuple[int, ...]) -> None:
    for call in (Flip((2, 3)), Flip((2, 3)).inverse):
        with pytest.raises(ValueError) as error:
            call(torch.zeros(4, *shape))
        sentence = f"Flip takes a batch of events of shape (2, 3), but was given a tensor of shape {(4, *shape)}"
        assert str(error.value) == sentence


def test_the_inverse_checks_the_shape_of_the_other_side() -> None:
    squeeze = Squeeze((1, 4, 4))
    assert squeeze.inverse(torch.zeros(3, 4, 2, 2)).shape == (3, 1, 4, 4)
    with pytest.raises(ValueError, match=r"events of shape \(4, 2, 2\), but was given .* \(3, 1, 4, 4\)"):
        squeeze.inverse(torch.zeros(3, 1, 4, 4))


def test_the_identity_changes_nothing() -> None:
    z, log_det = Identity((3,))(X)
    assert torch.equal(z, X) and log_det.tolist() == [0] * 5
    assert torch.equal(Identity((3,)).inverse(X), X)


# --- composition ------------------------------------------------------------------------------------------------------


def test_a_composition_applies_the_first_one_first() -> None:
    first, second = linear(1), linear(2)
    both = Compose([first, second])
    z, log_det = both(X)
    torch.testing.assert_close(z, second(first(X)[0])[0])
    torch.testing.assert_close(log_det, autograd_log_det(both, X))
    torch.testing.assert_close(both.inverse(z), X)
    assert both.describe() == "LULinear → LULinear"


def test_a_composition_leads_from_the_first_shape_to_the_last() -> None:
    both = Compose([Squeeze((1, 8, 8)), Squeeze((4, 4, 4))])
    assert (both.shape, both.latent_shape, both.active_shape) == ((1, 8, 8), (16, 2, 2), (16, 2, 2))
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(both.inverse(both(x)[0]), x)


def test_a_composition_is_as_exact_as_its_parts() -> None:
    for estimated, parts in ((False, [Flip((3,)), CNF(3, [4])]), (True, [Flip((3,)), CNF(3, [4], exact=False)])):
        for both in (Compose(parts), Invert(Compose(parts))):
            assert both.exact_log_det is not estimated
            assert both.exact_in_training is not estimated
        assert not Compose(parts).compilable and Compose(parts[:1]).compilable


def test_ceilings_of_a_composition_multiply_and_one_that_is_not_known_leaves_none() -> None:
    affine = ElementwiseAffine((2,))
    with torch.no_grad():
        affine.log_scale.copy_(torch.tensor([3.0, 0.25]).log())
    assert Compose([affine, Flip((2,)), affine]).lipschitz_ceiling == pytest.approx(16)
    assert Compose([Flip((2,)), Planar(2)]).lipschitz_ceiling is None
    assert Compose([affine, Identity((2,))]).lipschitz_ceiling == pytest.approx(4)


# --- turning around ---------------------------------------------------------------------------------------------------


def test_an_inverted_map_goes_the_other_way_with_minus_the_log_determinant() -> None:
    step = linear(1)
    turned = Invert(step)
    z, log_det = turned(X)
    torch.testing.assert_close(z, step.inverse(X))
    torch.testing.assert_close(turned.inverse(z), X)
    torch.testing.assert_close(log_det, autograd_log_det(turned, X))
    torch.testing.assert_close(log_det, -step(z)[1])
    assert turned.describe() == "inverse of LULinear"
    assert turned.lipschitz_ceiling == step.lipschitz_ceiling != 1


def test_an_inverted_map_has_its_shapes_exchanged() -> None:
    turned = Invert(Squeeze((1, 4, 4)))
    assert (turned.shape, turned.latent_shape) == ((4, 2, 2), (1, 4, 4))
    assert turned(torch.zeros(3, 4, 2, 2))[0].shape == (3, 1, 4, 4)
