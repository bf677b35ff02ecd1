"""`conf/` and the dataclasses say the same: keys, defaults, names; and every choice and preset composes and parses."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cifrun.build import build_model
from cifrun.cli.config_groups import conf_dir, groups
from cifrun.cli.hydra_app import LAUNCHER
from cifrun.config.schema import (
    Config,
    DeviceConfig,
    DiagnosticsConfig,
    EvalConfig,
    IndexConfig,
    ObjectiveConfig,
    OptimizerConfig,
    SweepConfig,
    TrainerConfig,
    to_dict,
)
from cifrun.registry import DATASETS, FLOWS

CONF = conf_dir()
TYPED = {
    "index": IndexConfig,
    "objective": ObjectiveConfig,
    "optimizer": OptimizerConfig,
    "trainer": TrainerConfig,
    "eval": EvalConfig,
    "diagnostics": DiagnosticsConfig,
    "sweep": SweepConfig,
    "device": DeviceConfig,
}
#: What a debug preset says of one flow alone.
SHRINK = {"optional debug/flow": "${debug}_${flow}"}
CHOICES = [(group, name) for group, names in groups().items() if group != LAUNCHER for name in names]
FILES = {group: [CONF / group / f"{name}.yaml" for name in names] for group, names in groups().items()}


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def parsed(*overrides: str) -> Config:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        data: Any = OmegaConf.to_container(compose("config", list(overrides)), resolve=True)
    return Config.parse(data)


def root_choices() -> dict[str, str | None]:
    defaults = read(CONF / "config.yaml")["defaults"]
    entries = [entry for entry in defaults if entry not in ("_self_", SHRINK)]
    return {key: value for entry in entries for key, value in entry.items()}


def test_the_table_of_contents_has_every_group_and_no_other() -> None:
    assert {*root_choices(), LAUNCHER} == set(groups())


def test_the_table_of_contents_comments_every_entry() -> None:
    lines = (CONF / "config.yaml").read_text(encoding="utf-8").partition("\nhydra:")[0].splitlines()
    bare = [line for line in lines if ":" in line and "#" not in line and line != "defaults:"]
    assert bare == []


def test_presets_come_last() -> None:
    assert read(CONF / "config.yaml")["defaults"][-4:] == ["_self_", {"experiment": None}, {"debug": None}, SHRINK]


def test_top_level_values_are_the_defaults() -> None:
    values = {k: v for k, v in read(CONF / "config.yaml").items() if k not in ("defaults", "hydra")}
    assert values == {
        f.name: f.default.default for f in fields(Config) if f.name in values and f.default is not MISSING
    }
    assert set(values) | set(TYPED) | {"dataset", "flow"} == {f.name for f in fields(Config)}


@pytest.mark.parametrize("group", TYPED)
def test_default_choice_equals_the_dataclass(group: str) -> None:
    choice = root_choices()[group]
    data = read(CONF / group / f"{choice}.yaml")
    assert data == to_dict(TYPED[group]())
    assert list(data) == [f.name for f in fields(TYPED[group])]


@pytest.mark.parametrize("path", FILES["flow"] + FILES["dataset"], ids=lambda path: path.stem)
def test_flow_and_dataset_files_equal_the_registered_defaults(path: Path) -> None:
    registry, key = (FLOWS, "family") if path.parent.name == "flow" else (DATASETS, "name")
    data = read(path)
    data.pop("defaults", None)  # what a flow chooses in other groups
    cls = registry[data[key]]
    assert set(data) == {f.name for f in fields(cls)}
    defaults = to_dict(cls())
    own = {k for k, v in data.items() if k == key or (isinstance(v, str) and "${" in v)}
    assert {k: v for k, v in data.items() if k not in own} == {k: v for k, v in defaults.items() if k not in own}


def test_every_registered_name_has_a_file() -> None:
    assert {read(path)["name"] for path in FILES["dataset"]} >= set(DATASETS)
    assert {read(path)["family"] for path in FILES["flow"]} >= set(FLOWS)


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes_and_parses(group: str, name: str) -> None:
    config = parsed(f"{group}={name}")
    assert Config.parse(to_dict(config)) == config


@pytest.mark.parametrize("name", groups()["experiment"])
@pytest.mark.parametrize("cif", ["true", "false"])
def test_every_experiment_takes_both_sides_and_every_debug_preset(name: str, cif: str) -> None:
    for preset in groups()["debug"]:
        config = parsed(f"experiment={name}", f"cif={cif}", f"debug={preset}")
        assert config.cif is (cif == "true")
        assert config.trainer.max_steps <= 10


def test_debug_presets_shrink_every_flow_of_several_scales_and_no_other() -> None:
    files = {path.stem for path in (CONF / "debug" / "flow").glob("*.yaml")} - {"tiny_image"}
    flows = {name for name in groups()["flow"] if "scales" in read(CONF / "flow" / f"{name}.yaml")}
    assert files == {f"{preset}_{name}" for preset in groups()["debug"] for name in flows}
    for name in flows:
        preset = [f"flow={name}", "dataset=mnist"]
        width = "width" if name == "glow" else "hidden"
        assert getattr(parsed(*preset, "debug=tiny").flow, width) != getattr(parsed(*preset).flow, width)
        assert parsed(*preset, "debug=tiny", "index.p=standard_normal").index.p == "standard_normal"
    assert parsed("experiment=mnist_glow", "debug=tiny", "flow.width=7").flow.width == 7
    assert parsed("flow=vae", "debug=tiny").index == parsed("flow=vae").index


def test_maf_preset_compares_few_indexed_steps_with_many_plain_ones() -> None:
    assert parsed("experiment=two_d_maf").flow.depth == 5
    assert parsed("experiment=two_d_maf", "cif=false").flow.depth == 20
    assert parsed("experiment=two_d_maf", "cif=false", "flow.depth=3").flow.depth == 3


#: Presets whose two sides are of comparable size. In the others the published sizes differ much (realnvp, sos, planar),
#: or one of the sides does not exist or is no rival (vae, dlgm, affine).
COMPARABLE = ["two_d_bnaf", "two_d_cnf", "two_d_maf", "two_d_nsf_ar", "two_d_resflow"]


def parameters(*overrides: str) -> int:
    config = parsed(*overrides)
    shape = (1, 28, 28) if config.flow.images else (2,)
    return sum(p.numel() for p in build_model(config, shape).parameters())


@pytest.mark.parametrize("name", COMPARABLE)
def test_presets_compare_models_of_comparable_size(name: str) -> None:
    plain, cif = (parameters(f"experiment={name}", f"cif={side}") for side in ("false", "true"))
    assert 0.5 < cif / plain < 2, f"{plain} parameters against {cif}"


@pytest.mark.parametrize("name", groups()["experiment"])
def test_every_preset_builds(name: str) -> None:
    assert parsed(f"experiment={name}").cif
    assert parameters(f"experiment={name}") > 0
    if not FLOWS[parsed(f"experiment={name}").flow.family].needs_index:
        assert parameters(f"experiment={name}", "cif=false") > 0


def test_presets_of_tables_follow_the_table_and_the_side() -> None:
    sizes = {"power": 2, "gas": 2, "hepmass": 5, "miniboone": 10, "bsds300": 15, "iris": 2}
    for name in ("tables_maf", "tables_resflow"):
        assert {table: parsed(f"experiment={name}", f"dataset={table}").index.dim for table in sizes} == sizes
        assert parsed(f"experiment={name}").dataset.name == "power"
    assert parsed("experiment=tables_maf", "cif=false").flow.hidden == [200, 200]
    assert parsed("experiment=tables_maf", "cif=true").flow.hidden == [100, 100]
    assert parsed("experiment=tables_maf", "dataset=hepmass").flow.hidden == [512, 512]


def test_planar_preset_moves_points_by_conditional_planar_maps() -> None:
    assert parsed("experiment=two_d_planar").index.action == "planar"
    assert parsed("experiment=two_d_sos").index.action == "affine"


def test_a_flow_may_choose_its_index_and_the_command_line_another() -> None:
    assert parsed("flow=vae").index == IndexConfig(**read(CONF / "index" / "vae.yaml"))
    assert parsed("flow=vae", "index.dim=5").index.dim == 5
    assert parsed("flow=vae", "index=default").index == IndexConfig()
    assert parsed("flow=dlgm").index == IndexConfig()


def test_command_line_beats_presets() -> None:
    config = parsed("experiment=two_d_maf", "debug=tiny", "flow=realnvp", "trainer.max_steps=7")
    assert config.flow.family == "realnvp"
    assert config.trainer.max_steps == 7
