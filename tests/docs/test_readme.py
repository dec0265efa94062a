"""The README's example: its file, its command with its output, and its Python."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fedconv.figures.gallery import FIGURES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def block(language: str, which: int = 0) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[which]


COMMANDS = re.findall(r"^\$ fedconv (verify .*)$", README, re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_problem.toml").write_text(block("toml"))
    (tmp_path / "attacked.toml").write_text(block("toml", 1))
    return tmp_path


def python(folder: Path, *arguments: str, status: int = 0) -> str:
    environment = os.environ | {"COLUMNS": "120", "NO_COLOR": "1", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == status, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_printed_table_is_the_true_one(folder: Path, command: str) -> None:
    shown = README.split(f"$ fedconv {command}\n")[1].split("```")[0]
    printed = python(folder, "-m", "fedconv", *shlex.split(command))

    def lines(text: str) -> list[list[str]]:
        return [line.split() for line in text.splitlines() if line.strip() and "──" not in line]

    assert lines(printed) == lines(shown)


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) == 2


def test_the_figures_that_it_names_exist() -> None:
    named = re.findall(r"^fedconv figures ([\w -]+) --out", README, re.MULTILINE)
    named += re.findall(r"`fedconv figures ([\w-]+)`", README)
    assert len(named) == 3
    assert set(" ".join(named).split()) <= set(FIGURES)


def test_the_example_is_the_hand_written_file() -> None:
    assert block("toml") == (ROOT / "tests" / "data" / "hand_written.toml").read_text()


@pytest.mark.long
def test_the_python_example_runs(folder: Path) -> None:
    printed = python(folder, "-c", block("python"))
    assert printed.startswith("FA holds 0.43\nFA* holds")
    assert "within the bound" in printed
    assert "S_{1} =" in printed


@pytest.mark.long
def test_the_example_on_a_problem_of_ones_own_runs(folder: Path) -> None:
    printed = python(folder, "-c", block("python", 1))
    assert [line.split()[1] for line in printed.splitlines()] == ["holds"] * 4


@pytest.mark.long
def test_the_sparse_example_is_accepted(folder: Path) -> None:
    (folder / "sparse.toml").write_text(block("toml", 2))
    printed = python(folder, "-m", "fedconv", "verify", "sparse.toml", "--strict", status=3)  # as some are approximate
    assert "15 verdicts: 11 holds, 4 holds (approximate)" in printed


def test_every_command_of_the_table_exists(folder: Path) -> None:
    for name in re.findall(r"^\| `fedconv (\w+)", README, re.MULTILINE):
        assert "Usage" in python(folder, "-m", "fedconv", name, "--help")
