"""The rules of the house: which room may import which, how long a file may be, and what it takes to add something."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
import yaml

from cifrun.registry import BASES, DATASETS, FLOWS, OBJECTIVES, OPTIMIZERS
from tests.helpers import ROOT

PACKAGE = ROOT / "cifrun"

#: The rooms and the files at the top of the package, lowest first: each may import what stands above it here.
FLOORS = (
    *("errors", "plugins", "registry", "io", "config", "compute", "nets", "bijections", "cif", "bases", "flows"),
    *(
        "objectives",
        "optimizers",
        "data",
        "runs",
        "build",
        "diagnostics",
        "figures",
        "evaluation",
        "training",
        "reporting",
        "cli",
    ),
    *("api", "sklearn", "testing", "__init__", "__main__"),
)
#: Libraries that only some rooms may import.
LIBRARIES = {
    "hydra": {"cli"},
    "omegaconf": {"cli"},
    "pydantic": {"config", "data", "flows", "bases"},
    "lightning_fabric": {"compute"},
    "lightning": set(),
    "jinja2": {"reporting"},
    "tensorboard": {"runs"},
}
#: What the mathematics does not know.
UNKNOWN_TO_MATHEMATICS = ("config", "registry", "plugins", "io", "compute.processes", "compute.device", "data", "runs")


#: Rooms that must not know each other, though one stands below the other.
STRANGERS = {
    "data": {"nets", "bijections", "cif", "bases", "flows", "objectives"},
    "runs": {"compute", "nets", "bijections", "cif", "bases", "flows", "objectives", "data"},
    "bijections": {"cif"},
}
#: What a registry imports when a name is first looked up: so a config finds the class behind `flow=`, which no import
#: could do without an arrow upward.
LOOKED_UP = {"cifrun.flows", "cifrun.data", "cifrun.bases", "cifrun.objectives", "cifrun.optimizers"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(file: Path) -> str:
    """`cifrun/cif/model.py` → `cif.model`."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def room_of(name: str) -> str:
    return name.partition(".")[0]


@lru_cache
def imports(file: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a file imports: modules of this package, and top-level names of other libraries; wherever the import is."""
    known = {name_of(module) for module in modules()}
    parts = ("cifrun", *file.relative_to(PACKAGE).with_suffix("").parts)
    here = parts[:-1]
    inside: dict[str, None] = {}
    outside: dict[str, None] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join((*here[: len(here) - node.level + 1], *filter(None, [node.module])))
            base = base if node.level else node.module or ""
            found = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in found:
            if target.partition(".")[0] != "cifrun":
                outside[target.partition(".")[0]] = None
                continue
            target = target.removeprefix("cifrun.")
            inside[target if target in known else target.rpartition(".")[0] or "__init__"] = None
    return tuple(inside), tuple(outside)


def test_every_room_has_its_floor() -> None:
    assert {room_of(name_of(file)) for file in modules()} == set(FLOORS)


@pytest.mark.parametrize("file", modules(), ids=name_of)
def test_no_arrow_runs_upward(file: Path) -> None:
    here = room_of(name_of(file))
    upward = [name for name in imports(file)[0] if FLOORS.index(room_of(name)) > FLOORS.index(here)]
    assert not upward, f"{name_of(file)} imports from above: {', '.join(upward)}"


def test_no_files_import_each_other_in_a_circle() -> None:
    arrows = {name_of(file): imports(file)[0] for file in modules()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> Iterator[str]:
        if name in path:
            yield " → ".join([*path[path.index(name) :], name])
        elif name not in done:
            for target in arrows.get(name, ()):
                yield from visit(target, (*path, name))
            done.add(name)

    circles = [circle for name in arrows for circle in visit(name, ())]
    assert not circles, "\n".join(circles)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_stays_in_its_rooms(library: str) -> None:
    rooms = {room_of(name_of(file)) for file in modules() if library in imports(file)[1]}
    assert rooms <= LIBRARIES[library]


def test_mathematics_knows_no_config_no_registry_and_no_processes() -> None:
    for file in modules():
        if room_of(name_of(file)) in ("nets", "bijections", "cif"):
            known = [name for name in imports(file)[0] if name.startswith(UNKNOWN_TO_MATHEMATICS)]
            assert not known, f"{name_of(file)} imports {', '.join(known)}"


@pytest.mark.parametrize("room", STRANGERS)
def test_rooms_that_should_not_know_each_other_do_not(room: str) -> None:
    for file in modules():
        if room_of(name_of(file)) == room:
            known = [name for name in imports(file)[0] if room_of(name) in STRANGERS[room]]
            assert not known, f"{name_of(file)} imports {', '.join(known)}"


def test_tensorboard_is_known_in_one_file() -> None:
    assert [name_of(file) for file in modules() if "tensorboard" in imports(file)[1]] == ["runs.tensorboard"]


def test_a_registry_looks_up_these_packages_and_no_others() -> None:
    assert {registry.package for registry in (FLOWS, DATASETS, BASES, OBJECTIVES, OPTIMIZERS)} == LOOKED_UP


def test_no_file_is_longer_than_350_lines() -> None:
    long = {name_of(file): n for file in modules() if (n := len(file.read_text("utf-8").splitlines())) > 350}
    assert not long


def test_at_most_eight_files_are_at_the_top() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 8


def test_users_mistakes_are_no_asserts() -> None:
    for file in modules():
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        assert not any(isinstance(node, ast.Assert) for node in nodes), name_of(file)


NEW = {
    "cifrun/flows/slide.py": '''
        from ..bijections.linear import ElementwiseAffine
        from ..config.fields import registered, setting
        from ..registry import FLOWS
        from .base import FlowConfig, with_norm

        @registered(FLOWS, "slide")
        class Slide(FlowConfig):
            """Scale and shift."""

            depth: int = setting(3, "number of steps L", ge=1)

            def build(self, shape):
                return with_norm([ElementwiseAffine(self.flat(shape)) for _ in range(self.depth)], self.norm)
        ''',
    "cifrun/data/targets/blob.py": '''
        import torch
        from ...config.fields import registered
        from ...registry import DATASETS
        from ..base import Target, log_normal, normal, square

        @registered(DATASETS, "blob")
        class Blob(Target):
            """A standard normal distribution."""

            window = property(lambda self: square(5.0))

            def sample(self, n, generator):
                return normal(generator, n, 2)

            def log_prob(self, x):
                return log_normal(x.double()).sum(-1)
        ''',
    "cifrun/bases/laplace.py": '''
        import torch
        from ..cif.base_density import BaseDensity
        from ..config.fields import registered, setting
        from ..registry import BASES
        from .base import BaseConfig

        @registered(BASES, "laplace")
        class Laplace(BaseConfig):
            """Independent Laplace distributions."""

            scale: float = setting(1.0, "scale of each", gt=0)

            def build(self, shape):
                return LaplaceDensity(shape, self.scale)

        class LaplaceDensity(BaseDensity):
            def __init__(self, shape, scale):
                super().__init__(shape)
                self.one = torch.distributions.Laplace(0.0, scale)

            def log_prob(self, z):
                return self.one.log_prob(z).flatten(1).sum(1)

            def draw(self, n, like):
                return self.one.sample((n, *self.shape)).to(like)
        ''',
    "cifrun/objectives/median.py": '''
        from ..registry import OBJECTIVES

        @OBJECTIVES.register("median", importance_samples=3)
        def median(log_w):
            """The median of log w."""
            return log_w.median(0).values
        ''',
}


#: Their files of defaults are made, and then a run.
MADE_AND_USED = """
import runpy, sys
from unittest.mock import patch
from cifrun.cli.main import main
words, sys.argv[1:] = sys.argv[1:], []
try:
    runpy.run_path("scripts/make_conf.py", run_name="__main__")
except SystemExit as ended:
    assert not ended.code
with patch("cifrun.training.ending._draw"):
    sys.exit(main(words))
"""


def test_a_flow_a_dataset_a_base_and_an_objective_take_two_new_files_each(tmp_path: Path) -> None:
    """In a copy of the package: of each a module, and a file of defaults that is made from it; no file is changed."""
    for folder in ("cifrun", "conf", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in NEW.items():
        assert not (tmp_path / path).exists()
        indent = len(text) - len(text.lstrip()) - 1
        (tmp_path / path).write_text(text.replace("\n" + " " * indent, "\n") if indent > 0 else text)
    words = "train flow=slide dataset=blob base=laplace objective=median"
    quick = "debug=tiny diagnostics.enabled=false hydra.run.dir=run"
    command = [sys.executable, "-c", MADE_AND_USED, *words.split(), *quick.split()]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "blob, CIF of slide" in done.stdout and (tmp_path / "run" / "summary.json").is_file()
    written = [line.removesuffix(" written") for line in done.stdout.splitlines() if line.endswith(" written")]
    made = ["base/laplace", "dataset/blob", "flow/slide", "objective/median"]
    assert sorted(written) == [f"conf/{name}.yaml" for name in made]
    objective = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["objective"]
    assert (objective["name"], objective["importance_samples"]) == ("median", 3)
