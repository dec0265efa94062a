"""A short run of a torch module, from which its constants are estimated and an adviser's values are made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fedconv.analysis.constants.estimate import Estimate, Estimates, estimate
from fedconv.analysis.constants.visited_points import Visited, chosen_rounds, visited
from fedconv.core.run import Experiment, step_sizes
from fedconv.methods.split import FedAlt, State
from fedconv.methods.split.minibatch import BatchExperiment, MiniBatch
from fedconv.problems.errors import InputError
from fedconv.problems.modules.problem import ModuleProblem
from fedconv.problems.noise import Noise

SIZES = ((6, 8), (6, 4), (4, 3), (3, 3))
"""(rounds at which constants are estimated, replicates), the first that WORK allows, else the last."""

WORK = 5e8
"""Points times clients times rows of the largest client times parameters, which the time for curvature grows with."""

HALVINGS = 20
NAMES = ("L_u", "L_v", "L_uv", "delta", "rho", "sigma_u", "sigma_v")
Progress = Callable[[str, int, int], None]
"""Called with (what is done, how far, of how much)."""


@dataclass(frozen=True)
class Pilot:
    """A pilot run: what it was, and the constants estimated along it. ``batch``: None for whole gradients."""

    problem: ModuleProblem
    T: int
    m: int
    batch: int | None
    seed: int
    gamma_u: float
    gamma_v: float
    replicates: int
    estimates: Estimates

    @property
    def listed(self) -> dict[str, Estimate]:
        """The estimates by name; without mini-batches there are no σ_u, σ_v among them."""
        return {k: x for k in NAMES if (x := getattr(self.estimates, k)) is not None}

    def given(self, F_star: float | None = None) -> dict[str, Any]:
        """What :func:`fedconv.analysis.regimes.advise.advise` needs but a budget. F_star: a number below F, in place of
        the problem's.

        Raises InputError where advice has no meaning: no shared or no personal part, a block in which F does not curve,
        no lower bound of F, or one that F falls below along the pilot run.
        """
        p, e = self.problem, self.estimates
        for block, d, other in (("personal", p.d_v, "FedAlt and FedSim are both FedAvg"),
                                ("shared", p.d_u, "every client trains alone")):  # fmt: skip
            if d == 0:
                raise InputError(
                    f"advice needs a model with a shared and a personal part; it has no {block} one: {other}"
                )
        for name in ("L_u", "L_v"):
            if getattr(e, name).largest == 0:
                block = {"L_u": "shared", "L_v": "personal"}[name]
                raise InputError(
                    f"advice needs {name} > 0; it is estimated as 0, as F does not curve in the {block} part at any"
                    " visited point"
                )
        floor = e.F_star.value if F_star is None else F_star
        lowest = float(e.along.values["F"].min())
        if not math.isfinite(floor):
            raise InputError(f"F_star must be a finite number below F, which the bounds start from; got {floor}")
        if floor > lowest:
            raise InputError(f"F_star must be a number below F; got {floor:g}, and F is {lowest:.6g} in the pilot run")
        if floor == e.F_start:
            raise InputError(f"F_star must lie below F at the start; both are {floor:g}, and nothing is left to gain")
        listed = {k: x.largest for k, x in self.listed.items() if k != "L_uv"}
        return {"sigma_u": 0.0, "sigma_v": 0.0} | listed | {
            "chi": e.constants.chi, "n": p.n, "d_u": p.d_u, "gap0": e.F_start - floor
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the run, and every estimate with its interval; an infinite limit is null."""

        def finite(x: float) -> float | None:
            return x if math.isfinite(x) else None

        e = self.estimates
        return {
            "grade": "estimated", "n": self.problem.n, "d_u": self.problem.d_u, "d_v": self.problem.d_v,
            "kinks": e.along.kinks, "vectorised": self.problem.vectorised, "refusal": self.problem.refusal,
            "run": {
                "algorithm": "fedalt", "T": self.T, "m": self.m, "tau": 1, "batch": self.batch, "seed": self.seed,
                "gamma_u": self.gamma_u, "gamma_v": self.gamma_v, "replicates": self.replicates,
                "F": [finite(float(x)) for x in e.along.values["F"].mean(0)], "rounds": list(e.along.rounds),
            },
            "constants": {
                k: {"used": x.largest, "value": x.value, "low": finite(x.low), "high": finite(x.high),
                    "meaning": x.meaning}
                for k, x in self.listed.items()
            } | {"chi": {"used": finite(e.constants.chi)}},
            "F_star": finite(e.F_star.value), "F_start": e.F_start,
        }  # fmt: skip


def pilot(
    problem: ModuleProblem,
    *,
    batch: int | None = None,
    T: int = 20,
    m: int | None = None,
    seed: int = 0,
    points: int | None = None,
    replicates: int | None = None,
    progress: Progress | None = None,
) -> Pilot:
    """Constants along T rounds of FedAlt with cohorts of m (default: half of the clients) and one local step a block.

    points: rounds at which constants are estimated, the start among them. replicates: of the run (one where nothing in
    it is random). Left out, they are 6 and 8, and fewer for large models (SIZES).
    batch: rows a local step draws; left out, steps take the whole gradient and σ_u = σ_v = 0. η = 0.5 for the
    constants at the module's own parameters, halved until the run stays finite. Raises InputError for numbers that do
    not fit, and where the loss is not finite.
    """
    for name, value in (("batch", batch), ("T", T), ("m", m)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be an integer >= 1; got {value}")
    m = max(1, problem.n // 2) if m is None else m
    if m > problem.n:
        raise InputError(f"m must be at most n = {problem.n}; got {m}")
    start = State(*problem.start())
    losses = problem.value(start.u.expand(problem.n, -1), start.v, problem.everyone())
    bad = (~torch.isfinite(losses)).nonzero().flatten().tolist()
    if bad:
        raise InputError(
            f"the loss must be finite at the module's own parameters; client {bad[0]} has {float(losses[bad[0]]):g}"
        )
    usual = sizes(problem)
    points, replicates = (u if x is None else x for x, u in zip((points, replicates), usual, strict=True))
    report = progress or (lambda what, done, total: None)
    gamma_u, gamma_v, seen = _finite_run(problem, start, batch, T, m, seed, points, replicates, report)
    count = seen.u.shape[0] * seen.u.shape[1]
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        report("constants at visited points", done, count)

    noise = MiniBatch(batch=batch) if batch is not None else None
    found = estimate(problem, seen, noise=noise, seed=seed, progress=advance)
    return Pilot(problem, T, m, batch, seed, gamma_u, gamma_v, seen.u.shape[0], found)


def sizes(problem: ModuleProblem) -> tuple[int, int]:
    """(points, replicates) of a pilot run for a problem of this size."""
    each = problem.n * int(problem.rows.sizes.max()) * (problem.d_u + problem.d_v)
    return next((s for s in SIZES if s[0] * s[1] * each <= WORK), SIZES[-1])


def _finite_run(
    problem: ModuleProblem, start: State, batch: int | None, T: int, m: int, seed: int, points: int, replicates: int,
    report: Progress,
) -> tuple[float, float, Visited]:  # fmt: skip
    """Step sizes at which the run stays finite, and the points it visits with them."""
    gamma_u, gamma_v = step_sizes(problem, 1, 1, 0.5)
    total = sum(chosen_rounds(T, points))
    for _ in range(HALVINGS):
        algorithm = FedAlt(m, gamma_u, gamma_v, tau_u=int(gamma_u > 0), tau_v=int(gamma_v > 0))
        if batch is None:
            experiment = Experiment(problem, algorithm, Noise(law="zero"), start, T, seed)
        else:
            experiment = BatchExperiment(problem, algorithm, MiniBatch(batch=batch), start, T, seed)
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            report("pilot run", done, total)

        try:
            return gamma_u, gamma_v, visited(experiment, points, replicates, advance)
        except InputError as error:
            if "diverged" not in str(error):
                raise
            gamma_u, gamma_v = gamma_u / 2, gamma_v / 2
    raise InputError(f"the pilot run must stay finite at some step size; it diverged even at gamma_u = {gamma_u:g}")
