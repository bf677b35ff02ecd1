"""What a run owes to the queue of a cluster: to save before its time is up, to be queued again, and to go on.

SLURM sends SIGUSR1 as long before the limit as `sbatch --signal=USR1@SECONDS` says. The training loop then saves, and
hands the signal on to whatever handled it before: here `scontrol requeue`, in a job of submitit what submitit does. The
job that starts again is the same command, so it must lead to the same run directory. SIGTERM, which is sent for
`scancel` and by a preemption after which SLURM itself queues the job again, only saves.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import RunError

__all__ = ["STOPS", "hand_on", "requeued", "restarted"]

#: What stops a run: Ctrl-C, the system, and SLURM before the time is up (submitit prefers the last one).
STOPS = [number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")]


def restarted() -> bool:
    """Whether this is a SLURM job that was queued again."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def hand_on(number: int, handler: Any) -> None:
    """Call what handled a signal before; nothing where that was the system, or what Python does with Ctrl-C.

    Raises:
        RunError: The handler refuses to queue the job again; the message has its own words.
    """
    if not callable(handler) or handler is signal.default_int_handler:
        return
    try:
        handler(number, None)
    except Exception as refusal:
        raise RunError(str(refusal)) from refusal


def _job() -> str | None:
    """The SLURM job of this process, if there is one."""
    if "SLURM_ARRAY_TASK_ID" in os.environ:  # SLURM_JOB_ID of one of the array's elements means all of them
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


@contextmanager
def requeued(again: bool) -> Iterator[None]:
    """Inside, SIGUSR1 in a SLURM job queues the job again and ends this process.

    Of several processes of the job, the first one does it.

    Arguments:
        again: Whether the same command goes on with what it did before; if not, nothing is queued, and a sentence
            says why.
    """
    job = _job()
    if job is None:
        yield
        return

    def requeue(number: int, _: object) -> None:
        if not again:
            print(
                "the job is not queued again, as the same command would begin anew: give it hydra.run.dir=DIR or, "
                "with -m, sweep.name=NAME",
                file=sys.stderr,
            )
        elif os.environ.get("SLURM_PROCID", "0") == "0":
            try:
                subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)
                print(f"SLURM job {job} is queued again", file=sys.stderr)
            except (OSError, subprocess.SubprocessError) as error:
                print(f"SLURM job {job} could not be queued again: {error}", file=sys.stderr)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGUSR1)
    try:
        if before == signal.SIG_DFL:
            signal.signal(signal.SIGUSR1, requeue)
    except ValueError:  # not the main thread: whoever owns the process handles its signals
        pass
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGUSR1) is requeue:
            signal.signal(signal.SIGUSR1, before)
