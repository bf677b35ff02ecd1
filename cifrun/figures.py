"""The pictures of a model beside its data: which ones a run draws, and of what."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from . import plots
from .config import Config
from .data.base import Data, dequantize, quantize
from .errors import ConvergenceError
from .memory import chunk_size
from .model import Model
from .rng import forked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw"]

#: Samples, and at most data, drawn for a picture; and importance samples and cells a side for the picture of a density.
SAMPLES, IMPORTANCE_SAMPLES, RESOLUTION = 5_000, 20, 128
#: Images drawn as samples, and how many there and back.
IMAGES, PAIRS = 100, 40


@torch.no_grad()
def draw(model: Model, data: Data, config: Config) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of each picture that fits the data: density and samples in the plane; samples and reconstructions
    of images; else marginals.

    None, with a line on stderr, while the model can't be sampled.
    """
    training, parameter = model.training, next(model.parameters())
    model.eval()
    size = chunk_size(model, config)
    test = data.test[:: -(-len(data.test) // SAMPLES)]  # every so many: a file may be sorted
    title = f"{config.dataset.name}: {config.flow.family}{' with its CIF' if config.cif else ''}"
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
        yield "density", plots.density_figure(data.target, log_prob, samples, window, title, data=test)
        yield "samples", plots.samples_figure(test, samples, window, title)
    else:
        yield "marginals", plots.marginals_figure(test, samples, title)
    model.train(training)
