"""What a caller gives is taken in every form that means it, and refused in one sentence."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cifrun
from cifrun.api.arguments import checked_seed, whole
from cifrun.compute import memory
from cifrun.errors import ConfigError, RunError
from cifrun.testing import check_dataset, check_flow


def test_whole_numbers_of_python_and_of_numpy_are_the_same() -> None:
    assert [whole("n", value) for value in (3, np.int64(3), np.uint8(3), torch.tensor(3))] == [3] * 4
    assert checked_seed(None) is None and checked_seed(np.int64(7)) == 7
    for value in (0, -1, 2.0, "2", True, None, np.float64(2)):
        with pytest.raises(ValueError, match=r"n = .* is not allowed: it should be a whole number from 1"):
            whole("n", value)
    assert checked_seed(2**63 - 1) == 2**63 - 1
    for large in (2**63, 10**5000):
        with pytest.raises(ValueError, match=r"seed = .* is not allowed: it should be at most 9223372036854775807"):
            checked_seed(large)
    with pytest.raises(ValueError, match=r"n = 2\^16609 and more is not allowed: it should be at most 2147483647"):
        whole("n", 10**5000)


@pytest.fixture(scope="module")
def model() -> cifrun.CIF:
    return cifrun.CIF("realnvp", dim=2, depth=2)


def test_counts_and_seeds_of_numpy(model: cifrun.CIF) -> None:
    assert torch.equal(model.sample(np.int64(3), seed=np.int64(1)), model.sample(3, seed=1))
    x = torch.zeros(4, 2)
    assert torch.equal(
        model.log_prob(x, np.int64(5), seed=np.int64(1)),  # type: ignore[arg-type]
        model.log_prob(x, 5, seed=1),
    )


def test_the_elbo_takes_what_the_log_density_takes(model: cifrun.CIF) -> None:
    x = np.zeros((4, 2), np.float32)
    found = model.elbo(x, 3)
    assert found.shape == (4,) and found.dtype == np.float32
    assert model.elbo(x[0]).shape == () and model.elbo(torch.zeros(2)).shape == ()
    double = cifrun.Flow("realnvp", dim=2).double()
    assert double.elbo(torch.zeros(3, 2)).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m: m.sample(-1), "n = -1 is not allowed"),
        (lambda m: m.sample(True), "n = True is not allowed"),
        (lambda m: m.sample(2, seed=1.5), "seed = 1.5 is not allowed"),
        (lambda m: m.rsample_and_log_prob(2.5), "n = 2.5 is not allowed"),
        (lambda m: m.log_prob(torch.zeros(2, 2), seed=-1), "seed = -1 is not allowed"),
        (lambda m: m.log_prob(torch.zeros(2, 2), 0), "importance_samples = 0 is not allowed"),
        (lambda m: m.log_w(torch.zeros(2, 2), 0), "importance_samples = 0 is not allowed"),
        (lambda m: m.elbo(torch.zeros(2, 3)), r"x has the shape \(2, 3\)"),
        (lambda m: m.distribution().log_prob(np.zeros((2, 2))), "value is a ndarray, where a tensor belongs"),
        (lambda m: cifrun.train("dataset=rings", "x"), "config is a str, where one of cifrun.configure"),
        (lambda m: cifrun.configure(["dataset=rings"]), "configure takes words"),
        (lambda m: check_flow(object), "check_flow takes the name of a registered flow"),
        (lambda m: check_dataset(object), "check_dataset takes the name of a registered dataset"),
        (lambda m: cifrun.Flow(3, dim=2), "flow = 3 is not allowed"),
        (lambda m: cifrun.CIF("maf", dim=True), "dim = True is not allowed"),
        (lambda m: cifrun.CIF("maf", dim=(3, True, 2)), r"dim = \(3, True, 2\) is not allowed"),
        (lambda m: cifrun.CIF("maf", dim=10**12), "dim = 1000000000000 is not allowed"),
        (lambda m: cifrun.CIF("maf", dim=2, depth=10**5000), "flow.depth is not allowed: it has more than 100 digits"),
        (lambda m: cifrun.CIF("maf", dim=2, index_dim=65536), "index.dim = 65536 is not allowed"),
        (lambda m: cifrun.fit(m, torch.randn(9, 2), valid=10**5000), r"valid = 2\^16609 and more is not allowed"),
        (lambda m: cifrun.fit(m, torch.randn(9, 2), steps=10**20), "steps = 100000000000000000000 is not allowed"),
    ],
)
def test_a_mistake_is_a_sentence(call: Callable[[Any], Any], sentence: str, model: cifrun.CIF) -> None:
    with pytest.raises((ValueError, TypeError, ConfigError), match=sentence):
        call(model)


MUCH, MORE = 2**31 - 1, 10**12


@pytest.mark.parametrize(
    "call",
    [
        lambda m, x: m.sample(MORE),
        lambda m, x: m.sample(10**20),
        lambda m, x: m.sample(MUCH),
        lambda m, x: m.rsample(MORE),
        lambda m, x: m.rsample(MUCH),
        lambda m, x: m.rsample_and_log_prob(MORE),
        lambda m, x: m.log_prob(x, MORE),
        lambda m, x: m.log_prob(x, 10**20),
        lambda m, x: m.log_prob(x, MUCH, chunk_size=MUCH),
        lambda m, x: m.log_prob(x, MUCH, chunk_size=1),
        lambda m, x: m.log_prob(x, 10, chunk_size=10**20),
        lambda m, x: m.elbo(x, MORE),
        lambda m, x: m.elbo(x, MUCH, chunk_size=MUCH),
        lambda m, x: m.log_w(x, MORE),
        lambda m, x: m.log_w(x, MUCH),
        lambda m, x: m.estimate(x, 10**20),
        lambda m, x: m.distribution().sample((10**6, 10**6)),
        lambda m, x: m.distribution().rsample((MORE,)),
        lambda m, x: m.distribution(MORE).log_prob(x),
    ],
)
def test_what_has_no_room_or_no_end_is_a_sentence_before_the_work(
    call: Callable[[Any, Any], Any], model: cifrun.CIF, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_meminfo", lambda name: 16 * 2**30)
    with pytest.raises((ValueError, ConfigError)) as found:
        call(model, torch.zeros(5, 2))
    assert re.search("is not allowed|would take|passes through the model", str(found.value))


@pytest.mark.parametrize("settings", [{"flow": "mafx"}, {"flow": "maf", "depth": "a"}, {"flow": "maf", "depht": 3}])
def test_a_mistake_in_a_flow_shows_nothing_of_what_reads_it(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as found:
        cifrun.CIF(dim=2, **settings)
    shown = "".join(traceback.format_exception(found.value))
    assert "hydra" not in shown.lower().replace("hydra_app", "") and "pydantic" not in shown


def test_the_config_of_another_run_is_told(tmp_path: Path, without_pictures: None) -> None:
    words = ("dataset=rings", "flow=affine", "cif=false", "debug=tiny", "device=cpu")
    cifrun.train(cifrun.configure(*words), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"a run keeps its flow\.family: maf is not affine"):
        cifrun.evaluate(tmp_path / "run", cifrun.configure("dataset=rings", "flow=maf", *words[2:]))
    config = cifrun.load(tmp_path / "run").config
    config.eval.importance_samples = 3
    assert cifrun.evaluate(tmp_path / "run", config)["log_likelihood"] < 0


def test_a_file_is_no_directory(model: cifrun.CIF, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="file is a file, where a directory belongs"):
        model.save(tmp_path / "file")
