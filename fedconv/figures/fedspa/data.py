"""What FedSpa's figure shows: a run with its theorem, its masks over rounds, and outcomes at several densities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from fedconv.analysis.theorems.fedspa import METHOD, STATEMENTS
from fedconv.analysis.verdicts.check import Result
from fedconv.analysis.verdicts.statement_check import StatementCheck
from fedconv.core.run import Experiment, run
from fedconv.core.trace import read
from fedconv.methods.fedspa.experiment import FedSpaExperiment
from fedconv.methods.fedspa.masks import Masks, Mode
from fedconv.methods.fedspa.method import FedSpa
from fedconv.methods.split import FedAvg, State
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.split.residuals import build_random

SERIES = ("fedspa", "fedspa, frozen")
"""FedSpa with masks that move, and with the first ones kept."""

LAYERS = ((4, 3), (4, 2), (4,))
"""Shapes of the gallery's layers, 24 weights in all."""

THEOREM = "FSPA-2-visited"
DENSITIES = (0.25, 0.5, 0.75, 1.0)
CLIENTS, COHORT, TAU, GAMMA = 8, 4, 2, 0.05
ERROR = 1e-6


@dataclass(frozen=True)
class Outcome:
    """Where one run ended: bits of all rounds and clients together, and a value (lower is better).

    ``density``: share of weights kept, for FedSpa. ``name`` says the algorithm.
    """

    name: str
    bits: float
    value: float
    density: float | None = None


def outcome(trace: xr.Dataset, value: float | None = None, value_bits: int = 32) -> Outcome:
    """The outcome of a recorded run; ``value`` in place of its mean F_final. FedSpa's first masks are counted once.

    ``value_bits`` of runs that count numbers (FedAvg, local-only, FedAlt, FedSim).
    """
    algorithm = read(trace, "algorithm")
    reached = float(trace["F_final"].mean()) if value is None else value
    if algorithm["name"] != "fedspa":
        numbers = float(trace["numbers_down"].sum() + trace["numbers_up"].sum())
        return Outcome(algorithm["name"], numbers * value_bits, reached)
    if "bits_up" not in trace:
        raise InputError(
            f"a FedSpa trace must be of level 'stationarity' or 'proof'; got {trace.attrs.get('level', 'unknown')!r}"
        )
    sent = float((trace["bits_up"] + trace["bits_down"]).sum("round").mean()) + float(trace["first_mask_bits"].sum())
    frozen = algorithm["masks"]["mode"] == "frozen"
    kept = float(trace["budget"].values.sum() / (trace["layer_size"].values.sum() * trace.sizes["client"]))
    return Outcome(SERIES[frozen], sent, reached, kept)


def summary(
    trace: xr.Dataset, result: Result, outcomes: Sequence[Outcome], value_name: str = "objective"
) -> xr.Dataset:  # fmt: skip
    """Everything that the figure shows; ``trace`` and ``result`` are of the same experiment."""
    d, n = trace["layer_size"].values.sum(), trace.sizes["client"]
    hamming = trace["hamming"].values
    exchanged = (hamming / (2 * trace["budget"].values.sum(1))).sum(-1) / np.maximum(trace["cohort"].values.sum(-1), 1)
    snapshots = trace["snapshot"].values
    apart = np.full(len(snapshots), np.nan)
    if n > 1:
        apart = trace["mask_distance"].values.sum((-1, -2)).mean(0) / (n * (n - 1)) / d
    out = xr.Dataset(
        {
            "measured": (("horizon",), np.asarray(result.curve.measured, dtype=float)),
            "bound": (("horizon",), np.asarray(result.curve.bound, dtype=float)),
            "at_end": (("side",), np.array([result.verdict.measured, result.verdict.bound])),
            "changed": (("round",), hamming.sum(-1).mean(0)),
            "density": (("round", "layer"), trace["nnz"].values.mean((0, 2)) / trace["layer_size"].values),
            "exchanged": (("round",), exchanged.mean(0)),
            "apart": (("snapshot",), apart),
            "method": (("outcome",), np.array([x.name for x in outcomes])),
            "bits": (("outcome",), np.array([x.bits for x in outcomes])),
            "value": (("outcome",), np.array([x.value for x in outcomes])),
            "kept": (("outcome",), np.array([math.nan if x.density is None else x.density for x in outcomes])),
        },
        coords={
            "horizon": np.asarray(result.curve.rounds), "round": np.arange(trace.sizes["round"]), "snapshot": snapshots,
            "layer": [layer[0] for layer in read(trace, "layers")], "side": ["measured", "bound"],
        },
        attrs={"name": result.name, "theorem": result.theorem, "status": result.verdict.category,
               "value_name": value_name},
    )  # fmt: skip
    words = {
        "measured": ("left-hand side over the first rounds", "F"), "bound": ("the theorem's bound", "F"),
        "at_end": ("both sides of the verdict", "F"), "changed": ("weights whose masks changed", "weights"),
        "density": ("share of a layer's weights that a client keeps", "no unit"),
        "exchanged": ("share of a participant's weights that a search exchanged", "no unit"),
        "apart": ("share of weights in which two clients' masks differ", "no unit"),
        "method": ("algorithm", "no unit"), "bits": ("sent by server and clients in all rounds", "bit"),
        "value": (value_name, "F"), "kept": ("share of weights kept", "no unit"),
    }  # fmt: skip
    for key, (sentence, unit) in words.items():
        out[key].attrs = {"long_name": sentence, "units": unit}
    return out


def experiment_data(T: int = 80, replicates: int = 32, few: int = 8) -> xr.Dataset:
    """FedSpa at half of the weights against Theorem 2 with the visited diversity; outcomes at several densities, with
    masks that move and with frozen ones, and of FedAvg."""
    shown = _trial(0.5, "dynamic", T)
    trace = run(shown, replicates)
    check = StatementCheck(STATEMENTS[THEOREM], METHOD.before(shown), False, ERROR, 1)
    check.add(trace)
    result = Result(shown.name, "fedspa", THEOREM, check.verdict(), check.curve(), check.inputs)
    outcomes = [outcome(run(_trial(density, mode, T), few)) for mode in ("dynamic", "frozen") for density in DENSITIES]
    average = Experiment(
        shown.problem, FedAvg(COHORT, GAMMA, 0.0, tau_u=TAU, tau_v=0), shown.noise, shown.start, T
    )  # fmt: skip
    outcomes.append(outcome(run(average, few)))
    return summary(trace, result, outcomes, "mean loss at the end [units of F]")


def _trial(density: float, mode: Mode, T: int) -> FedSpaExperiment:
    """FedSpa on robust residuals, 24 weights in three layers."""
    d = sum(math.prod(shape) for shape in LAYERS)
    problem = build_random(n=CLIENTS, d_u=d, d_v=0, rows=12)
    start = State(
        torch.from_numpy(np.random.default_rng(0).standard_normal(d)), torch.zeros(CLIENTS, 0, dtype=torch.float64)
    )
    method = FedSpa(COHORT, GAMMA, TAU, Masks(density=density, layers=LAYERS, mode=mode))
    return FedSpaExperiment(problem, method, start, T, Noise("gaussian", sigma_u=0.1), name="residuals/fedspa")
