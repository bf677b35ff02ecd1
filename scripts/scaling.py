"""How a training step scales with the number of processes: measured here, and what a model of it predicts for GPUs.

    python scripts/scaling.py                                # 1, 2 and 4 processes on this machine
    python scripts/scaling.py --flows maf --processes 1,2 --repeats 5

Prints tables in Markdown and writes scaling.json and scaling.png to --output. The model is

    T(W) = max(K τ, F b / R) + 2 (W − 1)/W · 4 P / β + α log₂ W + W b N / ρ

for W devices with b data each: K operations of one step (τ to launch one), F floating-point operations a datum (at R),
P parameters whose gradients are summed over all devices (a ring over links of bandwidth β and latency α), and N random
numbers a datum, which each device draws for the whole batch (at ρ). Nothing is taken to overlap, so T is an upper
bound. K, F, P and N are counted here; τ, R, β, α and ρ of a GPU are assumptions, printed with the result.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from cifrun.build import build_model
from cifrun.cli.hydra_app import configure
from cifrun.compute import processes, rng
from cifrun.compute.device import launch, spread
from cifrun.config.schema import DeviceConfig
from cifrun.data.loader import Loader
from cifrun.figures.style import save
from cifrun.training.step import Update

#: Name → overrides, shape of an event, data a device.
FLOWS: dict[str, tuple[list[str], tuple[int, ...], int]] = {
    "resflow": (["experiment=two_d_resflow", "dataset=two_uniforms"], (2,), 1000),
    "maf": (["experiment=two_d_maf", "dataset=two_uniforms"], (2,), 1000),
    "nsf_ar": (["experiment=two_d_nsf_ar", "dataset=two_uniforms"], (2,), 1000),
    "resflow_image": (["experiment=image_resflow"], (1, 28, 28), 64),
}
#: Those of which steps are timed here; of the others only what the model needs is counted.
TIMED = "resflow,maf,nsf_ar"
BYTES = [2**k for k in range(10, 25, 2)]
DEVICES = (8, 64, 256, 1024)


@dataclass(frozen=True)
class Machine:
    """What the model needs to know of a kind of device and of what links it."""

    operation: float  # τ, seconds
    flops: float  # R, a second
    near: float  # β among the 8 devices of one machine, bytes a second
    far: float  # β between machines, a device
    latency: float  # α, seconds
    numbers: float  # ρ, a second


#: An H100 in eager mode: 5 µs a launch; 30 % of 67 TFLOP/s; NVLink and InfiniBand at 80 % of 450 and 50 GB/s.
GPU = Machine(5e-6, 20e12, 360e9, 40e9, 20e-6, 3e10)


@dataclass(frozen=True)
class Cost:
    """What one training step of a model takes, whatever the machine."""

    operations: int  # K, a step
    flops: float  # F, a datum
    parameters: int  # P
    numbers: float  # N, a datum

    def seconds(self, devices: int, batch: int, machine: Machine) -> float:
        """T of the module's docstring, with `batch` data on each of the devices."""
        link = machine.near if devices <= 8 else machine.far
        work = max(self.operations * machine.operation, self.flops * batch / machine.flops)
        exchange = 2 * (devices - 1) / devices * 4 * self.parameters / link + machine.latency * math.log2(devices)
        return work + exchange + devices * batch * self.numbers / machine.numbers


# --- what is counted and timed ----------------------------------------------------------------------------------------


class _Count(TorchDispatchMode):
    """Counts operations, and the random numbers that they draw for the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        of_rows = (kwargs or {}).get("generator") is not None  # `rng.normal_blocks`
        if torch.Tag.nondeterministic_seeded in func.tags and not of_rows:
            self.numbers += sum(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        return result


def stepper(flow: str, cif: bool, fabric: Fabric, batch: int) -> tuple[Callable[[], Any], int]:
    """One training step with a batch of that size, and the number of parameters."""
    overrides, shape, _ = FLOWS[flow]
    config = configure([*overrides, f"cif={str(cif).lower()}", "device=cpu"])
    model = build_model(config, shape)
    x = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    update = Update(model, config, fabric, Loader.of_tensor(x, fabric.device))
    rows = torch.arange(batch)
    return lambda: update(rows, 1e-4), sum(p.numel() for p in model.parameters())


def cost(flow: str, cif: bool) -> Cost:
    """Counted at two small batches, whose difference is that of their data."""
    with patch.multiple(rng, BLOCK=1, FEW=0):  # even these batches count as large
        return _count(flow, cif)


def _count(flow: str, cif: bool) -> Cost:
    fabric = launch(DeviceConfig(accelerator="cpu"))
    rows, found, operations, parameters = (4, 8), [], 0, 0
    for batch in rows:
        step, parameters = stepper(flow, cif, fabric, batch)
        step()  # sets things up
        torch.manual_seed(0)
        with FlopCounterMode(display=False) as flops:
            step()
        torch.manual_seed(0)
        with _Count() as count:
            step()
        operations = count.operations
        found.append((flops.get_total_flops(), count.numbers))
    difference = rows[1] - rows[0]
    a_datum, numbers = ((b - a) / difference for a, b in zip(*found, strict=True))
    return Cost(operations, a_datum, parameters, numbers)


def measure(fabric: Fabric, path: Path, flows: Sequence[str], batches: Sequence[int], repeats: int) -> None:
    """In each process: seconds a step of each flow, for each batch of all together, and seconds a sum of n bytes."""
    torch.set_num_threads(1)
    steps = {}
    for flow in flows:
        for cif in (False, True):
            for batch in batches:
                steps[f"{flow} {cif} {batch}"] = _median(stepper(flow, cif, fabric, batch)[0], repeats)
    sums = {}
    for size in BYTES if processes.count() > 1 else []:
        x = torch.ones(size // 4)
        sums[size] = _median(lambda x=x: dist.all_reduce(x), 5 * repeats)  # type: ignore[misc]
    if fabric.is_global_zero:
        path.write_text(json.dumps({"steps": steps, "sums": sums}))


def _median(call: Callable[[], Any], repeats: int) -> float:
    seconds = []
    for _ in range(repeats + 1):  # the first sets things up
        processes.barrier()
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


# --- what is shown ----------------------------------------------------------------------------------------------------


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measured_table(measured: dict[int, Any], flows: Sequence[str], batches: Sequence[int]) -> str:
    rows = []
    for flow in flows:
        for cif in (False, True):
            for batch in batches:
                times = [measured[count]["steps"][f"{flow} {cif} {batch}"] for count in measured]
                ratios = [f"{1e3 * t:.1f} ({times[0] / t:.2f})" for t in times]
                rows.append([f"{flow}, {'CIF' if cif else 'plain'}", f"{batch:,}", *ratios])
    return markdown(["model", "batch", *[f"{count} proc., ms (speed-up)" for count in measured]], rows)


def sums_table(measured: dict[int, Any]) -> str:
    several = [count for count in measured if count > 1]
    rows = [
        [f"{size // 1024:,} KiB", *[f"{1e3 * measured[count]['sums'][str(size)]:.2f}" for count in several]]
        for size in BYTES
    ]
    return markdown(["bytes summed", *[f"{count} processes, ms" for count in several]], rows)


def costs_table(costs: dict[str, Cost]) -> str:
    rows = [
        [name, f"{c.operations:,}", f"{c.flops / 1e6:.2f}", f"{4 * c.parameters / 1e6:.2f}", f"{c.numbers:,.0f}"]
        for name, c in costs.items()
    ]
    return markdown(["model", "operations a step", "MFLOP a datum", "MB of gradients", "random numbers a datum"], rows)


def predictions_table(costs: dict[str, Cost]) -> str:
    rows = []
    for name, c in costs.items():
        batch = FLOWS[name.partition(",")[0]][2]
        alone = c.seconds(1, batch, GPU)
        cells = []
        for devices in DEVICES:
            t = c.seconds(devices, batch, GPU)
            cells.append(f"{1e3 * t:.1f} ({alone / t:.0%}), {1e9 / (devices * batch) * t / 3600:.2g} h")
        rows.append([name, f"{batch:,}", f"{1e3 * alone:.1f}", *cells])
    header = ["model", "data a GPU", "1 GPU, ms"]
    return markdown([*header, *[f"{d:,} GPUs: ms (efficiency), 10⁹ data" for d in DEVICES]], rows)


def draw(costs: dict[str, Cost], path: Path) -> None:
    """Predicted efficiency against the number of GPUs."""
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.subplots()
    devices = [2**k for k in range(11)]
    colors = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
    for (name, c), color in zip(((n, c) for n, c in costs.items() if n.endswith("CIF")), colors, strict=False):
        batch = FLOWS[name.partition(",")[0]][2]
        alone = c.seconds(1, batch, GPU)
        values = [alone / c.seconds(d, batch, GPU) for d in devices]
        axes.semilogx(devices, values, "o-", base=2, color=color, label=f"{name}, {batch:,} data a GPU", markersize=4)
    axes.set(xlabel="GPUs", ylabel="efficiency, predicted", ylim=(0, 1.05))
    axes.set_xticks(devices, [str(d) for d in devices])
    axes.legend(frameon=False, loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--flows", default=TIMED, help="whose steps are timed here")
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--batches", default="1000,4000", help="data a step, of all processes together")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path("outputs", "scaling"))
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    flows, batches = arguments.flows.split(","), [int(b) for b in arguments.batches.split(",")]
    arguments.output.mkdir(parents=True, exist_ok=True)
    measured: dict[int, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in map(int, arguments.processes.split(",")):
            path = Path(folder, f"{count}.json")
            config = DeviceConfig(accelerator="cpu", count=count)
            spread(config, measure, path, flows, batches, arguments.repeats)
            measured[count] = json.loads(path.read_text())
    shown = dict.fromkeys([*flows, "resflow_image"])
    costs = {f"{flow}, {'CIF' if cif else 'plain'}": cost(flow, cif) for flow in shown for cif in (False, True)}
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__}
    result = {"machine": machine, "measured": measured, "costs": {k: vars(c) for k, c in costs.items()}}
    (arguments.output / "scaling.json").write_text(json.dumps(result, indent=2) + "\n")
    draw(costs, arguments.output / "scaling.png")
    tables = (measured_table(measured, flows, batches), sums_table(measured), costs_table(costs))
    print(f"{machine['cpus']} CPUs, torch {torch.__version__}", *tables, str(GPU), predictions_table(costs), sep="\n\n")


if __name__ == "__main__":
    main()
