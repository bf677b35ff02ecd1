"""Draw from a trained model into a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..build import load_model
from ..cif.memory import chunk_size
from ..cif.model import Model
from ..compute.device import launch
from ..compute.memory import COPIES, check_room
from ..compute.rng import forked
from ..config.schema import Config
from ..data.grey_levels import quantize
from ..errors import RunError
from ..figures.density import sample_png
from ..figures.images import images_figure
from ..figures.style import save
from ..io.files import replacing
from ..io.table_files import TABLES, numbered, write_table
from ..runs.directory import RunDirectory
from ..runs.progress import Progress
from .outputs import check_output


def sample(directory: Path, config: Config) -> Path:
    """Draw `config.n` samples with `config.seed` from the best weights of a run; write them to `config.output`.

    The file's ending says the format: .npy (in the precision of the draws, (n, *shape)), .png (a picture), or a table,
    .csv, .tsv, .parquet or .npz, with the columns of the data, or x1 … xD where they had no names. Of images, all of
    them hold grey levels, ⌊x⌋ (.npy: uint8, (n, C, H, W)), and the picture is a grid of at most 2,500.

    Raises:
        ConfigError: an ending that is none of these; the file is one of the run's data.
        RunError: samples are not finite; nothing is written.
        ConvergenceError: an iterative inverse missed its tolerance; nothing is written.
    """
    output = config.output or directory / "samples.npy"
    write = WRITERS[check_output("output", output, WRITERS, config)]
    fabric = launch(config.device)
    model = load_model(RunDirectory(directory), config).to(fabric.device)
    if not fabric.is_global_zero:  # one process draws
        return output
    check_room(COPIES * config.n * math.prod(model.shape), f"n = {config.n} samples")
    samples, residual = _draw(model, config)
    if bad := int((~samples.flatten(1).isfinite().all(1)).sum()):
        raise RunError(
            f"{bad:,} of the {len(samples):,} samples are not finite, and none is written: the weights of the model "
            f"are too large to compute with"
        )
    if model.levels is not None:
        samples = quantize(samples, model.levels)
    write(samples, output, model)
    note = "" if residual is None else f"; largest residual of the inverse {residual:.1e}"
    print(f"{len(samples):,} samples → {output}{note}")
    return output


def _draw(model: Model, config: Config) -> tuple[Tensor, float | None]:
    """`config.n` draws, on the CPU, and the largest residual of their inverse; of many, it is told how far they are."""
    size = chunk_size(model, config.eval.chunk_size)
    draws, residuals = [], []
    enabled = config.trainer.progress and config.n > size
    with forked(config.seed), Progress(config.n, enabled=enabled, unit="sample") as progress:
        for done in range(0, config.n, size):
            draws.append(model.sample(min(size, config.n - done), chunk_size=size).cpu())
            residuals.append(model.inverse_residual())
            progress.update(done + len(draws[-1]))
    return torch.cat(draws), max((r for r in residuals if r is not None), default=None)


def _write_npy(samples: Tensor, path: Path, _: Model) -> None:
    with replacing(path) as file, open(file, "wb") as stream:
        np.save(stream, samples.numpy())


def _write_png(samples: Tensor, path: Path, model: Model) -> None:
    if model.levels is None:
        sample_png(samples, path, model.columns)
    else:
        save(images_figure(samples, model.levels), path)


def _write_table(samples: Tensor, path: Path, model: Model) -> None:
    flat = samples.flatten(1).numpy()
    write_table(path, dict(zip(model.columns or numbered(flat.shape[1]), flat.T, strict=True)))


WRITERS: dict[str, Callable[[Tensor, Path, Model], None]] = {
    ".npy": _write_npy,
    ".png": _write_png,
    **dict.fromkeys(TABLES, _write_table),
}
