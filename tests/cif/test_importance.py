"""Streaming of importance weights against the same formulas on all weights at once."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.cif.importance import Estimate, accumulate


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(1, 4), st.floats(0, 300), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_chunks_do_not_matter(sizes, batch, scale, seed):
    m = sum(sizes)
    log_w = scale * torch.randn(m, batch, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    estimate = accumulate(log_w.split(sizes))
    torch.testing.assert_close(estimate.log_likelihood, log_w.logsumexp(0) - math.log(m))
    torch.testing.assert_close(estimate.elbo, log_w.mean(0))
    w = torch.softmax(log_w, 0)
    torch.testing.assert_close(estimate.ess, 1 / (w**2).sum(0))
    assert estimate.importance_samples == m
    assert (estimate.elbo <= estimate.log_likelihood + 1e-9).all()
    assert ((estimate.ess > 1 - 1e-9) & (estimate.ess < m + 1e-9)).all()


def test_concatenate_keeps_the_order():
    parts = [accumulate([torch.full((3, n), float(n))]) for n in (1, 2)]
    whole = Estimate.concatenate(parts)
    assert whole.log_likelihood.tolist() == [1.0, 2.0, 2.0] and whole.importance_samples == 3
