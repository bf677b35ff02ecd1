"""What the project is for, at a length that shows it: a CIF is ahead of its plain flow. Minutes, so marked slow."""

from __future__ import annotations

import math

import pytest

from cifrun.config.schema import Config
from cifrun.training.loop import train


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_indexed_residual_flow_is_ahead_on_two_uniforms(seed, tmp_path):
    """After 900 steps of the published setting, by more than two standard errors of the difference, on each seed."""
    results = {}
    for cif in (True, False):
        config = Config.parse(
            {
                "dataset": {"name": "two_uniforms", "seed": seed},
                "flow": {"family": "resflow", "hidden": [128, 128, 128, 128]},
                "cif": cif,
                "seed": seed,
                "trainer": {"max_steps": 900, "plot_every": 0, "progress": False},
                "eval": {"importance_samples": 20},
            }
        )
        results[cif] = train(config, tmp_path / str(cif))["test"]
    difference = results[True]["log_likelihood"] - results[False]["log_likelihood"]
    error = math.hypot(results[True]["log_likelihood_se"], results[False]["log_likelihood_se"])
    assert difference > 2 * error
    # What the published code reaches in as many steps.
    assert results[True]["log_likelihood"] > -1.681 and results[False]["log_likelihood"] > -2.161
