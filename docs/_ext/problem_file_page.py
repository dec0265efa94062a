"""The reference of the problem file, from the models and builders that check its tables."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from fedconv.commands.new import problem_file
from fedconv.methods.fedfomo import build as fedfomo
from fedconv.methods.fedspa.tables import FedSpaTable, MasksTable
from fedconv.methods.ffgg.method import Asynchrony, Byzantine, FineTuning
from fedconv.methods.registry import METHODS
from fedconv.problem_file.schema import File
from fedconv.problem_file.toml import dump_toml
from fedconv.problems.registry import FAMILIES
from fedconv.problems.validation import describe

METHOD_TABLES: dict[str, Any] = {
    "fine_tuning": FineTuning,
    "async": Asynchrony,
    "byzantine": Byzantine,
    "masks": MasksTable,
    "fedspa": FedSpaTable,
    "fedfomo": fedfomo._settings,
    "privacy": fedfomo._privacy,
}
"""Where the tables of the methods are checked."""

Row = tuple[str, str, Any]
"""Key, what it must be, and its default (``...`` where it is required)."""


def tables(folder: Path) -> str:
    """A section for each table, with every key; ``[problem]`` and ``[sweep]`` are written elsewhere."""
    parts = ["## Top level", *entries([row for row in rows_of(File) if row[0] == "name"])]
    for key, field in File.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts += [f"## [{key}]", *entries(rows_of(field.annotation))]
    for method in METHODS.values():
        for section in method.sections:
            parts += [f"## [{section}]", f'With `name = "{method.name}"`.', *entries(rows_of(METHOD_TABLES[section]))]
    return "\n\n".join(parts) + "\n"


def families(folder: Path) -> str:
    """A section for each family of ``[problem]``: its summary, the grades of its constants, its keys."""
    parts = []
    for family in FAMILIES.values():
        parts += [f"### {family.name}", f"{plain(family.summary)} Constants: {plain(family.grades)}."]
        parts += entries(rows_of(family.builder()))
    return "\n\n".join(parts) + "\n"


def new_file(folder: Path) -> str:
    """What ``fedconv new`` writes."""
    return f"```{{code-block}} toml\n:caption: problem.toml\n\n{problem_file(FAMILIES['trigonometric'])}```\n"


def rows_of(source: Any) -> list[Row]:
    """The keys of a pydantic model, a dataclass or a function with keyword parameters."""
    if isinstance(source, type) and issubclass(source, BaseModel):
        return [
            (key, str(field.description), ... if field.default is PydanticUndefined else field.default)
            for key, field in source.model_fields.items()
        ]
    hints = typing.get_type_hints(source, include_extras=True)
    return [
        (key, describe(hints[key]), ... if one.default is inspect.Parameter.empty else one.default)
        for key, one in signature(source).items()
    ]


def signature(source: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(source).parameters)


def entries(rows: Iterable[Row]) -> list[str]:
    """Entries of a definition list, each with its default."""
    return [f"`{key}`\n: {plain(words)}{default_of(default)}" for key, words, default in rows]


def default_of(value: Any) -> str:
    """``; default X`` as the file would write it, ``; required``, or ``; optional``."""
    if value is ...:
        return "; **required**"
    if value is None:
        return "; optional"
    if isinstance(value, (bool, int, float, str)):
        return f"; default `{dump_toml({'x': value}).split('=', 1)[1].strip()}`"
    return ""


def plain(words: str) -> str:
    """Text in which Markdown sees no marks, but for code in backticks."""
    parts = words.split("`")
    parts[::2] = [part.translate(str.maketrans({c: f"\\{c}" for c in "\\*_[]|<>$"})) for part in parts[::2]]
    return "`".join(parts)
