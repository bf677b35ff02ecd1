"""What a training step, an evaluation and a sample cost, beside the arithmetic that they need.

    python scripts/bench.py                                  # every flow, plain and indexed, at the published sizes
    python scripts/bench.py --flows resflow,maf --tasks train --compile
    python scripts/bench.py --against mymodule:build         # another implementation, timed in alternation
    python scripts/bench.py --curves                         # cost against depth, dimension, batch and m: a picture
    python scripts/bench.py --blocks 1,2,4,8                 # a residual flow of images: memory and time, a picture

Prints a table and writes bench.json (curves.json, blocks.json, and a picture) to --output. Times are medians over
--repeats calls, with the distance between the quartiles as a share of the median. The floor is the number of
floating-point operations in matrix products, at the rate of a large matrix product measured in this very run: what a
perfect implementation of the same arithmetic would take. Memory is the peak of what tensors take beyond the weights.

`--against MODULE:FUNCTION` names a function of one mapping,

    {"task": "train" | "eval" | "sample", "flow": name, "cif": bool, "x": Tensor (batch, D),
     "importance_samples": m, "samples": n}

which returns a callable that does the task once (one update with the batch x; IWAE_m of all rows of x; n samples), or
None if it has no such model. Both are called in turn, so that whatever else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch import Tensor
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from cifrun.bijections import log_det_series, residual
from cifrun.build import build_model
from cifrun.cif.model import Model
from cifrun.cli.hydra_app import configure
from cifrun.compute.device import launch
from cifrun.config.schema import Config
from cifrun.data.loader import Loader
from cifrun.errors import ConfigError
from cifrun.figures.style import save
from cifrun.io.text import table
from cifrun.nets.lipschitz.networks import LipschitzNet
from cifrun.training.step import Update

FLOWS = "affine,realnvp,maf,nsf_coupling,nsf_ar,sos,planar,bnaf,cnf,resflow,vae,dlgm"
TASKS = ("train", "eval", "sample")
#: Okabe and Ito's colours, which the colour-blind can tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


# --- what is measured -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A model and what it is asked to do."""

    flow: str
    cif: bool
    task: str
    dim: int = 2
    batch: int = 1000  # data of a training step
    data: int = 1000  # data of an evaluation
    importance_samples: int = 20
    samples: int = 10_000
    overrides: tuple[str, ...] = ()

    def config(self) -> Config:
        preset = f"experiment=two_d_{self.flow}"
        return configure([preset, "dataset=two_uniforms", f"cif={str(self.cif).lower()}", *self.overrides])

    def x(self, device: torch.device) -> Tensor:
        """Data in [−1, 1]^D."""
        rows = self.batch if self.task == "train" else self.data
        generator = torch.Generator().manual_seed(0)
        return (2 * torch.rand(rows, self.dim, generator=generator) - 1).to(device)

    def work(self) -> tuple[int, str]:
        """How many things one call does, and what they are."""
        if self.task == "train":
            return 1, "steps"
        if self.task == "sample":
            return self.samples, "samples"
        return self.data * (self.importance_samples if self.cif else 1), "data × m"

    def request(self, device: torch.device) -> dict[str, Any]:
        """The case as `--against` gets it."""
        keys = ("task", "flow", "cif", "importance_samples", "samples")
        return {**{key: getattr(self, key) for key in keys}, "x": self.x(device)}


def ours(case: Case) -> tuple[Callable[[], Any], Model]:
    """A callable that does the task once, and the model."""
    config = case.config()
    fabric = launch(config.device)
    model = build_model(config, (case.dim,))
    x = case.x(fabric.device)
    if case.task == "train":
        update = Update(model, config, fabric, Loader.of_tensor(x, fabric.device))
        rows = torch.arange(len(x))
        return lambda: update(rows, config.optimizer.lr), model
    model.to(fabric.device).eval()
    if case.task == "sample":
        return lambda: model.sample(case.samples), model

    @torch.inference_mode()
    def evaluate() -> Tensor:
        return model.log_prob(x, case.importance_samples)

    return evaluate, model


# --- how it is measured -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Time:
    """Seconds a call: median, and quartile distance over median."""

    median: float
    spread: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Time:
        low, median, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [seconds[0]] * 3
        return cls(median, (high - low) / median)


def alternate(calls: Sequence[Callable[[], Any]], repeats: int, least: float = 0.02) -> list[Time]:
    """Time several callables in turn: a round calls each until `least` seconds are over."""
    timers = [Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads()) for call in calls]
    loops = [max(1, math.ceil(least / timer.timeit(1).median)) for timer in timers]  # also warms up
    seconds = [[timer.timeit(n).median for timer, n in zip(timers, loops, strict=True)] for _ in range(repeats)]
    return [Time.of(column) for column in zip(*seconds, strict=True)]


def gemm_rate(device: torch.device, size: int) -> float:
    """Floating-point operations a second of a product of two square matrices, fp32, on all threads."""
    a, b = torch.randn(2, size, size, device=device)
    (time,) = alternate([lambda: F.linear(a, b)], 15)
    return 2 * size**3 / time.median


def flops(call: Callable[[], Any]) -> int:
    """Floating-point operations of all matrix products that a call makes."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def peak_memory(call: Callable[[], Any], device: torch.device) -> int:
    """Most bytes that the tensors of a call take at one time, beyond those that were there before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    total = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return peak


def measure(case: Case, repeats: int, rate: float, build: Callable[[dict[str, Any]], Any] | None) -> dict[str, Any]:
    """All numbers of one case, where products have this rate."""
    call, model = ours(case)
    compiled = case.task == "train" and case.config().device.compile
    began = time.perf_counter()
    call()
    first = time.perf_counter() - began
    device = next(model.parameters()).device
    other = None if build is None else build(case.request(device))
    times = alternate([call] if other is None else [call, other], repeats)
    eager = ours(Case(**{**asdict(case), "overrides": (*case.overrides, "device.compile=false")}))[0]
    operations = flops(eager)
    work, unit = case.work()
    result = {
        **asdict(case),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": times[0].median,
        "spread": times[0].spread,
        "rate": work / times[0].median,
        "unit": f"{unit}/s",
        "gflop": operations / 1e9,
        "floor_seconds": operations / rate,
        "peak_bytes": peak_memory(eager, device),
        "compile_seconds": first - times[0].median if compiled else None,
    }
    if other is not None:
        result |= {"against_seconds": times[1].median, "against_spread": times[1].spread}
        result["ratio"] = times[1].median / times[0].median
    return result


# --- what is shown ----------------------------------------------------------------------------------------------------


def show(results: Sequence[dict[str, Any]]) -> str:
    """The results as a table."""
    header = ["task", "flow", "", "parameters", "ms", "±", "rate", "", "floor ms", "×"]
    header += ["MiB", "compile s", "other ms", "other ÷ ours"]
    rows = []
    for r in results:
        compiling = "" if r["compile_seconds"] is None else f"{r['compile_seconds']:.1f}"
        row = [r["task"], r["flow"], "CIF" if r["cif"] else "plain", f"{r['parameters']:,}"]
        row += [f"{r['seconds'] * 1e3:.2f}", f"{r['spread']:.0%}", f"{r['rate']:,.0f}", r["unit"]]
        floor = r["floor_seconds"]
        row += [f"{floor * 1e3:.2f}", f"{r['seconds'] / floor:.1f}" if floor > 1e-5 else "–"]
        row += [f"{r['peak_bytes'] / 2**20:.1f}", compiling]
        row += [f"{r['against_seconds'] * 1e3:.2f}", f"{r['ratio']:.2f}"] if "ratio" in r else ["", ""]
        rows.append(row)
    keep = [k for k in range(len(header)) if any(row[k] for row in rows)]
    return table([[row[k] for k in keep] for row in rows], [header[k] for k in keep], "l" * 3 + "r" * (len(keep) - 3))


#: Curves: a title, the x axis, its values, and how a value changes a case.
CURVES: list[tuple[str, str, Sequence[int], Callable[[Case, int], dict[str, Any]]]] = [
    ("depth", "steps L", (2, 5, 10, 20, 40), lambda c, v: {"overrides": (*c.overrides, f"flow.depth={v}")}),
    ("dimension", "dimension D", (2, 4, 8, 16, 32, 128, 784), lambda c, v: {"dim": v}),
    ("batch", "data a batch", (10, 100, 1000, 10_000), lambda c, v: {"batch": v}),
    ("m", "importance samples m", (1, 10, 100), lambda c, v: {"task": "eval", "importance_samples": v}),
]
#: Plain flows but for m, which only a CIF has; of few options, so that any dimension and depth is possible.
CURVE_FLOWS = ("realnvp", "maf", "nsf_coupling", "resflow")


def curves(flows: Sequence[str], repeats: int, device: str) -> Iterator[dict[str, Any]]:
    """Milliseconds a call along each axis. Residual flows take both log-determinants where both are feasible."""
    for title, axis, values, change in CURVES:
        for flow in flows:
            cif = title == "m"
            both = flow == "resflow" and title == "dimension"
            for log_det in ("exact", "unbiased") if both else ("",):
                base = (f"device={device}", *((f"flow.logdet={log_det}",) if log_det else ()))
                points = []
                for value in values:
                    case = Case(flow, cif, "train", overrides=base)
                    case = Case(**{**asdict(case), **change(case, value)})
                    if log_det == "exact" and case.dim > 32:
                        continue
                    call, _ = ours(case)
                    points.append((value, alternate([call], repeats)[0].median * 1e3))
                yield {"curve": title, "axis": axis, "flow": f"{flow} {log_det}".strip(), "points": points}


def draw(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """A panel for each axis, in logarithmic scales: a line for each flow."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    panels = figure.subplots(2, 2)
    colors = dict(zip(dict.fromkeys(line["flow"].split()[0] for line in lines), COLORS, strict=False))
    for axes, (title, axis, values, _) in zip(panels.flat, CURVES, strict=True):
        for line in (line for line in lines if line["curve"] == title):
            x, y = zip(*line["points"], strict=True)
            family, *estimate = line["flow"].split()
            style = {"color": colors[family], "linestyle": "--" if estimate == ["unbiased"] else "-"}
            axes.loglog(x, y, marker="o", markersize=4, linewidth=1.5, label=line["flow"], **style)
        axes.set_xticks(values, [f"{value:,}".replace(",", " ") for value in values])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.10g}".replace(",", " ")))
        axes.set_xlabel(axis)
        axes.set_ylabel("ms an evaluation of 1 000 data" if title == "m" else "ms a training step")
        axes.set_title("importance samples (CIF)" if title == "m" else title)
        axes.grid(True, which="major", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        if title == "dimension":  # which has all of them
            figure.legend(
                *axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(lines), frameon=False
            )
    save(figure, path)


# --- the gradient of a residual flow of images ------------------------------------------------------------------------


def by_autograd(net: LipschitzNet, x: Tensor, exact_terms: int, *, each: bool = False) -> tuple[Tensor, Tensor]:
    """The estimate of `log_det_unbiased` from the same draws, whose gradient goes back through all terms."""
    x = x if x.requires_grad else x.detach().requires_grad_()
    weights = log_det_series.roulette(net.lipschitz, exact_terms)
    g = net(x)
    v = power = torch.randn_like(g)
    log_det = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for k, weight in enumerate(weights, 1):
        (power,) = torch.autograd.grad(g, x, power, create_graph=True)
        log_det = log_det - (weight / k) * (power * v).flatten(1).sum(1)
    return g, log_det


def without(net: LipschitzNet, x: Tensor, exact_terms: int, *, each: bool = False) -> tuple[Tensor, Tensor]:
    """g(x) alone: what a residual network that is no flow costs."""
    return net(x), x.new_zeros(len(x))


#: How the log-determinant of a block and its gradient come about.
GRADIENTS = {
    "constant memory": log_det_series.log_det_unbiased,
    "autograd through the series": by_autograd,
    "no log-determinant": without,
}
#: A flow at one resolution, for images of this shape.
BLOCKS = ("flow=resflow_image", "dataset=fashion_mnist", "cif=false", "flow.scales=1", "flow.dense=0")
SMALL = ("flow.hidden=[64,64]", "trainer.batch_size=16")
IMAGE = (1, 28, 28)


def block_step(blocks: int, gradient: str, overrides: Sequence[str]) -> Callable[[int], float]:
    """A training step of a flow of so many blocks, whose draws an integer determines; it returns the loss."""
    config = configure([*BLOCKS, *SMALL, *overrides, f"flow.depth={blocks}"])
    fabric = launch(config.device)
    x = torch.randn(config.trainer.batch_size, *IMAGE, generator=torch.Generator().manual_seed(0))
    update = Update(build_model(config, IMAGE), config, fabric, Loader.of_tensor(x, fabric.device))
    rows = torch.arange(len(x))

    def step(seed: int) -> float:
        torch.manual_seed(seed)
        with patch.object(residual, "log_det_unbiased", GRADIENTS[gradient]):
            return update(rows, config.optimizer.lr).loss.item()

    step(0)  # sets up normalisation and optimiser
    return step


def block_memory(case: tuple[int, str, int, Sequence[str]]) -> tuple[float, list[float]]:
    """Peak bytes of a step, median over `repeats` draws, and the losses."""
    blocks, gradient, repeats, overrides = case
    step = block_step(blocks, gradient, overrides)
    device = launch(configure(overrides).device).device
    losses: list[float] = []

    def run(seed: int) -> None:
        losses.append(step(seed))

    peaks = [peak_memory(partial(run, seed), device) for seed in range(1, repeats + 1)]
    return statistics.median(peaks), losses


def block_time(case: tuple[int, int, Sequence[str]]) -> list[float]:
    """Seconds a step with each gradient, medians over `repeats` draws that are the same for all, in alternation."""
    blocks, repeats, overrides = case
    steps = [block_step(blocks, gradient, overrides) for gradient in GRADIENTS]
    seconds = [
        [Timer("step(seed)", globals={"step": step, "seed": seed}).timeit(1).median for step in steps]
        for seed in range(1, repeats + 1)
    ]
    return [statistics.median(column) for column in zip(*seconds, strict=True)]


def by_blocks(counts: Sequence[int], repeats: int, overrides: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Memory and time of a training step for each number of blocks and gradient; each memory in its own process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["cifrun.figures.style", "cifrun.training.step"]
    )  # imported once; no process has run anything yet
    with context.Pool(1, maxtasksperchild=1) as pool:
        for blocks in counts:
            cases = [(blocks, gradient, repeats, overrides) for gradient in GRADIENTS]
            memory = list(pool.imap(block_memory, cases))
            seconds = pool.apply(block_time, ((blocks, repeats, overrides),))
            for gradient, (peak, losses), median in zip(GRADIENTS, memory, seconds, strict=True):
                yield {"blocks": blocks, "gradient": gradient, "peak_bytes": peak, "seconds": median, "losses": losses}


def show_blocks(results: Sequence[dict[str, Any]]) -> str:
    """A row for each number of blocks."""
    found = {(r["blocks"], r["gradient"]): r for r in results}
    rows = []
    for blocks in dict.fromkeys(r["blocks"] for r in results):
        each = [found[blocks, gradient] for gradient in GRADIENTS]
        numbers = [f"{r['peak_bytes'] / 2**20:.1f}" for r in each] + [f"{r['seconds'] * 1e3:.0f}" for r in each]
        rows.append([str(blocks), *numbers])
    header = [f"{unit}, {gradient}" for unit in ("MiB", "ms") for gradient in GRADIENTS]
    return table(rows, ["blocks", *header], "r" * (1 + len(header)))


def draw_blocks(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Memory and time against the number of blocks: a line for each gradient."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, key, unit, label in (
        (left, "peak_bytes", 2**20, "peak memory of a training step, MiB"),
        (right, "seconds", 1, "time of a training step, s"),
    ):
        for gradient, color in zip(GRADIENTS, COLORS, strict=False):
            x, y = zip(*((r["blocks"], r[key] / unit) for r in results if r["gradient"] == gradient), strict=True)
            style = "--" if GRADIENTS[gradient] is without else "-"
            axes.plot(x, y, style, marker="o", markersize=4, linewidth=1.5, color=color, label=gradient)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xticks(sorted({r["blocks"] for r in results}))
        axes.set_xlabel("residual blocks")
        axes.set_ylabel(label)
        axes.grid(True, which="major", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=9)
    save(figure, path)


def _arguments() -> argparse.Namespace:
    summary, _, _ = (__doc__ or "").partition("\n\n`--against")
    parser = argparse.ArgumentParser(description=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", default=FLOWS, help="comma-separated")
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated: %(default)s")
    parser.add_argument("--sides", default="plain,cif", help="comma-separated: %(default)s")
    parser.add_argument("--repeats", type=int, default=11, help="timed calls of each case (%(default)s)")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32")
    parser.add_argument("--compile", action="store_true", help="device.compile=true for training steps")
    parser.add_argument("--data", type=int, default=1000, help="data of an evaluation (%(default)s)")
    parser.add_argument("--importance-samples", type=int, default=20, help="m of an evaluation (%(default)s)")
    parser.add_argument("--samples", type=int, default=10_000, help="samples of a sampling call (%(default)s)")
    parser.add_argument("--against", metavar="MODULE:FUNCTION", help="another implementation, see above")
    parser.add_argument("--curves", action="store_true", help="cost curves instead of the table")
    parser.add_argument("--blocks", help="comma-separated: a residual flow of images with so many blocks, instead")
    parser.add_argument("--output", type=Path, default=Path("outputs/bench"), help="(%(default)s)")
    parser.add_argument("overrides", nargs="*", help="for the config of every case, as for cifrun train")
    return parser.parse_args()


def _other(name: str | None) -> Callable[[dict[str, Any]], Any] | None:
    if name is None:
        return None
    module, _, function = name.partition(":")
    sys.path.insert(0, os.getcwd())
    return getattr(importlib.import_module(module), function)


def main() -> None:
    arguments = _arguments()
    device = torch.device("cuda" if arguments.device == "gpu" else "cpu")
    flows = arguments.flows.split(",")
    overrides = [f"device={arguments.device}", f"device.precision={arguments.precision}"]
    overrides += [f"device.compile={str(arguments.compile).lower()}", *arguments.overrides]
    machine = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.curves:
        lines = []
        for line in curves([f for f in flows if f in CURVE_FLOWS], arguments.repeats, arguments.device):
            print(line["curve"], line["flow"], " ".join(f"{v}: {ms:.2f} ms" for v, ms in line["points"]), flush=True)
            lines.append(line)
            (arguments.output / "curves.json").write_text(json.dumps({"machine": machine, "curves": lines}, indent=1))
        draw(lines, arguments.output / "curves.png")
        print(f"picture: {arguments.output / 'curves.png'}")
        return
    if arguments.blocks:
        results = list(by_blocks([int(n) for n in arguments.blocks.split(",")], arguments.repeats, overrides))
        (arguments.output / "blocks.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1))
        draw_blocks(results, arguments.output / "blocks.png")
        print(show_blocks(results))
        print(f"picture: {arguments.output / 'blocks.png'}")
        return
    rate = gemm_rate(device, 2048)
    machine["gflops"] = rate / 1e9
    build, results = _other(arguments.against), []
    for task in arguments.tasks.split(","):
        for flow in flows:
            for cif in (side == "cif" for side in arguments.sides.split(",")):
                sizes = {"data": arguments.data, "importance_samples": arguments.importance_samples}
                case = Case(flow, cif, task, samples=arguments.samples, overrides=tuple(overrides), **sizes)
                try:
                    case.config(), ours(case)
                except ConfigError:
                    continue  # made of its index: it has no plain side
                results.append(measure(case, arguments.repeats, rate, build))
                print(show(results[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    (arguments.output / "bench.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1))
    print(f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}")
    print(f"products, fp32: {rate / 1e9:.0f} GFLOP/s")
    print(show(results))


if __name__ == "__main__":
    main()
