"""What commands do, as functions, and what `import cifrun` costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import cifrun
from cifrun.errors import ConfigError, RunError

TINY = ("dataset=two_uniforms", "flow=affine", "debug=tiny", "diagnostics.enabled=false", "trainer.progress=false")


@pytest.mark.usefixtures("without_pictures")
def test_a_config_is_trained_evaluated_and_extended(tmp_path: Path) -> None:
    config = cifrun.configure(*TINY, "cif=true", "device=cpu")
    summary = cifrun.train(config, tmp_path / "run")
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    result = cifrun.evaluate(tmp_path / "run")
    assert result["log_likelihood"] == pytest.approx(summary["test"]["log_likelihood"])
    more = cifrun.configure(*TINY, "cif=true", "device=cpu", "trainer.max_steps=6")
    assert cifrun.train(more, tmp_path / "run", resume=True)["steps"] == 6
    assert isinstance(cifrun.load(tmp_path / "run"), cifrun.CIF)


@pytest.mark.usefixtures("without_pictures")
def test_a_run_is_not_overwritten_and_keeps_its_settings(tmp_path: Path) -> None:
    config = cifrun.configure(*TINY, "cif=false", "device=cpu")
    torch.use_deterministic_algorithms(False)
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    cifrun.train(config, tmp_path / "run")
    assert torch.equal(torch.rand(2), expected) and not torch.are_deterministic_algorithms_enabled()
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(RunError, match="already holds a run"):
        cifrun.train(config, tmp_path / "run")
    other = cifrun.configure(*TINY, "cif=false", "device=cpu", "optimizer.lr=0.5")
    with pytest.raises(ConfigError, match=r"a run keeps its optimizer\.lr"):
        cifrun.train(other, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


@pytest.mark.usefixtures("without_pictures")
def test_data_that_moved_are_named_in_the_config(tmp_path: Path) -> None:
    rows = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)).tolist()
    before, now = tmp_path / "before.csv", tmp_path / "now.csv"
    before.write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in rows))
    words = ("flow=affine", "debug=tiny", "diagnostics.enabled=false", "trainer.progress=false", "device=cpu")
    config = cifrun.configure("dataset=file", f"dataset.path={before}", *words)
    summary = cifrun.train(config, tmp_path / "run")
    before.rename(now)
    config.dataset.path = now  # type: ignore[attr-defined]
    assert cifrun.evaluate(tmp_path / "run", config)["log_likelihood"] == summary["test"]["log_likelihood"]
    config.dataset.columns = ["a"]  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"a run keeps its dataset\.columns"):
        cifrun.evaluate(tmp_path / "run", config)


def test_a_wrong_word_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        cifrun.configure("flow=resflo")


def test_the_face_is_imported_when_it_is_asked_for() -> None:
    """`import cifrun` imports no library at all, and each name is found."""
    script = (
        "import sys, cifrun\n"
        "assert not {'torch', 'numpy', 'hydra', 'sklearn'} & set(sys.modules)\n"
        "assert all(getattr(cifrun, name) is not None for name in dir(cifrun))\n"
        "try: cifrun.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "module 'cifrun' has no attribute 'nothing'\n"
