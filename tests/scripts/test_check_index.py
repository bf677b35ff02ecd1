"""What makes an index used: each change is one of training, and works."""

from __future__ import annotations

import importlib.util
import math
from types import ModuleType

import pytest
import torch

from cifrun.build import build_model
from cifrun.cli.hydra_app import configure
from tests.helpers import ROOT

WORDS = [
    "flow=maf",
    "flow.depth=2",
    "flow.hidden=[4]",
    "dataset=rings",
    "dataset.num_train=200",
    "dataset.num_valid=50",
]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_index", ROOT / "scripts" / "check_index.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_change_changes_what_is_learned(script: ModuleType) -> None:
    found = {name: script.train(WORDS, 12, 1, **change) for name, change in script.CHANGES.items()}
    assert all(math.isfinite(kl) for kl, _ in found.values())
    assert found["plain flow"][1] == 0 < found["CIF, the default"][1]
    assert len({kl for kl, _ in found.values()}) == len(found)
    assert script.train(WORDS, 12, 1) == found["CIF, the default"]  # whatever the changes before have left behind


def test_a_rate_of_its_own_is_that_of_the_index_alone(script: ModuleType) -> None:
    model = build_model(configure(WORDS), (2,))
    optimizer = torch.optim.SGD([{"params": list(model.parameters()), "share": 0.5}], lr=1.0)
    script.own_rate(model, optimizer, 5.0)
    flow, index = optimizer.param_groups
    assert (flow["share"], index["share"]) == (0.5, 2.5)
    assert {id(p) for p in index["params"]} == {id(p) for n, p in model.named_parameters() if ".index." in n}
    assert len(flow["params"]) + len(index["params"]) == len(list(model.parameters()))
