"""Presets of old names go on working, and say on stderr what they are called now."""

from __future__ import annotations

import pytest

from cifrun.cli.config_groups import groups
from cifrun.cli.hydra_app import configure
from cifrun.cli.retired import RETIRED, renamed
from cifrun.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "now"),
    [
        ("experiment=cifar10_glow cif=true", "experiment=image_glow dataset=cifar10 cif=true"),
        ("experiment=svhn_resflow_big dataset=mnist", "experiment=image_resflow_big dataset=mnist"),
        ("experiment=mnist_glow,cifar10_glow", "experiment=image_glow dataset=mnist,cifar10"),
        ("experiment=mnist_glow,mnist_resflow", "experiment=image_glow,image_resflow dataset=mnist"),
        (
            "experiment=mnist_glow,mnist_realnvp,svhn_glow,svhn_realnvp",
            "experiment=image_glow,image_realnvp dataset=mnist,svhn",
        ),
        ("experiment=mnist_glow,two_d_maf dataset=digits", "experiment=image_glow,two_d_maf dataset=digits"),
    ],
)
def test_a_retired_preset_becomes_the_new_one(typed: str, now: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert renamed(typed.split()) == now.split()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"cifrun: {typed.split()[0]} is now ") and err.count("\n") == 1


def test_other_words_stay_and_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["experiment=two_d_maf,tables_maf", "dataset=mnist", "run=experiment=mnist_glow", "-m"]
    assert renamed(words) == words
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("names", ["mnist_glow,svhn_resflow", "two_d_maf,mnist_glow"])
def test_a_list_that_is_no_product_is_refused(names: str) -> None:
    with pytest.raises(ConfigError, match="mnist_glow is now experiment=image_glow dataset=mnist"):
        renamed([f"experiment={names}"])


def test_a_retired_preset_composes_to_the_new_preset_with_its_dataset() -> None:
    assert configure(["experiment=fashion_mnist_realnvp"]) == configure(
        ["experiment=image_realnvp", "dataset=fashion_mnist"]
    )


def test_a_retired_name_is_free_and_its_successor_exists() -> None:
    choices = groups()
    assert set(RETIRED).isdisjoint(choices["experiment"])
    assert {preset for preset, _ in RETIRED.values()} <= set(choices["experiment"])
    assert {dataset for _, dataset in RETIRED.values()} <= set(choices["dataset"])
