"""`conf/` is what the dataclasses say, and every choice and preset composes and parses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cifrun.build import build_model
from cifrun.cli.config_groups import LAUNCHER, conf_dir, groups
from cifrun.cli.hydra_app import configure
from cifrun.config.schema import Config, IndexConfig, to_dict
from cifrun.registry import DATASETS, FLOWS, OBJECTIVES, OPTIMIZERS

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import make_conf

CONF = conf_dir()
MADE = make_conf.made()
#: What a debug preset says of one flow alone.
SHRINK = {"optional debug/flow": "${debug}_${flow}"}
CHOICES = [(group, name) for group, names in groups().items() if group != LAUNCHER for name in names]


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def parsed(*overrides: str) -> Config:
    return configure(overrides)


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


@pytest.mark.parametrize("name", MADE)
def test_a_file_of_defaults_is_up_to_date(name: str) -> None:
    assert (CONF / name).is_file() and (CONF / name).read_text(encoding="utf-8") == MADE[name], (
        f"conf/{name} is not what the dataclasses say: run scripts/make_conf.py"
    )


def test_every_registered_name_has_a_file() -> None:
    for group, registry in (
        ("dataset", DATASETS),
        ("flow", FLOWS),
        ("objective", OBJECTIVES),
        ("optimizer", OPTIMIZERS),
    ):
        assert set(registry) <= {path.stem for path in (CONF / group).glob("*.yaml")}


def test_what_is_made_is_a_comment_for_every_key_but_the_name_of_the_file() -> None:
    for name, text in MADE.items():
        for line in text.partition("\nhydra:")[0].splitlines():
            _, colon, value = line.partition(": ")
            assert line.startswith((" ", "#", "defaults:")) or not colon or "# " in value or value == Path(name).stem, (
                line
            )


def test_a_default_choice_composes_to_the_defaults_of_the_dataclasses() -> None:
    bare = Config.parse({"dataset": {"name": "two_moons"}, "flow": {"family": "resflow"}})
    assert to_dict(parsed()) == to_dict(bare)


def test_data_follow_the_seed_of_the_run_where_they_are_drawn_and_splits_do_not() -> None:
    assert parsed("dataset=rings", "seed=7").dataset.seed == 7
    assert parsed("dataset=iris", "seed=7").dataset.seed == 0


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


@pytest.mark.parametrize("name", groups()["experiment"])
@pytest.mark.parametrize("choice", ["optimizer=muon", "objective=iwae"])
def test_another_choice_beside_a_preset_has_its_own_defaults(name: str, choice: str) -> None:
    """So a preset picks a file of the group, and sets none of the group's keys itself."""
    group = choice.partition("=")[0]
    assert getattr(parsed(f"experiment={name}", choice), group) == getattr(parsed(choice), group)


def test_debug_presets_shrink_every_flow_of_several_scales_and_no_other() -> None:
    files = {path.stem for path in (CONF / "debug" / "flow").glob("*.yaml")} - {"tiny_image"}
    flows = {name for name in groups()["flow"] if "scales" in read(CONF / "flow" / f"{name}.yaml")}
    assert files == {f"{preset}_{name}" for preset in groups()["debug"] for name in flows}
    for name in flows:
        preset = [f"flow={name}", "dataset=mnist"]
        width = "width" if name == "glow" else "hidden"
        assert getattr(parsed(*preset, "debug=tiny").flow, width) != getattr(parsed(*preset).flow, width)
        assert parsed(*preset, "debug=tiny", "index.p=standard_normal").index.p == "standard_normal"
    assert parsed("experiment=image_glow", "debug=tiny", "flow.width=7").flow.width == 7
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
    config = parsed(f"experiment={name}")
    assert config.cif
    # Norms of wide convolutions take long to find, and their number does not depend on how well they are found.
    words = [f"experiment={name}", *(["flow.eval_iterations=1"] if hasattr(config.flow, "eval_iterations") else [])]
    assert parameters(*words) > 0
    if not FLOWS[config.flow.family].needs_index:
        assert parameters(*words, "cif=false") > 0


def test_presets_of_tables_follow_the_table_and_the_side() -> None:
    sizes = {"power": 2, "gas": 2, "hepmass": 5, "miniboone": 10, "bsds300": 15, "iris": 2}
    for name in ("tables_maf", "tables_resflow"):
        assert {table: parsed(f"experiment={name}", f"dataset={table}").index.dim for table in sizes} == sizes
        assert parsed(f"experiment={name}").dataset.name == "power"
    assert parsed("experiment=tables_maf", "cif=false").flow.hidden == [200, 200]
    assert parsed("experiment=tables_maf", "cif=true").flow.hidden == [100, 100]
    assert parsed("experiment=tables_maf", "dataset=hepmass").flow.hidden == [512, 512]


def test_a_dataset_beside_a_preset_of_images_wins_and_mnist_is_the_default() -> None:
    for name in ("image_glow", "image_realnvp", "image_resflow", "image_resflow_big"):
        assert parsed(f"experiment={name}").dataset == parsed("dataset=mnist").dataset
        for words in ([f"experiment={name}", "dataset=cifar10"], ["dataset=cifar10", f"experiment={name}"]):
            config = parsed(*words)
            assert config.dataset == parsed("dataset=cifar10").dataset
            assert config.flow == parsed(f"experiment={name}").flow


def test_planar_preset_moves_points_by_conditional_planar_maps() -> None:
    assert parsed("experiment=two_d_planar").index.action == "planar"
    assert parsed("experiment=two_d_sos").index.action == "affine"


def test_a_flow_may_choose_its_index_and_the_command_line_another() -> None:
    assert parsed("flow=vae").index == parsed("index=vae").index != IndexConfig()
    assert parsed("flow=vae", "index.dim=5").index.dim == 5
    assert parsed("flow=vae", "index=default").index == IndexConfig()
    assert parsed("flow=dlgm").index == IndexConfig()


def test_command_line_beats_presets() -> None:
    config = parsed("experiment=two_d_maf", "debug=tiny", "flow=realnvp", "trainer.max_steps=7")
    assert config.flow.family == "realnvp"
    assert config.trainer.max_steps == 7
