"""Any flow of the zuko library, split into its steps so that each can be indexed.

    z = f_1⁻¹(… f_L⁻¹(x)),        f_l⁻¹ a transform of zuko: spline, polynomial, mixture, monotone network, ODE, …

`flow.name` is looked up among the flows that `zuko.flows` exports, and `flow.kwargs` go to that flow:

    cifrun train flow=zuko flow.name=NSF flow.kwargs.transforms=5 flow.kwargs.hidden_features=[128,128]

Reference: Rozet et al., "Zuko: normalizing flows in PyTorch", 2022 (https://github.com/probabilists/zuko).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..bijections.base import Bijection
from ..config.fields import registered, setting
from ..errors import ConfigError, did_you_mean
from ..nets.mlp import ACTIVATIONS
from ..registry import FLOWS
from .base import FlowConfig, with_norm

if TYPE_CHECKING:
    from zuko.flows import Flow

#: What `zuko.flows` exports and a step on vectors can't be made of.
UNUSABLE = {
    "GMM": "it is a mixture, and no flow",
    "NCSF": "it models angles, and starts from a base that is uniform on a torus",
}

#: Arguments that are no setting: the flow, the dataset or a tensor gives them.
FIXED = {"self", "features", "context", "order", "adjacency", "mask", "univariate", "shapes"}
FIXED |= {"in_features", "out_features"}


@registered(FLOWS, "zuko")
class Zuko(FlowConfig):
    """Any flow of the zuko library, by its name there (Rozet et al., 2022)."""

    depth: int = setting(0, "number of transforms L, if kwargs.transforms does not say; 0 for zuko's own default", ge=0)
    name: str = setting("NSF", "a flow of zuko.flows: BPF, CNF, GF, MAF, NAF, NICE, NSF, RealNVP, SOSPF or UNAF")
    kwargs: dict[str, Any] = setting(
        {}, "its arguments, as flow.kwargs.KEY=VALUE: transforms, hidden_features, activation, bins, …"
    )

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        (features,) = self.flat(shape)
        cls = _find(self.name)
        allowed, copies, kwargs = _allowed(cls), 1, dict(self.kwargs)
        for key in kwargs:
            if allowed is not None and key not in allowed:
                near = did_you_mean(key, allowed).replace("mean '", "mean 'flow.kwargs.")
                raise ConfigError(
                    f"there is no key 'flow.kwargs.{key}' for zuko's {self.name}: "
                    f"allowed there are {', '.join(sorted(allowed))}{near}"
                )
        if self.depth and (allowed is None or "transforms" in allowed):
            kwargs.setdefault("transforms", self.depth)
        elif self.depth:  # a flow of one transform
            copies = self.depth
        try:
            return with_norm([step for _ in range(copies) for step in _steps(cls, features, _typed(kwargs))], self.norm)
        except (TypeError, ValueError, RuntimeError, AssertionError, LookupError, ArithmeticError) as error:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise ConfigError(f"flow.kwargs = {self.kwargs} does not fit zuko's {self.name}: {reason}") from error


def _find(name: str) -> type[Flow]:
    try:
        import zuko.flows
    except ImportError as error:
        raise ConfigError("flow=zuko needs the package zuko: pip install zuko") from error
    table = {
        key: value
        for key, value in vars(zuko.flows).items()
        if isinstance(value, type) and issubclass(value, zuko.flows.Flow) and value is not zuko.flows.Flow
    }
    if name in UNUSABLE:
        raise ConfigError(f"flow.name = '{name}' is not allowed: {UNUSABLE[name]}")
    if name not in table:
        names = sorted(set(table) - set(UNUSABLE))
        same = [f"; did you mean '{other}'?" for other in names if other.lower() == name.lower()]
        raise ConfigError(
            f"there is no zuko flow '{name}': flow.name should be one of {', '.join(names)}"
            f"{same[0] if same else did_you_mean(name, names)}"
        )
    return table[name]


def _allowed(cls: type[Flow]) -> set[str] | None:
    """The keyword arguments of a flow, with those that it passes on; None when it is not known to what."""
    from zuko import flows, nn

    passed_on: dict[type, tuple[type, ...]] = {
        flows.MAF: (flows.MaskedAutoregressiveTransform, nn.MaskedMLP),
        flows.NAF: (flows.MaskedAutoregressiveTransform, nn.MaskedMLP),
        flows.UNAF: (flows.MaskedAutoregressiveTransform, nn.MaskedMLP),
        flows.NICE: (flows.GeneralCouplingTransform, nn.MLP),
        flows.CNF: (flows.FFJTransform, nn.MLP),
        flows.GF: (),  # its transforms have no network without a context
    }
    names: set[str] = set()
    for base in cls.__mro__:
        more = [base, *passed_on.get(base, ())]
        parameters = [p for part in more for p in inspect.signature(part.__init__).parameters.values()]  # type: ignore[misc]
        names |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if base in passed_on or not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names - FIXED
    return None


def _typed(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with each activation, here or one level below, as the module that its name stands for."""
    typed: dict[str, Any] = {}
    for key, value in kwargs.items():
        if key == "activation":
            if value not in ACTIVATIONS:
                raise ValueError(f"activation = {value!r} should be one of {', '.join(ACTIVATIONS)}")
            value = ACTIVATIONS[value]
        typed[key] = _typed(value) if isinstance(value, Mapping) else value
    return typed


def _steps(cls: type[Flow], features: int, kwargs: Mapping[str, Any]) -> list[Bijection]:
    """The transforms of a new flow, from the data inward, tried once."""
    from zuko.distributions import DiagNormal
    from zuko.lazy import LazyComposedTransform

    from ..bijections.zuko import ZukoTransform

    flow = cls(features, **kwargs)
    base = flow.base()
    standard = isinstance(base, DiagNormal) and not any(True for _ in flow.base.parameters())
    if not standard or bool((base.mean != 0).any() | (base.stddev != 1).any()):
        raise ConfigError(f"flow.name = '{cls.__name__}' is not allowed: its base is not a standard normal")
    whole = flow.transform
    parts = list(whole.transforms) if isinstance(whole, LazyComposedTransform) else [whole]
    if not parts:
        raise ValueError("it would have no transforms")
    steps = [ZukoTransform(features, part, cls.__name__) for part in parts]
    x = torch.linspace(-1, 1, 2 * features).reshape(2, features)
    with torch.no_grad():
        for step in steps:
            x, _ = step(x)
    return list(steps)
