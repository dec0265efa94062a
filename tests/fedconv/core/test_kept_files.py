"""Kept files of claims, runs and figures, and what a process asks of its machine: said, never silently wrong."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fedconv.analysis.theorems.registry import statement
from fedconv.commands import console
from fedconv.commands.papers import kept as papers_saved
from fedconv.commands.regimes import regimes_file
from fedconv.core import netcdf, processes
from fedconv.core.run import iterate_blocks
from fedconv.problems.compiled import jit
from fedconv.problems.errors import InputError
from fedconv.problems.modules import data
from fedconv.problems.validation import listed
from fedconv.sweep import runner

ROOT = Path(__file__).resolve().parents[3]


def example() -> xr.Dataset:
    return xr.Dataset(
        {
            "a": (["x", "word"], np.array([[1.5, np.nan], [np.inf, -0.0]]), {"units": "F", "levels": [1, 2]}),
            "b": (["x"], np.array([True, False])),
            "c": ([], 3),
            "d": (["x"], np.array([1, 2**31 - 1])),
        },
        coords={"x": [0, 1], "word": ["one", "zwölf"]},
        attrs={"name": "n", "count": 3, "share": 0.1, "list": [1.0, 2.0], "empty": "", "flag": "true"},
    )


# ---- netCDF ------------------------------------------------------------------------------------------------


def test_a_kept_file_is_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    netcdf.save(example(), tmp_path / "a.nc")
    back = netcdf.load(tmp_path / "a.nc", "x")
    np.testing.assert_array_equal(back["a"].values, example()["a"].values)
    assert netcdf.CHECKSUM not in back.attrs
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.assign(a=d["a"] * (1 + 1e-15)),
        lambda d: d.assign_coords(word=["one", "two"]),
        lambda d: d.assign_attrs(name="m"),
        lambda d: d.assign_attrs(share=0.2),
        lambda d: d.rename(a="e"),
        lambda d: d.drop_vars("b"),
        lambda d: d.transpose(),
        lambda d: d.assign(b=d["b"][::-1].drop_vars("x")),
    ],
)
def test_a_kept_file_with_other_content_is_refused(change, tmp_path: Path) -> None:
    netcdf.save(example(), tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine="scipy") as held:
        raw = held.load()
    change(raw).to_netcdf(tmp_path / "b.nc", engine="scipy")
    with pytest.raises(InputError, match=r"b\.nc cannot be read as data of x: by its checksum it is not what was"):
        netcdf.load(tmp_path / "b.nc", "x")


def test_a_file_from_before_checksums_is_read_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example().to_netcdf(tmp_path / "old.nc", engine="scipy")
    assert netcdf.load(tmp_path / "old.nc", "x").sizes["x"] == 2
    assert "old.nc was written before files kept checksums: it cannot be verified" in capsys.readouterr().err


# ---- JSON --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("0.25", "0.26"),
        lambda text: text.replace('"a"', '"b"'),
        lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "checksum"}),
        lambda text: text[:-5],
        lambda text: "{}",
    ],
)
def test_a_claims_file_is_what_was_written(change, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    papers_saved._write(path, {"a": [0.25, 1e-300, "Ω"], "t": (1, 2)}, "one")
    assert json.loads(papers_saved._read(path, "one"))["a"][0] == 0.25
    with pytest.raises(ValueError, match="not what was written"):
        papers_saved._read(path, "another claim")
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ValueError):  # noqa: PT011
        papers_saved._read(path, "one")


# ---- the machine -------------------------------------------------------------------------------------------


def test_there_are_at_most_as_many_workers_as_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    import fedconv.core.run as runs

    asked: list[int] = []
    pool = runs.ThreadPoolExecutor

    def recorded(workers: int) -> object:
        asked.append(workers)
        return pool(workers)

    monkeypatch.setattr(runs, "ThreadPoolExecutor", recorded)

    class Trial:
        seed = 0

        def block(self, streams: object, replicates: np.ndarray, level: str, engine: str) -> dict[str, np.ndarray]:
            return {"F_final": replicates.astype(float)}

    blocks = [np.array([k]) for k in range(3)]
    found = list(iterate_blocks(Trial(), blocks, "none", "eager", 1000))  # pyright: ignore[reportArgumentType]
    assert [float(x["F_final"][0]) for x in found] == [0.0, 1.0, 2.0]
    assert asked == [3]
    monkeypatch.setattr(runner, "side_by_side", lambda f, calls, workers, *_: asked.append(workers) or _none(calls))
    from fedconv.sweep.grid import grid_from

    spec = {
        "problem": {"family": "trigonometric", "n": 2, "d_u": 1, "d_v": 1},
        "algorithm": {"name": "fedalt", "m": 1, "tau": 1},
        "run": {"T": 1, "replicates": 1},
        "sweep": {"algorithm.eta": ["best"], "noise.sigma_u": [0.1, 0.2]},
    }
    with pytest.raises(ValueError, match="zip"):
        runner.resolved(grid_from(spec, "x"), lambda *_: 0.1, 1000)
    assert asked == [3, 2]


def _none(calls):
    list(calls)
    yield from ()


def test_more_workers_than_cores_are_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "cores", lambda: 2)
    assert [console.chosen_workers(x) for x in (None, 1, 2)] == [2, 1, 2]
    assert capsys.readouterr().err == ""
    assert console.chosen_workers(3) == 3
    assert "--workers 3 is more than the 2 cores here" in capsys.readouterr().err


def test_trackers_run_before_the_mask_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracker of the standard library takes Ctrl-C off the mask when it starts."""
    order: list[str] = []
    monkeypatch.setattr(processes, "_start_trackers", lambda: order.append("trackers"))
    mask = processes.signal.pthread_sigmask
    monkeypatch.setattr(processes.signal, "pthread_sigmask", lambda *a: order.append("mask") or mask(*a))
    with processes.without_interrupts():
        order.append("inside")
    assert order == ["trackers", "mask", "inside", "mask"]


def test_both_trackers_are_started() -> None:
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as of_joblib

    processes._start_trackers()
    assert resource_tracker._resource_tracker._fd is not None  # pyright: ignore[reportAttributeAccessIssue]
    assert of_joblib._resource_tracker._fd is not None


def test_a_cache_that_cannot_be_written_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(jit._SAID, "")
    monkeypatch.setattr(jit, "cache_folder", lambda package: None)
    for _ in range(2):
        jit.njit()(lambda x: x)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "set NUMBA_CACHE_DIR to a folder that can be written" in err


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", X=np.ones((3, 2)), y=np.ones(3))
    size = sum(x.file_size for x in zipfile.ZipFile(tmp_path / "a.npz").infolist())
    monkeypatch.setattr(data, "LARGEST_UNPACKED", size)
    assert len(data.load_folder(tmp_path)) == 1
    array = io.BytesIO()
    np.save(array, np.zeros(10_000))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", array.getvalue())
        archive.writestr("y.npy", array.getvalue())
    with pytest.raises(InputError, match=r"a\.npz must unpack to at most"):
        data.load_folder(tmp_path)


def test_no_module_needs_what_only_linux_has() -> None:
    """All modules are imported where fcntl and resource are missing and os has no sched_getaffinity."""
    code = """
import importlib, os, pkgutil, sys
for name in ("fcntl", "resource"):
    sys.modules[name] = None
if hasattr(os, "sched_getaffinity"):
    del os.sched_getaffinity
import analysis, fedconv, figures, paper_checks, problems
for package in (problems, fedconv, analysis, figures, paper_checks):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
from fedconv.commands.console import cores
assert cores() >= 1
"""
    paths = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_preset_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--preset must be one of W2"):
        regimes_file(
            None, tmp_path, name="", quick=True, dependence=None, error=0.01, formats="svg", workers=1
        )  # fmt: skip


def test_at_most_ten_alternatives_and_the_nearest() -> None:
    names = [f"name{k}" for k in range(30)]
    assert listed(names) == ", ".join(names[:10]) + " and 20 more"
    assert listed(["a", "b"]) == "a, b"
    with pytest.raises(InputError, match=r"^there is no theorem 'FFGG-1'; known: FFGG-1a, .* more; did you mean"):
        statement("FFGG-1")
    with pytest.raises(InputError, match=r"^there is no theorem 'x{60}'; known: FFGG-1a, .* more$"):
        statement("x" * 100_000)
