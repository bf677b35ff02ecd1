"""The learning rate of a step."""

from __future__ import annotations

import pytest

from cifrun.config.schema import OptimizerConfig
from cifrun.training.schedule import learning_rate
from cifrun.training.training_state import TrainingState


def test_learning_rate_is_a_function_of_the_step():
    config = OptimizerConfig(lr=1.0, schedule="cosine", warmup_steps=4)
    rates = [learning_rate(config, k, 14) for k in range(14)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0 and rates[4:] == sorted(rates[4:], reverse=True) and 0 < rates[-1] < 0.05
    assert learning_rate(config, 9, 14) == 0.5  # half-way down
    assert [learning_rate(OptimizerConfig(lr=0.1, schedule="none"), k, 5) for k in range(5)] == [0.1] * 5


def test_a_line_goes_to_zero_at_the_end() -> None:
    config = OptimizerConfig(lr=2.0, schedule="linear", warmup_steps=2)
    assert [learning_rate(config, k, 6) for k in range(8)] == [1.0, 2.0, 2.0, 1.5, 1.0, 0.5, 0.0, 0.0]


def test_a_plateau_lowers_it_each_time_that_patience_ends() -> None:
    config = OptimizerConfig(lr=1.0, schedule="plateau", plateau_patience=2, plateau_factor=0.1)
    state, rates = TrainingState(), []
    for valid in (-3.0, -2.0, -2.0, -2.5, -2.1, -2.2, -1.0, -1.5, float("nan")):
        state.improves(valid)
        state.lowers(config)
        rates.append(learning_rate(config, 5, 10, state.cuts))
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001])
    state.lowers(OptimizerConfig())
    assert state.cuts == 3
