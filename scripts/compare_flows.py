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
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen

from cifrun.errors import CifrunError
from cifrun.io.text import with_error
from cifrun.registry import DATASETS
from cifrun.reporting.significance import beyond_chance, mean_over_seeds
from cifrun.runs.directory import RunDirectory
from cifrun.runs.records import METRICS, read_metrics

TARGETS = ("two_uniforms", "checkerboard")
#: What all runs are given beside their presets; DOCUMENT says it in words.
SETTINGS = (
    "dataset.num_train=10000 dataset.num_test=5000 trainer.batch_size=1000 trainer.valid_every=200 "
    "trainer.plot_every=0 trainer.progress=false eval.importance_samples=100 device=cpu"
)


@dataclass(frozen=True)
class Family:
    """A base flow, at the settings of its preset `experiment=two_d_NAME`."""

    name: str
    seconds: float  # about what its CIF takes where --steps is 1000, on one thread
    share: float = 1  # of --steps, for all sides; less where a step is costly
    larger: str = ""  # the override that gives the plain flow about as many parameters as the CIF has
    bare: bool = True  # whether there is a flow without its index

    @property
    def opponents(self) -> list[str]:  # what the CIF is compared with
        return ["plain", "larger"] if self.larger else ["plain"]


FAMILIES = [
    Family("realnvp", 7, larger="flow.depth=5"),
    Family("maf", 50),
    Family("nsf_ar", 80, share=0.5),
    Family("nsf_coupling", 40, share=0.5),
    Family("sos", 17, larger="flow.hidden=[88,88]"),
    Family("planar", 60, larger="flow.depth=100"),
    Family("bnaf", 18),
    Family("cnf", 40, share=0.5, larger="flow.hidden=[76,76,76]"),
    Family("affine", 21),
    Family("resflow", 110, share=0.4),
    Family("vae", 8, bare=False),
    Family("dlgm", 19, bare=False),
]


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One run: a side of a family on a target, with a seed."""

    family: Family
    target: str
    side: str
    seed: int
    steps: int
    path: Path

    def __str__(self) -> str:
        return "/".join(self.path.parts[-4:])

    def begun(self) -> bool:
        return RunDirectory(self.path).begun()

    def done(self) -> bool:
        """Whether it is complete. Raises `CifrunError` if the directory holds a run of another length."""
        if self.begun() and (steps := RunDirectory(self.path).config().trainer.max_steps) != self.steps:
            raise CifrunError(f"{self.path} is a run of {steps} steps, not {self.steps}: choose another --output")
        return self.begun() and Run.read(self.path).status == "completed"

    def overrides(self) -> list[str]:
        """What `cifrun train` is told: to go on, or all that the run is."""
        if self.begun():
            return [f"resume={self.path}"]
        preset = f"experiment=two_d_{self.family.name} cif={str(self.side == 'cif').lower()} {SETTINGS}"
        larger = self.family.larger if self.side == "larger" else ""
        own = f"dataset={self.target} dataset.seed={self.seed} seed={self.seed} trainer.max_steps={self.steps}"
        return [*f"{preset} {larger} {own}".split(), f"hydra.run.dir='{self.path}'"]

    def start(self) -> Popen[bytes]:
        command = [sys.executable, "-m", "cifrun", "train", *self.overrides()]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{self.path}.log", "ab") as log:
            # In a session of its own: a Ctrl-C reaches this process alone, which passes it on.
            return Popen(command, stdin=DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True)


def train(jobs: Sequence[Job], at_once: int) -> bool:
    """Run the jobs that are not done, the longest first; whether every one came to its end."""
    waiting = [job for job in jobs if not job.done()]
    waiting.sort(key=lambda job: (job.family.seconds, job.side == "cif"))
    total, minutes = len(waiting), sum(job.steps / job.family.share * job.family.seconds for job in waiting) / 60_000
    print(f"{len(jobs) - total} of {len(jobs)} runs are done; up to {minutes / at_once:.0f} minutes to go", flush=True)
    running: dict[Job, Popen[bytes]] = {}
    codes: list[int] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop()
                running[job] = job.start()
            time.sleep(0.2)
            for job in [job for job, process in running.items() if process.poll() is not None]:
                codes.append(running.pop(job).returncode)
                how = f"failed, see {job.path}.log" if codes[-1] else f"{Run.read(job.path).log_likelihood:.3f} nats"
                print(f"[{len(codes)}/{total}] {job}: {how}", flush=True)
    finally:
        for process in running.values():
            process.terminate()  # it saves where it stands
        for process in running.values():
            process.wait()
    return not any(codes)


# --- what the runs say ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What the documents say of one run; the later fields are those of a completed one."""

    status: str = "not started"
    steps: int = 0
    log_likelihood: float = math.nan  # test, nats
    parameters: int | None = None
    step_seconds: float | None = None  # median
    torch: str | None = None

    @classmethod
    def read(cls, path: Path) -> Run:
        summary = RunDirectory(path).summary()
        if summary.get("status") != "completed":
            return cls(summary.get("status", "not started"), summary.get("steps", 0))
        value = summary["test"]["log_likelihood"]
        seconds = [row["train/step_seconds"] for row in read_metrics(path / METRICS) if "train/step_seconds" in row]
        return cls(
            *("completed", summary["steps"], math.nan if value is None else value, summary["parameters"]),
            *(statistics.median(seconds), summary["versions"]["torch"]),
        )


class Side:
    """The runs of one side of a family on a target, by seed, and their cells of the table."""

    def __init__(self, runs: dict[str, Run], prefix: str) -> None:
        self.runs = {key.removeprefix(prefix): run for key, run in runs.items() if key.startswith(prefix)}
        self.done = {seed: run for seed, run in self.runs.items() if run.status == "completed"}
        self.steps = {run.steps for run in self.done.values()}
        self.parameters = self.ms = self.text = "–"
        if done := list(self.done.values()):
            self.parameters = f"{done[0].parameters:,}".replace(",", " ")
            self.ms = f"{1000 * statistics.median(run.step_seconds or math.nan for run in done):.3g}"
            self.text = with_error(*mean(run.log_likelihood for run in done))
        if len(self.done) < len(self.runs):
            self.text += f" ({len(self.done)} of {len(self.runs)} seeds)"


class Row:
    """A plain flow, published or larger, against the CIF on a target: a row of the table."""

    def __init__(self, runs: dict[str, Run], target: str, flow: str, against: str) -> None:
        self.flow, self.name = flow, "plain" if against == "plain" else "larger plain"
        plain, cif = self.plain, self.cif = [Side(runs, f"{target}/{flow}/{side}/seed") for side in (against, "cif")]
        # A seed's data are the same for both sides, so the difference is taken seed by seed.
        shared = sorted(plain.done.keys() & cif.done.keys())
        self.difference, self.se = mean(cif.done[k].log_likelihood - plain.done[k].log_likelihood for k in shared)
        self.ahead = "–"
        if self.se is not None and not math.isnan(self.difference):
            clear = beyond_chance(self.difference, self.se, len(shared) - 1)
            self.ahead = ("CIF" if self.difference > 0 else self.name) if clear else "neither"

    def __str__(self) -> str:
        plain, cif, name = self.plain, self.cif, self.name
        cells = [
            self.flow if name == "plain" else f"{self.flow}, {name}",
            f"{plain.parameters} / {cif.parameters}",
            ", ".join(map(str, sorted(plain.steps | cif.steps))) or "–",
            f"{plain.ms} / {cif.ms}",
            f"**{plain.text}**" if self.ahead == name else plain.text,
            f"**{cif.text}**" if self.ahead == "CIF" else cif.text,
            "–" if math.isnan(self.difference) else with_error(self.difference, self.se),
            self.ahead,
        ]
        return f"| {' | '.join(cells)} |"


def mean(values: Iterable[float]) -> tuple[float, float | None]:
    """Mean and its standard error: (nan, None) of nothing, and no error of one value."""
    values = list(values)
    return mean_over_seeds(values) if len(values) > 1 else (values[0] if values else math.nan, None)


def verdict(rows: Sequence[Row]) -> str:
    """Who is ahead for which families: a line on the plain flow, and one on the larger plain flow."""
    lines = []
    for name in ("plain", "larger plain"):
        judged = [row for row in rows if row.name == name and row.ahead != "–"]
        parts = []
        for who, words in (("CIF", "the CIF is"), (name, f"the {name} flow is"), ("neither", "neither is")):
            if flows := [row.flow for row in judged if row.ahead == who]:
                parts.append(f"{words} ahead for {len(flows)} ({', '.join(flows)})")
        if parts:
            families = "1 family" if len(judged) == 1 else f"{len(judged)} families"
            lines.append(f"- CIF against {name} flow, {families}: {'; '.join(parts)}.")
    return "\n".join(lines) or "It takes two seeds or more to say who is ahead."


# --- the documents ----------------------------------------------------------------------------------------------------

DOCUMENT = """# Every base flow, plain and indexed

Test log-likelihood in nats per datum, higher is better: exact for a plain flow, IWAE_m for a CIF, a lower bound in
expectation. ± is the standard error over seeds; a number without one has a single seed. Each seed has its own data,
initial weights and order, the same data for both models, so that the difference is taken seed by seed.
**Bold** is ahead by Student's t test of these differences, two-sided at 5 %: of 20 comparisons of equal models, one
comes out bold by chance. Both models of a row take the same number of steps. Where the CIF has over 2 % more
parameters at the published sizes, a second row compares it with a larger plain flow (see Sizes). A / B means
plain / CIF.

{tables}## Sizes

- realnvp is published with a single coupling, which leaves one coordinate as it is; the larger plain flow has 5.
- maf has 20 plain steps against 5 indexed ones: the plain flow is the larger one.
- nsf_coupling is not among the published models; it has smaller networks than nsf_ar.
- sos has 3 plain steps against 2 indexed ones. The larger plain flow has networks of [88]×2: 12 steps of its
  polynomials, which would be as many parameters, overflow at the start of training.
- planar has 10 maps; the larger plain flow has 100, since as many parameters as the CIF has would be 16 500 maps.
- cnf has its index where the equation ends; the larger plain flow has networks of [76]×3.
- affine has no larger plain flow: affine maps compose to one affine map, so it is a Gaussian at any size.
- vae and dlgm are made of their indices: there is no plain model.

## Settings

The presets `experiment=two_d_FLOW` with fewer steps, the data standardised: batches of 1000 out of 10 000 training
points, 5 000 test points, m = 100; seeds {seeds}; torch {torch}. The weights with the best validation of
every 200 steps are tested. Flows whose steps are costly ({costly}) take fewer of them:
compare the models of a row, rather than rows. Milliseconds a step are medians on one CPU thread, taken while other runs
were going on, and say little.

`python scripts/compare_flows.py` repeats it, in about an hour on two cores; [flows.json](flows.json) has each run.
"""

HEADER = """| flow | parameters | steps | ms a step | plain | CIF | CIF − plain | ahead |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"""


def write(output: Path, docs: Path) -> None:
    """`flows.md` and `flows.json` from what the output directory holds."""
    paths = sorted({path.with_suffix("") for path in output.glob("*/*/*/seed*")})  # directories and logs
    runs = {path.relative_to(output).as_posix(): Run.read(path) for path in paths}
    done = {key: run for key, run in runs.items() if run.status == "completed"}
    if not done:
        raise CifrunError(f"there is no completed run in {output}")
    tables, truth = "", {}
    for target in TARGETS:
        rows = [Row(runs, target, family.name, against) for family in FAMILIES for against in family.opponents]
        if rows := [row for row in rows if row.plain.runs or row.cif.runs]:
            data = DATASETS[target](name=target).load()
            truth[target] = data.target.log_prob(data.test[:].double()).mean().item()  # no model beats it but by chance
            table = "\n".join([HEADER, *map(str, rows)])
            tables += f"## {target} (truth: {with_error(truth[target], None)})\n\n{table}\n\n{verdict(rows)}\n\n"
    if missing := [f"- {key}: {run.status} at step {run.steps}\n" for key, run in runs.items() if key not in done]:
        tables += f"## Not completed\n\n{''.join(missing)}\n"
    seeds = ", ".join(sorted({key.rpartition("seed")[2] for key in done}, key=int))
    torch = ", ".join(sorted({str(run.torch) for run in done.values()}))
    costly = ", ".join(family.name for family in FAMILIES if family.share < 1)
    text = DOCUMENT.format(tables=tables, seeds=seeds, torch=torch, costly=costly)
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "flows.md").write_text(text, encoding="utf-8")
    text = json.dumps({"truth": truth, "runs": {key: asdict(run) for key, run in runs.items()}}, indent=1)
    (docs / "flows.json").write_text(text.replace("NaN", "null") + "\n", encoding="utf-8")  # JSON has no NaN
    print(f"wrote {docs / 'flows.md'} and {docs / 'flows.json'}")


def main() -> int:
    flows = [family.name for family in FAMILIES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="steps of a run; fewer for costly flows (1000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="(1 2 3)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, each with one thread (2)")
    parser.add_argument("--output", type=Path, default=Path("outputs/compare_flows"), help="where the runs go")
    parser.add_argument("--docs", type=Path, default=Path(__file__).resolve().parents[1] / "docs", help="(docs)")
    parser.add_argument("--flows", default=",".join(flows), help="comma-separated (all)")
    parser.add_argument("--targets", default=",".join(TARGETS), help="comma-separated (all)")
    parser.add_argument("--table-only", action="store_true", help="train nothing")
    options = parser.parse_args()
    chosen_flows, chosen_targets = options.flows.split(","), options.targets.split(",")
    for chosen, choices in ((chosen_flows, flows), (chosen_targets, TARGETS)):
        if unknown := set(chosen).difference(choices):
            parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(choices)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the runs end with this process in any case
    output = options.output.resolve()
    jobs = [
        Job(family, target, side, seed, max(1, round(family.share * options.steps)), directory / f"seed{seed}")
        for family in FAMILIES
        for target in TARGETS
        for side in (*family.opponents * family.bare, "cif")
        for directory in [output / target / family.name / side]
        for seed in dict.fromkeys(options.seeds)
        if family.name in chosen_flows and target in chosen_targets
    ]
    try:
        complete = options.table_only or train(jobs, max(1, options.jobs))
        write(output, options.docs)
    except CifrunError as error:
        print(f"compare_flows: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
