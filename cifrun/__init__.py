"""cifrun: train, evaluate and sample continuously indexed flows.

```python
import cifrun

model = cifrun.CIF("maf", dim=3, depth=5, index_dim=2)  # or cifrun.Flow("maf", dim=3)
history = cifrun.fit(model, x, valid=0.1, steps=2000)
model.log_prob(x, importance_samples=100, seed=0)
model.sample(1000)

model = cifrun.load("outputs/2026-01-31/12-00-00")  # a run of the command line
```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors, sklearn, testing
    from .api.commands import configure, evaluate, train
    from .api.fit import History, fit
    from .api.flows import CIF, Flow, load

__all__ = [
    "CIF",
    "Flow",
    "History",
    "__version__",
    "configure",
    "errors",
    "evaluate",
    "fit",
    "load",
    "sklearn",
    "testing",
    "train",
]
__version__ = "0.1.0"

#: Where each name is. They are imported when they are asked for: torch takes seconds, and `cifrun --help` needs none.
_HOME = {
    **dict.fromkeys(("configure", "evaluate", "train"), "api.commands"),
    **dict.fromkeys(("History", "fit"), "api.fit"),
    **dict.fromkeys(("CIF", "Flow", "load"), "api.flows"),
}


def __getattr__(name: str) -> Any:
    if name in ("errors", "sklearn", "testing"):
        return import_module(f"cifrun.{name}")
    if name in _HOME:
        return getattr(import_module(f"cifrun.{_HOME[name]}"), name)
    raise AttributeError(f"module 'cifrun' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
