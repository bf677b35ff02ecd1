"""The groups that there are to choose from, and the names of their choices."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifrun.cli import config_groups
from cifrun.cli.config_groups import LAUNCHER, conf_dir, groups
from cifrun.registry import DATASETS, FLOWS
from tests.helpers import ROOT


def test_of_a_checkout_the_yaml_is_that_beside_the_package() -> None:
    assert conf_dir() == ROOT / "conf" and (conf_dir() / "config.yaml").is_file()


def test_of_an_installed_package_it_is_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cifrun" / "conf").mkdir(parents=True)
    monkeypatch.setattr(config_groups, "__file__", str(tmp_path / "cifrun" / "cli" / "config_groups.py"))
    assert conf_dir() == tmp_path / "cifrun" / "conf"


def test_a_group_offers_what_is_registered_and_every_file() -> None:
    found = groups()
    assert set(FLOWS) <= set(found["flow"]) and set(DATASETS) <= set(found["dataset"])
    assert {"joblib", "slurm"} <= set(found[LAUNCHER]) and "debug/flow" not in found
    for group, names in found.items():
        files = {file.stem for file in (ROOT / "conf" / group).glob("*.yaml")}
        assert files <= set(names) and names == sorted(set(names))


def test_the_folders_of_other_packages_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "strange.yaml").write_text("family: strange\n")
    monkeypatch.setattr(config_groups, "conf_dirs", lambda: {tmp_path: "stranger"})
    monkeypatch.setattr(config_groups, "plugins", lambda group: {"bare": None} if group == "flow" else {})
    assert {"strange", "bare", "maf"} <= set(groups()["flow"])
