"""The project's own tests of a flow, a bijection or a dataset, for those of other packages.

    from cifrun.testing import check_bijection, check_dataset, check_flow

    def test_my_flow():
        check_flow("rotation")

Each returns nothing where all promises are kept, and else raises an `AssertionError` whose one sentence says which is
broken, and by how much. They need no library for tests, leave the global random state alone, and find the same each
time.
"""

from .bijections import check_bijection
from .datasets import check_dataset
from .flows import check_flow

__all__ = ["check_bijection", "check_dataset", "check_flow"]
