"""Which pictures a run draws: of its model beside its data, and of what diagnostics found."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..cif.memory import chunk_size
from ..cif.model import Model
from ..cif.modes import evaluating
from ..cif.paths import generate, outward, reconstruct
from ..compute.rng import forked
from ..config.schema import Config
from ..data.base import Box, Data
from ..data.grey_levels import dequantize, quantize
from ..diagnostics.index_use import posteriors
from ..errors import ConvergenceError
from .density import density_figure, marginals_figure, samples_figure
from .diagnostics import bounds_figure, index_figure, lattice, lipschitz_figure, maps_figure
from .images import images_figure, reconstructions_figure
from .style import grid, name_axes, window_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Samples, and at most data, drawn for a picture; and importance samples and cells a side for the picture of a density.
SAMPLES, IMPORTANCE_SAMPLES, RESOLUTION = 5_000, 20, 128
#: Images drawn as samples, and how many there and back.
IMAGES, PAIRS = 100, 40
#: Data, at most, that say which box to draw.
ENOUGH = 2**20
#: The lattice whose images are drawn covers so many standard deviations of the prior, and its maps are so many.
HALF, MAPS = 2.5, 3
#: At most so many steps whose index is drawn: those of the largest reach.
STEPS_DRAWN = 2


def title_of(config: Config) -> str:
    """The line above a run's pictures."""
    return f"{config.dataset.name}: {config.flow_name}"


@torch.no_grad()
def draw(model: Model, data: Data, config: Config, step: int | None = None) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of each picture that fits the data: density and samples in the plane; samples and reconstructions
    of images; else marginals.

    While the model can't be sampled there are none, and a line on stderr says so.
    """
    title = title_of(config) + ("" if step is None else f", step {step:,}")
    try:
        with evaluating(model):
            for name, figure in _pictures(model, data, config, title):
                yield name, name_axes(figure, data.columns)
    except ConvergenceError as error:  # no reason to lose the run
        print(f"cifrun: pictures are missing, as the model can't be sampled: {error}", file=sys.stderr)


def _pictures(model: Model, data: Data, config: Config, title: str) -> Iterator[tuple[str, Figure]]:
    seed, size, like = config.eval.seed, chunk_size(model, config.eval.chunk_size), next(model.parameters())
    samples = model.sample(IMAGES if data.levels else SAMPLES, seed=seed, chunk_size=size).cpu()
    test = data.some_test(SAMPLES)
    if data.levels:
        yield "samples", images_figure(quantize(samples, data.levels), data.levels, f"{title}, samples")
        if not data.binary:
            given = dequantize(test[:PAIRS], torch.Generator().manual_seed(seed))
            with forked(seed):
                again = reconstruct(model, given.to(like)).cpu()
            yield "reconstructions", reconstructions_figure(given, again, data.levels, title)
    elif model.shape == (2,):
        window = window_of(test, data.target)
        with forked(seed):
            log_prob = model.log_prob(grid(window, RESOLUTION).to(model.takes), IMPORTANCE_SAMPLES, size).cpu()
        yield "density", density_figure(data.target, log_prob, samples, window, title, data=test)
        yield "samples", samples_figure(test, samples, window, title)
    else:
        yield "marginals", marginals_figure(test, samples, title)


@torch.no_grad()
def draw_diagnostics(
    model: Model, data: Data, config: Config, result: Mapping[str, Any]
) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of `result`, what `Diagnostics` found; in the plane of the maps F(·; u) and of q(u | x) too.

    The model is in eval mode.
    """
    title = title_of(config)
    if "lipschitz_by_depth" in result:
        yield "lipschitz", lipschitz_figure({"": result["lipschitz_by_depth"]}, title)
    if "bracket" in result:
        yield "bounds", bounds_figure(result["iwae_curve"], result["bracket"], title)
    if model.shape != (2,):
        return
    window = window_of(data.some_test(ENOUGH), data.target, margin=0.0)
    try:
        images = _images_of_lattice(model, config.eval.seed)
        figure = maps_figure(lattice(HALF), images, window, data.test[:SAMPLES], title)
        yield "maps", name_axes(figure, data.columns)
    except ConvergenceError as error:  # far from the data there may be no inverse to find
        print(f"cifrun: no picture of the maps: {error}", file=sys.stderr)
    if result.get("index_reach"):
        steps = _inferred(model, window, result["index_reach"])
        yield "index", name_axes(index_figure(steps, window, data.test[:SAMPLES], title), data.columns)


def _images_of_lattice(model: Model, seed: int) -> dict[str, Tensor]:
    """F(lattice; u) by the name of each map, with the u of draws from the model that lie far from each other."""
    like = next(model.parameters())
    lines = lattice(HALF).to(like)
    z = lines.flatten(0, 1)
    if not model.indexed:
        maps: dict[str, list[Tensor | None]] = {"$F(z)$": [None] * len(model.steps)}
    else:
        with forked(seed):
            path = generate(model, model.base.draw(256, like))
        spread = path.x - path.x.mean(0)
        along = spread @ torch.linalg.svd(spread, full_matrices=False)[2][0]
        order = along.argsort()
        chosen = [order[round((k + 0.5) / MAPS * (len(order) - 1))] for k in range(MAPS)]
        maps = {
            f"$F(z;\\, u)$, $u$ of draw {k + 1}": [
                None if u is None else u[row].expand(len(z), *u.shape[1:]) for u in path.u
            ]
            for k, row in enumerate(chosen)
        }
    return {name: outward(model, z, u).view_as(lines).cpu() for name, u in maps.items()}


def _inferred(model: Model, window: Box, reaches: list[dict[str, float]]) -> list[tuple[str, Tensor, Tensor]]:
    """Name, mean and spread of u over x at the steps of the largest reach; of several u, the one that varies most."""
    q = posteriors(model, grid(window, RESOLUTION).to(model.takes))
    result = []
    for row in sorted(reaches, key=lambda row: -row["reach"])[:STEPS_DRAWN]:
        of = q[int(row["depth"]) - 1]
        if of is None:
            continue
        mean, std = of.mean.flatten(1), of.log_std.flatten(1).exp()
        most = mean.var(0).argmax()
        name = f"step {row['depth']} from the data, reach {row['reach']:.2f}"
        result.append((name, mean[:, most].cpu(), std[:, most].cpu()))
    return result
