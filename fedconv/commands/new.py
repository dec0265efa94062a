"""``fedconv new``: a commented problem file to start from."""

from __future__ import annotations

import inspect
import math
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from fedconv.commands.console import note
from fedconv.problem_file.schema import suggestion
from fedconv.problem_file.toml import dump_toml
from fedconv.problems.errors import InputError
from fedconv.problems.registry import FAMILIES, Family, build_problem


def new_file(path: Path, family: str, force: bool) -> int:
    """Write the template with a problem of the family. Raises InputError where the file exists and force is False."""
    if family not in FAMILIES:
        hint = suggestion(family, tuple(FAMILIES))
        known = ", ".join(FAMILIES)
        raise InputError(f"--family must be one of {known}; got {family!r}" + (f"; {hint}" if hint else ""))
    if path.exists() and not force:
        raise InputError(f"{path} exists already; choose another path or give --force to overwrite it")
    text = problem_file(FAMILIES[family])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    note(f"{path} written; next: fedconv verify {path}")
    return 0


def problem_file(family: Family) -> str:
    """The template filled in with the family's first example."""
    example = family.examples[0]
    problem = build_problem({"family": family.name, **example})
    constants = problem.constants
    fits = math.isfinite(constants.L_u.value) and math.isfinite(constants.L_v.value)
    template = Template(resources.files("fedconv").joinpath("template.toml").read_text(encoding="utf-8"))
    return template.substitute(
        name=f"my {family.name.replace('_', ' ')} problem",
        problem=problem_table(family, example),
        sigma_u=0.5 if problem.d_u and fits else 0.0,
        sigma_v=0.5 if problem.d_v and fits else 0.0,
        m=max(1, problem.n // 2),
        algorithm='["fedalt", "fedsim"]' if fits else '["ffgg"]            ',
    )


def problem_table(family: Family, example: dict[str, Any]) -> str:
    """The ``[problem]`` table: the example's keys, then the family's other keys with their defaults as comments."""
    plain = {k: v for k, v in example.items() if not isinstance(v, dict)}
    tables = {k: v for k, v in example.items() if isinstance(v, dict)}
    lines = [f"# {family.summary}", f"# Constants: {family.grades}. Other families: `fedconv list problems`."]
    lines += dump_toml({"problem": {"family": family.name, **plain}}).splitlines()[1:]
    lines.insert(2, "[problem]")
    for key, parameter in inspect.signature(family.builder()).parameters.items():
        if key not in example:
            default = parameter.default
            lines.append(f"# {key} is optional" if default is None else f"# {dump_toml({key: default}).strip()}")
    text = "\n".join(lines) + "\n"
    if tables:
        text += "\n" + dump_toml({"problem": tables}).removeprefix("[problem]\n").lstrip("\n")
    return text
