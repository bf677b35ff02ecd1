"""Runs that are done in a moment, and yet do all that runs do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

#: Settings of all of them.
TINY = (
    *("flow=affine", "flow.depth=1", "index.st=[4]", "index.p=[4]", "index.q=[4]", "device=cpu"),
    *("trainer.batch_size=50", "trainer.max_steps=12", "trainer.checkpoint_every=3", "trainer.valid_every=4"),
    *("trainer.log_every=2", "trainer.plot_every=0", "trainer.progress=false", "diagnostics.enabled=false"),
    *("eval.importance_samples=3", "eval.valid_importance_samples=2"),
)
#: The size of data that are made.
FEW = ("dataset=two_uniforms", "dataset.num_train=200", "dataset.num_valid=50", "dataset.num_test=50")

#: Each, by its name: more words, for a folder in which `table.csv` is.
RUNS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "plain": lambda _: (*FEW, "cif=false"),
    "cif": lambda _: (*FEW, "cif=true"),
    "table": lambda folder: ("dataset=file", f"dataset.path={folder}/table.csv", "flow=maf", "flow.hidden=[4]"),
}


def shown(words: Sequence[str]) -> str:
    """Words for a message, without what all of these runs have."""
    plain = [word for word in words if word not in (*TINY, *FEW)]
    return " ".join(word if len(word) < 100 else f"{word[:100]}…" for word in plain)
