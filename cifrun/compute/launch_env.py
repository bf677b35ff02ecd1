"""Processes that torchrun or srun started from one command: what the environment says of this one.

torchrun --nproc-per-node=8 -m cifrun train …        srun --ntasks-per-node=8 cifrun train …
"""

from __future__ import annotations

import os
from typing import NamedTuple


class Started(NamedTuple):
    """One of several processes of the same command."""

    by: str  # torchrun or srun
    rank: int  # 0 … nodes · here − 1; the process of rank 0 keeps the records
    here: int  # processes on this machine
    nodes: int  # machines


def started() -> Started | None:
    """This process among those of its command; None if it was started alone."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        found = Started("torchrun", _int("RANK"), _int("LOCAL_WORLD_SIZE"), _int("WORLD_SIZE"))
    elif "SLURM_STEP_ID" in env and "SLURM_PROCID" in env:  # not in a batch script itself, which is one process
        tasks, nodes = _int("SLURM_STEP_NUM_TASKS"), max(1, _int("SLURM_STEP_NUM_NODES"))
        found = Started("srun", _int("SLURM_PROCID"), tasks // nodes, tasks)
    else:
        return None
    total = found.nodes
    return found._replace(nodes=total // max(1, found.here)) if total > 1 else None


def _int(name: str) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else 1
