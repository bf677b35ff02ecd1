"""The typed configuration: every setting but those of a dataset or a flow, which these define themselves.

The dataclasses here, and those that flows and datasets register, are what `conf/` is made from.
`Config.parse` turns plain data (what Hydra composed, or a run's `config.yaml`) into typed objects. It refuses unknown
keys, wrong types and values out of range with one sentence, and needs no Hydra.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from ..registry import BASES, DATASETS, FLOWS, OPTIMIZERS
from .checking import check, chosen_from, name_in
from .fields import MOST, STRICT, Role, Sizes, UserPath, setting
from .objective import ObjectiveConfig

__all__ = [
    "Activation",
    "BaseSettings",
    "Config",
    "DatasetSettings",
    "DeviceConfig",
    "DiagnosticsConfig",
    "EvalConfig",
    "FlowSettings",
    "IndexConfig",
    "Norm",
    "ObjectiveConfig",
    "OptimizerConfig",
    "SweepConfig",
    "TrainerConfig",
    "check",
    "to_dict",
]

#: Activations of a network that a config may name.
Activation = Literal["tanh", "relu", "silu", "elu"]
#: What may stand between the steps of a flow.
Norm = Literal["none", "actnorm", "batchnorm"]
#: What p(u | z) or q(u | x) may be: a network with these hidden sizes, or one of two that ask for none.
_Density = Sizes | Literal["standard_normal", "learned_constant"]
#: A name that is a folder of its own, and no way to another.
SWEEP_NAME = r"\w[\w.-]*"
#: What is typed as a number and meant as a name.
_Words = BeforeValidator(lambda value: str(value) if type(value) is int else value)
_Count = Annotated[int, Field(ge=1, le=MOST)]
#: What a diagnostic looks at, at most: more says nothing new.
_MANY = 10**7


# --- what datasets, flows and bases add to ----------------------------------------------------------------------------


@dataclass(config=STRICT)
class DatasetSettings:
    """Where x comes from. Each registered dataset adds its settings."""

    name: str = setting("", "name of the dataset; the group choice sets it")


@dataclass(config=STRICT)
class FlowSettings:
    """The base flow: a stack of steps f_1 … f_L. Each registered family adds its settings."""

    family: str = setting("", "name of the family; the group choice sets it")
    depth: int = setting(1, "number of steps L", ge=1, le=1000)
    norm: Norm = setting("none", "normalisation after each step")


@dataclass(config=STRICT)
class BaseSettings:
    """p_0, the density of z_0. Each registered kind adds its settings."""

    name: str = setting("", "name of the density; the group choice sets it")


def _normal() -> Any:
    return BASES["normal"](name="normal")


# --- the groups -------------------------------------------------------------------------------------------------------


@dataclass(config=STRICT)
class IndexConfig:
    """The index u_l of each step: its size, which steps carry one, what it does, and its networks, by hidden sizes."""

    dim: int = setting(2, "size of each u_l; for images, its channels", ge=1, le=4096)
    depth: _Count | Literal["all"] = setting(
        "all", "all, or how many of the flow's steps carry an index, counted from the data"
    )
    action: Literal["affine", "bounded", "planar"] = setting(
        "affine",
        "what u does to z, from the data: affine, e^s(u) ⊙ (z + t(u)); bounded, the same with |s| < 2, for images; or "
        "planar, z + a(u) tanh(w(u)ᵀz + b(u))",
    )
    st: Sizes | Literal["zero", "learned_constant"] = setting(
        [16, 16], "the action's parameters, s(u) and t(u) of the affine one; or zero, learned_constant"
    )
    p: _Density = setting([16, 16], "mean and log-scale of p(u | z); or standard_normal, learned_constant")
    q: _Density = setting([16, 16], "mean and log-scale of q(u | x); or standard_normal, learned_constant")
    relative: bool = setting(True, "q as a difference from p at f⁻¹(x); false: by itself, one network less to run")
    activation: Activation = setting("tanh", "activation of the index networks")


@dataclass(config=STRICT)
class OptimizerConfig:
    """The optimiser, its learning rate over time, and gradient clipping."""

    name: Annotated[str, name_in(OPTIMIZERS)] = setting("muon", "name of the optimiser")
    lr: float = setting(0.03, "learning rate after the warm-up", gt=0)
    weight_decay: float = setting(0.0, "L2 penalty (decoupled from the gradient for adamw and muon)", ge=0)
    schedule: Literal["none", "cosine", "linear", "plateau"] = setting(
        "cosine",
        "learning rate after the warm-up: none keeps it constant, cosine and linear take it to zero at the last step, "
        "plateau lowers it when validation no longer improves",
    )
    plateau_patience: int = setting(5, "plateau: validations without improvement until it is lowered", ge=1)
    plateau_factor: float = setting(0.5, "plateau: what it is multiplied by", gt=0, lt=1)
    warmup_steps: int = setting(0, "steps of linear warm-up from zero", unit="steps", ge=0)
    ema: float = setting(
        0.0,
        "validate, test, save and sample averages of the weights, of this decay a step; 0 for the weights",
        ge=0,
        lt=1,
    )
    max_grad_norm: float | None = setting(10.0, "clip the gradient to this 2-norm; null for no clipping", gt=0)


@dataclass(config=STRICT)
class TrainerConfig:
    """The training loop: how long, how large a batch, and how often what happens."""

    max_steps: int = setting(
        1000, "optimiser steps; raise it, with resume=DIR, to extend a run", unit="steps", role=Role.LENGTH, ge=1
    )
    batch_size: int = setting(1000, "data a step, of all devices together (at most the training set)", ge=1)
    micro_batches: _Count | Literal["auto"] = setting(
        1, "parts of a device's share of a batch, for less memory; auto: as many as memory asks for"
    )
    shuffle: Literal["auto", "rows", "blocks"] = setting(
        "auto", "what an epoch shuffles: rows; blocks, for data larger than memory; auto: blocks from 8 GiB"
    )
    log_every: int = setting(10, "steps between lines of training metrics", unit="steps", role=Role.EXECUTION, ge=1)
    valid_every: int = setting(100, "steps between validations, of which the best weights are kept", unit="steps", ge=1)
    plot_every: int = setting(
        500,
        "steps between pictures of density and samples; 0 for only at the end",
        unit="steps",
        role=Role.EXECUTION,
        ge=0,
    )
    checkpoint_every: int = setting(
        100, "steps between checkpoints: what a killed run loses at most", unit="steps", role=Role.EXECUTION, ge=1
    )
    patience: int = setting(0, "stop after this many validations without improvement; 0 to never stop early", ge=0)
    max_bad_steps: int = setting(20, "stop after this many non-finite losses in a row, seen when it logs", ge=1)
    progress: bool = setting(True, "show the progress bar, and say what a run is at", role=Role.EXECUTION)
    pdf_titles: bool = setting(
        True,
        "a title above pictures that are PDFs; false for a paper, where a caption says it",
        role=Role.EXECUTION,
    )


@dataclass(config=STRICT)
class EvalConfig:
    """Log-likelihood estimates on the validation and test sets."""

    importance_samples: int = setting(100, "m of IWAE_m on the test set: more is a tighter bound", ge=1)
    valid_importance_samples: int = setting(10, "m of IWAE_m on the validation set, many times a run", ge=1)
    chunk_size: _Count | Literal["auto"] = setting(
        "auto", "data × importance samples at once; auto: 10 000 (GPU 500 000), less if memory is short"
    )
    seed: int = setting(0, "seed of the evaluation's own random numbers", ge=0, lt=2**32)
    references: bool = setting(
        False, "beside a flow of vectors, a Gaussian and a Gaussian mixture that scikit-learn fits to the same split"
    )


@dataclass(config=STRICT)
class DiagnosticsConfig:
    """What is measured besides log-likelihoods: topology, invertibility, and trust in the estimate."""

    enabled: bool = setting(True, "measure; false for never, neither in training nor at the end")
    every: int = setting(
        0, "steps between measurements in training, which go to TensorBoard; 0 for only at the end", unit="steps", ge=0
    )
    samples: int = setting(
        5000, "draws from the model that are counted on and off the target's support", ge=10, le=_MANY
    )
    density_points: int = setting(2000, "data, and draws, whose log p(x) tells the coverage", ge=10, le=_MANY)
    density_samples: int = setting(20, "m of that log p(x), IWAE_m; a plain flow needs none", ge=1, le=_MANY)
    jacobian_points: int = setting(
        500, "data, and draws, where Jacobians are taken (fewer above 8 dimensions)", ge=1, le=_MANY
    )
    weight_points: int = setting(50, "data, and draws, whose importance weights are examined", ge=2, le=_MANY)
    weights: int = setting(500, "importance weights of each of these", ge=1, le=_MANY)


@dataclass(config=STRICT)
class DeviceConfig:
    """Where and how numbers are computed, by default on a GPU if there is one; handed to Lightning Fabric.

    `precision` and `deterministic` change the numbers, and so what is trained. The rest changes how fast they come.
    """

    accelerator: Literal["auto", "cpu", "gpu"] = setting(
        "auto", "cpu, gpu, or auto: a GPU if there is one", role=Role.EXECUTION
    )
    count: int = setting(1, "devices on this machine, each with its share of every batch", role=Role.EXECUTION, ge=1)
    nodes: int = setting(
        1, "machines; above 1, start with torchrun or srun, which say count and nodes", role=Role.EXECUTION, ge=1
    )
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = setting("fp32", "precision of the matrix products")
    compile: bool = setting(False, "torch.compile: slower to start, faster steps", role=Role.EXECUTION)
    cuda_graph: bool = setting(
        True, "on a GPU, record a training step that does the same each time, and replay it", role=Role.EXECUTION
    )
    deterministic: bool = setting(True, "the same numbers every time; false lets faster algorithms be picked")


@dataclass(config=STRICT)
class SweepConfig:
    """With -m: a sweep that, given again, skips what is complete and continues what was interrupted."""

    name: Annotated[str, _Words, Field(pattern=f"^{SWEEP_NAME}$")] | None = setting(
        None, "jobs go to multirun/NAME, where the same command, or one with more values, finds them; null: a new place"
    )


# --- the whole --------------------------------------------------------------------------------------------------------


#: What is done with a run that exists; train means resume.
LATER = ("train", "eval", "sample")


@dataclass(config=STRICT)
class Config:
    """Everything that defines a run. `Config.parse(data)` and `to_dict(config)` are inverse to each other."""

    dataset: Annotated[DatasetSettings, chosen_from(DATASETS, "name")] = setting(..., "where x comes from")
    flow: Annotated[FlowSettings, chosen_from(FLOWS, "family")] = setting(
        ..., "the base flow: a stack of steps f_1 … f_L"
    )
    cif: bool = setting(True, "index the flow's steps (true), or train the plain flow (false)")
    index: IndexConfig = setting(
        IndexConfig, "u_l of each step: its size, what it does, and its networks; a flow may choose another"
    )
    base: Annotated[BaseSettings, chosen_from(BASES, "name")] = setting(_normal, "p_0, the density of z_0")
    objective: ObjectiveConfig = setting(ObjectiveConfig, "what training maximises")
    optimizer: OptimizerConfig = setting(
        OptimizerConfig, "the optimiser, its learning rate over time, gradient clipping"
    )
    trainer: TrainerConfig = setting(
        TrainerConfig, "how long, how large a batch, how often what happens", may_change=("train",)
    )
    eval: EvalConfig = setting(
        EvalConfig,
        "importance samples of the validation and test estimates",
        role=Role.MEASUREMENT,
        may_change=LATER,
    )
    diagnostics: DiagnosticsConfig = setting(
        DiagnosticsConfig,
        "where the mass is, how near to non-invertible, how far the estimate can be trusted",
        role=Role.MEASUREMENT,
        may_change=("eval",),
    )
    device: DeviceConfig = setting(DeviceConfig, "where it runs, and in which precision", may_change=LATER)
    sweep: SweepConfig = setting(
        SweepConfig, "a name by which a multirun is found again, to do what is left of it", role=Role.EXECUTION
    )
    seed: int = setting(
        0,
        "every random draw: initial weights, the order of the data, training; of sample, the samples",
        role=Role.REPETITION,
        ge=0,
        lt=2**32,
        may_change=LATER[1:],
    )
    run: UserPath | None = setting(None, "the run directory to look at", role=Role.COMMAND, may_change=LATER[1:])
    warm_start: UserPath | None = setting(
        None, "a run of the same flow, plain or with the same index, whose best weights training begins with"
    )
    resume: UserPath | None = setting(None, "the run directory to continue", role=Role.COMMAND, may_change=("train",))
    n: int = setting(1000, "how many samples to draw", role=Role.COMMAND, ge=1, may_change=("sample",))
    output: UserPath | None = setting(
        None,
        "the file to write: .npy, .png, or a table: .csv, .tsv, .parquet, .npz",
        role=Role.COMMAND,
        may_change=("sample",),
    )
    data: UserPath | None = setting(
        None,
        "a table, or .npy of images, to evaluate instead of the test set",
        role=Role.COMMAND,
        may_change=("eval",),
    )
    per_point: UserPath | None = setting(
        None, "a table to write, a line for each datum", role=Role.COMMAND, may_change=("eval",)
    )

    @property
    def flow_name(self) -> str:
        """What to call the model: "resflow", or "CIF of resflow"."""
        return flow_name(self.flow.family, self.cif)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Config:
        """Typed config from plain data.

        Raises:
            ConfigError: A value is not allowed; the sentence names it and its key.
        """
        return check(cls, data)


def flow_name(family: str, cif: bool) -> str:
    """What to call a flow, plain or indexed: "resflow", "CIF of resflow"."""
    return f"CIF of {family}" if cif else family


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain data: dicts, lists, strings, numbers, booleans and None."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return plain(dataclasses.asdict(config))
