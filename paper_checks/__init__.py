"""The papers' claims as problem files, one module per paper; ``suite`` gives all of them."""

from __future__ import annotations

import importlib
from typing import Any

from problems.errors import InputError

PAPERS = ("pillutla2022", "mishchenko2023", "huang2022", "zhang2021")
"""Modules of this package, in the order of the report."""

SIZES = ("quick", "full")


def suite(size: str) -> list[dict[str, Any]]:
    """The problem files of every paper: ``quick`` (minutes on two cores) or ``full``."""
    if size not in SIZES:
        raise InputError(f"a suite is one of {', '.join(SIZES)}; got {size!r}")
    return [spec for paper in PAPERS for spec in importlib.import_module(f"paper_checks.{paper}").suite(size)]
