"""A failed lemma on file: the state, and all that fixes the comparison, as plain data that can be checked again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedconv.analysis.proofs.lemmas import Lemma, lemma
from fedconv.analysis.proofs.replay import LemmaLine, Proof, Setup, check_lemma, check_proof_inputs
from fedconv.analysis.proofs.replay.decide import Finding
from fedconv.analysis.proofs.replay.round_copies import Visited, copies_of, every_outcome
from fedconv.analysis.theorems import theorem
from fedconv.analysis.theorems.split.facts import of_experiment
from fedconv.core.run import single_torch_thread
from fedconv.methods.split import ALGORITHMS, Algorithm
from fedconv.problems.base import check_array
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    from fedconv.core.run import Experiment

FORMAT = 1
MOST_COPIES = 1_000_000
_SAME = 1e-9
"""Relative difference up to which a replayed side is the saved one (another machine rounds differently)."""


@dataclass(frozen=True)
class Replayed:
    """A saved comparison made again: then (its sides and status) and now."""

    lemma: Lemma
    visited: Visited
    theorem: str
    then: Mapping[str, Any]
    now: Finding

    @property
    def same(self) -> bool:
        """Whether both sides and the status came out as saved."""
        pairs = ((self.then["lhs"], self.now.lhs), (self.then["rhs"], self.now.rhs))
        scale = max(abs(x) for pair in pairs for x in pair)
        near = all(math.isclose(a, b, rel_tol=_SAME, abs_tol=_SAME * scale) for a, b in pairs)
        return near and self.then["status"] == self.now.status


def as_data(proof: Proof, line: LemmaLine, experiment: Experiment, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The state where a lemma does worst, with everything that :func:`replay` needs. ``spec``: the problem file."""
    visited, finding = line.worst
    setup = proof.setup
    return {
        "format": FORMAT,
        "lemma": line.lemma.key,
        "statement": line.lemma.statement,
        "theorem": setup.theorem.key,
        "copies": setup.copies,
        "error": setup.error,
        "visited_diversity": setup.inputs.values["delta"] ** 2 if setup.visited_diversity else -1.0,
        "found": {
            "status": finding.status,
            "client": -1 if finding.client is None else finding.client,
            "lhs": finding.lhs,
            "rhs": finding.rhs,
            "low": finding.low,
            "high": finding.high,
        },
        "parameters": setup.parameters,
        "state": {
            "replicate": visited.replicate,
            "round": visited.round,
            "u": visited.u.tolist(),
            "v": visited.v.tolist(),
        },
        "algorithm": experiment.algorithm.to_dict(),
        "file": dict(spec),
    }


def replay(data: Mapping[str, Any], experiment: Experiment, where: str) -> Replayed:
    """Make a saved comparison again. ``experiment``: of the problem file in ``data`` with its algorithm; ``where``
    names the file in errors. Raises InputError for data that :func:`as_data` did not write."""
    need(data, where, "lemma", "theorem", "copies", "error", "visited_diversity", "found", "parameters", "state")
    try:
        state, problem = data["state"], experiment.problem
        visited = Visited(
            int(state["replicate"]), int(state["round"]), check_array("state.u", state["u"], (problem.d_u,)),
            check_array("state.v", state["v"], (problem.n, problem.d_v)),
        )  # fmt: skip
        chosen, one = theorem(data["theorem"]), lemma(experiment.algorithm.name, data["lemma"])
        check_proof_inputs(experiment, chosen)
        inputs = of_experiment(experiment)
        use = data["visited_diversity"] >= 0
        if use:
            inputs = inputs.with_diversity(data["visited_diversity"])
        parameters = {k: float(x) for k, x in data["parameters"].items()}
        chosen.check_parameters(parameters, inputs.values)
        copies, error = int(data["copies"]), float(data["error"])
        found = data["found"]
        then = {"lhs": float(found["lhs"]), "rhs": float(found["rhs"]), "status": str(found["status"])}
        fits = 1 <= copies <= MOST_COPIES and 0 < error < 0.5
    except InputError as refused:
        raise InputError(f"{where}: {refused}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as broken:
        raise InputError(f"{where}: is not a state that `fedconv prove` saved: {broken!r}") from None
    if not fits:
        raise InputError(f"{where}: copies must be 1 to {MOST_COPIES} and error in (0, 0.5); got {copies} and {error}")
    setup = Setup(chosen, inputs, parameters, use, copies, error)
    with single_torch_thread():
        (drawn,) = copies_of(experiment, [visited], copies, setup.L, every_outcome(experiment))
        return Replayed(one, visited, chosen.key, then, check_lemma(experiment, setup, one, visited, drawn))


def algorithm_of(data: Mapping[str, Any], where: str) -> Algorithm:
    """The algorithm of a saved state; InputError where there is none."""
    need(data, where, "algorithm", "file")
    table = dict(data["algorithm"]) if isinstance(data["algorithm"], Mapping) else {}
    name = str(table.pop("name", None))
    if name not in ALGORITHMS:
        raise InputError(f"{where}: algorithm.name must be one of {', '.join(ALGORITHMS)}; got {name!r}")
    try:
        return ALGORITHMS[name](**table)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{where}: algorithm: {error}") from None


def need(data: Mapping[str, Any], where: str, *keys: str) -> None:
    """Raise InputError where a key of a saved state is missing."""
    missing = [k for k in keys if k not in data]
    for k in ("found", "parameters", "state", "file"):
        if k in keys and not missing and not isinstance(data[k], Mapping):
            raise InputError(f"{where}: is not a state that `fedconv prove` saved: {k} is no table")
    if missing:
        raise InputError(f"{where}: is not a state that `fedconv prove` saved: {missing[0]} is missing")


def name_of(line: LemmaLine) -> str:
    """File name for a failed lemma: ``failed-L1-c_replaced.toml``."""
    key = line.lemma.key.replace("'", "-prime").replace(":", "-")
    return f"failed-{key}.toml"
