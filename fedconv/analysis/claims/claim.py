"""A paper's claim, and what was seen of it: pieces of evidence with a verdict each, and the verdict on the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fedconv.analysis.verdicts.check import Result
from fedconv.analysis.verdicts.verdict import Status, Verdict
from fedconv.problems.errors import InputError

Kind = Literal["theorem", "lemma", "reduction", "regime", "empirical", "implementation", "conjecture"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""theorem, lemma: a statement with a proof; reduction: a special case that must come out; regime: which algorithm is
the better one; empirical: what runs on data show; implementation: what a correct program does; conjecture: a statement
without a proof, searched for a counterexample."""

Size = Literal["quick", "full"]
SIZES: tuple[Size, ...] = get_args(Size)


@dataclass(frozen=True)
class Evidence:
    """One thing that was looked at. ``name``: which problem or comparison; ``result``: where a theorem was checked
    on a run, that check; ``spec``: the problem file that reproduces it, where there is one."""

    name: str
    verdict: Verdict
    result: Result | None = None
    spec: Mapping[str, Any] | None = None


Check = Callable[["Budget"], Sequence[Evidence]]


@dataclass(frozen=True)
class Budget:
    """What a check may spend: the suite's size, the one-sided error of *each* verdict (the same whether a claim is
    checked alone or with all others, so that it gets the same verdict), and threads."""

    size: Size = "quick"
    error: float = 1e-9
    workers: int = 1

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise InputError(f"size must be one of {', '.join(SIZES)}; got {self.size!r}")
        if not 0 < self.error < 0.5:
            raise InputError(f"error must lie in (0, 0.5); got {self.error}")
        if self.workers < 1:
            raise InputError(f"workers must be at least 1; got {self.workers}")


@dataclass(frozen=True)
class Claim:
    """``key``: "PAPER/NAME", as the command line takes it; ``statement``: in this project's words, mathematics as LaTeX
    between dollar signs; ``source``: the paper's section or theorem where known, or "derived here"; ``theorems``: keys
    of the theorems, statements or lemmas whose formulas it is about; ``figure``: a figure of the gallery, or ""."""

    key: str
    title: str
    statement: str
    source: str
    kind: Kind
    check: Check
    theorems: tuple[str, ...] = ()
    figure: str = ""

    def __post_init__(self) -> None:
        paper, slash, name = self.key.partition("/")
        if not (paper and slash and name):
            raise InputError(f'a claim\'s key must be "PAPER/NAME"; got {self.key!r}')
        if self.kind not in KINDS:
            raise InputError(f"a claim's kind must be one of {', '.join(KINDS)}; got {self.kind!r}")

    @property
    def paper(self) -> str:
        return self.key.partition("/")[0]

    @property
    def command(self) -> str:
        """The command that checks this claim alone, at the quick size."""
        return f"fedconv papers {self.key}"


@dataclass(frozen=True)
class Outcome:
    """A claim with its evidence."""

    claim: Claim
    evidence: tuple[Evidence, ...]

    @property
    def status(self) -> Status:
        """``violated`` where a piece of evidence is; else ``inconclusive`` where one is; else ``holds`` where one
        holds; else (no evidence, or premises unmet everywhere) ``premises_unmet``."""
        seen = {e.verdict.status for e in self.evidence}
        order: tuple[Status, ...] = ("violated", "inconclusive", "holds")
        for status in order:
            if status in seen:
                return status
        return "premises_unmet"

    @property
    def approximate(self) -> bool:
        """Whether what decides is approximate: some evidence that holds, or all that is violated."""
        deciding = [e.verdict.approximate for e in self.evidence if e.verdict.status == self.status]
        return all(deciding) if self.status == "violated" else any(deciding)

    @property
    def verdict_category(self) -> str:
        """The status, with ``_approximate`` behind it where what decides is: one of
        ``fedconv.analysis.verdicts.verdict.CATEGORIES``."""
        return f"{self.status}_approximate" if self.approximate else self.status

    @property
    def worst(self) -> Evidence | None:
        """The piece of evidence that decides the status; among several the one with the largest tightness."""
        same = [e for e in self.evidence if e.verdict.status == self.status]

        def tightness(e: Evidence) -> float:
            value = e.verdict.tightness
            return value if value == value else float("-inf")

        return max(same, key=tightness, default=None)
