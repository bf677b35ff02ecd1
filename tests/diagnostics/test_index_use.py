"""Where an index works: how far u moves a point, and which u is inferred from which x."""

from __future__ import annotations

import pytest
import torch

from cifrun.cif.paths import generate
from cifrun.diagnostics.index_use import posteriors, reach
from tests.helpers import small_model


def test_reach_is_the_standard_deviation_that_u_causes():
    """z' = z − t(u) with t linear and u standard normal: the standard deviation is that of A u."""
    model = small_model("affine", True, index={"st": [], "p": "standard_normal", "q": [], "dim": 2, "depth": 1})
    a = torch.tensor([[0.6, 0.0], [0.3, 0.4]]).double()
    with torch.no_grad():
        weight, bias = model.steps[0].index.st.parameters()
        weight.copy_(torch.cat([torch.zeros(2, 2), a]))
        bias.zero_()
    torch.manual_seed(0)
    path = generate(model, torch.randn(20_000, 2, dtype=torch.float64))
    first, *others = reach(model, path)
    assert first == pytest.approx(a.square().sum().div(2).sqrt().item(), rel=0.03)
    assert others == [None] * (len(model.steps) - 1)


def test_posteriors_are_those_of_q():
    model = small_model("maf", True)
    x = torch.randn(7, 2, dtype=torch.float64)
    q = [of for of in posteriors(model, x) if of is not None]
    below, _ = model.steps[0].bijection(x)
    assert len(q) == sum(step.index is not None for step in model.steps)
    torch.testing.assert_close(q[0].mean, model.steps[0].index.q(x, below).mean)
