"""One data set, one model, many methods: each with its step (and λ) chosen on validation rows, judged on test rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import xarray as xr
from torch import Tensor

from fedconv.practice import Recipe, fit, train
from fedconv.problems.errors import InputError
from fedconv.problems.modules.data import Client, train_validation_test
from fedconv.problems.modules.models import LayeredModel, Mode, split, start_of
from fedconv.problems.modules.problem import ModuleProblem

TUNING_SEEDS = 100_000
"""Where the seeds begin that steps are chosen with; those that are reported begin at 0."""

PRETRAINING_SEEDS = 1_000_000
"""What is added to a seed for its pretraining, so that later rounds draw other cohorts and rows."""

HELD_OUT = (0.15, 0.4)
"""The shares of a client's rows for validation and for the test, which is of each client alone and needs the most."""

KEPT = ("accuracy_before", "accuracy_after", "loss_before", "loss_after", "rows", "rows_held_out")
"""What is kept of a run."""

Begun = dict[int, dict[str, Tensor]]
"""A seed's parameters by name."""


@dataclass(frozen=True)
class Contender:
    """A method under a name of its own. ``mode``: which parameters are personal; ``model``: a seed's model; ``recipe``:
    the step sizes that it uses are replaced by each of the study's grid, and its λ by each of ``lams``, where given;
    ``scratch``: it begins at the seed's own model also in a study with pretraining."""

    name: str
    recipe: Recipe
    model: Callable[[int], LayeredModel]
    mode: Mode = "none"
    lams: tuple[float, ...] = ()
    scratch: bool = False

    def candidates(self, steps: Sequence[float]) -> list[Recipe]:
        """The recipes of the grid: one step size for both blocks, every λ."""
        used = [name for name in ("gamma_u", "gamma_v") if getattr(self.recipe, name) > 0]
        grid = itertools.product(steps, self.lams or (self.recipe.lam,))
        return [replace(self.recipe, lam=lam, **dict.fromkeys(used, step)) for step, lam in grid]


@dataclass(frozen=True)
class Study:
    """Clients whose rows are parted into training, validation and test rows by ``seed``, and how methods are compared.

    steps: the grid of step sizes; seeds, tuning_seeds: how many starts, cohorts and mini-batch streams are run for what
    is reported and for every point of the grid. pretraining: FedAvg with everything shared; runs begin at its model of
    the same seed, and what it lacks (adapters) at the seed's own model. None: runs begin at the seed's own model.
    """

    name: str
    clients: Sequence[Client]
    steps: tuple[float, ...] = (0.1, 0.3, 1.0)
    seeds: int = 6
    tuning_seeds: int = 2
    seed: int = 0
    pretraining: Contender | None = None

    def __post_init__(self) -> None:
        if not self.steps:
            raise InputError("steps must hold at least one step size; got none")
        if self.pretraining is not None and (self.pretraining.mode, self.pretraining.recipe.method) != (
            "none",
            "fedavg",
        ):
            raise InputError("pretraining must be FedAvg with everything shared; got another method or mode")
        if self.seeds < 2 or self.tuning_seeds < 1:
            raise InputError(
                f"seeds must be at least 2 and tuning_seeds at least 1; got {self.seeds}, {self.tuning_seeds}"
            )

    @cached_property
    def parts(self) -> tuple[list[Client], list[Client], list[Client]]:
        return train_validation_test(self.clients, *HELD_OUT, seed=self.seed)

    def problem(self, contender: Contender) -> ModuleProblem:
        """The contender's problem: the training rows, and the model of seed 0 with its personal part."""
        model = contender.model(0)
        return ModuleProblem(model, self.parts[0], personal=split(model, contender.mode))

    def run(self, contenders: Sequence[Contender]) -> xr.Dataset:
        """Choose each contender's recipe by the mean validation accuracy after the local phase (the first of the best),
        train it with the study's seeds, and judge it on the test rows.

        Returns the variables KEPT of ``fedconv.practice.train`` along a dim ``method``, and for each method ``share``
        (of the parameters that are personal), ``step``, ``lam``, and ``validation`` (the chosen recipe's accuracy).
        Raises InputError for no contenders or two of one name.
        """
        names = [c.name for c in contenders]
        if not names or len(set(names)) < len(names):
            raise InputError(f"contenders must have names of their own; got {', '.join(names) or 'none'}")
        begun = self._pretrained()
        found = [self._one(c, begun) for c in contenders]
        data = xr.concat(found, "method", combine_attrs="override")
        for name in ("rows", "rows_held_out"):  # the same for all methods
            data[name] = data[name].isel({"method": 0}, drop=True)
        data.attrs["study"] = self.name
        return data

    def _pretrained(self) -> Begun:
        """The parameters of every seed's pretrained model by name; none without pretraining."""
        first = self.pretraining
        if first is None:
            return {}
        problem, begun = self.problem(first), {}
        recipe, _ = self._chosen(first, problem, begun)
        seeds = [*range(self.seeds), *self._tuning]

        def start(seed: int) -> tuple[Tensor, Tensor]:
            return self._start(problem, first, seed - PRETRAINING_SEEDS, {})

        done = fit(problem, recipe, [PRETRAINING_SEEDS + seed for seed in seeds], starts=start, objective=False)
        sizes = [math.prod(shape) for shape in problem.shapes.values()]
        for seed, u in zip(seeds, done.state.u, strict=True):
            parts = zip(problem.shapes.items(), torch.split(u.cpu(), sizes), strict=True)
            begun[seed] = {name: part.reshape(shape) for (name, shape), part in parts}
        return begun

    @property
    def _tuning(self) -> list[int]:
        return list(range(TUNING_SEEDS, TUNING_SEEDS + self.tuning_seeds))

    @staticmethod
    def _start(problem: ModuleProblem, contender: Contender, seed: int, begun: Begun) -> tuple[Tensor, Tensor]:
        model = contender.model(seed).double()
        named = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in ({} if contender.scratch else begun.get(seed, {})).items():
                named[name].copy_(value)
        return start_of(problem, model)

    def _chosen(self, contender: Contender, problem: ModuleProblem, begun: Begun) -> tuple[Recipe, float]:
        """The recipe of the grid with the best validation accuracy, and that accuracy."""
        scored = []
        for recipe in contender.candidates(self.steps):
            seen = train(
                problem, self.parts[1], recipe, self._tuning,
                starts=lambda seed: self._start(problem, contender, seed, begun), objective=False,
            )  # fmt: skip
            score = float(seen["accuracy_after"].mean(skipna=False))
            scored.append((score if math.isfinite(score) else -math.inf, recipe))
        score, recipe = max(scored, key=lambda pair: pair[0])
        return recipe, score

    def _one(self, contender: Contender, begun: Begun) -> xr.Dataset:
        problem = self.problem(contender)
        recipe, score = self._chosen(contender, problem, begun)
        data = train(
            problem, self.parts[2], recipe, list(range(self.seeds)),
            starts=lambda seed: self._start(problem, contender, seed, begun), objective=False,
        )  # fmt: skip
        kept = data[list(KEPT)].drop_attrs(deep=False)
        share = problem.d_v / (problem.d_u + problem.d_v)
        about = {
            "share": (share, "share of parameters that are personal", "1"),
            "step": (recipe.gamma_u or recipe.gamma_v, "step size chosen on validation rows", "1"),
            "lam": (recipe.lam, "λ chosen on validation rows", "units of F per squared parameter"),
            "validation": (score, "validation accuracy with which the step was chosen", "1"),
        }
        for name, (value, words, units) in about.items():
            kept[name] = ((), value, {"long_name": words, "units": units})
        return kept.expand_dims(method=[contender.name])
