"""The state of an optimiser, as named tensors and numbers of a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..runs.validation import KINDS

__all__ = ["pack", "unpack"]


def pack(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What an optimiser keeps: the tensors by their places, and what is no tensor, as a checkpoint's state has it."""
    packed = optimizer.state_dict()
    found = _kept(packed["state"])
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    numbers = {name: value for name, value in found.items() if name not in tensors}
    return tensors, {"param_groups": packed["param_groups"], "optimizer_numbers": numbers}


def unpack(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Give an optimiser what `pack` took from one like it. It has done no step yet.

    Its settings stay as they are built; only what its steps write among them, as a count, is the checkpoint's.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: It is the state of another optimiser, or of other weights.
    """
    groups, numbers = state["param_groups"], state["optimizer_numbers"]
    settings = optimizer.state_dict()["param_groups"]
    likeness = _after_a_step(optimizer)
    own = likeness["param_groups"]
    if not _alike(groups, own):
        raise ValueError("groups of other parameters")
    if numbers.keys() & tensors.keys():
        raise ValueError("numbers in the place of tensors")
    # Copies begin at whole lines of memory, as what they are copies of did: products differ with that in their last
    # bits.
    found = {**{name: tensor.clone() for name, tensor in tensors.items()}, **numbers}
    _check(found, _kept(likeness["state"]))
    packed = {int(index): entries for index, entries in _nested(found).items()}
    optimizer.load_state_dict({"state": packed, "param_groups": _merged(groups, own, settings)})


def _after_a_step(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimiser keeps once it has done a step: a fused one takes whatever it is given for such, unchecked."""
    inner = getattr(optimizer, "optimizer", optimizer)  # of Fabric's
    weights = [p for group in inner.param_groups for p in group["params"] if p.requires_grad]
    before = [p.detach().clone() for p in weights]
    for p in weights:
        p.grad = torch.zeros_like(p)
    inner.step()
    inner.zero_grad(set_to_none=True)
    with torch.no_grad():
        for p, value in zip(weights, before, strict=True):
            p.copy_(value)
    return inner.state_dict()


def _check(found: Mapping[str, Any], fitting: Mapping[str, Any]) -> None:
    """Refuse a state whose entries are of other places, shapes or kinds; a weight without a gradient may have none.

    Raises:
        ValueError: It is one.
    """
    known = {name.partition(".")[0] for name in found}
    if found.keys() != {name for name in fitting if name.partition(".")[0] in known}:
        raise ValueError("entries of another optimiser")
    for name, value in found.items():
        like = fitting[name]
        if isinstance(like, Tensor):
            if not isinstance(value, Tensor) or value.shape != like.shape or not _same_kind(value, like):
                raise ValueError(f"{name} is of another shape or kind")
            if value.isnan().any() or (name.endswith(".step") and not (value.isfinite() & (value >= 0)).all()):
                raise ValueError(f"{name} holds what is no number, or no count")
        elif isinstance(value, Tensor) or not _counts(value, like):
            raise ValueError(f"{name} is of another kind")


def _same_kind(value: Tensor, like: Tensor) -> bool:
    """Whether both have numbers of one kind; those of a run that goes on in another precision have another width."""
    return value.dtype == like.dtype or (value.is_floating_point() and like.is_floating_point())


def _merged(groups: Sequence[Any], own: Sequence[Any], settings: Sequence[Any]) -> list[dict[str, Any]]:
    """The groups as they are built, with what steps wrote there.

    Raises:
        ValueError: What they wrote is of another kind.
    """
    merged = []
    for saved, after, before in zip(groups, own, settings, strict=True):
        written = {name: saved[name] for name in after.keys() - before.keys() if name in saved}
        if not all(_counts(value, after[name]) for name, value in written.items()):
            raise ValueError("a count that is none")
        merged.append({**before, **written})
    return merged


def _counts(saved: Any, own: Any) -> bool:
    """Whether a number that a step has written is of the kind of its own."""
    if type(own) is int:
        return KINDS["a whole number from 0"](saved)
    return _alike(saved, own)


def _kept(entries: Mapping[Any, Any]) -> dict[str, Any]:
    """What is kept of all weights, each by its place."""
    return {name: value for index, own in entries.items() for name, value in _flat(own, str(index))}


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """What is in a mapping or a list, however deep, by its place: "0.Q.1" is entry 1 of the list "Q" of "0"."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}")
    elif isinstance(value, (list, tuple)) and len(value):
        for k, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{k}")
    else:
        yield name, value


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """What `_flat` took apart, by its first names.

    Raises:
        ValueError: Something is in two places, or a list has a gap.
    """
    parts: dict[str, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    for name, value in flat.items():
        first, _, rest = name.partition(".")
        if rest:
            parts.setdefault(first, {})[rest] = value
        else:
            whole[first] = value
    if parts.keys() & whole.keys():
        raise ValueError("a number in the place of a list")
    for first, inside in parts.items():
        inner = _nested(inside)
        if all(key.isdecimal() for key in inner):
            if sorted(map(int, inner)) != list(range(len(inner))):
                raise ValueError("a list with a gap")
            whole[first] = [inner[str(k)] for k in range(len(inner))]
        else:
            whole[first] = inner
    return whole


def _alike(saved: Any, own: Any) -> bool:
    """Whether a setting of an optimiser that was saved is of the kind of its own; a setting may be missing or new."""
    if isinstance(own, Mapping):
        known = saved.keys() & own.keys() if isinstance(saved, Mapping) else set()
        return "params" in known and saved["params"] == own["params"] and all(_alike(saved[k], own[k]) for k in known)
    if isinstance(own, (list, tuple)):
        same = isinstance(saved, (list, tuple)) and len(saved) == len(own)
        return same and all(map(_alike, saved, own))
    if own is None or isinstance(own, bool):
        return saved is None or isinstance(saved, bool)
    return KINDS["a finite number"](saved) if isinstance(own, (int, float)) else type(saved) is type(own)
