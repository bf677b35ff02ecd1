"""A fixture for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import helpers


@pytest.fixture(scope="module")
def without_pictures() -> Iterator[None]:
    """In a module that asks for it, runs in this process draw nothing."""
    with helpers.without_pictures():
        yield
