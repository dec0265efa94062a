"""What a report says about an experiment besides its verdicts: shape, steps, noise, and constants with grades."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from fedconv.analysis.pages import mathml
from fedconv.analysis.theorems.statement import StatementInputs
from fedconv.analysis.verdicts.check import Result
from fedconv.problems.base import Constants
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.registry import build_problem

CONSTANTS = ("L_u", "L_v", "L_uv", "L_vu", "delta", "rho", "F_star")

UNITS = {
    "L_u": "F/u²", "L_v": "F/v²", "L_uv": "F/(u·v)", "L_vu": "F/(u·v)", "delta": "F/u", "rho": "1", "F_star": "F",
    "chi": "1", "gap0": "F",
}  # fmt: skip


def slug(text: str) -> str:
    """``text`` as a part of a file name or an id: letters, digits, dots and hyphens."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.") or "problem"


def carried_options(command: str) -> str:
    """The part of a command line that changes a verdict whatever the file: ``--max-replicates``."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    for k, word in enumerate(words):
        option, _, value = word.partition("=")
        if option == "--max-replicates":
            value = value or (words[k + 1] if k + 1 < len(words) else "")
            return f" --max-replicates {value}" if value.isdigit() else ""
    return ""


def facts(result: Result) -> dict[str, Any]:
    """Facts of the experiment behind a result. Shape, noise law and the constants' grades and notes come from its
    problem file (``Result.spec``), the numbers that the theorem used from ``Result.inputs``. For a statement:
    ``numbers``, what its inputs were."""
    values = result.inputs.values
    if isinstance(result.inputs, StatementInputs):
        _, shape, family = _described(result.spec)
        seed = _table(result.spec, "run").get("seed", 0) if result.spec is not None else None
        numbers = [(Markup(mathml.name(k)), x) for k, x in values.items() if k not in ("noise", "T")]
        flags = [(k, x) for k, x in result.inputs.flags.items() if isinstance(x, (bool, str))]
        return {"family": family, "shape": shape, "numbers": numbers, "flags": flags, "seed": seed,
                "inputs": values, "constants": []}  # fmt: skip
    shared, personal = result.inputs.blocks
    constants, shape, family = _described(result.spec)
    steps = [
        (Markup(mathml.name(f"gamma_{b}")), values["eta"] / (values[f"L_{b}"] * values[f"tau_{b}"]))
        for b, there in (("u", shared), ("v", personal))
        if there
    ]
    return {
        "family": family,
        "shape": shape,
        "inputs": values,
        "p": values["m"] / values["n"],
        "steps": steps,
        "noise": _noise(result.spec),
        "seed": _table(result.spec, "run").get("seed", 0) if result.spec is not None else None,
        "constants": _rows(constants, values),
    }


def _table(spec: Mapping[str, Any] | None, key: str) -> Mapping[str, Any]:
    table = (spec or {}).get(key)
    return table if isinstance(table, Mapping) else {}


def _rows(constants: Constants | None, values: Mapping[str, float]) -> list[dict[str, Any]]:
    """A line for each constant: the problem's own with its grade, or what the theorem used where that is unknown."""
    used = {k: values[k] for k in ("L_u", "L_v", "delta", "rho")}
    rows = []
    for key in CONSTANTS:
        name = Markup(mathml.name(key)) if key != "F_star" else Markup("<i>F</i>★")
        if constants is not None:
            c = getattr(constants, key)
            rows.append({"name": name, "value": c.value, "units": UNITS[key], "grade": c.grade, "note": c.note})
        elif key in used:
            rows.append({"name": name, "value": used[key], "units": UNITS[key], "grade": None, "note": ""})
    for key, note in (("chi", "from the constants above, as used"), ("gap0", "F(u⁰, V⁰) − F★")):
        rows.append({"name": Markup(mathml.name(key)), "value": values[key], "units": UNITS[key], "grade": None,
                     "note": note})  # fmt: skip
    return rows


def _noise(spec: Mapping[str, Any] | None) -> str | None:
    """The noise law in words; None where it is unknown."""
    if spec is None:
        return None
    given = {k: v for k, v in _table(spec, "noise").items() if k in Noise.__dataclass_fields__}
    if not given:
        return "none"
    try:
        noise = Noise(**given)
    except (InputError, TypeError):
        return None
    if noise.silent:
        return "none"
    words = noise.law.replace("_", " ")
    words += {
        "student_t": f" ({noise.dof:g} degrees of freedom)",
        "spikes": f" (probability {noise.spike_probability:g})",
    }.get(noise.law, "")
    if noise.dependence == "full":
        return words + ", the same draws in both blocks"
    return words + (f", correlation {noise.correlation:g} of both blocks" if noise.correlation else "")


def _described(spec: Mapping[str, Any] | None) -> tuple[Constants | None, str | None, str | None]:
    """(constants, shape, family) of the problem that a file describes; None where there is none to build."""
    table = _table(spec, "problem")
    if not table:
        return None, None, None
    return _built(json.dumps(table, sort_keys=True, default=lambda x: x.tolist()))


@lru_cache(maxsize=64)
def _built(table: str) -> tuple[Constants | None, str | None, str | None]:
    try:
        problem = build_problem(json.loads(table))
    except InputError:
        return None, None, None
    return problem.constants, problem.shape(), problem.family
