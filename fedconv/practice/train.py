"""Training by a recipe, for several seeds at once, and what the models do on rows that they have not seen."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedconv.core.checks import integer, start_fits
from fedconv.core.run import single_torch_thread
from fedconv.methods.split import State
from fedconv.practice.draws import Draws
from fedconv.practice.recipe import Recipe
from fedconv.practice.rules import check_one_model, rule_of
from fedconv.problems.errors import InputError
from fedconv.problems.modules.problem import ModuleProblem

if TYPE_CHECKING:
    import xarray as xr

Starts = Callable[[int], tuple[Tensor, Tensor]]
"""From a seed to the initial u ``(d_u,)``, V ``(n, d_v)``."""


class Variable(NamedTuple):
    dims: tuple[str, ...]
    long_name: str


_CLIENT = ("seed", "client")
VARIABLES: dict[str, Variable] = {
    "accuracy_before": Variable(_CLIENT, "held-out accuracy of each client's model before its last local phase"),
    "accuracy_after": Variable(_CLIENT, "held-out accuracy of each client's model after its last local phase"),
    "loss_before": Variable(_CLIENT, "held-out loss of each client's model before its last local phase"),
    "loss_after": Variable(_CLIENT, "held-out loss of each client's model after its last local phase"),
    "rows": Variable(("client",), "training rows"),
    "rows_held_out": Variable(("client",), "held-out rows"),
    "F": Variable(("seed", "round"), "training objective before round t"),
    "F_final": Variable(("seed",), "training objective after the last round"),
    "rounds_sampled": Variable(_CLIENT, "rounds in which the client took part"),
}


@dataclass(frozen=True)
class Fitted:
    """What training by a recipe gives, for R seeds.

    state: u and V as the method has them after the last round (FedAlt, FedSim: in the problem's split; the others:
    whole models). before, after: every client's whole model ``(R, n, D)`` before and after its last local phase, in the
    module's order, so the u of ``problem.with_personal(())``. F ``(R, T)``, F_final ``(R,)``: the training objective,
    None for methods without one or where it was not asked for; sampled ``(R, T, n)``. Seeds that diverge hold inf or
    NaN.
    """

    problem: ModuleProblem
    recipe: Recipe
    seeds: tuple[int, ...]
    state: State
    before: Tensor
    after: Tensor
    F: np.ndarray | None
    F_final: np.ndarray | None
    sampled: np.ndarray

    def dataset(self, held_out: Sequence[Any]) -> xr.Dataset:
        """The record of :func:`train`, measured on rows ``held_out``, one entry a client."""
        import xarray as xr

        there = self.problem.with_personal(()).on(held_out)
        arrays: dict[str, np.ndarray] = {
            "rows": self.problem.rows.sizes.cpu().numpy(),
            "rows_held_out": there.rows.sizes.cpu().numpy(),
            "rounds_sampled": self.sampled.sum(1),
        }
        for name, models in (("before", self.before), ("after", self.after)):
            for what, values in measure(there, models).items():
                arrays[f"{what}_{name}"] = values
        if self.F is not None and self.F_final is not None:
            arrays |= {"F": self.F, "F_final": self.F_final}
        return xr.Dataset(
            {key: (VARIABLES[key].dims, arrays[key], {"long_name": VARIABLES[key].long_name})
             for key in VARIABLES if key in arrays},
            coords={
                "seed": list(self.seeds),
                "client": np.arange(self.problem.n),
                "round": np.arange(self.recipe.rounds),
            },
            attrs=self.provenance(),
        )  # fmt: skip

    def provenance(self) -> dict[str, Any]:
        """What the models are and how they were trained; JSON texts."""
        problem = self.problem
        shape = {"n": problem.n, "d_u": problem.d_u, "d_v": problem.d_v, "personal": problem.names_v}
        versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
        return {"recipe": self.recipe.to_json(), "model": json.dumps(shape), "versions": json.dumps(versions)}


def measure(there: ModuleProblem, models: Tensor) -> dict[str, np.ndarray]:
    """Mean loss and, for cross-entropy, accuracy of models ``(R, n, D)`` on a problem whose parameters are all shared:
    ``(R, n)`` each. A model with a parameter that is inf or NaN, or with a loss that is NaN, has neither: NaN."""
    empty = models[..., :0]
    out = {"loss": there.value(models, empty, there.everyone())}
    broken = ~torch.isfinite(models).all(-1) | out["loss"].isnan()
    if there.classes:
        out["accuracy"] = there.accuracy(models, empty)
    return {key: torch.where(broken, torch.nan, values).cpu().numpy() for key, values in out.items()}


def fit(
    problem: ModuleProblem,
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    starts: Starts | None = None,
    progress: Callable[[int], None] | None = None,
    objective: bool = True,
) -> Fitted:
    """Train by a recipe from every seed; all seeds and clients are computed together.

    Cohorts and rows are those of the root seed (``fedconv.core.streams``, replicate 0), the same for all methods.
    starts: initial (u, V) of a seed; left out, the module's own parameters for all. progress is called with 1 after
    each round. objective: record F before every round, which goes over all rows; False saves that time. Raises
    InputError for seeds that are not different integers ≥ 0, a start that does not fit, and where the problem does not
    fit the recipe.
    """
    if len(seeds) == 0 or len(set(seeds)) != len(seeds):
        raise InputError(f"seeds must be different integers, at least one; got {list(seeds)}")
    for seed in seeds:
        integer("each of seeds", int(seed) if isinstance(seed, np.integer) else seed, 0)
    own = problem.start()
    given = [own if starts is None else starts(int(seed)) for seed in seeds]
    for u, v in given:
        start_fits(problem, State(u, v))
    u, v = (torch.stack([pair[j].to(problem.device) for pair in given]) for j in (0, 1))
    draws = Draws(problem, recipe, [int(seed) for seed in seeds])
    rule = rule_of(problem, recipe, draws)
    check_one_model(rule, v)
    R, T = len(seeds), recipe.rounds
    F = np.empty((R, T)) if objective and rule.has_objective else None
    sampled = np.zeros((R, T, problem.n), dtype=bool)
    with single_torch_thread():
        state = rule.begin(u, v)
        for t in range(T):
            cohort = draws.cohorts(t)
            np.put_along_axis(sampled[:, t], cohort, True, axis=1)
            if F is not None:
                F[:, t] = rule.objective(state).cpu().numpy()
            state = rule.round(state, t, torch.from_numpy(cohort).to(problem.device))
            if progress is not None:
                progress(1)
        final = None if F is None else rule.objective(state).cpu().numpy()
        before, after = rule.before(state), rule.after(state)
    return Fitted(problem, recipe, tuple(int(s) for s in seeds), state, before, after, F, final, sampled)


def train(
    problem: ModuleProblem,
    held_out: Sequence[Any],
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    starts: Starts | None = None,
    progress: Callable[[int], None] | None = None,
    objective: bool = True,
) -> xr.Dataset:
    """:func:`fit` and what the models do on held-out rows, one pair (X, y) a client; names in ``VARIABLES``.

    Dims (seed, client, round). ``accuracy_before`` and ``loss_before`` belong to the model that a client has when the
    rounds are over (what the server sends it, and its own part), ``accuracy_after`` and ``loss_after`` to the model
    after the client's last local phase, which every client runs. Accuracies are absent where the loss is no
    cross-entropy, F where the method has no single objective (pFedMe, Ditto) or ``objective`` is False. Losses are
    means over a client's rows, without regularisation. Seeds that diverge are kept as inf or NaN. attrs: recipe, model
    and versions as JSON.
    """
    problem.on(held_out)  # what does not fit is said before anything is trained
    with single_torch_thread():
        return fit(problem, recipe, seeds, starts=starts, progress=progress, objective=objective).dataset(held_out)
