"""Replay a proof along a run: every lemma at the states visited, and where the bound loses (the waterfall)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from fedconv.analysis.proofs.chain import compose
from fedconv.analysis.proofs.lemmas import LEMMAS, Lemma, lemma
from fedconv.analysis.proofs.lemmas.base import Form, a_posteriori, evaluate, lemma_values
from fedconv.analysis.proofs.replay.decide import Finding, Status, judge
from fedconv.analysis.proofs.replay.round_copies import Copies, Visited, batches, copies_of, every_outcome
from fedconv.analysis.proofs.replay.visited_states import evenly, visit
from fedconv.analysis.proofs.replay.waterfall import Waterfall, assemble, average, summarise
from fedconv.analysis.theorems import Theorem
from fedconv.analysis.theorems.split.facts import Inputs, of_experiment
from fedconv.analysis.tuning.one_run import closest, tune
from fedconv.analysis.verdicts.tails import withheld
from fedconv.analysis.verdicts.verify import wants_a_posteriori
from fedconv.core.run import Experiment, single_torch_thread
from fedconv.problems.errors import InputError
from fedconv.problems.written_for import written_for

STATES, COPIES, REPLICATES = 12, 4096, 32
"""Visited states at which lemmas are checked, copies of the round at each, replicates of the run."""

WATERFALL_COPIES = 4
"""Copies of the round at each state of the waterfall, which averages over all rounds and replicates."""

WATERFALL_OUTCOMES = 16
"""Outcomes of a round up to which the waterfall takes all of them."""

WATERFALL_WORK = 1.5e9
"""Numbers computed for the waterfall beyond which it visits fewer rounds, evenly spaced."""

ERROR = 1e-6
"""One-sided error of all lemma checks of a replay together, and of all limits of its waterfall."""

Found = TypeVar("Found")
Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it and of how much."""


@dataclass(frozen=True)
class LemmaLine:
    """A lemma with what was found at every state."""

    lemma: Lemma
    findings: tuple[tuple[Visited, Finding], ...]

    @property
    def status(self) -> Status:
        """``violated`` where it fails at a state, ``holds`` where it holds at all, else ``inconclusive``."""
        seen = {f.status for _, f in self.findings}
        if "violated" in seen:
            return "violated"
        return "holds" if seen == {"holds"} else "inconclusive"

    @property
    def approximate(self) -> bool:
        """Whether a finding that decides is approximate; of violations, whether all are."""
        deciding = [f.approximate for _, f in self.findings if f.status == self.status]
        return all(deciding) if self.status == "violated" else self.status == "holds" and any(deciding)

    @property
    def category(self) -> str:
        """The status, with ``_approximate`` behind it where what decides is."""
        return f"{self.status}_approximate" if self.approximate else self.status

    @property
    def worst(self) -> tuple[Visited, Finding]:
        """The state where it is violated, else undecided, else tightest."""
        order = {"violated": 2, "inconclusive": 1, "holds": 0}
        return max(
            self.findings,
            key=lambda x: (
                order[x[1].status],
                x[1].status == "violated" and not x[1].approximate,
                np.nan_to_num(x[1].tightness, nan=-np.inf),
            ),
        )

    @property
    def tightness(self) -> float:
        """The largest tightness at a state; NaN where the right side is 0 everywhere."""
        seen = [f.tightness for _, f in self.findings if f.tightness == f.tightness]
        return max(seen, default=float("nan"))

    @property
    def undecided(self) -> int:
        """States at which it is neither decided for nor against."""
        return sum(f.status == "inconclusive" for _, f in self.findings)


@dataclass(frozen=True)
class Setup:
    """What fixes a comparison besides the state: theorem, free parameters, copies, error of each limit."""

    theorem: Theorem
    inputs: Inputs
    parameters: dict[str, float]
    visited_diversity: bool
    copies: int
    error: float

    @property
    def values(self) -> dict[str, float]:
        return lemma_values(self.theorem, self.inputs.values, self.parameters)

    @property
    def L(self) -> tuple[float, float]:
        return self.inputs.values["L_u"], self.inputs.values["L_v"]


@dataclass(frozen=True)
class Proof:
    """A replayed proof. ``unmet``: sentences for premises of the theorem that fail here."""

    name: str
    algorithm: str
    setup: Setup
    lines: tuple[LemmaLine, ...]
    waterfall: Waterfall
    unmet: tuple[str, ...]
    exact: bool

    @property
    def failed(self) -> list[LemmaLine]:
        return [x for x in self.lines if x.status == "violated"]

    @property
    def states(self) -> int:
        return max(len(x.findings) for x in self.lines)


def check_proof_inputs(experiment: Experiment, theorem: Theorem) -> None:
    """Raise InputError where a theorem's proof cannot be replayed on an experiment."""
    algorithm, problem = experiment.algorithm, experiment.problem
    if not written_for(experiment, Experiment):
        mine = type(experiment).__name__
        raise InputError(f"proofs are replayed on the rounds of Experiment; those of {mine} are its own")
    if algorithm.name not in LEMMAS:
        raise InputError(f"the proofs of {', '.join(LEMMAS)} can be replayed; got algorithm {algorithm.name!r}")
    if algorithm.name not in theorem.algorithms:
        raise InputError(f"theorem {theorem.key} is about {', '.join(theorem.algorithms)}; got {algorithm.name!r}")
    for b, d, tau in (("u", problem.d_u, algorithm.tau_u), ("v", problem.d_v, algorithm.tau_v)):
        if d > 0 and tau == 0:
            raise InputError(f"algorithm.tau_{b} must be at least 1 where d_{b} > 0, for a proof to be replayed; got 0")


def prove(
    experiment: Experiment,
    theorem: Theorem,
    *,
    parameters: Mapping[str, float] | None = None,
    states: int = STATES,
    copies: int = COPIES,
    replicates: int = REPLICATES,
    error: float = ERROR,
    mutant: str | None = None,
    progress: Progress | None = None,
) -> Proof:
    """Replay a theorem's proof along a run of an experiment.

    The run has ``replicates`` replicates (one where it is deterministic). Lemmas are checked at ``states`` states, at
    evenly spaced rounds of the replicates in turn, each on ``copies`` copies of its round, or exactly where all
    outcomes of a round are few. The waterfall visits all rounds, or as many as its work allows. parameters: the free
    parameters (default: tuned); mutant: replaces a lemma by a false version, ``"L1:c_replaced"``.
    Raises InputError for numbers out of range, another algorithm's theorem, or a run that diverges.
    """
    if states < 1:
        raise InputError(f"states must be at least 1; got {states}")
    if not 32 <= copies <= 1_000_000:
        raise InputError(f"copies must be from 32 to 1000000; got {copies}")
    check_proof_inputs(experiment, theorem)
    lemmas = chosen_lemmas(experiment.algorithm.name, mutant)
    tell = progress or (lambda what, done, total: None)
    count = 1 if experiment.deterministic else replicates
    few = every_outcome(experiment, most=WATERFALL_OUTCOMES)
    checked = evenly(experiment.T, states)
    seen = evenly(experiment.T, _rounds(experiment, count, WATERFALL_COPIES if few is None else len(few.sampled)))
    where = np.union1d(checked, seen)
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        tell("run", done, experiment.T)

    visited, final = visit(experiment, where, count, tick)
    inputs = of_experiment(experiment)
    L = (inputs.values["L_u"], inputs.values["L_v"])
    with single_torch_thread():
        fallen = [x for x in visited if x.round in set(seen.tolist())]
        falling = batches(experiment, fallen, WATERFALL_COPIES, L, few)
        averaged = average(_told(falling, "waterfall", len(fallen), tell, lambda x: len(x.sample["X"])), count)
        use = wants_a_posteriori(inputs, "auto")
        if use:
            inputs = inputs.with_diversity(max(float(averaged["diversity"].mean()), 0.0))
        found = _parameters(theorem, inputs, parameters)
        limits = sum(
            (2 if x.kind == "equality" else 1) * (experiment.problem.n if x.each_client else 1) for x in lemmas
        )
        where_checked = [x for k, t in enumerate(checked) for x in visited if (x.round, x.replicate) == (t, k % count)]
        setup = Setup(theorem, inputs, found, use, copies, error / (limits * len(where_checked)))
        lines = _lines(experiment, setup, lemmas, where_checked, tell)
    evaluated = theorem.evaluate(inputs.values, found)
    fall = _waterfall(experiment, setup, averaged, evaluated, len(seen), few is not None, final, error)
    return Proof(
        experiment.name, experiment.algorithm.name, setup, tuple(lines), fall, tuple(theorem.unmet(evaluated)),
        every_outcome(experiment) is not None,
    )  # fmt: skip


def _limits(one: Lemma, n: int) -> int:
    """How many limits decide a lemma at a state."""
    return (2 if one.kind == "equality" else 1) * (n if one.each_client else 1)


def chosen_lemmas(algorithm: str, mutant: str | None) -> list[Lemma]:
    """The lemmas of an algorithm's proof, one of them replaced where a mutant is named."""
    if mutant is None:
        return list(LEMMAS[algorithm])
    if ":" not in mutant:
        raise InputError(f"a mutant is named LEMMA:KEY, for example L1:c_replaced; got {mutant!r}")
    false = lemma(algorithm, mutant)
    return [false if x.key == false.mutant_of else x for x in LEMMAS[algorithm]]


def check_lemma(experiment: Experiment, setup: Setup, one: Lemma, visited: Visited, copies: Copies) -> Finding:
    """One lemma on copies of the round from one state."""
    if setup.visited_diversity:
        one = replace(one, lhs=a_posteriori(one.lhs), rhs=a_posteriori(one.rhs))
    why = _withheld(experiment, setup.copies, 1, setup.error)
    return judge(
        one, setup.values, copies, error=setup.error, scale=_scale(experiment, setup, visited), withheld=why,
        unseen=_unseen(experiment, setup.copies, setup.error), estimated=setup.inputs.grade == "estimated",
    )  # fmt: skip


def _unseen(experiment: Experiment, copies: int, error: float) -> str | None:
    """Why no limits can be read off the cohorts of so many copies of a round, or None."""
    shape = {"n": experiment.problem.n}
    return withheld(None, {"m": experiment.algorithm.m}, shape, 1, copies, True, error)


def _withheld(experiment: Experiment, copies: int, rounds: int, error: float) -> str | None:
    """Why no limits can be read off that many copies of so many rounds in which every client draws noise, or None."""
    problem = experiment.problem
    shape = {"n": problem.n, "d_u": problem.d_u, "d_v": problem.d_v}
    algorithm = experiment.algorithm.to_dict() | {"m": problem.n}
    return withheld(experiment.noise.to_dict(), algorithm, shape, rounds, copies, False, error)


def _scale(experiment: Experiment, setup: Setup, visited: Visited) -> float:
    """|F(u,V)| + |F★| at least: how large objective values are, for the rounding of their differences."""
    import torch

    here = float(experiment.problem.objective(torch.from_numpy(visited.u), torch.from_numpy(visited.v)))
    return abs(here) + setup.inputs.scale


def _rounds(experiment: Experiment, replicates: int, rows: int) -> int:
    """How many rounds the waterfall's work allows."""
    problem, algorithm = experiment.problem, experiment.algorithm
    each = rows * problem.n * (algorithm.tau_u + algorithm.tau_v + 6) * (problem.d_u + problem.d_v + 2)
    return max(1, int(WATERFALL_WORK / (each * replicates)))


def _parameters(theorem: Theorem, inputs: Inputs, given: Mapping[str, float] | None) -> dict[str, float]:
    if given is None:
        return (tune(theorem, inputs) or closest(theorem, inputs)).parameters
    chosen = {k: float(x) for k, x in given.items()}
    theorem.check_parameters(chosen, inputs.values)
    return chosen


def _told(
    every: Iterable[Found], what: str, total: int, tell: Progress, size: Callable[[Found], int] = lambda _: 1
) -> Iterator[Found]:
    """The same, one by one, with the progress told."""
    done = 0
    for one in every:
        done += size(one)
        tell(what, done, total)
        yield one


def _lines(
    experiment: Experiment, setup: Setup, lemmas: list[Lemma], states: list[Visited], tell: Progress
) -> list[LemmaLine]:
    outcomes = every_outcome(experiment)
    found: dict[str, list[tuple[Visited, Finding]]] = {x.key: [] for x in lemmas}
    every = _told(copies_of(experiment, states, setup.copies, setup.L, outcomes), "lemmas", len(states), tell)
    for state, copies in zip(states, every, strict=True):
        for one in lemmas:
            found[one.key].append((state, check_lemma(experiment, setup, one, state, copies)))
    return [LemmaLine(x, tuple(found[x.key])) for x in lemmas]


def _waterfall(
    experiment: Experiment,
    setup: Setup,
    averaged: dict[str, np.ndarray],
    evaluated: Mapping[str, Any],
    rounds: int,
    exact: bool,
    final: np.ndarray,
    error: float,
) -> Waterfall:
    """``averaged``: quantities by replicate, means over the visited rounds; ``final``: each one's F(u^T, V^T)."""
    inputs, T = setup.inputs.values, experiment.T
    composition = compose(setup.theorem.key, setup.values, setup.visited_diversity)
    weights: Form = {b: float(evaluated[f"weight_{x}"]) / inputs[f"L_{x}"] for b, x in (("X", "u"), ("Y", "v"))}
    gap = final - experiment.problem.constants.F_star.value
    parts = assemble(composition, averaged, eta=inputs["eta"], gap0=inputs["gap0"], T=T, final_gap=gap)
    return Waterfall(
        measured=float(evaluate(weights, averaged, False).mean()),
        bound=float(evaluated["rhs"]),
        parts=summarise(
            parts,
            experiment.deterministic,
            error / (2 * len(parts)),
            limited=_withheld(experiment, len(final) * WATERFALL_COPIES, rounds, error) is None,
        ),
        rounds=rounds,
        T=T,
        replicates=len(final),
        copies=WATERFALL_COPIES,
        exact=exact,
        error=error,
    )
