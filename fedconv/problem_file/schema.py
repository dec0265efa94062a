"""The tables of a problem file: their keys, types and ranges, and one sentence for whatever is wrong."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fedconv.core.files import cut
from fedconv.core.run import ENGINES
from fedconv.methods.registry import METHODS, SECTIONS
from fedconv.methods.split import ALGORITHMS
from fedconv.methods.split.torch_engine import LEVELS
from fedconv.problems.errors import InputError
from fedconv.problems.noise import LAWS, Dependence
from fedconv.problems.plain import check_plain

MOST_REPLICATES = 1_000_000
"""Replicate numbers from here on are pilots: they tune and never enter a verdict."""

MOST_ROUNDS = 10_000_000
MOST_STEPS = 10_000_000
"""Local steps of a client in a round."""

STARTS = ("zeros", "normal", "optimum", "point")


def _one_of(names: tuple[str, ...]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in names:
            raise ValueError(suggestion(value, names))
        return value

    return AfterValidator(check)


def _step(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value in ("best", "max") or (number and math.isfinite(value) and value > 0):
        return float(value) if number else value
    raise ValueError


def _dependence(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value in get_args(Dependence) or (number and -1 <= value <= 1):
        return value
    raise ValueError


def _plain_name(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError
    return value


def _distinct(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise ValueError
    return values


def _names(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _exactly(*allowed: Any) -> AfterValidator:
    def check(value: Any) -> Any:
        if not any(value is a or (isinstance(a, str) and value == a) for a in allowed):
            raise ValueError
        return value

    return AfterValidator(check)


def described(description: str, default: Any = ...) -> Any:
    """A field whose errors say ``must be {description}``; required unless a default is given."""
    return Field(default, description=description)


Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
NAMES = (*ALGORITHMS, *METHODS)
"""The algorithms that a file may name."""

AlgorithmName = Annotated[str, _one_of(NAMES)]


class Table(BaseModel):
    """A table of the file: no unknown keys, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NoiseTable(Table):
    law: Annotated[str, _one_of(LAWS)] = described(f"one of {', '.join(LAWS)}", "gaussian")
    sigma_u: NotNegative = described("a finite number >= 0", 0.0)
    sigma_v: NotNegative = described("a finite number >= 0", 0.0)
    dof: Number | None = described('a number > 2 (with law = "student_t")', None)
    spike_probability: Number | None = described('a number in (0, 1] (with law = "spikes")', None)
    dependence: Annotated[Any, AfterValidator(_dependence)] = described(
        '"independent", "full" or a number from -1 to 1 (the correlation)', "independent"
    )


class StartTable(Table):
    kind: Annotated[str, _one_of(STARTS)] = described(f"one of {', '.join(STARTS)}", "normal")
    scale: NotNegative | None = described("a finite number >= 0", None)
    seed: Annotated[int, Field(ge=0)] | None = described("an integer >= 0", None)
    u: list[float] | None = described("an array of d_u numbers", None)
    v: list[list[float]] | None = described("an array of n arrays of d_v numbers", None)


class AlgorithmTable(Table):
    name: Annotated[list[AlgorithmName], BeforeValidator(_names), Field(min_length=1), AfterValidator(_distinct)] = (
        described(f"one of {', '.join(NAMES)}, or an array of different ones")
    )
    m: Annotated[int, Field(ge=1)] = described("an integer >= 1 (clients in a round)")
    tau: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = described(
        f"an integer from 1 to {MOST_STEPS} (local steps)", None
    )
    tau_u: Annotated[int, Field(ge=0, le=MOST_STEPS)] | None = described(
        f"an integer from 0 to {MOST_STEPS} (local steps)", None
    )
    tau_v: Annotated[int, Field(ge=0, le=MOST_STEPS)] | None = described(
        f"an integer from 0 to {MOST_STEPS} (local steps)", None
    )
    eta: Annotated[Any, AfterValidator(_step)] = described('a finite number > 0, "best" or "max"', None)
    gamma_u: Positive | None = described("a finite number > 0", None)
    gamma_v: Positive | None = described("a finite number > 0", None)
    gamma: Positive | None = described(f"a finite number > 0 (step size of {', '.join(METHODS)})", None)


class RunTable(Table):
    T: Annotated[int, Field(ge=1, le=MOST_ROUNDS)] = described(f"an integer from 1 to {MOST_ROUNDS} (rounds)")
    seed: Annotated[int, Field(ge=0)] = described("an integer >= 0", 0)
    replicates: Annotated[int, Field(ge=1, le=MOST_REPLICATES)] = described(
        f"an integer from 1 to {MOST_REPLICATES}", 64
    )
    level: Annotated[str, _one_of(LEVELS)] = described(f"one of {', '.join(LEVELS)}", "stationarity")
    engine: Annotated[str, _one_of(ENGINES)] = described(f"one of {', '.join(ENGINES)}", "auto")


class VerifyTable(Table):
    theorems: Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)] | None = described(
        "an array of different theorem keys, as in `fedconv list theorems`", None
    )
    error: Annotated[float, Field(gt=0, lt=0.5)] = described("a number in (0, 0.5)", 1e-6)
    max_replicates: Annotated[int, Field(ge=2, le=MOST_REPLICATES)] = described(
        f"an integer from 2 to {MOST_REPLICATES}", 4096
    )
    parameters: dict[str, Annotated[float, Field(ge=0)]] | None = described(
        "a table of free parameters, each a number >= 0 (0 and inf mean a limit)", None
    )
    a_posteriori: Annotated[Any, _exactly("auto", True, False)] = described('"auto", true or false', "auto")


class File(Table):
    name: Annotated[str, Field(max_length=100), AfterValidator(_plain_name)] | None = described(
        "a line of 1 to 100 printable characters", None
    )
    problem: dict[str, Any] = described("a table that begins with [problem]")
    noise: NoiseTable = described("a table that begins with [noise]", NoiseTable(law="zero"))
    start: StartTable = described("a table that begins with [start]", StartTable())
    algorithm: AlgorithmTable = described("a table that begins with [algorithm]")
    run: RunTable = described("a table that begins with [run]")
    verify: VerifyTable = described("a table that begins with [verify]", VerifyTable())
    sections: dict[str, dict[str, Any]] = described("tables of the methods", {})
    """The tables in SECTIONS, as they stand: each method checks its own."""


def parse(mapping: Mapping[str, Any], where: str) -> File:
    """The file's tables. Raises InputError with one sentence for the first thing that is wrong."""
    check_plain(mapping, where)
    if "sweep" in mapping:
        raise InputError(f"{where}: sweep: must be left out here; it is for `fedconv sweep` and `fedconv regimes`")
    own = {k: v for k, v in mapping.items() if k not in SECTIONS and k != "sections"}
    sections = {k: v for k, v in mapping.items() if k in SECTIONS}
    for key in ("sections", *sections):
        if key in mapping and (key == "sections" or not isinstance(mapping[key], Mapping)):
            wanted = f"must be a table that begins with [{key}]" if key in SECTIONS else "unknown key"
            raise InputError(f"{where}: {key}: {wanted}; got {shown(mapping[key])}")
    try:
        return File.model_validate(own | {"sections": {k: dict(v) for k, v in sections.items()}})
    except ValidationError as error:
        found = error.errors(include_url=False)
        unknown = [e for e in found if e["type"] == "extra_forbidden"]
        raise InputError(f"{where}: {_sentence(dict((unknown or found)[0]))}") from None


def suggestion(name: str, known: tuple[str, ...]) -> str:
    """``did you mean X?`` where a known name is close, else an empty string."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def _sentence(error: dict[str, Any]) -> str:
    """``key.path: must be ...; got ...`` from the description of the field that pydantic refused."""
    location = error["loc"]
    table: type[Table] = File
    field, depth = table.model_fields.get(str(location[0])), 1
    while depth < len(location) and field is not None and (below := _table_in(field.annotation)):
        table = below
        field = table.model_fields.get(str(location[depth]))
        depth += 1
    path = cut(".".join(map(str, location[:depth])), 100)
    if field is None:
        known = tuple(k for k in table.model_fields if k != "sections") + (SECTIONS if table is File else ())
        return f"{path}: unknown key; {suggestion(str(location[-1]), known) or 'known: ' + ', '.join(known)}"
    if error["type"] == "missing":
        return f"{path}: missing; must be {field.description}"
    inside = "".join(f"[{p}]" if isinstance(p, int) else f" {p}" for p in location[depth:])
    got = shown(error["input"]) + (f" at {inside.strip()}" if inside else "")
    hint = str(error.get("ctx", {}).get("error", ""))
    return f"{path}: must be {field.description}; got {got}" + (f"; {hint}" if hint else "")


def _table_in(annotation: Any) -> type[Table] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Table) else None


def shown(value: Any) -> str:
    """A value as the file would write it, cut short."""
    if isinstance(value, Mapping):
        return cut(f"a table with the keys {', '.join(map(str, value))}", 100) if value else "an empty table"
    if isinstance(value, float):
        return repr(value)
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    return cut(text)
