"""What FFGG's three pictures show: runs of FFGG and of its rivals on one problem as the personalization gap grows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from fedconv.core.run import run, single_torch_thread
from fedconv.methods.ffgg.experiment import FFGGExperiment
from fedconv.methods.ffgg.method import FFGG, Asynchrony, Byzantine
from fedconv.methods.ffgg.robust.threat import Aggregator
from fedconv.methods.split import Algorithm, FedAlt, FedSim, LocalNoise, State
from fedconv.problems.envelopes.base import EnvelopeProblem
from fedconv.problems.envelopes.gap_dials import overpersonalized
from fedconv.problems.envelopes.least_squares import LeastSquares

CLIENTS, TAU, DELAY, ATTACKERS = 10, 10, 9, 2
SHOWN = (0.0, 1e-1)
"""Personalization gaps whose paths are drawn, in units of F."""
GAPS = np.array([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
"""Gaps whose floors are drawn."""


def problem(G: float, rows: int = 5) -> LeastSquares:
    """Least squares of CLIENTS clients with L = 1, μ = 1/3, and personal parts far apart; more rows, B² smaller."""
    return overpersonalized(n=CLIENTS, d_u=4, d_v=2, rows=rows, G=G, condition=3.0, spread=5.0, distance=2.0, seed=3)


def frozen(whole: LeastSquares) -> LeastSquares:
    """The same losses without personal parts (θ_m = 0 for all): what one model for everybody has to fit."""
    A, c = (np.asarray(x.cpu()) for x in (whole.A, whole.c))
    return LeastSquares(A=A, B=np.zeros((*c.shape, 0)), c=c)


def start(whole: EnvelopeProblem) -> State:
    return State(torch.zeros(whole.d_u, dtype=torch.float64), torch.zeros(whole.n, whole.d_v, dtype=torch.float64))


def local_steps(T: int = 120) -> xr.Dataset:
    """TAU local steps at γ = 1/(τL_max), everybody takes part: FFGG, FedAlt, FedSim, FedAvg (no personal parts)."""

    def paths(G: float, rounds: int) -> dict[str, np.ndarray]:
        whole = problem(G)
        shared = frozen(whole)
        return {
            "FFGG": _ffgg(whole, rounds, tau=TAU, gamma=1 / (TAU * _L(whole))),
            "FedAlt": _local(whole, FedAlt, rounds),
            "FedSim": _local(whole, FedSim, rounds),
            "FedAvg": _ffgg(shared, rounds, tau=TAU, gamma=1 / (TAU * _L(shared))),
        }

    def bound(G: float) -> float:
        return _theorem("FFGG-5b", _experiment(problem(G), 10, tau=TAU, gamma=1 / (TAU * _L(problem(G)))))

    return _gather(paths, T, 4 * T, bound, "FFGG-5b", f"{TAU} local steps")


def asynchrony(T: int = 1000) -> xr.Dataset:
    """An asynchronous server, slow clients up to DELAY updates late: FFGG, and one model for everybody."""
    law = Asynchrony(law="uniform", tau_max=DELAY, assignment="per_client", slow=8.0)

    def paths(G: float, rounds: int) -> dict[str, np.ndarray]:
        whole = problem(G)
        shared = frozen(whole)
        found = {}
        for name, one in (("FFGG", whole), ("FedAvg", shared)):
            gamma = 1 / ((2 * DELAY + 1) * _L(one))
            found[f"{name}, asynchronous"] = _ffgg(one, rounds, gamma=gamma, m=1, asynchrony=law)
        found["FFGG, in step"] = _ffgg(whole, rounds, gamma=1 / ((2 * DELAY + 1) * _L(whole)))
        return found

    return _gather(paths, T, 4 * T, None, "", f"delays up to {DELAY} updates, slowest client 8 times as slow")


def byzantine(T: int = 150) -> xr.Dataset:
    """ATTACKERS of the clients flip their labels: FFGG with three servers, and one model for everybody."""

    def whole(G: float) -> LeastSquares:
        return problem(G, rows=12)

    def attacked(one: LeastSquares, rounds: int, aggregator: Aggregator) -> FFGGExperiment:
        threat = Byzantine(f=ATTACKERS, attack="label_flip", aggregator=aggregator)
        return _experiment(one, rounds, gamma=1 / _L(one), byzantine=threat)

    def paths(G: float, rounds: int) -> dict[str, np.ndarray]:
        full, shared = whole(G), frozen(whole(G))
        return {
            "FFGG, trimmed mean": _excess(attacked(full, rounds, "trimmed_mean")),
            "FFGG, geometric median": _excess(attacked(full, rounds, "geometric_median")),
            "FFGG, plain mean": _excess(attacked(full, rounds, "mean")),
            "FedAvg, trimmed mean": _excess(attacked(shared, rounds, "trimmed_mean")),
        }

    def bound(G: float) -> float:
        return _theorem("FFGG-7Bd", attacked(whole(G), 10, "trimmed_mean"))

    return _gather(paths, T, T, bound, "FFGG-7Bd", f"{ATTACKERS} of {CLIENTS} clients flip their labels")


def _L(whole: EnvelopeProblem) -> float:
    return whole.envelope_constants.L_max.value


def _experiment(whole: EnvelopeProblem, T: int, **options: Any) -> FFGGExperiment:
    given: dict[str, Any] = {"m": whole.n, **options}
    return FFGGExperiment(whole, FFGG(**given), start(whole), T)


def _ffgg(whole: EnvelopeProblem, T: int, **options: Any) -> np.ndarray:
    """The excess of FFGG with these options."""
    return _excess(_experiment(whole, T, **options))


def _excess(experiment: FFGGExperiment) -> np.ndarray:
    """F(w^k) − F★ for k = 0..T, all clients fine-tuned; the mean of 4 replicates where there is randomness."""
    trace = run(experiment, 1 if experiment.deterministic else 4)
    return trace["F_gap"].values.mean(axis=0)


def _local(whole: LeastSquares, kind: type[Algorithm], T: int) -> np.ndarray:
    """The same measure at the u^k of FedAlt or FedSim with γ_u = 1/(τL_u), γ_v = 1/(τL_v)."""
    path = torch.from_numpy(shared_iterates(whole, local_steps_of(whole, kind), T))[:, None, :]
    copies = path.expand(-1, whole.n, -1)
    return whole.envelope(copies, whole.everyone()).mean(-1).numpy() - whole.envelope_constants.F_star.value


def local_steps_of(whole: LeastSquares, kind: type[Algorithm]) -> Algorithm:
    """FedAlt or FedSim with everybody, TAU local steps of either kind and those step sizes."""
    c = whole.constants
    gamma_u, gamma_v = 1 / (TAU * c.L_u.value), 1 / (TAU * c.L_v.value)
    return kind(m=whole.n, gamma_u=gamma_u, gamma_v=gamma_v, tau_u=TAU, tau_v=TAU)


def shared_iterates(whole: LeastSquares, algorithm: Algorithm, T: int) -> np.ndarray:
    """u^0, …, u^T ``(T + 1, d_u)`` from ``start`` without noise, everybody taking part.

    On least squares a round is an affine map of z = (u, V): one round from 0 and from every unit vector gives it, and
    T rounds are T products z ← z⁰ + Mz.
    """
    n, d_u, d_v = whole.n, whole.d_u, whole.d_v
    size = d_u + n * d_v
    z = torch.cat([torch.zeros(1, size, dtype=torch.float64), torch.eye(size, dtype=torch.float64)])
    state = State(z[:, :d_u], z[:, d_u:].reshape(-1, n, d_v))
    still = [torch.zeros(size + 1, n, TAU, d, dtype=torch.float64) for d in (d_u, d_v)]
    with single_torch_thread():
        after = algorithm.step(whole, state, whole.everyone().expand(size + 1, -1), LocalNoise(*still))
    images = torch.cat([after.u, after.v.flatten(1)], 1).numpy()
    offset, matrix = images[0], (images[1:] - images[0]).T
    begin = start(whole)
    path = np.empty((T + 1, size))
    path[0] = torch.cat([begin.u, begin.v.flatten()]).numpy()
    for k in range(T):
        path[k + 1] = offset + matrix @ path[k]
    return path[:, :d_u]


def _theorem(key: str, experiment: FFGGExperiment) -> float:
    """What the theorem's bound tends to in T: its right-hand side at the optimum, and after infinitely many rounds."""
    from fedconv.analysis.theorems.registry import methods, statement

    chosen = statement(key)
    nearest = experiment.honest.nearest_minimiser(experiment.start.u)
    assert nearest is not None
    settled = replace(experiment, start=State(nearest, experiment.start.v))
    inputs = methods()["ffgg"].before(settled)
    inputs = replace(inputs, values=inputs.values | {"T": 1e6})
    return float(chosen.evaluate(inputs, run(settled, 1)).rhs[0])


def _gather(paths: Any, T: int, settled: int, bound: Any, theorem: str, setting: str) -> xr.Dataset:
    """What the figure shows of ``paths(G, rounds)``: T rounds, and floors from runs of ``settled`` ≥ T rounds, whose
    last quarter must be where the excess stays (other than of FFGG in step, whose excess goes to 0)."""
    long = [paths(G, settled) for G in GAPS]
    methods = list(long[0])
    known = {float(G): {name: path[: T + 1] for name, path in d.items()} for G, d in zip(GAPS, long, strict=True)}
    shown = [known[G] if G in known else paths(G, T) for G in SHOWN]
    floors = np.array([[d[name][-max(1, settled // 4) :].mean() for name in methods] for d in long])
    data = {
        "excess": (("gap_shown", "algorithm", "k"), np.array([[d[name] for name in methods] for d in shown])),
        "floor": (("gap", "algorithm"), floors),
    }
    if bound is not None:
        data["bound"] = (("gap",), np.array([bound(G) for G in GAPS]))
    out = xr.Dataset(
        data,
        coords={"gap_shown": list(SHOWN), "gap": GAPS, "algorithm": methods, "k": np.arange(T + 1)},
        attrs={"theorem": theorem, "setting": setting},
    )
    out["excess"].attrs = {"long_name": "F(w^k) − F★", "units": "F"}
    out["floor"].attrs = {"long_name": f"mean of F(w^k) − F★ over the last quarter of {settled} rounds", "units": "F"}
    return out
