"""The rooms of the house: who may import whom, how long a file may be, and what nobody may call."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BELOW = {
    "problems": (),
    "fedconv": ("problems",),
    "analysis": ("problems", "fedconv"),
    "figures": ("problems", "fedconv", "analysis"),
    "paper_checks": ("problems", "fedconv", "analysis"),
}
"""The layers that each package may import besides itself."""

COMPOSITION = ("fedconv.cli", "fedconv.__main__", "fedconv.commands", "fedconv.report")
"""The composition root: imports every layer; nothing else imports it."""

LONGEST = 400
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
FILES = [path for package in BELOW for path in sorted((ROOT / package).rglob("*.py"))]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_root(module: str) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in COMPOSITION)


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


def violations(module: str, source: str) -> list[str]:
    """Sentences for everything in a module's source that the rules forbid."""
    tree = ast.parse(source)
    own = module.split(".")[0]
    never_runs = type_checking_lines(tree)
    found = []
    for line, name in imports(tree):
        layer = name.split(".")[0]
        if layer in BELOW and layer not in (own, *BELOW[own]) and not is_root(module):
            found.append(f"{module}:{line} imports {name}, a layer that {own} may not use")
        if is_root(name) and not is_root(module):
            found.append(f"{module}:{line} imports {name}, the composition root")
        if layer in FORBIDDEN_MODULES and line not in never_runs:
            found.append(f"{module}:{line} imports {name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in FORBIDDEN_CALLS:
            found.append(f"{module}:{node.lineno} uses {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_file_keeps_the_rules(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert violations(module_name(path), source) == []
    assert len(source.splitlines()) <= LONGEST, "past 400 lines, look for the second idea in the file"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("problems.base", "import fedconv.run"),
        ("problems.base", "def f():\n    from analysis import verify"),
        ("fedconv.run", "from analysis.verify import verify"),
        ("fedconv.run", "from fedconv import cli"),
        ("fedconv.run", "from fedconv.commands.show import show_store"),
        ("fedconv.run", "from fedconv.report import write_report"),
        ("analysis.verify", "import figures.rates"),
        ("figures.rates", "from paper_checks import pillutla2022"),
        ("paper_checks.pillutla2022", "import figures"),
        ("problems.base", "import random"),
        ("problems.base", "from random import choice"),
        ("problems.base", "import numpy as np\nnp.random.seed(0)"),
        ("problems.base", "import numpy\nx = numpy.random.randn(3)"),
        ("problems.base", "import torch\ntorch.manual_seed(0)"),
        ("problems.base", "import torch\nx = torch.load('f')"),
        ("problems.base", "import pickle"),
    ],
)
def test_the_rules_catch(module: str, source: str) -> None:
    assert len(violations(module, source)) >= 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fedconv.cli", "from analysis.verify import verify"),
        ("fedconv.commands.verify", "from paper_checks import pillutla2022\nfrom fedconv.report import write_report"),
        ("fedconv.report", "from figures import rates"),
        ("analysis.verify", "import numpy as np\nrng = np.random.default_rng(0)"),
    ],
)
def test_the_rules_allow(module: str, source: str) -> None:
    assert violations(module, source) == []


def test_every_package_is_listed_for_installation() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = {module_name(path) for path in FILES if path.name == "__init__.py"}
    assert found == set(listed)
