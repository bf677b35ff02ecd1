"""From names to objects and back: weights from a seed, the first step from its name, and a model's table."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from cifrun.bijections import residual
from cifrun.bijections.base import Bijection
from cifrun.bijections.permutation import Flatten
from cifrun.bijections.preprocess.pixels import Centre, Logit
from cifrun.bijections.preprocess.standardize import Standardize, Whiten
from cifrun.build import (
    FIRST_STEPS,
    build_model,
    build_standardize,
    build_steps,
    describe,
    first_step,
    kind_of,
    load_model,
)
from cifrun.config.schema import Config
from cifrun.data.base import Data
from cifrun.errors import ConfigError, RunError
from cifrun.runs.checkpoint import Checkpoint
from cifrun.runs.directory import RunDirectory
from cifrun.training.training_state import TrainingState
from tests.helpers import randomise, small_config

# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", ["resflow", "realnvp", "nsf_ar"])
def test_a_cif_and_its_base_flow_begin_with_the_same_weights(flow: str) -> None:
    """Of one seed, so that they can be compared; and whatever else is drawn in this process draws as before."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    plain, cif = (build_model(small_config(flow, indexed, seed=4), (2,)) for indexed in (False, True))
    assert torch.equal(torch.rand(3), expected)
    for theirs, ours in zip(plain.steps, cif.steps, strict=True):
        torch.testing.assert_close(
            ours.bijection.state_dict(), theirs.bijection.state_dict(), rtol=0, atol=0, equal_nan=True
        )


@pytest.mark.parametrize(("depth", "indexed"), [(2, [True, False] * 2 + [False] * 2), ("all", [True, False] * 3)])
def test_an_index_is_for_maps_that_take_one_counted_from_the_data(depth: int | str, indexed: list[bool]) -> None:
    """A normalisation stands after each coupling, and takes none."""
    config = small_config("realnvp", True, flow={"depth": 3, "norm": "actnorm"}, index={"depth": depth, "dim": 4})
    steps = build_steps(config, (2,))
    assert [step.index is not None for step in steps] == indexed
    assert all(step.index is None or step.index.u_shape == (4,) for step in steps)


def test_events_that_are_no_vectors_are_flattened_for_flows_of_vectors() -> None:
    steps = build_steps(small_config("maf", True), (2, 3, 2))
    assert isinstance(steps[0].bijection, Flatten) and steps[0].index is None
    assert [step.bijection.shape for step in steps] == [(2, 3, 2), (12,), (12,), (12,)][: len(steps)]
    assert steps[1].index is not None


def test_a_flow_that_is_made_of_its_index_has_no_plain_side() -> None:
    with pytest.raises(ConfigError, match=r"^flow=vae is made of its index: "):
        build_model(small_config("vae", cif=False), (2,))
    assert build_model(small_config("vae", cif=True), (2,)).indexed


# --- the first step ---------------------------------------------------------------------------------------------------

FIRST: dict[str, Bijection] = {
    "standardize": Standardize((2,), torch.tensor([1.0, -3.0]).double(), torch.tensor([0.5, 40.0]).double()),
    "whiten": Whiten((2,), torch.tensor([1.0, -3.0]).double(), torch.tensor([[2.0, 0.0], [0.6, 0.1]]).double()),
    "logit": Logit((1, 2, 2), 17, 0.05),
    "centre": Centre((1, 2, 2), 17),
}


@pytest.mark.parametrize("name", FIRST)
def test_the_first_step_is_made_again_from_what_a_checkpoint_says(name: str) -> None:
    step = FIRST[name]
    again = first_step(step.shape, kind_of(step))
    assert type(again) is type(step)
    again.load_state_dict(step.state_dict())
    x = 0.1 + torch.rand(5, *step.shape)
    for found, expected in zip(again(x), step(x), strict=True):
        assert torch.equal(found, expected)


def test_no_first_step_has_a_name_too() -> None:
    assert kind_of(None) is False and first_step((2,), False) is None
    assert {type(step) for step in FIRST.values()} == set(FIRST_STEPS.values())


def test_images_are_not_whitened() -> None:
    x = torch.randn(20, 3, 2, 2)
    config = Config.parse({"dataset": {"name": "two_moons", "standardize": "whiten"}, "flow": {"family": "maf"}})
    with pytest.raises(ConfigError, match=r"'whiten' is for points, not for events of shape \(3, 2, 2\)"):
        build_standardize(config, Data(x, x, x))


def test_whitening_needs_an_invertible_covariance() -> None:
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    x = torch.cat([x, 2 * x[:, :1] - x[:, 1:]], 1)
    config = Config.parse({"dataset": {"name": "two_moons", "standardize": "whiten"}, "flow": {"family": "maf"}})
    with pytest.raises(ConfigError, match="column 'c' is a linear function of those before it"):
        build_standardize(config, Data(x, x, x, columns=("a", "b", "c")))


# --- a trained model --------------------------------------------------------------------------------------------------


def test_a_run_gives_its_best_weights_and_before_there_are_any_its_latest(tmp_path: Path) -> None:
    config, run = small_config("maf", True), RunDirectory(tmp_path)
    run.create(config)
    models = {}
    for seed, tag in enumerate(("latest", "best")):
        models[tag] = build_model(config, (2,))
        randomise(models[tag], seed=seed)
        run.save_checkpoint(tag, TrainingState([2], columns=["a", "b"], levels=None).checkpoint(models[tag]))
        found = load_model(run)
        torch.testing.assert_close(found.state_dict(), models[tag].state_dict(), rtol=0, atol=0)
        assert found.columns == ("a", "b") and found.levels is None
        assert not found.training and not any(parameter.requires_grad for parameter in found.parameters())
    torch.testing.assert_close(
        load_model(run, tag="latest").state_dict(), models["latest"].state_dict(), rtol=0, atol=0
    )


@pytest.mark.parametrize("kind", [False, True, "whiten"])
@pytest.mark.parametrize("size", [2_000_000_000, 50_000_000, 30_000])
def test_a_shape_that_a_checkpoint_claims_takes_no_memory(size: int, kind: str | bool, tmp_path: Path) -> None:
    config, run = small_config("affine", False), RunDirectory(tmp_path)
    run.create(config)
    state = TrainingState([2], kind).checkpoint(build_model(config, (2,), first_step((2,), kind)))
    run.save_checkpoint("latest", Checkpoint(state.tensors, {**state.state, "shape": [size]}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RunError, match="holds the weights of another model"):
        load_model(run)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"


# --- for a reader -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cif", "groups", "likelihood"),
    [
        (False, {}, "exact"),
        (True, {"index": {"depth": 1, "dim": 3}, "eval": {"importance_samples": 12}}, "IWAE_12"),
        (False, {"flow": {"logdet": "unbiased"}}, "unbiased"),
    ],
)
def test_the_table_of_a_model_counts_each_parameter_once(
    cif: bool, groups: dict[str, Any], likelihood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if likelihood == "unbiased":  # as of many dimensions
        monkeypatch.setattr(residual, "EXACT_IN_EVALUATION", 0)
    config = small_config("resflow", cif, **groups)
    title, _, rule, *rows, last = describe(config).splitlines()
    assert title == f"two_uniforms (2,) ← {config.flow_name}"
    model = build_model(config, (2,), Standardize((2,)))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert last == f"{count:,} parameters; test log-likelihood: {likelihood}"
    columns = [slice(*found.span()) for found in re.finditer("─+", rule)]
    cells = [[row[column].strip() for column in columns] for row in rows]
    assert [(u, bool(of_index)) for *_, u, _, of_index in cells] == [
        ("", False) if step.index is None else ("u ∈ R^3", True) for step in model.steps
    ]
    assert sum(int(number.replace(",", "") or 0) for row in cells for number in row[-2:]) == count
