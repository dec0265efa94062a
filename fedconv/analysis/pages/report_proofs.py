"""The report's section on replayed proofs: what its template needs, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fedconv.analysis.pages.experiment_facts import slug
from fedconv.analysis.proofs.replay import Proof


@dataclass(frozen=True)
class Replay:
    """A replayed proof with its picture (an ``<svg>`` element) and the command that replays it from its file."""

    proof: Proof
    picture: str
    command: str


def sections(replays: Sequence[Replay]) -> list[dict[str, Any]]:
    """For each replay its facts, lemma rows and waterfall rows."""
    return [_section(x, k) for k, x in enumerate(replays, 1)]


def _section(replay: Replay, count: int) -> dict[str, Any]:
    proof, fall = replay.proof, replay.proof.waterfall
    values = proof.setup.inputs.values
    return {
        "id": f"proof-{count}-{slug(proof.algorithm)}",
        "proof": proof,
        "theorem": proof.setup.theorem.key,
        "problem": proof.name.removesuffix(f"/{proof.algorithm}"),
        "picture": Markup(replay.picture),
        "inputs": values,
        "fall": fall,
        "parts": [{"part": p, "share": p.slack / fall.total if fall.total > 0 else float("nan")} for p in fall.parts],
        "largest": sorted(fall.parts, key=lambda p: -p.slack)[:3],
        "lemmas": [{"line": x, "title": _title(x.lemma.statement), "rest": _rest(x.lemma.statement)}
                   for x in proof.lines],
        "command": replay.command,
    }  # fmt: skip


def _title(statement: str) -> str:
    return statement.partition(":")[0]


def _rest(statement: str) -> str:
    return statement.partition(":")[2].strip()
