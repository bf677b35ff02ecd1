"""One table of metrics: complete, without doubles, and the source of all that shows a number."""

from __future__ import annotations

import re

import pytest

from cifrun.runs.metrics import BY_NAME, HEADLINE, HPARAMS, NUMBERS, PICTURES, RESULT, THEMES, meaning


def test_each_metric_is_there_once() -> None:
    assert len(BY_NAME) == len(NUMBERS) == sum(len(theme.metrics) for theme in THEMES)


@pytest.mark.parametrize("name", [*BY_NAME, *PICTURES])
def test_meanings_are_sentences_with_their_unit(name: str) -> None:
    text = BY_NAME[name].meaning if name in BY_NAME else PICTURES[name]
    assert text[0] == text[0].upper() or text.startswith("log-likelihood")
    assert text.endswith(".")
    if name in BY_NAME and (unit := re.search(r"\[(\w+)\]", text)):
        assert BY_NAME[name].unit == unit[1]


def test_places_are_counted_from_one() -> None:
    assert [row.place for _, row in RESULT] == list(range(1, len(RESULT) + 1))
    assert sorted(BY_NAME[name].headline for name in HEADLINE) == list(range(1, len(HEADLINE) + 1))
    assert HEADLINE[0] == HPARAMS[0] == "log_likelihood"


def test_a_heading_has_the_unit_unless_the_title_says_it() -> None:
    assert BY_NAME["log_likelihood"].heading == "log-likelihood [nats]"
    assert BY_NAME["bits_per_dim"].heading == "bits/dim"
    assert BY_NAME["ess"].heading == "ESS"


def test_a_value_is_told_with_what_is_known() -> None:
    constant = BY_NAME["bi_lipschitz"]
    assert constant.told({"bi_lipschitz": 12.3456}) == "12.35"
    assert constant.told({"bi_lipschitz": 12.3456, "lipschitz_ceiling": 1e4}) == "12.35 (ceiling 1e+04)"
    verdict = {"pareto_k": 0.31, "pareto_k_verdict": "good: no heavy tail was seen among the weights"}
    assert BY_NAME["pareto_k"].told(verdict) == "0.31 (good)"
    assert BY_NAME["ess"].told({"ess": 97.53, "importance_samples": 100}) == "97.5 of 100"
    assert BY_NAME["elbo"].told({"elbo": -1.6812, "elbo_se": 0.0541}) == "−1.681 ± 0.054"


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("test/log_likelihood_se", "Standard error of log_likelihood."),
        ("diagnostics/lip_f_q999", "As lip_f, but what all but one point in a thousand stay below."),
        ("test/mass of left", "Share of the model's mass that is in the target's piece “left”."),
        ("test/mass of none", "Share of the model's mass that is in no piece of the target."),
        (
            "test/round_trip_far_float64",
            "Largest |F(F⁻¹(x)) − x| / (1 + |x|) at points ten times as far out as the data, in float64.",
        ),
        (
            "best/elbo",
            "Of the best weights, on the test set. Mean of the evidence lower bound of log p(x) over data. In nats.",
        ),
        ("figures of diagnostics/maps", PICTURES["maps"]),
        ("test/unheard_of", ""),
        ("figures/loss", ""),
    ],
)
def test_a_tag_is_explained(tag: str, text: str) -> None:
    assert meaning(tag) == text
