"""Outcomes as plain data and back: a claim's file keeps all that the tables, the report and its pictures need."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedconv.analysis.claims.claim import Budget, Claim, Evidence, Outcome
from fedconv.analysis.theorems.split.facts import Inputs
from fedconv.analysis.theorems.statement import StatementInputs
from fedconv.analysis.verdicts.check import Curve, Result
from fedconv.analysis.verdicts.verdict import Verdict

FORMAT = 1


def plain(x: Any) -> Any:
    """JSON data; numbers that are not finite become the strings "inf", "-inf" and "nan"."""
    if isinstance(x, np.ndarray):
        return plain(x.tolist())
    if isinstance(x, np.generic):
        return plain(x.item())
    if isinstance(x, float):
        return x if math.isfinite(x) else str(x)
    if isinstance(x, Mapping):
        return {str(k): plain(v) for k, v in x.items()}
    return [plain(v) for v in x] if isinstance(x, (list, tuple)) else x


def _tagged(x: Any) -> Any:
    """A problem file as JSON data that is read back as it was: numbers that are not finite as {"number": "inf"}."""
    if isinstance(x, float) and not math.isfinite(x):
        return {"number": str(x)}
    if isinstance(x, Mapping):
        return {str(k): _tagged(v) for k, v in x.items()}
    return [_tagged(v) for v in x] if isinstance(x, (list, tuple)) else x


def _untagged(x: Any) -> Any:
    if isinstance(x, dict):
        return float(x["number"]) if set(x) == {"number"} else {k: _untagged(v) for k, v in x.items()}
    return [_untagged(v) for v in x] if isinstance(x, list) else x


def claim_data(claim: Claim) -> dict[str, Any]:
    """What a claim says."""
    names = ("key", "paper", "title", "statement", "source", "kind", "figure", "command")
    return {k: getattr(claim, k) for k in names} | {"theorems": list(claim.theorems)}


def outcome_data(outcome: Outcome, budget: Budget, code: str) -> dict[str, Any]:
    """An outcome with every piece of evidence, whole. ``code``: of what found it (``fedconv.core.sources``)."""
    worst = outcome.worst
    return {
        "format": FORMAT,
        "code": code,
        "size": budget.size,
        "error": budget.error,
        "claim": claim_data(outcome.claim),
        "status": outcome.status,
        "worst": worst.name if worst is not None else None,
        "evidence": [_evidence_data(e) for e in outcome.evidence],
    }


def read_outcome(text: str, claim: Claim, budget: Budget, code: str) -> Outcome | None:
    """The outcome in a claim's file; None where it is of other code, another size or another claim.

    Raises ValueError, KeyError or TypeError for a file that is not whole.
    """
    data = json.loads(text)
    same = (FORMAT, code, budget.size, budget.error, claim.key)
    if (data["format"], data["code"], data["size"], data["error"], data["claim"]["key"]) != same:
        return None
    return Outcome(claim, tuple(_evidence(x) for x in data["evidence"]))


def results_data(results: Sequence[Result], budget: Budget, code: str) -> dict[str, Any]:
    """Checks of theorems on the runs of one file, whole. ``code``: as in ``outcome_data``."""
    whole = [_evidence_data(Evidence(r.name, r.verdict, r, r.spec)) for r in results]
    return {"format": FORMAT, "code": code, "size": budget.size, "error": budget.error, "results": whole}


def read_results(text: str, budget: Budget, code: str) -> tuple[Result, ...] | None:
    """The same back; None where they are of other code or another size. Raises as ``read_outcome`` does."""
    data = json.loads(text)
    same = (FORMAT, code, budget.size, budget.error)
    if (data["format"], data["code"], data["size"], data["error"]) != same:
        return None
    return tuple(r for x in data["results"] if (r := _evidence(x).result) is not None)


def _evidence_data(e: Evidence) -> dict[str, Any]:
    result = None
    if e.result is not None:
        r = e.result
        result = {
            "name": r.name, "algorithm": r.algorithm, "theorem": r.theorem, "inputs": _inputs_data(r.inputs),
            "curve": {"measured": plain(r.curve.measured), "bound": plain(r.curve.bound),
                      "horizon": None if r.curve.horizon is None else plain(r.curve.horizon)},
        }  # fmt: skip
    return {"name": e.name, "verdict": e.verdict.to_dict(), "spec": _tagged(e.spec), "result": result}


def _evidence(data: Mapping[str, Any]) -> Evidence:
    verdict, spec, found = _verdict(data["verdict"]), _untagged(data["spec"]), data["result"]
    if found is None:
        return Evidence(data["name"], verdict, None, spec)
    curve = found["curve"]
    horizon = None if curve["horizon"] is None else np.array(curve["horizon"])
    measured, bound = (np.array([float(x) for x in curve[k]]) for k in ("measured", "bound"))
    result = Result(found["name"], found["algorithm"], found["theorem"], verdict, Curve(measured, bound, horizon),
                    _inputs(found["inputs"]), spec)  # fmt: skip
    return Evidence(data["name"], verdict, result, spec)


def _verdict(data: Mapping[str, Any]) -> Verdict:
    given = {k: v for k, v in data.items() if k != "tightness"}
    for k in ("measured", "bound", "low", "high", "error", "eta"):
        given[k] = float(given[k])
    given["premises"] = tuple(given["premises"])
    given["parameters"] = {k: float(x) for k, x in given["parameters"].items()}
    return Verdict(**given)


def _inputs_data(inputs: Inputs | StatementInputs) -> dict[str, Any]:
    flags = plain(inputs.flags) if isinstance(inputs, StatementInputs) else None
    return {"values": plain(inputs.values), "blocks": list(inputs.blocks), "grade": inputs.grade,
            "scale": plain(inputs.scale), "notes": list(inputs.notes), "flags": flags,
            "slopes": plain(list(getattr(inputs, "slopes", (0.0, 0.0))))}  # fmt: skip


def _inputs(data: Mapping[str, Any]) -> Inputs | StatementInputs:
    values = {k: float(x) for k, x in data["values"].items()}
    blocks = (bool(data["blocks"][0]), bool(data["blocks"][1]))
    notes, scale = tuple(data["notes"]), float(data["scale"])
    if data["flags"] is None:
        slopes = (float(data["slopes"][0]), float(data["slopes"][1]))
        return Inputs(values, blocks, data["grade"], scale, notes, slopes)
    return StatementInputs(values, dict(data["flags"]), data["grade"], notes, blocks, scale)
