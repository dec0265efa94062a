"""Settings shared by all tests: one torch thread, Hypothesis profiles for CI and for a desk, the longest tests first,
and under CI (the variable CI is set) no skip for a reason that is not listed here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci",
    derandomize=True,
    print_blob=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("dev", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "dev")

torch.set_num_threads(1)

SKIPS = (
    r"no CUDA device",
    r"other systems have other folders",
    r"five groups are too few for it",
    r"Chromium is not installed",
    r"no kernel: this family always runs eagerly",
    r".* estimated at some points: no bound that a search could refute",
    r"delta is infinite because none is known, not because none exists",
)
"""Reasons to skip a test that CI accepts: each begins like one of these."""


def _refused(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a skip for another reason a failure."""
    if not (os.environ.get("CI") and report.skipped) or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not any(re.match(known, reason) for known in SKIPS):
        report.outcome = "failed"
        report.longrepr = f"skipped under CI, for a reason that tests/conftest.py does not list: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _refused(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _refused(report)
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``long`` first: one that begins last would keep one worker busy while the others are idle."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
