"""Couplings: what they can be made of."""

from __future__ import annotations

import pytest

from cifrun.bijections.coupling import Coupling
from cifrun.bijections.univariate import Affine


def test_a_coupling_needs_two_coordinates() -> None:
    with pytest.raises(ValueError, match="at least two"):
        Coupling(1, Affine(), [8])
