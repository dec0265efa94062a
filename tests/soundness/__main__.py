"""``python -m soundness limits`` and ``python -m soundness search``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from soundness import search
from soundness.groups import GROUPS


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m soundness", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("limits", help="stated against seen error of every kind of confidence limit")
    long = commands.add_parser("search", help="false verdicts, searched for against exact expectations")
    long.add_argument("--seed", type=int, default=0, help="another seed draws other settings")
    long.add_argument("--share", type=float, default=1.0, help="the share of the settings that is tried")
    long.add_argument("--out", type=Path, default=Path("report/soundness"), help="where the search is kept and resumed")
    long.add_argument("--only", action="append", default=[], choices=list(GROUPS), help="only this group")
    long.add_argument("--workers", type=int, default=1, help="processes")
    long.add_argument("--number", type=int, help="only the setting of this number, shown in full")
    given = parser.parse_args(arguments)
    if given.command == "limits":
        from soundness.limits_bench import report

        return 0 if report() else 1
    if given.number is not None:
        for group in given.only:
            print(search.attempt(group, given.number, given.seed))
        return 0
    return 0 if search.report(given.seed, given.share, given.out, given.only, given.workers) else 1


if __name__ == "__main__":
    sys.exit(main())
