"""Check theorems on runs: choose free parameters, draw replicates until every verdict is decided or a budget ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.inputs import Inputs, of_experiment, of_trace
from analysis.theorems import THEOREMS, Theorem, theorem
from analysis.tuner import best_step, closest, max_step, tune
from analysis.verdict import Verdict, decide, limits
from fedconv.run import Experiment, run
from fedconv.trace import need, read
from problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.config import AlgorithmSpec, Settings

FIRST_LOOK = 64
"""Replicates before the first decision; they double at each further look."""

PILOT = 1_000_000
"""Number of the first pilot replicate: pilots tune, and never enter a verdict."""

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Curve:
    """The two sides for every horizon t = 1..T: mean left-hand side of the first t rounds, and the bound for t."""

    measured: np.ndarray
    bound: np.ndarray


@dataclass(frozen=True)
class Result:
    """One line of a verification: what was checked, the verdict, and what is needed to draw or reproduce it."""

    name: str
    algorithm: str
    theorem: str
    verdict: Verdict
    curve: Curve
    inputs: Inputs
    spec: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        inputs = {k: v if math.isfinite(v) else str(v) for k, v in self.inputs.values.items()}
        return {
            "name": self.name,
            "algorithm": self.algorithm,
            "theorem": self.theorem,
            **self.verdict.to_dict(),
            "inputs": inputs,
            "notes": list(self.inputs.notes),
        }


@dataclass
class Check:
    """One theorem on one experiment, fed with traces until decided."""

    theorem: Theorem
    inputs: Inputs
    parameters: dict[str, float]
    a_posteriori: bool
    deterministic: bool
    error: float
    looks: int
    unmet: list[str] = field(default_factory=list)
    lhs: list[np.ndarray] = field(default_factory=list)
    diversity: list[np.ndarray] = field(default_factory=list)
    per_round: np.ndarray | None = None
    diversity_per_round: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.values = self.theorem.evaluate(self.inputs.values, self.parameters)
        self.unmet = self.theorem.unmet(self.values)
        if not math.isfinite(self.inputs.values["delta"]):
            self.unmet.append("δ is infinite: the diversity of this problem has no finite bound")

    def add(self, trace: xr.Dataset) -> None:
        """Take in further replicates."""
        self.lhs.append(self.theorem.lhs(trace, self.values, self.inputs.blocks))
        with np.errstate(all="ignore"):
            rounds = np.zeros(trace.sizes["round"])
            for moves, weight, L, key in (
                (self.inputs.blocks[0], "weight_u", "L_u", self.theorem.shared),
                (self.inputs.blocks[1], "weight_v", "L_v", self.theorem.personal),
            ):
                if moves:
                    rounds += float(self.values[weight]) / float(self.values[L]) * trace[key].values.sum(axis=0)
            self.per_round = rounds if self.per_round is None else self.per_round + rounds
            if self.a_posteriori:
                seen = trace[self.theorem.diversity].values
                self.diversity.append(seen.mean(axis=1))
                total = seen.sum(axis=0)
                previous = self.diversity_per_round
                self.diversity_per_round = total if previous is None else previous + total

    def verdict(self) -> Verdict:
        """The verdict on all replicates so far."""
        lhs = np.concatenate(self.lhs)
        diverged = int((~np.isfinite(lhs)).sum())
        samples = np.where(np.isfinite(lhs), lhs, np.inf)
        bound, slope = self._bound()
        visited = np.zeros_like(samples)
        if self.a_posteriori:
            visited = np.concatenate(self.diversity)
        with np.errstate(invalid="ignore"):
            offset = slope * float(visited.mean())
            adjusted = samples - slope * visited if self.a_posteriori else samples
        weights = [w for w, there in zip(("weight_u", "weight_v"), self.inputs.blocks, strict=True) if there]
        nonnegative = not self.a_posteriori and all(float(self.values[w]) >= 0 for w in weights)
        found = limits(adjusted, self.error, self.looks, deterministic=self.deterministic, nonnegative=nonnegative)
        inputs = self.inputs.values
        floor = 2 * 1e-13 * self.inputs.scale / (inputs["eta"] * inputs["T"])
        status, reason = decide(found, bound, floor + 1e-9 * abs(offset))
        if diverged:
            reason = f"{diverged} of {len(lhs)} replicates diverged (inf or NaN); {reason}"
        if self.unmet:
            status, reason = "premises_unmet", "; ".join(self.unmet)
        elif self.inputs.grade == "estimated" and status in ("holds", "violated"):
            reason = f"{'consistent' if status == 'holds' else 'not consistent'} (constants are estimated): {reason}"
            status = "inconclusive"
        return Verdict(
            status=status,
            measured=float(samples.mean()),
            bound=bound + offset,
            low=found.low + offset,
            high=found.high + offset,
            error=self.error,
            method=found.method,
            replicates=len(lhs),
            grade=self.inputs.grade,
            reason=reason,
            premises=tuple(self.unmet),
            parameters=self.parameters,
            eta=inputs["eta"],
            a_posteriori=self.a_posteriori,
            diverged=diverged,
        )

    def _bound(self) -> tuple[float, float]:
        """(right-hand side, its slope in δ²); a posteriori the right-hand side is taken at δ = 0."""
        if not self.a_posteriori:
            return float(self.values["rhs"]), 0.0
        at = [
            float(self.theorem.evaluate(self.inputs.values | {"delta": d}, self.parameters)["rhs"]) for d in (0.0, 1.0)
        ]
        return at[0], at[1] - at[0]

    def curve(self) -> Curve:
        """Both sides for every horizon up to T, for drawing (means over replicates)."""
        assert self.per_round is not None
        count = sum(len(x) for x in self.lhs)
        horizon = np.arange(1, len(self.per_round) + 1)
        with np.errstate(all="ignore"):
            measured = np.cumsum(self.per_round) / count / horizon
            inputs: dict[str, Any] = self.inputs.values | {"T": horizon}
            if self.diversity_per_round is not None:
                inputs["delta"] = np.sqrt(np.cumsum(self.diversity_per_round) / count / horizon)
            bound = np.broadcast_to(self.theorem.evaluate(inputs, self.parameters)["rhs"], horizon.shape)
        return Curve(measured, np.asarray(bound, dtype=float))


def verify(
    experiment: Experiment,
    theorems: Iterable[Theorem],
    *,
    error: float = 1e-6,
    checks: int = 1,
    max_replicates: int = 4096,
    parameters: Mapping[str, float] | None = None,
    a_posteriori: bool | str = "auto",
    engine: str = "auto",
    workers: int = 1,
    progress: Progress | None = None,
    spec: Mapping[str, Any] | None = None,
) -> list[Result]:
    """Verdicts of several theorems on the same run of an experiment.

    error: one-sided error of each verdict, divided by ``checks``, the number of verdicts read together. Replicates
    double from FIRST_LOOK until all are decided or ``max_replicates`` is reached; a deterministic experiment needs
    one. parameters: the free parameters (default: tuned). a_posteriori: replace δ² by the mean diversity of the
    visited points ("auto": where δ is infinite); parameters are then tuned on pilot replicates of their own.
    """
    if not 0 < error < 0.5:
        raise InputError(f"error must lie in (0, 0.5); got {error}")
    if max_replicates < 2:
        raise InputError(f"max_replicates must be at least 2; got {max_replicates}")
    first = 1 if experiment.deterministic else min(FIRST_LOOK, max_replicates)
    looks = 1 + max(0, math.ceil(math.log2(max_replicates / first))) if not experiment.deterministic else 1
    inputs = of_experiment(experiment)
    open_checks = [
        _prepare(t, experiment, inputs, parameters, a_posteriori, error / checks, looks, engine) for t in theorems
    ]
    done, want = 0, first
    while True:
        trace = run(experiment, want - done, first=done, engine=engine, workers=workers)
        for check in open_checks:
            check.add(trace)
        if progress is not None:
            progress(experiment.name, want - done)
        done = want
        undecided = [c for c in open_checks if not c.unmet and c.verdict().status == "inconclusive"]
        if experiment.deterministic or done >= max_replicates or not undecided:
            break
        want = min(2 * done, max_replicates)
    return [
        Result(experiment.name, experiment.algorithm.name, c.theorem.key, c.verdict(), c.curve(), c.inputs, spec)
        for c in open_checks
    ]


def judge(
    trace: xr.Dataset,
    theorems: Iterable[Theorem] | None = None,
    *,
    error: float = 1e-6,
    parameters: Mapping[str, float] | None = None,
    a_posteriori: bool | str = "auto",
) -> list[Result]:
    """Verdicts on a recorded run as it stands (default: all theorems that fit its algorithm); no replicate is added.

    Everything comes from the trace: its provenance gives the constants and step sizes. Where δ² is replaced by the
    visited diversity and the free parameters are to be tuned, the first quarter of the replicates tunes and only the
    others are judged.
    """
    need(trace, "F", "grad_u_sq", "grad_v_sq")
    algorithm, noise, shape = read(trace, "algorithm"), read(trace, "noise"), read(trace, "shape")
    chosen = list(theorems) if theorems is not None else fitting(algorithm["name"])
    silent = noise["sigma_u"] == 0 and noise["sigma_v"] == 0
    deterministic = silent and algorithm["m"] == shape["n"]
    count = trace.sizes["replicate"]
    if not deterministic and count < 2:
        raise InputError("a verdict on a random run needs at least 2 replicates; the trace has 1")
    results = []
    for one in chosen:
        _fits(one, algorithm["name"])
        need(trace, one.shared, one.personal, one.diversity)
        inputs, judged = of_trace(trace), trace
        use = wants_a_posteriori(inputs, a_posteriori)
        if use:
            pilot = trace
            if parameters is None and not deterministic:
                cut = max(1, count // 4)
                pilot, judged = trace.isel(replicate=slice(0, cut)), trace.isel(replicate=slice(cut, None))
            inputs = inputs.with_diversity(_mean(pilot[one.diversity].values))
        found = _parameters(one, inputs, parameters)
        check = Check(one, inputs, found, use, deterministic, error / len(chosen), 1)
        check.add(judged)
        results.append(Result(trace.attrs["name"], algorithm["name"], one.key, check.verdict(), check.curve(), inputs))
    return results


def _prepare(
    theorem: Theorem,
    experiment: Experiment,
    inputs: Inputs,
    parameters: Mapping[str, float] | None,
    a_posteriori: bool | str,
    error: float,
    looks: int,
    engine: str,
) -> Check:
    _fits(theorem, experiment.algorithm.name)
    use = wants_a_posteriori(inputs, a_posteriori)
    if use:
        inputs = inputs.with_diversity(pilot_diversity(experiment, theorem, engine))
    chosen = _parameters(theorem, inputs, parameters)
    return Check(theorem, inputs, chosen, use, experiment.deterministic, error, looks)


def _fits(theorem: Theorem, algorithm: str) -> None:
    if algorithm not in theorem.algorithms:
        raise InputError(f"theorem {theorem.key} is about {', '.join(theorem.algorithms)}; got {algorithm!r}")


def _parameters(theorem: Theorem, inputs: Inputs, given: Mapping[str, float] | None) -> dict[str, float]:
    """The given free parameters, checked, or tuned ones (those that miss the premises least where none meets them)."""
    if given is None:
        return (tune(theorem, inputs) or closest(theorem, inputs)).parameters
    chosen = {k: float(v) for k, v in given.items()}
    theorem.check_parameters(chosen, inputs.values)
    return chosen


def wants_a_posteriori(inputs: Inputs, a_posteriori: bool | str) -> bool:
    """Whether δ² is replaced by a measured mean diversity: as asked, or ("auto") where δ is infinite."""
    if a_posteriori == "auto":
        return not math.isfinite(inputs.values["delta"])
    return bool(a_posteriori)


def pilot_diversity(experiment: Experiment, theorem: Theorem, engine: str = "auto") -> float:
    """Mean diversity over rounds and pilot replicates, at the points where the theorem measures ∇_uF."""
    count = 1 if experiment.deterministic else 16
    return _mean(run(experiment, count, first=PILOT, engine=engine)[theorem.diversity].values)


def _mean(values: np.ndarray) -> float:
    """The mean, or 0 where a run diverged: parameters tuned for that are as good as any."""
    with np.errstate(all="ignore"):
        mean = float(values.mean())
    return mean if math.isfinite(mean) else 0.0


def fitting(algorithm: str) -> list[Theorem]:
    """The theorems about an algorithm."""
    return [t for t in THEOREMS.values() if algorithm in t.algorithms]


def resolve_step(experiment: Experiment, theorem: Theorem, wish: str, a_posteriori: bool | str = "auto") -> float:
    """η for ``wish`` = "best" (least guarantee) or "max" (largest admissible) of a theorem on an experiment.

    Where δ is infinite, the best step is taken for the mean diversity that pilot replicates visit at half the largest
    admissible step.
    """
    inputs = of_experiment(experiment)
    if wants_a_posteriori(inputs, a_posteriori):
        inputs = inputs.with_diversity(0.0)
        largest = max_step(theorem, inputs)
        if wish == "max":
            return largest
        inputs = inputs.with_diversity(pilot_diversity(experiment.with_eta(largest / 2), theorem))
    return max_step(theorem, inputs) if wish == "max" else best_step(theorem, inputs).eta


def verify_settings(
    settings: Settings,
    *,
    workers: int = 1,
    error: float | None = None,
    max_replicates: int | None = None,
    algorithms: Iterable[str] | None = None,
    theorems: Iterable[str] | None = None,
    checks: int | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """Every theorem that a problem file asks for, on every algorithm in it.

    With a numerical step all theorems of an algorithm share one run; with ``eta = "best"`` or ``"max"`` each has the
    step of its own. ``checks``: how many verdicts are read together (default: those of this file).
    """
    plan = planned(settings, algorithms, theorems)
    total = checks or sum(len(chosen) for _, chosen in plan)
    options = {
        "error": error if error is not None else settings.verify.error,
        "max_replicates": max_replicates if max_replicates is not None else settings.verify.max_replicates,
        "parameters": settings.verify.parameters,
        "a_posteriori": settings.verify.a_posteriori,
        "engine": settings.engine,
        "workers": workers,
        "progress": progress,
        "checks": total,
        "spec": settings.spec,
    }
    results: list[Result] = []
    for spec, chosen in plan:
        if isinstance(spec.eta, str):
            for one in chosen:
                unscaled = settings.experiment(spec, 0.1)
                eta = resolve_step(unscaled, one, spec.eta, settings.verify.a_posteriori)
                results += verify(unscaled.with_eta(eta), [one], **options)
        else:
            results += verify(settings.experiment(spec, spec.eta), chosen, **options)
    return results


def planned(
    settings: Settings, algorithms: Iterable[str] | None = None, theorems: Iterable[str] | None = None
) -> list[tuple[AlgorithmSpec, list[Theorem]]]:
    """(algorithm, theorems) pairs of a problem file, restricted to the given names."""
    names = list(theorems) if theorems is not None else settings.verify.theorems
    wanted = [theorem(key) for key in names] if names is not None else None
    only = list(algorithms) if algorithms is not None else None
    plan = []
    for spec in settings.algorithms:
        if only is not None and spec.name not in only:
            continue
        fits = [t for t in fitting(spec.name) if wanted is None or t in wanted]
        if fits:
            plan.append((spec, fits))
    if not plan:
        raise InputError(
            f"{settings.name}: nothing to verify: algorithms {', '.join(s.name for s in settings.algorithms)},"
            f" theorems {', '.join(names) if names is not None else 'all'}"
        )
    return plan
