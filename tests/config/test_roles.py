"""What defines a run: roles of settings by name, and what later commands may change."""

from __future__ import annotations

import pytest

from cifrun.config.fields import Role, settings
from cifrun.config.roles import changeable, command_defaults, flattened, role_of
from cifrun.config.schema import Config
from cifrun.registry import DATASETS

TOY = {"dataset.name": "two_moons", "flow.family": "resflow"}


@pytest.mark.parametrize(
    ("role", "names"),
    [
        (Role.REPETITION, "seed dataset.seed"),
        (Role.MEASUREMENT, "eval.seed eval.importance_samples eval.chunk_size diagnostics.enabled diagnostics.every"),
        (Role.EXECUTION, "trainer.progress trainer.log_every trainer.plot_every trainer.checkpoint_every sweep.name"),
        (Role.EXECUTION, "device.accelerator device.count device.nodes device.compile device.cuda_graph"),
        (Role.COMMAND, "run resume n output data per_point"),
        (
            Role.TRAINED,
            "dataset.standardize dataset.num_train flow.depth flow.lipschitz cif index.dim objective.name optimizer.lr",
        ),
        (Role.DATA, "dataset.name dataset.noise"),
        (Role.LENGTH, "trainer.max_steps"),
        (Role.TRAINED, "trainer.valid_every device.precision device.deterministic"),
    ],
)
def test_each_setting_decides_what_it_should(role: Role, names: str) -> None:
    assert {name: role_of(name, TOY) for name in names.split()} == dict.fromkeys(names.split(), role)


def test_where_the_files_of_a_dataset_are_is_no_matter_and_which_split_it_is_a_repetition() -> None:
    assert role_of("dataset.root", {"dataset.name": "power"}) is Role.EXECUTION
    assert role_of("dataset.seed", {"dataset.name": "iris"}) is Role.REPETITION


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_seed_of_a_dataset_is_a_repetition(name: str) -> None:
    seeds = [found for found in settings(DATASETS[name], "dataset") if found.name == "dataset.seed"]
    assert all(found.role is Role.REPETITION for found in seeds)


def test_what_nobody_knows_counts_as_trained() -> None:
    gone = {"dataset.name": "of_another_package", "flow.family": "gone"}
    assert role_of("dataset.seed", gone) is Role.TRAINED
    assert role_of("nonsense", {}) is Role.TRAINED
    assert role_of("trainer.progress", gone) is Role.EXECUTION


def test_what_belongs_to_one_command_is_what_a_run_does_not_keep() -> None:
    kept = command_defaults()
    assert kept == {"run": None, "resume": None, "n": 1000, "output": None, "data": None, "per_point": None}
    assert set(kept) <= set(Config.__pydantic_fields__)  # type: ignore[attr-defined]


def test_nested_settings_are_flattened_to_dotted_names() -> None:
    nested = {"a": 1, "b": {"c": [2], "d": {"e": None}}, "f": {}}
    assert flattened(nested) == {"a": 1, "b.c": [2], "b.d.e": None, "f": {}}


def test_a_verb_may_change_what_the_fields_of_a_config_say() -> None:
    assert changeable("train") == ("resume", "trainer", "eval", "device")
    assert changeable("eval") == ("run", "data", "per_point", "eval", "diagnostics", "device", "seed")
    assert changeable("sample") == ("run", "n", "output", "eval", "device", "seed")
