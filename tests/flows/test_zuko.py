"""Every flow of zuko as a base flow: the same density as in zuko, there and back, and sentences for mistakes."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import zuko
from torch import Tensor

from cifrun.build import build_model
from cifrun.cif.model import Model
from cifrun.cli.main import main
from cifrun.config.schema import Config
from cifrun.errors import ConfigError, ConvergenceError
from cifrun.registry import FLOWS

#: Arguments with which each flow is small.
SMALL: dict[str, dict[str, Any]] = {
    "BPF": {"transforms": 2, "degree": 4, "hidden_features": [8]},
    "CNF": {"hidden_features": [8]},
    "GF": {"transforms": 2, "components": 3},
    "MAF": {"transforms": 2, "hidden_features": [8], "activation": "tanh"},
    "NAF": {"transforms": 2, "signal": 3, "hidden_features": [8], "network": {"hidden_features": [8]}},
    "NICE": {"transforms": 2, "hidden_features": [8]},
    "NSF": {"transforms": 2, "bins": 4, "hidden_features": [8]},
    "RealNVP": {"transforms": 2, "hidden_features": [8]},
    "SOSPF": {"transforms": 2, "degree": 2, "polynomials": 2, "hidden_features": [8]},
    "UNAF": {
        "transforms": 2,
        "signal": 3,
        "hidden_features": [8],
        "network": {"hidden_features": [8], "activation": "elu"},
    },
}


def config(name: str, cif: bool, seed: int = 0, **flow: Any) -> Config:
    data = {"dataset": {"name": "two_uniforms"}, "flow": {"family": "zuko", "name": name, **flow}, "cif": cif}
    return Config.parse({**data, "index": {"st": [8], "p": [8], "q": [8]}, "seed": seed})


def build(name: str, cif: bool, dim: int = 3, seed: int = 0) -> Model:
    return build_model(config(name, cif, seed, kwargs=SMALL[name]), (dim,)).double().eval()


def batch(dim: int, size: int = 6) -> Tensor:
    return torch.randn(size, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_every_flow_of_zuko_is_tried() -> None:
    exported = {k for k, v in vars(zuko.flows).items() if isinstance(v, type) and issubclass(v, zuko.flows.Flow)}
    assert exported - {"Flow", "NCSF"} == set(SMALL)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("name", SMALL)
def test_the_density_is_that_of_zuko(name: str, dim: int) -> None:
    model = build(name, False, dim)
    transforms = [step.bijection.transform for step in model.steps]
    ones = torch.ones(dim, dtype=torch.float64)
    base = zuko.lazy.UnconditionalDistribution(zuko.distributions.DiagNormal, 0 * ones, ones, buffer=True)
    x = batch(dim)
    with torch.no_grad():
        expected = zuko.lazy.Flow(transforms, base)().log_prob(x)
        # An ODE is solved with more care than zuko's own.
        torch.testing.assert_close(model.log_prob(x), expected, rtol=1e-6, atol=1e-3 if name == "CNF" else 1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_it_is_used_in_inference_mode(name: str) -> None:
    """Where some maps need derivatives even so, both ways."""
    model, x = build(name, False, dim=2), 0.3 * batch(2)
    with torch.no_grad():
        *_, last = model.inward(x)
        found = model.generate(last.z)
    with torch.inference_mode():
        torch.testing.assert_close(model.generate(last.z), found, rtol=0, atol=0)
        *_, again = model.inward(x)
        torch.testing.assert_close(again.z, last.z, rtol=0, atol=0)


def test_far_away_the_residual_does_not_tell_what_single_precision_has_lost() -> None:
    """Even an exact inverse of the rounded z is elsewhere; there is nothing to refuse, and double precision is fine."""
    double = build_model(config("NSF", False), (2,)).double().eval()
    single = copy.deepcopy(double).float()
    x = 1000 * batch(2, 200)
    off = {}
    with torch.no_grad():
        for model in (single, double):
            *_, last = model.inward(x.to(model.takes))
            off[model] = ((model.generate(last.z) - x).abs() / (1 + x.abs())).max()
            exact = double.generate(last.z.double())
            if model is single:
                lost = ((exact - x).abs() / (1 + x.abs())).max()
    assert single.inverse_residual() < 1e-3 and off[double] < 1e-5
    assert off[single] > 1e-3 and lost > 1e-3


@pytest.mark.parametrize("name", SMALL)
def test_log_determinants_are_autograds(name: str) -> None:
    model, x = build(name, False), batch(3)

    def inward(row: Tensor) -> Tensor:
        *_, last = model.inward(row[None])
        return last.z[0]

    jacobians = torch.stack([torch.autograd.functional.jacobian(inward, row) for row in x])
    with torch.no_grad():
        log_det = sum(moved.log_w for moved in model.inward(x))
    expected = torch.linalg.slogdet(jacobians)[1]
    torch.testing.assert_close(log_det, expected, rtol=0, atol=5e-5 if name == "CNF" else 1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_inference_mode_changes_nothing(name: str) -> None:
    """Some maps need derivatives, which inference mode forbids."""
    model, x = build(name, False), batch(3)
    with torch.no_grad():
        expected = model.log_prob(x)
    with torch.inference_mode():
        torch.testing.assert_close(model.log_prob(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("scale", [1, 20, 100])
def test_a_round_trip_ends_where_it_began_or_says_that_it_cant(name: str, scale: float) -> None:
    """To 1 % of 1 + |x|, in single precision."""
    model, x = build(name, False).float(), scale * batch(3, 200).float()
    with torch.no_grad():
        *_, last = model.inward(x)
        try:
            back = model.generate(last.z)
        except ConvergenceError:
            return
    assert ((back - x).abs() / (1 + x.abs())).max() < 0.05


@pytest.mark.parametrize("cif", [False, True], ids=["plain", "cif"])
@pytest.mark.parametrize("name", SMALL)
def test_steps_are_indexed_trained_and_inverted(name: str, cif: bool) -> None:
    model, x = build(name, cif), batch(3)
    indexable = sum(step.bijection.indexable for step in model.steps)
    assert indexable == SMALL[name].get("transforms", 1)
    assert sum(step.index is not None for step in model.steps) == cif * indexable
    model.train()
    (-model.log_w(x, 2).mean()).backward()
    for key, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), key

    model.eval()
    with torch.no_grad():
        for step in model.steps:
            z, _ = step.bijection(x)
            torch.testing.assert_close(step.bijection.inverse(z), x, rtol=0, atol=2e-4 if name == "CNF" else 1e-6)
            x = z
    assert 0 <= model.inverse_residual() < 1e-3


@pytest.mark.parametrize("name", SMALL)
def test_copies_and_saved_weights_give_the_same(name: str) -> None:
    model, x = build(name, True), batch(3)
    with torch.no_grad():
        twin = build(name, True, seed=9)
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        buffer.seek(0)
        twin.load_state_dict(torch.load(buffer, weights_only=True))
        torch.manual_seed(0)
        expected = model.log_w(x)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), twin):
            torch.manual_seed(0)
            torch.testing.assert_close(other.log_w(x), expected, rtol=1e-9, atol=1e-9)


def test_depth_counts_transforms() -> None:
    def steps(name: str, **flow: Any) -> int:
        return sum(bijection.indexable for bijection in FLOWS["zuko"](family="zuko", name=name, **flow).build((2,)))

    assert steps("NSF") == 3
    assert steps("NSF", depth=5) == 5
    assert steps("NSF", depth=5, kwargs={"transforms": 2}) == 2
    assert (steps("CNF"), steps("CNF", depth=2)) == (1, 2)


def test_arguments_are_set_without_a_plus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["flow=zuko", "flow.name=NAF", "flow.kwargs.transforms=2", "flow.kwargs.network.hidden_features=[8]"]
    assert main(["show", *words, "flow.kwargs.hidden_features=[8]", "flow.kwargs.signal=4"]) == 0
    assert capsys.readouterr().out.count("MaskedAutoregressiveTransform") == 2
    assert main(["show", "flow=zuko", "flow.kwargs={transforms: 4, bins: 3}"]) == 0
    assert capsys.readouterr().out.count("u ∈ R^2") == 4
    for word, sentence in {
        "flow.kwargs.bin=3": "there is no key 'flow.kwargs.bin' for zuko's NSF",
        "flow.kwarg.bins=3": "there is no key 'flow.kwarg'",
        "flow.norm.bins=3": "there is no key 'flow.norm.bins'",
    }.items():
        assert main(["show", "flow=zuko", word]) == 2
        out, err = capsys.readouterr()
        assert out == "" and sentence in err and len(err.splitlines()) == 1
    assert main(["show", "flow=maf", "flow.kwargs.bins=3"]) == 2
    assert "there is no key 'flow.kwargs': allowed here are family" in capsys.readouterr().err


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flow", "words"),
    [
        ({"name": "NFS"}, ["no zuko flow 'NFS'", "one of BPF, CNF", "did you mean 'NSF'?"]),
        ({"name": "realnvp"}, ["did you mean 'RealNVP'?"]),
        ({"name": "Flow"}, ["no zuko flow 'Flow'"]),
        ({"name": "torch.nn.Linear"}, ["no zuko flow 'torch.nn.Linear'"]),
        ({"name": "__loader__"}, ["no zuko flow '__loader__'"]),
        ({"name": "NCSF"}, ["flow.name = 'NCSF'", "angles"]),
        ({"name": "GMM"}, ["flow.name = 'GMM'", "mixture"]),
        ({"kwargs": {"transform": 3}}, ["flow.kwargs.transform'", "bins, ", "did you mean 'flow.kwargs.transforms'?"]),
        ({"kwargs": {"features": 3}}, ["no key 'flow.kwargs.features'"]),
        ({"kwargs": {"transforms": 0}}, ["no transforms"]),
        ({"kwargs": {"transforms": "five"}}, ["{'transforms': 'five'} does not fit zuko's NSF"]),
        ({"kwargs": {"hidden_features": 3}}, ["does not fit zuko's NSF"]),
        ({"kwargs": {"activation": "sigmoid"}}, ["activation = 'sigmoid'", "tanh, relu"]),
        ({"name": "GF", "kwargs": {"bins": 3}}, ["allowed there are components, transforms"]),
        ({"name": "NAF", "kwargs": {"network": {"hidden": 3}}}, ["does not fit zuko's NAF", "'hidden'"]),
        ({"kwargs": 3}, ["flow.kwargs = 3 is not allowed"]),
    ],
    ids=str,
)
def test_one_sentence_for_a_mistake(flow: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        build_model(config(**{"name": "NSF", "cif": True, **flow}), (2,))
    assert all(word in str(error.value) for word in words), error.value
    assert len(str(error.value).splitlines()) == 1
