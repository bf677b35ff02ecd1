"""Random numbers of a batch: whoever takes a part of it gets the numbers that the whole would get."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cifrun.compute import rng


def drawn_by(parts, draw):
    """What each part of the rows draws, from one state of the generators; and the state afterwards."""
    pieces, states = [], []
    for start, stop in parts:
        torch.manual_seed(5)
        with rng.share(start, stop, parts[-1][1]):
            pieces.append(draw(stop - start))
        states.append(torch.get_rng_state())
    assert all(torch.equal(state, states[0]) for state in states)
    return pieces, states[0]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_parts_draw_what_the_whole_draws(sizes, times):
    """Also where the rows of the batch come several times over, as importance samples do."""
    ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
    parts = list(pairwise(ends))
    like = torch.zeros(1)
    pieces, after = drawn_by(parts, lambda n: rng.normal((2, times * n, 3), like, dim=1).unflatten(1, (times, n)))
    torch.manual_seed(5)
    whole = torch.randn(2, times, ends[-1], 3)
    assert torch.equal(torch.cat(pieces, 2), whole)
    assert torch.equal(after, torch.get_rng_state())


@pytest.mark.parametrize("rows", [10, 100])
def test_blocks_draw_what_the_whole_draws(rows, monkeypatch):
    monkeypatch.setattr(rng, "BLOCK", 30)  # 7 rows of 4: few for 10 rows, many for 100
    parts = [(0, rows // 3), (rows // 3, rows // 3 + 2), (rows // 3 + 2, rows)]
    pieces, after = drawn_by(parts, lambda n: rng.normal_blocks(torch.zeros(n, 2, 2)))
    torch.manual_seed(5)
    whole = rng.normal_blocks(torch.zeros(rows, 2, 2))
    assert torch.equal(torch.cat(pieces), whole) and torch.equal(after, torch.get_rng_state())
    assert len(whole.flatten().unique()) == whole.numel()


def test_blocks_are_standard_normal(monkeypatch):
    """A false alarm once in 10⁵ runs if the seed were not fixed: |z| < 4.4 for mean and variance."""
    monkeypatch.setattr(rng, "BLOCK", 500)
    torch.manual_seed(1)
    x = rng.normal_blocks(torch.zeros(100_000, 2)).flatten().double()
    assert abs(x.mean()) < 4.4 * len(x) ** -0.5
    assert abs(x.var() - 1) < 4.4 * (2 / len(x)) ** 0.5


def test_derived_seeds_differ():
    seeds = {rng.derive(s, a, b) for s in range(4) for a in range(6) for b in range(1, 6)}
    assert len(seeds) == 4 * 6 * 5


def test_a_fork_leaves_no_trace():
    torch.manual_seed(0)
    state = rng.get_state()
    expected = torch.rand(2)
    rng.set_state(state)
    with rng.forked(1):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected) and not torch.equal(inside, expected)


def test_probes_are_the_same_for_each_importance_sample_and_a_matter_of_their_seed_alone():
    x = torch.empty(6, 3)

    def probes(rows: int, seed: int | None) -> list[Tensor]:
        with rng.probing(rows, seed):
            return [rng.probe(x), rng.random_signs(x), torch.tensor(float(rng.geometric(0.01)))]

    torch.manual_seed(0)
    normal, signs, trials = probes(2, 7)
    assert torch.equal(normal, normal[:2].repeat(3, 1)) and not torch.equal(normal[0], normal[1])
    assert torch.equal(signs, signs[:2].repeat(3, 1)) and set(signs.unique().tolist()) == {-1.0, 1.0}
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), after)  # nothing was drawn elsewhere
    torch.rand(5)
    assert all(map(torch.equal, probes(2, 7), (normal, signs, trials)))
    assert not torch.equal(probes(2, 8)[0], normal)
    unseeded, _, _ = probes(2, None)
    assert torch.equal(unseeded, unseeded[:2].repeat(3, 1)) and not torch.equal(probes(2, None)[0], unseeded)


def test_what_others_draw_for_an_estimate_is_a_matter_of_the_seed_too():
    drawn = []
    for seed in (1, 1, 2):
        torch.rand(3)
        with rng.probing(2, seed), rng.probed():
            drawn.append(torch.randn(4))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
