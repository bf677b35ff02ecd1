"""What makes an index used: each change is one of training, and works."""

from __future__ import annotations

import math

import torch

from cifrun.build import build_model
from cifrun.cli.hydra_app import configure
from tests.helpers import script

check_index = script("check_index")

WORDS = [
    "flow=maf",
    "flow.depth=2",
    "flow.hidden=[4]",
    "dataset=rings",
    "dataset.num_train=200",
    "dataset.num_valid=50",
]


def test_every_change_changes_what_is_learned() -> None:
    found = {name: check_index.train(WORDS, 12, 1, **change) for name, change in check_index.CHANGES.items()}
    assert all(math.isfinite(kl) for kl, _ in found.values())
    assert found["plain flow"][1] == 0 < found["CIF, the default"][1]
    assert len({kl for kl, _ in found.values()}) == len(found)
    assert check_index.train(WORDS, 12, 1) == found["CIF, the default"]  # whatever the changes before have left behind


def test_a_rate_of_its_own_is_that_of_the_index_alone() -> None:
    model = build_model(configure(WORDS), (2,))
    optimizer = torch.optim.SGD([{"params": list(model.parameters()), "share": 0.5}], lr=1.0)
    check_index.own_rate(model, optimizer, 5.0)
    flow, index = optimizer.param_groups
    assert (flow["share"], index["share"]) == (0.5, 2.5)
    assert {id(p) for p in index["params"]} == {id(p) for n, p in model.named_parameters() if ".index." in n}
    assert len(flow["params"]) + len(index["params"]) == len(list(model.parameters()))
