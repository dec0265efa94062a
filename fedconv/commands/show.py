"""``fedconv show``: what a store holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from fedconv.commands.console import number, stdout
from fedconv.core.store import load
from fedconv.core.trace import VARIABLES, read
from fedconv.problems.base import Constants
from fedconv.problems.errors import InputError
from fedconv.sweep.job_table import is_sweep

if TYPE_CHECKING:
    import xarray as xr


def show_store(path: Path) -> int:
    """Print provenance, constants with their grades, and each measure's mean in the first and the last round."""
    if not path.exists() and path.with_name(f"{path.name}.partial").exists():
        raise InputError(f"{path} is not finished: run the same `fedconv run` again to continue {path.name}.partial")
    if is_sweep(path):
        from fedconv.commands.show_sweep import show_sweep  # it needs more than a trace does

        return show_sweep(path)
    trace = load(path)
    try:
        tables = (provenance_table(trace, str(path)), constants_table(trace), measures_table(trace))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{path}: {error}") from error
        raise InputError(f"{path} lacks a part of its provenance: {error}") from error
    console = stdout()
    for table in tables:
        console.print(table)
    return 0


def provenance_table(trace: xr.Dataset, path: str) -> Table:
    """Where the trace comes from and how it was computed."""
    problem, shape = read(trace, "problem"), read(trace, "shape")
    algorithm, noise = read(trace, "algorithm"), read(trace, "noise")
    attrs = trace.attrs
    count = trace.sizes["replicate"]
    rows = {
        "name": attrs["name"],
        "problem": f"{problem['family']}: {_pairs(shape)}",
        "algorithm": _pairs(algorithm),
        "noise": _pairs({k: v for k, v in noise.items() if k in _noise_keys(noise)}),
        "run": f"{attrs['T']} rounds, {count} replicates from {int(trace['replicate'][0])}, seed {attrs['seed']}",
        "level": attrs["level"],
        "engine": f"{attrs['engine']} ({attrs['engine_reason']})",
        "diverged": f"{attrs['diverged']} of {count} replicates",
        "made by": _makers(trace),
    }
    table = Table(title=escape(path), title_justify="left", show_header=False, box=None)
    for key, value in rows.items():
        table.add_row(key, escape(str(value)))
    return table


def _makers(trace: xr.Dataset) -> str:
    """What made the run, or which of its replicates, where several kinds of code have."""
    if "blocks_made_by" not in trace.attrs:
        return _pairs(read(trace, "versions"))
    who: list[tuple[int, str]] = []
    for first, made in json.loads(trace.attrs["blocks_made_by"]):
        if not who or who[-1][1] != _pairs(made):
            who.append((int(first), _pairs(made)))
    ends = [first for first, _ in who[1:]] + [int(trace["replicate"][-1]) + 1]
    return "; ".join(
        f"replicates {first} to {end - 1} by {made or 'unknown code'}"
        for (first, made), end in zip(who, ends, strict=True)
    )


def constants_table(trace: xr.Dataset) -> Table:
    """The problem's constants, each with the way it is known."""
    constants = Constants.from_dict(read(trace, "constants"))
    table = Table("constant", "value", "grade", "note", title="constants", title_justify="left", box=box.SIMPLE_HEAD)
    for name, entry in constants.to_dict().items():
        table.add_row(name, number(float(entry["value"]), 8), entry["grade"], escape(entry["note"]))
    table.add_row("chi", number(constants.chi, 8), constants.grade, "max(L_uv, L_vu)/√(L_u L_v)")
    return table


def measures_table(trace: xr.Dataset) -> Table:
    """Means over replicates in the first and the last round, with units."""
    table = Table("measure", "first round", "last round", "unit", "meaning", title_justify="left", box=box.SIMPLE_HEAD)
    table.title = f"means over {trace.sizes['replicate']} replicates"
    for name in (key for key in VARIABLES if key in trace):
        values = trace[name]
        if values.dims == ("replicate", "round"):
            with np.errstate(all="ignore"):
                first, last = (float(values.isel(round=t).values.mean()) for t in (0, -1))
        elif values.dims == ("round",):
            first, last = float(values[0]), float(values[-1])
        elif values.dims == ("replicate",):
            with np.errstate(all="ignore"):
                first, last = np.nan, float(values.values.mean())
        else:
            continue
        about = values.attrs
        table.add_row(name, number(first, 6), number(last, 6), about["units"], escape(about["long_name"]))
    return table


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{k} = {v:.6g}" if isinstance(v, float) else f"{k} = {v}" for k, v in values.items())


def _noise_keys(noise: dict[str, Any]) -> tuple[str, ...]:
    """The keys that matter for a law."""
    extra = {"student_t": ("dof",), "spikes": ("spike_probability",)}.get(noise["law"], ())
    return ("law", "sigma_u", "sigma_v", "dependence", *extra)
