"""Density estimators beside cifrun's flows, for scripts/frontier.py, which runs this file in a process for each.

A peer is a function f(train, valid, seconds, seed) → density, or (density, seconds that count). `train` and `valid` are
points, (n, 2), float64 numpy; `density` takes such points and gives their log-densities, (n,), in nats. Those below are
used as their documentation shows them. They see standardised points.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifrun.build import build_data
from cifrun.cli.hydra_app import configure
from cifrun.errors import CifrunError

Points = NDArray[np.float64]
Density = Callable[[Points], Points]
Peer = Callable[[Points, Points, float, int], Any]

# --- zuko -------------------------------------------------------------------------------------------------------------

RATES = (1e-3, 3e-3, 1e-2)
PILOT = 0.1  # of the seconds, for each rate
BATCH = 256
VALID_EVERY = 100  # steps, as cifrun does


def zuko_flow(name: str, train: Points, valid: Points, seconds: float, seed: int) -> tuple[Density, float]:
    """A flow of zuko at its own sizes. Adam's rate is the best of a few after short trainings, which do not count."""
    import zuko

    x, v = (torch.from_numpy(points).float() for points in (train, valid))
    make = partial(getattr(zuko.flows, name), 2)
    rate = max(RATES, key=lambda rate: _fit(make(), rate, x, v, PILOT * seconds)[0])
    flow, began = make(), time.monotonic()
    _fit(flow, rate, x, v, seconds)
    spent = time.monotonic() - began

    @torch.inference_mode()
    def density(points: Points) -> Points:
        return flow().log_prob(torch.from_numpy(points).float()).double().numpy()

    return density, spent


def _fit(flow: Any, rate: float, train: Tensor, valid: Tensor, seconds: float) -> tuple[float, Any]:
    """Train with a cosine over the seconds. The flow then has its best weights; what they reach on validation."""
    optimizer = torch.optim.Adam(flow.parameters(), lr=rate)
    began, best, weights = time.monotonic(), -math.inf, copy.deepcopy(flow.state_dict())
    for step in itertools.count(1):
        share = min(1.0, (time.monotonic() - began) / seconds)
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * share)) / 2
        loss = -flow().log_prob(train[torch.randint(len(train), (BATCH,))]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % VALID_EVERY == 0 or share == 1:
            with torch.inference_mode():
                reached = flow().log_prob(valid).mean().item()
            if reached > best:
                best, weights = reached, copy.deepcopy(flow.state_dict())
        if share == 1:
            break
    flow.load_state_dict(weights)
    return best, flow


# --- scikit-learn -----------------------------------------------------------------------------------------------------

COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
BANDWIDTHS = (0.003, 1.0)
ROUNDS, TRIED = 4, 5  # bandwidths are tried on a grid that grows finer


def gaussian_mixture(train: Points, valid: Points, seconds: float, seed: int) -> tuple[Density, float]:
    """The mixture that is best on validation, of all sizes and then of other starts near the best size, in the time."""
    from sklearn.mixture import GaussianMixture

    start, longest = time.monotonic(), 0.0
    best: tuple[float, int, Any] = (-math.inf, 0, None)
    for attempt in itertools.count():
        near = range(max(0, best[1] - 1), min(best[1] + 2, len(COMPONENTS)))
        for k in range(len(COMPONENTS)) if attempt == 0 else near:
            began = time.monotonic()
            if best[2] is not None and began + 1.5 * longest > start + seconds:
                return best[2].score_samples, began - start
            model = GaussianMixture(COMPONENTS[k], random_state=100 * seed + attempt)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # some do not converge
                model.fit(train)
            longest = max(longest, time.monotonic() - began)
            best = max(best, (model.score(valid), k, model), key=lambda found: found[0])
    raise AssertionError("time ends")


def kernel_density(train: Points, valid: Points, seconds: float, seed: int) -> tuple[Density, float]:
    """Gaussian kernels of the bandwidth that is best on validation."""
    from sklearn.neighbors import KernelDensity

    start, longest = time.monotonic(), 0.0
    low, high = map(math.log, BANDWIDTHS)
    found: dict[float, float] = {}
    for _ in range(ROUNDS):
        for width in np.linspace(low, high, TRIED).tolist():
            began = time.monotonic()
            if width not in found and not (found and began + longest > start + seconds):
                found[width] = KernelDensity(bandwidth=math.exp(width)).fit(train).score(valid)
                longest = max(longest, time.monotonic() - began)
        best, step = max(found, key=found.__getitem__), (high - low) / (TRIED - 1)
        low, high = best - step, best + step
    model = KernelDensity(bandwidth=math.exp(best)).fit(train)
    return model.score_samples, time.monotonic() - start


def standardised(peer: Peer) -> Peer:
    """A peer that sees points of mean 0 and standard deviation 1; its density is that of the points as they are."""

    def wrapped(train: Points, valid: Points, seconds: float, seed: int) -> tuple[Density, float | None]:
        mean, std = train.mean(0), train.std(0)
        density, spent = _pair(peer((train - mean) / std, (valid - mean) / std, seconds, seed))
        return lambda points: density((points - mean) / std) - np.log(std).sum(), spent

    return wrapped


#: Those that are built in, by the name that tables and pictures have.
PEERS: dict[str, Peer] = {
    "zuko-NSF": standardised(partial(zuko_flow, "NSF")),
    "zuko-MAF": standardised(partial(zuko_flow, "MAF")),
    "GaussianMixture": standardised(gaussian_mixture),
    "KernelDensity": standardised(kernel_density),
}


# --- one measurement --------------------------------------------------------------------------------------------------


def _pair(result: Any) -> tuple[Density, float | None]:
    return result if isinstance(result, tuple) else (result, None)


def find(name: str) -> Peer:
    """A peer that is built in, or MODULE:FUNCTION; modules of the current directory are found too.

    Raises:
        CifrunError: There is no such module, or no such function in it.
    """
    if name in PEERS:
        return PEERS[name]
    module, _, function = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise CifrunError(f"the peer {name} can't be imported: {error}") from None
    if not callable(found):
        raise CifrunError(f"the module {module} has no function {function}")
    return found


def measure(name: str, seed: int, seconds: float, words: list[str]) -> dict[str, float]:
    """What a peer reaches on the test data of the dataset that the overrides name, and the seconds of its training."""
    data = build_data(configure(words))
    if data.target is None:
        raise CifrunError("the truth is not known")
    train, valid, test = (split.double().numpy() for split in (data.train, data.valid, data.test))
    peer = find(name)
    np.random.seed(seed)
    torch.manual_seed(seed)
    began = time.monotonic()
    density, spent = _pair(peer(train, valid, seconds, seed))
    spent = time.monotonic() - began if spent is None else spent
    reached = np.asarray(density(test), dtype=np.float64)
    if reached.shape != (len(test),):
        raise CifrunError(f"log-densities of shape {reached.shape} for {len(test)} points")
    truth = data.target.log_prob(data.test.double()).numpy()
    return {"kl": float((truth - reached).mean()), "log_likelihood": float(reached.mean()), "seconds": float(spent)}


def main(arguments: list[str]) -> None:
    """PEER SEED SECONDS FILE OVERRIDE…: writes FILE."""
    name, seed, seconds, file, *words = arguments
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        result = measure(name, int(seed), float(seconds), words)
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
    Path(file).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
