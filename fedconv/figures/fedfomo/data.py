"""What FedFomo's pictures show: whom clients listen to, when clusters are told apart, and what mixing is worth."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from fedconv.core.run import run, single_torch_thread
from fedconv.core.streams import Streams
from fedconv.methods.fedfomo.experiment import FedFomoExperiment
from fedconv.methods.fedfomo.method import FedFomo
from fedconv.methods.split import FedAvg, State
from fedconv.methods.split.torch_engine import shared_path
from fedconv.problems.noise import Noise
from fedconv.problems.targets.clusters import build, build_samples
from fedconv.problems.targets.samples import SampleTargets

CLIENTS, GROUPS = 12, 3
SHOWN = (1, 2, 4, 12)
"""Rounds whose weights are drawn; round 0 has none, as nothing has been uploaded."""

SEPARATIONS = (1.0, 2.0, 4.0, 8.0)


def weights(T: int = 13, replicates: int = 32) -> xr.Dataset:
    """Mean weights w_ij with noisy training, clients in order of their clusters; 5 of 11 models downloaded."""
    problem = build(n=CLIENTS, groups=GROUPS, d_v=4, separation=6.0, seed=1)
    method = FedFomo(CLIENTS, 0.3, 2, downloads=5)
    trial = FedFomoExperiment(problem, method, _start(0, CLIENTS, 4, 5.0), T, Noise("gaussian", sigma_v=1.5), seed=2)
    trace = run(trial, replicates)
    order = np.argsort(np.arange(CLIENTS) % GROUPS, kind="stable")
    mean = trace["weight"].values.mean(0)[list(SHOWN)][:, order][:, :, order]
    taken = trace["weight"].values.sum((2, 3)).mean(0) / CLIENTS
    cross = trace["cross_weight"].values.mean((0, 2))
    out = xr.Dataset(
        {
            "weight": (("round_shown", "client", "other"), mean),
            "mixing": (("round",), taken),
            "cross": (("round",), cross),
        },
        coords={"round_shown": list(SHOWN), "round": np.arange(T), "client": order, "other": order},
        attrs={
            "setting": f"{CLIENTS} clients in {GROUPS} clusters, noisy training, 5 models downloaded",
            "groups": GROUPS,
        },
    )
    out["weight"].attrs = {"long_name": "mean weight of the model of client j for client i", "units": "1"}
    out["mixing"].attrs = {"long_name": "share of clients for whom some candidate is better", "units": "1"}
    out["cross"].attrs = {"long_name": "mean weight across clusters", "units": "1"}
    return out


def recovery(T: int = 36, starts: int = 10) -> xr.Dataset:
    """Two clusters R apart without noise (z = 0): the largest weight across clusters in each mixing, over clients and
    starts; and for every start the last mixing that uses another cluster, against Theorem 4's t_0."""
    from fedconv.analysis.theorems.registry import methods, statement

    one, before = statement("FOMO-4iii"), methods()["fedfomo"].before
    curve = np.zeros((len(SEPARATIONS), T - 1))
    last, bound = np.zeros((len(SEPARATIONS), starts)), np.zeros((len(SEPARATIONS), starts))
    for k, R in enumerate(SEPARATIONS):
        problem = build(n=8, d_v=3, separation=R)
        for s in range(starts):
            trial = FedFomoExperiment(problem, FedFomo(8, 0.5, downloads=3, epsilon=0.0), _start(s, 8, 3, 6.0), T)
            trace = run(trial, 1)
            cross = trace["cross_weight"].values[0, 1:].max(1)
            curve[k] = np.maximum(curve[k], cross)
            used = np.flatnonzero(cross > 0)
            last[k, s] = used[-1] + 1 if len(used) else 0
            bound[k, s] = float(np.max(one.evaluate(before(trial), trace).values["t_0"]))
    out = xr.Dataset(
        {
            "cross": (("separation", "mixing"), curve),
            "needed": (("separation", "start"), last),
            "bound": (("separation", "start"), bound),
        },
        coords={"separation": list(SEPARATIONS), "mixing": np.arange(T - 1), "start": np.arange(starts)},
        attrs={"setting": "8 clients in 2 clusters R apart, no noise, 3 models downloaded", "theorem": "FOMO-4iii"},
    )
    out["cross"].attrs = {"long_name": "largest weight across clusters", "units": "1"}
    out["needed"].attrs = {"long_name": "mixings until no weight goes across clusters any more", "units": "1"}
    out["bound"].attrs = {"long_name": "t_0 of Theorem 4(iii)", "units": "1"}
    return out


def losses(T: int = 25) -> xr.Dataset:
    """Few training samples for each client: excess of the target loss after mixing, after training alone and with one
    model for everybody; on the horizontal axis what is sent."""
    n, d = CLIENTS, 6
    problem = _samples(d_u=0, d=d)
    start, method = _start(0, n, d, 1.0), FedFomo(n, 0.2, 3, downloads=4, epsilon=0.3)
    trace = run(FedFomoExperiment(problem, method, start, T, seed=3), 16)
    low = np.array(problem.target_constants.infima)
    mine, alone = (trace[k].values.mean(0) - low for k in ("loss", "local_loss"))
    each = (trace["bits_down"] + trace["bits_up"]).values.mean(0) / n
    bits = np.concatenate([[0.0], np.cumsum(each)])
    one = _averaged(_samples(d_u=d, d=d), State(start.v.mean(0), start.v[:, :0]), T, low)
    out = xr.Dataset(
        {
            "personal": (("point", "client"), mine),
            "local": (("point", "client"), alone),
            "averaged": (("point", "client"), one),
            "bits": (("point",), bits),
            "bits_averaged": (("point",), np.arange(T + 1) * 2.0 * 32 * d),
        },
        coords={"point": np.arange(T + 1), "client": np.arange(n)},
        attrs={
            "setting": f"{n} clients in {GROUPS} clusters, 4 training samples each, 4 models downloaded",
            "groups": GROUPS,
        },
    )
    for name, words in (("personal", "FedFomo"), ("local", "training alone"), ("averaged", "FedAvg")):
        out[name].attrs = {"long_name": f"L_i − inf L_i, {words}", "units": "F"}
    out["bits"].attrs = {"long_name": "bits sent for a client so far, FedFomo", "units": "bit"}
    out["bits_averaged"].attrs = {"long_name": "bits sent for a client so far, FedAvg", "units": "bit"}
    return out


def _samples(d_u: int, d: int) -> SampleTargets:
    return build_samples(
        n=CLIENTS, samples=4, validation=60, groups=GROUPS, d_u=d_u, d_v=d - d_u, separation=4.0, deviation=1.0, seed=5
    )


def _averaged(problem: SampleTargets, start: State, T: int, low: np.ndarray) -> np.ndarray:
    """L_i − inf L_i of FedAvg's one model after each round, ``(T + 1, n)``."""
    algorithm = FedAvg(m=problem.n, gamma_u=0.2, gamma_v=0.0, tau_u=3, tau_v=0)
    with single_torch_thread():
        path = shared_path(problem, algorithm, Noise("zero"), start, T, Streams(0), np.arange(1))[0]
    copies = torch.from_numpy(path)[:, None, :].expand(-1, problem.n, -1)
    return problem.target_value(copies, copies[..., :0], problem.everyone()).numpy() - low


def _start(seed: int, n: int, d: int, scale: float) -> State:
    v = scale * np.random.default_rng(seed).normal(size=(n, d))
    return State(torch.zeros(0, dtype=torch.float64), torch.from_numpy(v))
