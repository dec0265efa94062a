"""The tables [masks] and [fedspa] of a problem file: keys, types and ranges, and one sentence for whatever is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fedconv.methods.fedspa.masks import Masks
from fedconv.methods.fedspa.method import FedSpa
from fedconv.problems.errors import InputError
from fedconv.problems.validation import suggest

Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]


def _described(description: str, default: Any = None) -> Any:
    return Field(default, description=description)


class Table(BaseModel):
    """No unknown keys, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _rectangular(rows: list[list[int]]) -> list[list[int]]:
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ValueError
    return rows


class MasksTable(Table):
    """[masks]"""

    density: Share | Annotated[list[Share], Field(min_length=1)] = _described(
        "a number in (0, 1], or one for each client", 0.5
    )
    distribution: Literal["erk", "uniform"] = _described('"erk" or "uniform"', "erk")
    power: Annotated[float, Field(ge=0)] = _described("a finite number >= 0 (exponent of ERK)", 1.0)
    common: bool = _described("true or false (one first mask for all clients)", False)
    seed: Annotated[int, Field(ge=0)] = _described("an integer >= 0", 0)
    mode: Literal["dynamic", "frozen"] = _described('"dynamic" or "frozen"', "dynamic")
    alpha: Share = _described("a number in (0, 1] (share of weights first exchanged)", 0.5)
    T_end: Count | None = _described("an integer >= 1 (rounds after which masks stay)", None)
    regrow_pruned: bool = _described("true or false", True)
    layers: Annotated[list[Count | Annotated[list[Count], Field(min_length=1)]], Field(min_length=1)] | None = (
        _described("an array of layer shapes, each an integer >= 1 or an array of them", None)
    )
    initial: Annotated[list[list[Literal[0, 1]]], Field(min_length=1), AfterValidator(_rectangular)] | None = (
        _described("an array of n arrays of d zeros and ones", None)
    )

    def settings(self) -> Masks:
        """The masks that the table describes. Raises InputError for keys that do not go together."""
        given = self.model_fields_set
        if self.initial is not None:
            for key in ("density", "distribution", "power", "common", "seed"):
                if key in given:
                    raise InputError(f"masks.{key} must be left out where initial is given")
        if self.mode == "frozen":
            for key in ("alpha", "T_end", "regrow_pruned"):
                if key in given:
                    raise InputError(f'masks.{key} must be left out with mode = "frozen"')
        if "power" in given and self.distribution == "uniform":
            raise InputError('masks.power must be left out with distribution = "uniform"')
        values = self.model_dump()
        if isinstance(self.density, list):
            values["density"] = tuple(self.density)
        if self.layers is not None:
            values["layers"] = tuple((x,) if isinstance(x, int) else tuple(x) for x in self.layers)
        if self.initial is not None:
            values["initial"] = tuple(map(tuple, self.initial))
        return Masks(**values)


class FedSpaTable(Table):
    """[fedspa]"""

    average: Literal["cohort", "coverage"] = _described('"cohort" or "coverage"', "cohort")
    value_bits: Count = _described("an integer >= 1 (bits of a number sent)", 32)
    batch: Count = _described("an integer >= 1 (samples of a stochastic gradient, for FLOPs)", 1)


Made = TypeVar("Made", bound=Table)


def parse(kind: type[Made], values: Mapping[str, Any], section: str) -> Made:
    """The table. Raises InputError ``SECTION.key must be ...; got ...`` for the first thing that is wrong."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        found = error.errors(include_url=False)
        first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
        key = str(first["loc"][0])
        field = kind.model_fields.get(key)
        if field is None:
            known = kind.model_fields
            raise InputError(
                f"{section}.{key} is an unknown key; {suggest(key, known)}known keys: {', '.join(known)}"
            ) from None
        got = repr(values[key])
        short = got if len(got) <= 60 else got[:57] + "..."
        raise InputError(f"{section}.{key} must be {field.description}; got {short}") from None


def from_tables(
    m: int, gamma: float, tau: int, masks: Mapping[str, Any] | None = None, fedspa: Mapping[str, Any] | None = None
) -> FedSpa:
    """FedSpa from the tables [masks] and [fedspa] of a file, as plain data. Raises InputError with the key's path."""
    table = parse(FedSpaTable, fedspa or {}, "fedspa")
    return FedSpa(m, gamma, tau, parse(MasksTable, masks or {}, "masks").settings(), **table.model_dump())
