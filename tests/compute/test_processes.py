"""Several processes as one: the same updates, the same estimates, one set of records, and a stop that all obey."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from cifrun.bijections.cnf import solve_ode
from cifrun.build import build_data, build_model, build_standardize
from cifrun.cli.hydra_app import configure
from cifrun.cli.main import main
from cifrun.compute import processes, rng
from cifrun.compute.device import launch, spread
from cifrun.config.schema import DeviceConfig
from cifrun.data.loader import Loader
from cifrun.data.order.batches import Batches
from cifrun.errors import ConfigError, TrainingError
from cifrun.evaluation.evaluate import estimate_split
from cifrun.runs.directory import RunDirectory
from cifrun.training.loop import _train
from cifrun.training.step import Update
from tests.forks import HANG, Forked, forking
from tests.helpers import ROOT, after_steps, plain_main, without_pictures

CPU = [
    "device=cpu",
    "optimizer=adam",  # which does not make more of rounding, and whose rate does not depend on the length of the run
    "dataset.num_train=300",
    "dataset.num_valid=50",
    "dataset.num_test=70",
    "diagnostics.enabled=false",
]

#: What an update could do differently when it is shared: draws of each kind, moments of the batch, objectives.
UPDATES = {
    "maf": ["flow=maf", "flow.depth=2", "flow.hidden=[8]"],
    "iwae": ["flow=planar", "flow.depth=3", "objective=iwae", "objective.importance_samples=3"],
    "stl": ["flow=planar", "flow.depth=3", "objective.gradient=stl"],
    "dreg": ["flow=maf", "flow.depth=2", "flow.hidden=[8]", "objective=iwae", "objective.gradient=dreg"],
    "rws": ["flow=planar", "flow.depth=3", "objective=rws", "objective.importance_samples=3"],
    "rws-dreg": ["flow=resflow", "flow.depth=2", "flow.hidden=[8]", "objective=rws", "objective.gradient=dreg"],
    "unbiased": ["flow=resflow", "flow.depth=2", "flow.hidden=[8]", "flow.logdet=unbiased"],
    "moments": ["flow=realnvp", "flow.depth=2", "flow.hidden=[8]", "flow.norm=batchnorm", "optimizer=sgd"],
    "actnorm": ["flow=nsf_coupling", "flow.depth=2", "flow.hidden=[8]", "flow.norm=actnorm"],
    "adaptive": ["flow=cnf", "flow.depth=1", "flow.hidden=[8]"],
    "clipped": ["flow=realnvp", "flow.depth=2", "flow.hidden=[8]", "optimizer=sgd", "optimizer.max_grad_norm=0.1"],
}


#: What an estimate could do differently: work that is cut into pieces of the data and chunks of importance samples.
ESTIMATES = {
    "pieces and chunks": (["flow=maf", "flow.depth=2", "dataset.num_test=2300", "eval.chunk_size=5000"], 12),
    "one datum": (["flow=maf", "flow.depth=2", "dataset.num_test=1", "eval.chunk_size=10"], 45),
    "exact": (["flow=maf", "cif=false", "flow.depth=2", "dataset.num_test=2300"], 7),
    "grey levels": (["dataset=digits", "flow=glow", "flow.depth=2", "flow.width=4"], 3),
}


def several(count):
    return DeviceConfig(accelerator="cpu", count=count, precision="fp64")


def updates(fabric, micro_batches=1):
    """Weights after three updates of each kind, and what the updates told."""
    found = {}
    for name, overrides in UPDATES.items():
        config = configure([*CPU, *overrides, f"trainer.micro_batches={micro_batches}"])
        rng.seed_all(0)
        model = build_model(config, (2,))
        x = torch.randn(62, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 + 1
        update = Update(model, config, fabric, Loader.of_tensor(x, fabric.device))
        told = [torch.stack(update(torch.arange(62), 0.01)) for _ in range(3)]
        found[name] = (torch.cat([v.double().flatten() for v in model.state_dict().values()]), torch.stack(told))
    return found


def estimates():
    """The estimates of test sets by models in double precision."""
    found = {}
    for name, (overrides, m) in ESTIMATES.items():
        config = configure([*(CPU if name != "grey levels" else ["device=cpu"]), *overrides])
        data = build_data(config)
        model = build_model(config, data.shape, build_standardize(config, data)).double()
        estimate = estimate_split(model, data.test, config, m)
        found[name] = (estimate.log_likelihood, estimate.elbo, estimate.ess)
    return found


def own_of_20():
    count, rank = processes.count(), processes.rank()
    return 20 * rank // count, 20 * (rank + 1) // count


def everything_solved():
    """dz/dt = −λ z for 20 different λ, of which the largest decides how long a step of all is."""
    start, stop = own_of_20()
    rates = torch.linspace(0, 30, 20, dtype=torch.float64)[start:stop]
    whole = torch.zeros(20, dtype=torch.float64)
    with rng.share(start, stop, 20):
        (z,), _ = solve_ode(lambda t, state: (-rates * state[0],), (torch.ones_like(rates),), 0.0, 1.0, 1e-3)
    whole[start:stop] = z
    return processes.total(whole)


def everything_drawn():
    """The u that each process draws for its share of one batch of 20, those of all processes together."""
    config = configure([*CPU, *UPDATES["maf"]])
    rng.seed_all(3)
    model = build_model(config, (2,))
    index = next(step.index for step in model.steps if step.index is not None)
    start, stop = own_of_20()
    whole = torch.zeros(2, 20, index.dim)
    with rng.share(start, stop, 20):
        whole[:, start:stop] = index.p(torch.zeros(stop - start, 2)).draw(2)[0].detach().unflatten(0, (2, -1))
    return processes.total(whole)


def everything(fabric, path):
    found = {
        "updates": updates(fabric),
        "estimates": estimates(),
        "drawn": everything_drawn(),
        "solved": everything_solved(),
    }
    if fabric.is_global_zero:
        torch.save(found, path)


def results(count):
    """What `everything` finds on so many processes."""
    with tempfile.TemporaryDirectory() as folder, forking():
        spread(several(count), everything, Path(folder, "result"))
        return torch.load(Path(folder, "result"), weights_only=True)


@pytest.fixture(scope="module")
def alone():
    return results(1)


@pytest.fixture(scope="module")
def shared():
    """By three, which no number of rows here is a multiple of."""
    return results(3)


def check_same(found, expected):
    for name, (weights, told) in expected.items():
        torch.testing.assert_close(found[name][0], weights, rtol=1e-6, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")
        torch.testing.assert_close(found[name][1], told, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_processes_update_as_one_does(shared, alone):
    """62 rows can't be cut into three equal parts: shares of different sizes weigh what they hold."""
    check_same(shared["updates"], alone["updates"])


def test_no_two_processes_draw_the_same_u(shared, alone):
    assert len(shared["drawn"].flatten().unique()) == 80
    torch.testing.assert_close(shared["drawn"], alone["drawn"])


def test_an_adaptive_solver_takes_the_steps_of_the_whole_batch(shared, alone):
    torch.testing.assert_close(shared["solved"], alone["solved"], rtol=1e-12, atol=0)


def test_processes_estimate_as_one_does(shared, alone):
    for name in ESTIMATES:
        for found, expected in zip(shared["estimates"][name], alone["estimates"][name], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


def test_micro_batches_change_nothing(alone):
    # Batch norm sees each micro-batch by itself, activation norm the first of them, and so does an adaptive solver.
    others = ("moments", "actnorm", "adaptive")
    expected = {name: value for name, value in alone["updates"].items() if name not in others}
    check_same(updates(launch(several(1)), 3), expected)


# --- whole runs -------------------------------------------------------------------------------------------------------

TINY = ["dataset=two_moons", "flow=maf", "flow.depth=2", "flow.hidden=[8]", *CPU]
SHORT = ["trainer.batch_size=70", "trainer.log_every=2", "trainer.valid_every=4", "trainer.checkpoint_every=3"]
SHORT += ["trainer.plot_every=0", "trainer.max_steps=9", "eval.importance_samples=3"]


def rows_of(directory):
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("time", "train/step_seconds")} for row in rows]


def check_same_run(one, other):
    first, second = rows_of(one), rows_of(other)
    assert [row.keys() for row in first] == [row.keys() for row in second]
    for a, b in zip(first, second, strict=True):
        assert b == pytest.approx(a, rel=2e-3, abs=2e-4)


def logging_train(fabric, config, directory, resume, log):
    """Training that writes down which data each step takes; rank 0 speaks for all."""
    taken = Batches.indices

    def indices(self, step):
        found = taken(self, step)
        if fabric.is_global_zero:
            with open(log, "a") as file:
                file.write(json.dumps([step, found.tolist()]) + "\n")
        return found

    Batches.indices = indices
    try:
        with without_pictures():
            return _train(fabric, config, directory, resume)
    finally:
        Batches.indices = taken


def test_a_run_on_one_then_two_then_one_process(tmp_path):
    """It ends as one that was never moved, and each epoch takes every datum once."""
    straight = configure([*TINY, *SHORT, "trainer.max_steps=18"])
    spread(several(1), logging_train, straight, tmp_path / "straight", False, tmp_path / "straight.log")
    moved, log = tmp_path / "moved", tmp_path / "moved.log"
    for count, steps in ((1, 5), (2, 13), (1, 18)):
        config = configure([*TINY, *SHORT, f"trainer.max_steps={steps}"])
        with forking():
            summary = spread(several(count), logging_train, config, moved, steps > 5, log)
        assert summary["status"] == "completed" and summary["steps"] == steps
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [step for step, _ in lines] == list(range(18))
    assert log.read_text() == (tmp_path / "straight.log").read_text()
    flat = [i for _, rows in lines for i in rows]
    for k in range(len(flat) // 300):
        assert sorted(flat[300 * k : 300 * (k + 1)]) == list(range(300))
    ends = [RunDirectory(d).load_checkpoint("latest") for d in (moved, tmp_path / "straight")]
    for name, value in ends[1].part("model").items():
        torch.testing.assert_close(ends[0].part("model")[name], value, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(ends[0].tensors[key], ends[1].tensors[key]) for key in ("rng.cpu",))


def signalled_train(fabric, config, directory, resume):
    """Training in the midst of which the process that started this one is told to stop."""

    def tell():
        if fabric.is_global_zero:
            os.kill(os.getppid(), signal.SIGTERM)

    with after_steps(25, tell):
        return _train(fabric, config, directory, resume)


def test_two_processes_keep_one_set_of_records_and_obey_one_signal(tmp_path, capfd):
    config = configure([*TINY, *SHORT, "trainer.max_steps=100000"])
    with pytest.raises(KeyboardInterrupt):
        spread(several(2), signalled_train, config, tmp_path, False)
    err = capfd.readouterr().err
    assert err.count("all is saved") == 1 and "Traceback" not in err
    summary = RunDirectory(tmp_path).summary()
    assert summary["status"] == "interrupted" and summary["steps"] >= 25
    steps = [row["step"] for row in rows_of(tmp_path) if "train/loss" in row]
    assert steps == list(range(2, summary["steps"] + 1, 2))
    last = summary["steps"] + 4
    with without_pictures():
        assert main(["train", f"resume={tmp_path}", f"trainer.max_steps={last}"]) == 0
    assert RunDirectory(tmp_path).summary()["status"] == "completed"
    names = {file.stem for file in (tmp_path / "checkpoints").iterdir()}
    assert {"best", "latest"} <= names <= {"best", "latest", "final"}  # and nothing half-written


def test_torchrun_and_srun_make_the_run_that_one_process_makes(tmp_path):
    def words(name):
        return ["train", *TINY, *SHORT, f"hydra.run.dir={tmp_path / name}"]

    with without_pictures():
        assert main(words("alone")) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*torchrun, "-m", "tests.helpers", *words("torchrun")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANG)
    out = done.stdout
    assert done.returncode == 0, done.stderr
    assert out.count("run directory:") == 1 and sorted(d.name for d in tmp_path.iterdir()) == ["alone", "torchrun"]
    check_same_run(tmp_path / "alone", tmp_path / "torchrun")

    # What srun sets in the processes that it starts on one machine.
    step = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NAME": "cifrun", "SLURM_NTASKS": "2", "SLURM_NODEID": "0"}
    step |= {
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NODELIST": "127.0.0.1",
    }

    def srun(words):
        of = [{**step, "SLURM_PROCID": str(k), "SLURM_LOCALID": str(k)} for k in range(2)]
        return [process.wait() for process in [Forked(plain_main, words, environment=own) for own in of]]

    ends = srun(words("srun"))
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert ends[0][1].count("run directory:") == 1 and ends[1][1] == ""
    check_same_run(tmp_path / "alone", tmp_path / "srun")

    # The job was queued again: the same command goes on with what it finds, here with more steps.
    again = [*words("srun"), "trainer.max_steps=12"]
    step["SLURM_RESTART_COUNT"] = "1"
    ends = srun(again)
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert RunDirectory(tmp_path / "srun").summary()["steps"] == 12


# --- what goes wrong --------------------------------------------------------------------------------------------------


def fail(fabric, how):
    if fabric.global_rank == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ConfigError("not on this machine")
    processes.barrier()


def test_a_process_that_fails_alone_ends_all_with_a_sentence():
    with forking(), pytest.raises(ConfigError, match="not on this machine"):
        spread(several(2), fail, "in one")
    with forking(), pytest.raises(TrainingError, match="one of 2 processes was killed, so the others stopped"):
        spread(several(2), fail, "killed")


def test_what_can_not_be_shared_is_one_sentence(tmp_path, capfd):
    """The first is found by both processes, the second by this one."""
    with forking():
        assert main(["train", *TINY, "trainer.batch_size=1", "device.count=2", f"hydra.run.dir={tmp_path}"]) == 2
    err = capfd.readouterr().err
    assert err.count("a batch of 1 can't be cut into 2 parts") == 1
    assert err.splitlines()[-1].startswith("cifrun: a batch of 1 can't be cut into 2 parts")
    assert main(["train", *TINY, "device.nodes=2", f"hydra.run.dir={tmp_path / 'nodes'}"]) == 2
    assert "device.nodes = 2 needs a start on each machine: torchrun --nnodes=2" in capfd.readouterr().err


def test_many_jobs_are_not_for_torchrun(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "-m", "seed=1,2"]) == 2
