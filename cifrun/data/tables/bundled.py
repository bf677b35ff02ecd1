"""Small tables that come with scikit-learn: nothing to download."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from ...config.fields import STRICT, registered
from ...io.optional import need
from ...registry import DATASETS
from ..base import Data
from .base import SplitTable
from .reading import Table
from .splits import split

__all__ = ["BreastCancer", "Bundled", "Diabetes", "Iris", "Wine"]


@dataclass(config=STRICT)
class Bundled(SplitTable):
    """One of scikit-learn's tables, without the class or value that it is meant to predict.

    Subclasses set `loader`, the name of scikit-learn's function.
    """

    loader: ClassVar[str]
    left_out: ClassVar[tuple[str, ...]] = ()

    def load(self) -> Data:
        self.check_fractions()
        made = getattr(need("sklearn.datasets", f"dataset '{self.name}'"), self.loader)()
        kept = [k for k, name in enumerate(made.feature_names) if name not in self.left_out]
        table = Table(tuple(str(made.feature_names[k]) for k in kept), made.data[:, kept].astype(np.float32), None)
        train, valid, test = split(table, self.assign(len(table.values)), self.name)
        return Data(train.rows, valid.rows, test.rows, columns=table.columns, mapped=train)


@registered(DATASETS, "iris")
class Iris(Bundled):
    """Lengths and widths of 150 iris flowers, 4 columns; comes with scikit-learn."""

    loader: ClassVar = "load_iris"


@registered(DATASETS, "wine")
class Wine(Bundled):
    """Chemical analyses of 178 wines, 13 columns; comes with scikit-learn."""

    loader: ClassVar = "load_wine"


@registered(DATASETS, "breast_cancer")
class BreastCancer(Bundled):
    """Shapes of cell nuclei in 569 biopsies, 30 columns; comes with scikit-learn."""

    loader: ClassVar = "load_breast_cancer"


@registered(DATASETS, "diabetes")
class Diabetes(Bundled):
    """Measurements of 442 patients, 9 columns (sex, which has two values, is left out); comes with scikit-learn."""

    loader: ClassVar = "load_diabetes"
    left_out: ClassVar = ("sex",)
