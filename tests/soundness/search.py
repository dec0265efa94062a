"""The search: settings drawn, decided as a user decides them, and held against their truth; the table; what is kept."""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import time
from typing import Any

from scipy.stats import poisson

from fedconv.analysis.theorems import Theorem
from fedconv.analysis.verdicts.verify import judge, verify
from fedconv.core.run import run
from fedconv.core.sources import code_version
from fedconv.problem_file.settings import dump_toml
from fedconv.problems.errors import InputError
from soundness.groups import GROUPS, draw
from soundness.setting import Case, Refused, Setting, Tried, examine

JUDGED = 256
"""Replicates of a recorded run that is judged as it stands."""

RARE = 1e-4
"""A group fails where so many settings with a false verdict had less than this chance under the stated errors."""


def attempt(group: str, number: int, seed: int) -> Tried:
    """Draw a setting, decide it, compare."""
    tried = Tried(group, number)
    try:
        setting = draw(group, number, seed)
    except Refused as error:
        tried.refused = str(error)
        return tried
    tried.notes = setting.notes
    return decide(setting, tried)


def decide(setting: Setting, tried: Tried) -> Tried:
    """A refusal in a sentence is no verdict; anything else that is raised is a fault of its own."""
    for part in parts(setting):
        try:
            tried.cases += part()
        except InputError as error:
            tried.refused = str(error)
        except Exception:
            tried.crashed = traceback.format_exc(limit=-3)
    return tried


def parts(setting: Setting) -> list[Callable[[], list[Case]]]:
    """What is decided together: all theorems by :func:`verify`, or each by :func:`judge` on a recorded run."""
    experiment, options = setting.experiment, {"error": setting.error, "a_posteriori": setting.a_posteriori}

    def verified() -> list[Case]:
        engine, most = setting.engine, setting.max_replicates
        results = verify(experiment, setting.theorems, engine=engine, max_replicates=most, **options)
        return [examine(setting, one, result) for one, result in zip(setting.theorems, results, strict=True)]

    def recorded(one: Theorem) -> list[Case]:
        trace = run(experiment, 1 if experiment.deterministic else JUDGED, engine=setting.engine)
        return [examine(setting, one, result) for result in judge(trace, [one], **options)]

    if setting.decide is not None:
        return [setting.decide]
    return [partial(recorded, one) for one in setting.theorems] if setting.judged else [verified]


def search(seed: int, share: float, out: Path, only: Iterable[str] = (), workers: int = 1) -> Iterator[Tried]:
    """All settings; those that ``out`` holds, of the same code, are not tried again. ``share``: of each group's."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"seed-{seed}.jsonl"
    done = {(t.group, t.number): t for t in kept(path)}
    groups = [g for g in GROUPS if not only or g in only]
    wanted = [(g, k) for g in groups for k in range(max(1, round(share * GROUPS[g][1])))]
    yield from (done[one] for one in wanted if one in done)
    with path.open("a") as lines:
        for tried in _attempted([one for one in wanted if one not in done], seed, workers):
            lines.write(json.dumps(asdict(tried)) + "\n")
            lines.flush()
            if any(c.false for c in tried.cases) or tried.crashed:
                keep(tried, seed, out)
            yield tried


def _attempted(wanted: list[tuple[str, int]], seed: int, workers: int) -> Iterator[Tried]:
    """Each setting, here or by other processes."""
    groups, numbers = [g for g, _ in wanted], [k for _, k in wanted]
    if workers == 1:
        yield from map(attempt, groups, numbers, [seed] * len(wanted))
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield from pool.map(attempt, groups, numbers, [seed] * len(wanted))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def kept(path: Path) -> list[Tried]:
    """The settings of an interrupted search. A line that was cut short is done again; all are where the code has
    changed, the tool's or the search's."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    head = json.dumps({"code": code()}) + "\n"
    if whole[:1] != [head]:
        whole = [head]
    path.write_text("".join(whole))
    found = (json.loads(line) for line in whole[1:])
    return [Tried(**data | {"cases": [Case(**c) for c in data["cases"]]}) for data in found]


def code() -> str:
    """The digest of what the verdicts come from, and of this search."""
    here = hashlib.sha256(b"".join(x.read_bytes() for x in sorted(Path(__file__).parent.glob("*.py"))))
    return (
        code_version(
            *(
                m
                for m in (
                    "fedconv.analysis.verdicts.verify",
                    "fedconv.analysis.proofs.replay",
                    "fedconv.analysis.theorems.registry",
                )
            )
        )
        + here.hexdigest()[:16]
    )


def keep(tried: Tried, seed: int, out: Path) -> None:
    """A file about each setting with a false verdict: how to meet it again, and a problem file where one says all."""
    name = f"{tried.group.replace(' ', '-')}-{tried.number}-seed-{seed}"
    words = [f"meet it again: python -m soundness search --seed {seed} --only '{tried.group}' --number {tried.number}"]
    words += [
        f"{c.theorem}: {c.status}, but {c.false} ({c.method}, {c.replicates} replicates)"
        for c in tried.cases
        if c.false
    ]
    words += tried.crashed.splitlines() + ([tried.notes] if tried.notes else [])
    spec = draw(tried.group, tried.number, seed).spec
    body = "" if spec is None else dump_toml(dict(spec))
    (out / f"{name}.toml").write_text("\n".join(f"# {word}" for word in words) + "\n" + body)


# ---- the table -------------------------------------------------------------------------------------------------------

HEAD = ("group", "settings", "verdicts", "decided", "refused", "false", "stated", "approximate", "crashed")


def wrong(tried: Tried) -> bool:
    """Whether a verdict on this setting is false and not called approximate."""
    return any(c.false and not c.approximate for c in tried.cases)


def row(group: str, tried: list[Tried]) -> dict[str, Any]:
    """Counts of a group. false: settings with a false verdict that is not called approximate; stated: how many of them
    the stated errors allow on average, Σ over settings of the errors of their sampled decisions."""
    cases = [c for t in tried for c in t.cases]
    decided = [c for c in cases if c.status in ("holds", "violated")]
    false = sum(map(wrong, tried))
    stated = sum(
        min(1.0, sum(c.error for c in t.cases if c.status in ("holds", "violated") and not c.certain)) for t in tried
    )
    certain = sum(any(c.false and c.certain for c in t.cases) for t in tried)
    chance = float(poisson.sf(false - 1, stated)) if false else 1.0
    return {
        "group": group,
        "settings": len(tried),
        "verdicts": len(cases),
        "decided": len(decided),
        "refused": sum(bool(t.refused) for t in tried),
        "false": false,
        "stated": stated,
        "approximate": sum(bool(c.false and c.approximate) for c in cases),
        "crashed": sum(bool(t.crashed) for t in tried),
        "fails": bool(certain) or chance < RARE or any(t.crashed for t in tried),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [f"{HEAD[0]:20}" + "".join(f"{name:>12}" for name in HEAD[1:])]
    for one in rows:
        numbers = (f"{one[k]:.3g}" if isinstance(one[k], float) else str(one[k]) for k in HEAD[1:])
        lines.append(f"{one['group']:20}" + "".join(f"{x:>12}" for x in numbers) + ("  FAILS" if one["fails"] else ""))
    return "\n".join(lines)


def report(seed: int, share: float, out: Path, only: Iterable[str] = (), workers: int = 1) -> bool:
    """Search, print the table, and say whether no group fails."""
    by: dict[str, list[Tried]] = {}
    start = time()
    for tried in search(seed, share, out, only, workers):
        by.setdefault(tried.group, []).append(tried)
    rows = [row(group, some) for group, some in by.items()]
    print(table(rows))
    settings, cases = sum(len(x) for x in by.values()), [c for x in by.values() for t in x for c in t.cases]
    false = [c for c in cases if c.false and not c.approximate]
    print(f"\n{settings} settings, {len(cases)} verdicts, {len(false)} of them false, in {time() - start:.0f} s.")
    if false:
        print(f"Each false one is described in {out}.")
    return not any(r["fails"] for r in rows)
