"""Continuous flows: the trace, its estimate, and how precisely the equation is solved."""

from __future__ import annotations

import pytest
import torch

from cifrun.bijections.cnf import CNF
from cifrun.errors import ConvergenceError


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
