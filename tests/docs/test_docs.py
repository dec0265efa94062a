"""The documentation: its examples are run and print what they show; its generated parts leave nothing out.

Sphinx itself runs in ``make docs``, which needs an extra that tests do not have.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import xarray as xr

from fedconv.figures.gallery import FIGURES, keep, made_by
from fedconv.methods.registry import SECTIONS
from fedconv.problem_file.schema import File
from fedconv.problems.registry import FAMILIES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def extension(name: str) -> ModuleType:
    """A module of ``docs/_ext``, as Sphinx imports it."""
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DOCS / "_ext"))


examples = extension("examples")
PAGES = examples.pages()
NOTEBOOKS = examples.notebooks()


def named(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_examples_of_a_page_print_what_it_shows(page: Path, tmp_path: Path) -> None:
    for _, outcomes in examples.run_page(page.read_text(encoding="utf-8"), tmp_path):
        for one in outcomes:
            assert one.wrong is None, f"$ {one.command.line}\n{one.wrong}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=named)
def test_the_cells_of_a_notebook_run(notebook: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "IPython" in notebook.read_text(encoding="utf-8"):
        pytest.importorskip("IPython")  # of the extra docs
    with examples.inside(tmp_path):
        exec(compile(examples.cells(notebook), named(notebook), "exec"), {"__name__": "notebook"})
    assert capsys.readouterr().out


def test_the_tutorials_and_notebooks_have_examples() -> None:
    with_console = {named(p) for p in PAGES if "```console" in p.read_text(encoding="utf-8")}
    tutorials = {f"tutorials/{user}.md" for user in ("prover", "explorer", "practitioner")}
    assert {"first_steps.md", "verdicts.md", *tutorials} <= with_console
    assert len(NOTEBOOKS) == 3
    assert all(examples.cells(path) for path in NOTEBOOKS)


def unrun() -> list[str]:
    """Commands that are shown and not run: those of ``sh`` blocks, and those of the README and the theory pages."""
    found = [
        command.line
        for page in PAGES
        for block in examples.blocks(page.read_text(encoding="utf-8"))
        if block.language == "sh"
        for command in block.commands
    ]
    for page in (ROOT / "README.md", *sorted((DOCS / "theory").glob("*.md"))):
        for body in re.findall(r"^```\w*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            lines = re.findall(r"^(?:\$ )?((?:make|fedconv) .*)$", body, re.MULTILINE)
            found += [re.split(r"\s{2,}#", line)[0].strip() for line in lines]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("line", unrun())
def test_commands_that_are_not_run_exist(line: str) -> None:
    examples.check_line(line)


@pytest.mark.parametrize(
    "line",
    ["make nothing", "fedconv verify --sweet", "fedconv nothing", "pip install -e '.[nothing]'", "rm x"],
)
def test_commands_that_do_not_exist_are_found(line: str) -> None:
    with pytest.raises(Exception, match=r"nothing|sweet|rm x"):
        examples.check_line(line)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a 1\n", "a  1", True),
        ("a 1", "a 2", False),
        ("a\n...\nd", "a\nb\nc\nd", True),
        ("a\n...\nd", "a\nb\nc", False),
        ("took ... s", "took 1.2 s", True),
        ("took ... s", "took 1.2 h", False),
        ("a", "a\nb", False),
        ("────\na", "a", True),
    ],
)
def test_outputs_are_compared(shown: str, printed: str, same: bool) -> None:
    assert examples.matches(examples.plain(shown.splitlines()), examples.plain(printed.splitlines())) is same


def test_an_output_that_is_not_the_true_one_is_found(tmp_path: Path) -> None:
    page = "```console\n$ fedconv list noise\nnothing at all\n$ fedconv verify none.toml\n$ echo $?\n0\n```\n"
    outcomes = [one for _, found in examples.run_page(page, tmp_path) for one in found]
    assert [one.wrong is not None for one in outcomes] == [True, True, True]


def test_true_outputs_are_written_into_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Before\n\n```console\n$ fedconv verify none.toml\n$ echo $?\n0\n```\n\nAfter\n", encoding="utf-8")
    assert examples.refresh(page) == 2
    new = page.read_text(encoding="utf-8")
    assert new.startswith("Before\n\n```console\n$ fedconv verify none.toml\nnone.toml: ")
    assert new.endswith("$ echo $?\n2\n```\n\nAfter\n")
    assert examples.refresh(page) == 0


def test_the_reference_of_the_problem_file_is_whole() -> None:
    page = extension("problem_file_page")
    text = page.tables(DOCS) + page.families(DOCS)
    for section in (*SECTIONS, *(k for k in File.model_fields if k not in ("name", "problem", "sections"))):
        assert f"## [{section}]\n" in text
    assert all(f"### {name}\n" in text for name in FAMILIES)
    assert "`sigma_u`\n: a finite number \\>= 0; default `0.0`" in text
    assert "`T`\n: an integer from 1 to 10000000 (rounds); **required**" in text
    assert "[algorithm]" in page.new_file(DOCS)


def test_the_reference_of_the_commands_is_whole() -> None:
    import typer

    from fedconv.cli import app

    text = extension("commands_page").page(DOCS)
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # pyright: ignore[reportAttributeAccessIssue]
        section = text.split(f"## fedconv {name}\n")[1].split("\n## ")[0]
        for option in (o for one in command.params for o in one.opts if o.startswith("--")):
            assert option in section, f"{name} {option}"


def test_the_gallery_says_which_pictures_are_missing(tmp_path: Path) -> None:
    page = extension("gallery_page")
    everything = page.missing(tmp_path)
    assert set(everything) <= set(FIGURES)
    first, *others = everything
    (tmp_path / f"{first}.svg").touch()
    one = FIGURES[first]
    keep(one, xr.Dataset(), tmp_path, made_by(one))
    assert page.missing(tmp_path) == others
    keep(one, xr.Dataset(), tmp_path, "other code")
    assert page.missing(tmp_path) == everything, "its data are of other code"
    (tmp_path / "_gallery").mkdir()
    with pytest.raises(FileNotFoundError, match="make docs"):
        page.page(tmp_path)


def test_the_pages_ask_the_network_for_nothing() -> None:
    for path in (*DOCS.glob("_static/*"), DOCS / "conf.py"):
        assert "http" not in path.read_text(encoding="utf-8")
