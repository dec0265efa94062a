"""The rooms of the house: who may import whom, how long a file may be, and what nobody may call."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fedconv"
LINKS = ("problems", "analysis", "figures", "paper_checks")
"""Rooms with a symbolic link at the top level, for people. Nothing is imported by these names."""

RUNS = ("sweep", "practice")
BELOW: dict[str, tuple[str, ...]] = {
    "problems": (),
    "core": ("problems",),
    "methods.split": ("core",),
    "methods.registry": ("methods.split",),
    "methods.ffgg": ("methods.registry",),
    "methods.fedspa": ("methods.registry",),
    "methods.fedfomo": ("methods.registry",),
    "problem_file": ("methods.ffgg", "methods.fedspa", "methods.fedfomo"),
    "sweep": ("problem_file",),
    "practice": ("problem_file",),
    "analysis.exact": RUNS,
    "analysis.theorems": ("analysis.exact",),
    "analysis.tuning": ("analysis.theorems",),
    "analysis.verdicts": ("analysis.tuning",),
    "analysis.regimes": ("analysis.tuning",),
    "analysis.worst_case": ("analysis.tuning",),
    "analysis.constants": ("analysis.verdicts",),
    "analysis.claims": ("analysis.verdicts",),
    "analysis.falsify": ("analysis.verdicts",),
    "analysis.proofs": ("analysis.verdicts",),
    "analysis.pages": ("analysis.claims", "analysis.proofs", "analysis.regimes"),
    "figures": ("analysis.pages", "analysis.constants", "analysis.falsify", "analysis.worst_case"),
    "paper_checks": ("analysis.pages", "analysis.constants", "analysis.falsify", "analysis.worst_case"),
}
"""The rooms directly below each room. A room may import these, and everything below them."""

UNTIL_CARVED = {
    ("core", "methods.split"),
    ("core", "methods.registry"),
    ("methods.fedfomo", "methods.fedspa"),
    ("analysis.theorems", "analysis.verdicts"),
}
"""Arrows that still point upward, because a name has not moved yet. Nothing is added here."""

COMPOSITION = ("fedconv.cli", "fedconv.__main__", "fedconv.commands")
"""The composition root: imports every room; nothing else imports it."""

LONGEST = 400
LONG_UNTIL_CARVED = {"fedconv.analysis.verdicts.verify": 410}
LEGACY = {
    "seed", "rand", "randn", "randint", "random", "random_sample", "normal", "uniform", "choice", "permutation",
    "shuffle", "standard_normal", "get_state", "set_state", "RandomState",
}  # fmt: skip
FORBIDDEN_MODULES = {"random", "pickle", "cPickle", "dill", "cloudpickle"}
FORBIDDEN_CALLS = {
    *(f"np.random.{name}" for name in LEGACY),
    *(f"numpy.random.{name}" for name in LEGACY),
    *(f"torch.{name}" for name in ("manual_seed", "seed", "set_rng_state", "load", "save", "rand", "randn", "randint")),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_root(module: str) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in COMPOSITION)


def room_of(module: str) -> str | None:
    """The room of a module; None for the package itself, for a folder of rooms, and for what is not in the package."""
    top, _, inside = module.partition(".")
    parts = inside.split(".")
    if top != "fedconv" or not inside or is_root(module) or parts in (["analysis"], ["methods"]):
        return None
    return ".".join(parts[: 2 if parts[0] in ("analysis", "methods") else 1])


@cache
def below(room: str) -> frozenset[str]:
    """All rooms that a room may import besides itself."""
    return frozenset(BELOW[room]).union(*(below(lower) for lower in BELOW[room]))


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything imported: for ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute in this project"
            yield node.lineno, str(node.module)
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def type_checking_lines(tree: ast.AST) -> set[int]:
    """Lines under ``if TYPE_CHECKING``: they never run."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            inside = (inner for statement in node.body for inner in ast.walk(statement))
            lines |= {inner.lineno for inner in inside if isinstance(inner, ast.stmt)}
    return lines


def violations(module: str, source: str, allowed: frozenset[tuple[str, str]] = frozenset()) -> list[str]:
    """Sentences for everything in a module's source that the rules forbid; ``allowed``: arrows that may stay."""
    tree = ast.parse(source)
    own = room_of(module)
    never_runs = type_checking_lines(tree)
    found = []
    if own is not None and own not in BELOW:
        return [f"{module} stands in {own}, which is no room"]
    for line, name in imports(tree):
        room = room_of(name)
        if name.split(".")[0] in LINKS:
            found.append(f"{module}:{line} imports {name}; the one import name is fedconv")
        if own is not None and room not in (None, own, *below(own)) and (own, room) not in allowed:
            found.append(f"{module}:{line} imports {name}, a room that {own} may not use")
        if is_root(name) and not is_root(module):
            found.append(f"{module}:{line} imports {name}, the composition root")
        if name.split(".")[0] in FORBIDDEN_MODULES and line not in never_runs:
            found.append(f"{module}:{line} imports {name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in FORBIDDEN_CALLS:
            found.append(f"{module}:{node.lineno} uses {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_file_keeps_the_rules(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert violations(module_name(path), source, frozenset(UNTIL_CARVED)) == []
    longest = LONG_UNTIL_CARVED.get(module_name(path), LONGEST)
    assert len(source.splitlines()) <= longest, "past 400 lines, look for the second idea in the file"


def test_no_arrow_is_excused_that_does_not_exist() -> None:
    arrows = {
        (room_of(module_name(path)), room_of(name))
        for path in FILES
        for _, name in imports(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert arrows >= UNTIL_CARVED


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fedconv.problems.base", "import fedconv.core.run"),
        ("fedconv.problems.base", "def f():\n    from fedconv.analysis.verdicts import verify"),
        ("fedconv.core.run", "from fedconv.analysis.verdicts.verify import verify"),
        ("fedconv.core.run", "from fedconv import cli"),
        ("fedconv.core.run", "from fedconv.commands.show import show_store"),
        ("fedconv.core.store", "from fedconv.problem_file.settings import settings_from"),
        ("fedconv.methods.ffgg.rounds", "from fedconv.methods.fedspa.steps import Draws"),
        ("fedconv.analysis.theorems.split.facts", "from fedconv.analysis.verdicts.verify import verify"),
        ("fedconv.analysis.exact.tree", "from fedconv.analysis import tuning"),
        ("fedconv.analysis.exact.tree", "if TYPE_CHECKING:\n    from fedconv.analysis.verdicts.check import Check"),
        ("fedconv.analysis.regimes.presets", "from fedconv.analysis.pages import report"),
        ("fedconv.analysis.verdicts.verify", "import fedconv.figures.slopes"),
        ("fedconv.figures.slopes", "from fedconv.paper_checks import pillutla2022"),
        ("fedconv.paper_checks.pillutla2022", "import fedconv.figures"),
        ("fedconv.analysis.loose", "import math"),
        ("fedconv.figures.slopes", "from analysis.theorems import theorem"),
        ("fedconv.cli", "import problems"),
        ("fedconv.problems.base", "import random"),
        ("fedconv.problems.base", "from random import choice"),
        ("fedconv.problems.base", "import numpy as np\nnp.random.seed(0)"),
        ("fedconv.problems.base", "import numpy\nx = numpy.random.randn(3)"),
        ("fedconv.problems.base", "import torch\ntorch.manual_seed(0)"),
        ("fedconv.problems.base", "import torch\nx = torch.load('f')"),
        ("fedconv.problems.base", "import pickle"),
    ],
)
def test_the_rules_catch(module: str, source: str) -> None:
    assert len(violations(module, source)) >= 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fedconv.cli", "from fedconv.analysis.verdicts.verify import verify"),
        ("fedconv.commands.verify", "from fedconv import paper_checks\nfrom fedconv.figures import slopes"),
        ("fedconv.analysis.pages.report", "from fedconv.core.run import run\nfrom fedconv.analysis import theorems"),
        ("fedconv.analysis.verdicts.verify", "import numpy as np\nrng = np.random.default_rng(0)"),
    ],
)
def test_the_rules_allow(module: str, source: str) -> None:
    assert violations(module, source) == []


def test_every_folder_with_modules_is_a_package() -> None:
    assert {path.parent for path in FILES} == {path.parent for path in FILES if path.name == "__init__.py"}


def test_the_links_lead_into_the_package() -> None:
    assert {name: (ROOT / name).readlink().as_posix() for name in LINKS} == {name: f"fedconv/{name}" for name in LINKS}
