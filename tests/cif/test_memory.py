"""How many data fit: the default where memory is ample, less where it is not, and no trace in the model."""

import dataclasses

import pytest
import torch

from cifrun.build import build_model
from cifrun.cif import memory
from cifrun.cif.memory import MOST, chunk_size, numbers_a_row
from cifrun.cli.explain import explain
from cifrun.cli.hydra_app import configure


@pytest.mark.parametrize(("flow", "numbers"), [("resflow", 3 * 128), ("maf", 50)])
def test_numbers_a_row_are_those_of_the_widest_layer(flow, numbers):
    model = build_model(configure([f"experiment=two_d_{flow}", "dataset=rings", "cif=false"]), (2,))
    assert numbers_a_row(model) == numbers


def test_chunks_shrink_with_the_memory_that_is_free(monkeypatch):
    config = configure(["experiment=two_d_resflow", "dataset=rings", "cif=true"])
    model = build_model(config, (2,))
    sizes = []
    for free in (2**40, 2**24, 2**20, 1, None):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        sizes.append(chunk_size(model, config.eval.chunk_size))
        monkeypatch.setattr(model, "log_w", None)  # what was measured is known from now on
    assert sizes[0] == sizes[-1] == MOST["cpu"]
    assert MOST["cpu"] > sizes[1] > sizes[2] > sizes[3] == 1
    assert 8 * 4 * 384 * sizes[1] <= 2**24 / 4 < 2 * 8 * 4 * 384 * sizes[1]
    config = dataclasses.replace(config, eval=dataclasses.replace(config.eval, chunk_size=77))
    assert chunk_size(model, config.eval.chunk_size) == 77


def test_measuring_changes_nothing():
    model = build_model(configure(["experiment=two_d_resflow", "dataset=rings", "cif=true", "flow.norm=actnorm"]), (2,))
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(0)
    numbers_a_row(model)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert model.training and torch.equal(drawn, torch.rand(3))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_shortage_of_memory_gets_a_sentence():
    """A real one: no machine has 2⁶⁰ bytes."""
    with pytest.raises(RuntimeError) as shortage:
        torch.empty(2**58)
    assert "lower eval.chunk_size" in (explain(shortage.value, inside=True) or "")
    assert explain(RuntimeError("something else"), inside=True) is None
