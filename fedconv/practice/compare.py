"""Several methods side by side, and the choice of step sizes on validation rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.core.checks import number
from fedconv.practice.recipe import USES, Recipe
from fedconv.practice.train import VARIABLES, Starts, train
from fedconv.problems.errors import InputError
from fedconv.problems.modules.problem import ModuleProblem

if TYPE_CHECKING:
    import xarray as xr


def compare(
    problem: ModuleProblem,
    held_out: Sequence[Any],
    recipes: Mapping[str, Recipe],
    seeds: Sequence[int],
    *,
    starts: Starts | None = None,
) -> xr.Dataset:
    """:func:`~fedconv.practice.train` by each recipe on the same seeds, starts and held-out rows.

    Every variable but the clients' rows has the leading dim ``method`` with the keys of ``recipes`` as labels; choose
    one by ``data.sel({"method": label})``, as xarray's ``sel`` has a keyword ``method`` of its own. NaN where a method
    has no such number (F of pFedMe and Ditto) or fewer rounds than another. attrs ``recipes``: JSON by label.
    """
    import xarray as xr

    if not recipes:
        raise InputError("recipes must hold at least one recipe; got none")
    single = {label: train(problem, held_out, recipe, seeds, starts=starts) for label, recipe in recipes.items()}
    first = next(iter(single.values()))
    rounds = max(recipe.rounds for recipe in recipes.values())
    out: dict[str, Any] = {}
    for name, about in VARIABLES.items():
        found = {label: each[name].values for label, each in single.items() if name in each}
        if not found:
            continue
        shape = tuple({"round": rounds}.get(d, first.sizes[d]) for d in about.dims)
        attrs = {"long_name": about.long_name}
        if "seed" not in about.dims:
            out[name] = (about.dims, first[name].values, attrs)
            continue
        whole = np.full((len(single), *shape), np.nan)
        for j, label in enumerate(single):
            if label in found:
                here = found[label]
                whole[(j, *(slice(0, s) for s in here.shape))] = here
        out[name] = (("method", *about.dims), whole, attrs)
    attrs = {k: x for k, x in first.attrs.items() if k != "recipe"}
    return xr.Dataset(
        out,
        coords={
            "method": list(single),
            "seed": first["seed"].values,
            "client": first["client"].values,
            "round": np.arange(rounds),
        },
        attrs={"recipes": json.dumps({label: asdict(recipe) for label, recipe in recipes.items()})} | attrs,
    )


def best_step(
    problem: ModuleProblem,
    held_out_validation: Sequence[Any],
    recipe: Recipe,
    steps: Sequence[float | tuple[float, float]],
    *,
    seeds: Sequence[int] = (0,),
    starts: Starts | None = None,
) -> Recipe:
    """The recipe with the best of some step sizes, judged on validation rows, which test rows must not be.

    steps: numbers, each for all step sizes that the method uses, or pairs (gamma_u, gamma_v) of which it takes what it
    uses (pFedMe's gamma_u acts times λ, so that pairs suit it better). Best: the highest accuracy after the last local
    phase, mean over clients and seeds; among equal ones, and for other losses than cross-entropy, the lowest loss.
    Steps with which a seed diverges are out. Raises InputError where none is left, for no steps, or steps that are no
    numbers > 0.
    """
    if len(steps) == 0:
        raise InputError("steps must hold at least one step size; got none")
    tried: list[tuple[float, float, Recipe]] = []
    for step in steps:
        pair = step if isinstance(step, tuple) else (step, step)
        if len(pair) != 2:
            raise InputError(f"each of steps must be a number or a pair (gamma_u, gamma_v); got {step!r}")
        for gamma in pair:
            number("each of steps", gamma, 0.0, open_=True)
        sizes = {k: g for k, g in zip(("gamma_u", "gamma_v"), pair, strict=True) if k in USES[recipe.method]}
        candidate = replace(recipe, **sizes)
        seen = train(problem, held_out_validation, candidate, seeds, starts=starts)
        loss = float(seen["loss_after"].mean(skipna=False))
        accuracy = float(seen["accuracy_after"].mean(skipna=False)) if "accuracy_after" in seen else 0.0
        if math.isfinite(loss):
            tried.append((-accuracy, loss, candidate))
    if not tried:
        raise InputError(f"steps must hold a step size with which {recipe.method} does not diverge; got {list(steps)}")
    return min(tried, key=lambda one: one[:2])[2]
