"""``fedconv run``: a problem file's algorithms, each into a store of its own, resumable."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedconv.analysis.theorems import THEOREMS, theorem
from fedconv.analysis.theorems.registry import methods, statement, statements
from fedconv.analysis.verdicts.verify import bounds, resolve_step
from fedconv.commands import Interrupted
from fedconv.commands.console import chosen_workers, note, progress
from fedconv.core.made import made_by, words
from fedconv.core.resume import clear_finished, run_to_store, same_run, versions_of
from fedconv.core.run import Runnable
from fedconv.core.store import load
from fedconv.problem_file.schema import MOST_REPLICATES
from fedconv.problem_file.settings import AlgorithmSpec, Settings, load_settings
from fedconv.problems.errors import InputError


def run_file(
    file: Path,
    out: Path,
    *,
    replicates: int | None,
    level: str | None,
    engine: str | None,
    workers: int | None,
    algorithms: Sequence[str] | None,
    restart: bool = False,
    allow_other_code: bool = False,
) -> int:
    """Run every algorithm of the file, or those named; see ``fedconv run --help`` for the stores' names."""
    if replicates is not None and not 1 <= replicates <= MOST_REPLICATES:
        raise InputError(f"--replicates must be an integer from 1 to {MOST_REPLICATES}; got {replicates}")
    if restart and allow_other_code:
        raise InputError("--allow-other-code must be left out with --restart, which continues nothing; got both")
    settings = load_settings(file)
    settings = replace(
        settings,
        replicates=replicates or settings.replicates,
        level=level or settings.level,
        engine=engine or settings.engine,
    )
    chosen = select(settings, algorithms)
    stores = [out if len(chosen) == 1 else suffixed(out, spec.name) for spec in chosen]
    jobs = [(experiment_of(settings, spec, str(file)), store) for spec, store in zip(chosen, stores, strict=True)]
    finished = {store: not restart and is_finished(store, experiment, settings) for experiment, store in jobs}
    side_by_side = chosen_workers(workers)
    for experiment, store in jobs:
        if finished[store]:
            clear_finished(store)
            note(f"{store} is finished already: nothing to do")
        else:
            _run_one(experiment, store, settings, side_by_side, restart, allow_other_code)
    return 0


def select(settings: Settings, algorithms: Sequence[str] | None) -> list[AlgorithmSpec]:
    """The file's algorithms, or those named. Raises InputError for a name that the file does not have."""
    have = [spec.name for spec in settings.algorithms]
    for name in algorithms or ():
        if name not in have:
            raise InputError(f"--algorithm must be one of the file's: {', '.join(have)}; got {name!r}")
    return [spec for spec in settings.algorithms if algorithms is None or spec.name in algorithms]


def suffixed(store: Path, algorithm: str) -> Path:
    """``runs.zarr`` → ``runs-fedalt.zarr``."""
    return store.with_name(f"{store.stem}-{algorithm}{store.suffix}")


def experiment_of(settings: Settings, spec: AlgorithmSpec, where: str) -> Runnable:
    """The experiment with its step size; "best" and "max" belong to a theorem (see ``fedconv run --help``)."""
    if spec.method is not None:
        return _method_experiment(settings, spec, where)
    if not isinstance(spec.eta, str):
        return settings.experiment(spec, spec.eta)
    fits = bounds(spec.name)
    if settings.verify.theorems is not None:
        named = [theorem(key) for key in settings.verify.theorems if key in THEOREMS]
        fits = [t for t in named if t in fits][:1]
    if not fits:
        raise InputError(f'{where}: algorithm.eta: "{spec.eta}" needs a theorem about {spec.name} in verify.theorems')
    unscaled = settings.experiment(spec, 0.1)
    try:
        eta = resolve_step(unscaled, fits[-1], spec.eta, settings.verify.a_posteriori)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    note(f"{unscaled.name}: eta = {eta:.6g} ({spec.eta} step of theorem {fits[-1].key})")
    return unscaled.with_eta(eta)


def _method_experiment(settings: Settings, spec: AlgorithmSpec, where: str) -> Runnable:
    """A method's experiment; ``eta = "max"`` is the largest step of the one theorem in verify.theorems."""
    if not isinstance(spec.eta, str):
        return settings.runnable(spec)
    named = [s for key in settings.verify.theorems or () if key in statements() for s in (statement(key),)]
    if len(named) != 1 or spec.name not in named[0].algorithms:
        raise InputError(f'{where}: algorithm.eta: "{spec.eta}" needs one theorem about {spec.name} in verify.theorems')
    before = methods()[spec.name].before(settings.runnable(spec, 0.5))
    gamma = named[0].largest_step(before)
    if not 0 < gamma < math.inf:
        raise InputError(f"{where}: algorithm.eta: theorem {named[0].key} admits no largest step here; give a number")
    note(f"{settings.name}/{spec.name}: gamma = {gamma:.6g} (largest step of theorem {named[0].key})")
    return settings.runnable(spec, gamma=gamma)


def is_finished(store: Path, experiment: Runnable, settings: Settings) -> bool:
    """Whether the store holds this very run. Raises InputError where it holds anything else."""
    if not store.exists():
        return False
    trace = load(store)
    same = (
        same_run(trace, experiment)
        and trace.attrs["level"] == settings.level
        and trace.sizes["replicate"] == settings.replicates
    )
    if not same:
        raise InputError(f"{store} exists already and holds another run; choose another --out or remove it")
    if (versions := versions_of(trace.attrs)) != made_by():
        note(f"{store} was computed by {words(versions)}; here is {words(made_by())}; --restart computes anew")
    return True


def _run_one(
    experiment: Runnable, store: Path, settings: Settings, workers: int, restart: bool, allow_other_code: bool
) -> None:
    done = 0
    with progress() as bar:
        task = bar.add_task(experiment.name, total=settings.replicates)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar.update(task, completed=done)

        try:
            trace = run_to_store(
                experiment,
                settings.replicates,
                store,
                level=settings.level,
                engine=settings.engine,
                workers=workers,
                progress=advance,
                note=note,
                restart=restart,
                allow_other_code=allow_other_code,
            )
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted: {done} of {settings.replicates} replicates are kept in {store}.partial;"
                " the same command continues there"
            ) from None
    engine = f"{trace.attrs['engine']} engine ({trace.attrs['engine_reason']})"
    diverged = f", {trace.attrs['diverged']} diverged" if trace.attrs["diverged"] else ""
    name = json.loads(trace.attrs["algorithm"])["name"]
    note(f"{store}: {settings.replicates} replicates of {name}, {settings.T} rounds{diverged}; {engine}")
