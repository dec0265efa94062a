"""The experiment behind the empirical claims: scikit-learn's digits dealt to clients, and the methods to be compared.

8 × 8 pixels, dealt to clients of unequal size in two ways: by Dirichlet label skew, and turned by quarter turns, so
that clients differ in inputs. One network with a hidden layer; with adapters it begins as the same function. As in
the paper (arXiv 2204.03809) methods begin at a model that FedAvg has pretrained, and FedAvg itself goes on from there
for as many rounds as the others; clients that train alone do so from the beginning, for the rounds of both.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from fedconv.analysis.claims.study import Contender, Study
from fedconv.practice import Recipe, recipes
from fedconv.problems.modules.data import digits, dirichlet_split, rotation_split
from fedconv.problems.modules.models import LayeredModel, Mode, adapter, mlp

if TYPE_CHECKING:
    import xarray as xr

Skew = Literal["labels", "rotations"]
SKEWS: tuple[Skew, ...] = get_args(Skew)
WORDS: dict[Skew, str] = {"labels": "label skew", "rotations": "quarter turns"}

BASELINES = ("local", "fedavg", "fedavg_finetune", "pfedme", "ditto")
FULL = ("fedavg_finetune", "pfedme", "ditto")
"""Full personalization: every client has a model of its own, learned with the others' help."""


OUTPUT, ADAPTER = "fedalt output", "fedalt adapter"
"""FedAlt with that part personal."""

WIDTHS = (1, 3, 10)
"""Bottlenecks of the adapters whose gains are pictured."""


@dataclass(frozen=True)
class Scale:
    """How large an experiment is: clients n, cohorts of m, rounds of pretraining and after it, local steps tau on each
    block (five times as many when clients fine-tune FedAvg's model in the end), rows of a local step, hidden units, the
    adapters' width, seeds, and the grids of steps and λ."""

    n: int = 16
    m: int = 8
    pretraining: int = 20
    rounds: int = 20
    tau: int = 4
    batch: int = 10
    hidden: int = 24
    bottleneck: int = 3
    seeds: int = 8
    tuning_seeds: int = 1
    steps: tuple[float, ...] = (0.3, 1.0)
    lams: tuple[float, ...] = (0.1, 1.0)


def available() -> bool:
    """Whether scikit-learn, which brings the digits, is installed."""
    return importlib.util.find_spec("sklearn") is not None


def digits_study(skew: Skew, scale: Scale, partition: int = 0) -> Study:
    """The clients, parted by the seed ``partition``. Raises InputError where scikit-learn is not installed."""
    X, y = digits()
    if skew == "labels":
        clients = dirichlet_split(X, y, scale.n, 0.1, fewest=24, seed=partition)
    else:
        clients = rotation_split(X, y, scale.n, alpha=1.0, fewest=24, seed=partition)
    sizes = [len(labels) for _, labels in clients]
    name = f"digits, {WORDS[skew]}, {scale.n} clients with {min(sizes)} to {max(sizes)} rows"
    first = replace(recipes_of(scale)["fedavg"], rounds=scale.pretraining)
    pretraining = Contender("pretraining", first, Network(scale.hidden))
    return Study(name, clients, scale.steps, scale.seeds, scale.tuning_seeds, partition, pretraining)


def recipes_of(scale: Scale) -> dict[str, Recipe]:
    """A recipe for each method; steps and λ stand for those of the grid."""
    return recipes(
        m=scale.m, rounds=scale.rounds, tau_u=scale.tau, tau_v=scale.tau, gamma_u=1.0, gamma_v=1.0, batch=scale.batch,
        lam=1.0, finetune_steps=5 * scale.tau, inner_steps=3,
    )  # fmt: skip


@dataclass(frozen=True)
class Network:
    """The model of a seed: a network with ``hidden`` units, with adapters where ``bottleneck`` > 0."""

    hidden: int
    bottleneck: int = 0

    def __call__(self, seed: int) -> LayeredModel:
        sizes = (64, self.hidden, 10)
        return adapter(sizes, self.bottleneck, seed) if self.bottleneck else mlp(sizes, seed)


def baselines(scale: Scale, names: Sequence[str] = BASELINES) -> list[Contender]:
    """The methods without a split, under their own names."""
    given = recipes_of(scale)
    given["local"] = replace(given["local"], rounds=scale.pretraining + scale.rounds)
    return [
        Contender(k, given[k], Network(scale.hidden), lams=scale.lams if given[k].lam else (), scratch=k == "local")
        for k in names
    ]


def personal(
    scale: Scale, method: str, mode: Mode, *, name: str | None = None, bottleneck: int | None = None,
    change: Mapping[str, Any] | None = None,
) -> Contender:  # fmt: skip
    """FedAlt or FedSim with a mode's personal part, under ``name`` ("METHOD MODE" if left out). ``bottleneck``: of the
    adapters, the scale's if left out; ``change``: other numbers of the recipe, such as weight_decay."""
    width = 0 if mode != "adapter" else scale.bottleneck if bottleneck is None else bottleneck
    recipe = replace(recipes_of(scale)[method], **(change or {}))
    return Contender(name or f"{method} {mode}", recipe, Network(scale.hidden, width), mode)


def adapters(scale: Scale) -> dict[int, Contender]:
    """FedAlt with personal adapters of each of WIDTHS; the scale's own is ADAPTER."""
    names = {k: ADAPTER if k == scale.bottleneck else f"{ADAPTER} of width {k}" for k in WIDTHS}
    return {k: personal(scale, "fedalt", "adapter", name=name, bottleneck=k) for k, name in names.items()}


def cure(scale: Scale, what: str, value: float) -> Contender:
    """OUTPUT with ``weight_decay`` or ``dropout`` against clients that become worse."""
    name = f"{OUTPUT}, {what.replace('_', ' ')} {value:g}"
    return personal(scale, "fedalt", "output", name=name, change={what: value})


def pictured(
    skew: Skew, scale: Scale, asked: Mapping[str, Contender], studies: Mapping[Skew, xr.Dataset] | None
) -> xr.Dataset:
    """A study of the contenders under the names that they are asked for by, or the same out of ``studies``, which hold
    them at that scale. Raises InputError where scikit-learn is not installed."""
    whole = digits_study(skew, scale).run(list(asked.values())) if studies is None else studies[skew]
    return whole.sel({"method": [one.name for one in asked.values()]}).assign_coords(method=list(asked))
