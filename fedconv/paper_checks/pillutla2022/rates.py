"""How the bounds and the measured stationarity grow with T, m, σ and δ: slopes on logarithmic axes, as claims."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedconv.analysis.claims.claim import Budget, Claim, Evidence
from fedconv.analysis.claims.slopes import slope
from fedconv.analysis.theorems import theorem
from fedconv.analysis.theorems.split.facts import Inputs, of_experiment
from fedconv.analysis.tuning.one_run import best_step
from fedconv.core.run import Experiment, run
from fedconv.paper_checks.pillutla2022.reductions import WAVES, experiment
from fedconv.paper_checks.shared.comparisons import slope_at_most, slope_is
from fedconv.paper_checks.shared.units import Direct, parts

PAPER = "pillutla2022"
RATE = "theory page, section 5; the order of the rate: the paper, absolute constants ignored"
FLOOR = "theory page, sections 2 and 3, derived here"
ALGORITHM = {"FA": "fedalt", "FA*": "fedalt", "FS": "fedsim", "FS*": "fedsim"}
GAUSS = {"law": "gaussian", "sigma_u": 0.5, "sigma_v": 0.5}


def _waves(name: str, m: int, eta: float, rounds: int, noise: dict[str, Any] | None, tau: int = 3,
           **dials: Any) -> Experiment:  # fmt: skip
    return experiment(WAVES | dials, {"name": name, "m": m, "tau": tau, "eta": eta}, rounds, noise)


def _tuned(key: str, inputs: Inputs, rounds: float) -> float:
    at = Inputs(inputs.values | {"T": float(rounds)}, inputs.blocks, inputs.grade, inputs.scale)
    return best_step(theorem(key), at).guarantee


# ---- the bounds ---------------------------------------------------------------------------------------------------


def bounds_in_T(budget: Budget) -> tuple[Evidence, ...]:
    """The least guarantee over η and free parameters at growing T: slope −1/2 with noise, −2/3 with drift alone."""
    T = np.array([1e8, 1e9, 1e10])
    out = []
    for key, name in ALGORITHM.items():
        noisy = of_experiment(_waves(name, 3, 0.1, 100, GAUSS))
        found = slope(T, np.array([[_tuned(key, noisy, t) for t in T]]))
        out.append(slope_is(f"{key}: bound at the best step over T, noise and sampling", found, -0.5, 0.02, 0.0))
        silent = of_experiment(_waves(name, 8, 0.1, 100, None))
        found = slope(T, np.array([[_tuned(key, silent, t) for t in T]]))
        out.append(slope_is(f"{key}: bound at the best step over T, everyone, exact gradients, 3 local steps", found,
                            -2 / 3, 0.02, 0.0))  # fmt: skip
    return tuple(out)


def bounds_one_step(budget: Budget) -> tuple[Evidence, ...]:
    """Exact gradients, everyone, one local step: the bound falls as 1/T."""
    T = np.array([1e3, 1e5, 1e7])
    out = []
    for key, name in ALGORITHM.items():
        case = experiment(WAVES, {"name": name, "m": 8, "tau": 1, "eta": 0.1}, 100)
        found = slope(T, np.array([[_tuned(key, of_experiment(case), t) for t in T]]))
        out.append(
            slope_is(
                f"{key}: bound at the best step over T, everyone, exact gradients, one step", found, -1.0, 0.01, 0.0
            )
        )
    return tuple(out)


def bounds_in_noise(budget: Budget) -> tuple[Evidence, ...]:
    """T → ∞ at fixed small η, one local step: the right side grows as σ_u², δ², and 1/m in the noise of the shared"
    " part."""
    limits = {"alpha": 0.5, "theta": 1e3, "theta_v": 1e3, "omega": 1e-3}
    base = of_experiment(_waves("fedalt", 3, 0.01, 100, GAUSS)).values
    still = {
        "T": 1e15,
        "eta": 0.01,
        "sigma_u": 0.0,
        "sigma_v": 0.0,
        "delta": 0.0,
        "rho": 0.0,
        "chi": 0.0,
        "tau_u": 1.0,
        "tau_v": 1.0,
    }
    sweeps: dict[str, tuple[dict[str, Any], np.ndarray, float]] = {
        "sigma_u": ({"sigma_u": None}, np.array([0.1, 1.0, 10.0]), 2.0),
        "sigma_v": ({"sigma_v": None}, np.array([0.1, 1.0, 10.0]), 2.0),
        "delta": ({"delta": None}, np.array([0.1, 1.0, 10.0]), 2.0),
        "m": ({"m": None, "sigma_u": 1.0, "n": 1e6}, np.array([10.0, 100.0, 1000.0]), -1.0),
    }
    out = []
    for key in ALGORITHM:
        for name, (change, x, expected) in sweeps.items():
            given = {k: x if v is None else v for k, v in change.items()}
            values = {k: np.broadcast_to(v, x.shape) for k, v in (base | still | given).items()}
            right = np.asarray(theorem(key).evaluate(values, limits)["rhs"], dtype=float)
            out.append(slope_is(f"{key}: floor of the bound over {name}", slope(x, right[None]), expected, 0.05, 0.0))
    return tuple(out)


# ---- runs ---------------------------------------------------------------------------------------------------------


def _left(case: Experiment, count: int, first: int, budget: Budget) -> np.ndarray:
    """(1/T) Σ_t (X_t/L_u + Y_t/L_v) from round ``first`` on, ``(R,)``."""
    trace, c = run(case, count, workers=budget.workers), case.problem.constants
    rounds = trace["grad_u_sq"].values / c.L_u.value
    if case.problem.d_v:
        rounds = rounds + trace["grad_v_sq"].values / c.L_v.value
    return rounds[:, first:].mean(1)


def _replicates(budget: Budget) -> int:
    return 64 if budget.size == "quick" else 1024


def runs_in_T(budget: Budget) -> tuple[Evidence, ...]:
    """Runs with η = T^{−1/2}: the mean stationarity falls at least as fast as the bound, T^{−1/2}."""
    T = [64, 256, 1024] if budget.size == "quick" else [256, 1024, 4096]
    out = []
    for name in ("fedalt", "fedsim"):
        count = _replicates(budget)
        samples = np.stack([_left(_waves(name, 3, t**-0.5, t, GAUSS), count, 0, budget) for t in T], axis=1)
        found = slope(np.array(T, dtype=float), samples, 2 * budget.error)
        out.append(
            slope_at_most(f"{name}: measured stationarity over T at eta = T^(-1/2)", found, -0.4, budget.error, count)
        )
    return tuple(out)


def runs_in_sigma(budget: Budget) -> tuple[Evidence, ...]:
    """The floor that noise leaves at a fixed step grows as σ²."""
    x = np.array([0.05, 0.1, 0.2])
    return _floors(budget, "sigma", x, 2.0, lambda name, s: _waves(
        name, 8, 0.1, 600, {"law": "gaussian", "sigma_u": float(s), "sigma_v": float(s)}, 1))  # fmt: skip


def runs_in_m(budget: Budget) -> tuple[Evidence, ...]:
    """The floor that the noise of the shared part leaves falls as 1/m where all clients are alike."""
    x = np.array([2.0, 4.0, 8.0])
    return _floors(budget, "m", x, -1.0, lambda name, m: experiment(
        {"family": "trigonometric", "n": 32, "d_u": 4, "d_v": 0, "L_u": 1.0, "L_v": 0.0, "chi": 0.0, "delta": 0.0,
         "spread": 0.0}, {"name": name, "m": int(m), "tau": 1, "eta": 0.1}, 600,
        {"law": "gaussian", "sigma_u": 0.2}))  # fmt: skip


def runs_in_delta(budget: Budget) -> tuple[Evidence, ...]:
    """The floor that sampling leaves at a fixed step grows as δ²."""
    x = np.array([0.1, 0.2, 0.4])
    return _floors(budget, "delta", x, 2.0, lambda name, d: _waves(name, 2, 0.1, 600, None, delta=float(d), chi=0.0))


def _floors(budget: Budget, what: str, x: np.ndarray, expected: float, make: Any) -> tuple[Evidence, ...]:
    out, count = [], _replicates(budget)
    for name in ("fedalt", "fedsim"):
        samples = np.stack([_left(make(name, value), count, 300, budget) for value in x], axis=1)
        found = slope(x, samples, 2 * budget.error)
        out.append(slope_is(f"{name}: measured floor over {what}", found, expected, 0.25, budget.error, count))
    return tuple(out)


def _claim(name: str, title: str, statement: str, source: str, *given: Any, theorems: tuple[str, ...]) -> Claim:
    return Claim(f"{PAPER}/{name}", title, statement, source, "theorem", parts(*(Direct(x) for x in given)), theorems,
                 "slopes")  # fmt: skip


ALL = ("FA", "FS", "FA*", "FS*")
CLAIMS = (
    _claim(
        "rate-T", "The rate in T",
        "At the best step both algorithms' bounds fall as $T^{-1/2}$ where noise or sampling is there, as $T^{-2/3}$"
        " with"
        " the drift of local steps alone, and runs with $\\eta \\propto T^{-1/2}$ fall no slower than $T^{-1/2}$ (the"
        " slope's upper limit is at most $-0.4$).",
        RATE, bounds_in_T, runs_in_T, theorems=ALL,
    ),
    _claim(
        "rate-T-deterministic", "The rate in T without noise, sampling and drift",
        "With everyone, exact gradients and one local step the bounds fall as $1/T$.",
        RATE, bounds_one_step, theorems=ALL,
    ),
    _claim(
        "rate-sigma", "The floor grows as the noise's variance",
        "At a fixed small step and with one local step the bound's floor grows as $\\sigma_u^2$ and $\\sigma_v^2$, and"
        " so does that of runs with everyone.",
        FLOOR, bounds_in_noise, runs_in_sigma, theorems=ALL,
    ),
    _claim(
        "rate-m", "More clients a round lower the floor of shared noise",
        "The floor that the noise of the shared part leaves falls as $1/m$ in the bounds, and in runs with equal"
        " clients.",
        FLOOR, bounds_in_noise, runs_in_m, theorems=ALL,
    ),
    _claim(
        "rate-delta", "The floor of sampling grows as the diversity",
        "With exact gradients and partial participation the floor grows as $\\delta^2$ in the bounds and in runs.",
        FLOOR, bounds_in_noise, runs_in_delta, theorems=ALL,
    ),
)  # fmt: skip
