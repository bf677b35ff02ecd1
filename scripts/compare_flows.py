"""Trains every base flow, plain and indexed, on two targets in the plane, and writes docs/flows.md and docs/flows.json.

    python scripts/compare_flows.py --steps 1000 --seeds 1 2 3 --jobs 2 --output outputs/compare_flows

takes about an hour on two cores. Stop it with Ctrl-C and give the same command to go on: runs that are complete are
skipped and others continued. `--flows maf,sos` and `--targets two_uniforms` restrict what is trained, `--table-only`
writes the documents anew; they hold whatever is in the output directory, also of earlier calls.

A run is one `cifrun train` with one thread, in OUTPUT/TARGET/FLOW/SIDE/seedK, and what it printed in seedK.log there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifrun.errors import CifrunError
from cifrun.registry import DATASETS
from cifrun.run import RunDirectory
from cifrun.table import with_error
from cifrun.tracking import METRICS, read_metrics

TARGETS = ("two_uniforms", "checkerboard")


@dataclass(frozen=True, eq=False)
class Family:
    """A base flow and the sides of its comparison."""

    name: str
    preset: str  # overrides of all sides
    ms: dict[str, float]  # the sides, and milliseconds a training step (one thread): plain, cif, larger
    seconds: float = 1  # what the test and the pictures of the CIF take, for the estimate
    share: float = 1  # of --steps, for all sides; less where a step is dear
    larger: str = ""  # overrides that give the plain flow about as many parameters as the CIF has
    note: str = ""  # on the sizes, for the document

    def overrides(self, side: str) -> list[str]:
        return [*self.preset.split(), f"cif={str(side == 'cif').lower()}", *(self.larger.split() * (side == "larger"))]

    def steps(self, steps: int) -> int:
        return max(1, round(self.share * steps))


FAMILIES = [
    Family(
        "realnvp",
        "experiment=two_d_realnvp",
        {"plain": 1.5, "cif": 3.1, "larger": 3.6},
        larger="flow.depth=5",
        note="published with a single coupling, which leaves one coordinate as it is; the larger plain flow has 5",
    ),
    Family(
        "maf",
        "experiment=two_d_maf",
        {"plain": 37, "cif": 40},
        seconds=6,
        note="20 plain steps against 5 indexed ones: the plain flow is the larger one",
    ),
    Family("nsf_ar", "experiment=two_d_nsf_ar", {"plain": 100, "cif": 107}, seconds=20, share=0.5),
    Family(
        "nsf_coupling",
        "experiment=two_d_nsf_coupling",
        {"plain": 47, "cif": 50},
        seconds=11,
        share=0.5,
        note="not among the published models; smaller networks than nsf_ar",
    ),
    Family(
        "sos",
        "experiment=two_d_sos",
        {"plain": 5.7, "cif": 11.3, "larger": 7.3},
        seconds=2,
        larger="flow.hidden=[88,88]",
        note="3 plain steps against 2 indexed ones; the larger plain flow has wider networks, as 12 steps of its "
        "polynomials, which would be as many parameters, overflow at the start of training",
    ),
    Family(
        "planar",
        "experiment=two_d_planar",
        {"plain": 3.4, "cif": 46, "larger": 27},
        seconds=9,
        larger="flow.depth=100",
        note="10 maps; the larger plain flow has 100, since as many parameters as the CIF has would be 16 500 maps",
    ),
    Family("bnaf", "experiment=two_d_bnaf", {"plain": 13, "cif": 13}),
    Family(
        "cnf",
        "experiment=two_d_cnf",
        {"plain": 54, "cif": 66, "larger": 68},  # 1.5 times what the first steps take: the equation stiffens
        share=0.5,
        larger="flow.hidden=[76,76,76]",
        note="the index acts where the equation ends; the larger plain flow has networks of [76]×3",
    ),
    Family(
        "affine",
        "experiment=two_d_affine",
        {"plain": 1.6, "cif": 14},
        seconds=3,
        note="no plain flow of any size is larger: affine maps compose to one affine map, so it is always a Gaussian",
    ),
    Family("resflow", "experiment=two_d_resflow", {"plain": 150, "cif": 180}, seconds=30, share=0.4),
    Family("vae", "experiment=two_d_vae", {"cif": 2.9}, note="made of its index: no plain side"),
    Family("dlgm", "experiment=two_d_dlgm", {"cif": 12}, seconds=3, note="made of its indices: no plain side"),
]

STARTUP = 4  # seconds a run spends before its first step and on the pictures of a plain flow


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Job:
    """One run: a side of a family on a target, with a seed."""

    family: Family
    target: str
    side: str
    seed: int
    steps: int
    output: Path

    def __str__(self) -> str:
        return f"{self.target} {self.family.name} {self.side} seed {self.seed}"

    @property
    def path(self) -> Path:
        return self.output / self.target / self.family.name / self.side / f"seed{self.seed}"

    @property
    def log(self) -> Path:
        return self.path.with_suffix(".log")

    @property
    def resumable(self) -> bool:
        run = RunDirectory(self.path)
        return run.checkpoint_path("latest").is_file() and (run.path / "config.yaml").is_file()

    @property
    def done(self) -> bool:
        """Whether it is complete. Raises `CifrunError` if the directory holds a run of another length."""
        if not self.resumable:
            return False
        run = RunDirectory(self.path)
        if (steps := run.config().trainer.max_steps) != self.steps:
            raise CifrunError(f"{self.path} is a run of {steps} steps, not {self.steps}: choose another --output")
        return run.summary().get("status") == "completed"

    def seconds(self) -> float:
        """About how long it takes."""
        return STARTUP + self.steps * self.family.ms[self.side] / 1000 + self.family.seconds * (self.side == "cif")

    def start(self) -> subprocess.Popen[bytes]:
        fresh = [
            *self.family.overrides(self.side),
            f"dataset={self.target}",
            f"seed={self.seed}",
            f"dataset.seed={self.seed}",
            f"trainer.max_steps={self.steps}",
            "trainer.valid_every=200",
            "trainer.plot_every=0",
            "trainer.progress=false",
            "eval.importance_samples=100",
            "device=cpu",
            f"hydra.run.dir='{self.path}'",
        ]
        words = [f"resume={self.path}"] if self.resumable else fresh
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "cifrun", "train", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # a Ctrl-C reaches this process alone, which passes it on
            )


def train(jobs: Sequence[Job], at_once: int) -> bool:
    """Run all that are not done, the longest first; whether every one came to its end."""
    waiting = sorted((job for job in jobs if not job.done), key=Job.seconds, reverse=True)
    minutes = sum(map(Job.seconds, waiting)) / at_once / 60
    print(f"{len(jobs)} runs, {len(jobs) - len(waiting)} done; the others take about {minutes:.0f} minutes", flush=True)
    running: dict[Job, tuple[subprocess.Popen[bytes], float]] = {}
    total, finished, failed = len(waiting), 0, 0
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                running[job] = job.start(), time.monotonic()
            time.sleep(0.2)
            for job, (process, began) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[job]
                finished += 1
                failed += process.returncode != 0
                print(f"[{finished}/{total}] {job}: {_end(job, process)}, {time.monotonic() - began:.0f} s", flush=True)
    except KeyboardInterrupt:
        print("stopping: each run saves where it stands", file=sys.stderr)
        raise
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()
    return not failed


def _end(job: Job, process: subprocess.Popen[bytes]) -> str:
    """How a run ended: its test log-likelihood, or the last line that it printed."""
    if process.returncode == 0:
        return with_error(*_test(RunDirectory(job.path).summary()))
    lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()
    return f"failed: {lines[-1] if lines else f'exit code {process.returncode}'}"


# --- the table --------------------------------------------------------------------------------------------------------


def _test(summary: dict[str, Any]) -> tuple[float, float]:
    """Test log-likelihood and its standard error over the test points; summary.json has null for not finite."""
    return tuple(math.nan if (x := summary["test"][k]) is None else x for k in ("log_likelihood", "log_likelihood_se"))


class Side:
    """The runs there are of one side of a family on one target, by seed."""

    def __init__(self, directory: Path) -> None:
        runs = {int(path.name.removeprefix("seed")): RunDirectory(path) for path in directory.glob("seed*/")}
        summaries = {seed: runs[seed].summary() for seed in sorted(runs)}
        self.done = {seed: s for seed, s in summaries.items() if s.get("status") == "completed"}
        self.missing = {seed: s for seed, s in summaries.items() if seed not in self.done}
        self.values = {seed: _test(s)[0] for seed, s in self.done.items()}
        self.parameters = next((s["parameters"] for s in self.done.values()), None)
        self.steps = sorted({s["steps"] for s in self.done.values()})
        times = [row.get("train/step_seconds") for seed in self.done for row in read_metrics(runs[seed].path / METRICS)]
        self.step_seconds = statistics.median([t for t in times if t is not None] or [math.nan])
        self.configs = [runs[seed].config() for seed in self.done]

    def cell(self, best: bool = False) -> str:
        """`−1.463 ± 0.002`, and how many seeds there are if some are missing."""
        if not self.values:
            return "failed" if self.missing else "–"
        text = with_error(*_mean(self.values.values()))
        seeds = f" ({len(self.done)} of {len(self.done) + len(self.missing)} seeds)" if self.missing else ""
        return (f"**{text}**" if best else text) + seeds

    def json(self) -> dict[str, Any] | None:
        if not self.done:
            return None
        mean, se = _mean(self.values.values())
        return {
            "parameters": self.parameters,
            "seconds_a_step": self.step_seconds,
            "log_likelihood": mean,
            "log_likelihood_se": se,
            "seeds": self.values,
            "not_completed": {seed: summary.get("status", "not started") for seed, summary in self.missing.items()},
        }


class Row:
    """A plain flow, published or larger, and the CIF: what one row of the table compares."""

    def __init__(self, family: Family, target: str, against: str, output: Path) -> None:
        self.family, self.target, self.against = family, target, against
        self.plain, self.cif = (Side(output / target / family.name / side) for side in (against, "cif"))
        shared = sorted(self.plain.values.keys() & self.cif.values.keys())
        # A seed's data are the same for both sides: the difference is taken seed by seed.
        self.difference, self.se = _mean([self.cif.values[seed] - self.plain.values[seed] for seed in shared])
        self.verdict = "–"
        if self.se is not None:
            names = ("CIF", "plain") if against == "plain" else ("CIF", "larger plain")
            clear = abs(self.difference) > 2 * self.se
            self.verdict = names[self.difference < 0] if clear else "within the error"

    @property
    def name(self) -> str:
        return self.family.name + (f", larger plain: `{self.family.larger}`" if self.against == "larger" else "")

    def cells(self) -> list[str]:
        sides = (self.plain, self.cif)
        return [
            self.name,
            " / ".join("–" if side.parameters is None else f"{side.parameters:,}".replace(",", " ") for side in sides),
            ", ".join(str(steps) for steps in sorted({*self.plain.steps, *self.cif.steps})) or "–",
            " / ".join("–" if math.isnan(t := side.step_seconds) else f"{1000 * t:.3g}" for side in sides),
            self.plain.cell(best=self.verdict.endswith("plain")),
            self.cif.cell(best=self.verdict == "CIF"),
            "–" if math.isnan(self.difference) else with_error(self.difference, self.se),
            self.verdict,
        ]

    def json(self) -> dict[str, Any]:
        return {
            "flow": self.family.name,
            "target": self.target,
            "against": self.against,
            "steps": sorted({*self.plain.steps, *self.cif.steps}),
            "plain": self.plain.json(),
            "cif": self.cif.json(),
            "difference": self.difference,
            "difference_se": self.se,
            "ahead": self.verdict,
        }


def _mean(values: Iterator[float] | Sequence[float]) -> tuple[float, float | None]:
    """Mean and its standard error; (nan, None) of nothing, and no error of one value."""
    values = list(values)
    se = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return (statistics.fmean(values) if values else math.nan), se


def rows_of(target: str, output: Path) -> list[Row]:
    """A row for each plain side of each family; those of which there is nothing yet are left out."""
    against = [(f, side) for f in FAMILIES for side in ("plain", "larger") if side == "plain" or f.larger]
    rows = [Row(family, target, side, output) for family, side in against]
    return [row for row in rows if any((row.plain.done, row.plain.missing, row.cif.done, row.cif.missing))]


def truth_of(target: str) -> float:
    """Mean log-density of a target's own test points: what no model can beat but by chance."""
    data = DATASETS[target](name=target).load()
    return data.target.log_prob(data.test.double()).mean().item()


def sentence(target: str, rows: Sequence[Row]) -> str:
    """Who is ahead on a target, in words."""

    def count(against: str, other: str) -> str:
        judged = [row for row in rows if row.against == against and row.verdict != "–"]
        ahead = [row for row in judged if row.verdict == "CIF"]
        rest = [f"{row.family.name} ({_reason(row.verdict)})" for row in judged if row not in ahead]
        text = f"ahead of {other} on {len(ahead)} of {len(judged)} families"
        return text + (f"; not on {', '.join(rest)}" if rest else "")

    if all(row.verdict == "–" for row in rows):
        return "It takes two seeds or more to say who is ahead."
    plain = count("plain", "the plain flow of the published size")
    return f"On {target} the CIF is {plain}. It is {count('larger', 'the larger plain flow')}."


def _reason(verdict: str) -> str:
    return verdict if verdict == "within the error" else f"{verdict} is ahead"


def settings(sides: Sequence[Side]) -> dict[str, Any]:
    """What the runs have in common, read from them."""
    done = [summary for side in sides for summary in side.done.values()]
    configs = [config for side in sides for config in side.configs]
    return {
        "importance_samples": sorted({s["test"]["importance_samples"] for s in done if s["cif"]}),
        "batch_size": sorted({config.trainer.batch_size for config in configs}),
        "seeds": sorted({s["seed"] for s in done}),
        "steps": sorted({s["steps"] for s in done}),
        "train_points": sorted({config.dataset.num_train for config in configs}),
        "test_points": sorted({s["test"]["num_data"] for s in done}),
        "threads_a_run": [1],
        "torch": sorted({s["versions"]["torch"] for s in done}),
        "cifrun": sorted({s["versions"]["cifrun"] for s in done}),
    }


INTRO = """# Every base flow, plain and indexed

Test log-likelihood in nats per datum: exact for a plain flow, IWAE_m for a CIF, which is a lower bound in expectation.
± is the standard error over seeds; each seed has its own data, initial weights and order, the same data for both sides,
so that the difference is taken seed by seed. **Bold** is ahead by more than two standard errors of the difference: a
rule of thumb, as an error estimated from few seeds is itself uncertain. Both sides of a row take the same number of
steps, each at its published setting; where the CIF then has over 2 % more parameters, a second row compares it with a
larger plain flow. Two numbers with a stroke between them are those of the plain flow and of the CIF.
"""

HEADER = ["flow", "parameters", "steps", "ms a step", "plain", "CIF", "CIF − plain", "ahead"]


def markdown(rows: dict[str, list[Row]], common: dict[str, Any]) -> str:
    """The document."""
    parts = [INTRO]
    for target, of_target in rows.items():
        lines = [HEADER, ["---", *["---:"] * 6, "---"], *(row.cells() for row in of_target)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        truth = with_error(truth_of(target), None)
        parts.append(f"## {target} (truth: {truth})\n\n{table}\n\n{sentence(target, of_target)}\n")
    if missing := sorted({line for of_target in rows.values() for row in of_target for line in _missing(row)}):
        parts.append("## Not completed\n\n" + "\n".join(missing) + "\n")
    notes = "\n".join(f"- {family.name}: {family.note}." for family in FAMILIES if family.note)
    parts.append(f"## Sizes\n\n{notes}\n")
    said = {key: ", ".join(map(str, values)) for key, values in common.items()}
    parts.append(
        "## Settings\n\n"
        f"The presets `experiment=two_d_FLOW`, batches of {said['batch_size']} out of {said['train_points']} training "
        f"points, {said['test_points']} test points, m = {said['importance_samples']}, seeds {said['seeds']}; "
        f"{said['steps'].replace(', ', ' or ')} steps. The weights with the best validation of every 200 steps are "
        f"tested. On CPU cores, one thread a run; torch {said['torch']}. Milliseconds a step are medians, taken while "
        "other runs were going on. "
        "A residual flow and a continuous flow take fewer steps than the others, since a step of theirs is dear: "
        "compare sides, rather than flows.\n\n"
        "To repeat it:\n\n```bash\npython scripts/compare_flows.py\n```\n\n"
        "[flows.json](flows.json) has each seed.\n"
    )
    return "\n".join(parts)


def _missing(row: Row) -> Iterator[str]:
    for name, side in ((row.against, row.plain), ("cif", row.cif)):
        for seed, summary in side.missing.items():
            how = f"{summary.get('status', 'not started')} at step {summary.get('steps', 0)}"
            yield f"- {row.family.name}, {name}, {row.target}, seed {seed}: {how}"


def finite(value: Any) -> Any:
    """JSON has no NaN or infinity: they become null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(output: Path, docs: Path) -> None:
    """`flows.md` and `flows.json` from what the output directory holds."""
    rows = {target: found for target in TARGETS if (found := rows_of(target, output))}
    every = [row for of_target in rows.values() for row in of_target]
    if not any(row.cif.done or row.plain.done for row in every):
        raise CifrunError(f"there is no completed run in {output}")
    common = settings([side for row in every for side in (row.plain, row.cif)])
    data = {"settings": common, "truth": {t: truth_of(t) for t in rows}, "rows": [row.json() for row in every]}
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "flows.md").write_text(markdown(rows, common), encoding="utf-8")
    text = json.dumps(finite(data), indent=1, ensure_ascii=False, allow_nan=False)
    (docs / "flows.json").write_text(text + "\n", encoding="utf-8")
    print(f"wrote {docs / 'flows.md'} and {docs / 'flows.json'}")


# --- the command line -------------------------------------------------------------------------------------------------


def names(choices: Sequence[str]) -> Any:
    """A parser of comma-separated names."""

    def parse(text: str) -> list[str]:
        if unknown := [name for name in text.split(",") if name not in choices]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(choices)}")
        return text.split(",")

    return parse


def main() -> int:
    flows = [family.name for family in FAMILIES]
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--steps", type=int, default=1000, help="steps of a run; half for the dear ones (1000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="(1 2 3)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, each with one thread (2)")
    parser.add_argument("--output", type=Path, default=Path("outputs/compare_flows"), help="where the runs go")
    parser.add_argument("--docs", type=Path, default=Path(__file__).resolve().parents[1] / "docs", help="(docs)")
    parser.add_argument("--flows", type=names(flows), default=flows, help="comma-separated (all)")
    parser.add_argument("--targets", type=names(TARGETS), default=TARGETS, help="comma-separated (all)")
    parser.add_argument("--table-only", action="store_true", help="train nothing")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the runs end with this process in any case
    output = options.output.resolve()
    jobs = [
        Job(family, target, side, seed, family.steps(options.steps), output)
        for family in FAMILIES
        for target in options.targets
        for side in family.ms
        for seed in dict.fromkeys(options.seeds)
        if family.name in options.flows
    ]
    try:
        complete = options.table_only or train(jobs, max(1, options.jobs))
        write(output, options.docs)
    except CifrunError as error:
        print(f"compare_flows: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
