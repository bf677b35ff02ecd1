"""Where numbers are computed: the `device` settings, handed to Lightning Fabric, on one device or on several.

Several processes come about in two ways. `device.count=N` starts N of them here; or torchrun or srun has started this
program N times, on one machine or on many. In either case each process does the same work on its share of the data,
and the one of rank 0 alone keeps records and talks.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins import DoublePrecision, MixedPrecision, Precision, environments
from lightning_fabric.strategies import DDPStrategy

from ..config.schema import DeviceConfig
from ..errors import CifrunError, ConfigError, TrainingError
from ..io.terminal import settle_streams
from .launch_env import Started, started
from .slurm import STOPS, hand_on

__all__ = ["Fabric", "launch", "spread"]

T = TypeVar("T")

# Here, so that it holds in each process before Fabric has anything to say.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # that it ends the others
warnings.filterwarnings("ignore", module="lightning_fabric")


class Autocast(MixedPrecision):
    """Matrix products in bfloat16; the data stay as they are, where Fabric would take all but 8 bits of them too."""

    def __init__(self, device: str) -> None:
        super().__init__("bf16-mixed", device)

    def convert_input(self, data: Any) -> Any:
        """What a model is given, unchanged."""
        return data


def _precision(name: str, device: str) -> Precision:
    """Fabric's precision for ours; tf32 is fp32 with faster matrix products."""
    if name == "bf16":
        return Autocast(device)
    return DoublePrecision() if name == "fp64" else Precision()


#: Processes that may be started here for each core: each takes a gigabyte before it does anything.
A_CORE = 4
#: How long processes wait for one another: rank 0 measures and draws while the others have nothing to do.
PATIENCE = timedelta(hours=6)


def spread(config: DeviceConfig, work: Callable[..., T], *args: Any) -> T:
    """Do `work(fabric, *args)` in each process that the config asks for; the result of rank 0.

    Where processes are started here, `work` and `args` must be picklable, the result small and without tensors, and a
    signal that asks this one to stop is passed on to them.

    Raises:
        ConfigError: this machine lacks the devices.
        CifrunError, KeyboardInterrupt: what any of the processes raised.
        TrainingError: a process ended without a word, as when it was killed.
    """
    outside = started()
    if config.count == 1 or outside is not None:
        return work(launch(config), *args)
    fabric = _fabric(config, None)
    failures = multiprocessing.get_context("spawn").SimpleQueue()
    result, in_process = None, cast(Callable[..., Any], _in_process)
    with _passing_signals_on(), _environment(MASTER_ADDR="127.0.0.1"):
        try:
            result = fabric.launch(in_process, config, failures, work, args)
        except torch.multiprocessing.ProcessExitedException as error:
            how = "was killed" if error.signal_name else f"ended with exit code {error.exit_code}"
            if failures.empty():
                raise TrainingError(f"one of {config.count} processes {how}, so the others stopped") from None
        except torch.multiprocessing.ProcessRaisedException as error:
            if failures.empty() and "closed by peer" in str(error):  # what the others say of one that is gone
                raise TrainingError(f"one of {config.count} processes was killed, so the others stopped") from None
            if failures.empty():
                raise
    if not failures.empty():
        raise failures.get()
    return cast(T, result)


def launch(config: DeviceConfig) -> Fabric:
    """A Fabric for this process: on one device, alone or as one of those that torchrun or srun started.

    Raises:
        ConfigError: This machine lacks the devices.
    """
    outside = started()
    fabric = _fabric(config if outside else replace(config, count=1), outside)
    fabric.launch()
    _settle(config, fabric)
    return fabric


def _fabric(config: DeviceConfig, outside: Started | None) -> Fabric:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.accelerator == "gpu" and gpus == 0:
        raise ConfigError("device=gpu is not possible here: no CUDA device is visible; use device=auto or device=cpu")
    accelerator = "cuda" if gpus and config.accelerator != "cpu" else "cpu"
    here, nodes = (config.count, config.nodes) if outside is None else (outside.here, outside.nodes)
    if outside is None and nodes > 1:
        raise ConfigError(
            f"device.nodes = {nodes} needs a start on each machine: torchrun --nnodes={nodes} "
            f"--nproc-per-node={here} -m cifrun train …, or srun with as many tasks"
        )
    if outside is not None and (config.count, config.nodes) not in ((1, 1), (here, nodes)):
        raise ConfigError(
            f"device.count = {config.count}, device.nodes = {config.nodes} is not what {outside.by} started, {here} "
            f"processes on each of {nodes} machines: leave both away"
        )
    if accelerator == "cuda" and here > gpus:
        raise ConfigError(f"device.count = {here} is not possible here: {gpus} CUDA devices are visible")
    if accelerator == "cpu" and outside is None and here > A_CORE * (cores := os.cpu_count() or 1):
        raise ConfigError(f"device.count = {here} is not possible here: this machine has {cores} cores")
    environment: environments.ClusterEnvironment = environments.LightningEnvironment()
    if outside is not None:
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(here))  # Fabric insists; srun sets it if it was given so
        torchrun = outside.by == "torchrun"
        environment = (
            environments.TorchElasticEnvironment() if torchrun else environments.SLURMEnvironment(auto_requeue=False)
        )
    strategy: DDPStrategy | str = "auto"
    if here * nodes > 1:
        strategy = DDPStrategy(
            start_method="popen" if outside else "spawn",
            timeout=PATIENCE,
            broadcast_buffers=False,  # each process derives them from the same weights
            gradient_as_bucket_view=True,
        )
    return Fabric(
        accelerator=accelerator,
        devices=here,
        num_nodes=nodes,
        strategy=strategy,
        plugins=[environment, _precision(config.precision, accelerator)],
    )


def _settle(config: DeviceConfig, fabric: Fabric) -> None:
    """Settings of this process as a whole."""
    torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
    # Nothing here reads memory that it has not written, and filling it first costs a tenth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = config.precision == "tf32"  # convolutions would take it unasked
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it; read when it is first used
    if fabric.device.type == "cpu":
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Tell glibc to keep memory that is freed, up to what was once needed; elsewhere do nothing.

    A training step frees all that the next one needs at once, and to give it back costs a page fault for every 4 KiB:
    without this, a step takes 1.2 to 1.35 times as long for cnf, and 1.1 times for resflow.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**25)


# --- processes that are started here ----------------------------------------------------------------------------------


def _in_process(fabric: Fabric, config: DeviceConfig, failures: Any, work: Callable[..., T], args: Any) -> T | None:
    """What each of them does."""
    with suppress(OSError):
        os.setsid()  # a Ctrl-C in the terminal is for the process that started them, which passes it on
    settle_streams()
    _settle(config, fabric)
    try:
        return work(fabric, *args)
    except (CifrunError, KeyboardInterrupt) as error:
        failures.put(error)
        return None
    finally:
        dist.destroy_process_group()


@contextmanager
def _passing_signals_on() -> Iterator[None]:
    """Inside, a signal that asks for a stop goes to the processes that this one started; afterwards, when they have
    saved, to whatever handled it before."""
    passed: list[signal.Signals] = []

    def pass_on(number: int, _: object) -> None:
        passed.append(signal.Signals(number))
        for process in multiprocessing.active_children():
            if process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)

    if threading.current_thread() is not threading.main_thread():  # whoever owns the process handles its signals
        yield
        return
    before = {number: signal.signal(number, pass_on) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(passed):
            hand_on(number, before[number])


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Inside, these are set; what Fabric adds for the processes to find each other is gone afterwards."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
