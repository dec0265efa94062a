"""Settings that are decided otherwise: lemmas of a replayed proof, and the statements of FFGG."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fedconv.analysis.exact.ffgg import expectations
from fedconv.analysis.proofs.replay import prove
from fedconv.analysis.theorems import THEOREMS
from fedconv.analysis.theorems.registry import methods
from fedconv.analysis.theorems.statement import Statement
from fedconv.analysis.verdicts.statement_verify import fitting_statements, verify_statements
from fedconv.analysis.verdicts.verdict import CERTAIN
from fedconv.problem_file.settings import settings_from
from soundness.drawing import built, error, eta, file, pick
from soundness.setting import BEYOND, Case, Setting, approximate


def lemmas(rng: np.random.Generator, number: int) -> Setting:
    """Proofs replayed with few copies of rounds in which rare things happen; every lemma is proved."""
    n = pick(rng, 5, 50, 200, 500)
    high = float(pick(rng, 1.0, 3.0))
    law = pick(rng, "zero", "spikes", "gaussian")
    noise: dict[str, Any] = {"law": law} | ({} if law == "zero" else {"sigma_u": 0.3})
    noise |= {"spike_probability": float(10 ** rng.uniform(-5, -1))} if law == "spikes" else {}
    low = -high / (n - 1)
    problem = {"family": "trigonometric_arrays", "a": [1.0], "b": [], "kappa": [], "s": [[]] * n,
               "h": [[-low * (n - 1)], *[[low]] * (n - 1)]}  # fmt: skip
    name = pick(rng, "fedalt", "fedsim")
    spec = file(rng, problem, noise=noise, start={"kind": "point", "u": [0.03], "v": [[]] * n},
                algorithm={"name": name, "m": pick(rng, 1, 2, 3), "tau": pick(rng, 1, 2)}, run={"T": 3})  # fmt: skip
    experiment, stated = built(spec), error(rng)
    copies = pick(rng, 32, 256) if n > 100 else pick(rng, 32, 1024)
    theorem = pick(rng, *[t for t in THEOREMS.values() if name in t.algorithms])

    def decide() -> list[Case]:
        proof = prove(experiment, theorem, states=3, copies=copies, replicates=4, error=stated)
        out = []
        for line in proof.lines:
            _, found = line.worst
            false = "it is proved" if line.status.startswith("violated") else ""
            out.append(
                Case(
                    line.lemma.key,
                    line.status,
                    false,
                    found.lhs,
                    found.rhs,
                    math.nan,
                    math.nan,
                    stated / len(proof.lines),
                    approximate(found),
                    proof.exact,
                    copies,
                    found.reason,
                )
            )
        return out

    return Setting("lemmas", number, experiment, (), None, stated, spec=spec, decide=decide, notes=f"{copies} copies")


def ffgg(rng: np.random.Generator, number: int) -> Setting:
    """FFGG on squares after fine-tuning, one client unlike the others; sampled though the moments are known."""
    n, m = pick(rng, 2, 3, 20, 200), pick(rng, 1, 1, 2)
    high, steep = float(pick(rng, 1.0, 10.0)), float(pick(rng, 1.0, 0.25))
    roots = [1.0, *[math.sqrt(steep)] * (n - 1)]
    problem = {"family": "least_squares_arrays", "A": [[[a]] for a in roots], "B": [[[0.0]]] * n,
               "c": [[high], *[[0.0]] * (n - 1)]}  # fmt: skip
    start = {"kind": "point", "u": [pick(rng, 0.0, 0.1, 1.0)], "v": [[0.0]] * n}
    spec = {"name": "soundness", "problem": problem, "start": start,
            "algorithm": {"name": "ffgg", "m": m, "gamma": eta(rng)},
            "run": {"T": pick(rng, 1, 2, 4), "seed": int(rng.integers(2**31))}}  # fmt: skip
    settings = settings_from(spec, "soundness")
    experiment: Any = settings.runnable(settings.algorithms[0])
    method, stated = methods()["ffgg"], error(rng)
    inputs, truth = method.before(experiment), expectations(experiment)
    fitting = fitting_statements(method, inputs)
    chosen: list[Statement] = []
    for one in fitting:
        chosen.append(one)
        chosen += [one.mutate(x) for x in one.mutants if not x.without and rng.random() < 0.5]
    true = {s.key for s in fitting}

    def decide() -> list[Case]:
        results = verify_statements(experiment, chosen, error=stated, max_replicates=1024, engine="eager")
        return [_case(one, r, true) for one, r in zip(chosen, results, strict=True)]

    def _case(one: Statement, result: Any, true: set[str]) -> Case:
        verdict, false, left, right = result.verdict, "", math.nan, math.nan
        known = not one.pathwise and all(name in truth for x in one.measured for name in x.variables)
        if known:
            sides = one.evaluate(inputs, truth)
            left, right = float(sides.lhs[0]), float(sides.rhs[0])
            gap = left - right if one.kind == "upper" else right - left if one.kind == "lower" else abs(left - right)
            room = BEYOND * max(abs(left), abs(right)) + sides.floor
            below = gap < -room if one.kind != "equality" else gap < room
            if (gap > room) if verdict.status == "holds" else (verdict.status == "violated" and below):
                false = f"its sides are {left:.6g} and {right:.6g}"
        if verdict.status == "violated" and one.key in true:
            false = false or "it is proved"
        return Case(one.key, verdict.status, false, verdict.measured, verdict.bound, left, right, verdict.error,
                    approximate(verdict), verdict.method in CERTAIN, verdict.replicates, verdict.method)  # fmt: skip

    return Setting("ffgg", number, experiment, (), None, stated, spec=spec, decide=decide, notes=f"n={n}, m={m}")
