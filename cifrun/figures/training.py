"""Over the steps of training: the log-likelihood of a run, a number of several runs and seeds, and a density's film."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..io.files import replacing
from .style import DATA, MODEL, PALE, PALETTE, legend, log_scale, panel, written

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

#: Values from here on are not drawn.
BEYOND = 1e100
#: Characters of a label.
LONGEST = 100
#: Rows of `metrics.jsonl`.
Rows = Sequence[Mapping[str, Any]]
#: A label, a colour, a width in points, and for each seed its value at each step.
Line = tuple[str, str, float, Sequence[Mapping[int, float]]]


def training_figure(metrics: Rows, title: str = "", *, truth: float | None = None) -> Figure:
    """Log-likelihood over the steps of training: the ELBO of each batch and the validation set's IWAE.

    Arguments:
        metrics: Rows of `metrics.jsonl`; those with "train/elbo" and with "valid/log_likelihood" are drawn.
        truth: E[log p*(x)] in nats where it is known: what a perfect model reaches.
    """
    lines = (
        ("training, ELBO", PALE, 1.0, [_values(metrics, "train/elbo")]),
        ("validation, log-likelihood", MODEL, 1.8, [_values(metrics, "valid/log_likelihood")]),
    )
    return _over_steps(lines, title, "nats per datum", truth, DATA)


def compare_training(
    runs: Mapping[str, Sequence[Rows]],
    title: str = "",
    *,
    tag: str = "valid/log_likelihood",
    ylabel: str = "validation log-likelihood [nats per datum]",
    truth: float | None = None,
    log: bool = False,
) -> Figure:
    """A number over the steps of training: its mean over seeds as a line, and their range as a band.

    Arguments:
        runs: By what to call them, the rows of `metrics.jsonl` of each seed. Drawn are the steps that all seeds have.
        tag: Which number.
        ylabel: What to call it, with its unit.
        truth: A level to mark: what a perfect model reaches.
        log: A logarithmic scale.
    """
    lines = (
        (label, colour, 1.8, [_values(rows, tag) for rows in seeds])
        for colour, (label, seeds) in zip(cycle(PALETTE), runs.items(), strict=False)
    )
    return _over_steps(lines, title, ylabel, truth, PALE, log)


def _values(metrics: Rows, tag: str) -> dict[int, float]:
    """The values by step, but for those that no scale can show: not finite, or so large that sums of them are not."""
    known = ((row["step"], row[tag]) for row in metrics if row.get(tag) is not None)
    return {step: value for step, value in known if abs(value) < BEYOND}


def _over_steps(
    lines: Iterable[Line], title: str, ylabel: str, truth: float | None, truth_colour: str, log: bool = False
) -> Figure:
    figure, axis = panel((6.0, 3.8), title, "step", ylabel)
    shown: list[float] = []
    for label, colour, width, seeds in lines:
        each = [values for values in seeds if values]
        steps = sorted(set.intersection(*map(set, each))) if each else []
        if not steps:
            continue
        values = np.array([[seed[step] for step in steps] for seed in each])
        several = f", {len(each)} seeds" if len(each) > 1 else ""
        axis.plot(steps, values.mean(0), color=colour, linewidth=width, label=written(label, LONGEST) + several)
        if several:
            axis.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.25, linewidth=0)
        # The first steps are often far below all others: the scale is that of the last nine tenths, but for outliers.
        late = np.sort(values[:, len(steps) // 10 :], axis=None)
        shown += late[len(steps) // 50 :].tolist()
    if truth is not None:
        axis.axhline(truth, color=truth_colour, linewidth=1.2, linestyle="--", label="truth")
        shown.append(truth)
    if log:
        log_scale(axis)
    elif shown:
        pad = 0.06 * (max(shown) - min(shown)) or 0.1
        axis.set_ylim(min(shown) - pad, max(shown) + pad)
    if shown:
        axis.set_xlim(left=0)
        legend(axis)
    return figure


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

    def add(self, step: int, png: bytes) -> None:
        """The picture of this step."""
        from PIL import Image

        self.frames.mkdir(parents=True, exist_ok=True)
        with Image.open(io.BytesIO(png)) as image, replacing(self.frames / f"{step:08d}.png") as file:
            size = self.WIDTH, round(self.WIDTH * image.height / image.width)
            image.convert("RGB").resize(size, Image.Resampling.LANCZOS).quantize(self.COLOURS).save(file, format="png")

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
