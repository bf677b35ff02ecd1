"""Streaming of importance weights against the same formulas on all weights at once."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.cif.importance import Estimate, Piece, Sums, accumulate, log_mean_exp, pieces


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(1, 4), st.floats(0, 300), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_chunks_do_not_matter(sizes, batch, scale, seed):
    m = sum(sizes)
    log_w = scale * torch.randn(m, batch, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    parts = [
        (Piece(0, k, slice(0, batch), size), part)
        for k, (size, part) in enumerate(zip(sizes, log_w.split(sizes), strict=True))
    ]
    estimate = accumulate(parts)[0].estimate(m)
    torch.testing.assert_close(estimate.log_likelihood, log_mean_exp(log_w))
    torch.testing.assert_close(estimate.elbo, log_w.mean(0))
    w = torch.softmax(log_w, 0)
    torch.testing.assert_close(estimate.ess, 1 / (w**2).sum(0))
    assert estimate.importance_samples == m
    assert (estimate.elbo <= estimate.log_likelihood + 1e-9).all()
    assert ((estimate.ess > 1 - 1e-9) & (estimate.ess < m + 1e-9)).all()


def test_concatenate_keeps_the_order():
    parts = [Sums.of(torch.full((3, n), float(n))).estimate(3) for n in (1, 2)]
    whole = Estimate.concatenate(parts)
    assert whole.log_likelihood.tolist() == [1.0, 2.0, 2.0] and whole.importance_samples == 3


def test_log_mean_exp_is_the_log_of_the_mean():
    assert math.isclose(log_mean_exp(torch.tensor([1.0, 3.0]).log()).item(), math.log(2), rel_tol=1e-6)


def test_no_weights_change_nothing():
    sums = Sums.of(torch.tensor([[0.5, -2.0], [1.5, 0.0]], dtype=torch.float64))
    both = Sums.nothing(2, sums.total).plus(sums)
    assert all(torch.equal(a, b) for a, b in zip(both, sums, strict=True))


@given(st.integers(0, 50), st.integers(1, 30), st.integers(1, 20), st.integers(1, 100))
@settings(deadline=None)
def test_pieces_cover_each_datum_and_each_sample_once(count, m, rows, chunk_size):
    seen = {}
    for piece in pieces(count, m, rows, chunk_size):
        assert 1 <= piece.importance_samples <= max(1, chunk_size // rows)
        for datum in range(piece.rows.start, piece.rows.stop):
            seen[datum] = seen.get(datum, 0) + piece.importance_samples
    assert seen == dict.fromkeys(range(count), m)
