"""The engines of a multirun: `hydra/launcher=joblib`, `slurm`, `submitit_local` and `ray`.

Each runs the jobs of a sweep in other processes. What fails there has a sentence here, and the others go on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict

from ..errors import CifrunError, RunError
from ..io.optional import need
from .hydra_internals import add_launcher, outcome

__all__ = ["Joblib", "Ray", "Slurm", "SubmititLocal"]

#: Seconds that jobs are given to save when the sweep is stopped.
PATIENCE = 30

log = logging.getLogger(f"hydra.{__name__}")  # where a multirun says what it does


def _settle(job: JobReturn, task: Any) -> JobReturn:
    """Take note of a failure that has a sentence, so that Hydra does not end the sweep for it."""
    if job.status == JobStatus.FAILED and isinstance(failure := outcome(job), CifrunError):
        task.report(job.overrides, failure)
        job.return_value, job.status = None, JobStatus.COMPLETED
    return job


def _announce(engine: str, job_overrides: Sequence[Sequence[str]], first: int) -> None:
    """A line for each job, as Hydra has it for those that run here."""
    log.info(f"Launching {len(job_overrides)} jobs through {engine}")
    for number, overrides in enumerate(job_overrides, first):
        log.info(f"\t#{number} : {' '.join(filter_overrides(overrides))}")


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


class _Borrowed(Launcher):
    """A launcher of Hydra's own, behind which failures are settled.

    Its class is `name` of `module`, which `extra` installs.
    """

    module: ClassVar[str]
    name: ClassVar[str]
    extra: ClassVar[str]

    def __init__(self, **options: Any) -> None:
        module = need(self.module, "this hydra/launcher", f"cifrun[{self.extra}]")
        self.inner: Launcher = getattr(module, self.name)(**options)

    def setup(self, **context: Any) -> None:
        self.task = context["task_function"]
        self.inner.setup(**context)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs.

        Raises:
            RunError: The engine itself fails.
        """
        _announce(self.extra, job_overrides, initial_job_idx)
        try:
            jobs = self.inner.launch(job_overrides, initial_job_idx)
        except RuntimeError as error:  # theirs are of this class: no SLURM, a submission refused, a process killed
            raise RunError(f"{self.extra} gave up the sweep: {_first_line(error)}") from error
        return [_settle(job, self.task) for job in jobs]


class Joblib(_Borrowed):
    """Processes on this machine, `n_jobs` at a time; joblib shares the cores among them."""

    module, name, extra = "hydra_plugins.hydra_joblib_launcher.joblib_launcher", "JoblibLauncher", "joblib"


class Slurm(_Borrowed):
    """A SLURM array with an element for each job of the sweep."""

    module, name, extra = "hydra_plugins.hydra_submitit_launcher.submitit_launcher", "SlurmLauncher", "submitit"


class SubmititLocal(Slurm):
    """What `Slurm` does, without SLURM: all jobs at once on this machine, which share its cores."""

    name = "LocalLauncher"

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // len(job_overrides))))
        return super().launch(job_overrides, initial_job_idx)


def _run(
    directory: str, job: int, overrides: Sequence[str], context: dict[str, Any], singletons: dict[Any, Any]
) -> JobReturn:
    """One job, in a worker of Ray."""
    os.chdir(directory)
    Singleton.set_state(singletons)
    setup_globals()
    hydra_context = context["hydra_context"]
    config = hydra_context.config_loader.load_sweep_config(context["config"], list(overrides))
    with open_dict(config):
        config.hydra.job.id, config.hydra.job.num = f"{config.hydra.job.name}_{job}", job
    HydraConfig.instance().set_config(config)
    return run_job(
        task_function=context["task_function"],
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=hydra_context,
    )


class Ray(Launcher):
    """Tasks of Ray, on this machine or on a cluster that has this directory too.

    Hydra's own launcher for Ray asks for cloudpickle below 3, boto3 and Ray's dashboard; this one needs Ray alone, and
    takes the same settings.

    Arguments:
        ray: `init`, the arguments of `ray.init`, and `remote`, those of `ray.remote`: what a job needs.
    """

    def __init__(self, ray: DictConfig) -> None:
        self.settings: Any = OmegaConf.to_container(ray, resolve=True)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        self.ray = need("ray", "this hydra/launcher", "cifrun[ray]")

    def setup(self, **context: Any) -> None:
        self.context = context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs. One of which Ray has no result is reported as failed, and the others go on."""
        config, task = self.context["config"], self.context["task_function"]
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        os.makedirs(str(config.hydra.sweep.dir), exist_ok=True)
        _announce("ray", job_overrides, initial_job_idx)
        mine = not self.ray.is_initialized()
        if mine:
            self.ray.init(**self.settings["init"])
        jobs: dict[Any, Sequence[str]] = {}
        try:
            remote = self.ray.remote(**self.settings["remote"])(_run)
            for number, overrides in enumerate(job_overrides, initial_job_idx):
                jobs[remote.remote(os.getcwd(), number, overrides, self.context, Singleton.get_state())] = overrides
            done: dict[Any, JobReturn] = {}
            while len(done) < len(jobs):
                (first,), _ = self.ray.wait([job for job in jobs if job not in done], num_returns=1)
                done[first] = _settle(self._result(first, jobs[first]), task)
            return [done[job] for job in jobs]
        except KeyboardInterrupt:  # let those that are under way save
            for job in jobs:
                self.ray.cancel(job)
            self.ray.wait(list(jobs), num_returns=len(jobs), timeout=PATIENCE)
            raise
        finally:
            if mine:
                self.ray.shutdown()

    def _result(self, job: Any, overrides: Sequence[str]) -> JobReturn:
        try:
            return self.ray.get(job)
        except self.ray.exceptions.RayError as error:  # its worker is gone, and each that was tried in its place
            job = JobReturn(overrides=list(overrides), status=JobStatus.FAILED)
            job.return_value = RunError(f"Ray has no result of it: {_first_line(error)}")
            return job


for _launcher in (Joblib, Slurm, SubmititLocal, Ray):
    add_launcher(_launcher)
