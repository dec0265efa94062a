"""Pillutla et al. 2022 (arXiv 2204.03809): what they see in experiments, looked for in small ones.

Every method's step size (and λ) is chosen on validation rows from one grid; all methods of a seed begin at the same
model, pretrained by FedAvg as in the paper, and meet the same cohorts and rows. "Full personalization" is the one of
FedAvg with fine-tuning, pFedMe and Ditto that has the best *validation* accuracy.

The verdicts here are about seeds, of which there are few: each claim has the error ``ERROR``, shared evenly among its
pieces of evidence, and not the much smaller one of the theorems' checks.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache

import xarray as xr

from fedconv.analysis.claims import accuracy_statistics as empirical
from fedconv.analysis.claims.accuracy_statistics import Finding
from fedconv.analysis.claims.claim import Budget, Claim, Evidence, Size
from fedconv.analysis.claims.digits import (
    ADAPTER,
    FULL,
    OUTPUT,
    SKEWS,
    WORDS,
    Scale,
    Skew,
    adapters,
    available,
    baselines,
    cure,
    digits_study,
    personal,
)
from fedconv.analysis.claims.study import Contender
from fedconv.analysis.verdicts.verdict import Verdict
from fedconv.paper_checks.shared.units import Found, Unit, compute, known, parts

ERROR = 0.05
"""The probability with which any limit of a claim's pieces of evidence misses."""

LEAST_RECOVERED = 0.5
"""The share of full personalization's gain that counts as most of it."""

SMALL = 0.02
"""The largest difference in accuracy that counts as small."""

PARTIAL = ("output", "adapter")


@dataclass(frozen=True)
class Suite:
    """An experiment's scale, the cures that are tried, and the seeds by which rows are dealt to clients."""

    scale: Scale = field(default_factory=Scale)
    decays: tuple[float, ...] = (0.01,)
    dropouts: tuple[float, ...] = (0.5,)
    partitions: tuple[int, ...] = (0,)

    def __str__(self) -> str:
        return f"{self.scale.n} clients, {self.scale.seeds} seeds"


SUITES: dict[Size, Suite] = {
    "quick": Suite(),
    "full": Suite(
        Scale(n=20, m=10, pretraining=40, rounds=40, tau=5, seeds=12, tuning_seeds=2, steps=(0.1, 0.3, 1.0),
              lams=(0.03, 0.3, 3.0)),
        decays=(1e-3, 1e-2), dropouts=(0.2, 0.5), partitions=(0, 1),
    ),
}  # fmt: skip


def contenders(suite: Suite) -> list[Contender]:
    """All baselines; FedAlt and FedSim with a personal output layer and with personal adapters; FedAlt's cures; and
    what the claims' figures show besides."""
    scale = suite.scale
    out = baselines(scale)
    for method in ("fedalt", "fedsim"):
        out.append(personal(scale, method, "output"))
        out.append(personal(scale, method, "adapter"))
    out += cures(suite)
    out += [one for one in adapters(scale).values() if one.name != ADAPTER]
    return [*out, personal(scale, "fedalt", "input")]


def cures(suite: Suite) -> list[Contender]:
    """What is to keep FedAlt's clients from becoming worse."""
    decays = [cure(suite.scale, "weight_decay", x) for x in suite.decays]
    return decays + [cure(suite.scale, "dropout", x) for x in suite.dropouts]


_LOCK = threading.Lock()


@lru_cache(maxsize=8)
def _experiment(skew: Skew, suite: Suite, partition: int) -> xr.Dataset:
    return digits_study(skew, suite.scale, partition).run(contenders(suite))


def experiments(suite: Suite, workers: int = 1) -> dict[tuple[Skew, int], xr.Dataset]:
    """The data of every skew and partition, computed once in a process; ``workers`` experiments side by side."""
    asked: list[tuple[Skew, int]] = [(skew, partition) for skew in SKEWS for partition in suite.partitions]
    with _LOCK, ThreadPoolExecutor(min(workers, len(asked))) as pool:
        found = list(pool.map(lambda one: _experiment(one[0], suite, one[1]), asked))
    return dict(zip(asked, found, strict=True))


Piece = Callable[[float], Evidence]
"""From the error of a limit to a piece of evidence."""


def small_share(data: xr.Dataset, where: str) -> list[Piece]:
    """Evidence on: personalizing a small share of the parameters recovers most of what full personalization gains."""
    full = max(FULL, key=lambda k: float(data["validation"].sel({"method": k})))
    out: list[Piece] = []
    for k in (f"fedalt {part}" for part in PARTIAL):
        share = float(data["share"].sel({"method": k}))
        name = f"{where}: {k}, {share:.0%} of the parameters, against {full}"
        out.append(lambda e, k=k, name=name: empirical.recovered(data, name, k, full, least=LEAST_RECOVERED, error=e))
    return out


def alternating(data: xr.Dataset, where: str) -> list[Piece]:
    """Evidence on: FedAlt is better than FedSim by a small margin."""
    out: list[Piece] = []
    for part in PARTIAL:
        pair = (f"fedalt {part}", f"fedsim {part}")
        for name_of, word in (("accuracy_after", "accuracy"), ("loss_after", "loss")):
            name = f"{where}, {part}: FedAlt's held-out {word} is as good as FedSim's"
            out.append(lambda e, p=pair, f=name_of, name=name: empirical.better(data, name, *p, f, error=e))
        name = f"{where}, {part}: the accuracies differ by at most {100 * SMALL:g} points"
        out.append(lambda e, p=pair, name=name: empirical.small(data, name, *p, most=SMALL, error=e))
    return out


def worse_for_some(data: xr.Dataset, where: str, suite: Suite) -> list[Piece]:
    """Evidence on: some clients become worse, those with little data first, and neither cure helps."""
    first = f"{where}: {OUTPUT} makes clients worse than FedAvg"
    rank = f"{where}: the fewer rows a client has, the less {OUTPUT} gains it"
    out: list[Piece] = [
        lambda e: empirical.some_worse(data, first, OUTPUT, error=e),
        lambda e: empirical.little_data_first(data, rank, OUTPUT, error=e),
    ]
    for one in cures(suite):
        name = f"{where}: {one.name} leaves clients worse than FedAvg"
        out.append(lambda e, k=one.name, name=name: empirical.some_worse(data, name, k, beside=OUTPUT, error=e))
    return out


Studies = Mapping[tuple[Skew, int], xr.Dataset]
"""The data of every skew and partition."""


def _pieces(which: str, suite: Suite, studies: Studies) -> list[Piece]:
    out: list[Piece] = []
    for (skew, partition), data in studies.items():
        where = WORDS[skew] if len(suite.partitions) == 1 else f"{WORDS[skew]}, partition {partition}"
        if which == "small-share":
            out += small_share(data, where)
        elif which == "alternating":
            out += alternating(data, where)
        else:
            out += worse_for_some(data, where, suite)
    return out


def evidence(which: str, suite: Suite, studies: Studies, error: float = ERROR) -> tuple[Evidence, ...]:
    """The evidence on a claim, "small-share", "alternating" or "worse-for-some", every limit at ``error`` divided by
    the number of pieces. Without studies, one piece that says why (premises unmet)."""
    if not studies:
        missing = "scikit-learn, which brings the digits, is installed"
        nan = math.nan
        verdict = Verdict(
            "premises_unmet", nan, nan, nan, nan, error, "not run", 0, "exact", "the digits are missing", (missing,)
        )
        return (Evidence("digits", verdict),)
    pieces = _pieces(which, suite, studies)
    return tuple(piece(error / len(pieces)) for piece in pieces)


def digits(budget: Budget, skew: Skew, partition: int, suite: Suite) -> Found:
    """The data of one skew and partition, which all three claims read."""
    return (_experiment(skew, suite, partition),)


@dataclass(frozen=True)
class Practice:
    """A claim's check: the studies are its units."""

    which: str

    def units(self, budget: Budget) -> list[Unit]:
        suite = SUITES[budget.size]
        asked = [(skew, partition) for skew in SKEWS for partition in suite.partitions] if available() else []
        return [Unit(digits, (*one, suite)) for one in asked]

    def read(self, found: Sequence[Found], budget: Budget) -> Sequence[Evidence]:
        asked = [unit.arguments[:2] for unit in self.units(budget)]
        studies = {one: data for one, (data,) in zip(asked, found, strict=True)}
        return evidence(self.which, SUITES[budget.size], studies)


def studied(budget: Budget) -> dict[Skew, xr.Dataset] | None:
    """What the claims' figures show: the data of the first partition, where they are computed already."""
    suite = SUITES[budget.size]
    units: dict[Skew, Unit] = {k: Unit(digits, (k, suite.partitions[0], suite)) for k in SKEWS}
    if not all(known(unit, budget) for unit in units.values()):
        return None
    return {skew: compute(unit, budget)[0] for skew, unit in units.items()}


_SETTING = (
    "Digits dealt to clients of unequal size by label skew and by quarter turns; all methods begin at a model that"
    " FedAvg has pretrained; steps and $\\lambda$ chosen on"
    f" validation rows; intervals over seeds for the same clients, with error {ERROR:g} for the whole claim."
)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "pillutla2022/small-share",
        "A small personal part recovers most of full personalization's gain",
        "Personalizing a small share of the parameters (the output layer, or adapters) recovers at least"
        f" {LEAST_RECOVERED:.0%} of the gain in held-out accuracy over FedAvg that the best of fine-tuning, pFedMe and"
        f" Ditto has; the statement is that the share that is lost is at most {1 - LEAST_RECOVERED:.0%}. {_SETTING}",
        "experiments of arXiv 2204.03809; threshold set here",
        "empirical",
        parts(Practice("small-share")),
        figure="personal-share",
    ),
    Claim(
        "pillutla2022/alternating",
        "FedAlt is ahead of FedSim by a small margin",
        "FedAlt's mean held-out accuracy and loss over clients are at least as good as FedSim's, with as many local"
        f" steps on each block, and the accuracies differ by at most {100 * SMALL:g} points. {_SETTING}",
        "experiments of arXiv 2204.03809; threshold set here",
        "empirical",
        parts(Practice("alternating")),
        figure="personal-share",
    ),
    Claim(
        "pillutla2022/worse-for-some",
        "Personalization makes some clients worse, and regularization does not cure it",
        "Some clients have a lower held-out accuracy with a personal output layer (FedAlt) than with FedAvg; the less"
        " data a client has, the less it gains; and with weight decay or dropout there still are such clients."
        f" {_SETTING}",
        "experiments of arXiv 2204.03809",
        "empirical",
        parts(Practice("worse-for-some")),
        figure="per-client",
    ),
)


def findings(size: Size = "quick", workers: int = 1) -> tuple[Finding, ...]:
    """The three claims with their evidence."""
    suite = SUITES[size]
    studies = experiments(suite, workers) if available() else {}
    return tuple(Finding(c.title, evidence(c.key.partition("/")[2], suite, studies)) for c in CLAIMS)


def tables(suite: Suite, workers: int = 1) -> dict[tuple[Skew, int], xr.Dataset]:
    """``fedconv.analysis.claims.accuracy_statistics.table`` of all methods, for every skew and partition: what stands
    beside the claims."""
    return {k: empirical.table(data, error=ERROR) for k, data in experiments(suite, workers).items()}
