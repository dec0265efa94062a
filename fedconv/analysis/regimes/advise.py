"""Which algorithm, step, cohort and local steps for given constants and a budget, by the bounds FA, FA*, FS and FS*.

What is bounded, so that different m can be compared: (1/T) Σ_t (X_t/L_u + Y_t/L_v), the right-hand side over the
smaller of the two weights on the left. X_t is FedAlt's at the virtual full participation, FedSim's at (u^t, V^t).
Bounds are upper bounds: the smaller one is the better promise, not always the better run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fedconv.analysis.regimes.predictors import PAIRS, Cells, guarantees, predictions
from fedconv.analysis.theorems import THEOREMS
from fedconv.analysis.tuning.many_cells import least
from fedconv.problems.errors import InputError

CONSTANTS: dict[str, str] = {
    "L_u": "> 0", "L_v": "> 0", "chi": ">= 0", "sigma_u": ">= 0", "sigma_v": ">= 0", "delta": ">= 0", "rho": ">= 0",
    "n": ">= 1", "gap0": "> 0",
}  # fmt: skip
"""The constants that advice needs, and their ranges."""

WHOLE = ("n", "T", "communication", "d_u", "m", "tau")
BUDGET = ("T", "communication", "d_u", "m", "tau")
TAUS = (1, 2, 3, 5, 8, 12, 20, 30, 50)
"""Local steps that are tried where τ is free."""

COHORTS = 12
"""At most so many cohort sizes are tried where m is free: all where n is no larger, else spaced evenly in log m."""

SLACK = 0.01
"""Among guarantees within this share of the least, the one with the least local work m·τ is chosen."""


@dataclass(frozen=True)
class Choice:
    """What a theorem chooses within the budget. ``sent``: numbers sent in all (None without d_u), up and down."""

    theorem: str
    algorithm: str
    guarantee: float
    m: int
    tau: int
    T: int
    eta: float
    gamma_u: float
    gamma_v: float
    sent: int | None
    parameters: dict[str, float]


@dataclass(frozen=True)
class Advice:
    """``best``: the choice with the least guarantee. ``choices``: of FA, FA*, FS and FS* (those with an answer).

    ``says``: which algorithm each of the five comparisons of bounds names at ``best``'s m, τ and T ("" where none).
    ``longest``: best's τ is the largest that was tried, so more local steps may promise more.
    ``certainty``: "agreed", "disputed" or "tied"; ``why`` says in words what that rests on.
    """

    best: Choice
    choices: tuple[Choice, ...]
    says: dict[str, str]
    margin: float
    longest: bool
    certainty: str
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data; a free parameter at its limit ∞ is the text "inf"."""

        def plain(x: Any) -> Any:
            if isinstance(x, dict):
                return {k: plain(v) for k, v in x.items()}
            if isinstance(x, (list, tuple)):
                return [plain(v) for v in x]
            return "inf" if isinstance(x, float) and math.isinf(x) else x

        return plain(asdict(self))


def advise(given: Mapping[str, Any]) -> Advice:
    """Advice for the constants and budget in ``given``: CONSTANTS, then ``T`` (rounds) or ``communication`` with
    ``d_u`` (numbers sent in all: each client of a cohort receives u and sends its own, 2·m·d_u in a round), and ``m``
    or ``tau`` where they are fixed. Raises InputError naming the value that is missing or wrong."""
    values = _checked(given)
    cells = _candidates(values)
    choices = tuple(c for key in ("FA", "FA*", "FS", "FS*") if (c := _choice(key, values, cells)) is not None)
    if not choices:
        raise InputError("no theorem admits a step size for these constants, at any m and tau that were tried")
    best = min(choices, key=lambda c: c.guarantee)
    says = _says(values, best)
    rivals = [c.guarantee for c in choices if c.algorithm != best.algorithm]
    margin = 1 - best.guarantee / min(rivals) if rivals else 1.0
    certainty, why = _certainty(best, says, margin)
    longest = "tau" not in values and best.tau == max(TAUS)
    return Advice(best, choices, says, margin, longest, certainty, why)


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values as floats and ints; every missing, unknown or wrong one is an InputError."""
    for name in given:
        if name not in CONSTANTS and name not in BUDGET:
            raise InputError(f"advice takes {', '.join((*CONSTANTS, *BUDGET))}; got {name!r}")
    missing = [name for name in CONSTANTS if given.get(name) is None]
    if missing:
        raise InputError(f"advice needs a value for {', '.join(missing)}")
    out: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        kind = "an integer" if name in WHOLE else "a finite number"
        rule = CONSTANTS.get(name, ">= 1")
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        fits = fits and (name not in WHOLE or float(value).is_integer())
        if not fits or not (value > 0 if rule == "> 0" else value >= float(rule.removeprefix(">= "))):
            raise InputError(f"{name} must be {kind} {rule}; got {value!r}")
        out[name] = int(value) if name in WHOLE else float(value)
    if ("T" in out) == ("communication" in out):
        got = "both" if "T" in out else "neither"
        raise InputError(f"advice needs one budget, T (rounds) or communication (numbers sent in all); got {got}")
    if "communication" in out and "d_u" not in out:
        raise InputError("communication needs d_u, the size of what a client sends in a round; it is missing")
    if out.get("m", 1) > out["n"]:
        raise InputError(f"m must be at most n = {out['n']}; got {out['m']}")
    return out


def _candidates(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """INPUTS but η of every (m, τ) that the budget allows, arrays ``(N,)``."""
    n = values["n"]
    free = range(1, n + 1) if n <= COHORTS else np.unique(np.geomspace(1, n, COHORTS).round().astype(int))
    cohorts = [values["m"]] if "m" in values else [int(m) for m in free]
    taus = [values["tau"]] if "tau" in values else TAUS
    found = [(m, tau, T) for m in cohorts if (T := _rounds(values, m)) >= 1 for tau in taus]
    if not found:
        needed = 2 * min(cohorts) * values["d_u"]
        raise InputError(
            f"communication must allow one round, which sends 2·m·d_u = {needed} numbers; got {values['communication']}"
        )
    m, tau, T = (np.array(column, dtype=float) for column in zip(*found, strict=True))
    fixed = {name: np.full(len(m), float(values[name])) for name in CONSTANTS}
    return fixed | {"m": m, "tau_u": tau, "tau_v": tau, "T": T}


def _rounds(values: Mapping[str, Any], m: int) -> int:
    return values["T"] if "T" in values else values["communication"] // (2 * m * values["d_u"])


def _choice(key: str, values: Mapping[str, Any], cells: Mapping[str, np.ndarray]) -> Choice | None:
    """The candidate with the least local work among those within SLACK of the least guarantee."""
    theorem = THEOREMS[key]
    found = least(theorem, cells, every_client=True)
    smallest = found.guarantee.min()
    if not math.isfinite(smallest):
        return None
    near = np.flatnonzero(found.guarantee <= smallest * (1 + SLACK))
    i = min(near, key=lambda j: (cells["m"][j] * cells["tau_u"][j], found.guarantee[j]))
    m, tau, T = (int(cells[name][i]) for name in ("m", "tau_u", "T"))
    eta = float(found.eta[i])
    return Choice(
        theorem=key,
        algorithm="fedalt" if key in {alt for alt, _ in PAIRS.values()} else "fedsim",
        guarantee=float(found.guarantee[i]),
        m=m,
        tau=tau,
        T=T,
        eta=eta,
        gamma_u=eta / (values["L_u"] * tau),
        gamma_v=eta / (values["L_v"] * tau),
        sent=2 * m * values["d_u"] * T if "d_u" in values else None,
        parameters={name: float(x[i]) for name, x in found.parameters.items()},
    )


def bounds_over_step(given: Mapping[str, Any], key: str, at: Choice, etas: np.ndarray) -> np.ndarray:
    """The theorem's guarantee at each η ``(N,)`` and at's m, τ and T, least over its free parameters; ∞ where the
    premises admit none."""
    cells = {name: np.full(len(etas), float(given[name])) for name in CONSTANTS}
    chosen_here = {"m": at.m, "tau_u": at.tau, "tau_v": at.tau, "T": at.T}
    cells |= {name: np.full(len(etas), float(x)) for name, x in chosen_here.items()}
    return least(THEOREMS[key], cells, every_client=True, eta=np.asarray(etas, dtype=float)).guarantee


def _says(values: Mapping[str, Any], best: Choice) -> dict[str, str]:
    """The five comparisons at one m, τ and T."""
    at = {name: float(values[name]) for name in CONSTANTS}
    at |= {"m": float(best.m), "tau_u": float(best.tau), "tau_v": float(best.tau), "T": float(best.T)}
    cells = Cells({k: np.array([x]) for k, x in at.items()}, (1,), (True, True))
    return {one.key: str(one.names[0]) for one in predictions(cells, guarantees(cells))}


NAMES = {"fedalt": "FedAlt", "fedsim": "FedSim"}


def _certainty(best: Choice, says: Mapping[str, str], margin: float) -> tuple[str, str]:
    name = NAMES[best.algorithm]
    against = [key for key, said in says.items() if said not in (best.algorithm, "no difference", "")]
    if margin < SLACK:
        lead = f"the least bounds of FedAlt and FedSim differ by {margin:.2g} of their size: either will do"
        return "tied", lead + (f"; {', '.join(against)} would name the other" if against else "")
    lead = f"{name}'s least bound is {margin:.1%} lower than the other's"
    if against:
        verb = "names" if len(against) == 1 else "name"
        return "disputed", (
            f"{lead}, but {', '.join(against)} {verb} the other algorithm at this m, τ and T: compare both on a problem"
            " like yours with `fedconv regimes`"
        )
    tied = [key for key, said in says.items() if said == "no difference"]
    text = f"{lead}, and no comparison of bounds names the other algorithm"
    if tied:
        text += f" ({', '.join(tied)} {'sees' if len(tied) == 1 else 'see'} no difference)"
    return "agreed", text
