"""What the environment says of a process that torchrun or srun started among others."""

from __future__ import annotations

import pytest

from cifrun.compute.launch_env import Started, started

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}
SRUN = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        (TORCHRUN, Started("torchrun", 5, 4, 2)),
        (SRUN, Started("srun", 5, 4, 2)),
        ({**SRUN, "SLURM_STEP_NUM_NODES": ""}, Started("srun", 5, 8, 1)),
        ({**SRUN, **TORCHRUN, "RANK": "3"}, Started("torchrun", 3, 4, 2)),  # srun started torchrun, which started this
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "1", "WORLD_SIZE": "1"}, None),  # one process is no company
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}, None),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),  # a batch script, whatever its job was given
    ],
)
def test_a_process_knows_its_place(
    variables: dict[str, str], expected: Started | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*TORCHRUN, *SRUN):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert started() == expected
