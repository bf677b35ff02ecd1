"""Draw from a trained model into a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from .config import Config
from .device import launch
from .errors import ConfigError
from .files import replacing
from .plots import sample_png
from .run import RunDirectory

__all__ = ["sample"]


def sample(directory: Path, config: Config) -> Path:
    """Draw `config.n` samples with `config.seed` from the best weights of a run; write them to `config.output`.

    The file's ending says the format: .npy (float32, (n, *shape)), .csv (a line a sample) or .png (a picture).

    Errors:
        ConfigError: an ending that is none of these.
        ConvergenceError: an iterative inverse missed its tolerance; nothing is written.
    """
    output = config.output or directory / "samples.npy"
    if output.suffix not in WRITERS:
        raise ConfigError(f"output = '{output}' is not allowed: its ending should be one of {', '.join(WRITERS)}")
    model = RunDirectory(directory).load_model().to(launch(config.device).device)
    samples = model.sample(config.n, seed=config.seed, chunk_size=config.eval.chunk_size).cpu()
    WRITERS[output.suffix](samples, output)
    residual = model.inverse_residual()
    note = "" if residual is None else f"; largest residual of the inverse {residual:.1e}"
    print(f"{len(samples):,} samples → {output}{note}")
    return output


def _write_npy(samples: Tensor, path: Path) -> None:
    with replacing(path) as file, open(file, "wb") as stream:
        np.save(stream, samples.numpy())


def _write_csv(samples: Tensor, path: Path) -> None:
    flat = samples.flatten(1).numpy()
    header = ",".join(f"x{k + 1}" for k in range(flat.shape[1]))
    with replacing(path) as file:
        np.savetxt(file, flat, delimiter=",", header=header, comments="", fmt="%.9g")


WRITERS: dict[str, Callable[[Tensor, Path], None]] = {".npy": _write_npy, ".csv": _write_csv, ".png": sample_png}
