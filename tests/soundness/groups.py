"""Random settings by group: where verdicts went wrong once, or may. Seed, group and number fix each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fedconv.analysis.exact import applies
from fedconv.analysis.theorems import THEOREMS
from soundness import other_groups, own_groups
from soundness.drawing import FALSE, TRUE, about, built, error, file, pick, with_own
from soundness.precise import by_digits
from soundness.setting import Setting, at_factor
from soundness.truth import by_moments, by_paths, every_cohort, fits, with_or_without_first

Draw = Callable[[np.random.Generator, int], Setting]


def outliers(rng: np.random.Generator, number: int) -> Setting:
    """One client among many, few of whom take part."""
    n, m, T = pick(rng, 20, 60, 200, 1000), pick(rng, 1, 1, 2, 3), pick(rng, 1, 2, 3, 4)
    high = float(pick(rng, 1.0, 3.0, 10.0))
    name = pick(rng, "fedalt", "fedsim", "fedavg")
    noise = pick(rng, {"law": "zero"}, {"law": "zero"}, {"law": "rademacher", "sigma_u": 0.1})
    u = pick(rng, 0.0, 0.006, 0.03, 0.3)
    if rng.random() < 0.7:
        low = -high / (n - 1)
        problem = {
            "family": "trigonometric_arrays", "a": [1.0], "b": [], "kappa": [], "s": [[]] * n,
            "h": [[-low * (n - 1)], *[[low]] * (n - 1)],
        }  # fmt: skip
    else:
        steep = pick(rng, 1.0, 2.0)
        problem = {
            "family": "quadratic_arrays", "A": [[[steep]], *[[[1.0]]] * (n - 1)], "B": [[]] * n, "C": [[]] * n,
            "a": [[high], *[[0.0]] * (n - 1)], "b": [[]] * n,
        }  # fmt: skip
    spec = file(
        rng, problem, noise=noise, start={"kind": "point", "u": [u], "v": [[]] * n}, run={"T": T, "engine": "eager"},
        algorithm={"name": name, "m": m, "tau": 1 if noise["law"] != "zero" else pick(rng, 1, 2)},
    )  # fmt: skip
    experiment = built(spec)
    truth = by_paths(experiment, with_or_without_first(n, m))
    theorems = with_own(rng, experiment, truth, about(rng, name, 3))
    return Setting("outliers", number, experiment, theorems, truth, error(rng), "eager", 512 if n > 200 else 1024,
                   judged=rng.random() < 0.2, spec=spec)  # fmt: skip


def _quadratic(rng: np.random.Generator, **more: Any) -> dict[str, Any]:
    return {
        "family": "quadratic", "n": pick(rng, 2, 3, 5, 8), "d_u": pick(rng, 1, 2, 4), "d_v": pick(rng, 1, 2),
        "coupling": 0.0, "spread": pick(rng, 0.0, 0.3, 1.0), "seed": int(rng.integers(1000)), **more,
    }  # fmt: skip


def _sampled(
    rng: np.random.Generator,
    group: str,
    number: int,
    spec: dict[str, Any],
    *,
    most: int = 1024,
    share: float | None = None,
) -> Setting:
    """A random quadratic, sampled though its moments are known."""
    experiment = built(spec)
    assert applies(experiment) is None, applies(experiment)
    truth = by_moments(experiment)
    theorems = with_own(rng, experiment, truth, about(rng, spec["algorithm"]["name"], 2))
    if share is not None:
        theorems = (*theorems[:-2], *(at_factor(experiment, truth, pick(rng, *some), share) for some in (FALSE, TRUE)))
    return Setting(group, number, experiment, theorems, truth, error(rng), "eager", most, judged=rng.random() < 0.2,
                   spec=spec)  # fmt: skip


def _small_run(rng: np.random.Generator, n: int) -> dict[str, Any]:
    return {"algorithm": {"m": int(rng.integers(1, n + 1)), "tau": pick(rng, 1, 1, 2, 4)},
            "run": {"T": pick(rng, 1, 2, 3, 6), "engine": "eager"}}  # fmt: skip


def rare_noise(rng: np.random.Generator, number: int) -> Setting:
    """Spikes so rare that few are drawn, or many in the block where they do not matter."""
    loud, faint = pick(rng, "uv", "vu")
    q = float(10 ** rng.uniform(-5, -1.3))
    problem = _quadratic(rng, **{f"d_{loud}": 1, f"d_{faint}": pick(rng, 1, 4, 20, 40)})
    noise = {
        "law": "spikes",
        "spike_probability": q,
        f"sigma_{loud}": 0.5,
        f"sigma_{faint}": pick(rng, 0.0, 1e-3, 1e-2),
    }
    if problem[f"d_{faint}"] >= 20:
        problem["n"] = 2
    start = pick(rng, {"kind": "optimum"}, {"kind": "optimum"}, {"kind": "normal", "scale": 0.3})
    spec = file(rng, problem, noise=noise, start=start, **_small_run(rng, problem["n"]))
    return _sampled(rng, "rare noise", number, spec)


def heavy_tails(rng: np.random.Generator, number: int) -> Setting:
    """Student's noise with few degrees of freedom."""
    dof = pick(rng, 2.1, 2.5, 3.0, 4.0, 4.2, 5.0, 6.0, 8.0)
    noise = {"law": "student_t", "dof": dof, "sigma_u": pick(rng, 0.1, 1.0),
             "sigma_v": pick(rng, 0.0, 0.3)}  # fmt: skip
    problem = _quadratic(rng)
    start = pick(rng, {"kind": "optimum"}, {"kind": "normal", "scale": 0.3})
    spec = file(rng, problem, noise=noise, start=start, **_small_run(rng, problem["n"]))
    return _sampled(rng, "heavy tails", number, spec)


def ordinary(rng: np.random.Generator, number: int) -> Setting:
    """Gaussian noise or signs; few coordinates and rounds, so that the left side is skewed like χ²."""
    noise = {"law": pick(rng, "gaussian", "gaussian", "rademacher"), "sigma_u": pick(rng, 0.3, 1.0),
             "sigma_v": pick(rng, 0.0, 0.3, 1.0)}  # fmt: skip
    problem = _quadratic(rng)
    start = pick(rng, {"kind": "optimum"}, {"kind": "normal", "scale": 0.3})
    spec = file(rng, problem, noise=noise, start=start, **_small_run(rng, problem["n"]))
    return _sampled(rng, "ordinary noise", number, spec, most=pick(rng, 512, 4096))


def a_posteriori(rng: np.random.Generator, number: int) -> Setting:
    """Coupled quadratics, whose δ is infinite."""
    law = pick(rng, "gaussian", "spikes", "student_t", "zero")
    noise: dict[str, Any] = {"law": law} | ({} if law == "zero" else {"sigma_u": 0.5, "sigma_v": pick(rng, 0.0, 0.3)})
    noise |= {"spikes": {"spike_probability": pick(rng, 1e-3, 0.05)}, "student_t": {"dof": 5.0}}.get(law, {})
    problem = _quadratic(rng, coupling=0.5, n=pick(rng, 2, 4, 8, 30))
    start = pick(rng, {"kind": "optimum"}, {"kind": "normal", "scale": 1.0})
    spec = file(rng, problem, noise=noise, start=start, **_small_run(rng, problem["n"]))
    if law == "zero":
        spec["algorithm"]["m"] = int(rng.integers(1, problem["n"]))
    return _sampled(rng, "a posteriori", number, spec, share=pick(rng, 0.1, 0.5, 0.9))


def near_optimum(rng: np.random.Generator, number: int) -> Setting:
    """Starts at the optimum or within 1e-12 to 1e-4 of it, without randomness; fifty digits say the truth."""
    n, d_u, d_v = pick(rng, 1, 2, 3), pick(rng, 1, 2), pick(rng, 1, 2)
    if rng.random() < 0.5:
        problem = _quadratic(rng, n=n, d_u=d_u, d_v=d_v, spread=pick(rng, 0.3, 3.0, 30.0))
    else:
        size = pick(rng, 1.0, 1.0, 100.0)
        problem = {"family": "trigonometric", "n": n, "d_u": d_u, "d_v": d_v, "chi": 0.0, "delta": 0.0,
                   "L_u": size, "spread": pick(rng, 0.0, 1.0) if n > 1 else 0.0}  # fmt: skip
    scale = 0.0 if rng.random() < 0.25 else float(10 ** rng.uniform(-12, -4))
    start = {"kind": "optimum"} | ({"scale": scale, "seed": int(rng.integers(1000))} if scale else {})
    spec = file(rng, problem, start=start, algorithm={"m": n, "tau": pick(rng, 1, 2)}, run={"T": pick(rng, 1, 3, 10)})
    experiment = built(spec)
    theorems = tuple(about(rng, spec["algorithm"]["name"], 3))
    return Setting("near the optimum", number, experiment, theorems, by_digits(experiment), judged=rng.random() < 0.3,
                   spec=spec, notes=f"scale {scale:.1e}")  # fmt: skip


OPTIMA: tuple[dict[str, Any], ...] = (
    {"family": "trigonometric", "n": 4, "d_u": 3, "d_v": 0, "L_v": 0.0, "chi": 0.0, "delta": 1.0, "spread": 0.0},
    {"family": "trigonometric", "n": 4, "d_u": 3, "d_v": 2, "chi": 0.3, "delta": 1.0, "spread": 0.5},
    {"family": "quadratic", "n": 4, "d_u": 3, "d_v": 2, "coupling": 0.5},
    {"family": "overpersonalized", "n": 4, "d_u": 3, "d_v": 2, "rows": 5},
)
"""Problems with a minimiser, of several families."""


def near_any_optimum(rng: np.random.Generator, number: int) -> Setting:
    """The same for more families, and with cohorts or faint noise; only the theorems themselves are judged."""
    problem = dict(pick(rng, *OPTIMA))
    scale = 0.0 if rng.random() < 0.25 else float(10 ** rng.uniform(-12, -4))
    start = {"kind": "optimum"} | ({"scale": scale, "seed": int(rng.integers(1000))} if scale else {})
    noise = pick(rng, {"law": "zero"}, {"law": "zero"}, {"law": "gaussian", "sigma_u": 1e-9})
    spec = file(rng, problem, start=start, noise=noise, algorithm={"m": pick(rng, 4, 4, 1), "tau": pick(rng, 1, 2)},
                run={"T": pick(rng, 1, 10, 40)})  # fmt: skip
    experiment = built(spec)
    name = spec["algorithm"]["name"]
    theorems = tuple(t for t in THEOREMS.values() if name in t.algorithms)
    return Setting("near other optima", number, experiment, theorems, None, max_replicates=256, spec=spec,
                   judged=rng.random() < 0.3, notes=f"scale {scale:.1e}")  # fmt: skip


def divergence(rng: np.random.Generator, number: int) -> Setting:
    """Runs that leave the range of floats, with and without randomness."""
    n, m = 8, pick(rng, 1, 1, 2, 8)
    problem = {"family": "quadratic", "n": n, "d_u": pick(rng, 1, 3), "d_v": 2, "coupling": 0.3, "indefinite": 0.95,
               "seed": int(rng.integers(1000))}  # fmt: skip
    noise = pick(rng, {"law": "zero"}, {"law": "gaussian", "sigma_u": 0.1})
    step = pick(rng, 0.3, 0.6, 0.9)
    far = pick(rng, {"kind": "zeros"}, {"kind": "normal", "scale": 1e3}, {"kind": "normal", "scale": 1e150})
    T = pick(rng, 2000, 4000) if far.get("scale", 0.0) < 1e100 else pick(rng, 5, 50)
    spec = file(rng, problem, noise=noise, start=far, algorithm={"m": m, "eta": step}, run={"T": T})
    experiment = built(spec)
    name = spec["algorithm"]["name"]
    truth = by_moments(experiment)
    theorem = next(t for t in THEOREMS.values() if name in t.algorithms and "*" not in t.key)
    theorems = (theorem, theorem.mutate(theorem.mutant("no_conditions")), *about(rng, name, 1)[:1],
                at_factor(experiment, truth, 0.9, 0.5))  # fmt: skip
    theorems = tuple({t.key: t for t in theorems}.values())
    return Setting("divergence", number, experiment, theorems, truth, max_replicates=64, spec=spec)


def exact_routes(rng: np.random.Generator, number: int) -> Setting:
    """Tiny instances that are decided exactly: by moments or by the tool's tree, against all paths here."""
    n, d_u, d_v = pick(rng, 2, 3), 1, 1
    if rng.random() < 0.5:
        problem = {"family": "trigonometric", "n": n, "d_u": d_u, "d_v": d_v, "chi": pick(rng, 0.0, 0.5), "delta": 1.0,
                   "spread": 0.5}  # fmt: skip
    else:
        problem = _quadratic(rng, n=n, d_u=d_u, d_v=d_v, coupling=pick(rng, 0.0, 0.5))
    noise = pick(rng, {"law": "zero"}, {"law": "rademacher", "sigma_u": 0.5},
                 {"law": "spikes", "sigma_u": 0.5, "spike_probability": 0.02})  # fmt: skip
    spec = file(rng, problem, noise=noise, start={"kind": "normal"}, algorithm={"m": int(rng.integers(1, n)), "tau": 1},
                run={"T": 1})  # fmt: skip
    experiment = built(spec)
    while experiment.T < 6 and fits(longer := built(spec | {"run": spec["run"] | {"T": experiment.T + 1}}),
                                    every_cohort(n, experiment.algorithm.m)):  # fmt: skip
        experiment = longer
    spec["run"]["T"] = experiment.T
    truth = by_paths(experiment)
    share = 0.5 if problem["family"] == "quadratic" and problem["coupling"] else None
    theorems = [
        *about(rng, spec["algorithm"]["name"], 3),
        *(at_factor(experiment, truth, x, share) for x in (0.99999, 1.00001)),
    ]
    return Setting("exact routes", number, experiment, tuple(theorems), truth, spec=spec)


GROUPS: dict[str, tuple[Draw, int]] = {
    "outliers": (outliers, 260),
    "rare noise": (rare_noise, 200),
    "heavy tails": (heavy_tails, 200),
    "ordinary noise": (ordinary, 200),
    "a posteriori": (a_posteriori, 200),
    "near the optimum": (near_optimum, 250),
    "near other optima": (near_any_optimum, 100),
    "divergence": (divergence, 60),
    "exact routes": (exact_routes, 100),
    "lemmas": (other_groups.lemmas, 100),
    "ffgg": (other_groups.ffgg, 100),
    "own algorithms": (own_groups.algorithms, 250),
    "own participation": (own_groups.participation, 60),
    "own problems": (own_groups.problems, 150),
    "own bounds": (own_groups.bounds, 60),
    "wrong constants": (own_groups.constants, 120),
}
"""How each is drawn, and how many settings are tried."""


def draw(group: str, number: int, seed: int) -> Setting:
    """The setting of that number."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, list(GROUPS).index(group), number]))
    torch.set_num_threads(1)
    return GROUPS[group][0](rng, number)
