"""Call a builder with a table of a file: one clear sentence for whatever does not fit its signature."""

from __future__ import annotations

import difflib
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, ValidationError, create_model

from fedconv.problems.errors import InputError

Built = TypeVar("Built")

Count = Annotated[int, Field(ge=1)]
Size = Annotated[int, Field(ge=0)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Vector = list[float]
Matrix = list[list[float]]
Stack = list[list[list[float]]]

_WORDS: dict[Any, str] = {
    int: "an integer",
    float: "a finite number",
    str: "a string",
    bool: "true or false",
    dict: "a table",
    Vector: "an array of finite numbers",
    Matrix: "an array of arrays of finite numbers",
    Stack: "an array of matrices (arrays of arrays of finite numbers)",
}
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def call_with(function: Callable[..., Built], values: Mapping[str, Any], where: str) -> Built:
    """``function(**values)`` after its keyword parameters' annotations have been checked: keys, types, ranges.

    Nothing is converted (a bool is no integer, a string no number) but integers where numbers are wanted.
    Raises InputError ``WHERE.key: ...`` for an unknown key (with the nearest known one), a missing key, a wrong type, a
    value out of range, NaN or infinity. An InputError of the function itself that begins with the name of a
    parameter gets ``WHERE.`` in front, another one ``WHERE: ``.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    for key in values:
        if key not in parameters:
            known = ", ".join(parameters)
            raise InputError(f"{where}.{key}: unknown key; {suggest(str(key), parameters)}known keys: {known}")
    fields: dict[str, Any] = {
        name: (hints[name], ... if p.default is inspect.Parameter.empty else p.default)
        for name, p in parameters.items()
    }
    model = create_model("Table", __config__=ConfigDict(strict=True, allow_inf_nan=False), **fields)
    try:
        checked = model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, *inside = first["loc"]
        wanted = describe(hints[str(name)])
        if first["type"] == "missing":
            raise InputError(f"{where}.{name}: required key is missing; expected {wanted}") from None
        place = f" at {''.join(f'[{p}]' for p in inside)}" if inside and isinstance(inside[0], int) else ""
        raise InputError(f"{where}.{name}: expected {wanted}; got {_short(first['input'])}{place}") from None
    try:
        return function(**{name: getattr(checked, name) for name in parameters})
    except InputError as error:
        joint = "." if _first_word(str(error)) in parameters else ": "
        raise InputError(f"{where}{joint}{error}") from error


def suggest(name: str, known: typing.Iterable[str]) -> str:
    """``did you mean 'X'? `` where a known name is close, else an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def listed(names: typing.Iterable[str]) -> str:
    """At most ten names, and how many more there are."""
    known = list(names)
    return ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")


def describe(annotation: Any) -> str:
    """An annotation in words: ``an integer >= 1``, ``one of 'a', 'b'``."""
    if annotation in _WORDS:
        return _WORDS[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return describe(arguments[0]) + " and".join(_limits(arguments[1:]))
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(a) for a in arguments if a is not type(None))
    return _WORDS.get(origin, str(annotation))


def _limits(extras: tuple[Any, ...]) -> list[str]:
    """`` >= 0`` and the like for the bounds in an annotation."""
    metadata = [limit for extra in extras for limit in getattr(extra, "metadata", ())]
    return [
        f" {sign} {getattr(limit, key)}" for limit in metadata for key, sign in _SIGNS.items() if hasattr(limit, key)
    ]


def _first_word(sentence: str) -> str:
    found = re.match(r"\w+", sentence)
    return found.group() if found else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
