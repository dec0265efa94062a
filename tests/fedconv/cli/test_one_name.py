"""The package has one import name: it works beside a user's own ``analysis/``, ``problems.py`` and the like."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import analysis, figures, paper_checks, problems
from fedconv.analysis.verdicts.verify import verify_settings
from fedconv.problem_file.settings import settings_from

settings = settings_from({
    "problem": {"family": "trigonometric", "n": 3, "d_u": 1, "d_v": 1},
    "algorithm": {"name": "fedalt", "m": 2, "tau_u": 1, "tau_v": 1, "eta": 0.1},
    "run": {"T": 3},
}, "script.py")
print([r.verdict.status for r in verify_settings(settings, max_replicates=64)])
print(analysis.OWN, problems.OWN, figures.OWN, paper_checks.OWN)
"""
TEST = """
from analysis import OWN
from fedconv.problems.errors import InputError
from problems import OWN as OTHER


def test_own():
    assert OWN == OTHER == "own"
    assert issubclass(InputError, ValueError)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's repository with modules of the names that this package once took."""
    mine = tmp_path / "mine"
    for name in ("analysis/__init__.py", "problems.py", "figures/__init__.py", "paper_checks/__init__.py"):
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text('OWN = "own"\n')
    (mine / "script.py").write_text(SCRIPT)
    (mine / "test_own.py").write_text(TEST)
    site = tmp_path / "site"
    site.mkdir()
    (site / "fedconv").symlink_to(ROOT / "fedconv")
    return mine


def python(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder.parent / "site"), "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_runs_beside_a_users_own_modules(folder: Path) -> None:
    assert "verify" in python(folder, "-m", "fedconv", "--help")


def test_a_script_runs_beside_a_users_own_modules(folder: Path) -> None:
    verdicts, own = python(folder, "script.py").splitlines()
    assert "holds" in verdicts
    assert "violated" not in verdicts
    assert own == "own own own own"


def test_a_users_tests_run_beside_their_own_modules(folder: Path) -> None:
    assert "1 passed" in python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_own.py")


def test_a_wheel_has_one_top_level_name_and_every_file() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    find = setuptools["packages"]["find"]
    assert find["namespaces"] is False
    folders = [Path(at).relative_to(ROOT) for at, _, files in os.walk(ROOT) if "__init__.py" in files]
    names = {".".join(at.parts) for at in folders if at.parts[0] not in (".venv", "build")}
    packages = {name for name in names if any(fnmatch(name, pattern) for pattern in find["include"])}
    assert {name.split(".")[0] for name in packages} == {"fedconv"}
    data = setuptools["package-data"]
    for path in (ROOT / "fedconv").rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            home = next(at for at in path.parents if (at / "__init__.py").exists())
            inside = path.relative_to(home).as_posix()
            patterns = [p for name in ("*", ".".join(home.relative_to(ROOT).parts)) for p in data.get(name, ())]
            assert any(fnmatch(inside, pattern) for pattern in patterns), f"{path} is in no package"
