"""The typed configuration: plain data in, the same plain data out, and names that are looked up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic.dataclasses import dataclass

from cifrun.config.fields import STRICT, setting
from cifrun.config.schema import (
    Config,
    DatasetSettings,
    FlowSettings,
    IndexConfig,
    OptimizerConfig,
    TrainerConfig,
    check,
    flow_name,
    to_dict,
)
from cifrun.errors import ConfigError
from cifrun.registry import DATASETS, FLOWS

BARE: dict[str, Any] = {"dataset": {"name": "two_moons"}, "flow": {"family": "maf"}}


def parsed(**changes: Any) -> Config:
    return Config.parse({**BARE, **changes})


# --- there and back ---------------------------------------------------------------------------------------------------


@given(
    st.fixed_dictionaries(
        {
            "cif": st.booleans(),
            "seed": st.integers(0, 2**32 - 1),
            "index": st.fixed_dictionaries(
                {
                    "dim": st.integers(1, 9),
                    "depth": st.just("all") | st.integers(1, 9),
                    "st": st.sampled_from(["zero", "learned_constant"]) | st.lists(st.integers(1, 99), max_size=3),
                    "p": st.just("standard_normal") | st.lists(st.integers(1, 99), max_size=3),
                }
            ),
            "optimizer": st.fixed_dictionaries(
                {"lr": st.floats(1e-9, 1), "max_grad_norm": st.none() | st.floats(0.1, 9)}
            ),
            "run": st.none() | st.sampled_from(["runs/a", "/tmp/ü b"]),
        }
    )
)
@settings(max_examples=50, deadline=None)
def test_a_config_is_made_again_from_its_plain_data(changes: dict[str, Any]) -> None:
    config = parsed(**changes)
    plain = to_dict(config)
    assert Config.parse(plain) == config
    assert Config.parse(json.loads(json.dumps(plain))) == config  # nothing in it but what any file holds
    assert all(plain[key] == value for key, value in changes.items() if not isinstance(value, dict))
    assert changes["index"].items() <= plain["index"].items()


def test_plain_data_hold_every_setting_and_paths_as_text() -> None:
    plain = to_dict(parsed(resume=Path("runs") / "a"))
    assert plain["resume"] == str(Path("runs") / "a") and plain["output"] is None
    assert plain["trainer"] == to_dict(TrainerConfig())
    assert plain["flow"]["family"] == "maf" and plain["dataset"]["name"] == "two_moons"


def test_what_is_an_object_already_is_taken_as_it_is() -> None:
    flow, dataset = FLOWS["maf"](family="maf", depth=7), DATASETS["rings"](name="rings", num_train=50)
    config = Config.parse({"dataset": dataset, "flow": flow})
    assert config.flow == flow and config.dataset == dataset
    assert Config.parse(to_dict(config)) == config


def test_configs_share_no_list() -> None:
    first, second = parsed(), parsed()
    assert first == second and first.index.st is not second.index.st
    assert to_dict(first)["index"]["st"] is not first.index.st


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_name_decides_which_settings_there_are() -> None:
    assert type(parsed().flow) is FLOWS["maf"] and type(parsed().dataset) is DATASETS["two_moons"]
    assert isinstance(parsed().flow, FlowSettings) and isinstance(parsed().dataset, DatasetSettings)
    assert parsed(dataset={"name": "two_moons", "noise": 0.3}).dataset.noise == 0.3  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"there is no key 'dataset\.noise'"):
        parsed(dataset={"name": "checkerboard", "noise": 0.3})


@pytest.mark.parametrize("group", ["dataset", "flow"])
def test_a_choice_without_a_name_lists_the_names(group: str) -> None:
    key, registry = {"dataset": ("name", DATASETS), "flow": ("family", FLOWS)}[group]
    names = ", ".join(registry)
    for value in ({}, {key: None}):
        with pytest.raises(ConfigError) as error:
            parsed(**{group: value})
        assert str(error.value) == f"{group}.{key} is missing: choose one of {names}"
    for value in (5, ["maf"]):
        with pytest.raises(ConfigError) as error:
            parsed(**{group: {key: value}})
        assert str(error.value) == f"{group}.{key} = {value!r} is not allowed: choose one of {names}"
    for value in ("maf", 3, None):
        with pytest.raises(ConfigError) as error:
            parsed(**{group: value})
        assert str(error.value) == f"{group} = {value!r} is not allowed: choose one of {names}"


def test_a_model_is_called_by_its_flow() -> None:
    assert (parsed(cif=True).flow_name, parsed(cif=False).flow_name) == ("CIF of maf", "maf")
    assert flow_name("resflow", True) == "CIF of resflow"


# --- values -----------------------------------------------------------------------------------------------------------


MANY = ("samples", "density_points", "density_samples", "jacobian_points", "weight_points", "weights")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"n": 0}, "n"),
        ({"index": {"dim": 0}}, "index.dim"),
        ({"index": {"st": [0]}}, "index.st"),
        ({"index": {"q": "zero"}}, "index.q"),
        ({"optimizer": {"lr": 0}}, "optimizer.lr"),
        ({"optimizer": {"max_grad_norm": 0}}, "optimizer.max_grad_norm"),
        ({"trainer": {"patience": -1}}, "trainer.patience"),
        ({"trainer": {"micro_batches": 0}}, "trainer.micro_batches"),
        ({"device": {"precision": "fp16"}}, "device.precision"),
        ({"sweep": {"name": "a/b"}}, "sweep.name"),
        ({"sweep": {"name": ""}}, "sweep.name"),
        ({"index": {"dim": 2**16}}, "index.dim"),
        *(({key: ""}, key) for key in ("run", "resume", "warm_start", "output", "data", "per_point")),
        ({"dataset": {"name": "file", "path": ""}}, "dataset.path"),
        *(({"diagnostics": {key: 2**31 - 1}}, f"diagnostics.{key}") for key in MANY),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused_by_name(change: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} = .* is not allowed: it should "):
        parsed(**change)


@pytest.mark.parametrize("value", [10**5000, -(10**5000), 10**100], ids=["long", "negative", "least"])
def test_a_number_without_end_is_named_by_its_key(value: int) -> None:
    for change, key in (
        ({"seed": value}, "seed"),
        ({"flow": {"family": "maf", "hidden": [3, value]}}, "flow.hidden"),
        ({"sweep": {"name": value}}, "sweep.name"),
        ({"unknown": {"key": value}}, "unknown.key"),
    ):
        with pytest.raises(ConfigError, match=f"^{key} is not allowed: it has more than 100 digits$"):
            parsed(**change)


def test_edges_of_ranges_are_allowed() -> None:
    config = parsed(seed=2**32 - 1, n=1, trainer={"patience": 0, "plot_every": 0, "micro_batches": "auto"})
    assert (config.seed, config.n, config.trainer.micro_batches) == (2**32 - 1, 1, "auto")
    assert parsed(index={"st": [], "p": [], "q": []}).index == IndexConfig(st=[], p=[], q=[])


def test_a_part_alone_is_checked_as_within_the_whole() -> None:
    assert check(OptimizerConfig, {"lr": 0.5}) == parsed(optimizer={"lr": 0.5}).optimizer == OptimizerConfig(lr=0.5)
    for call in (lambda: check(OptimizerConfig, {"name": "x"}), lambda: parsed(optimizer={"name": "x"})):
        with pytest.raises(
            ConfigError, match=r"^there is no optimizer 'x': choose one of adam, adamax, adamw, muon, sgd, soap"
        ):
            call()


def test_settings_of_another_package_are_checked_too() -> None:
    @dataclass(config=STRICT)
    class Mine(FlowSettings):
        """A flow of one's own."""

        angle: float = setting(0.5, "the angle", ge=0, le=1)

    assert check(Mine, {"family": "mine", "angle": 1}, "flow").angle == 1.0
    with pytest.raises(ConfigError, match=r"^flow\.angle = 2 is not allowed: it should be less than or equal to 1$"):
        check(Mine, {"family": "mine", "angle": 2}, "flow")
