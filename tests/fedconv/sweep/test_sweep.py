"""Sweeps: the grid, its numbers, what survives a kill, who may write, what failed, and the same on a dask cluster."""

from __future__ import annotations

import datetime
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from fedconv.analysis.theorems import theorem
from fedconv.analysis.verdicts.verify import resolve_step
from fedconv.cli import main
from fedconv.core import processes
from fedconv.core.files import locked
from fedconv.core.run import BLOCK, run
from fedconv.core.streams import Streams
from fedconv.methods.split import compiled_engine as fused
from fedconv.methods.split import torch_engine as eager
from fedconv.methods.split.torch_engine import STATE
from fedconv.problem_file.settings import built_once, dump_toml, settings_from
from fedconv.problems.errors import InputError
from fedconv.sweep import job as work
from fedconv.sweep import runner, store
from fedconv.sweep.grid import check_cells, grid_from
from fedconv.sweep.job_table import JobTable
from fedconv.sweep.measures import MEASURES
from fedconv.sweep.results import Results
from fedconv.sweep.runner import Pace
from fedconv.sweep.store import load_sweep, opened

ROOT = Path(__file__).resolve().parents[3]
SPEC: dict[str, Any] = {
    "name": "mine",
    "problem": {"family": "trigonometric", "n": 5, "d_u": 3, "d_v": 2},
    "noise": {"law": "gaussian", "sigma_u": 0.3, "sigma_v": 0.3},
    "algorithm": {"name": ["fedalt", "fedsim"], "m": 2, "tau": 2, "eta": 0.1},
    "run": {"T": 25, "replicates": BLOCK + 3, "engine": "eager"},
    "sweep": {"noise.sigma_v": [0.1, 0.5], "algorithm.m": [1, 4], "algorithm.eta": [0.02, 0.2]},
}


def changed(**changes: Any) -> dict[str, Any]:
    """SPEC with ``table__key=value``; a key of ``sweep`` has ``__`` for its dot, and None removes."""
    out = json.loads(json.dumps(SPEC))
    for path, value in changes.items():
        table, key = path.split("__", 1)
        key = key.replace("__", ".") if table == "sweep" else key
        out.setdefault(table, {})[key] = value
        if value is None:
            del out[table][key]
    return out


def write(folder: Path, spec: dict[str, Any] = SPEC, name: str = "my.toml") -> str:
    (folder / name).write_text(dump_toml(spec), encoding="utf-8")
    return str(folder / name)


def swept(folder: Path, spec: dict[str, Any] = SPEC, *options: str, name: str = "store", status: int = 0) -> Path:
    """The store of a sweep in this process."""
    store = folder / name
    assert main(["sweep", write(folder, spec), "--out", str(store), "--workers", "1", *options]) == status
    return store


def numbers(store: Path) -> bytes:
    """All numbers in a store, bit for bit."""
    results = Results(store / "results.zarr", write=False)
    return results.read().tobytes() + results.steps.tobytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished sweep of SPEC."""
    return swept(tmp_path_factory.mktemp("whole"))


# ---- the grid ----------------------------------------------------------------------------------------------


def test_the_grid_is_the_product_and_jobs_are_numbered_in_its_order() -> None:
    grid = grid_from(SPEC, "my.toml")
    assert grid.sizes == (2, 2, 2, 2, 2)
    assert (grid.algorithms, grid.etas) == (("fedalt", "fedsim"), (0.02, 0.2))
    steps = np.broadcast_to(np.array([0.02, 0.2]), (2, 2, 2, 2))
    seen = [grid.job(id, steps) for id in range(grid.count)]
    wanted = [
        (cell, name, eta, first, count)
        for cell in grid.cell_indices()
        for name in ("fedalt", "fedsim")
        for eta in (0.02, 0.2)
        for first, count in ((0, BLOCK), (BLOCK, 3))
    ]
    assert [(cell, *job[1:]) for cell, job in seen] == wanted
    assert [job.id for _, job in seen] == list(range(32))
    last = grid.spec((1, 0))
    assert (last["noise"]["sigma_v"], last["algorithm"]["m"], last["run"]) == (0.5, 1, SPEC["run"])
    assert "sweep" not in last
    assert grid.describe(31) == "noise.sigma_v = 0.5, algorithm.m = 4, fedsim, eta = 0.2, replicates 16-18"


def test_dotted_and_quoted_keys_mean_the_same() -> None:
    nested = changed()
    nested["sweep"] = {"noise": {"sigma_v": [0.1, 0.5]}, "algorithm": {"m": [1, 4], "eta": [0.02, 0.2]}}
    assert grid_from(nested, "my.toml") == grid_from(SPEC, "my.toml")


def test_algorithms_may_be_an_axis() -> None:
    grid = grid_from(changed(sweep__algorithm__name=["fedsim", "fedavg", "local"]), "my.toml")
    assert grid.algorithms == ("fedsim", "fedavg", "local")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sweep__noise__sigma_v": 0.3}, "sweep.noise.sigma_v: must be an array of at least one value; got 0.3"),
        ({"sweep__noise__sigma_v": []}, "sweep.noise.sigma_v: must be an array of at least one value; got []"),
        ({"sweep__noise__sigma_v": [1, 1.0]}, "sweep.noise.sigma_v: must have different values; got [1, 1.0]"),
        ({"sweep__algorithm__eta": [1, 1.0]}, "sweep.algorithm.eta: must have different values; got [1, 1.0]"),
        ({"sweep__run__replicates": [8]}, "other than run.replicates, run.level; got 'run.replicates'"),
        ({"sweep__verify__error": [0.1]}, "sweep: keys must be TABLE.KEY of problem, noise, start, algorithm, run;"),
        ({"sweep__problem": [1]}, "got 'problem'"),
        ({"sweep__problem__n__x": [1]}, "sweep.problem.n.x: must lie in a table, but n is 5 in the file"),
        ({"sweep__noise__sigma_v": [0.1, -1.0]}, "with noise.sigma_v = -1.0, algorithm.m = 1: noise.sigma_v: must be"),
        ({"sweep__noise__sigmav": [0.1]}, "noise.sigmav: unknown key; did you mean 'sigma_v'?"),
        ({"sweep__algorithm__m": [1, 6]}, "algorithm.m = 6: algorithm.m: must be at most problem.n = 5; got 6"),
        ({"sweep__problem__chi": [0.1, 3.0]}, "problem.chi = 3.0"),
        ({"sweep__algorithm__eta": [0.1, "good"]}, 'with algorithm.eta = "good": algorithm.eta: must be a finite'),
        ({"sweep__algorithm__eta": [0.1, -1]}, "with algorithm.eta = -1: algorithm.eta: must be a finite number > 0"),
        ({"sweep__algorithm__name": ["fedalt", "ffgg"]}, "name: must be of fedalt, fedsim, fedavg, local in a sweep"),
        ({"sweep__algorithm__eta": None, "algorithm__eta": None, "algorithm__gamma_u": 0.1, "algorithm__gamma_v": 0.1},
         "algorithm.eta: missing; a sweep takes step sizes as eta, not gamma"),
        ({"sweep__problem__seed": list(range(1000)), "sweep__noise__sigma_u": [x / 2000 for x in range(2000)]},
         "sweep: must ask for at most 1000000 jobs"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence_before_anything_runs(
    changes: dict[str, Any], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept(tmp_path, changed(**changes), status=2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert sentence in err
    assert str(tmp_path / "my.toml") in err
    assert not (tmp_path / "store").exists()


def test_a_problem_without_a_smoothness_constant_is_refused() -> None:
    spec = changed(sweep__noise__sigma_v=[0.1], algorithm__name="fedavg", sweep__algorithm__m=[1], noise__sigma_v=0.0)
    spec["problem"] = {"family": "huber", "n": 3, "d_u": 2, "rows": 3, "lam": 0.5}
    with pytest.raises(InputError, match="problem must have 0 < L_v < inf, by which a sweep divides"):
        check_cells(grid_from(spec, "my.toml"), "my.toml")


# ---- the numbers -------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("name", ["fedalt", "fedsim", "fedavg", "local"])
def test_the_level_of_sweeps_changes_nothing_but_the_effort(engine: str, name: str) -> None:
    settings = settings_from(_plain(name), "x")
    e = settings.experiment(settings.algorithms[0], 0.1)
    simulate = {"eager": eager.simulate_block, "fused": fused.simulate_block}[engine]
    arguments = (e.problem, e.algorithm, e.noise, e.start, e.T, Streams(3), np.arange(4))
    light, full = simulate(*arguments, STATE), simulate(*arguments, "stationarity")
    assert set(light) == {k for k in full if "virtual" not in k}
    for key, values in light.items():
        assert np.array_equal(values, full[key]), key


def _plain(name: str) -> dict[str, Any]:
    out = {k: v for k, v in changed(algorithm__name=name).items() if k != "sweep"}
    out["run"]["engine"] = "auto"
    return out


@pytest.mark.parametrize("T", [25, 4])
def test_the_numbers_are_those_of_a_run(T: int, tmp_path: Path) -> None:
    spec = changed(run__T=T, problem__L_v=3.0)
    data = load_sweep(swept(tmp_path, spec))
    grid = grid_from(spec, "x")
    settings = settings_from(grid.spec((1, 0)), "x")
    for algorithm in settings.algorithms:
        e = settings.experiment(algorithm, 0.2)
        trace = run(e, settings.replicates, engine="eager")
        s = trace["grad_u_sq"].values / e.problem.constants.L_u.value + trace["grad_v_sq"].values / 3.0
        got = data["value"].sel({"noise.sigma_v": 0.5, "algorithm.m": 1, "algorithm": algorithm.name, "eta": "0.2"})
        want = {
            "stationarity": s.mean(axis=1),
            "late": s[:, -math.ceil(T / 10) :].mean(axis=1),
            "F_gap": trace["F_final"].values - e.problem.constants.F_star.value,
            "diverged": np.zeros(settings.replicates),
        }
        assert list(want) == list(MEASURES)
        for measure, values in want.items():
            np.testing.assert_allclose(got.sel(measure=measure).values, values, rtol=1e-12)


def test_a_missing_block_is_left_out(tmp_path: Path) -> None:
    spec = changed(algorithm__name="fedavg", noise__sigma_v=0.0, sweep__noise__sigma_v=None)
    spec["problem"] = {"family": "trigonometric", "n": 4, "d_u": 3, "d_v": 0, "L_v": 0.0, "chi": 0.0, "spread": 0.0}
    data = load_sweep(swept(tmp_path, spec))
    assert np.isfinite(data["value"]).all()
    assert (data["value"].sel(measure="stationarity") > 0).all()


def test_algorithms_and_steps_meet_the_same_random_numbers(tmp_path: Path) -> None:
    """Without personal variables FedAlt, FedSim and FedAvg are one algorithm: bit for bit, if all is drawn alike."""
    spec = changed(algorithm__name=["fedalt", "fedsim", "fedavg"], noise__sigma_v=0.0, sweep__noise__sigma_v=None)
    spec["problem"] = {"family": "trigonometric", "n": 4, "d_u": 3, "d_v": 0, "L_v": 0.0, "chi": 0.0, "spread": 0.0}
    value = load_sweep(swept(tmp_path, spec))["value"]
    for other in ("fedsim", "fedavg"):
        assert np.array_equal(value.sel(algorithm="fedalt"), value.sel(algorithm=other))
    assert not np.array_equal(value.isel(eta=0), value.isel(eta=1))


def test_the_store_is_labelled(whole: Path) -> None:
    data = load_sweep(whole)
    assert data["value"].dims == ("noise.sigma_v", "algorithm.m", "algorithm", "eta", "replicate", "measure")
    assert data["step"].dims == ("noise.sigma_v", "algorithm.m", "algorithm", "eta")
    assert data["noise.sigma_v"].values.tolist() == [0.1, 0.5]
    assert data["eta"].values.tolist() == ["0.02", "0.2"]
    assert data["replicate"].size == BLOCK + 3
    assert data["done"].all()
    assert (data["step"].sel(eta="0.2") == 0.2).all()
    assert len(list((whole / "results.zarr" / "value").glob("c.*"))) == 32  # a chunk per job


def test_swept_texts_are_labels(tmp_path: Path) -> None:
    spec = changed(sweep__noise__sigma_v=None, sweep__algorithm__m=None, run__replicates=2)
    spec["sweep"] |= {"noise.law": ["gaussian", "rademacher"], "start.u": [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]}
    spec["start"] = {"kind": "point", "v": [[0.5, 0.5]] * 5}
    data = load_sweep(swept(tmp_path, spec))
    assert data["noise.law"].values.tolist() == ["gaussian", "rademacher"]
    assert data["start.u"].values.tolist() == ["[0.0, 0.0, 0.0]", "[1.0, 0.0, 0.0]"]


@pytest.mark.parametrize(
    ("wish", "named", "keys"), [("best", None, ("FA*", "FS*")), ("max", ["FA", "FS"], ("FA", "FS"))]
)
def test_words_are_steps_of_the_theorems(
    wish: str, named: list[str] | None, keys: tuple[str, str], tmp_path: Path
) -> None:
    spec = changed(sweep__algorithm__eta=[wish, 0.1], run__replicates=1, run__T=2)
    spec["sweep"]["algorithm.m"] = [3]
    spec["sweep"]["noise.sigma_v"] = [0.2]
    if named is not None:
        spec["verify"] = {"theorems": named}
    data = load_sweep(swept(tmp_path, spec))
    settings = settings_from(grid_from(spec, "x").spec((0, 0)), "x")
    for algorithm, key in zip(settings.algorithms, keys, strict=True):
        want = resolve_step(settings.experiment(algorithm, 0.1), theorem(key), wish)
        assert float(data["step"].sel(algorithm=algorithm.name, eta=wish).squeeze()) == want


def test_a_word_without_a_theorem_is_an_input_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = changed(sweep__algorithm__eta=["best"])
    spec["verify"] = {"theorems": ["FA"]}
    swept(tmp_path, spec, status=2)
    assert '"best" needs a theorem about fedsim in verify.theorems' in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_diverged_runs_are_kept_and_marked(tmp_path: Path) -> None:
    spec = changed(sweep__algorithm__eta=[0.1, 1e30], sweep__noise__sigma_v=[0.1], run__T=30)
    spec["problem"] = {"family": "quadratic", "n": 5, "d_u": 3, "d_v": 2, "coupling": 0.6}
    data = load_sweep(swept(tmp_path, spec))
    assert data["done"].all()
    assert (data["value"].sel(measure="diverged", eta="0.1") == 0).all()
    assert (data["value"].sel(measure="diverged", eta="1e+30") == 1).all()
    assert not np.isfinite(data["value"].sel(measure="stationarity", eta="1e+30")).any()


# ---- stopped and continued ---------------------------------------------------------------------------------


def test_any_number_of_workers_gives_the_same_numbers(whole: Path, tmp_path: Path) -> None:
    assert main(["sweep", write(tmp_path), "--out", str(tmp_path / "two"), "--workers", "2"]) == 0
    assert numbers(tmp_path / "two") == numbers(whole)


def stops(monkeypatch: pytest.MonkeyPatch, after: int, error: Callable[[], BaseException]) -> None:
    """``compute`` raises after so many jobs."""
    original, calls = work.compute, iter(range(10**6))

    def compute(spec: str, job: work.Job) -> np.ndarray:
        if next(calls) >= after:
            raise error()
        return original(spec, job)

    monkeypatch.setattr(work, "compute", compute)


def test_ctrl_c_leaves_a_store_that_continues(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "LARGEST", 2)
    with monkeypatch.context() as m:
        stops(m, 5, KeyboardInterrupt)
        store = swept(tmp_path, status=130)
    said = capsys.readouterr().err
    done = done_jobs(store)
    assert 1 <= done <= 5
    assert said == f"interrupted: {done} of 32 jobs are kept in {store}; the same command continues there\n"
    half = load_sweep(store)
    assert np.isnan(half["value"].where(~half["done"])).all()
    swept(tmp_path)
    assert numbers(store) == numbers(whole)


SLOW = changed(run__T=100, run__replicates=BLOCK, sweep__noise__sigma_v=[0.1, 0.2, 0.3, 0.4])
JOBS = 32


def done_jobs(store: Path) -> int:
    try:
        with JobTable(store / "jobs.sqlite", write=False) as table:
            return table.counts()["done"]
    except InputError:
        return 0


def heeds_ctrl_c() -> None:
    """A shell that runs the tests in the background hands on that Ctrl-C be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A sweep of SLOW in processes of their own, some of its jobs done."""
    command = [sys.executable, "-m", "fedconv", "sweep", write(tmp_path, SLOW), "--out", str(tmp_path / "store")]
    with (tmp_path / "err").open("wb") as err:
        child = subprocess.Popen(
            [*command, "--workers", "2"], cwd=ROOT, stderr=err, start_new_session=True, preexec_fn=heeds_ctrl_c
        )
    try:
        until = time.monotonic() + 120
        while done_jobs(tmp_path / "store") < 2 and child.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        yield child
    finally:
        for _ in range(2):
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


@pytest.mark.long
def test_killed_at_any_moment_and_run_again_is_bit_for_bit_uninterrupted(
    started: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    started.kill()
    assert started.wait() == -signal.SIGKILL
    store = tmp_path / "store"
    before = done_jobs(store)
    assert 2 <= before < JOBS
    swept(tmp_path, SLOW)  # at once: the lock is free, whatever the orphaned workers do
    assert done_jobs(store) == JOBS
    assert numbers(store) == numbers(swept(tmp_path, SLOW, name="uninterrupted"))
    until = time.monotonic() + 60
    while group_lives(started.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert not group_lives(started.pid), "workers must end with the process that started them"


def group_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_store_in_use_is_refused(
    started: subprocess.Popen[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started.poll() is None
    store = swept(tmp_path, SLOW, status=2)
    assert capsys.readouterr().err == f"{store} is in use by another process; wait until it ends\n"
    assert main(["show", str(store)]) == 0  # but anybody may look
    os.killpg(started.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
    assert started.wait() == 130
    said = (tmp_path / "err").read_text()
    assert said.startswith("interrupted: ")
    assert said.count("\n") == 1


def test_the_lock_is_free_again(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock", tmp_path),
        pytest.raises(InputError, match="in use"),
        locked(tmp_path / "lock", tmp_path),
    ):
        pass
    with locked(tmp_path / "lock", tmp_path):
        pass


@pytest.mark.parametrize("moment", ["table", "group", "draft of the group"])
def test_an_interrupted_creation_is_begun_again(
    moment: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        if moment == "table":
            m.setattr(JobTable, "_transaction", stop)
        else:
            m.setattr(store, "drafted", stop)
        folder = swept(tmp_path, status=130)
    if moment == "draft of the group":  # as kill -9 leaves it
        (folder / ".results.zarr.0a1b.tmp" / "value").mkdir(parents=True)
    assert folder.exists()
    swept(tmp_path)
    assert numbers(folder) == numbers(whole)
    assert sorted(p.name for p in folder.iterdir()) == ["jobs.sqlite", "lock", "results.zarr"]


# ---- whose store it is -------------------------------------------------------------------------------------


def test_a_finished_store_is_left_alone(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("c.*")}
    assert main(["sweep", write(whole.parent), "--out", str(whole), "--workers", "1"]) == 0
    assert capsys.readouterr().err == f"{whole} is finished already: nothing to do\n"
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("c.*")} == before


def test_a_store_of_another_file_is_refused(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write(tmp_path, changed(run__seed=1, sweep__noise__sigma_v=[0.1, 0.6]))
    assert main(["sweep", other, "--out", str(whole)]) == 2
    assert f"{whole} holds the sweep of another file (its run, sweep differ)" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_not_a_sweep_is_never_written_to(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "store"
    if kind == "file":
        target.write_text("precious")
    else:
        target.mkdir()
        (target / "precious").write_text("precious")
    swept(tmp_path, status=2)
    assert "exists and is not a store of `fedconv sweep`" in capsys.readouterr().err
    assert (target if kind == "file" else target / "precious").read_text() == "precious"


def test_a_damaged_store_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = swept(tmp_path)
    (store / "results.zarr" / "step" / "zarr.json").write_text("{")
    for command in (["show", str(store)], ["sweep", write(tmp_path), "--out", str(store)]):
        capsys.readouterr()
        assert main(command) == 2
        assert "results.zarr is not a complete store of a sweep" in capsys.readouterr().err
    with sqlite3.connect(store / "jobs.sqlite") as db:
        db.execute("DROP TABLE jobs")
    with pytest.raises(InputError, match=r"jobs\.sqlite is not a job table"):
        JobTable(store / "jobs.sqlite", write=False)


def test_only_a_sweep_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a store of `fedconv sweep`"):
        load_sweep(tmp_path)


# ---- failures ----------------------------------------------------------------------------------------------


def test_failed_jobs_keep_their_error_and_are_retried_on_request_only(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, asked = work.compute, list[int]()

    def compute(spec: str, job: work.Job) -> np.ndarray:
        asked.append(job.id)
        if job.id in (3, 17):
            raise RuntimeError(f"no memory\nfor job {job.id}")
        return original(spec, job)

    with monkeypatch.context() as m:
        m.setattr(work, "compute", compute)
        store = swept(tmp_path, status=1)
        assert sorted(asked) == list(range(32))
        said = capsys.readouterr().err
        assert "30 of 32 jobs done" in said
        assert f"2 jobs failed: `fedconv show {store}` tells why" in said
        asked.clear()
        swept(tmp_path, status=1)
        assert asked == []
        swept(tmp_path, SPEC, "--retry-failed", status=1)
        assert asked == [3, 17]
    capsys.readouterr()
    assert main(["show", str(store)]) == 0
    shown = capsys.readouterr().out
    assert "0 pending, 30 done, 2 failed" in shown
    assert "RuntimeError: no memory for job 17" in shown
    assert "noise.sigma_v = 0.5, algorithm.m = 1, fedalt, eta = 0.02, replicates 16-18" in shown
    assert int((~load_sweep(store)["done"]).sum()) == 6  # two blocks of 3 replicates
    swept(tmp_path, SPEC, "--retry-failed")
    assert numbers(store) == numbers(whole)


@pytest.mark.long
def test_a_dead_worker_is_named_and_the_sweep_continues(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as m:
        m.setattr(runner, "run_batch", lambda batch: os._exit(9))
        assert main(["sweep", write(tmp_path), "--out", str(tmp_path / "store"), "--workers", "2"]) == 2
    assert capsys.readouterr().err.startswith("a worker process died (killed, or out of memory); what is done is kept")
    assert numbers(swept(tmp_path)) == numbers(whole)


def test_a_worker_is_not_watched_by_itself() -> None:
    processes._end_with(os.getpid())
    assert list(processes.side_by_side(pow, [(2, 3), (3, 2)], 1)) == [8, 9]


def test_workers_that_start_early_are_used_and_let_go() -> None:
    with processes.started(pow, 2):
        pids = set(processes.side_by_side(os.getpid, [()] * 4, 2))
    assert os.getpid() not in pids
    assert pids & set(processes.side_by_side(os.getpid, [()] * 4, 2)), "the same processes"

    def fail() -> None:
        with processes.started(pow, 2):
            time.sleep(0.5)  # joblib must have handed the calls on
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    processes.let_go()
    assert not pids & set(processes.side_by_side(os.getpid, [()] * 4, 2)), "others"
    with processes.started(pow, 1):
        assert list(processes.side_by_side(os.getpid, [()], 1)) == [os.getpid()]


def test_a_problem_is_built_once_for_equal_tables() -> None:
    build = built_once(2)
    waves = {"family": "trigonometric", "n": 2, "d_u": 1, "d_v": 1}
    first = build(waves)
    assert build(dict(waves)) is first
    assert build(waves | {"n": 3}).n == 3
    with pytest.raises(InputError, match=r"problem\.n: expected an integer; got"):
        build(waves | {"n": datetime.date(2026, 1, 1)})


def test_batches_are_small_where_jobs_are_slow_or_few() -> None:
    assert Pace(2, 10_000, seconds=0.05).size() == 10
    assert Pace(2, 10_000, seconds=1e-9).size() == runner.LARGEST
    assert Pace(2, 10_000, seconds=9.0).size() == 1
    assert Pace(2, 12, seconds=0.05).size() == 2


def test_batches_never_mix_cells(tmp_path: Path) -> None:
    grid = grid_from(SPEC, "x")
    with opened(tmp_path / "store", SPEC, lambda: (grid, runner.resolved(grid, lambda *_: 0.1, 1))) as sweep:
        pending = [0, 1, 5, 7, 8, 9, 30]
        made = list(runner.batches(sweep, pending, Pace(1, 10_000, seconds=1e-9)))
    assert [[job.id for job in batch.jobs] for batch in made] == [[0, 1, 5, 7], [8, 9], [30]]
    assert [json.loads(b.spec)["algorithm"]["m"] for b in made] == [1, 4, 4]


# ---- show --------------------------------------------------------------------------------------------------


def test_show_tells_axes_progress_and_ranges(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(whole)]) == 0
    out = capsys.readouterr().out
    assert "0 pending, 32 done, 0 failed (100.0% done)" in out
    assert "noise.sigma_v" in out
    assert "[0.02, 0.2]" in out
    means = load_sweep(whole)["value"].sel(measure="late", algorithm="fedsim").mean("replicate")
    line = next(x for x in out.splitlines() if "late" in x and "fedsim" in x)
    assert [float(x) for x in line.split()[2:5]] == pytest.approx(
        [float(means.min()), float(means.median()), float(means.max())], rel=1e-4
    )


def test_show_of_a_sweep_that_has_not_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = grid_from(SPEC, "x")
    with opened(tmp_path / "s", SPEC, lambda: (grid, runner.resolved(grid, lambda *_: 0.1, 1))):
        assert main(["show", str(tmp_path / "s")]) == 0
    assert "32 pending, 0 done, 0 failed (0.0% done)" in capsys.readouterr().out


# ---- the command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.toml", "--out", "s"], "none.toml: no such file; a sweep needs a problem file with a table [sweep]"),
        (["bad.toml", "--out", "s"], "bad.toml: not TOML"),
        (["plain.toml", "--out", "s"], "plain.toml: sweep: must be a table of keys with arrays of values; got no such"),
        (["my.toml", "--out", "s", "--scheduler", "x", "--cluster", "local"], "--cluster must be left out with --sch"),
        (["my.toml", "--out", "s", "--scheduler", "x", "--workers", "2"], "--workers must be left out with --schedul"),
        (["my.toml", "--out", "s", "--cluster", "big"], "'big' is not"),
        (["my.toml"], "Missing option '--out'"),
    ],
)
def test_bad_arguments(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    write(tmp_path, {k: v for k, v in SPEC.items() if k != "sweep"}, name="plain.toml")
    (tmp_path / "bad.toml").write_text("a = ")
    assert main(["sweep", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert sentence in err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("option", [["--cluster", "local"], ["--scheduler", "tcp://127.0.0.1:1"]])
def test_a_missing_extra_is_named(
    option: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["sweep", write(tmp_path), "--out", str(tmp_path / "s"), *option]) == 2
    assert "need dask.distributed: pip install 'fedconv[cluster]'" in capsys.readouterr().err


# ---- dask --------------------------------------------------------------------------------------------------


def in_a_process(*arguments: str) -> tuple[int, str]:
    """(exit status, stderr) of a command in a process of its own: dask starts threads that outlive a call."""
    command = [sys.executable, "-m", "fedconv", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stderr


@pytest.mark.long
def test_two_dask_workers_give_the_same_numbers(whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    store = tmp_path / "dask"
    status, err = in_a_process("sweep", write(tmp_path), "--out", str(store), "--cluster", "local", "--workers", "2")
    assert status == 0, err
    assert "32 of 32 jobs done" in err
    assert numbers(store) == numbers(whole)


@pytest.mark.long
def test_a_running_scheduler_is_used_and_a_silent_one_refused(whole: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    code = """
import sys
from distributed import LocalCluster
from fedconv.cli import main
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        raise SystemExit(main(["sweep", sys.argv[1], "--out", sys.argv[2], "--scheduler", cluster.scheduler_address]))
"""
    assert distributed.__version__
    (tmp_path / "script.py").write_text(code)
    store = tmp_path / "dask"
    command = [sys.executable, str(tmp_path / "script.py"), write(tmp_path), str(store)]
    paths = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert numbers(store) == numbers(whole)
    status, err = in_a_process("sweep", write(tmp_path), "--out", str(tmp_path / "s"), "--scheduler", "nonsense://x")
    assert status == 2
    assert "--scheduler must be the address of a dask scheduler that answers" in err


class FakeCluster:
    """What ``fedconv.sweep.cluster`` uses of the module ``distributed``; ``break_at``: where it fails."""

    def __init__(self, break_at: str) -> None:
        self.break_at = break_at

    def Client(self, *_: Any, **__: Any) -> FakeCluster:
        return self

    def __enter__(self) -> FakeCluster:
        return self

    def __exit__(self, *_: object) -> None: ...

    def wait_for_workers(self, *_: Any, **__: Any) -> None:
        if self.break_at == "workers":
            raise TimeoutError

    def nthreads(self) -> dict[str, int]:
        return {"one": 1, "two": 2}

    def submit(self, function: Any, batch: work.Batch, pure: bool) -> Callable[[], Any]:
        return lambda: function(batch)

    class as_completed(list[Any]):
        def add(self, future: Any) -> None:
            self.append(future)

        def __iter__(self) -> Iterator[Any]:
            for done in range(10**6):
                if done == len(self):
                    return
                yield Future(self[done], done)


class Future:
    def __init__(self, call: Callable[[], Any], number: int) -> None:
        self.call, self.number = call, number

    def result(self) -> Any:
        if self.number == 2:
            raise RuntimeError("worker gone")
        return self.call()


@pytest.mark.parametrize(
    ("break_at", "sentence"),
    [
        ("workers", "--scheduler tcp://x has no worker after 10s"),
        ("batch", "the cluster lost a batch of jobs (RuntimeError: worker gone); the jobs that are done are kept"),
    ],
)
def test_a_cluster_that_fails_is_said_and_the_sweep_continues(
    break_at: str,
    sentence: str,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", FakeCluster(break_at))  # pyright: ignore[reportArgumentType]
    folder = tmp_path / "store"
    assert main(["sweep", write(tmp_path), "--out", str(folder), "--scheduler", "tcp://x"]) == 2
    assert sentence in capsys.readouterr().err
    assert (done_jobs(folder) > 0) == (break_at == "batch")
    swept(tmp_path)
    assert numbers(folder) == numbers(whole)


def test_xarray_reads_the_group_itself(whole: Path) -> None:
    with xr.open_zarr(whole / "results.zarr", consolidated=False) as raw:
        assert raw["value"].dims == load_sweep(whole)["value"].dims


@pytest.mark.parametrize("command", ["verify", "run"])
def test_a_sweep_given_to_another_command_says_where_it_belongs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    options = ["--out", str(tmp_path / "out")] if command == "run" else []
    assert main([command, write(tmp_path), *options]) == 2
    said = capsys.readouterr().err
    assert "sweep: must be left out here; it is for `fedconv sweep` and `fedconv regimes`" in said
    assert len(said.strip().splitlines()) == 1


def test_correlation_is_a_dial_of_a_sweep(tmp_path: Path) -> None:
    """FedAlt's numbers do not depend on it, FedSim's do; the numbers are an axis."""
    data = load_sweep(swept(tmp_path, changed(sweep__noise__dependence=[-1, -0.5, 0, 1])))
    assert data["noise.dependence"].values.tolist() == [-1, -0.5, 0, 1]
    found = data["value"].sel(measure="stationarity").transpose("noise.dependence", "algorithm", ...)
    alt, sim = (found.sel(algorithm=name).values for name in ("fedalt", "fedsim"))
    assert (alt == alt[0]).all()
    for i in range(4):
        for j in range(i):
            assert (sim[i] != sim[j]).all()
