"""The device settings: each precision trains, what is not here is said in a sentence, compiling changes no number."""

from __future__ import annotations

import pytest
import torch

from cifrun.build import build_model
from cifrun.config import DeviceConfig
from cifrun.device import launch
from cifrun.errors import ConfigError
from cifrun.trainer import train

from .helpers import small_config

QUICK = {"max_steps": 5, "batch_size": 100, "valid_every": 5, "plot_every": 0, "progress": False}


def run(path, flow="resflow", **device):
    eval = {"importance_samples": 3, "valid_importance_samples": 2}
    return train(small_config(flow, True, trainer=QUICK, eval=eval, device={"accelerator": "cpu", **device}), path)


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp64"])
@pytest.mark.parametrize("flow", ["resflow", "maf", "realnvp"])
def test_each_precision_trains_to_nearly_the_same(flow, precision, tmp_path):
    full = run(tmp_path / "fp32", flow, precision="fp32")["test"]["log_likelihood"]
    other = run(tmp_path / "other", flow, precision=precision)["test"]["log_likelihood"]
    assert other == pytest.approx(full, abs=0.05)


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_training_on_a_gpu(precision, tmp_path):
    summary = run(tmp_path, accelerator="gpu", precision=precision)
    assert summary["status"] == "completed"
