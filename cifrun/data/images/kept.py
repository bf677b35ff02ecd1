"""The images of a published set as people keep them when they no longer have its files: NumPy arrays, or PNG.

- `train.npy` and `test.npy`, or `x_train.npy` and `x_test.npy`: uint8, (N, C, H, W), (N, H, W, C), or (N, H, W).
- Folders `train` and `test`, or `training` and `testing`, of one PNG an image, in folders of their own or not. They are
  taken in the order of the numbers in their names, which is the published one where the names come from it.
- PNG files of many images, a row of pixels each: `data_batch_1.png` … and `test_batch.png`, or `train.png`, `test.png`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..regular import open_regular
from .files import as_images, read_array, reading

__all__ = ["read_kept"]

ARRAYS = (("train.npy", "test.npy"), ("x_train.npy", "x_test.npy"))
FOLDERS = (("train", "test"), ("training", "testing"))
STRIPS = (("data_batch_*.png", "test_batch.png"), ("train.png", "test.png"))
#: Of a PNG, by the channels of an image.
MODES = {1: "L", 3: "RGB"}


def read_kept(places: Sequence[Path], shape: Sequence[int]) -> tuple[Tensor, Tensor] | None:
    """The training and the test part, uint8, (N, *shape), of the first place that has both; None if none has.

    Raises:
        ConfigError: A file is damaged, or holds other images.
    """
    for place in places:
        for names in ARRAYS:
            if all((place / name).is_file() for name in names):
                train, test = (read_array(place / name, shape, turned=True) for name in names)
                return train, test
        for names in STRIPS:
            found = [_in_order(place.glob(name)) for name in names]
            if all(found):
                train, test = (torch.cat([_strip(path, shape) for path in paths]) for paths in found)
                return train, test
        for names in FOLDERS:
            found = [_in_order((place / name).rglob("*.png")) for name in names]
            if all(found):
                train, test = (torch.cat([_picture(path, shape) for path in paths]) for paths in found)
                return train, test
    return None


def _in_order(paths: Any) -> list[Path]:
    """By the last number in the name of a file, and then by its path."""
    numbers = {path: re.findall(r"\d+", path.stem) for path in paths}
    return sorted(numbers, key=lambda path: (int(numbers[path][-1]) if numbers[path] else -1, str(path)))


def _picture(path: Path, shape: Sequence[int]) -> Tensor:
    """One image, (1, *shape)."""
    with reading(path, "a PNG of an image"):
        pixels = _pixels(path, shape)
        if pixels.shape[:2] != tuple(shape[1:]):
            raise ValueError(
                f"it has {pixels.shape[0]} × {pixels.shape[1]} pixels, where an image has {shape[1]} × {shape[2]}"
            )
        return as_images(pixels.transpose(2, 0, 1), shape)


def _strip(path: Path, shape: Sequence[int]) -> Tensor:
    """A row of pixels for each image, (N, *shape)."""
    channels, height, width = shape
    with reading(path, "a PNG of images"):
        pixels = _pixels(path, shape)
        if pixels.shape[1] != height * width:
            raise ValueError(f"its rows have {pixels.shape[1]} pixels, where an image has {height} × {width}")
        return as_images(pixels.reshape(-1, height, width, channels).transpose(0, 3, 1, 2), shape)


def _pixels(path: Path, shape: Sequence[int]) -> np.ndarray:
    """All of a PNG, (rows, columns, C)."""
    from PIL import Image

    with open_regular(path) as stream, Image.open(stream, formats=["PNG"]) as image:
        if image.mode not in ("1", "L", "P", "RGB"):
            raise ValueError(f"its pixels are of the kind {image.mode}, where they should be grey or RGB, of 8 bits")
        return np.asarray(image.convert(MODES[shape[0]])).reshape(image.height, image.width, shape[0])
