"""A Gaussian and a mixture beside a flow: against closed forms, and where they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cifrun.cli.hydra_app import configure
from cifrun.cli.main import main
from cifrun.data.base import Data
from cifrun.evaluation.references import references
from cifrun.runs.directory import RunDirectory
from tests.helpers import plain_main


def splits(x: torch.Tensor) -> Data:
    n = len(x) // 4
    return Data(x[: 2 * n], x[2 * n : 3 * n], x[3 * n :])


def test_a_gaussian_has_the_likelihood_of_its_closed_form() -> None:
    """Against the density of the maximum-likelihood Gaussian in the data's own units."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16_000, 3, generator=generator, dtype=torch.float64) @ torch.tensor(
        [[100.0, 0, 0], [30, 5, 0], [0.1, 0.02, 0.01]], dtype=torch.float64
    )
    data = splits(x)
    found = references(data, 0)
    exact = torch.distributions.MultivariateNormal(data.train[:].mean(0), data.train[:].T.cov(correction=0))
    log_p = exact.log_prob(data.test[:])
    assert found["gaussian"] == pytest.approx(log_p.mean().item(), abs=1e-3)  # 10⁻⁶ is added to variances
    assert found["gaussian_se"] == pytest.approx(log_p.std().item() / len(log_p) ** 0.5, rel=1e-3)
    assert found["mixture_components"] == 1 or found["mixture"] > found["gaussian"] - 0.01


def test_a_mixture_finds_two_pieces() -> None:
    """0.4 σ = the width of a piece; the entropy of such a mixture is that of a piece and log 2."""
    generator = torch.Generator().manual_seed(1)
    piece = torch.randint(2, (4_000, 1), generator=generator)
    x = 10.0 * piece + torch.randn(4_000, 2, generator=generator)
    found = references(splits(x), 0)
    truth = -np.log(2) - np.log(2 * np.pi) - 1
    assert found["mixture_components"] in (2, 3)  # a third that takes part of a piece may be luckier on validation
    assert abs(found["mixture"] - truth) < 4 * found["mixture_se"]  # false alarm: 6e-5
    assert found["gaussian"] < truth - 0.5


def test_they_stand_beside_a_flow_and_eval_leaves_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    words = ["dataset=iris", "flow=affine", "debug=tiny", "eval.references=true", "diagnostics.enabled=false"]
    assert plain_main(["train", *words, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    told = capsys.readouterr().out
    assert "a Gaussian, same split" in told and "a mixture of Gaussians, same split" in told and "(of " in told
    before = RunDirectory(tmp_path / "run").summary()["test"]
    assert np.isfinite([before["gaussian"], before["mixture"]]).all()
    assert main(["eval", f"run={tmp_path / 'run'}"]) == 0
    assert "Gaussian" not in capsys.readouterr().out
    assert RunDirectory(tmp_path / "run").summary()["test"]["mixture"] == before["mixture"]


def test_images_have_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    words = ["dataset=digits", "flow=glow", "debug=tiny", "eval.references=true", f"hydra.run.dir={tmp_path / 'run'}"]
    assert main(["train", *words]) == 2
    assert "eval.references = true is not possible" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_preset_of_tables_fits_their_rows(tmp_path: Path) -> None:
    small = configure(["experiment=table", "dataset=iris"])
    table = tmp_path / "large.npy"
    np.save(table, np.random.default_rng(0).normal(size=(3_000, 2)))
    large = configure(["experiment=table", f"dataset.path={table}"])
    assert small.cif and small.eval.references and large.eval.references
    assert sum(small.flow.hidden) < sum(large.flow.hidden)  # type: ignore[attr-defined]
    assert small.trainer.batch_size < large.trainer.batch_size
    assert configure(["experiment=table", "dataset=iris", "flow.hidden=[7]"]).flow.hidden == [7]  # type: ignore[attr-defined]
