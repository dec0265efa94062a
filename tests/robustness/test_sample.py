"""A few faults of each kind; ``make robustness`` tries all."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from fedconv.sweep.results import Results

SPEC = importlib.util.spec_from_file_location("harness", Path(__file__).with_name("harness.py"))
assert SPEC is not None
assert SPEC.loader is not None
harness = importlib.util.module_from_spec(SPEC)
sys.modules["harness"] = harness
SPEC.loader.exec_module(harness)


def test_a_sample_of_faults(tmp_path: Path) -> None:
    kinds = harness.tried(tmp_path, sample=True)
    assert [s for kind in kinds for s in kind.failed] == []
    assert all(kind.tried or kind.skipped or kind.name == "kills at random moments" for kind in kinds)


def test_the_harness_sees_what_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command with a traceback, one that says nothing, and a store that is read though it is damaged."""
    assert not harness.well_said(None, "TypeError: x")
    assert not harness.well_said(2, "")
    assert not harness.well_said(2, "one\ntwo\n")
    assert harness.well_said(2, "one sentence\n")
    monkeypatch.setattr(Results, "damaged", lambda *_: [])
    assert harness.damaged_stores(tmp_path, 8)[1].failed
