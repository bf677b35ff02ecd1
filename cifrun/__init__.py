"""cifrun: train, evaluate and sample continuously indexed flows from a config.

From Python, a trained run is a density:

    model = cifrun.load("outputs/2026-01-31/12-00-00")
    model.log_prob(x, importance_samples=100)
    model.sample(1000)
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `cifrun --help` should not wait for it.
    if name == "load":
        return import_module("cifrun.build").load
    raise AttributeError(f"module 'cifrun' has no attribute '{name}'")
