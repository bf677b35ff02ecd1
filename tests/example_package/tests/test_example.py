"""What the flow and the dataset of this package promise, as those of cifrun do: `pip install .`, and then `pytest`."""

from __future__ import annotations

import pytest
from cifrun_example.rotation import Rotation

from cifrun.testing import check_bijection, check_dataset, check_flow


def test_the_flow() -> None:
    check_flow("rotation")


def test_the_bijection() -> None:
    check_bijection(Rotation(0.3))


@pytest.mark.parametrize("bend", [0.5, -0.2])
def test_the_dataset(bend: float) -> None:
    check_dataset("banana", bend=bend)
