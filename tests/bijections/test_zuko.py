"""Transforms of zuko as bijections: what is known of them, and inverses that are found or refused.

That their densities are those of zuko is tested for every flow, in `tests/flows/test_zuko.py`.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import zuko
from torch import Tensor

from cifrun.bijections.zuko import ZukoTransform
from cifrun.errors import ConvergenceError

#: Flows of two transforms with a step between them where they have one.
SMALL: dict[str, dict[str, Any]] = {
    "CNF": {"hidden_features": [8]},
    "GF": {"transforms": 2, "components": 3},
    "NICE": {"transforms": 2, "hidden_features": [8]},
    "NSF": {"transforms": 2, "bins": 4, "hidden_features": [8]},
    "SOSPF": {"transforms": 2, "degree": 2, "polynomials": 2, "hidden_features": [8]},
}


def steps(name: str, dim: int, **more: Any) -> list[ZukoTransform]:
    """The transforms of a flow of zuko, from the data inward."""
    torch.manual_seed(0)
    whole = getattr(zuko.flows, name)(dim, **{**SMALL[name], **more}).transform
    return [ZukoTransform(dim, part, name).double().eval() for part in getattr(whole, "transforms", [whole])]


def batch(dim: int) -> Tensor:
    return torch.randn(6, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_what_is_known_of_a_step_is_what_a_flow_asks() -> None:
    """An index follows what learns, and is more than a rotation or a squashing."""
    found = [(step.describe(), step.indexable, step.bends_within) for name in SMALL for step in steps(name, 3)]
    assert found[0] == ("zuko CNF: FFJTransform", True, math.inf)
    gaussianization = ("zuko GF: ElementWiseTransform", True, math.inf)
    assert found[1:4] == [gaussianization, ("zuko GF: RotationTransform", False, math.inf), gaussianization]
    assert found[4:6] == [("zuko NICE: GeneralCouplingTransform", True, math.inf)] * 2
    assert found[6:8] == [("zuko NSF: MaskedAutoregressiveTransform", True, 5.0)] * 2
    assert found[9] == ("zuko SOSPF: SoftclipTransform", False, math.inf)


def test_beyond_its_bound_a_spline_is_a_straight_line() -> None:
    step = steps("NSF", 2)[0]
    x = step.bends_within + batch(2).abs()
    assert torch.equal(step(x)[0], x)


def test_an_estimated_trace_is_no_exact_log_determinant() -> None:
    (exact,), (estimate,) = steps("CNF", 3), steps("CNF", 3, exact=False)
    assert exact.exact_log_det and exact.exact_in_training
    assert not estimate.exact_log_det and not estimate.exact_in_training


# --- inverses ---------------------------------------------------------------------------------------------------------


def test_roots_beyond_the_fixed_ends_of_zuko_are_found() -> None:
    """zuko itself looks between -10 and 10, and answers with an end."""
    step = steps("SOSPF", 1)[-1]
    x = torch.tensor([[-37.0], [25.0]], dtype=torch.float64)
    with torch.no_grad():
        z, _ = step(x)
        assert step.transform().inv(z).abs().max() <= 10
        torch.testing.assert_close(step.inverse(z), x, rtol=1e-7, atol=1e-7)


def test_what_has_no_preimage_is_refused() -> None:
    with torch.no_grad():
        for name, position in (("GF", 0), ("SOSPF", 1)):  # both are bounded
            step = steps(name, 2)[position]
            with pytest.raises(ConvergenceError, match=f"zuko's {name}"):
                step.inverse(torch.full((3, 2), 50.0, dtype=torch.float64))


def test_an_inverse_that_is_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    step = steps("NSF", 2)[0]
    broken = zuko.transforms.MonotonicRQSTransform
    monkeypatch.setattr(broken, "_inverse", lambda self, y: torch.full_like(y, torch.nan))
    with torch.no_grad(), pytest.raises(ConvergenceError, match="at 6 of 6 points"):
        step.inverse(batch(2))


def test_what_has_no_inverse_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> Tensor:
        raise NotImplementedError

    monkeypatch.setattr(zuko.transforms.MonotonicRQSTransform, "_inverse", none)
    with pytest.raises(ConvergenceError, match="zuko's NSF has no inverse, so it can't be sampled"):
        steps("NSF", 2)[0].inverse(batch(2))
