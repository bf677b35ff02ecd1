"""Names that presets had before. They go on working, with a line on stderr that says what to write instead.

experiment=cifar10_glow    →    experiment=image_glow dataset=cifar10
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConfigError
from ..io.terminal import tell

__all__ = ["RETIRED", "renamed"]

#: What a retired preset is now: (preset, dataset).
RETIRED = {
    f"{dataset}_{flow}": (f"image_{flow}", dataset)
    for dataset in ("mnist", "fashion_mnist", "cifar10", "svhn")
    for flow in ("glow", "realnvp", "resflow", "resflow_big")
}


def renamed(words: Sequence[str]) -> list[str]:
    """The words of a command with retired presets replaced, also those in the list of a multirun.

    A dataset that was typed beside a preset stays.

    Raises:
        ConfigError: No list of presets and no list of datasets can replace a list that was typed.
    """
    has_dataset = any(word.startswith("dataset=") for word in words)
    result = []
    for word in words:
        key, _, value = word.partition("=")
        names = value.split(",")
        if key != "experiment" or RETIRED.keys().isdisjoint(names):
            result.append(word)
            continue
        pairs = [RETIRED.get(name, (name, "")) for name in names]
        presets, datasets = ([*dict.fromkeys(part)] for part in zip(*pairs, strict=True))
        new = [f"experiment={','.join(presets)}"]
        if not has_dataset:
            new.append(f"dataset={','.join(datasets)}")
            if not all(datasets) or len(set(pairs)) != len(presets) * len(datasets):
                old = next(name for name in names if name in RETIRED)
                now = "experiment={} dataset={}".format(*RETIRED[old])
                raise ConfigError(f"{word} needs more than one command, as experiment={old} is now {now}")
        tell(f"{word} is now {' '.join(new)}")
        result += new
    return result
