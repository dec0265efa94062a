"""Compiled kernels are cached, and never outlive the sources they were compiled from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fedconv
from fedconv.problems.compiled import jit

SCRIPT = """
import numpy as np
from fedconv.problems.noise import fill_row
out = np.empty(1000)
fill_row(4, 1.0, np.array([1, 2, 3, 4], dtype=np.uint64), out)
print(sum(fill_row.stats.cache_hits.values()), sum(fill_row.stats.cache_misses.values()), int((out > 0).sum()))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the package that can be edited."""
    source = Path(fedconv.__file__).parent
    shutil.copytree(source, tmp_path / "copy" / "fedconv", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "copy"


def draw(checkout: Path, cache: Path) -> tuple[int, int, int]:
    """(cache hits, cache misses, positive spikes) of one fresh process."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=checkout, env=environment, capture_output=True, text=True, check=True
    )
    hits, misses, positive = map(int, done.stdout.split())
    return hits, misses, positive


def test_a_second_process_compiles_nothing_and_an_edit_compiles_again(checkout: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    hits, misses, positive = draw(checkout, cache)
    assert (hits, misses) == (0, 1)
    assert 400 < positive < 600
    assert draw(checkout, cache) == (1, 0, positive)
    # half of the uniform numbers behind the spikes leave (0, ½): the caller's own file is unchanged
    uniforms = checkout / "fedconv" / "problems" / "compiled" / "xoshiro.py"
    source = uniforms.read_text(encoding="utf-8")
    assert source.count("(1.0 / 9007199254740992.0)") == 1
    uniforms.write_text(source.replace("(1.0 / 9007199254740992.0)", "(0.5 / 9007199254740992.0)"), encoding="utf-8")
    assert draw(checkout, cache) == (0, 1, 1000)


def test_without_a_writable_folder_nothing_is_cached(checkout: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    for _ in range(2):
        hits, misses, positive = draw(checkout, blocked)
        assert (hits, misses) == (0, 1)
        assert 400 < positive < 600


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders")
def test_compiled_code_goes_to_the_users_cache_unless_numba_is_told_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit._config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jit._base() == tmp_path
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert jit._base() == tmp_path / ".cache"
    monkeypatch.setattr(jit._config, "CACHE_DIR", str(tmp_path / "told"))
    assert jit._base() == tmp_path / "told"


def test_old_versions_are_removed(tmp_path: Path) -> None:
    for age in range(7):
        folder = tmp_path / f"version{age}"
        folder.mkdir()
        (folder / "code.nbc").write_bytes(b"")
        os.utime(folder, (1_000_000 - age, 1_000_000 - age))
    jit._prune(tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["version0", "version1", "version2", "version3"]


@pytest.mark.parametrize(
    "name",
    [
        *(f"problems/compiled/{name}.py" for name in ("losses", "xoshiro", "lifted_losses", "sincos", "jit")),
        "problems/noise.py",
        "core/streams.py",
        *(f"methods/split/compiled_{name}.py" for name in ("rounds", "measures")),
        "methods/ffgg/byzantine_rounds.py",
        "methods/ffgg/schedule.py",
        "methods/fedfomo/choosing.py",
    ],
)
def test_every_kernel_source_counts(checkout: Path, name: str) -> None:
    package = checkout / "fedconv"
    before = jit._digest([package])
    with (package / name).open("a") as file:
        file.write("\n# edited\n")
    assert jit._digest([package]) != before
