"""What is measured of a model besides its log-likelihood: where its mass is, how near to non-invertible it has become,
and how far the estimate of log p(x) can be trusted. `docs/diagnostics.md` says how to read each number.

    topology        mass_off_support, coverage, components, mass_misplaced
    invertibility   lip_f, lip_f_inverse, bi_lipschitz, lipschitz_ceiling, log_abs_det_…, round_trip_…
    trust           log_w_variance, pareto_k, pareto_k_high, iwae_curve, bracket, index_reach

A part that can't be computed for some model is left out, and `left_out` has a sentence that says why.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..cif.importance import mean_and_error, pieces, weight_matrix
from ..cif.memory import chunk_size
from ..cif.model import Model
from ..cif.paths import generate, infer, log_weight
from ..compute.rng import forked
from ..config.schema import Config
from ..data.base import Data
from ..data.grey_levels import dequantize
from ..errors import CifrunError
from . import invertibility, topology, trust
from .index_use import reach

__all__ = ["Diagnostics", "scalars"]

#: How far beyond the data round trips are made too: their deviations from the mean, ten times over.
FAR = 10.0


class Diagnostics:
    """Measures a model of some data, as `config.diagnostics` says; the same model gives the same numbers.

    Arguments:
        config: The run's.
        data: Whose test set is looked at, and whose target, where it is known.

    Example:
        >>> Diagnostics(config, data)(model)["bi_lipschitz"]
    """

    def __init__(self, config: Config, data: Data) -> None:
        self.config = config
        self.settings = config.diagnostics
        self.data = data

    @cached_property
    def _level(self) -> float:
        return -math.inf if self.data.target is None else topology.support_level(self.data.target)

    def due(self, step: int) -> bool:
        """Whether to measure after this step of training."""
        return self.settings.enabled and self.settings.every > 0 and step % self.settings.every == 0

    def absent(self) -> list[str]:
        """How the names of those scalars begin that training will not have."""
        if not (self.settings.enabled and self.settings.every > 0):
            return ["diagnostics/"]
        names = [] if self.config.cif else ["pareto_k", "bracket"]
        return [f"diagnostics/{name}" for name in (names if self.data.target else [*names, "mass_off_support"])]

    def __call__(self, model: Model) -> dict[str, Any]:
        """All that can be measured: numbers, tables as lists of rows, and the list "left_out" if anything could not.

        The model may be in training: its mode, its weights and the random state are as before afterwards.
        """
        training = model.training
        model.eval()
        result: dict[str, Any] = {}
        left_out: list[str] = []
        parts = [self._masses, self._coverage, self._lipschitz, self._round_trips, self._trust]
        if any(step.bijection.stochastic for step in model.steps):  # it has no inverse, and no constants
            parts = [self._masses, self._coverage, self._trust]
        try:
            for part in parts:
                with forked(self.config.eval.seed):
                    self._attempt(part, model, result, left_out)
        finally:
            model.train(training)
        if left_out:
            result["left_out"] = left_out
        return result

    def _attempt(
        self,
        part: Callable[[Model, dict[str, Any], list[str]], None],
        model: Model,
        result: dict[str, Any],
        left_out: list[str],
    ) -> None:
        # A flow from elsewhere may fail in ways of its own: a measurement is no reason to lose the run.
        try:
            part(model, result, left_out)
        except (CifrunError, RuntimeError, ValueError, ArithmeticError, NotImplementedError) as error:
            self._leave_out(part.__name__.strip("_").replace("_", " "), error, left_out)

    def _leave_out(self, what: str, error: Exception, left_out: list[str]) -> None:
        kind = "" if isinstance(error, CifrunError) else f"{type(error).__name__}: "
        left_out.append(f"{what}: {kind}{' '.join(str(error).split())}")
        print(f"cifrun: diagnostics leave out {left_out[-1]}", file=sys.stderr)

    def _test(self, count: int, like: Tensor) -> Tensor:
        """At most `count` test data, spread over the set, as a file may be sorted; grey levels with fixed noise."""
        x = self.data.test
        noise = torch.Generator().manual_seed(self.config.eval.seed)
        return dequantize(x[:: -(-len(x) // count)], noise).to(like)

    def _chunk_size(self, model: Model) -> int:
        return chunk_size(model, self.config.eval.chunk_size)

    def _jacobian_points(self) -> int:
        points = self.settings.jacobian_points
        return max(2, min(points, 8 * points // math.prod(self.data.shape)))

    def _noise(self, model: Model, count: int) -> Tensor:
        like = next(model.parameters())
        return torch.randn((count, *model.latent_shape), dtype=like.dtype, device=like.device)

    # --- topology -----------------------------------------------------------------------------------------------------

    def _masses(self, model: Model, result: dict[str, Any], _: list[str]) -> None:
        target = self.data.target
        if target is None:
            return
        size = self._chunk_size(model)
        samples = model.sample(self.settings.samples, chunk_size=size).cpu()
        result |= topology.mass_off_support(target, samples, self._level)
        result |= topology.component_masses(target, samples)

    @torch.no_grad()
    def _coverage(self, model: Model, result: dict[str, Any], _: list[str]) -> None:
        size, m = self._chunk_size(model), self.settings.density_samples
        m = min(m, self.config.eval.importance_samples)  # where that is small, a model is slow
        samples = model.sample(self.settings.density_points, chunk_size=size)
        data = self._test(self.settings.density_points, samples)
        log_p = [model.log_prob(x, m, size).cpu() for x in (samples, data)]
        result |= topology.coverage(*log_p)

    # --- invertibility ------------------------------------------------------------------------------------------------

    def _lipschitz(self, model: Model, result: dict[str, Any], left_out: list[str]) -> None:
        double = copy.deepcopy(model).double()
        count = self._jacobian_points()
        x = self._test(count, next(model.parameters()))
        paths = [infer(model, x).to(torch.float64)]
        try:
            paths.append(generate(model, self._noise(model, count)).to(torch.float64))
        except CifrunError as error:
            self._leave_out("Lipschitz constants at samples", error, left_out)
        result |= invertibility.lipschitz(double, paths)
        result |= invertibility.log_abs_det(double, paths)

    def _round_trips(self, model: Model, result: dict[str, Any], left_out: list[str]) -> None:
        single, double = copy.deepcopy(model).float(), copy.deepcopy(model).double()
        count = self._jacobian_points()
        data = self._test(count, next(model.parameters()))
        mean = data.mean(0)
        places: dict[str, Callable[[], Tensor]] = {
            "data": lambda: data,
            "samples": lambda: model.sample(count),
            "far": lambda: mean + FAR * (data - mean),
        }
        if self.data.levels:  # there are no pixels beyond black and white
            del places["far"]
        for place, points in places.items():
            for precision, of in (("float32", single), ("float64", double)):
                try:
                    x = points().to(next(of.parameters()))
                    result[f"round_trip_{place}_{precision}"] = invertibility.round_trip(of, x)
                except CifrunError as error:
                    self._leave_out(f"round trips of {place} in {precision}", error, left_out)

    # --- trust --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _trust(self, model: Model, result: dict[str, Any], left_out: list[str]) -> None:
        if not model.indexed:
            return

        def weights(x: Tensor) -> Tensor:
            size = self._chunk_size(model)
            work = pieces(len(x), self.settings.weights, min(len(x), max(1, size // 10)), size)
            return weight_matrix(model.log_weights(lambda rows: x[rows], work)).double().cpu()

        log_w = weights(self._test(self.settings.weight_points, next(model.parameters())))
        result |= mean_and_error(log_w.var(0), "log_w_variance")
        result["iwae_curve"] = trust.iwae_curve(log_w)
        try:
            k = trust.pareto_k(log_w)
            high, high_se = topology.share(k > trust.HIGH)
            result |= {"pareto_k": k.median().item(), "pareto_k_max": k.max().item()}
            result |= {"pareto_k_high": high, "pareto_k_high_se": high_se}
            result["pareto_k_verdict"] = trust.verdict(result["pareto_k"])
        except ValueError as error:
            self._leave_out("Pareto k̂", error, left_out)
        path = generate(model, self._noise(model, self.settings.weight_points))
        reaches = enumerate(reach(model, path), start=1)
        result["index_reach"] = [{"depth": depth, "reach": r} for depth, r in reaches if r is not None]
        result["bracket"] = trust.bracket(log_weight(model, path).double().cpu(), weights(path.x))
        result |= {f"bracket_{name}": value for name, value in result["bracket"][-1].items() if name != "m"}


def scalars(result: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """The numbers of a result, for TensorBoard: without standard errors, and a component's mass under its name."""
    shown = {k: v for k, v in result.items() if isinstance(v, float) and not k.endswith("_se")}
    shown |= {f"mass of {row['name']}": row["mass"] for row in result.get("components", [])}
    return {f"{prefix}/{name}": value for name, value in shown.items()}
