"""``fedconv prove``: a proof replayed along a run, lemma by lemma, and where the bound loses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

from fedconv.analysis.pages.numerals import plain
from fedconv.analysis.proofs.chain import CHAINS
from fedconv.analysis.proofs.lemmas import LEMMAS
from fedconv.analysis.proofs.replay import Proof, prove
from fedconv.analysis.proofs.replay.decide import RESOLUTION
from fedconv.analysis.proofs.replay.saved import Replayed, algorithm_of, as_data, name_of, replay
from fedconv.analysis.proofs.replay.waterfall import Waterfall
from fedconv.analysis.theorems import THEOREMS, theorem
from fedconv.analysis.verdicts.verdict import word_of
from fedconv.analysis.verdicts.verify import resolve_step
from fedconv.commands.console import note, number, progress, stdout
from fedconv.core.files import read_toml
from fedconv.problem_file.schema import suggestion
from fedconv.problem_file.settings import Settings, dump_toml, load_settings, settings_from
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    from fedconv.analysis.proofs.replay.decide import Finding
    from fedconv.core.run import Experiment

DEFAULT = {"fedalt": "FA", "fedsim": "FS"}
_COLOURS = {
    "holds": "green", "holds_approximate": "cyan", "violated": "bold red", "violated_approximate": "magenta",
    "inconclusive": "yellow",
}  # fmt: skip


def prove_file(
    algorithm: str | None,
    file: Path | None,
    *,
    theorem_key: str | None,
    states: int,
    copies: int,
    out: Path | None,
    mutant: str | None,
    replayed: Path | None,
) -> int:
    """Replay a proof and print it, or replay a saved state; 1 where a lemma is violated."""
    if replayed is not None:
        if algorithm is not None or file is not None:
            raise InputError("--replay takes its own file; leave out the algorithm and FILE")
        return show_replay(replay_file(replayed))
    if algorithm is None or file is None:
        raise InputError(f"give an algorithm ({' or '.join(LEMMAS)}) and a problem file, or --replay FILE")
    if algorithm not in LEMMAS:
        hint = suggestion(algorithm, tuple(LEMMAS))
        raise InputError(
            f"the algorithm must be {' or '.join(LEMMAS)}; got {algorithm!r}" + (f"; {hint}" if hint else "")
        )
    key = theorem_key or DEFAULT[algorithm]
    if key not in CHAINS or algorithm not in THEOREMS[key].algorithms:
        fit = [k for k in CHAINS if algorithm in THEOREMS[k].algorithms]
        raise InputError(f"--theorem must be one of {', '.join(fit)} for {algorithm}; got {key!r}")
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out must be a folder to write; {out} is a file")
    settings = load_settings(file)
    try:
        experiment = experiment_of(settings, algorithm, key)
        proof = run_proof(settings, experiment, key, states=states, copies=copies, mutant=mutant)
    except InputError as problem:
        raise InputError(f"{file}: {problem}" if not str(problem).startswith(str(file)) else str(problem)) from problem
    show(proof)
    if out is not None:
        note(f"figure and numbers written to {write(proof, out)}")
    save_failures(proof, experiment, settings, out)
    return 1 if proof.failed else 0


def experiment_of(settings: Settings, algorithm: str, key: str) -> Experiment:
    """The file's experiment of that algorithm; ``eta = "best"`` or ``"max"`` is the theorem's."""
    spec = next((s for s in settings.algorithms if s.name == algorithm), None)
    if spec is None:
        names = ", ".join(s.name for s in settings.algorithms)
        raise InputError(f"algorithm.name must contain {algorithm} for this proof; got {names}")
    if not isinstance(spec.eta, str):
        return settings.experiment(spec, spec.eta)
    unscaled = settings.experiment(spec, 0.1)
    return unscaled.with_eta(resolve_step(unscaled, theorem(key), spec.eta))


def run_proof(
    settings: Settings, experiment: Experiment, key: str, *, states: int, copies: int, mutant: str | None = None
) -> Proof:
    """The proof with a progress bar."""
    with progress() as bar:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        return prove(
            experiment, theorem(key), parameters=settings.verify.parameters, states=states, copies=copies,
            mutant=mutant, progress=tell,
        )  # fmt: skip


def show(proof: Proof) -> None:
    """Print the lemma table, the waterfall and what the numbers are worth."""
    console = stdout()
    for line in heading(proof):
        console.print(line, markup=False, soft_wrap=True)
    console.print(lemma_table(proof))
    console.print(waterfall_table(proof.waterfall))
    for line in summary(proof):
        console.print(line, markup=False, soft_wrap=True)


def heading(proof: Proof) -> list[str]:
    """What was replayed."""
    values = proof.setup.inputs.values
    given = ", ".join(f"{k} = {number(x)}" for k, x in proof.setup.parameters.items())
    lines = [
        f"{proof.name}: proof of {proof.setup.theorem.key}, eta = {number(values['eta'], 6)}, m = {values['m']:g} of"
        f" n = {values['n']:g}; {given}"
    ]
    return lines + [f"the theorem does not apply here: {sentence}" for sentence in proof.unmet]


def lemma_table(proof: Proof) -> Table:
    """A line for each lemma."""
    out = Table("lemma", "kind", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    out.add_column("states", justify="right")
    out.add_column("undecided", justify="right")
    out.add_column("tightness", justify="right")
    out.add_column("verdict")
    out.add_column("what it says", overflow="fold")
    for line in proof.lines:
        head = line.lemma.statement if line.lemma.mutant_of else line.lemma.statement.partition(":")[0]
        out.add_row(
            escape(line.lemma.key), line.lemma.kind, str(len(line.findings)), str(line.undecided or ""),
            number(line.tightness, 3), f"[{_COLOURS[line.category]}]{word_of(line.category)}[/]", escape(head),
        )  # fmt: skip
    return out


def waterfall_table(fall: Waterfall) -> Table:
    """From the measured left-hand side to the bound."""
    out = Table("step of the proof", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("adds", "share", "limits"):
        out.add_column(name, justify="right", overflow="fold")
    out.add_column("what it does", overflow="fold")
    out.add_row("measured", number(fall.measured), "", "", "left-hand side of the theorem")
    for part in fall.parts:
        share = f"{100 * part.slack / fall.total:.1f} %" if fall.total > 0 else ""
        if part.low == part.high:
            limits = "exact" if part.kind != "dropped" else ""
        else:
            limits = f"[{number(part.low, 3)}, {number(part.high, 3)}]" if part.high < float("inf") else ""
        sign = "=" if part.kind == "equality" else ""
        out.add_row(escape(part.label), number(part.slack), share, limits, escape(f"{sign} {part.words}".strip()))
    out.add_row("bound", number(fall.bound), "100 %", "", f"total slack {number(fall.total)}")
    return out


def summary(proof: Proof) -> list[str]:
    """How sure the verdicts are, what the waterfall is about, and each lemma that fails."""
    fall = proof.waterfall
    seen = {k: sum(x.category == k for x in proof.lines) for k in _COLOURS}
    counted = ", ".join(f"{x} {word_of(k)}" for k, x in seen.items() if x)
    how = "all outcomes of a round" if proof.exact else f"{proof.setup.copies} copies of the round"
    sure = "no sampling error" if proof.exact else f"error of each limit {proof.setup.error:.2g}"
    if any(x.approximate for x in proof.lines):
        sure += ", approximate where the verdict is: Student's, from copies"
    lines = [f"{len(proof.lines)} lemmas at {proof.states} states, {how} at each: {counted}; {sure}"]
    if not proof.exact and any(x.lemma.kind == "equality" for x in proof.lines):
        lines.append(f"an equality holds where its limits enclose 0 within {RESOLUTION:.0%} of its sides' mean size")
    rounds = "all" if fall.complete else f"{fall.rounds} evenly spaced ones of the"
    each = "all outcomes" if fall.exact else f"{fall.copies} copies"
    replicates = f"{fall.replicates} replicate{'s' if fall.replicates != 1 else ''}"
    lines.append(
        f"waterfall: averages over {rounds} {fall.T} rounds of {replicates}, {each} each; '=' marks equalities, which"
        " add sampling error alone"
    )
    if any(p.kind == "sampling" for p in fall.parts):
        extra = ", and what the rounds left out change" if not fall.complete else "; 0 in expectation"
        lines.append(f"sampling: how the descent expected at the visited states differs from the run's{extra}")
    undecided: dict[str, list[str]] = {}
    for line in proof.lines:
        if line.status == "inconclusive":
            undecided.setdefault(line.worst[1].reason, []).append(line.lemma.key)
    lines += [f"undecided: {', '.join(keys)}: {reason}" for reason, keys in undecided.items()]
    for line in proof.failed:
        visited, finding = line.worst
        lines.append(
            f"{line.lemma.key} fails at round {visited.round} of replicate {visited.replicate}{_client(finding)}:"
            f" {finding.reason}"
        )
    return lines


def _client(finding: Finding) -> str:
    return "" if finding.client is None else f", client {finding.client}"


def write(proof: Proof, out: Path) -> Path:
    """``waterfall.svg`` and ``proof.json`` in a folder."""
    from fedconv.figures.waterfall import one as waterfall

    out.mkdir(parents=True, exist_ok=True)
    waterfall.write(proof.waterfall, title_of(proof), out / "waterfall.svg")
    data = {
        "name": proof.name,
        "algorithm": proof.algorithm,
        "theorem": proof.setup.theorem.key,
        "parameters": proof.setup.parameters,
        "inputs": proof.setup.inputs.values,
        "unmet": list(proof.unmet),
        "lemmas": [
            {
                "lemma": x.lemma.key, "statement": x.lemma.statement, "latex": x.lemma.latex(), "kind": x.lemma.kind,
                "quantities": x.lemma.quantities, "status": x.status, "approximate": x.approximate,
                "tightness": x.tightness,
                "findings": [{"round": s.round, "replicate": s.replicate, **f.__dict__} for s, f in x.findings],
            }
            for x in proof.lines
        ],
        "waterfall": proof.waterfall.to_dict(),
    }  # fmt: skip
    (out / "proof.json").write_text(json.dumps(plain(data), indent=1, ensure_ascii=False, allow_nan=False))
    return out


def title_of(proof: Proof) -> str:
    """The figure's title."""
    return f"{proof.name}: where {proof.setup.theorem.key} loses"


def save_failures(proof: Proof, experiment: Experiment, settings: Settings, out: Path | None) -> None:
    """Save the worst state of every failed lemma, in the ``--out`` folder or the current one, and say so."""
    folder = out or Path()
    folder.mkdir(parents=True, exist_ok=True)
    for line in proof.failed:
        path = folder / name_of(line)
        path.write_text(dump_toml(as_data(proof, line, experiment, settings.spec)), encoding="utf-8")
        note(f"{line.lemma.key}: state saved to {path}; `fedconv prove --replay {path}` checks it again")


def replay_file(path: Path) -> Replayed:
    """Check a saved state again; InputError for a file that this command did not write."""
    data = read_toml(path, "`fedconv prove` saves one where a lemma fails")
    algorithm = algorithm_of(data, str(path))
    settings = settings_from(data["file"], str(path))
    spec = next((s for s in settings.algorithms if s.name == algorithm.name), None)
    if spec is None:
        raise InputError(f"{path}: file.algorithm.name must contain {algorithm.name}")
    eta = 0.1 if isinstance(spec.eta, str) else spec.eta
    experiment = replace(settings.experiment(spec, eta), algorithm=algorithm)
    return replay(data, experiment, str(path))


def show_replay(found: Replayed) -> int:
    """Print both sides then and now; 1 where the lemma is violated."""
    now, console = found.now, stdout()
    table = Table("", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("lhs", "rhs", "verdict"):
        table.add_column(name, justify="right")
    table.add_row("saved", number(found.then["lhs"], 9), number(found.then["rhs"], 9), found.then["status"])
    table.add_row("now", number(now.lhs, 9), number(now.rhs, 9), now.status)
    console.print(
        f"{found.lemma.key} ({found.theorem}), round {found.visited.round} of replicate {found.visited.replicate}"
        f"{_client(now)}: {found.lemma.statement}", markup=False, soft_wrap=True,
    )  # fmt: skip
    console.print(table)
    console.print("the same comparison" if found.same else "NOT the same comparison", markup=False)
    console.print(now.reason, markup=False, soft_wrap=True)
    return 1 if now.status == "violated" else 0
