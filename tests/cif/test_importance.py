"""Streaming of importance weights against the same formulas on all weights at once."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.cif.importance import (
    Estimate,
    Piece,
    Sums,
    Weights,
    accumulate,
    corrections,
    log_mean_exp,
    pieces,
    weight_matrices,
)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(1, 4), st.floats(0, 300), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_chunks_do_not_matter(sizes, batch, scale, seed):
    m = sum(sizes)
    generator = torch.Generator().manual_seed(seed)
    log_w = scale * torch.randn(m, batch, dtype=torch.float64, generator=generator)
    again = log_w + torch.randn(m, batch, dtype=torch.float64, generator=generator)
    noisy = [
        Weights(Piece(0, k, slice(0, batch), size), *part)
        for k, (size, *part) in enumerate(zip(sizes, log_w.split(sizes), again.split(sizes), strict=True))
    ]
    estimate = accumulate(Weights(part.piece, part.log_w) for part in noisy)[0].estimate(m)
    torch.testing.assert_close(estimate.log_likelihood, log_mean_exp(log_w))
    corrected = accumulate(noisy)[0].estimate(m)
    torch.testing.assert_close(corrected.log_likelihood, log_mean_exp(log_w) + corrections(log_w, again))
    assert torch.equal(corrected.elbo, estimate.elbo) and torch.equal(corrected.ess, estimate.ess)
    assert all(map(torch.equal, weight_matrices(noisy), (log_w, again)))
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


@pytest.mark.parametrize("m", [1, 10, 1000])
def test_noise_in_log_w_leaves_the_bound_one(m):
    """40 000 data with weights of one size and normal noise of variance 1; exact log p(x) = 0, ELBO 0.

    Four standard errors: one false alarm in 16 000. log mean e^a alone is 0.5 too large for many weights.
    """
    noise = torch.Generator().manual_seed(m)
    sums = None
    for part in range(10):
        a, b = torch.randn(2, m, 4000, dtype=torch.float64, generator=noise)
        found = Sums.of(a, b).estimate(m).log_likelihood
        sums = found if part == 0 else torch.cat([sums, found])
    assert sums.mean() <= 4 * sums.std() / math.sqrt(len(sums))
    if m == 1:
        assert abs(sums.mean()) <= 4 * sums.std() / math.sqrt(len(sums))
    if m == 1000:  # what the bound loses: the divergence of softmax(a) from equal weights, half the variance of a
        assert abs(sums.mean() + 0.5) < 0.05 and log_mean_exp(a).mean() > 0.45


def test_noise_that_all_weights_of_a_datum_share_costs_nothing():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(50, 20_000, dtype=torch.float64, generator=generator)
    a, b = torch.randn(2, 1, 20_000, dtype=torch.float64, generator=generator)
    lost = Sums.of(truth + a, truth + b).estimate(50).log_likelihood - log_mean_exp(truth)
    torch.testing.assert_close(lost, b[0], rtol=0, atol=1e-12)  # the noise of b alone, whose mean is zero


def test_a_weight_of_zero_is_one_under_any_noise():
    log_w = torch.tensor([[0.0], [-math.inf]], dtype=torch.float64)
    assert corrections(log_w, log_w + 0.5).item() == 0.5


def test_no_weights_change_nothing():
    log_w, again = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sums = Sums.of(log_w, again)
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
