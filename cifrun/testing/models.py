"""What the model of a flow promises: shapes, derivatives, an inverse, a density, and that its copies are the same."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import torch
from torch import Tensor

from ..bijections.norm import BatchNorm
from ..cif.model import Model
from .flow_cases import FlowCase
from .promises import NotPromised, close, gradients_of, pickled, require

__all__ = ["CHECKS", "GPU_CHECKS"]

# --- the maps of a model, for given u ---------------------------------------------------------------------------------

Indices = list[Tensor | None]


def indices(model: Model, size: int) -> Indices:
    """A u for each step, the same each time."""
    generator = torch.Generator().manual_seed(6)
    return [
        None if step.index is None else torch.randn(size, *step.index.u_shape, generator=generator).double()
        for step in model.steps
    ]


def like(x: Tensor, us: Indices) -> Indices:
    """These u in the precision and on the device of x."""
    return [None if u is None else u.to(x) for u in us]


def inward(model: Model, x: Tensor, us: Indices) -> tuple[Tensor, Tensor]:
    """x ↦ z_0 and log|det ∂z_0/∂x|, at given u."""
    log_det = x.new_zeros(len(x))
    for moved in model.inward(x, us):
        x, log_det = moved.z, log_det + sum(moved.log_dets)
    return x, log_det


def log_w(model: Model, x: Tensor, m: int = 1) -> Tensor:
    """log w with the same random numbers every time."""
    torch.manual_seed(7)
    return model.log_w(x, m)


def need_bijections(model: Model) -> None:
    """Nothing if all steps are bijections.

    Raises:
        NotPromised: One draws what it returns.
    """
    if any(step.bijection.stochastic for step in model.steps):
        raise NotPromised("a step of it draws what it returns, so it is no bijection")


def need_exact(model: Model) -> None:
    """Nothing if all log-determinants are exact.

    Raises:
        NotPromised: One is an estimate.
    """
    if not all(step.bijection.exact_log_det for step in model.steps):
        raise NotPromised("its log-determinant is an estimate")


def train(model: Model, data: Tensor, steps: int) -> Model:
    """A short training, in which every loss has to be finite; the model is left in evaluation mode."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    model.train()
    for step in range(steps):
        optimizer.zero_grad()
        loss = -model.log_w(data).mean()
        require(loss.isfinite(), f"the loss should be finite in training, but is {loss.item()} at step {step}")
        loss.backward()
        optimizer.step()
    return model.eval()


# --- the checks -------------------------------------------------------------------------------------------------------


def shapes(case: FlowCase) -> None:
    """Of each step's log-determinant, log w, log-densities and samples; which are finite."""
    model, x = case.model(), case.batch()
    with torch.no_grad():
        z = x
        for k, step in enumerate(model.steps):
            z, log_det = step.bijection(z)
            promise = f"the log-determinant of step {k + 1} should have the shape ({len(x)},)"
            require(log_det.shape == (len(x),), f"{promise}, but has {tuple(log_det.shape)}")
        samples = model.sample(7, seed=0)
        log_prob = model.log_prob(x, importance_samples=2)
        found = {
            "log w of 3 importance samples": (model.log_w(x, 3), (3, len(x))),
            "log_prob": (log_prob, (len(x),)),
            "a sample of 7": (samples, (7, *case.shape)),
        }
    for what, (value, expected) in found.items():
        require(value.shape == expected, f"{what} should have the shape {expected}, but has {tuple(value.shape)}")
        require(value.isfinite().all(), f"{what} should be finite, but is not")
    indexable = any(step.bijection.indexable or step.bijection.stochastic for step in model.steps)
    require(indexable, "a step should be indexable, but none is")


def gradients_reach_every_parameter(case: FlowCase) -> None:
    """Of the mean log w of two importance samples, in training mode."""
    model = case.model().train()
    (-model.log_w(case.batch(), 2).mean()).backward()
    gradients_of(model)


def log_det_is_that_of_autograd(case: FlowCase) -> None:
    """log|det ∂z_0/∂x| at given u, against D backward passes."""
    model, x = case.model(), case.batch()
    need_exact(model)
    z, log_det = inward(model, x.requires_grad_(), indices(model, len(x)))
    z = z.flatten(1)
    rows = [torch.autograd.grad(z[:, i].sum(), x, retain_graph=True)[0].flatten(1) for i in range(z.shape[1])]
    jacobian = torch.linalg.slogdet(torch.stack(rows, 1)).logabsdet
    close(log_det, jacobian, "the log-determinant should be that of autograd's Jacobian", atol=1e-6)


def round_trip(case: FlowCase) -> None:
    """From x to z_0 and back, and from z_0 to x and back, at given u."""
    model, x = case.model(), case.batch()
    need_bijections(model)
    us = indices(model, len(x))
    with torch.no_grad():
        model.prepare()
        back = model.generate(inward(model, x, us)[0], us)
        close(back, x, "from x to z and back should be x", atol=1e-5)
        z = case.batch(shape=model.latent_shape)
        close(inward(model, model.generate(z, us), us)[0], z, "from z to x and back should be z", atol=1e-5)


def draws_have_the_derivatives_of_an_inverse(case: FlowCase) -> None:
    """From z_0 to x and back has the derivative of the identity in z_0, and 0 in the weights."""
    model = case.model()
    need_bijections(model)
    z = case.batch(shape=model.latent_shape).requires_grad_()
    us = indices(model, len(z))
    model.prepare()
    x = model.generate(z, us)
    require(x.requires_grad, "draws should have a derivative in z, but are detached")
    there_and_back = inward(model, x, us)[0]
    direction = torch.randn_like(z)
    parameters = dict(model.named_parameters())
    sums = (there_and_back * direction).sum()
    found, *others = torch.autograd.grad(sums, [z, *parameters.values()], allow_unused=True)
    found = torch.zeros_like(z) if found is None else found
    close(found, direction, "from z to x and back should have the derivative of the identity", atol=1e-4)
    for name, grad in zip(parameters, others, strict=True):
        if grad is not None:
            promise = f"from z to x and back should have the derivative 0 in '{name}'"
            close(grad, torch.zeros_like(grad), promise, atol=1e-3)


def the_density_integrates_to_one(case: FlowCase) -> None:
    """∫ E[w] dx = 1 in the plane after some training, by a grid over v with x = sinh(v), which reaches to ±74.

    For an indexed flow each grid point takes 16 draws of u, and what noise they leave is about 1 %.
    """
    if case.shape != (2,) or case.family.cls.binary:
        raise NotPromised("the integral is taken in the plane only")
    model = train(case.build().float(), case.batch(256).float(), 40)
    side = torch.linspace(-5, 5, 151 if case.indexed else 267)
    mass = 0.0
    with torch.no_grad():
        for v in torch.cartesian_prod(side, side).split(40_000):
            p = log_w(model, v.sinh(), 16 if case.indexed else 1).exp().mean(0)
            mass += float((p * v.cosh().prod(1)).sum() * (side[1] - side[0]) ** 2)
    allowed = 0.05 if case.indexed else 0.01
    require(
        abs(mass - 1) <= allowed, f"the density should integrate to 1 ± {allowed:g}, but its integral is {mass:.4f}"
    )


def training_mode_gives_the_same_density(case: FlowCase) -> None:
    """To three digits."""
    model, x = case.model(), case.batch()
    need_exact(model)
    if any(isinstance(step.bijection, BatchNorm) for step in model.steps):
        raise NotPromised("in training, its batchnorm looks at the batch")
    if not all(step.bijection.exact_in_training for step in model.steps):
        raise NotPromised("in training, its log-determinant is an estimate")
    with torch.no_grad():
        evaluated = log_w(model, x)
        model.train()
        for _ in range(10):  # power iterations, where there are any, catch up with the perturbed weights
            log_w(model, x)
        trained = log_w(model, x)
    close(trained, evaluated, "training mode should give the same density", rtol=1e-3, atol=1e-3)


def single_precision_agrees_with_double(case: FlowCase) -> None:
    """z_0 and the log-determinant, to three digits."""
    model, x = case.model(), case.batch()
    need_exact(model)
    us = indices(model, len(x))
    with torch.no_grad():
        model.prepare()
        double = inward(model, x, us)
        model.float().prepare()
        single = inward(model, x.float(), like(x.float(), us))
    for what, found, expected in zip(("z", "the log-determinant"), single, double, strict=True):
        require(found.dtype == torch.float32, f"{what} should be torch.float32 if all else is, but is {found.dtype}")
        promise = f"{what} should be the same in single precision"
        close(found.double(), expected, promise, rtol=1e-3, atol=1e-3)


def copies_give_the_same(case: FlowCase) -> None:
    """Deep copies, pickles, and another model that takes over the state."""
    model, x = case.model(), case.batch()
    with torch.no_grad():
        expected = log_w(model, x)  # also fills whatever is kept between calls
        fresh = case.build(seed=99)  # another draw of what is random
        fresh.load_state_dict(model.state_dict())
        for what, twin in {**pickled(model), "another model with its state": fresh}.items():
            close(log_w(twin, x), expected, f"{what} should give the same density", rtol=1e-9, atol=1e-9)


def a_checkpoint_holds_the_weights_and_little_else(case: FlowCase) -> None:
    """At most half as much again, and a kilobyte for each tensor."""
    model = case.model()
    with torch.no_grad():
        log_w(model, case.batch())
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    most = 1.5 * weights + 1000 * len(model.state_dict()) + 4000
    promise = f"a checkpoint should hold the weights, {weights:,} bytes, and little else"
    require(buffer.tell() < most, f"{promise}, but has {buffer.tell():,} bytes")


def _normalised(case: FlowCase, norm: str) -> None:
    """With a norm after each indexable step, it trains on data of another scale, and then inverts."""
    if not case.indexed or case.shape in [(1,), (5,), (1, 4, 4)]:
        raise NotPromised("norms are checked in one shape of each kind, indexed")
    model, plain = case.build(norm=norm), case.build(norm="none")
    need_bijections(model)
    steps = len(plain.steps) + sum(step.bijection.indexable for step in plain.steps)
    promise = f"with norm={norm} it should have a norm after each indexable step, {steps} steps in all"
    require(len(model.steps) == steps, f"{promise}, but has {len(model.steps)}")
    data = 20 * case.batch(64) + 100
    train(model, data, 3)
    us = indices(model, len(data))
    with torch.no_grad():
        model.prepare()
        back = model.generate(inward(model, data, us)[0], us)
    close(back, data, f"with norm={norm}, from x to z and back should be x after training", rtol=1e-5, atol=1e-4)


def with_actnorm_it_trains_and_inverts(case: FlowCase) -> None:
    """On data of another scale and mean."""
    _normalised(case, "actnorm")


def with_batchnorm_it_trains_and_inverts(case: FlowCase) -> None:
    """On data of another scale and mean."""
    _normalised(case, "batchnorm")


# --- on a GPU ---------------------------------------------------------------------------------------------------------


def two_places(case: FlowCase) -> tuple[Model, Model]:
    """The same model on the CPU and on the GPU.

    Raises:
        NotPromised: There is no GPU, or the numbers can't be compared.
    """
    if not torch.cuda.is_available():
        raise NotPromised("there is no GPU")
    model = case.model()
    need_exact(model)
    return model, copy.deepcopy(model).cuda()


def the_gpu_gives_the_same(case: FlowCase) -> None:
    """z_0, the log-determinant, and x from them."""
    (model, there), x = two_places(case), case.batch()
    us = indices(model, len(x))
    with torch.no_grad():
        model.prepare()
        there.prepare()
        z, log_det = inward(model, x, us)
        z_gpu, log_det_gpu = inward(there, x.cuda(), like(x.cuda(), us))
        back = there.generate(z_gpu, like(x.cuda(), us))
    close(z_gpu.cpu(), z, "z should be the same on a GPU", rtol=1e-6, atol=1e-6)
    close(log_det_gpu.cpu(), log_det, "the log-determinant should be the same on a GPU", rtol=1e-6, atol=1e-6)
    close(back.cpu(), x, "from x to z and back should be x on a GPU", rtol=1e-5, atol=1e-5)


def the_gpu_gives_the_same_gradient(case: FlowCase) -> None:
    """Of ‖z_0‖² plus the log-determinant."""
    (model, there), x = two_places(case), case.batch()
    us = indices(model, len(x))
    for one, data in ((model, x), (there, x.cuda())):
        one.prepare()
        z, log_det = inward(one, data, like(data, us))
        (z.square().sum() + log_det.sum()).backward()
    for (name, a), b in zip(model.named_parameters(), there.parameters(), strict=True):
        promise = f"the gradient of '{name}' should be the same on a GPU"
        require((a.grad is None) == (b.grad is None), f"{promise}, but only one of them has any")
        if a.grad is not None and b.grad is not None:
            close(b.grad.cpu(), a.grad, promise, rtol=1e-6, atol=1e-6)


#: Each promise by its name, which its function checks.
CHECKS: dict[str, Callable[[FlowCase], None]] = {
    check.__name__: check
    for check in (
        shapes,
        gradients_reach_every_parameter,
        log_det_is_that_of_autograd,
        round_trip,
        draws_have_the_derivatives_of_an_inverse,
        the_density_integrates_to_one,
        training_mode_gives_the_same_density,
        single_precision_agrees_with_double,
        copies_give_the_same,
        a_checkpoint_holds_the_weights_and_little_else,
        with_actnorm_it_trains_and_inverts,
        with_batchnorm_it_trains_and_inverts,
    )
}
#: Those that need a GPU.
GPU_CHECKS: dict[str, Callable[[FlowCase], None]] = {
    check.__name__: check for check in (the_gpu_gives_the_same, the_gpu_gives_the_same_gradient)
}
