"""What kept data depend on: the modules that an import, wherever it stands, or a name in a string leads to."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import xarray as xr
from matplotlib.figure import Figure

from fedconv import commands
from fedconv.analysis.claims import saved as claim_saved
from fedconv.analysis.claims.claim import Budget, Outcome
from fedconv.cli import main
from fedconv.commands.papers import kept as papers_saved
from fedconv.commands.papers.pictures import drawn
from fedconv.core.sources import Sources, code_version, sources
from fedconv.figures import gallery
from fedconv.figures.gallery import FIGURES
from fedconv.methods.registry import METHODS, Entry
from fedconv.paper_checks import PAPERS, claim, claims
from fedconv.paper_checks.pillutla2022 import practice
from fedconv.paper_checks.shared import on_runs
from fedconv.paper_checks.shared.units import Unit, units_of
from fedconv.problem_file.settings import settings_from
from fedconv.problems.registry import FAMILIES, Family

TREE = {
    "a/__init__.py": "def lazy():\n    from a import unused",
    "a/unused.py": "",
    "a/far.py": "import numpy",
    "a/text.toml": "x = 1",
    "a/sub/__init__.py": "from a import run_first",
    "a/run_first.py": "",
    "a/sub/one.py": "",
    "a/sub/two.py": "",
    "a/sub/three.py": "from . import one\nfrom .. import far",
    "b/__init__.py": "",
    "b/top.py": "from a.sub.one import x",
    "b/inside.py": "def f():\n    class A:\n        def g(self):\n            import a.far",
    "b/aliased.py": "import a.far as far",
    "b/names.py": "from a import far, unused",
    "b/attribute.py": "from a.far import array",
    "b/registered.py": "TARGET = 'a.sub.two:build'",
    "b/dotted.py": "TARGET = 'a.sub.two.build.more'",
    "b/begun.py": "def f(x):\n    return load('a.sub.t' + x)",
    "b/formatted.py": "def f(x):\n    return load(f'a.sub.{x}')",
    "b/own.py": "def f(x):\n    return load(f'{__package__}.{x}_end')",
    "b/an_end.py": "",
    "b/file.py": "from a import sub\nTEXT = 'text.toml'",
    "a/reads.py": "TEXT = 'text.toml'",
    "b/typed.py": "import typing\nif typing.TYPE_CHECKING:\n    from a import far\nelse:\n    import a.sub.one",
    "b/face.py": "import a",
    "b/docs.py": "'''See a.far and ``a.sub.one``.'''",
    "b/chain.py": "from b import inside",
    "b/round_one.py": "from b import round_two",
    "b/round_two.py": "def f():\n    from b import round_one",
    "not_a_package/x.py": "",
}


@pytest.fixture
def tree(tmp_path: Path) -> Sources:
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "sub").symlink_to(tmp_path / "a" / "sub", target_is_directory=True)
    return Sources(tmp_path)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("b.top", {"a", "a.sub", "a.run_first", "a.sub.one"}),
        ("b.inside", {"a", "a.far", "a.unused"}),
        ("b.aliased", {"a", "a.far"}),
        ("b.names", {"a", "a.far", "a.unused"}),
        ("b.attribute", {"a", "a.far"}),
        ("b.registered", {"a", "a.sub", "a.run_first", "a.sub.two"}),
        ("b.dotted", {"a", "a.sub", "a.run_first", "a.sub.two"}),
        ("b.begun", {"a", "a.far", "a.sub", "a.run_first", "a.sub.one", "a.sub.two", "a.sub.three"}),
        ("b.formatted", {"a", "a.far", "a.sub", "a.run_first", "a.sub.one", "a.sub.two", "a.sub.three"}),
        ("b.own", {"b.an_end"}),
        ("a.sub.three", {"a", "a.sub", "a.run_first", "a.sub.one", "a.far"}),
        ("b.typed", {"a", "a.sub", "a.run_first", "a.sub.one", "a.unused"}),
        ("b.face", {"a", "a.unused"}),
        ("b.docs", set()),
        ("b.chain", {"b.inside", "a", "a.far", "a.unused"}),
        ("b.round_one", {"b.round_two"}),
        ("a.reads", {"a"}),
    ],
)
def test_every_kind_of_import_counts(tree: Sources, start: str, expected: set[str]) -> None:
    parent = start.partition(".")[0]
    assert tree.needs(start).modules == expected | {start, parent}


def test_modules_are_those_of_packages_once(tree: Sources) -> None:
    assert "not_a_package.x" not in tree.modules
    assert "sub.one" not in tree.modules, "a second name of what lies in another package"
    assert len(tree.modules) == sum(name[1] == "/" for name in TREE) - 1
    with pytest.raises(ValueError, match=r"there is no module b\.nothing"):
        tree.needs("b.nothing")


def test_libraries_and_files_count_where_they_are_named(tree: Sources) -> None:
    assert tree.needs("b.inside").libraries == {"numpy"}
    assert tree.needs("b.docs").libraries == frozenset()
    assert {path.name for path in tree.needs("a.reads").files} == {"text.toml"}
    assert tree.needs("b.file").files == frozenset(), "no such file beside b/file.py"


@pytest.mark.parametrize(
    ("changed", "start", "counts"),
    [
        ("a/far.py", "b.chain", True),
        ("b/inside.py", "b.chain", True),
        ("b/chain.py", "b.chain", True),
        ("a/sub/two.py", "b.registered", True),
        ("a/sub/__init__.py", "b.registered", True),
        ("a/text.toml", "a.reads", True),
        ("a/sub/two.py", "b.chain", False),
        ("b/docs.py", "b.chain", False),
        ("a/text.toml", "b.chain", False),
    ],
)
def test_the_digest_changes_with_what_counts_alone(tree: Sources, changed: str, start: str, counts: bool) -> None:
    before = tree.digest(start)
    assert Sources(tree.root).digest(start) == before
    path = tree.root / changed
    path.write_text(path.read_text() + "\n")
    assert (Sources(tree.root).digest(start) != before) == counts


def test_the_digest_changes_with_the_version_of_a_library(tree: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    before, without = tree.digest("b.inside"), tree.digest("b.docs")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0")
    assert tree.digest("b.inside") != before
    assert tree.digest("b.docs") == without


def test_a_module_that_moves_is_other_code(tree: Sources) -> None:
    before = tree.digest("b.registered")
    (tree.root / "a/sub/two.py").rename(tree.root / "a/sub/two_too.py")
    assert Sources(tree.root).digest("b.registered") != before


# ---- this project ---------------------------------------------------------------------------------------------------


def test_tables_of_names_lead_to_their_modules() -> None:
    known = sources()
    assert {one.target.partition(":")[0] for one in FAMILIES.values()} <= known.needs(Family.__module__).modules
    assert {one.target.partition(":")[0] for one in METHODS.values()} <= known.needs(Entry.__module__).modules
    assert {one.module for one in FIGURES.values()} <= known.needs(gallery.__name__).modules
    claimed = known.needs(claims.__module__).modules
    units = [unit for one in claims("zhang2021") for unit in units_of(one, Budget())]
    assert {unit.function.__module__ for unit in units} <= claimed
    assert {f"{claims.__module__}.{paper}" for paper in PAPERS} <= claimed


def test_each_figure_depends_on_its_own_code_and_not_on_another_figures() -> None:
    known, drawing = sources(), {one.module for one in FIGURES.values()}
    for one in FIGURES.values():
        needs = known.needs(one.module).modules
        assert needs & {*drawing, gallery.__name__} == {one.module}, one.name
        assert not any(name.startswith(commands.__name__) for name in needs)
    assert known.needs(claims.__module__).modules.isdisjoint(drawing)


def test_nothing_is_loaded_that_is_not_known_beforehand() -> None:
    """What a process has loaded after it has made an experiment of each family of methods."""
    script = """
import importlib, json, sys
before, config = set(sys.modules), importlib.import_module(sys.argv[1])
for file in json.loads(sys.stdin.read()):
    settings = config.settings_from(file, file["name"])
    settings.runnable(settings.algorithms[0])
print(json.dumps([name for name in sys.modules if name not in before]))
"""
    files = [
        next(iter(on_runs.files(paper, "quick").values())) for paper in ("mishchenko2023", "huang2022", "zhang2021")
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, settings_from.__module__],
        input=json.dumps(files), capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(json.loads(done.stdout)) & set(sources().modules)
    assert {one.target.partition(":")[0] for one in METHODS.values()} <= loaded
    assert loaded <= sources().needs(settings_from.__module__).modules


def test_names_of_modules_are_written_so_that_they_are_seen() -> None:
    """A name that is computed otherwise (by %, format or join) would not be."""
    for name, path in sources().modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
                kinds = (ast.Constant, ast.JoinedStr, ast.Name, ast.Attribute)
                assert isinstance(node.args[0], kinds), f"{name}:{node.lineno}"


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Called with a module's name: from then on its source reads as if it had been changed."""
    plain = Sources.source

    def change(name: str) -> None:
        code_version.cache_clear()
        path = sources().modules[name]
        monkeypatch.setattr(
            Sources, "source", lambda self, p: plain(self, p) + b"\nCHANGED = 1\n" if p == path else plain(self, p)
        )

    yield change
    monkeypatch.undo()
    code_version.cache_clear()


@pytest.mark.parametrize("name", ["fedfomo-losses", "personal-share"])
def test_changed_code_computes_a_figure_again(
    name: str, tmp_path: Path, changed: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, count = FIGURES[name], []
    own = importlib.import_module(one.module)
    monkeypatch.setattr(own, one.data, lambda *given: count.append(1) or xr.Dataset(attrs={"x": len(count)}))
    monkeypatch.setattr(own, one.draw, lambda data: Figure())
    monkeypatch.setattr(own, one.words, lambda data: f"{data.attrs['x']}")
    outcomes = (Outcome(replace(claim("zhang2021/monotone"), figure=name), ()),)

    def times() -> int:
        drawn(outcomes, tmp_path, Budget())
        return len(count)

    assert [times(), times()] == [1, 1]
    for k, module in enumerate([one.module, *sorted(sources().needs(one.module).modules - {one.module})[::40]]):
        changed(module)
        assert [times(), times()] == [2 + k, 2 + k], module
    changed(FIGURES["ffgg-byzantine"].module)
    before = times()
    changed(FIGURES["slopes"].module)
    assert times() == before, "another figure's code does not matter"
    (tmp_path / "figures" / f"{name}.nc").write_bytes(b"CDF")
    assert times() == before + 1, "what is not whole is computed again"


def test_changed_code_checks_claims_and_runs_units_again(changed: Callable[[str], None]) -> None:
    unit = Unit(practice.digits)
    before = papers_saved.claims_code(), papers_saved.unit_code(unit)
    changed(FIGURES["slopes"].module)
    assert (papers_saved.claims_code(), papers_saved.unit_code(unit)) == before
    for name in (practice.__name__, claim_saved.__name__, settings_from.__module__):
        changed(name)
        assert papers_saved.claims_code() != before[0]
        assert papers_saved.unit_code(unit) != before[1]


def test_data_of_other_code_are_said_to_be(
    tmp_path: Path, changed: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = FIGURES["fedfomo-losses"]
    own = importlib.import_module(one.module)
    monkeypatch.setattr(own, one.data, lambda: xr.Dataset())
    monkeypatch.setattr(own, one.draw, lambda data: Figure())
    monkeypatch.setattr(own, one.words, lambda data: "words")
    command = ["figures", one.name, "--out", str(tmp_path), "--format", "svg"]
    sentence = f"{one.name}.nc was computed by other code or at another size; without --reuse-data it is computed anew"
    for more, said in ([], False), (["--reuse-data"], False):
        assert main([*command, *more]) == 0
        assert (sentence in " ".join(capsys.readouterr().err.split())) == said
    changed(one.module)
    assert main([*command, "--reuse-data"]) == 0
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert main(command) == 0
    assert main([*command, "--reuse-data"]) == 0
    assert sentence not in " ".join(capsys.readouterr().err.split())
