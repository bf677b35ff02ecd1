from __future__ import annotations

import pytest
from torch import Tensor

from .helpers import Boxes


@pytest.fixture
def points() -> Tensor:
    """500 points of the target of two boxes, (500, 2)."""
    return Boxes(num_train=500).load().train
