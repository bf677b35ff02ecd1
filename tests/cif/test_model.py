"""The density of plain flows, CIFs and VAEs, against closed forms, quadrature and samples."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from scipy import stats

from cifrun.bijections.base import Identity
from cifrun.build import build_model, build_steps
from cifrun.cif.actions import AffineAction
from cifrun.cif.importance import pieces, weight_matrices
from cifrun.cif.index import Index
from cifrun.cif.model import Model
from cifrun.cif.step import Step
from cifrun.errors import ConfigError
from cifrun.registry import DATASETS
from tests.helpers import randomise, small_config, small_model, train_a_little

FLOWS = ["resflow", "realnvp", "maf"]
CIF = pytest.mark.parametrize("cif", [False, True], ids=["plain", "cif"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def grid(low, high, n):
    axis = low + (high - low) * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.cartesian_prod(axis, axis), ((high - low) / n) ** 2


# --- facts of the theory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", FLOWS)
def test_a_cif_starts_exactly_at_its_base_flow(flow):
    plain = build_model(small_config(flow, cif=False), (2,)).double().eval()
    cif = build_model(small_config(flow, cif=True), (2,)).double().eval()
    randomise(plain)
    for theirs, ours in zip(plain.steps, cif.steps, strict=True):
        ours.bijection.load_state_dict(theirs.bijection.state_dict())
    x = torch.randn(50, 2, dtype=torch.float64)
    weights = cif.log_w(x, 7)
    exact = plain.log_prob(x)
    torch.testing.assert_close(weights, exact.expand(7, -1), rtol=0, atol=1e-12)  # every weight, not just their mean
    assert plain.exact and not cif.exact


@pytest.mark.parametrize("flow", FLOWS)
def test_constant_st_and_equal_pq_give_the_shifted_flow_without_variance(flow):
    """s = t = const, q = p = N(μ, σ²): each weight is the density of the flow followed by one affine map."""
    index = {"st": "learned_constant", "p": "learned_constant", "q": "learned_constant", "dim": 2, "depth": 1}
    cif = small_model(flow, True, index=index)
    step = cif.steps[0]
    with torch.no_grad():
        step.index.q_net.value.copy_(step.index.p_net.value)
    x = torch.randn(20, 2, dtype=torch.float64)
    s, t = step.index.st.value.chunk(2)
    below, log_det = step.bijection(x)
    rest = Model(cif.steps[1:]).eval()
    expected = log_det + s.sum() + rest.log_prob(torch.exp(s) * (below + t))
    torch.testing.assert_close(cif.log_w(x, 5), expected.expand(5, -1))


def test_plain_flow_is_exact_whatever_m():
    model = small_model("maf", False)
    x = torch.randn(10, 2, dtype=torch.float64)
    torch.testing.assert_close(model.log_prob(x, 1000), model.log_w(x)[0])
    assert model.estimate(x, 1000).importance_samples == 1


def test_linear_gaussian_vae_has_its_closed_form():
    """x = e^{-s} z − W u with z, u ~ N(0, I) is N(0, e^{-2s} + W Wᵀ); if q is the posterior, each weight is p(x)."""
    index = Index((2,), (2,), AffineAction(), dim=1, st=[], p="standard_normal", q=[]).double()
    model = Model([Step(Identity((2,)), index)]).eval()
    w, s = torch.tensor([0.8, -0.5], dtype=torch.float64), torch.tensor([0.3, -0.1], dtype=torch.float64)
    noise = torch.diag(torch.exp(-2 * s))
    covariance = noise + torch.outer(w, w)
    gain = w @ torch.linalg.inv(covariance)  # posterior mean of u is gain · x
    variance = 1 - gain @ w
    with torch.no_grad():
        index.st[0].weight.zero_()
        index.st[0].weight[2:, 0] = w
        index.st[0].bias.copy_(torch.cat([s, torch.zeros(2)]))
        index.q_net[0].weight.copy_(torch.stack([-gain, torch.zeros(2, dtype=torch.float64)]))
        index.q_net[0].bias.copy_(torch.stack([torch.zeros((), dtype=torch.float64), 0.5 * variance.log()]))
    x = torch.randn(30, 2, dtype=torch.float64)
    truth = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance).log_prob(x)
    torch.testing.assert_close(model.log_w(x, 6), truth.expand(6, -1))
    draws = model.sample(200_000, seed=0)
    # Standard error of a covariance entry is at most about 2.2/√200 000 = 0.005: six of them.
    torch.testing.assert_close(torch.cov(draws.T), covariance, rtol=0, atol=0.03)


# --- estimates against quadrature -------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", FLOWS)
@torch.no_grad()
def test_iwae_converges_to_the_integral_over_u(flow):
    """One indexed step, dim u = 1: p(x) = ∫ p(x | u) p(u | z(x, u)) du, done by quadrature over u.

    IWAE with 20 000 samples; its error is the relative standard error of the mean weight, and 5 of those are allowed
    at each of 25 points: false alarm below 1e-4.
    """
    model = build_model(small_config(flow, True, index={"dim": 1, "depth": 1}), (2,)).double().eval()
    randomise(model, 0.15)
    x = torch.randn(25, 2, dtype=torch.float64)
    step, rest = model.steps[0], Model(model.steps[1:]).eval()
    below, log_det = step.bijection(x)
    u = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    columns = []
    for value in u.split(200):
        many = value.repeat_interleave(len(x))[:, None]
        z, log_s = step.index(below.repeat(len(value), 1), many)
        log_p = log_s + step.index.p(z).log_prob(many) + rest.log_prob(z)
        columns.append(log_p.unflatten(0, (len(value), -1)) + log_det)
    truth = torch.logsumexp(torch.cat(columns), 0) + math.log(60 / 6000)
    log_w, _ = weight_matrices(model.log_weights(lambda rows: x[rows], pieces(len(x), 20_000, len(x), 50_000)))
    w = torch.exp(log_w - truth)
    error = w.std(0) / math.sqrt(len(w))
    assert (error < 0.2).all()
    assert ((w.mean(0) - 1).abs() < 5 * error).all()


@CIF
@pytest.mark.parametrize("flow", FLOWS)
@torch.no_grad()
def test_density_integrates_to_one_after_training(flow, cif):
    data = DATASETS["two_moons"](name="two_moons").load()
    model = train_a_little(build_model(small_config(flow, cif), (2,)), data.train, 40).double()
    points, cell = grid(-6.0, 6.0, 120)
    log_p = model.log_prob(points, 30, chunk_size=20_000)
    assert abs(log_p.exp().sum().item() * cell - 1) < 0.01


@CIF
@pytest.mark.parametrize("flow", FLOWS)
@torch.no_grad()
def test_samples_agree_with_the_density(flow, cif):
    """χ² of 10 000 samples over 64 cells against the density's integral over each: false alarm 1e-4, fixed seed.

    So few steps leave a density that a grid of this width resolves: a finer one, and more importance samples, change
    its χ² by less than 5 %.
    """
    data = DATASETS["two_uniforms"](name="two_uniforms").load()
    model = train_a_little(build_model(small_config(flow, cif), (2,)), data.train, 40).double()
    low, high, cells, sub, n = -4.0, 4.0, 8, 12, 10_000
    points, area = grid(low, high, cells * sub)
    mass = model.log_prob(points, 300, chunk_size=20_000).exp().reshape(cells, sub, cells, sub).sum((1, 3)) * area
    x = model.sample(n, seed=1)
    inside = x[((x > low) & (x < high)).all(1)]
    ij = ((inside - low) / (high - low) * cells).long()
    counts = torch.bincount(ij[:, 0] * cells + ij[:, 1], minlength=cells**2).double()
    expected = n * mass.flatten()
    keep = expected >= 20
    rest = torch.stack([counts[keep].sum(), expected[keep].sum()])
    observed = torch.cat([counts[keep], (n - rest[0])[None]])
    predicted = torch.cat([expected[keep], (n - rest[1])[None]])
    chi2 = ((observed - predicted) ** 2 / predicted).sum().item()
    assert stats.chi2.sf(chi2, len(observed) - 1) > 1e-4


# --- the machinery ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", FLOWS)
def test_log_det_of_an_indexed_step_is_autograds(flow):
    """log|det ∂F⁻¹(x; u)/∂x| at fixed u equals autograd's in float64."""
    model = small_model(flow, True, index={"dim": 2})
    step = model.steps[0]
    u = torch.randn(6, 2, dtype=torch.float64)
    x = torch.randn(6, 2, dtype=torch.float64)

    def inverse(v, k):
        return step.index(step.bijection(v[None])[0], u[k, None])[0][0]

    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda v, k=k: inverse(v, k), x[k]) for k in range(6)])
    below, log_det = step.bijection(x)
    _, log_s = step.index(below, u)
    torch.testing.assert_close(log_det + log_s, torch.linalg.slogdet(jacobians)[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("flow", FLOWS)
def test_round_trip_of_an_indexed_step(flow):
    model = small_model(flow, True, index={"dim": 2})
    u, x = torch.randn(2, 40, 2, dtype=torch.float64).unbind(0)
    for step in (step for step in model.steps if step.index is not None):
        z = step.index(step.bijection(x)[0], u)[0]
        torch.testing.assert_close(step.bijection.inverse(step.index.inverse(z, u)), x, rtol=0, atol=1e-8)


def test_chunks_change_only_the_draws():
    """Same m in one piece or in many: equal within Monte Carlo error, and the same number of weights."""
    model = small_model("maf", True)
    x = torch.randn(8, 2, dtype=torch.float64)
    whole = model.estimate(x, 64, chunk_size=100_000)
    parts = model.estimate(x, 64, chunk_size=24)
    assert whole.importance_samples == parts.importance_samples == 64
    assert [piece.importance_samples for piece in pieces(8, 64, 8, 24)] == [3] * 21 + [1]
    assert (whole.log_likelihood - parts.log_likelihood).abs().max() < 5


def test_what_x_alone_gives_is_computed_once():
    model = small_model("realnvp", True)
    calls = {"outer": 0, "inner": 0}
    model.steps[0].bijection.register_forward_hook(lambda *a: calls.__setitem__("outer", calls["outer"] + len(a[1][0])))
    model.steps[1].bijection.register_forward_hook(lambda *a: calls.__setitem__("inner", calls["inner"] + len(a[1][0])))
    model.estimate(torch.randn(10, 2, dtype=torch.float64), 50, chunk_size=40)
    assert calls == {"outer": 10, "inner": 500}


@pytest.mark.parametrize("m", [10, 10_000])
def test_no_tensor_is_larger_than_a_chunk(m):
    """Memory does not grow with m: whatever m is, a network sees at most `chunk_size` rows at once."""
    model = small_model("maf", True)
    rows = []
    for module in model.modules():
        module.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    model.estimate(torch.randn(30, 2, dtype=torch.float64), m, chunk_size=300)
    assert max(rows) <= 300


@CIF
def test_samples_are_seeded_and_leave_the_global_state_alone(cif):
    model = small_model("maf", cif)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b = model.sample(20, seed=1), model.sample(20, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(a, b) and not torch.equal(a, model.sample(20, seed=2))
    assert model.sample(0).shape == (0, 2)
    assert model.sample(25, seed=3, chunk_size=10).shape == (25, 2)


def test_depth_of_the_index_counts_from_the_data():
    steps = build_steps(small_config("realnvp", True, index={"depth": 1}), (2,))
    assert [step.index is not None for step in steps] == [True, False]
    with pytest.raises(ConfigError, match=r"index\.depth = 5 .* 2 steps"):
        build_steps(small_config("realnvp", True, index={"depth": 5}), (2,))


@pytest.mark.parametrize("st", [[8], "zero", "learned_constant"])
@pytest.mark.parametrize("p", [[8], "standard_normal", "learned_constant"])
@pytest.mark.parametrize("q", [[8], "standard_normal", "learned_constant"])
def test_every_choice_of_index_networks_works(st, p, q):
    model = small_model("realnvp", True, index={"st": st, "p": p, "q": q, "dim": 3})
    log_w = model.log_w(torch.randn(4, 2, dtype=torch.float64), 3)
    assert log_w.shape == (3, 4) and log_w.isfinite().all()
    constant = st != [8] and p == q == "standard_normal"  # then no weight depends on u
    assert (log_w.std(0).max() < 1e-12) == constant
    log_w.sum().backward()


def test_initial_weights_follow_the_seed():
    a, b, c = (build_model(small_config("maf", True, seed=s), (2,)).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not all(torch.equal(a[k], c[k]) for k in a)


def test_copies_are_independent():
    model = small_model("resflow", True)
    other = copy.deepcopy(model)
    x = torch.randn(5, 2, dtype=torch.float64)
    randomise(other, seed=9)
    torch.manual_seed(0)
    a = model.log_w(x)
    other.log_w(x)
    torch.manual_seed(0)
    torch.testing.assert_close(model.log_w(x), a)


def test_a_copy_looks_after_modules_of_its_own() -> None:
    """What `prepare` brings up to date is the copy's, also between the preparation of the original and its use."""
    model = small_model("resflow", True, double=False).train()
    model.prepare()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for module in (m for modules in twin._prepared.values() for m in modules):
            assert any(module is m for m in twin.modules())
        assert twin._prepared
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        twin.log_w(torch.randn(5, 2)).sum().backward()
        assert all(p.grad is None for p in model.parameters())
        assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_statistics_add_up_over_the_steps() -> None:
    model = build_model(small_config("cnf", False, flow={"depth": 2, "hidden": [8]}), (2,))
    model.log_w(torch.randn(4, 2))
    each = [step.bijection.statistics()["function_evaluations"] for step in model.steps]
    assert len(each) == 2 and min(each) >= 7
    assert model.statistics() == {"function_evaluations": sum(each)}
    assert small_model("maf", True).statistics() == {}


@torch.no_grad()
def test_samples_through_a_planar_action_report_their_residual() -> None:
    assert small_model("realnvp", True).inverse_residual() is None
    model = small_model("realnvp", True, index={"action": "planar"})
    for twin in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.sample(50, seed=0).isfinite().all()
        residual = twin.inverse_residual()
        assert residual is not None and residual < 1e-9


@pytest.mark.parametrize("flow", ["resflow", "maf", "nsf_ar", "bnaf", "sos"])
def test_weights_that_were_written_without_a_trace_are_seen(flow):
    """Averages of weights and old optimisers write through `.data`, which no version counts."""
    model, x = small_model(flow, False), torch.randn(5, 2).double()
    with torch.no_grad():
        model.log_prob(x)
        for parameter in model.parameters():
            parameter.data.add_(0.05)
        fresh = small_model(flow, False)
        fresh.load_state_dict(model.state_dict())
        torch.testing.assert_close(model.log_prob(x), fresh.log_prob(x))
    torch.testing.assert_close(model.log_prob(x), fresh.log_prob(x))


@pytest.mark.parametrize("cif", [False, True])
def test_gradients_of_a_residual_flow_in_double_precision(cif):
    """The derivative of log p(x) in a weight, spectral norm included, against central differences."""
    model, x = build_model(small_config("resflow", cif), (2,)).double().eval(), torch.randn(20, 2).double()
    randomise(model, 0.02)  # singular values that lie close together are the hardest to tell apart

    def value():
        torch.manual_seed(1)
        return model.log_prob(x, 3).sum()

    weight = next(module.weight for module in model.modules() if hasattr(module, "normalised_weight"))
    (gradient,) = torch.autograd.grad(value(), weight)
    place, h = divmod(int(gradient.abs().argmax()), gradient.shape[1]), 1e-5
    with torch.no_grad():
        weight[place] += h
        high = value()
        weight[place] -= 2 * h
        slope = (high - value()) / (2 * h)
    torch.testing.assert_close(gradient[place], slope, rtol=1e-6, atol=0)
