"""What the tests of images share."""

from __future__ import annotations

import pytest

from cifrun.registry import DATASETS

from ..image_archive import NAMES, SIZES


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of the sizes of `image_archive`, and none of the system's."""
    for name in NAMES:
        monkeypatch.setattr(DATASETS[name], "published", SIZES[name])
        monkeypatch.setattr(DATASETS[name], "system", ())
