"""Where numbers are computed: the `device` settings, handed to Lightning Fabric."""

from __future__ import annotations

import ctypes
import logging
import warnings
from contextlib import suppress

import torch
from lightning_fabric import Fabric

from .config import DeviceConfig
from .errors import ConfigError

__all__ = ["launch"]

#: Our names for a precision, and Fabric's. tf32 is fp32 with faster matrix products.
PRECISION = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp64": "64-true"}


def launch(config: DeviceConfig) -> Fabric:
    """A Fabric for the devices that the config asks for. Raises `ConfigError` if this machine lacks them."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.accelerator == "gpu" and gpus == 0:
        raise ConfigError("device=gpu is not possible here: no CUDA device is visible; use device=auto or device=cpu")
    accelerator = "cuda" if gpus and config.accelerator != "cpu" else "cpu"
    if config.count > 1:
        raise ConfigError(f"device.count = {config.count} is not possible: a run trains on one device")
    torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
    # Nothing here reads memory that it has not written, and filling it first costs a tenth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if accelerator == "cpu":
        _keep_freed_memory()
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning_fabric")
    fabric = Fabric(accelerator=accelerator, devices=config.count, precision=PRECISION[config.precision])  # type: ignore[arg-type]
    fabric.launch()
    return fabric


def _keep_freed_memory() -> None:
    """Tell glibc to keep memory that is freed, up to what was once needed; elsewhere do nothing.

    A training step frees all that the next one needs again at once, and to give it back in between costs a page fault
    for every 4 KiB, a few per cent of a step.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**25)
