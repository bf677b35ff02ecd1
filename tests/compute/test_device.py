"""The device settings: each precision trains, what is not here is said in a sentence, compiling changes no number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cifrun.bijections.preprocess.standardize import Standardize
from cifrun.build import build_model
from cifrun.cli.main import main
from cifrun.compute.device import launch
from cifrun.config.schema import DeviceConfig
from cifrun.errors import ConfigError
from cifrun.runs.directory import RunDirectory
from cifrun.training.loop import train
from tests.helpers import small_config, without_pictures

QUICK = {"max_steps": 5, "batch_size": 100, "valid_every": 5, "plot_every": 0, "progress": False}


def run(path, flow="resflow", **device):
    eval = {"importance_samples": 3, "valid_importance_samples": 2}
    config = small_config(flow, True, trainer=QUICK, eval=eval, device={"accelerator": "cpu", **device})
    with without_pictures():
        return train(config, path)


@pytest.mark.parametrize("flow", ["resflow", "maf", "realnvp"])
def test_each_precision_trains_to_nearly_the_same(flow, tmp_path):
    precisions = ("fp32", "tf32", "bf16", "fp64")
    full, *others = (run(tmp_path / p, flow, precision=p)["test"]["log_likelihood"] for p in precisions)
    assert others == pytest.approx([full] * 3, abs=0.05)


def test_densities_stay_in_full_precision_under_bf16():
    """Only networks run in bf16: log-weights are float32, and off by what 8 bits in the networks cost."""
    model = build_model(small_config("resflow", True), (2,)).eval()
    x = torch.randn(100, 2)
    with torch.no_grad():
        exact = model.log_w(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model.log_w(x)
    assert mixed.dtype == torch.float32
    assert (mixed - exact).abs().max() < 0.1


def test_bf16_takes_no_digit_from_the_data():
    """Numbers beside 1e8 are centred with all their digits; only then do networks take them, in bfloat16."""
    x, std = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)).double(), torch.ones(2)
    found = []
    for away in (0.0, 1e8):
        first = Standardize((2,), torch.full((2,), away), std)
        model = build_model(small_config("maf", False), (2,), first).eval()
        module = launch(DeviceConfig(accelerator="cpu", precision="bf16")).setup_module(model)
        found.append(module(x + away))
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(*found, rtol=0, atol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_here():
    with pytest.raises(ConfigError, match="device=gpu is not possible here: no CUDA device"):
        launch(DeviceConfig(accelerator="gpu"))


@pytest.mark.slow
@pytest.mark.parametrize("cif", [False, True])
@pytest.mark.parametrize("flow", ["resflow", "maf", "realnvp", "bnaf", "planar", "nsf_ar"])
def test_compiled_training_gives_the_same_gradients(flow, cif):
    """Also of a CIF: compiled code draws the same random numbers. Each step is one graph, without a break."""
    models = [build_model(small_config(flow, cif), (2,)).train() for _ in range(2)]
    models[1].compile_training()
    x = torch.randn(64, 2)
    for model in models:
        torch.manual_seed(0)
        model.log_w(x).mean().backward()
    assert all(step._compiled is not None for step in models[1].steps if step.bijection.indexable)
    assert not torch._dynamo.utils.counters["graph_break"]
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
def test_compiled_training_of_a_cif(tmp_path):
    eager = run(tmp_path / "eager", "maf")["test"]["log_likelihood"]
    assert run(tmp_path / "compiled", "maf", compile=True)["test"]["log_likelihood"] == pytest.approx(eager, abs=0.1)


# --- with a GPU -------------------------------------------------------------------------------------------------------

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
GPU = ["device=gpu", "trainer.max_steps=6", "trainer.valid_every=3", "trainer.plot_every=3", "trainer.progress=false"]


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_training_on_a_gpu(precision, tmp_path):
    summary = run(tmp_path, accelerator="gpu", precision=precision)
    assert summary["status"] == "completed"


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("cif", ["true", "false"])
@pytest.mark.parametrize(
    "words",
    [
        "dataset=two_uniforms flow=resflow flow.depth=2",
        "dataset=checkerboard flow=cnf flow.depth=1",
        "dataset=rings flow=bnaf flow.depth=2",
        "dataset=digits flow=glow debug=tiny",
        "dataset=digits flow=resflow_image debug=tiny",
    ],
)
def test_every_command_on_a_gpu(words, cif, tmp_path, capsys):
    """Diagnostics, pictures, samples and scores of a run that was trained there; and its evaluation on a CPU."""
    where = tmp_path / "run"
    assert main(["train", *words.split(), *GPU, f"cif={cif}", f"hydra.run.dir={where}"]) == 0, capsys.readouterr().err
    trained = RunDirectory(where).summary()
    assert trained["status"] == "completed"
    assert main(["sample", f"run={where}", "n=50", "device=gpu", f"output={tmp_path / 'x.npy'}"]) == 0
    assert np.isfinite(np.load(tmp_path / "x.npy")).all()
    assert main(["eval", f"run={where}", "device=gpu"]) == 0
    there = RunDirectory(where).summary()["test"]
    assert main(["eval", f"run={where}", "device=cpu"]) == 0
    here = RunDirectory(where).summary()["test"]
    error = there["log_likelihood_se"]
    assert there["log_likelihood"] == pytest.approx(here["log_likelihood"], abs=max(2 * error, 1e-3))


@needs_gpu
@pytest.mark.gpu
def test_a_batch_too_large_for_a_gpu(tmp_path, capsys):
    """A real shortage: a sentence, or, where it may be, smaller parts until they fit."""
    words = ["train", "dataset=rings", "cif=false", "flow=maf", "flow.depth=4", "flow.hidden=[512]", "device=gpu"]
    words += ["dataset.num_train=100000", "trainer.batch_size=100000", "trainer.max_steps=5", "trainer.log_every=1"]
    words += ["trainer.plot_every=0", "diagnostics.enabled=false", "trainer.progress=false"]
    size = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2**30 / size)
    try:
        assert main([*words, f"hydra.run.dir={tmp_path / 'whole'}"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("cifrun: the memory of cuda:0 is too small for 100000 data at once"), said
        parts = [*words, "trainer.micro_batches=auto", f"hydra.run.dir={tmp_path / 'parts'}"]
        assert main(parts) == 0, capsys.readouterr().err
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@needs_gpu
@pytest.mark.gpu
def test_fp32_is_full_precision_on_a_gpu():
    """Neither products nor convolutions are rounded to tf32, unless asked for."""
    torch.manual_seed(0)
    x, w = torch.randn(8, 64, 16, 16), torch.randn(64, 64, 3, 3)
    a = torch.randn(512, 512)
    exact = [torch.nn.functional.conv2d(x.double(), w.double(), padding=1), a.double() @ a.double()]
    errors = {}
    for precision in ("fp32", "tf32"):
        launch(DeviceConfig(accelerator="gpu", precision=precision))
        found = [torch.nn.functional.conv2d(x.cuda(), w.cuda(), padding=1), a.cuda() @ a.cuda()]
        errors[precision] = [(b.cpu() - c).norm() / c.norm() for b, c in zip(found, exact, strict=True)]
    launch(DeviceConfig(accelerator="gpu"))
    assert max(errors["fp32"]) < 1e-5
    assert min(errors["tf32"]) > 1e-5
