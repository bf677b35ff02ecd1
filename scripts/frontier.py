"""KL to the truth against seconds of training: flows, plain and indexed, and other estimators; docs/frontier.md.

    python scripts/frontier.py                                                     # all of it takes a day and a half
    python scripts/frontier.py --targets two_moons rings --flows resflow maf --seconds 10 30 --seeds 1

A model is trained once for each number of seconds, since a learning rate's schedule has a length. One training runs at
a time, the models in turn, all on the same data with the same threads. Stop it with Ctrl-C and give the same command to
go on: each result is a line of OUTPUT/results.jsonl, and what has a line is not trained again, also if it failed (take
the line out to try again). The documents hold all lines, also of earlier calls. Words that can't be composed and
functions that aren't there are found before the first training.

A flow is `cifrun train dataset=T flow=F cif=…` at its defaults, or other words than the flow's: `--settings
experiment=plane,base=mixture`. trainer.max_steps is seconds over seconds a step, which the model's last trainings say,
and before the first a short one. A training that took quite another time is repeated once. zuko's NSF and MAF, and
scikit-learn's mixture and kernel density, are built in. `--peer MODULE:FUNCTION` adds any other estimator. The function
has the interface

    f(train, valid, seconds, seed) -> density, or (density, seconds that count)

train and valid are points, (n, 2), float64 numpy; seconds is how long it may train. density takes such points and gives
their log-densities, (n,), in nats. It runs in a process of its own, and finds modules of the current directory.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from frontier_made import TARGETS, Record
from frontier_page import write
from frontier_peers import PEERS, find

from cifrun.cli.hydra_app import configure
from cifrun.config.schema import flow_name
from cifrun.errors import CifrunError
from cifrun.runs.directory import RunDirectory
from cifrun.runs.records import METRICS, read_metrics

FLOWS = ("resflow", "maf", "nsf_coupling", "nsf_ar", "realnvp")
#: What training a flow is told beside the defaults: nothing that its weights depend on.
QUIET = "trainer.plot_every=0 trainer.progress=false diagnostics.enabled=false device=cpu"
#: For the seconds a step before there is a result: those of the last ten steps.
CALIBRATION = "trainer.max_steps=30 trainer.log_every=10 eval.importance_samples=1"
#: How far from its budget a training may end, as a factor; else it is repeated once.
NEAR = 1.25
#: Between two words of --settings: a comma outside of brackets.
BETWEEN = re.compile(r",(?![^\[{(]*[\]})])")
LIBRARIES = ("cifrun", "torch", "numpy", "zuko", "scikit-learn")


# --- what there is to do ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A flow of cifrun, or a peer."""

    name: str  # in tables
    words: tuple[str, ...] = ()  # of `cifrun train`; a peer has none
    cif: bool = False

    @property
    def kind(self) -> str:
        return "peer" if not self.words else "CIF" if self.cif else "plain"


@dataclass(frozen=True)
class Job:
    """One training of a model."""

    model: Model
    target: str
    budget: float  # seconds
    seed: int

    def key(self) -> list[Any]:
        return [self.target, self.model.name, self.budget, self.seed]

    def __str__(self) -> str:
        return f"{self.target}, {self.model.name}, {self.budget:g} s, seed {self.seed}"

    def folder(self) -> str:
        name = self.model.name.replace(" ", "_").replace(":", "-").replace("=", "-")
        return f"{self.target}/{name}/{self.budget:g}s-seed{self.seed}"


def models(flows: Sequence[str], settings: Sequence[str], peers: Sequence[str]) -> list[Model]:
    """Flows and settings, plain and indexed, then peers."""
    both = (False, True)
    ours = [Model(flow_name(flow, cif), (f"flow={flow}",), cif) for flow in flows for cif in both]
    ours += [Model(flow_name(words, cif), tuple(BETWEEN.split(words)), cif) for words in settings for cif in both]
    return [*ours, *map(Model, peers)]


def plan(options: argparse.Namespace) -> list[Job]:
    """All trainings: the models in turn, so that a slow hour hits all; a whole seed before the next."""
    chosen = models(options.flows, options.settings, [*options.peers, *options.peer])
    return [
        Job(model, target, budget, seed)
        for seed in dict.fromkeys(options.seeds)
        for target in dict.fromkeys(options.targets)
        for budget in sorted(set(options.seconds))
        for model in dict.fromkeys(chosen)
    ]


#: What every line of results.jsonl says.
NEEDED = {"target", "model", "kind", "budget", "seed", "threads", "overrides", "cpu", "versions"}


class Results:
    """The lines of results.jsonl. One that was cut off as a process was killed does not count, nor any other text."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and record.keys() >= NEEDED:
                self.records.append(record)

    def keys(self) -> list[list[Any]]:
        return [[r["target"], r["model"], r["budget"], r["seed"]] for r in self.records]

    def append(self, record: Record) -> None:
        """One line, in one write, on the disk when this returns; it never continues half a line."""
        cut = self.path.exists() and not self.path.read_bytes().endswith(b"\n") and self.path.stat().st_size > 0
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write("\n" * cut + json.dumps(record) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.records.append(record)

    def seconds_a_step(self, model: str) -> float | None:
        """Of a model's last trainings, validation included; None if there is none."""
        last = [r for r in self.records if r["model"] == model and r.get("steps")][-3:]
        return sum(r["seconds"] for r in last) / sum(r["steps"] for r in last) if last else None


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """Where and how all trainings are run."""

    output: Path
    threads: int
    overrides: Sequence[str]

    def run(self, command: Sequence[str], folder: Path, budget: float) -> None:
        """Run a command that makes a fresh folder. Raises `CifrunError` with one line that says why it failed."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        log, patience = Path(f"{folder}.log"), 1800 + 20 * budget
        env = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads))}
        with open(log, "wb") as stream:
            # In a session of its own: a Ctrl-C reaches this process alone, which ends the other.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=env, start_new_session=True
            )
            try:
                code = process.wait(patience)
            except subprocess.TimeoutExpired:
                raise CifrunError(f"no end after {patience:.0f} s") from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # what it started too
                    process.wait()
        if code < 0:
            raise CifrunError(f"ended by signal {-code}")
        if code:
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
            said = next((line.strip() for line in reversed(lines) if line.strip()), "")
            raise CifrunError(said[:200] or f"exit code {code}")

    def data(self, job: Job) -> list[str]:
        """The overrides that name a job's data."""
        return [f"dataset={job.target}", f"dataset.seed={job.seed}", *self.overrides]

    def train(self, job: Job, *more: str, folder: str) -> dict[str, Any]:
        """Train a flow; its summary."""
        path, model = self.output / "runs" / folder, job.model
        words = [*self.data(job), *model.words, f"cif={str(model.cif).lower()}", f"seed={job.seed}"]
        command = [sys.executable, "-m", "cifrun", "train", *words, *QUIET.split(), *more, f"hydra.run.dir='{path}'"]
        self.run(command, path, job.budget)
        return RunDirectory(path).summary()

    def flow(self, job: Job, step_seconds: float | None) -> Record:
        if step_seconds is None:
            path = f"calibration/{Path(job.folder()).parent.name}"
            self.train(job, *CALIBRATION.split(), folder=path)
            rows = read_metrics(self.output / "runs" / path / METRICS)
            step_seconds = [row["train/step_seconds"] for row in rows if "train/step_seconds" in row][-1]
        for _ in range(2):
            steps = max(1, round(job.budget / step_seconds))
            summary = self.train(job, f"trainer.max_steps={steps}", folder=job.folder())
            step_seconds = summary["wall_seconds"] / summary["steps"]
            if 1 / NEAR < steps * step_seconds / job.budget < NEAR:
                break
        test = summary["test"]
        result = {"kl": test["kl_to_truth"], "log_likelihood": test["log_likelihood"]}
        return result | {"seconds": summary["wall_seconds"], "steps": summary["steps"]}

    def peer(self, job: Job) -> Record:
        folder = self.output / "runs" / job.folder()
        file = Path(f"{folder}.json")
        script = str(Path(__file__).with_name("frontier_peers.py"))
        words = [job.model.name, str(job.seed), str(job.budget), str(file), *self.data(job)]
        self.run([sys.executable, script, *words], folder, job.budget)
        return json.loads(file.read_text(encoding="utf-8"))

    def measure(self, job: Job, results: Results) -> Record:
        """What a job gives, or why it gives nothing."""
        try:
            found = self.flow(job, results.seconds_a_step(job.model.name)) if job.model.words else self.peer(job)
            if not all(isinstance(found[key], float) and math.isfinite(found[key]) for key in ("kl", "seconds")):
                raise CifrunError("the log-likelihood of the test data is not finite")
        except (CifrunError, OSError, LookupError, ValueError) as error:
            found = {"error": " ".join(str(error).split()) or type(error).__name__}
        names = {"target": job.target, "model": job.model.name, "kind": job.model.kind}
        return names | {"budget": job.budget, "seed": job.seed} | found | self.conditions()

    def conditions(self) -> Record:
        """What a result was made with."""
        versions = {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
        return {"threads": self.threads, "overrides": list(self.overrides), "cpu": processor(), "versions": versions}

    def check(self, results: Results) -> None:
        """Raises `CifrunError` if there are results that were made otherwise."""
        for record in results.records:
            if record["threads"] != self.threads or record["overrides"] != list(self.overrides):
                made = " ".join([f"--threads {record['threads']}", *record["overrides"]])
                raise CifrunError(f"{results.path} holds results of {made}: choose another --output")


def processor() -> str:
    """What the machine calls its CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def check(bench: Bench, jobs: Sequence[Job]) -> None:
    """Raises `CifrunError` for a model that can't be trained: words that do not compose, a peer that isn't there."""
    for job in {(job.model, job.target): job for job in jobs}.values():
        if job.model.words:
            configure([*bench.data(job), *job.model.words, f"cif={str(job.model.cif).lower()}"])
    for name in {job.model.name for job in jobs if not job.model.words}:
        find(name)


def work(bench: Bench, jobs: Sequence[Job], results: Results) -> int:
    """Do what has no result; how many trainings failed."""
    done = results.keys()
    left = [job for job in jobs if job.key() not in done]
    hours = sum(job.budget for job in left) / 3600
    failed = 0
    print(f"{len(jobs) - len(left)} of {len(jobs)} trainings are done; over {hours:.1f} hours to go", flush=True)
    for number, job in enumerate(left, 1):
        record = bench.measure(job, results)
        results.append(record)
        said = (
            f"failed: {record['error']}" if "error" in record else f"KL {record['kl']:.4f}, {record['seconds']:.1f} s"
        )
        failed += "error" in record
        print(f"[{number}/{len(left)}] {job}: {said}", flush=True)
    return failed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--targets", nargs="+", default=TARGETS, choices=TARGETS, metavar="T", help="(all fourteen)")
    add("--flows", nargs="*", default=FLOWS, metavar="F", help=f"({' '.join(FLOWS)})")
    add("--settings", nargs="*", default=[], metavar="KEY=VALUE,…", help="of other models of cifrun, plain and indexed")
    add("--peers", nargs="*", default=list(PEERS), choices=list(PEERS), help="those built in to compare with (all)")
    add(
        "--peer", action="append", default=[], metavar="MODULE:FUNCTION", help="another one, see above; may be repeated"
    )
    add("--seconds", type=float, nargs="+", default=[10, 30, 60, 120], metavar="S", help="(10 30 60 120)")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="K", help="of data and weights (1 2 3)")
    add("--threads", type=int, default=2, help="of each training (2)")
    add("--overrides", nargs="*", default=[], metavar="KEY=VALUE", help="of the data, as dataset.num_train=1000")
    add("--output", type=Path, default=Path("outputs/frontier"), help="where results and runs go (%(default)s)")
    add("--note", default="", metavar="SENTENCE", help="what else the page should say of how it was made (nothing)")
    add("--docs", type=Path, default=Path(__file__).resolve().parents[1] / "docs", help="(docs)")
    add("--table-only", action="store_true", help="train nothing")
    options = parser.parse_args()
    if not all(0 < seconds < math.inf for seconds in options.seconds) or options.threads < 1:
        parser.error("seconds and threads are numbers above 0")
    if wrong := [name for name in options.peer if not all(name.partition(":"))]:
        parser.error(f"--peer {wrong[0]}: it is MODULE:FUNCTION")
    return options


def main() -> int:
    options = arguments()
    bench = Bench(options.output.resolve(), options.threads, options.overrides)
    failed = 0
    try:
        results = Results(bench.output / "results.jsonl")
        if not options.table_only:
            bench.check(results)
            check(bench, plan(options))
            failed = work(bench, plan(options), results)
        print(f"wrote {write(results.records, options.docs, options.note)}")
    except (CifrunError, OSError) as error:
        print(f"frontier: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    if failed:
        print(f"frontier: trainings that failed: {failed}; the page says why", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
