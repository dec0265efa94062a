"""A run that keeps its finished blocks of replicates: interrupted, it continues where it was."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedconv.core import store
from fedconv.core.files import locked
from fedconv.core.made import made_by, words
from fedconv.core.run import describe, iterate_blocks, spans
from fedconv.core.store import clear_leftovers, join, load
from fedconv.problems.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from fedconv.core.run import Runnable

MARKER, LOCK = "experiment.json", "lock"


def run_to_store(
    experiment: Runnable,
    replicates: int,
    path: Path | str,
    *,
    level: str = "stationarity",
    engine: str = "auto",
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
    note: Callable[[str], None] | None = None,
    restart: bool = False,
    allow_other_code: bool = False,
) -> xr.Dataset:
    """Run and save, resumable: finished blocks wait in ``PATH.partial`` and are not computed again.

    An interrupted run leaves only whole blocks behind; calling again with the same experiment continues and gives
    bit for bit what an uninterrupted run gives. Each block is compared with its checksums, its replicates and the
    experiment; one that is damaged or another's is computed again, and ``note`` is called with a sentence.

    ``restart``: what is there is computed anew, a finished store included, which stays until the new one is whole.
    Raises InputError for a partial folder of another experiment or in use, and where blocks were made by other code,
    unless ``allow_other_code``: then the attribute ``blocks_made_by`` says which replicates are whose.
    """
    target = Path(path)
    if replicates < 1:
        raise InputError(f"replicates must be at least 1; got {replicates}")
    _check_target(target, restart)
    chosen, reason = experiment.choose(engine)
    partial = partial_of(target)
    identity = _identity(experiment, replicates, level, chosen)
    if partial.exists() and not is_partial(partial):
        raise InputError(f"{partial} is not a folder of finished blocks; remove it or choose another path")
    partial.mkdir(parents=True, exist_ok=True)
    with locked(partial / LOCK, target):
        _check_target(target, restart)  # again: another process may have finished it meanwhile
        clear_leftovers(target)
        if restart:
            _clear(partial)
        _check_marker(partial, identity, allow_other_code)
        say = note or (lambda _: None)
        parts = {int(s[0]): partial / f"block-{s[0]:08d}.zarr" for s in spans(0, replicates)}
        made: dict[int, dict[str, str]] = {}
        todo: list[np.ndarray] = []
        for span in spans(0, replicates):
            part = parts[int(span[0])]
            clear_leftovers(part)
            if part.exists():
                try:
                    made[int(span[0])] = _checked(part, experiment, span, level, chosen)
                except InputError as error:
                    say(f"{error}; its replicates are computed again")
                    shutil.rmtree(part) if part.is_dir() else part.unlink()
            if int(span[0]) not in made:
                todo.append(span)
        others = [words(one) for one in made.values() if one != made_by()]
        if others and not allow_other_code:
            raise InputError(_other(partial, others[0]))
        for span in spans(0, replicates):
            if int(span[0]) in made and progress is not None:
                progress(len(span))
        for span, block in zip(todo, iterate_blocks(experiment, todo, level, chosen, workers), strict=True):
            trace = experiment.assemble([block], int(span[0]), describe([block], level, chosen, reason))
            store.save(trace, parts[int(span[0])])
            made[int(span[0])] = made_by()
            if progress is not None:
                progress(len(span))
        attrs = dict(load(parts[0]).attrs)
        attrs["diverged"] = sum(int(load(part).attrs["diverged"]) for part in parts.values())
        if others:
            attrs["blocks_made_by"] = json.dumps([[first, made[first]] for first in parts])
        join(list(parts.values()), target, attrs, overwrite=restart)
        _clear(partial)
    _remove(partial)
    return load(target)


def partial_of(target: Path) -> Path:
    """``PATH.partial``, where the blocks of an unfinished run wait."""
    return target.with_name(target.name + ".partial")


def is_partial(partial: Path) -> bool:
    """Whether a folder is one of finished blocks, or of a run that was killed before its first."""
    if not partial.is_dir():
        return False
    return (partial / MARKER).exists() or all(
        entry.name == LOCK or entry.name.startswith(f".{MARKER}.") for entry in partial.iterdir()
    )


def clear_finished(target: Path) -> None:
    """Remove what a process that was killed after its run was saved left beside the store; nothing where one is at
    work."""
    partial = partial_of(target)
    if not partial.exists():
        clear_leftovers(target)
        return
    if not is_partial(partial):
        return
    with contextlib.suppress(InputError), locked(partial / LOCK, target):
        clear_leftovers(target)
        _clear(partial)
    _remove(partial)


def same_run(trace: xr.Dataset, experiment: Runnable) -> bool:
    """Whether a trace is of this experiment, whatever code has made it."""
    start = experiment.start
    known = {k: v for k, v in experiment.provenance().items() if k != "versions"}
    return (
        all(trace.attrs.get(k) == v for k, v in known.items())
        and np.array_equal(trace["u_start"].values, start.u.cpu().numpy())
        and np.array_equal(trace["v_start"].values, start.v.cpu().numpy())
    )


def versions_of(attrs: Mapping[str, Any]) -> dict[str, str]:
    """What made a trace, as its attributes say; empty where they do not."""
    try:
        return {str(k): str(v) for k, v in dict(json.loads(attrs["versions"])).items()}
    except (KeyError, TypeError, ValueError):
        return {}


def _check_target(target: Path, restart: bool) -> None:
    if target.exists() and not restart:
        raise InputError(f"{target} exists already; choose another path or remove it")
    if target.exists() and not store.is_store(target):
        raise InputError(f"{target} exists and is not a fedconv store; it will not be overwritten")


def _identity(experiment: Runnable, replicates: int, level: str, engine: str) -> dict[str, Any]:
    start = experiment.start
    sum = zlib.crc32(start.u.cpu().numpy().tobytes() + start.v.cpu().numpy().tobytes())
    about = {"level": level, "engine": engine, "replicates": replicates, "start": sum}
    return json.loads(json.dumps(experiment.provenance() | about))


def _check_marker(partial: Path, identity: dict[str, Any], allow_other_code: bool) -> None:
    """Compare the partial folder's experiment with this one, or write it down where the folder is new."""
    marker = partial / MARKER
    if not marker.exists():
        draft = partial / f".{MARKER}.{uuid.uuid4().hex[:8]}.tmp"
        draft.write_text(json.dumps(identity, sort_keys=True), encoding="utf-8")
        os.replace(draft, marker)
        return
    try:
        known = dict(json.loads(marker.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError):
        raise InputError(
            f"{marker} is damaged: it does not say whose blocks these are; --restart computes them anew"
        ) from None
    versions = versions_of(known)
    if known | {"versions": ""} != identity | {"versions": ""}:
        raise InputError(f"{partial} holds blocks of another experiment; remove it or choose another path")
    if versions != made_by() and not allow_other_code:
        raise InputError(_other(partial, words(versions)))


def _other(partial: Path, who: str) -> str:
    return (
        f"{partial} was begun by {who}; here is {words(made_by())}: --restart computes all anew, --allow-other-code"
        " continues and keeps which block is of which"
    )


def _checked(part: Path, experiment: Runnable, span: np.ndarray, level: str, engine: str) -> dict[str, str]:
    """What made a finished block. Raises InputError where it is damaged, or not of these replicates of this run."""
    trace = load(part)
    same = (
        same_run(trace, experiment)
        and (trace.attrs.get("level"), trace.attrs.get("engine")) == (level, engine)
        and np.array_equal(trace["replicate"].values, span)
    )
    if not same:
        raise InputError(f"{part} holds other replicates, or another run")
    return versions_of(trace.attrs)


def _remove(partial: Path) -> None:
    """Remove the empty folder with its lock; not where somebody has begun something there meanwhile."""
    with contextlib.suppress(OSError):
        if [entry.name for entry in partial.iterdir()] == [LOCK]:
            (partial / LOCK).unlink()
            partial.rmdir()


def _clear(partial: Path) -> None:
    """Empty the folder but for the lock; the marker goes last, by which it is known."""
    for entry in sorted(partial.iterdir(), key=lambda entry: entry.name == MARKER):
        if entry.name == LOCK:
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
