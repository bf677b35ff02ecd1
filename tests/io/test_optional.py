"""Libraries that may be absent."""

from __future__ import annotations

import json

import pytest

from cifrun.errors import ConfigError
from cifrun.io.optional import need


def test_what_is_installed_is_imported() -> None:
    assert need("json", "this") is json


@pytest.mark.parametrize(
    ("module", "install", "sentence"),
    [
        ("nowhere.at.all", None, "reading x needs nowhere, which is not installed: pip install nowhere"),
        ("sklearn.nowhere", None, "reading x needs scikit-learn, which is not installed: pip install scikit-learn"),
        ("nowhere", "cifrun[ray]", "reading x needs cifrun[ray], which is not installed: pip install 'cifrun[ray]'"),
    ],
)
def test_what_is_absent_is_named_with_its_installation(module: str, install: str | None, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        need(module, "reading x", install)
    assert str(caught.value) == sentence
