"""Faults on purpose, each followed by the question whether anything was lost or silently wrong.

``python tests/robustness/harness.py`` tries all of them at full size and prints a table; ``--sample`` a few of each.
A try fails where a command ends with a traceback, with more than one sentence, or with numbers that are not those of
an undisturbed run and nobody said so.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedconv.cli import main
from fedconv.core.resume import run_to_store
from fedconv.core.store import load
from fedconv.problem_file.settings import dump_toml, load_settings
from fedconv.problems.errors import InputError
from fedconv.sweep.store import load_sweep

RUN: dict[str, Any] = {
    "problem": {"family": "trigonometric", "n": 4, "d_u": 2, "d_v": 1, "chi": 0.3, "seed": 1},
    "noise": {"law": "gaussian", "sigma_u": 0.3, "sigma_v": 0.3, "dependence": "independent"},
    "start": {"kind": "normal", "scale": 1.0, "seed": 2},
    "algorithm": {"name": "fedalt", "m": 2, "tau": 1, "eta": 0.1},
    "run": {"T": 3, "replicates": 35, "seed": 3, "level": "stationarity", "engine": "eager"},
}
SWEEP = RUN | {
    "algorithm": RUN["algorithm"] | {"name": ["fedalt", "fedsim"]},
    "run": RUN["run"] | {"replicates": 19, "level": "none"},
    "sweep": {"noise.sigma_v": [0.1, 0.5], "algorithm.eta": [0.02, 0.2]},
}
ODD = ["10" * 200, "-1", "0", "nan", "inf", "-inf", '""', "[]", "{}", "true", '"x"', f'"{"y" * 9999}"', "2020-01-01",
       "1e308", "5e-324", "-0.0", "[[]]", "[{}]", "9223372036854775808", "[1, 2]", "0.5"]  # fmt: skip
"""What a value of a file is replaced by, as TOML."""

KILLER = """
import os, signal, sys
left = int(sys.argv.pop(1))
def hook(event, arguments):
    global left
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "sqlite3.connect") or (
        event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    ):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
from fedconv.cli import main
sys.addaudithook(hook)
raise SystemExit(main(sys.argv[1:]))
"""


@dataclass
class Kind:
    """A kind of fault: how often it was tried, and a sentence for each try that failed."""

    name: str
    tried: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: str = ""

    def check(self, good: bool, sentence: str) -> None:
        self.tried += 1
        if not good:
            self.failed.append(sentence[:300])


def called(*arguments: str) -> tuple[int | None, str, str]:
    """(exit status, or None for a traceback; stdout; stderr) of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status: int | None = main(list(arguments))
        except Exception as error:
            return None, out.getvalue(), f"{type(error).__name__}: {error}"
    return status, out.getvalue(), err.getvalue()


def well_said(status: int | None, err: str) -> bool:
    """Done, or one sentence."""
    return status in (0, 1, 3) or (status == 2 and 1 <= err.count("\n") <= 1 and len(err) < 2000)


def written(folder: Path, spec: dict[str, Any], name: str = "my.toml") -> str:
    (folder / name).write_text(dump_toml(spec), encoding="utf-8")
    return str(folder / name)


def mutated_files(folder: Path, count: int, seed: int = 0) -> Kind:
    """Problem files with a value replaced, a line lost, doubled or cut, or a byte changed."""
    kind, rng = Kind("mutated problem files"), random.Random(seed)
    for number in range(count):
        command = rng.choice(["run", "sweep"])
        lines = dump_toml(SWEEP if command == "sweep" else RUN).splitlines()
        for _ in range(rng.choice([1, 1, 2])):
            at = rng.randrange(len(lines))
            key, equals, _ = lines[at].partition(" = ")
            how = rng.choice(["value", "value", "value", "lost", "twice", "cut", "byte", "key"])
            if how == "value" and equals:
                lines[at] = f"{key} = {rng.choice(ODD)}"
            elif how == "key" and equals:
                lines[at] = f"{key}{rng.choice(['x', '.x', '', 'é'])} = 1"
            elif how == "lost" and len(lines) > 1:
                del lines[at]
            elif how == "twice":
                lines.insert(at, lines[at])
            elif how == "cut":
                lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
            else:
                lines[at] = "".join(chr(rng.randrange(1, 300)) if rng.random() < 0.1 else c for c in lines[at])
        (folder / "mutated.toml").write_text("\n".join(lines), encoding="utf-8")
        store = folder / f"mutated-{number}"
        status, _, err = called(command, str(folder / "mutated.toml"), "--out", str(store), "--workers", "1")
        kind.check(well_said(status, err), f"{command} {number}: {status} {err}")
        for left in folder.glob(f"*mutated-{number}*"):
            shutil.rmtree(left, ignore_errors=True)
    return kind


def damage(folder: Path, rng: random.Random) -> str:
    """Something done to a random file of a store, in words."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "lock")
    one = rng.choice(files)
    content = bytearray(one.read_bytes())
    how = rng.choice(["bit", "bit", "bit", "cut", "lost", "empty", "swapped", "text", "longer"])
    if how == "bit" and content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        one.write_bytes(bytes(content))
    elif how == "cut":
        one.write_bytes(bytes(content[: rng.randrange(len(content) + 1)]))
    elif how == "lost":
        one.unlink()
    elif how == "swapped":
        other = rng.choice(files)
        one.write_bytes(other.read_bytes())
        other.write_bytes(bytes(content))
    elif how == "text":
        one.write_text("[" * 5000)
    elif how == "longer":
        one.write_bytes(bytes(content) * 2)
    else:
        one.write_bytes(b"")
    return f"{how} {one.relative_to(folder)}"


def damaged_stores(folder: Path, count: int, seed: int = 0) -> list[Kind]:
    """Run stores, sweeps and unfinished runs: read, and continued."""
    rng = random.Random(seed)
    run, sweep = written(folder, RUN, "run.toml"), written(folder, SWEEP, "sweep.toml")
    for command, file, name in (("run", run, "whole-run"), ("sweep", sweep, "whole-sweep")):
        assert called(command, file, "--out", str(folder / name), "--workers", "1")[0] == 0
    want, cells = load(folder / "whole-run"), load_sweep(folder / "whole-sweep")
    half = partial(folder, run)
    kinds = Kind("damaged run stores"), Kind("damaged sweeps"), Kind("damaged unfinished runs")
    for number in range(count):
        work = folder / f"damaged-{number}"
        shutil.copytree(folder / "whole-run", work)
        told = damage(work, rng)
        status, _, err = called("show", str(work))
        kinds[0].check(
            well_said(status, err) and (status != 0 or load(work).identical(want)), f"{told}: {status} {err}"
        )
        shutil.rmtree(work)

        shutil.copytree(folder / "whole-sweep", work)
        told = damage(work, rng)
        good = True
        for command in (["show", str(work)], ["sweep", sweep, "--out", str(work), "--workers", "1"]):
            status, _, err = called(*command)
            with contextlib.suppress(InputError):
                data = load_sweep(work)
                same = data["value"].where(data["done"]).identical(cells["value"].where(data["done"]))
                good = good and same and data["step"].identical(cells["step"])
            good = good and (status in (0, 1) or well_said(status, err))
        kinds[1].check(good, f"{told}: {status} {err}")
        shutil.rmtree(work)

        shutil.copytree(half, work.with_name(f"{work.name}.partial"))
        told = damage(work.with_name(f"{work.name}.partial"), rng)
        status, _, err = called("run", run, "--out", str(work), "--workers", "1")
        kinds[2].check(
            (status == 0 and load(work).identical(want)) or (status == 2 and well_said(status, err)),
            f"{told}: {status} {err}",
        )
        for left in (work, work.with_name(f"{work.name}.partial")):
            shutil.rmtree(left, ignore_errors=True)
    return list(kinds)


def partial(folder: Path, file: str) -> Path:
    """What a run leaves that is stopped before its last block."""
    settings = load_settings(file)
    done = 0

    def stop(count: int) -> None:
        nonlocal done
        done += count
        if done >= 32:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        run_to_store(
            settings.experiment(settings.algorithms[0], 0.1), settings.replicates, folder / "half",
            level=settings.level, engine=settings.engine, progress=stop,
        )  # fmt: skip
    return folder / "half.partial"


def paths() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}


def killed_at(operation: int, *arguments: str) -> list[str]:
    return [sys.executable, "-c", KILLER, str(operation), *arguments, "--workers", "1"]


def kills(
    folder: Path, operations: Sequence[int], moments: int, commands: Sequence[str] = ("run", "sweep"), seed: int = 0
) -> list[Kind]:
    """kill -9 before a file operation, and at random moments; then the same command again."""
    rng = random.Random(seed)
    run, sweep = written(folder, RUN, "run.toml"), written(folder, SWEEP, "sweep.toml")
    for command, file, name in (("run", run, "kept-run"), ("sweep", sweep, "kept-sweep")):
        assert called(command, file, "--out", str(folder / name), "--workers", "1")[0] == 0
    before, at_random = Kind("kills before a file operation"), Kind("kills at random moments")

    def again(kind: Kind, command: str, file: str, store: Path, told: str) -> None:
        status, _, err = called(command, file, "--out", str(store), "--workers", "1")
        try:
            if command == "run":
                good = load(store).identical(load(folder / "kept-run"))
            else:
                good = load_sweep(store)["value"].identical(load_sweep(folder / "kept-sweep")["value"])
        except InputError as error:
            good, err = False, str(error)
        left = [p.name for p in store.parent.iterdir() if store.name in p.name and p != store]
        kind.check(status == 0 and good and not left, f"{command} {told}: {status} {err} {left}")
        shutil.rmtree(store, ignore_errors=True)

    for command, file in {"run": run, "sweep": sweep}.items():
        if command not in commands:
            continue
        for operation in operations:
            store = folder / f"killed-{command}-{operation}"
            subprocess.run(killed_at(operation, command, file, "--out", str(store)), env=paths(), capture_output=True,
                           check=False)  # fmt: skip
            again(before, command, file, store, f"before operation {operation}")
        for number in range(moments):
            store = folder / f"shot-{command}-{number}"
            child = subprocess.Popen(
                [sys.executable, "-m", "fedconv", command, file, "--out", str(store), "--workers", "1"],
                env=paths(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            wait = rng.uniform(0.5, 6.0)
            time.sleep(wait)
            child.send_signal(signal.SIGKILL)
            child.wait()
            again(at_random, command, file, store, f"after {wait:.2f} s")
    return [before, at_random]


def options(folder: Path) -> Kind:
    """Odd options of every command."""
    kind = Kind("options")
    file = written(folder, RUN, "run.toml")
    odd = ["", "-1", "0", "nan", "x" * 100_000, "1" * 400, "\udcff", "/dev/zero", "/dev/null/x"]
    for value in odd:
        new = ["--out", str(folder / "o")]
        named = value or "?"
        for command in (
            ["show", value], ["run", value, *new], ["run", file, *new, "--replicates", value], ["sweep", value, *new],
            ["verify", value], ["verify", file, "--theorem", named], ["verify", file, "--error", value],
            ["advise", value], ["advise", "--n", value], ["prove", "--replay", value], ["regimes", "--preset", value],
            ["regimes", "--format", value], ["list", value], ["papers", named], ["figures", named],
            ["falsify", named], ["explore", named, "--out", str(folder / "p.html")],
        ):  # fmt: skip
            status, _, err = called(*command)
            kind.check(well_said(status, err), f"{command[0]} {[c[:30] for c in command[1:]]}: {status} {err}")
    return kind


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path | None]:
    """A tmpfs of that size, or None where none may be mounted."""
    place = folder / "disk"
    place.mkdir()
    mounted = shutil.which("mount") is not None and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=False)


def full_disk(folder: Path, sizes: list[str]) -> Kind:
    """Runs and sweeps on a disk that is too small; what is there afterwards is whole or refused."""
    kind = Kind("full disk")
    files = {"run": written(folder, RUN, "run.toml"), "sweep": written(folder, SWEEP, "sweep.toml")}
    for size in sizes:
        for command, file in files.items():
            with tempfile.TemporaryDirectory(dir=folder) as inner, small_disk(Path(inner), size) as disk:
                if disk is None:
                    kind.skipped = "skipped: no tmpfs may be mounted here"
                    return kind
                status, _, err = called(command, file, "--out", str(disk / "store"), "--workers", "1")
                good = well_said(status, err) and (status == 0 or str(disk) in err)
                shown, _, said = called("show", str(disk / "store"))
                kind.check(good and well_said(shown, said), f"{command} {size}: {status} {err} {shown} {said}")
    return kind


def table(kinds: list[Kind]) -> str:
    rows = [("fault", "tried", "failed"), *((k.name, str(k.tried), k.skipped or str(len(k.failed))) for k in kinds)]
    wide = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:<{wide}}  {tried:>6}  {failed:>6}" for name, tried, failed in rows)


def tried(folder: Path, *, sample: bool) -> list[Kind]:
    """All kinds of faults, a few of each or at full size."""

    def place(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    steps: list[Callable[[], list[Kind]]] = [
        lambda: [mutated_files(place("files"), 25 if sample else 1000)],
        lambda: damaged_stores(place("stores"), 4 if sample else 120),
        lambda: [options(place("options"))] if not sample else [],
        lambda: kills(place("kills"), [30], 0, ["run"]) if sample else kills(place("kills"), range(1, 130, 3), 20),
        lambda: [full_disk(place("disk"), ["64k"] if sample else [f"{k}k" for k in range(16, 400, 24)])],
    ]
    return [kind for step in steps for kind in step()]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        found = tried(Path(scratch), sample="--sample" in sys.argv)
    print(table(found))
    for one in found:
        for sentence in one.failed:
            print(json.dumps([one.name, sentence], ensure_ascii=False))
    sys.exit(any(one.failed for one in found))
