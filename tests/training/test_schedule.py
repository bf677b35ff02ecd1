"""The learning rate of a step."""

from __future__ import annotations

from cifrun.config.schema import OptimizerConfig
from cifrun.training.schedule import learning_rate


def test_learning_rate_is_a_function_of_the_step():
    config = OptimizerConfig(lr=1.0, schedule="cosine", warmup_steps=4)
    rates = [learning_rate(config, k, 14) for k in range(14)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0 and rates[4:] == sorted(rates[4:], reverse=True) and 0 < rates[-1] < 0.05
    assert learning_rate(config, 9, 14) == 0.5  # half-way down
    assert [learning_rate(OptimizerConfig(lr=0.1), k, 5) for k in range(5)] == [0.1] * 5
