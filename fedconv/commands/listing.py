"""``fedconv list``: what there is to choose from, with one sentence each."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Column, Table

from fedconv.commands.console import stdout

Row = dict[str, Any]

LAW_SUMMARIES = {
    "zero": "No noise at all.",
    "gaussian": "Normal coordinates.",
    "rademacher": "Every coordinate is plus or minus one value, with equal chances.",
    "student_t": "Heavy tails: Student's t with `dof` > 2 degrees of freedom, rescaled to the stated variance.",
    "spikes": "A coordinate is 0 except with `spike_probability`, then plus or minus one large value.",
}


def show_list(kind: str, as_json: bool) -> int:
    """Print the rows of a kind as a table or as JSON."""
    rows = {"problems": problems, "algorithms": algorithms, "theorems": theorems, "noise": noise}[kind]()
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    table = Table(*(Column(name, overflow="fold") for name in rows[0]), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(*(escape(", ".join(v) if isinstance(v, list) else v) for v in row.values()))
    stdout().print(table)
    return 0


def problems() -> list[Row]:
    """The problem families, with the keys of their ``[problem]`` table."""
    from fedconv.problems.registry import FAMILIES

    return [
        {
            "family": family.name,
            "summary": family.summary,
            "constants": family.grades,
            "keys": list(inspect.signature(family.builder()).parameters),
        }
        for family in FAMILIES.values()
    ]


def algorithms() -> list[Row]:
    """The algorithms, with the meaning of eta and the theorems about them."""
    from fedconv.analysis.verdicts.verify import fitting
    from fedconv.methods.registry import METHODS
    from fedconv.methods.split import ALGORITHMS

    step = "gamma_u = eta/(L_u tau_u), gamma_v = eta/(L_v tau_v)"
    listed = [(name, first_sentence(kind), step) for name, kind in ALGORITHMS.items()]
    listed += [(m.name, m.summary, m.step) for m in METHODS.values()]
    return [
        {"algorithm": name, "summary": summary, "eta": eta, "theorems": [t.key for t in fitting(name)]}
        for name, summary, eta in listed
    ]


def theorems() -> list[Row]:
    """The theorems, with their free parameters."""
    from fedconv.analysis.verdicts.verify import known

    return [
        {
            "theorem": key,
            "summary": f"{t.title}.",
            "about": list(t.algorithms),
            "kind": f"{t.kind} bound" if t.kind != "equality" else t.kind,
            "free parameters": [f.name for f in t.free],
            "source": t.source,
        }
        for key, t in known().items()
    ]


def noise() -> list[Row]:
    """The noise laws."""
    from fedconv.problems.noise import LAWS

    return [{"law": law, "summary": LAW_SUMMARIES[law]} for law in LAWS]


def first_sentence(thing: Any) -> str:
    """The first sentence of a docstring, on one line."""
    text = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s+(?=[A-Z])", text)[0].replace("``", "")
