"""The theorems and the regime comparisons as JavaScript, printed by sympy from the objects that Python evaluates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sympy as sp

from fedconv.analysis.theorems import THEOREMS
from fedconv.analysis.theorems.base import (
    INPUTS,
    SAMPLING,
    TOLERANCE,
    Condition,
    Free,
    Theorem,
    rhs,
    substitute,
    weight_u,
    weight_v,
)
from fedconv.analysis.theorems.base import p as share
from fedconv.analysis.theorems.split.effective_variance import COMPARISONS, Comparison

GUARANTEES: tuple[sp.Expr, ...] = (rhs / weight_u, share * rhs / weight_v)
"""``Theorem.guarantee`` with both blocks is the larger of these where both weights are positive, else ∞."""


def function(results: Mapping[str, Any], given: Mapping[sp.Symbol, sp.Expr] | None = None) -> str:
    """A JavaScript function of one object ``v`` (values by symbol name) that returns an object of ``results``.

    given: definitions evaluated in order before, each a constant of that name; they are not returned unless they are
    among the results.
    """
    given = given or {}
    wanted = [sp.sympify(e) for e in (*given.values(), *results.values())]
    free = sorted({str(s) for e in wanted for s in e.free_symbols} - {str(s) for s in given})
    lines = [f"const {{{', '.join(free)}}} = v;"] if free else []
    lines += [f"const {s} = {sp.jscode(sp.sympify(e))};" for s, e in given.items()]
    pairs = ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {sp.jscode(sp.sympify(e))}" for k, e in results.items())
    body = "\n  ".join([*lines, f"return {{{pairs}}};"])
    return f"v => {{\n  {body}\n}}"


def theorem(t: Theorem) -> str:
    """A theorem as an object: ``values`` (every definition), ``left`` (left sides of the premises, by name),
    ``guarantees``, and for each free parameter where its limits are allowed (``to_zero``, ``to_infinity`` vanish).

    All functions take INPUTS, the free parameters x and their duals inv_x by name.
    """
    premises = {k.name: k.left for k in t.conditions}
    goal = {f"guarantee_{k}": e for k, e in enumerate(GUARANTEES)}
    both = {"rhs": rhs, "weight_u": weight_u, "weight_v": weight_v} | premises | goal
    fields = {
        "key": json.dumps(t.key),
        "title": json.dumps(t.title, ensure_ascii=False),
        "values": function({str(s): s for s in t.definitions}, t.definitions),
        "tuned": function(both, t.definitions),
        "premises": f"[{', '.join(_premise(k) for k in t.conditions)}]",
        "free": f"[{', '.join(_free(f) for f in t.free)}]",
    }
    return _object(fields)


def comparison(c: Comparison) -> str:
    """A comparison as an object: ``values`` gives ``fedalt``, ``fedsim`` and ``condition``."""
    results = {k: substitute(getattr(c, k), SAMPLING) for k in ("fedalt", "fedsim", "condition")}
    fields = {"key": json.dumps(c.key), "title": json.dumps(c.title, ensure_ascii=False), "values": function(results)}
    return _object(fields)


def library() -> str:
    """``const FORMULAS``: every theorem and every comparison by key, the inputs' names and the premises' tolerance."""
    fields = {
        "inputs": json.dumps([str(s) for s in INPUTS]),
        "tolerance": repr(TOLERANCE),
        "theorems": _object({json.dumps(k): theorem(t) for k, t in THEOREMS.items()}),
        "comparisons": _object({json.dumps(k): comparison(c) for k, c in COMPARISONS.items()}),
    }
    return f"const FORMULAS = {_object(fields)};\n"


def _premise(condition: Condition) -> str:
    return json.dumps({"name": condition.name, "strict": condition.strict}, ensure_ascii=False)


def _free(free: Free) -> str:
    limits = {"to_zero": free.to_zero, "to_infinity": free.to_infinity}
    values = function({k: substitute(e, SAMPLING) for k, e in limits.items()})
    head = {"name": free.name, "inverse": f"inv_{free.name}", "start": free.default}
    return _object({**{k: json.dumps(x) for k, x in head.items()}, "limits": values})


def _object(fields: Mapping[str, str]) -> str:
    return "{" + ",\n".join(f"{k}: {x}" for k, x in fields.items()) + "}"
