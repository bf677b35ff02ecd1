"""Images: grey levels 0 … levels − 1, kept as bytes, to which a model's user adds uniform noise (`grey_levels`).

The files are those in which each set was published. All of them have a training and a test part; the last tenth of the
training part is for validation, so that every run and every seed has the same three splits.

References: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998; Xiao,
Rasul, Vollgraf, "Fashion-MNIST" (https://arxiv.org/abs/1708.07747); Krizhevsky, "Learning multiple layers of features
from tiny images", 2009; Netzer et al., "Reading digits in natural images with unsupervised feature learning", 2011.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from ...config.fields import STRICT, Role, registered, setting
from ...errors import ConfigError
from ...io.optional import need
from ...registry import DATASETS
from ..base import AnyDataset, Data
from ..download import MD5, Fetched, FetchedFiles, Stored, archive, checksums, place
from .files import read_batch, read_idx, read_mat, read_records
from .kept import read_kept

__all__ = ["CIFAR10", "MNIST", "SVHN", "Digits", "FashionMNIST", "Images", "PublishedImages"]

#: Images that are binarised at once.
AT_ONCE = 4096


@dataclass(config=STRICT)
class Images(AnyDataset):
    """Images, what the model does to their pixels first, and how many of them to use.

    Subclasses write `splits`, and set `levels` where it is not 256.
    """

    preprocess: Literal["logit", "centre", "none"] = setting(
        "logit",
        "first step of the model, for x in [0, levels): logit(λ + (1 − 2λ) x/levels), centre (x/levels − 1/2), or "
        "none; if binarize, always none",
        role=Role.TRAINED,
    )
    logit_lambda: float = setting(0.05, "λ of the logit", gt=0, lt=0.5, role=Role.TRAINED)
    binarize: bool = setting(
        False, "pixels 0 or 1, drawn once with probability x/(levels − 1), for flows that model such"
    )
    num_train: int | None = setting(None, "at most so many training images; null for all", ge=1, role=Role.TRAINED)
    num_valid: int | None = setting(None, "at most so many validation images", ge=1, role=Role.TRAINED)
    num_test: int | None = setting(None, "at most so many test images", ge=1, role=Role.TRAINED)

    #: A pixel is one of 0 … levels − 1.
    levels: ClassVar[int] = 256

    @abstractmethod
    def splits(self) -> tuple[Tensor, Tensor, Tensor]:
        """Training, validation and test images, uint8, (N, C, H, W).

        Raises:
            ConfigError: They can't be read.
        """

    def load(self) -> Data:
        most = (self.num_train, self.num_valid, self.num_test)
        train, valid, test = (x[:n] for x, n in zip(self.splits(), most, strict=True))
        if not self.binarize:
            return Data(train, valid, test, levels=self.levels)
        train, valid, test = (binarize(x, self.levels, seed) for seed, x in enumerate((train, valid, test)))
        return Data(train, valid, test, levels=2)


def binarize(x: Tensor, levels: int, seed: int) -> Tensor:
    """Each pixel 1 with probability x/(levels − 1), drawn once: the same in every run. bool.

    As Salakhutdinov and Murray ("On the quantitative analysis of deep belief networks", ICML 2008) did for MNIST.
    """
    draw = torch.Generator().manual_seed(seed)
    parts = [torch.rand(part.shape, generator=draw) * (levels - 1) < part for part in x.split(AT_ONCE)]
    return torch.cat(parts)


@registered(DATASETS, "digits")
class Digits(Images):
    """1,797 handwritten digits of 8 × 8 pixels in 17 grey levels; comes with scikit-learn.

    Of every ten images, which follow each other by writer, the last is for the test and the one before for validation.
    """

    logit_lambda: float = setting(1e-6, "λ of the logit", gt=0, lt=0.5, role=Role.TRAINED)

    levels: ClassVar = 17

    def splits(self) -> tuple[Tensor, Tensor, Tensor]:
        made = need("sklearn.datasets", f"dataset '{self.name}'").load_digits()
        x = torch.from_numpy(made.images.astype(np.uint8))[:, None]
        place = torch.arange(len(x)) % 10
        return x[place < 8], x[place == 8], x[place == 9]


@dataclass(config=STRICT)
class PublishedImages(Images, Stored):
    """Images whose files are public. Subclasses set the class variables and write `read`.

    The files are looked for in `dataset.root`, in its folder of the dataset's name, and, if there is no root, where the
    system keeps them. Where they are not, the images are looked for in the forms of `kept`.
    """

    #: Of an image.
    shape: ClassVar[tuple[int, int, int]]
    #: Published numbers of training and test images.
    published: ClassVar[tuple[int, int]]
    #: Where packages of the operating system put the files.
    system: ClassVar[tuple[Path, ...]] = ()

    @abstractmethod
    def read(self) -> tuple[Tensor, Tensor]:
        """The training and the test part, uint8, (N, *shape), of the published files."""

    @property
    def folder(self) -> Path:
        return super().folder / self.name

    def find(self, file: str) -> Path | None:
        """In the folder, or in `root` itself or the system's places; there also without folders of its own."""
        places = [self.root] if self.root else self.system
        names = [self.folder / file, *(place / name for place in places for name in (file, Path(file).name))]
        return next((path for path in names if path.is_file()), None)

    def splits(self) -> tuple[Tensor, Tensor, Tensor]:
        places = [self.folder, *([self.root] if self.root else self.system)]
        published = all(self.find(file) for file in self.files)
        train, test = (None if published else read_kept(places, self.shape)) or self.read()
        if (found := (len(train), len(test))) != self.published:
            raise ConfigError(
                f"dataset '{self.name}' has {found[0]:,} + {found[1]:,} images for training and test; published are "
                f"{self.published[0]:,} + {self.published[1]:,}: these are other files, so numbers would not compare"
            )
        valid = len(train) // 10
        return train[:-valid], train[-valid:], test


@registered(DATASETS, "mnist")
class MNIST(PublishedImages, FetchedFiles):
    """70,000 handwritten digits of 28 × 28 pixels, grey (LeCun et al., 1998); fetched."""

    logit_lambda: float = setting(1e-6, "λ of the logit", gt=0, lt=0.5, role=Role.TRAINED)
    files: ClassVar = ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz")
    url: str = place("https://ossci-datasets.s3.amazonaws.com/mnist")
    md5: dict[str, MD5] = checksums(files, "f68b3c2dcbeaaa9fbdd348bbdeb94873", "9fb629c4189551a2d022fa330f9573f3")

    shape: ClassVar = (1, 28, 28)
    published: ClassVar = (60_000, 10_000)

    def find(self, file: str) -> Path | None:
        """Compressed or not."""
        return super().find(file) or super().find(file.removesuffix(".gz"))

    def read(self) -> tuple[Tensor, Tensor]:
        train, test = (read_idx(self.path(file), self.shape) for file in self.files)
        return train, test


@registered(DATASETS, "fashion_mnist")
class FashionMNIST(MNIST):
    """70,000 articles of clothing of 28 × 28 pixels, grey (Xiao et al., 2017); fetched, or Debian's package."""

    url: str = place("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com")
    md5: dict[str, MD5] = checksums(MNIST.files, "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "bef4ecab320f06d8554ea6380940ec79")

    system: ClassVar = (Path("/usr/share/datasets/fashion-mnist"),)  # dataset-fashion-mnist


@registered(DATASETS, "cifar10")
class CIFAR10(PublishedImages, Fetched):
    """60,000 photographs of 32 × 32 pixels in colour (Krizhevsky, 2009); fetched.

    Where the Python version is not there, the binary version is looked for.
    """

    url: str = archive("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz")
    md5: MD5 = setting("c58f30108f718f92721af3b95e74349a", "its checksum")

    files: ClassVar = (*(f"cifar-10-batches-py/data_batch_{k}" for k in range(1, 6)), "cifar-10-batches-py/test_batch")
    shape: ClassVar = (3, 32, 32)
    published: ClassVar = (50_000, 10_000)

    def find(self, file: str) -> Path | None:
        """Of the Python version, or of the binary one."""
        return super().find(file) or super().find(f"{file.replace('-py/', '-bin/')}.bin")

    def read(self) -> tuple[Tensor, Tensor]:
        paths = [self.path(file) for file in self.files]
        batches = [(read_records if path.suffix == ".bin" else read_batch)(path, self.shape) for path in paths]
        return torch.cat(batches[:-1]), batches[-1]


@registered(DATASETS, "svhn")
class SVHN(PublishedImages, FetchedFiles):
    """99,289 house numbers of 32 × 32 pixels in colour (Netzer et al., 2011), without the extra ones; fetched."""

    files: ClassVar = ("train_32x32.mat", "test_32x32.mat")
    url: str = place("http://ufldl.stanford.edu/housenumbers")
    md5: dict[str, MD5] = checksums(files, "e26dedcc434d2e4c54c9b2d4a06d8373", "eb5a983be6a315427106f1b164d9cef3")

    shape: ClassVar = (3, 32, 32)
    published: ClassVar = (73_257, 26_032)

    def read(self) -> tuple[Tensor, Tensor]:
        train, test = (read_mat(self.path(file), self.shape) for file in self.files)
        return train, test
