"""What is measured of a model besides its log-likelihood: where its mass is, how near to non-invertible it has become,
and how far the estimate of log p(x) can be trusted. `docs/diagnostics.md` says how to read each number.

The numbers are those of the themes topology, invertibility and trust in `runs/metrics.yaml`. A part that can't be
computed for some model is left out, and `left_out` has a sentence that says why.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..cif.importance import mean_and_error, pieces, weight_matrices
from ..cif.memory import chunk_size
from ..cif.model import Model
from ..cif.modes import evaluating
from ..cif.paths import generate, infer, log_weight
from ..compute.memory import COPIES, check_room
from ..compute.rng import forked
from ..config.schema import Config
from ..data.base import Data
from ..data.grey_levels import dequantize
from ..errors import CifrunError
from ..io.terminal import tell
from ..runs.metrics import NUMBERS, kinds
from . import invertibility, topology, trust
from .index_use import reach

#: How far beyond the data round trips are made too: their deviations from the mean, ten times over.
FAR = 10.0
#: Of a number in double precision.
BYTES = 8
#: What a measurement may raise.
FAILURES = (CifrunError, RuntimeError, ValueError, ArithmeticError, NotImplementedError)


class Diagnostics:
    """Measures a model of some data, as `config.diagnostics` says; the same model gives the same numbers.

    Arguments:
        config: The run's.
        data: Whose test set is looked at, and whose target, where it is known.

    Example:
        >>> from cifrun.build import build_data, build_model
        >>> from cifrun.cli.hydra_app import configure
        >>> config = configure(["dataset=two_uniforms", "flow=affine", "cif=false", "debug=tiny"])
        >>> data = build_data(config)
        >>> round(Diagnostics(config, data)(build_model(config, data.shape).eval())["bi_lipschitz"], 2)
        1.0
    """

    def __init__(self, config: Config, data: Data) -> None:
        self.config = config
        self.settings = config.diagnostics
        self.data = data
        if self.settings.enabled:
            points, weights = self.settings.weight_points, self.settings.weights
            check_room(points * weights, f"diagnostics.weights = {weights} for each of {points} data", 4 * BYTES)
            samples = max(self.settings.samples, self.settings.density_points, self.settings.jacobian_points)
            check_room(COPIES * samples * math.prod(data.shape), f"{samples} samples of diagnostics", BYTES)

    @cached_property
    def _level(self) -> float:
        return -math.inf if self.data.target is None else topology.support_level(self.data.target)

    def due(self, step: int) -> bool:
        """Whether to measure after this step of training."""
        return self.settings.enabled and self.settings.every > 0 and step % self.settings.every == 0

    def absent(self) -> list[str]:
        """Prefixes of the tags that training never logs."""
        if not (self.settings.enabled and self.settings.every > 0):
            return ["diagnostics/"]
        mine = kinds(cif=self.config.cif, target=self.data.target is not None, images=bool(self.data.levels))
        return [f"diagnostics/{metric.name}" for metric in NUMBERS if not metric.fits(mine)]

    def __call__(self, model: Model) -> dict[str, Any]:
        """All that can be measured: numbers, tables as lists of rows, and the list "left_out" if anything could not.

        The model may be in training: its mode, its weights and the random state are as before afterwards.
        """
        result: dict[str, Any] = {}
        left_out: list[str] = []
        parts = [self._masses, self._coverage, self._lipschitz, self._round_trips, self._trust]
        if any(step.bijection.stochastic for step in model.steps):  # it has no inverse, and no constants
            parts = [self._masses, self._coverage, self._trust]
        with evaluating(model):
            for part in parts:
                # A flow from elsewhere may fail in ways of its own: a measurement is no reason to lose the run.
                with forked(self.config.eval.seed), _left_out(part.__name__, left_out, *FAILURES):
                    for found in part(model, left_out):
                        result |= found
        return result | ({"left_out": left_out} if left_out else {})

    def _test(self, count: int, like: Tensor) -> Tensor:
        """At most `count` test data, as of `Data.some_test`; grey levels with fixed noise."""
        noise = torch.Generator().manual_seed(self.config.eval.seed)
        return dequantize(self.data.some_test(count), noise).to(like)

    def _chunk_size(self, model: Model) -> int:
        return chunk_size(model, self.config.eval.chunk_size)

    def _jacobian_points(self) -> int:
        points = self.settings.jacobian_points
        return max(2, min(points, 8 * points // math.prod(self.data.shape)))

    def _noise(self, model: Model, count: int) -> Tensor:
        return model.base.draw(count, next(model.parameters()))

    # Each part gives what it finds piece by piece, so that what comes before a failure counts.

    def _masses(self, model: Model, _: list[str]) -> Iterator[dict[str, Any]]:
        if (target := self.data.target) is not None:
            samples = model.sample(self.settings.samples, chunk_size=self._chunk_size(model)).cpu()
            yield topology.mass_off_support(target, samples, self._level)
            yield topology.component_masses(target, samples)

    @torch.no_grad()
    def _coverage(self, model: Model, _: list[str]) -> Iterator[dict[str, Any]]:
        size, count = self._chunk_size(model), self.settings.density_points
        # Where there are few importance samples, a model is slow.
        m = min(self.settings.density_samples, self.config.eval.importance_samples)
        samples = model.sample(count, chunk_size=size)
        yield topology.coverage(*(model.log_prob(x, m, size).cpu() for x in (samples, self._test(count, samples))))

    def _lipschitz(self, model: Model, left_out: list[str]) -> Iterator[dict[str, Any]]:
        double, count = copy.deepcopy(model).double(), self._jacobian_points()
        paths = [infer(model, self._test(count, model.takes)).to(torch.float64)]
        with _left_out("Lipschitz constants at samples", left_out, CifrunError):
            paths.append(generate(model, self._noise(model, count)).to(torch.float64))
        yield invertibility.lipschitz(double, paths)
        yield invertibility.log_abs_det(double, paths)

    def _round_trips(self, model: Model, left_out: list[str]) -> Iterator[dict[str, Any]]:
        copies = {"float32": copy.deepcopy(model).float(), "float64": copy.deepcopy(model).double()}
        count = self._jacobian_points()
        data = self._test(count, model.takes)
        mean = data.mean(0)
        places = {"data": lambda: data, "samples": lambda: model.sample(count)}
        if not self.data.levels:  # there are no pixels beyond black and white
            places["far"] = lambda: mean + FAR * (data - mean)
        for place, points in places.items():
            for precision, of in copies.items():
                with _left_out(f"round trips of {place} in {precision}", left_out, CifrunError):
                    x = points().to(of.takes)
                    yield {f"round_trip_{place}_{precision}": invertibility.round_trip(of, x)}

    @torch.no_grad()
    def _trust(self, model: Model, left_out: list[str]) -> Iterator[dict[str, Any]]:
        if not model.indexed:
            return

        def weights(x: Tensor) -> tuple[Tensor, Tensor | None]:
            size = self._chunk_size(model)
            work = pieces(len(x), self.settings.weights, min(len(x), max(1, size // 10)), size)
            log_w, again = weight_matrices(model.log_weights(lambda rows: x[rows], work))
            return log_w.double().cpu(), None if again is None else again.double().cpu()

        log_w, again = weights(self._test(self.settings.weight_points, model.takes))
        yield mean_and_error(log_w.var(0), "log_w_variance")
        yield {"iwae_curve": trust.iwae_curve(log_w, again)}
        with _left_out("Pareto k̂", left_out, ValueError):
            k = trust.pareto_k(log_w)
            high, high_se = topology.share(k > trust.HIGH)
            middle = k.median().item()
            yield {
                "pareto_k": middle,
                "pareto_k_max": k.max().item(),
                "pareto_k_high": high,
                "pareto_k_high_se": high_se,
            }
            yield {"pareto_k_verdict": trust.verdict(middle)}
        path = generate(model, self._noise(model, self.settings.weight_points))
        reaches = enumerate(reach(model, path), start=1)
        yield {"index_reach": [{"depth": depth, "reach": r} for depth, r in reaches if r is not None]}
        bracket = trust.bracket(log_weight(model, path).double().cpu(), *weights(path.x))
        yield {"bracket": bracket, **{f"bracket_{name}": value for name, value in bracket[-1].items() if name != "m"}}


@contextmanager
def _left_out(what: str, left_out: list[str], *errors: type[Exception]) -> Iterator[None]:
    """Inside, such an error ends the work; a sentence on it is printed and added to `left_out`."""
    try:
        yield
    except errors as error:
        kind = "" if isinstance(error, CifrunError) else f"{type(error).__name__}: "
        left_out.append(f"{what.strip('_').replace('_', ' ')}: {kind}{' '.join(str(error).split())}")
        tell(f"diagnostics leave out {left_out[-1]}")


def scalars(result: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """The numbers of a result, for TensorBoard: without standard errors, and a component's mass under its name."""
    shown = {k: v for k, v in result.items() if isinstance(v, float) and not k.endswith("_se")}
    shown |= {f"mass of {row['name']}": row["mass"] for row in result.get("components", [])}
    return {f"{prefix}/{name}": value for name, value in shown.items()}
