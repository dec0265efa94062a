"""``fedconv algebra``: the algebra from the lemmas to the theorems, step by step."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from fedconv.analysis.proofs.algebra import LAYERS, PROVED, layers
from fedconv.analysis.proofs.algebra.inequalities import Step
from fedconv.analysis.theorems import Theorem, theorem
from fedconv.commands.console import progress, stdout
from fedconv.problems.errors import InputError

Found = dict[str, dict[str, list[Step]]]
"""Steps by theorem and layer."""


def show_algebra(keys: Sequence[str], steps: bool, mutant: str | None) -> int:
    """Check the theorems of those keys (all where none is given), or a weakened version; 1 where a step fails."""
    theorems = chosen(keys, mutant)
    found: Found = {}
    with progress() as bar:
        task = bar.add_task("algebra", total=len(theorems))
        for one in theorems:
            bar.update(task, description=one.key)
            found[one.key] = layers(one)
            bar.advance(task)
    console = stdout()
    if steps:
        console.print(step_table(found))
    console.print(table(found))
    for line in summary(found):
        console.print(line, markup=False, soft_wrap=True)
    return 1 if any(not step.ok for _, _, step in flat(found)) else 0


def chosen(keys: Sequence[str], mutant: str | None) -> list[Theorem]:
    """The theorems of those keys in the order given, all where none is; ``mutant``: its weakened version of that key.

    Raises InputError for an unknown theorem or mutant, and for a mutant with more or fewer than one theorem.
    """
    if mutant is not None:
        if len(keys) != 1:
            raise InputError(f"--mutant needs one theorem; got {len(keys)}")
        one = theorem(keys[0])
        return [one.mutate(one.mutant(mutant))]
    return [theorem(key) for key in dict.fromkeys(keys or PROVED)]


def flat(found: Found) -> list[tuple[str, str, Step]]:
    """Every step with its theorem and layer, in order."""
    return [(key, layer, step) for key, by_layer in found.items() for layer in LAYERS for step in by_layer[layer]]


def table(found: Found) -> Table:
    """One row for each theorem: the number of steps of each layer, of all, and of those that fail."""
    out = Table("theorem", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in (*LAYERS, "steps", "failed"):
        out.add_column(name, justify="right")
    for key, by_layer in found.items():
        counts = [len(by_layer[layer]) for layer in LAYERS]
        failed = sum(not step.ok for steps in by_layer.values() for step in steps)
        out.add_row(escape(key), *map(str, (*counts, sum(counts), failed)))
    return out


def step_table(found: Found) -> Table:
    """One row for each step."""
    out = Table("theorem", "layer", "step", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    out.add_column("what is checked", overflow="fold")
    out.add_column("holds")
    for key, layer, step in flat(found):
        out.add_row(escape(key), layer, escape(step.name), escape(step.statement), "yes" if step.ok else "no")
    return out


def summary(found: Found) -> list[str]:
    """A sentence for each theorem, one for each step that fails, and what the proofs take as given."""
    out = []
    for key in found:
        mine = [(layer, step) for owner, layer, step in flat(found) if owner == key]
        failed = [(layer, step) for layer, step in mine if not step.ok]
        out.append(
            f"{key}: " + (f"{len(failed)} of {len(mine)} steps fail" if failed else f"all {len(mine)} steps hold")
        )
        out += [f"  fails in {layer}, {step.name}: {step.statement}" for layer, step in failed]
    names = {step.uses.name for _, _, step in flat(found) if step.uses and step.uses.given}
    return [*out, f"taken as given: {', '.join(sorted({'A1', *names}))}"]
