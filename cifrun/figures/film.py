"""The density over training: pictures drawn on the way, one after the other, as an animated GIF."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

__all__ = ["Film"]


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
