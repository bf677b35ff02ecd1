"""The pictures of a model beside its data: which ones a run draws, and of what; and of how its density came to be."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..cif.memory import chunk_size
from ..cif.model import Model
from ..cif.paths import generate, outward
from ..compute.rng import forked
from ..config.schema import Config
from ..data.base import Data, dequantize, quantize
from ..diagnostics.index_use import posteriors
from ..errors import ConvergenceError
from ..io.files import replacing
from . import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

__all__ = ["Film", "draw", "draw_diagnostics", "title_of"]

#: Samples, and at most data, drawn for a picture; and importance samples and cells a side for the picture of a density.
SAMPLES, IMPORTANCE_SAMPLES, RESOLUTION = 5_000, 20, 128
#: Images drawn as samples, and how many there and back.
IMAGES, PAIRS = 100, 40
#: Data, at most, that say which box to draw.
ENOUGH = 2**20


@torch.no_grad()
def draw(model: Model, data: Data, config: Config, step: int | None = None) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of each picture that fits the data: density and samples in the plane; samples and reconstructions
    of images; else marginals.

    None, with a line on stderr, while the model can't be sampled.
    """
    training, parameter = model.training, next(model.parameters())
    model.eval()
    size = chunk_size(model, config)
    test = _some(data, SAMPLES)
    title = title_of(config) + ("" if step is None else f", step {step:,}")
    again = given = None
    try:
        count = IMAGES if data.levels else SAMPLES
        samples = model.sample(count, seed=config.eval.seed, chunk_size=size).cpu()
        if data.levels and not data.binary:
            noise = torch.Generator().manual_seed(config.eval.seed)
            given = dequantize(test[:PAIRS], noise).to(parameter)
            with forked(config.eval.seed):
                again = model.reconstruct(given).cpu()
    except ConvergenceError as error:  # no reason to lose the run
        print(f"cifrun: no pictures, as the model can't be sampled: {error}", file=sys.stderr)
        model.train(training)
        return
    if data.levels:
        yield "samples", plots.images_figure(quantize(samples, data.levels), data.levels, f"{title}, samples")
        if given is not None and again is not None:
            yield "reconstructions", plots.reconstructions_figure(given.cpu(), again, data.levels, title)
    elif model.shape == (2,):
        window = plots.window_of(test, data.target)
        points = plots.grid(window, RESOLUTION).to(parameter)
        with forked(config.eval.seed):
            log_prob = model.log_prob(points, IMPORTANCE_SAMPLES, size).cpu()
        figure = plots.density_figure(data.target, log_prob, samples, window, title, data=test)
        yield "density", plots.name_axes(figure, data.columns)
        yield "samples", plots.name_axes(plots.samples_figure(test, samples, window, title), data.columns)
    else:
        yield "marginals", plots.name_axes(plots.marginals_figure(test, samples, title), data.columns)
    model.train(training)


def _some(data: Data, most: int) -> Tensor:
    """At most so many of the test data, spread over the set, as a file may be sorted."""
    return data.test[:: -(-len(data.test) // most)]


def title_of(config: Config) -> str:
    """The line above a run's pictures."""
    return f"{config.dataset.name}: {config.flow.family}{' with its CIF' if config.cif else ''}"


# --- diagnostics ------------------------------------------------------------------------------------------------------

#: The lattice whose images are drawn covers so many standard deviations of the prior, and its maps are so many.
HALF, MAPS = 2.5, 3
#: At most so many steps whose index is drawn: those of the largest reach.
STEPS_DRAWN = 2


@torch.no_grad()
def draw_diagnostics(
    model: Model, data: Data, config: Config, result: Mapping[str, Any]
) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of what `Diagnostics` found, and in the plane of the maps F(·; u) and of q(u | x).

    Arguments:
        model: In eval mode.
        data: What it was measured on.
        config: The run's.
        result: What `Diagnostics` gave.
    """
    title = title_of(config)
    if "lipschitz_by_depth" in result:
        yield "lipschitz", plots.lipschitz({"": result["lipschitz_by_depth"]}, title)
    if "bracket" in result:
        yield "bounds", plots.bounds(result["iwae_curve"], result["bracket"], title)
    if model.shape != (2,):
        return
    window = plots.window_of(_some(data, ENOUGH), data.target, margin=0.0)
    try:
        yield "maps", plots.name_axes(_draw_maps(model, data, window, title, config.eval.seed), data.columns)
    except ConvergenceError as error:  # far from the data there may be no inverse to find
        print(f"cifrun: no picture of the maps: {error}", file=sys.stderr)
    if result.get("index_reach"):
        yield "index", plots.name_axes(_draw_index(model, data, window, title, result["index_reach"]), data.columns)


def _draw_maps(model: Model, data: Data, window: plots.Window, title: str, seed: int) -> Figure:
    """A lattice through F(·; u), with the u of draws from the model that lie far from each other."""
    like = next(model.parameters())
    lines = plots.lattice(HALF).to(like)
    if not model.indexed:
        images = {"$F(z)$": outward(model, lines.flatten(0, 1), [None] * len(model.steps)).view_as(lines).cpu()}
        return plots.grid_maps(lines.cpu(), images, window, data.test[:SAMPLES], title)
    with forked(seed):
        path = generate(model, torch.randn((256, *model.latent_shape)).to(like))
    spread = path.x - path.x.mean(0)
    along = spread @ torch.linalg.svd(spread, full_matrices=False)[2][0]
    order = along.argsort()
    images = {}
    for k in range(MAPS):
        chosen = order[round((k + 0.5) / MAPS * (len(order) - 1))]
        u = [None if of is None else of[chosen].expand(lines[..., 0].numel(), *of.shape[1:]) for of in path.u]
        images[f"$F(z;\\, u)$, $u$ of draw {k + 1}"] = outward(model, lines.flatten(0, 1), u).view_as(lines).cpu()
    return plots.grid_maps(lines.cpu(), images, window, data.test[:SAMPLES], title)


def _draw_index(model: Model, data: Data, window: plots.Window, title: str, reaches: list[dict[str, float]]) -> Figure:
    """Mean and spread of u over x at the steps of the largest reach; of several u, the one that varies most."""
    points = plots.grid(window, RESOLUTION).to(next(model.parameters()))
    q = posteriors(model, points)
    panels = []
    for row in sorted(reaches, key=lambda row: -row["reach"])[:STEPS_DRAWN]:
        of = q[int(row["depth"]) - 1]
        assert of is not None
        mean, std = of.mean.flatten(1), of.log_std.flatten(1).exp()
        most = mean.var(0).argmax()
        name = f"step {row['depth']} from the data, reach {row['reach']:.2f}"
        panels.append((name, mean[:, most].cpu(), std[:, most].cpu()))
    return plots.index_use(panels, window, data.test[:SAMPLES], title)


# --- the density over training ----------------------------------------------------------------------------------------


class Film:
    """Pictures drawn in training, one after the other, as an animated GIF.

    Frames are small files of their own in `directory/frames`, so that a run that is killed and continued loses none.

    Arguments:
        directory: The run's `figures`.
    """

    WIDTH, COLOURS = 720, 256
    MOST_FRAMES, MOST_BYTES = 40, 1_000_000
    MILLISECONDS, LAST_MILLISECONDS = 250, 2_000

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.frames = directory / "frames"

    def add(self, step: int, figure: Figure) -> None:
        """The picture of this step."""
        from PIL import Image

        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=self.WIDTH / figure.get_size_inches()[0])
        self.frames.mkdir(parents=True, exist_ok=True)
        with Image.open(buffer) as image, replacing(self.frames / f"{step:08d}.png") as file:
            image.convert("RGB").quantize(self.COLOURS).save(file, format="png")

    def write(self, path: Path, last_step: int) -> bytes | None:
        """All frames up to a step, or as many of them as a megabyte holds; None, and no file, if there are not two."""
        from PIL import Image

        files = sorted(file for file in self.frames.glob("*.png") if int(file.stem) <= last_step)
        if len(files) < 2:
            return None
        images = [Image.open(file).convert("RGB") for file in files]
        images = [image.resize(images[-1].size) for image in images]
        # One palette for all, that of the last, where the colours are most.
        palette = images[-1].quantize(self.COLOURS)
        _whiten(palette)
        images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
        count = min(len(images), self.MOST_FRAMES)
        while True:
            chosen = [images[round(k * (len(images) - 1) / (count - 1))] for k in range(count)]
            durations = [self.MILLISECONDS] * (count - 1) + [self.LAST_MILLISECONDS]
            buffer = io.BytesIO()
            options: dict[str, Any] = {"save_all": True, "append_images": chosen[1:], "duration": durations, "loop": 0}
            chosen[0].save(buffer, format="gif", optimize=True, **options)
            if buffer.tell() <= self.MOST_BYTES or count == 2:
                break
            count = max(2, int(count * 0.9 * self.MOST_BYTES / buffer.tell()))
        with replacing(path) as file:
            file.write_bytes(buffer.getvalue())
        return buffer.getvalue()


def _whiten(palette: Image) -> None:
    """Make white of all that is nearly white, which Pillow's search for the nearest colour does not tell from it."""
    colours = palette.getpalette() or []
    rows = (colours[k : k + 3] for k in range(0, len(colours), 3))
    palette.putpalette([255 if min(row) >= 248 else value for row in rows for value in row])
