"""What every registered flow promises, plain and indexed, in every dimension where it is defined.

A flow is covered by being registered: its settings are made small by `SMALL`, and it is built for vectors of 1, 2 and 5
numbers, or for small images of 1 and 3 channels. Where it refuses, it has to say so with a `ConfigError`, and is
left out for that shape.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import pickle

import pytest
import torch
from torch import Tensor

from cifrun.build import build_steps
from cifrun.cif.model import Model
from cifrun.config.schema import Config
from cifrun.errors import ConfigError
from cifrun.flows.base import FlowConfig
from cifrun.registry import FLOWS

#: Settings that make a flow small enough to build hundreds of; each is used where a flow has a field of that name.
SMALL = {
    "depth": 2,
    "hidden": [16, 16],
    "width": 6,
    "layers": 2,
    "degree": 2,
    "tolerance": 1e-9,
    "eval_tolerance": 1e-9,
    "scales": 2,
    "dense": 1,
    "dense_hidden": [8],
    "norm": "none",
}
#: Spread of the parameters around their initial values; enough to leave every special point.
SPREAD = 0.1

Shape = tuple[int, ...]
VECTORS: list[Shape] = [(1,), (2,), (5,)]
IMAGES: list[Shape] = [(1, 4, 4), (3, 4, 4)]


def settings(name: str, **overrides: object) -> dict[str, object]:
    """Small settings of a flow, as a config holds them."""
    fields = {f.name for f in dataclasses.fields(FLOWS[name])}
    return {"family": name, **{k: v for k, v in SMALL.items() if k in fields}, **overrides}


def flow(name: str) -> FlowConfig:
    return FLOWS[name](**settings(name))


def build(name: str, indexed: bool, shape: Shape, **overrides: object) -> Model:
    """A small model with fresh parameters, in evaluation mode, in double precision."""
    if FLOWS[name].needs_index and not indexed:
        pytest.skip("it is made of its index")
    config = Config.parse(
        {
            "dataset": {"name": "two_uniforms"},
            "flow": settings(name, **overrides),
            "cif": indexed,
            "index": {"dim": 2, "st": [8], "p": [8], "q": [8]},
        }
    )
    torch.manual_seed(3)
    return Model(build_steps(config, shape)).double().eval()


def perturb(model: Model) -> Model:
    """Bring the parameters away from their initial values."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(SPREAD * torch.randn(p.shape, generator=generator).to(p))
    return model


def fit(model: Model, data: Tensor, steps: int) -> Model:
    """A short training, in which every loss has to be finite; the model is left in evaluation mode."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = -model.log_w(data).mean()
        assert loss.isfinite()
        loss.backward()
        optimizer.step()
    return model.eval()


def batch(shape: Shape, size: int = 5) -> Tensor:
    return 1.2 * torch.randn(size, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def defined(name: str, shape: Shape) -> bool:
    try:
        flow(name).build(shape)
    except ConfigError:
        return False
    return True


#: Those of numbers; what models zeros and ones is no bijection.
FLOWS_OF_NUMBERS = [name for name in FLOWS if not FLOWS[name].binary]
CASES = [
    (name, shape)
    for name in FLOWS_OF_NUMBERS
    for shape in (IMAGES if FLOWS[name].images else VECTORS)
    if defined(name, shape)
]
PLANE = [name for name, shape in CASES if shape == (2,)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{'x'.join(map(str, case[1]))}")
def case(request: pytest.FixtureRequest) -> tuple[str, Shape]:
    return request.param


@pytest.fixture(params=[False, True], ids=["plain", "indexed"])
def indexed(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def model(case: tuple[str, Shape], indexed: bool) -> Model:
    return perturb(build(case[0], indexed, case[1]))


@pytest.fixture
def x(case: tuple[str, Shape]) -> Tensor:
    return batch(case[1])


# --- the maps of a model, for given u ---------------------------------------------------------------------------------


def draw_u(model: Model, size: int) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(6)
    return [
        None if step.index is None else torch.randn(size, *step.index.u_shape, generator=generator).double()
        for step in model.steps
    ]


def inward(model: Model, x: Tensor, us: list[Tensor | None]) -> tuple[Tensor, Tensor]:
    """x ↦ z_0 and log|det ∂z_0/∂x|, at given u."""
    log_det = x.new_zeros(len(x))
    for step, u in zip(model.steps, us, strict=True):
        x, term = step.bijection(x)
        log_det = log_det + term
        if step.index is not None:
            x, term = step.index(x, u)
            log_det = log_det + term
    return x, log_det


def outward(model: Model, z: Tensor, us: list[Tensor | None]) -> Tensor:
    for step, u in zip(reversed(model.steps), reversed(us), strict=True):
        if step.index is not None:
            z = step.index.inverse(z, u)
        z = step.bijection.inverse(z)
    return z


def estimated(model: Model) -> bool:
    return not all(step.bijection.exact_log_det for step in model.steps)


def log_w(model: Model, x: Tensor, m: int = 1) -> Tensor:
    """log w with the same random numbers every time."""
    torch.manual_seed(7)
    return model.log_w(x, m)


# --- tests ------------------------------------------------------------------------------------------------------------


def test_every_flow_is_defined_somewhere() -> None:
    assert {name for name, _ in CASES} == set(FLOWS_OF_NUMBERS)


@pytest.mark.parametrize("name", list(FLOWS))
def test_a_flow_says_what_it_is(name: str) -> None:
    assert FLOWS.describe()[name].endswith((".", ")"))
    for shape in [(1,), (2, 3, 4), (0,)]:
        try:
            steps = flow(name).build(shape)
        except ConfigError as error:
            assert name in str(error)
            assert len(str(error).splitlines()) == 1
        else:
            assert steps[0].shape == shape
            assert all(step.describe() for step in steps)


def test_shapes(model: Model, x: Tensor) -> None:
    with torch.no_grad():
        assert model.log_w(x, 3).shape == (3, len(x))
        assert model.log_prob(x, importance_samples=2).shape == (len(x),)
        assert model.log_prob(x, importance_samples=2).isfinite().all()
        samples = model.sample(7, seed=0)
    assert samples.shape == (7, *model.shape)
    assert samples.isfinite().all()
    assert any(step.bijection.indexable for step in model.steps)


def test_gradients_reach_every_parameter(model: Model, x: Tensor) -> None:
    model.train()
    (-model.log_w(x, 2).mean()).backward()
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key


def test_log_det_is_that_of_autograd(model: Model, x: Tensor) -> None:
    if estimated(model):
        pytest.skip("its log-determinant is an estimate")
    us = draw_u(model, len(x))
    x.requires_grad_()
    z, log_det = inward(model, x, us)
    z = z.flatten(1)
    rows = [torch.autograd.grad(z[:, i].sum(), x, retain_graph=True)[0].flatten(1) for i in range(z.shape[1])]
    torch.testing.assert_close(log_det, torch.linalg.slogdet(torch.stack(rows, 1)).logabsdet, rtol=0, atol=1e-6)


def test_round_trip(model: Model, x: Tensor) -> None:
    us = draw_u(model, len(x))
    with torch.no_grad():
        model.prepare()
        torch.testing.assert_close(outward(model, inward(model, x, us)[0], us), x, rtol=0, atol=1e-5)
        z = batch(model.latent_shape)
        torch.testing.assert_close(inward(model, outward(model, z, us), us)[0], z, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PLANE)
def test_the_density_integrates_to_one(name: str, indexed: bool) -> None:
    """∫ E[w] dx = 1 after some training, by a grid over v with x = sinh(v), which reaches far tails too.

    For an indexed flow each grid point takes 16 draws of u, and what noise they leave is about 1 %.
    """
    model = fit(build(name, indexed, (2,)).float(), batch((2,), 256).float(), 40)
    side = torch.linspace(-6, 6, 181 if indexed else 321)
    mass = 0.0
    with torch.no_grad():
        for v in torch.cartesian_prod(side, side).split(40_000):
            p = log_w(model, v.sinh(), 16 if indexed else 1).exp().mean(0)
            mass += float((p * v.cosh().prod(1)).sum() * (side[1] - side[0]) ** 2)
    assert mass == pytest.approx(1, abs=0.05 if indexed else 0.01)


def test_training_mode_gives_the_same_density(model: Model, x: Tensor) -> None:
    with torch.no_grad():
        evaluated = log_w(model, x)
        model.train()
        if estimated(model):
            pytest.skip("its log-determinant is an estimate")
        for _ in range(10):  # power iterations, where there are any, catch up with the perturbed weights
            log_w(model, x)
        torch.testing.assert_close(log_w(model, x), evaluated, rtol=1e-3, atol=1e-3)


def test_single_precision_agrees_with_double(model: Model, x: Tensor) -> None:
    if estimated(model):
        pytest.skip("its log-determinant is an estimate")
    us = draw_u(model, len(x))
    with torch.no_grad():
        model.prepare()
        z, log_det = inward(model, x, us)
        single = copy.deepcopy(model).float()
        single.prepare()
        z32, log_det32 = inward(single, x.float(), [u if u is None else u.float() for u in us])
    assert z32.dtype == log_det32.dtype == torch.float32
    torch.testing.assert_close(z32.double(), z, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(log_det32.double(), log_det, rtol=1e-3, atol=1e-3)


def test_copies_give_the_same(case: tuple[str, Shape], indexed: bool, model: Model, x: Tensor) -> None:
    with torch.no_grad():
        expected = log_w(model, x)  # also fills whatever is kept between calls
        fresh = perturb(build(case[0], indexed, case[1]))  # another draw of what is random
        torch.manual_seed(99)
        fresh.load_state_dict(model.state_dict())
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fresh):
            torch.testing.assert_close(log_w(twin, x), expected, rtol=1e-9, atol=1e-9)


def test_a_checkpoint_holds_the_weights_and_little_else(model: Model, x: Tensor) -> None:
    with torch.no_grad():
        log_w(model, x)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    state = model.state_dict().values()
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    assert buffer.tell() < 1.5 * weights + 1000 * len(state) + 4000


@pytest.mark.parametrize("norm", ["actnorm", "batchnorm"])
@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, shape in CASES if shape in [(2,), (3, 4, 4)]])
def test_normalised_flows_train_and_invert(name: str, shape: Shape, norm: str) -> None:
    model = build(name, True, shape, norm=norm)
    plain = build(name, True, shape)
    assert len(model.steps) == len(plain.steps) + sum(step.bijection.indexable for step in plain.steps)
    data = 20 * batch(shape, 64) + 100
    fit(model, data, 3)
    us = draw_u(model, len(data))
    with torch.no_grad():
        model.prepare()
        torch.testing.assert_close(outward(model, inward(model, data, us)[0], us), data, rtol=1e-5, atol=1e-4)


def on_gpu(model: Model) -> Model:
    """A copy of the model there, if there is one, and if numbers can be compared."""
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    if estimated(model):
        pytest.skip("its log-determinant is an estimate")
    return copy.deepcopy(model).cuda()


@pytest.mark.gpu
def test_the_gpu_gives_the_same(model: Model, x: Tensor) -> None:
    us = draw_u(model, len(x))
    there = on_gpu(model)
    with torch.no_grad():
        model.prepare()
        there.prepare()
        z, log_det = inward(model, x, us)
        z_gpu, log_det_gpu = inward(there, x.cuda(), [u if u is None else u.cuda() for u in us])
        back = outward(there, z_gpu, [u if u is None else u.cuda() for u in us])
    torch.testing.assert_close(z_gpu.cpu(), z, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(log_det_gpu.cpu(), log_det, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(back.cpu(), x, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
def test_the_gpu_gives_the_same_gradient(model: Model, x: Tensor) -> None:
    us = draw_u(model, len(x))
    there = on_gpu(model)
    for one, data in ((model, x), (there, x.cuda())):
        one.prepare()
        z, log_det = inward(one, data, [u if u is None else u.to(data) for u in us])
        (z.square().sum() + log_det.sum()).backward()
    for (name, a), b in zip(model.named_parameters(), there.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None and b.grad is not None:
            torch.testing.assert_close(b.grad.cpu(), a.grad, rtol=1e-6, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
