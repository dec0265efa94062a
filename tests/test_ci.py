"""What CI adds: a test that does not run is a failure, unless the reason is a listed one; long tests begin first."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CASES = """
import pytest

def test_a(): pass
def test_b(): pytest.importorskip("a_package_that_nobody_has")
def test_c(): pytest.skip("no CUDA device")
@pytest.mark.skip(reason="later")
def test_d(): pass
@pytest.mark.xfail(strict=True)
def test_e(): assert False
@pytest.fixture
def tool(): pytest.skip("no tool")
def test_f(tool): pass
@pytest.mark.skipif(True, reason="no CUDA device")
def test_g(): pass
@pytest.mark.long
def test_h(): pass
"""
WHOLE_FILE = "import pytest\nx = pytest.importorskip('a_package_that_nobody_has')\n"


@pytest.mark.parametrize("ci", [True, False])
def test_a_skip_is_a_failure_under_ci(tmp_path: Path, ci: bool) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    (tmp_path / "test_cases.py").write_text(CASES)
    (tmp_path / "test_other.py").write_text(WHOLE_FILE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = long\n")
    environment = {k: x for k, x in os.environ.items() if k not in ("CI", "PYTEST_ADDOPTS")} | (
        {"CI": "1"} if ci else {}
    )
    command = [sys.executable, "-m", "pytest", "-vrA", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    ended = dict(re.findall(r"^test_cases\.py::test_(\w) (\w+)", done.stdout, re.M))
    passed = {"a": "PASSED", "c": "SKIPPED", "e": "XFAIL", "g": "SKIPPED", "h": "PASSED"}
    refused = {"b": "FAILED", "d": "ERROR", "f": "ERROR"} if ci else dict.fromkeys("bdf", "SKIPPED")
    assert ended == passed | refused, done.stdout
    assert done.returncode == int(ci)
    for reason in ("later", "no tool", "could not import 'a_package_that_nobody_has'"):
        assert (f"for a reason that tests/conftest.py does not list: {reason}" in done.stdout) == ci
    assert ("ERROR test_other.py" in done.stdout) == ci
    assert next(iter(ended)) == "h", "marked long"


def test_ci_installs_what_tests_ask_for() -> None:
    """What a test imports if it can is of an extra that `make test` installs."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    (listed,) = re.findall(r"-e '\.\[([\w,]+)\]'\n\ttouch \$\(STAMP\)", recipe)
    installed = " ".join(one for extra in listed.split(",") for one in extras[extra]).lower()
    others = {"sklearn": "scikit-learn", "IPython": "myst-nb"}
    asked = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        if path != Path(__file__)
        for name in re.findall(r'importorskip\("(\w+)"\)', path.read_text(encoding="utf-8"))
    }
    assert len(asked) > 5
    assert [name for name in asked if others.get(name, name).lower() not in installed] == []
