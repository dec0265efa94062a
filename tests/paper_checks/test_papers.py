"""The papers' suites: every problem file is accepted, and every theorem is checked by some file."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from fedconv.analysis.claims.claim import Budget, Outcome
from fedconv.analysis.verdicts.verify import known, planned
from fedconv.commands.papers.pictures import drawn
from fedconv.paper_checks import PAPERS, claim, suite
from fedconv.problem_file.settings import settings_from
from fedconv.problems.errors import InputError


@pytest.mark.parametrize("paper", PAPERS)
def test_every_file_of_a_paper_is_accepted_and_about_something(paper: str) -> None:
    specs = importlib.import_module(f"fedconv.paper_checks.{paper}").suite("quick")
    names = [spec["name"] for spec in specs]
    assert len(set(names)) == len(names)
    assert all(planned(settings_from(spec, spec["name"])) for spec in specs)


def test_every_theorem_is_checked_by_the_quick_suite() -> None:
    checked = set()
    for spec in suite("quick"):
        checked |= {t.key for _, chosen in planned(settings_from(spec, spec["name"])) for t in chosen}
    assert checked == set(known())


def test_the_full_suite_contains_the_quick_one() -> None:
    quick, full = ([spec["name"] for spec in suite(size)] for size in ("quick", "full"))
    assert full[: len(quick)] != full
    assert set(quick) <= set(full)
    assert len(set(full)) == len(full)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(InputError, match="a suite is one of quick, full; got 'huge'"):
        suite("huge")


def test_data_of_figures_are_kept_for_the_same_code(tmp_path: Path) -> None:
    outcomes = (Outcome(claim("zhang2021/monotone"), ()),)
    pictures, proofs = drawn(outcomes, tmp_path, Budget())
    assert proofs == []
    assert list(pictures) == ["fedfomo-losses"]
    data = tmp_path / "figures" / "fedfomo-losses.nc"
    first = data.stat().st_mtime_ns
    assert drawn(outcomes, tmp_path, Budget())[0] == pictures
    assert data.stat().st_mtime_ns == first, "read again"
    assert drawn(outcomes, tmp_path, Budget("full"))[0] == pictures
    assert data.stat().st_mtime_ns == first, "these data are the same at every size"
    data.write_bytes(b"CDF")
    assert drawn(outcomes, tmp_path, Budget())[0] == pictures
    assert data.stat().st_mtime_ns > first, "computed again"
    assert drawn((), tmp_path / "none", Budget()) == ({}, [])
    assert not (tmp_path / "none").exists()
