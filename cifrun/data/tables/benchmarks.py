"""The five benchmark tables of density estimation, prepared as in the literature, so that numbers compare.

The log-likelihoods of the literature are those of the prepared columns: all tables but BSDS300 are brought to mean 0
and standard deviation 1, without the Jacobian of that. The sizes of the splits are checked against the published ones.

Reference: Papamakarios, Pavlakou, Murray, "Masked autoregressive flow for density estimation", NeurIPS 2017
(https://arxiv.org/abs/1705.07057), appendix D; the files are their archive, https://zenodo.org/records/1161203.
"""

from __future__ import annotations

import zipfile
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from ...config.fields import STRICT, registered, setting
from ...errors import ConfigError
from ...io.optional import need
from ...registry import DATASETS
from ..base import Data
from ..download import MD5, Fetched, archive
from .base import TableConfig
from .pickled import read_frame

__all__ = ["BSDS300", "Benchmark", "Gas", "Hepmass", "Miniboone", "Power"]

Splits = tuple[np.ndarray, np.ndarray, np.ndarray]


def hold_out(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All but the last tenth of the rows, and that tenth; its size is rounded down."""
    count = len(x) // 10
    return x[: len(x) - count], x[len(x) - count :]


def three_splits(x: np.ndarray) -> Splits:
    """Training, validation and test rows: the last tenth is for the test, the last tenth of the rest for validation."""
    rest, test = hold_out(x)
    return (*hold_out(rest), test)


def scaled_splits(x: np.ndarray) -> Splits:
    """`three_splits`, in units in which all but the test rows have mean 0 and standard deviation 1."""
    rest, _ = hold_out(x)
    return three_splits((x - rest.mean(0)) / rest.std(0))


@dataclass(config=STRICT)
class Benchmark(TableConfig, Fetched):
    """A table of the archive. Subclasses set `files`, `published` and `splits`."""

    url: str = archive("https://zenodo.org/records/1161203/files/data.tar.gz")
    md5: MD5 = setting("9b9c9b0375315ad270eba4ce80c093ab", "its checksum")

    #: Published sizes: training, validation and test points, and columns.
    published: ClassVar[tuple[int, int, int, int]]

    @abstractmethod
    def splits(self) -> Splits:
        """Training, validation and test points, prepared."""

    def load(self) -> Data:
        try:
            splits = self.splits()
            sizes = (*map(len, splits), splits[0].shape[1])
        # Another format, an array of another shape or type.
        except (ValueError, LookupError, TypeError, OSError, EOFError, zipfile.BadZipFile, MemoryError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"what {self.folder} holds is not dataset '{self.name}': {reason}") from error
        if sizes != self.published:
            raise self.other_sizes(sizes)
        train, valid, test = (
            torch.from_numpy(np.ascontiguousarray(x[:n], np.float32)) for x, n in zip(splits, self._most, strict=True)
        )
        return Data(train, valid, test)

    def other_sizes(self, sizes: tuple[int, ...]) -> ConfigError:
        """The sentence for files of other sizes than the published ones."""
        return ConfigError(
            f"dataset '{self.name}' in {self.folder} has {_sizes(sizes)}; published are {_sizes(self.published)}: "
            f"these are other files, so numbers would not compare"
        )


def _sizes(sizes: tuple[int, ...]) -> str:
    return f"{sizes[0]:,} + {sizes[1]:,} + {sizes[2]:,} points in {sizes[3]} columns"


@registered(DATASETS, "power")
class Power(Benchmark):
    """Electric power of a household by the minute, 6 columns, 2.0 million points; fetched.

    Reactive power and current are left out, uniform noise dequantises the readings, and the rows are shuffled, with the
    generator and the seed of the literature.
    """

    files: ClassVar = ("power/data.npy",)
    published: ClassVar = (1_659_917, 184_435, 204_928, 6)

    def splits(self) -> Splits:
        raw = _array(self.path("power/data.npy"))
        draw = np.random.RandomState(42)
        order = np.arange(len(raw))
        draw.shuffle(order)
        x = raw[order][:, [0, 2, 4, 5, 6, 7]].astype(np.float64)
        # Voltage, active power, the three sub-meters: the order in which the literature draws.
        x[:, 1] += 0.01 * draw.rand(len(x))
        x[:, 0] += 0.001 * draw.rand(len(x))
        x[:, 2:5] += draw.rand(len(x), 3)
        return scaled_splits(x)


@registered(DATASETS, "gas")
class Gas(Benchmark):
    """Readings of gas sensors in ethylene and CO, 8 columns, 1.1 million points; fetched.

    Of every two sensors with a correlation above 0.98, the first is left out.
    """

    files: ClassVar = ("gas/ethylene_CO.pickle",)
    published: ClassVar = (852_174, 94_685, 105_206, 8)

    def splits(self) -> Splits:
        names, x = read_frame(self.path("gas/ethylene_CO.pickle"))
        x = x[:, [k for k, name in enumerate(names) if name not in ("Meth", "Eth", "Time")]]
        alike = np.corrcoef(x.T) > 0.98
        kept = list(range(x.shape[1]))
        while (twins := alike[np.ix_(kept, kept)].sum(1) > 1).any():
            del kept[int(twins.argmax())]
        x = x[:, kept]
        return three_splits((x - x.mean(0)) / x.std(0, ddof=1))


@registered(DATASETS, "hepmass")
class Hepmass(Benchmark):
    """Collisions that make a heavy particle, 21 columns, 525 thousand points; fetched.

    Only collisions with a signal; columns whose smallest value occurs more than five times are left out.
    """

    files: ClassVar = ("hepmass/1000_train.csv", "hepmass/1000_test.csv")
    published: ClassVar = (315_123, 35_013, 174_987, 21)

    def splits(self) -> Splits:
        train, test = (self._signal(file) for file in self.files)
        test = test[:, : train.shape[1]]  # the file of the test has one column more
        kept = [k for k, column in enumerate(train.T) if (column == column.min()).sum() <= 5]
        train, test = train[:, kept], test[:, kept]
        mean, std = train.mean(0), train.std(0, ddof=1)
        return (*hold_out((train - mean) / std), (test - mean) / std)

    def _signal(self, file: str) -> np.ndarray:
        """The rows labelled 1 in the first column, without the label."""
        csv = need("pyarrow.csv", file)
        names = csv.ReadOptions(skip_rows=1, autogenerate_column_names=True)
        parts = []
        for batch in csv.open_csv(self.path(file), names):
            columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
            rows = np.stack(columns, 1)
            parts.append(rows[rows[:, 0] == 1, 1:].astype(np.float64))
        return np.concatenate(parts)


@registered(DATASETS, "miniboone")
class Miniboone(Benchmark):
    """Electron neutrinos of the MiniBooNE experiment, 43 columns, 36 thousand points; fetched."""

    files: ClassVar = ("miniboone/data.npy",)
    published: ClassVar = (29_556, 3_284, 3_648, 43)

    def splits(self) -> Splits:
        return scaled_splits(_array(self.path("miniboone/data.npy")))


@registered(DATASETS, "bsds300")
class BSDS300(Benchmark):
    """Patches of 8 × 8 pixels of natural images without their mean, 63 columns, 1.3 million points; fetched."""

    files: ClassVar = ("BSDS300/BSDS300.hdf5",)
    published: ClassVar = (1_000_000, 50_000, 250_000, 63)

    def splits(self) -> Splits:
        h5py = need("h5py", "dataset 'bsds300'")
        with h5py.File(self.path("BSDS300/BSDS300.hdf5"), "r") as file:
            parts = [_own(h5py, file, name) for name in ("train", "validation", "test")]
            sizes = (*(part.shape[0] for part in parts), parts[0].shape[1])
            if sizes != self.published:  # before memory is taken for what the file only says
                raise self.other_sizes(sizes)
            train, valid, test = (np.asarray(part, np.float32) for part in parts)
        return train, valid, test


def _array(path: Path) -> np.ndarray:
    """The array of an npy file, mapped: what the file says of its size is compared with its own."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _own(h5py: Any, file: Any, name: str) -> Any:
    """An array of numbers, (rows, columns), of an HDF5 file whose numbers are in this file.

    Raises:
        ValueError: It is none; or it is a link, or made of other files, which are not followed.
    """
    link = file.get(name, getlink=True)
    if link is None:
        raise ValueError(f"it has no '{name}'")
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"'{name}' is a link to somewhere else, which is not followed")
    found = file[name]
    if not isinstance(found, h5py.Dataset) or len(found.shape or ()) != 2 or found.dtype.kind not in "iuf":
        raise ValueError(f"'{name}' is no array of numbers, rows × columns")
    if found.is_virtual or found.external:
        raise ValueError(f"'{name}' has its numbers in other files, which are not followed")
    if found.id.get_storage_size() == 0:
        raise ValueError(f"'{name}' says that it has {found.shape[0]:,} rows, and holds none")
    return found
