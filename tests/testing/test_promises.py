"""A broken promise is one sentence, said by the thing that broke it; nothing of the process is changed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cifrun.testing.promises import NotPromised, close, gradients_of, hold, keep, pickled, require, spread_out


def broken(thing: str) -> None:
    torch.rand(3)
    raise AssertionError(f"{len(thing)} letters are too many")


def not_made(_: str) -> None:
    raise NotPromised("it is a word")


def test_a_broken_promise_begins_with_the_name_of_the_thing() -> None:
    with pytest.raises(AssertionError, match=r"^word: 4 letters are too many$"):
        keep(broken, "word")
    with pytest.raises(NotPromised, match=r"^it is a word$"):
        keep(not_made, "word")


def test_of_several_promises_the_first_that_is_broken_is_told() -> None:
    asked = []
    hold([asked.append, not_made, asked.append], "word")
    assert asked == ["word", "word"]
    with pytest.raises(AssertionError, match=r"^word: 4 letters"):
        hold([not_made, broken, asked.append], "word")
    assert len(asked) == 2


def test_a_check_draws_the_same_each_time_and_leaves_the_random_state_alone() -> None:
    before, drawn = torch.get_rng_state(), []
    for _ in range(2):
        keep(lambda _: drawn.append(torch.rand(2)), "word")
    with pytest.raises(AssertionError):
        keep(broken, "word")
    assert torch.equal(*drawn) and torch.equal(torch.get_rng_state(), before)


def test_what_is_required_is_the_sentence_itself() -> None:
    require([1], "never said")
    with pytest.raises(AssertionError, match=r"^it should not be empty$"):
        require([], "it should not be empty")


def test_what_is_not_close_says_how_far_from_it_and_in_what() -> None:
    one = torch.ones(2)
    with pytest.raises(AssertionError, match=r"^it, but the shapes are \(2,\) and \(1,\)$"):
        close(one, one[:1], "it", atol=1)
    with pytest.raises(AssertionError, match=r"^it, but one is torch\.float32 and the other torch\.float64$"):
        close(one, one.double(), "it", atol=1)
    with pytest.raises(
        AssertionError, match=r"^it, but they differ by up to 1, where 0\.1 \+ 0\.2 of the value is allow"
    ):
        close(one, 2 * one, "it", atol=0.1, rtol=0.2)


def test_what_is_not_a_number_is_not_close() -> None:
    with pytest.raises(AssertionError, match=r"^it, but they differ by up to nan"):
        close(torch.tensor([math.nan]), torch.zeros(1), "it", atol=1)


# --- of modules -------------------------------------------------------------------------------------------------------


def test_parameters_are_spread_out_by_a_seed_and_nothing_else_is() -> None:
    norm = nn.BatchNorm1d(2000)
    spread_out(norm, 0.1, seed=3)
    moved = norm.weight.detach() - 1
    # Of 2000 numbers the deviation is within 5 standard errors of 0.1.
    assert moved.std().item() == pytest.approx(0.1, abs=5 * 0.1 / math.sqrt(4000))
    assert norm.running_mean is not None and not norm.running_mean.any()
    again = spread_out(nn.BatchNorm1d(2000), 0.1, seed=3)
    assert torch.equal(again.weight, norm.weight)


def test_gradients_that_are_missing_or_not_finite_are_named() -> None:
    layer = nn.Linear(2, 1)
    with pytest.raises(AssertionError, match="reach every parameter, but 'weight' has none"):
        gradients_of(layer)
    layer(torch.ones(1, 2)).backward()
    gradients_of(layer)
    layer.bias.grad = torch.tensor([math.inf])
    with pytest.raises(AssertionError, match="finite, but that of 'bias' has 1 values that are not"):
        gradients_of(layer)


def test_copies_are_the_same_and_apart() -> None:
    layer = nn.Linear(2, 1)
    for twin in pickled(layer).values():
        assert torch.equal(twin.weight, layer.weight) and twin.weight is not layer.weight
    layer.hook = lambda: None  # type: ignore[assignment]
    with pytest.raises(AssertionError, match=r"^it should be possible to pickle it, but"):
        pickled(layer)
