"""The one place that seeds: everything random in a run comes from torch's generators, set and saved here.

A batch may be shared by several processes, or be gone through in several parts. Each then draws the numbers of the
whole batch and takes those of its own rows (`share`, `for_rows`): so no two draw the same u, all generators stay in
step, and a run is the same whoever works on it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from . import processes

T = TypeVar("T")

#: Random numbers in a block, and how many blocks are few.
BLOCK, FEW = 2**18, 4
#: Of a batch that is shared: (rows here, rows in all, the first that is here).
_share: tuple[int, int, int] | None = None
#: Rows of a batch that all have the same random numbers, by the thread that said so.
_alike: dict[int, int] = {}
#: Of this thread: where estimates of log-determinants draw, inside `probing`.
_probing = threading.local()
#: torch's generators are the process's: whoever seeds them has them alone.
_seeding = threading.RLock()


def seed_all(seed: int) -> None:
    """Seed torch on every device, and numpy and Python for what a third-party flow may draw from them."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def forked(seed: int) -> Iterator[None]:
    """Inside, torch draws from `seed`; afterwards its generators go on as if nothing had been drawn.

    Other threads wait to do the same: the generators are the process's.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with _seeding, torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def seeding(seed: int | None) -> Callable[..., object]:
    """What seeds torch for the work at a place below `seed`, called with the path to it; nothing for None."""
    return lambda *path: None if seed is None else torch.manual_seed(derive(seed, *path))


def get_state() -> dict[str, Tensor]:
    """States of torch's generators, that of the CPU and that of this process's GPU, as byte tensors by name."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_state(states: dict[str, Tensor]) -> None:
    """Undo what happened since `get_state`; the generator of a device that is not here is left out."""
    torch.set_rng_state(states["cpu"])
    gpu = states.get("cuda", states.get("cuda0"))  # as runs of the first days called it
    if gpu is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(gpu)


def derive(seed: int, *path: int) -> int:
    """A seed of 63 bits for what has its place at `path` below `seed`, unrelated to that of any other place.

    Zeros at the end of a path are as if they were not there.
    """
    return int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0]) >> 1


@contextmanager
def share(start: int, stop: int, whole: int) -> Iterator[None]:
    """Inside, what has a row for each datum has those from `start` to `stop` of a batch of `whole`."""
    global _share
    before, _share = _share, (stop - start, whole, start) if stop - start < whole else None
    try:
        yield
    finally:
        _share = before


@contextmanager
def alike(rows: int) -> Iterator[None]:
    """Inside, all rows of a batch of `rows` have the same random numbers: what is made of a row depends on no other."""
    thread = threading.get_ident()
    before = _alike.get(thread)
    _alike[thread] = rows
    try:
        yield
    finally:
        del _alike[thread]
        if before is not None:
            _alike[thread] = before


def sum_over_batch(x: Tensor) -> Tensor:
    """Σ x over all processes that share a batch, of the shape of x. Its gradient sums over them too."""
    return processes.total(x)


def largest_of_batch(value: float) -> float:
    """The largest of the numbers, none of them NaN, that the processes have which share a batch."""
    return value if _share is None else processes.largest(value)


def for_rows(draw: Callable[[Sequence[int]], Tensor], shape: Sequence[int], dim: int = 0) -> Tensor:
    """`draw(shape)`, random numbers of which dimension `dim` runs over the rows of a batch, perhaps several times.

    Inside `share` they are drawn for the whole batch, and those of the rows that are here are returned. Inside `alike`
    they are drawn for one row.
    """
    if _alike and (rows := _alike.get(threading.get_ident())):
        one = draw((*shape[:dim], shape[dim] // rows, 1, *shape[dim + 1 :]))
        return one.expand(*shape[:dim], -1, rows, *shape[dim + 1 :]).flatten(dim, dim + 1)
    if _share is None:
        return draw(shape)
    here, whole, start = _share
    drawn = draw((*shape[:dim], shape[dim] // here, whole, *shape[dim + 1 :]))
    return drawn.narrow(dim + 1, start, here).flatten(dim, dim + 1)


def normal(shape: Sequence[int], like: Tensor, dim: int = 0) -> Tensor:
    """Standard normal numbers `for_rows`, in the precision and on the device of `like`."""
    return for_rows(lambda size: torch.randn(size, dtype=like.dtype, device=like.device), shape, dim)


@contextmanager
def probing(rows: int, seed: int | None = None) -> Iterator[None]:
    """Inside, estimates of log-determinants draw the same numbers for each importance sample of a datum.

    Arguments:
        rows: Data; a batch of k · rows is k importance samples of each.
        seed: What the numbers are a matter of, in their order; None draws them as outside.
    """
    before = getattr(_probing, "now", None)
    _probing.now = _Probes(rows, seed)
    try:
        yield
    finally:
        _probing.now = before


class _Probes:
    """Where the numbers inside one `probing` come from."""

    def __init__(self, rows: int, seed: int | None) -> None:
        self.rows, self._seed = rows, seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def generator(self, device: torch.device) -> torch.Generator | None:
        """The generator of a device, seeded at its first use; None for torch's own."""
        if self._seed is None:
            return None
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]


def under(work: Sequence[Callable[[], T]], noises: Sequence[int], rows: int) -> list[T]:
    """What each piece of work gives under its noise in the log-determinants of `rows` data.

    All other random numbers are the same for each. Without noises the work is simply done.
    """
    if not noises:
        return [do() for do in work]
    before, results = get_state(), []
    for do, noise in zip(work, noises, strict=True):
        set_state(before)
        with probing(rows, noise):
            results.append(do())
    return results


@contextmanager
def probed() -> Iterator[None]:
    """Inside, torch's own generators draw as `probe` does: for estimates of log-determinants in the code of others."""
    now: _Probes | None = getattr(_probing, "now", None)
    generator = None if now is None else now.generator(torch.device("cpu"))
    with nullcontext() if generator is None else forked(int(torch.randint(2**62, (), generator=generator))):
        yield


def probe(like: Tensor) -> Tensor:
    """Standard normal numbers, like `like`, for an estimate of a log-determinant; see `probing`."""
    return _probe(like, normal_blocks, lambda x, g: torch.empty_like(x).normal_(generator=g))


def random_signs(like: Tensor) -> Tensor:
    """Numbers −1 or 1, each as likely, like `like`, for an estimate of a trace; see `probing`."""
    coins = _probe(
        like,
        lambda x: for_rows(lambda size: x.new_empty(size).bernoulli_(), x.shape),
        lambda x, g: torch.empty_like(x).bernoulli_(generator=g),
    )
    return 2 * coins - 1


def geometric(p: float) -> int:
    """How many trials it takes until one succeeds, which each does with probability p; see `probing`."""
    now: _Probes | None = getattr(_probing, "now", None)
    generator = None if now is None else now.generator(torch.device("cpu"))
    return int(torch.empty(1, dtype=torch.float64).geometric_(p, generator=generator).tolist()[0])


def _probe(
    like: Tensor, outside: Callable[[Tensor], Tensor], seeded: Callable[[Tensor, torch.Generator], Tensor]
) -> Tensor:
    now: _Probes | None = getattr(_probing, "now", None)
    generator = None if now is None else now.generator(like.device)
    alike = threading.get_ident() in _alike
    if now is None or (alike and generator is None):
        return outside(like)
    rows = like[: 1 if alike else now.rows]
    drawn = outside(rows) if generator is None else seeded(rows, generator)
    return drawn.repeat(len(like) // max(1, len(rows)), *[1] * (like.dim() - 1))


def normal_blocks(like: Tensor) -> Tensor:
    """Standard normal numbers for rows, like `like`; of a batch of very many numbers, only what this process needs.

    There each block of rows has a generator of its own. A few blocks are drawn as `normal` draws them.
    """
    here, whole, start = _share or (len(like), len(like), 0)
    rows = max(1, BLOCK * len(like) // max(1, like.numel()))
    if threading.get_ident() in _alike or whole <= FEW * rows or len(like) != here:
        return normal(like.shape, like)
    seed, generator = int(torch.randint(2**62, ())), torch.Generator(like.device)
    first, last = start // rows, (start + here - 1) // rows
    blocks = []
    for block in range(first, last + 1):
        size = (min(rows, whole - block * rows), *like.shape[1:])
        generator.manual_seed(derive(seed, block))
        blocks.append(torch.randn(size, generator=generator, dtype=like.dtype, device=like.device))
    return torch.cat(blocks).narrow(0, start - first * rows, here)
