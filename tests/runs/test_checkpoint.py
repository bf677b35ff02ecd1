"""A checkpoint comes back as it was saved, and what is none, or another model's, changes nothing."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from cifrun.bijections.permutation import Permutation
from cifrun.errors import RunError
from cifrun.runs.checkpoint import Checkpoint, DataFacts

KINDS = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: name != "__metadata__")
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
STATES = st.dictionaries(st.text(), LEAVES | st.lists(LEAVES) | st.dictionaries(st.text(), LEAVES), max_size=4)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Of any kind and up to three dimensions, also such that are scalars, empty, or a view of another."""
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    values = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    return values.to(draw(st.sampled_from(KINDS))).permute(draw(st.permutations(range(len(shape)))))


@given(st.dictionaries(NAMES, tensors(), min_size=1, max_size=4), STATES)
@example({"a": torch.arange(6).reshape(2, 3).T}, {})
@settings(max_examples=40, deadline=None)
def test_what_is_saved_is_read(named: dict[str, Tensor], state: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        Checkpoint(named, state).save(path)
        again = Checkpoint.read(path)
    assert again.state == state and again.tensors.keys() == named.keys()
    for name, tensor in named.items():
        assert again.tensors[name].dtype == tensor.dtype and torch.equal(again.tensors[name], tensor)


def test_a_part_is_what_stands_before_a_dot() -> None:
    names = ["model.a", "model.b.model.c", "models.a", "model", "rng.cpu"]
    checkpoint = Checkpoint({name: torch.tensor(k) for k, name in enumerate(names)}, {})
    assert checkpoint.part("model") == {"a": torch.tensor(0), "b.model.c": torch.tensor(1)}


@pytest.mark.parametrize("damage", ["another shape", "one too few", "one too many", "another name"])
def test_a_checkpoint_of_another_model_is_refused(damage: str) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    weights = {f"model.{name}": torch.ones_like(value) for name, value in model.state_dict().items()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrong = dict(weights)
    if damage == "another shape":
        wrong["model.0.weight"] = torch.ones(2, 2)
    elif damage == "one too many":
        wrong["model.2.bias"] = torch.ones(1)
    else:
        moved = wrong.pop("model.1.bias")
        wrong |= {"model.1.shift": moved} if damage == "another name" else {}
    with pytest.raises(RunError, match=r"^run/latest holds the weights of another model than"):
        Checkpoint(wrong, {}).load_model(model, "run/latest")
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    Checkpoint({**weights, "optimizer.0.step": torch.ones(())}, {}).load_model(model, "run/latest")
    assert all((value == 1).all() for value in model.state_dict().values())


@pytest.mark.parametrize("name", ["weight", "running_mean", "running_var"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_and_buffers_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    model = nn.BatchNorm1d(2)
    weights = {f"model.{key}": value.clone() for key, value in model.state_dict().items()}
    weights[f"model.{name}"][1] = bad
    with pytest.raises(RunError, match=rf"^run/best holds weights that are not finite, of '{name}' first"):
        Checkpoint(weights, {}).load_model(model, "run/best")


def test_a_buffer_may_be_infinite_where_it_was_built_so() -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    weights = {f"model.{key}": value.clone() for key, value in model.state_dict().items()}
    Checkpoint(weights, {}).load_model(model, "run/best")
    weights["model.mask"][0] = -torch.inf
    with pytest.raises(RunError, match="of 'mask' first"):
        Checkpoint(weights, {}).load_model(model, "run/best")


@pytest.mark.parametrize("state", [None, "", "{", "[1]", '"text"', "null", "[" * 100_000], ids=lambda s: str(s)[:8])
def test_a_state_that_is_none_is_damage(state: str | None, tmp_path: Path) -> None:
    path = tmp_path / "latest.safetensors"
    save_file({"a": torch.zeros(2)}, path, None if state is None else {"state": state})
    with pytest.raises(RunError, match=r"latest\.safetensors is damaged or not a checkpoint of this program$"):
        Checkpoint.read(path)


def test_facts_that_a_state_does_not_have_are_the_least() -> None:
    assert DataFacts.of({}, "file") == DataFacts([], False, [], None, None, [])
    state = {"shape": [1], "standardized": "whiten", "columns": ["a"], "levels": None, "fingerprint": "f"}
    state |= {"warnings": ["few"], "step": 1}
    facts = DataFacts.of(json.loads(json.dumps(state)), "file")
    assert {**vars(facts), "step": 1} == state


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"shape": [2], "columns": ["a", "b", "c"]}, "'columns'"),
        ({"shape": [2], "columns": ["a"]}, "'columns'"),
        ({"shape": [2], "columns": ["a", "a"]}, "'columns'"),
        ({"shape": [1, 2, 2], "columns": ["a"]}, "'columns'"),
        ({"columns": ["a"]}, "'columns'"),
        ({"shape": [2], "levels": 256}, "'levels'"),
    ],
    ids=str,
)
def test_facts_that_contradict_each_other_are_damage(facts: dict[str, object], word: str) -> None:
    with pytest.raises(RunError, match=f"^file is damaged: .*{word}"):
        DataFacts.of(facts, "file")


@pytest.mark.parametrize("kind", [torch.complex64, torch.complex128, torch.int64, torch.bool])
def test_weights_of_another_kind_of_numbers_are_refused(kind: torch.dtype) -> None:
    model = nn.BatchNorm1d(2)
    weights = {f"model.{name}": value.clone() for name, value in model.state_dict().items()}
    for name in ("weight", "running_mean", "num_batches_tracked"):
        if weights[f"model.{name}"].dtype == kind:
            continue
        wrong = {**weights, f"model.{name}": weights[f"model.{name}"].to(kind)}
        with pytest.raises(RunError, match="holds the weights of another model"):
            Checkpoint(wrong, {}).load_model(model, "run/best")
    for precision in (torch.float16, torch.bfloat16, torch.float64):
        narrow = {name: value.to(precision) if value.is_floating_point() else value for name, value in weights.items()}
        Checkpoint(narrow, {}).load_model(model, "run/best")


@pytest.mark.parametrize("order", [[0, 1, 3], [-1, 0, 1], [2**62, 0, 1]])
def test_places_that_are_not_there_are_refused(order: list[int]) -> None:
    model = Permutation((3,))
    Checkpoint({"model.order": torch.tensor([2, 0, 1])}, {}).load_model(model, "run/best")
    with pytest.raises(RunError, match="holds the weights of another model"):
        Checkpoint({"model.order": torch.tensor(order)}, {}).load_model(model, "run/best")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    model = nn.Linear(3, 2)
    weights = {f"model.{name}": torch.ones_like(p) for name, p in model.named_parameters()}
    weights["model.weight"][1, 2] = value
    with pytest.raises(RunError, match=r"here holds weights that are not finite, of 'weight' first"):
        Checkpoint(weights, {}).load_model(model, "here")


def test_no_single_bit_changes_what_is_read(tmp_path: Path) -> None:
    """Of a file, each bit in turn: it is refused, or, where the bit says nothing, read as it was."""
    path = tmp_path / "a.safetensors"
    named = {"model.a": torch.tensor([1.5, -2.0]), "rng.b": torch.tensor([True, False])}
    Checkpoint(named, {"step": 3}).save(path)
    whole, refused = path.read_bytes(), 0
    for k in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[k // 8] ^= 1 << k % 8
        path.write_bytes(changed)
        try:
            again = Checkpoint.read(path)
        except RunError:
            refused += 1
            continue
        assert again.state == {"step": 3} and again.tensors.keys() == named.keys(), k
        assert all(torch.equal(again.tensors[name], named[name]) for name in named), k
    assert refused > 0.9 * 8 * len(whole)


def test_a_checkpoint_from_before_there_were_checksums_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"model.a": torch.ones(2)}, path, {"format": "cifrun-1", "state": '{"step": 3}'})
    assert Checkpoint.read(path).state == {"step": 3}
    save_file({"model.a": torch.ones(2)}, path, {"format": "cifrun-2", "state": '{"step": 3}'})
    with pytest.raises(RunError, match="is damaged"):
        Checkpoint.read(path)
