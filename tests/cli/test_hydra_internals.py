"""The private names of Hydra and OmegaConf that this program needs: they are there, and only one file touches them."""

from __future__ import annotations

import ast
from dataclasses import fields, is_dataclass
from functools import reduce
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cifrun import cli
from cifrun.cli import launchers
from cifrun.cli.hydra_internals import root_of

FILE = "hydra_internals.py"

#: MODULE:NAME, all that `hydra_internals.py` takes from the inside of these packages.
NAMES = [
    "hydra._internal.utils:get_args_parser",
    "hydra.core.config_store:ConfigStore.instance",
    "hydra.core.plugins:Plugins.instance",
    "hydra.core.utils:JobReturn._return_value",
    "hydra.plugins.launcher:Launcher",
    "omegaconf:DictConfig._get_root",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_still_there(name: str) -> None:
    module, _, path = name.partition(":")
    package = {"hydra": "hydra-core"}.get(module.partition(".")[0], module.partition(".")[0])
    message = f"{package} {version(package)} has no {name} any more: mend cifrun/cli/{FILE}"
    try:
        found = reduce(_member, path.split("."), import_module(module))
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{message} ({error})")
    assert found is not None, message


def _member(holder: object, name: str) -> object:
    if is_dataclass(holder) and name in [field.name for field in fields(holder)]:
        return name
    return getattr(holder, name)


def test_an_error_about_a_config_knows_the_config() -> None:
    config = OmegaConf.create({"a": {"b": 1}})
    OmegaConf.set_struct(config, True)
    with pytest.raises(OmegaConfBaseException) as caught:
        config.a.c  # noqa: B018
    assert root_of(caught.value) is config, f"OmegaConf's errors have changed: mend cifrun/cli/{FILE}"


def test_what_the_singletons_hold_is_still_there() -> None:
    classes = Plugins.instance().class_name_to_class
    for name in launchers.__all__:
        assert classes.get(f"hydra_plugins.cifrun.{name}") is getattr(launchers, name)
    assert Plugins.instance().is_in_toplevel_plugins_module("hydra_plugins.cifrun.Ray"), (
        f"Hydra makes launchers of other packages now: mend cifrun/cli/{FILE}"
    )
    assert isinstance(ConfigStore.instance().repo["hydra"]["launcher"], dict)


def test_no_other_file_touches_private_names() -> None:
    for file in Path(cli.__path__[0]).glob("*.py"):
        if file.name == FILE:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            where = f"{file.name}, line {getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.ImportFrom):
                assert not any(map(_is_private, (node.module or "").split("."))), where
            elif isinstance(node, ast.Attribute) and _is_private(node.attr):
                assert isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"), f"{where}: {node.attr}"


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
