"""A sweep's store: no damage is silent, damaged jobs are computed again, and other code continues on request only."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedconv.cli import main
from fedconv.core import made
from fedconv.core.files import checksum, number_bytes
from fedconv.core.run import BLOCK
from fedconv.problem_file.settings import dump_toml
from fedconv.problems.errors import InputError
from fedconv.sweep import job as work
from fedconv.sweep import runner, store
from fedconv.sweep.job_table import Ended, JobTable
from fedconv.sweep.results import Results
from fedconv.sweep.store import load_sweep, opened

SPEC: dict[str, Any] = {
    "name": "mine",
    "problem": {"family": "trigonometric", "n": 4, "d_u": 2, "d_v": 1},
    "noise": {"law": "gaussian", "sigma_u": 0.3, "sigma_v": 0.3},
    "algorithm": {"name": ["fedalt", "fedsim"], "m": 2, "tau": 1, "eta": 0.1},
    "run": {"T": 3, "replicates": BLOCK + 3, "engine": "eager"},
    "sweep": {"noise.sigma_v": [0.1, 0.5], "algorithm.eta": [0.02, 0.2]},
}
JOBS = 16


def swept(folder: Path, *options: str, name: str = "store", status: int = 0, spec: dict[str, Any] = SPEC) -> Path:
    (folder / "my.toml").write_text(dump_toml(spec), encoding="utf-8")
    out = folder / name
    assert main(["sweep", str(folder / "my.toml"), "--out", str(out), "--workers", "1", *options]) == status
    return out


def numbers(folder: Path) -> bytes:
    results = Results(folder / "results.zarr", write=False)
    return results.read().tobytes() + results.steps.tobytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return swept(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "store")


def chunks(folder: Path) -> list[Path]:
    return sorted((folder / "results.zarr" / "value").glob("c.*"))


# ---- damage ------------------------------------------------------------------------------------------------


def flip_a_bit(folder: Path) -> None:
    data = bytearray(chunks(folder)[3].read_bytes())
    data[7] ^= 1
    chunks(folder)[3].write_bytes(bytes(data))


def delete_a_chunk(folder: Path) -> None:
    chunks(folder)[5].unlink()


def swap_chunks(folder: Path) -> None:
    a, b = chunks(folder)[0], chunks(folder)[4]
    one, two = a.read_bytes(), b.read_bytes()
    a.write_bytes(two)
    b.write_bytes(one)


def cut_a_chunk(folder: Path) -> None:
    chunks(folder)[2].write_bytes(chunks(folder)[2].read_bytes()[:-3])


def empty_all_chunks(folder: Path) -> None:
    for chunk in chunks(folder):
        chunk.write_bytes(b"")


def in_table(sentence: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with sqlite3.connect(folder / "jobs.sqlite") as db:
            db.execute(sentence)
        db.close()

    return damage


JOBS_DAMAGED = {
    "a bit of a chunk": flip_a_bit,
    "a chunk is deleted": delete_a_chunk,
    "chunks are swapped": swap_chunks,
    "a chunk is cut": cut_a_chunk,
    "all chunks are empty": empty_all_chunks,
    "a checksum is lost": in_table("UPDATE jobs SET checksum = NULL WHERE id = 3"),
    "a checksum is another's": in_table("UPDATE jobs SET checksum = (SELECT checksum FROM jobs WHERE id = 1)"),
    "a state is another": in_table("UPDATE jobs SET state = 'failed', error = 'none' WHERE id = 2"),
    "an error is there": in_table("UPDATE jobs SET error = 'none' WHERE id = 2"),
    "a maker is lost": in_table("DELETE FROM makers"),
}


@pytest.mark.parametrize("damage", JOBS_DAMAGED.values(), ids=JOBS_DAMAGED)
def test_damaged_jobs_are_refused_by_readers_and_computed_again(
    damage: Callable[[Path], None], copy: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(copy)
    for command in (["show", str(copy)], ["regimes", str(copy), "--out", str(tmp_path / "map")]):
        capsys.readouterr()
        if command[0] == "regimes":
            with pytest.raises(InputError, match="jobs are damaged, by their checksums: job"):
                load_sweep(copy)
            continue
        assert main(command) == 2
        err = capsys.readouterr().err
        assert "jobs are damaged, by their checksums: job " in err
        assert err.count("\n") == 1
    swept(tmp_path)
    said = capsys.readouterr().err
    assert "jobs are damaged, by their checksums: job " in said
    assert "computed again" in said
    assert f"{JOBS} of {JOBS} jobs done" in said
    assert numbers(copy) == numbers(whole)
    load_sweep(copy)


def edited(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "results.zarr" / name / "zarr.json"
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return damage


def edit_axis(data: dict[str, Any]) -> None:
    about = json.loads(data["attributes"]["sweep"])
    about["grid"]["axes"][0][1] = [0.1, 0.6]
    data["attributes"]["sweep"] = json.dumps(about)


def edit_steps(folder: Path) -> None:
    chunk = next((folder / "results.zarr" / "step").glob("c*"))
    file = chunk if chunk.is_file() else next(p for p in chunk.rglob("*") if p.is_file())
    data = bytearray(file.read_bytes())
    data[6] ^= 1
    file.write_bytes(bytes(data))


GRID_DAMAGED = {
    "an axis is edited": edited(".", edit_axis),
    "steps are edited": edit_steps,
    "names are swapped": edited("value", lambda d: d["dimension_names"].reverse()),
    "another type": edited("value", lambda d: d.update(data_type="int64", fill_value=0)),
    "another shape": edited("value", lambda d: d["shape"].__setitem__(0, 1)),
    "another table": lambda folder: _other_table(folder),
    "a job is missing": in_table("DELETE FROM jobs WHERE id = 7"),
    "jobs are renumbered": in_table("UPDATE jobs SET id = 99 WHERE id = 15"),
    "a state that there is not": in_table("UPDATE jobs SET state = 'dun' WHERE id = 2"),
    "no identity": in_table("DELETE FROM about"),
    "not a table": lambda folder: (folder / "jobs.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 500) and None,
    "deep metadata": lambda folder: (
        (folder / "results.zarr" / "value" / "zarr.json").write_text("[" * 5000 + "]" * 5000) and None
    ),
    "attributes without versions": edited(".", lambda d: _without_versions(d)),
}


def _without_versions(data: dict[str, Any]) -> None:
    about = json.loads(data["attributes"]["sweep"])
    del about["versions"]
    data["attributes"]["sweep"] = json.dumps(about)


def _other_table(folder: Path) -> None:
    """The table of a sweep of the same size."""
    (folder / "jobs.sqlite").unlink()
    JobTable(folder / "jobs.sqlite", create=JOBS, identity="0" * 32).close()


@pytest.mark.parametrize("damage", GRID_DAMAGED.values(), ids=GRID_DAMAGED)
def test_a_damaged_grid_is_refused_and_begun_anew_on_request(
    damage: Callable[[Path], None], copy: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(copy)
    for command in (["show", str(copy)], ["sweep", str(whole.parent / "my.toml"), "--out", str(copy)]):
        capsys.readouterr()
        assert main(command) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert str(copy) in err
    swept(tmp_path, "--restart")
    assert numbers(copy) == numbers(whole)
    load_sweep(copy)
    assert sorted(p.name for p in copy.iterdir()) == ["jobs.sqlite", "lock", "results.zarr"]


def test_a_checksum_tells_its_place_state_and_maker(whole: Path) -> None:
    results = Results(whole / "results.zarr", write=False)
    values = results.read()[results.place(0)]
    one = Ended(0, "done", None, "{}", None)
    sums = {
        results.checksum(one, values),
        results.checksum(one._replace(id=1), values),
        results.checksum(one._replace(state="failed"), values),
        results.checksum(one._replace(error="x"), values),
        results.checksum(one._replace(made="{ }"), values),
        results.checksum(one, values + 1e-15),
        results.checksum(one, None),
    }
    assert len(sums) == 7
    assert checksum(b"ab", b"c") != checksum(b"a", b"bc")
    assert number_bytes(np.array([np.nan, -np.nan])) == number_bytes(np.array([np.nan, np.nan]))
    assert number_bytes(np.array([1.0], ">f8")) == number_bytes(np.array([1.0]))


# ---- a store from before checksums -------------------------------------------------------------------------


def made_old(folder: Path, pending: tuple[int, ...] = ()) -> None:
    """The store as it was written before there were checksums."""

    def old(data: dict[str, Any]) -> None:
        about = json.loads(data["attributes"]["sweep"])
        about |= {"format": 1}
        del about["versions"]["code"]
        data["attributes"]["sweep"] = json.dumps(about)

    edited(".", old)(folder)
    with sqlite3.connect(folder / "jobs.sqlite") as db:
        db.executescript(
            "CREATE TABLE old (id INTEGER PRIMARY KEY, state TEXT NOT NULL, error TEXT);"
            "INSERT INTO old SELECT id, state, error FROM jobs; DROP TABLE jobs; DROP TABLE about; DROP TABLE makers;"
            "ALTER TABLE old RENAME TO jobs;"
        )
        db.executemany("UPDATE jobs SET state = 'pending' WHERE id = ?", [(i,) for i in pending])
    db.close()


def test_an_old_store_opens_and_says_that_it_cannot_be_verified(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_old(copy)
    assert main(["show", str(copy)]) == 0
    said = capsys.readouterr()
    assert "it cannot be verified that its numbers are those written" in said.err
    assert f"{JOBS} done" in said.out
    swept(tmp_path)
    said = capsys.readouterr().err
    assert "is finished already: nothing to do" in said
    assert "cannot be verified" in said
    assert "cannot be verified" in load_sweep(copy).attrs["unverified"]


def test_an_old_store_continues_on_request_and_its_new_jobs_are_verified(
    copy: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_old(copy, (3, 9))
    swept(tmp_path, status=2)
    assert "--allow-other-code continues" in capsys.readouterr().err
    swept(tmp_path, "--allow-other-code")
    assert numbers(copy) == numbers(whole)
    assert [n for _, n in json.loads(load_sweep(copy).attrs["made_by"])] == [14, 2]
    delete = chunks(copy)[3]
    delete.unlink()
    with pytest.raises(InputError, match="1 of 16 jobs are damaged"):
        load_sweep(copy)


# ---- other code --------------------------------------------------------------------------------------------


@pytest.fixture
def half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep that this code has begun and that other code continues."""
    monkeypatch.setattr(runner, "LARGEST", 2)
    original, calls = work.compute, iter(range(10**6))

    def compute(spec: str, job: work.Job) -> np.ndarray:
        if next(calls) >= 5:
            raise KeyboardInterrupt
        return original(spec, job)

    with monkeypatch.context() as m:
        m.setattr(work, "compute", compute)
        out = swept(tmp_path, status=130)
    monkeypatch.setattr(made, "code_version", lambda: "feedfeedfeedfeed")
    return out


def ended(folder: Path) -> list[Ended]:
    with JobTable(folder / "jobs.sqlite", write=False) as table:
        return table.ended()


def test_other_code_does_not_continue_unasked(half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = ended(half)
    swept(tmp_path, status=2)
    said = capsys.readouterr().err
    assert "--restart computes all anew, --allow-other-code continues and keeps which job is of which" in said
    assert "code feedfeedfeedfeed" in said
    assert ended(half) == before


def test_other_code_continues_on_request_and_the_store_says_what_is_whose(
    half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept(tmp_path, "--allow-other-code")
    capsys.readouterr()
    assert main(["show", str(half)]) == 0
    out = capsys.readouterr().out
    counted = [(json.loads(who)["code"], count) for who, count in json.loads(load_sweep(half).attrs["made_by"])]
    assert [code for code, _ in counted] == [counted[0][0], "feedfeedfeedfeed"]
    assert sum(count for _, count in counted) == JOBS
    assert all(0 < count < JOBS for _, count in counted)
    for code, count in counted:
        assert f"{count} jobs by code {code}" in out
    assert ["feedfeed" in str(job.made) for job in ended(half)].count(True) == counted[1][1]


def test_restart_leaves_nothing_of_the_other_code(half: Path, tmp_path: Path) -> None:
    swept(tmp_path, "--restart")
    ((who, count),) = json.loads(load_sweep(half).attrs["made_by"])
    assert json.loads(who)["code"] == "feedfeedfeedfeed"
    assert count == JOBS


def test_a_finished_sweep_of_other_code_is_kept_and_said(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(made, "code_version", lambda: "feedfeedfeedfeed")
    swept(tmp_path)
    said = capsys.readouterr().err
    assert "--restart computes anew" in said
    assert "is finished already" in said
    flip_a_bit(copy)
    swept(tmp_path, status=2)  # the damaged job would be of other code
    assert "--allow-other-code" in capsys.readouterr().err


def test_other_versions_of_libraries_are_other_code(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(made, "_versions", lambda: (("numpy", "99"),))
    swept(tmp_path, status=2)
    assert "numpy 99" in capsys.readouterr().err


def test_a_worker_with_other_code_is_refused(tmp_path: Path) -> None:
    from fedconv.sweep.grid import grid_from

    grid = grid_from(SPEC, "x")
    values = np.zeros((BLOCK, 4))
    with opened(tmp_path / "s", SPEC, lambda: (grid, np.full(grid.sizes[:-1], 0.1))) as sweep:
        here = work.Outcome(0, values, None, 0.1, made.made_by_text())
        sweep.record([here])
        with pytest.raises(InputError, match="a worker of the cluster computes with code 99"):
            sweep.record([here._replace(id=2, made='{"code": "99"}')])
        assert sweep.table.counts()["done"] == 1


def test_both_ways_to_other_code_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swept(tmp_path, "--restart", "--allow-other-code", status=2)
    assert "--allow-other-code must be left out with --restart" in capsys.readouterr().err


@pytest.mark.parametrize("precious", ["other", "results.zarr"])
def test_restart_removes_no_other_folder(precious: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "store" / precious).mkdir(parents=True)
    swept(tmp_path, "--restart", status=2)
    assert "exists and is not a store of `fedconv sweep`" in capsys.readouterr().err
    assert (tmp_path / "store" / precious).is_dir()


def test_a_full_disk_is_said_with_the_name_of_the_table(copy: Path) -> None:
    with JobTable(copy / "jobs.sqlite") as table:
        table._db.execute("PRAGMA max_page_count = 1")
        with pytest.raises(InputError, match=r"jobs\.sqlite: database or disk is full; the jobs .* are kept"):
            table.record([Ended(i, "failed", "x" * 4000, "y", None) for i in range(JOBS)])
        assert table.counts()["done"] == JOBS


# ---- the digest of the code --------------------------------------------------------------------------------


def test_the_digest_depends_on_names_and_sources_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "room" / "inner").mkdir(parents=True)
        (tmp_path / name / "room" / "x.py").write_text("1")
        (tmp_path / name / "room" / "inner" / "y.py").write_text("2")
    a, b = tmp_path / "a" / "room", tmp_path / "b" / "room"
    same = made.digest_of([a])
    assert made.digest_of([b]) == same
    assert made.digest_of([b, b / "inner"]) == same, "a package inside another is read once"
    (b / "x.txt").write_text("no source")
    assert made.digest_of([b]) == same
    (b / "inner" / "y.py").write_text("3")
    assert made.digest_of([b]) != same
    (b / "inner" / "y.py").write_text("2")
    (b / "x.py").rename(b / "z.py")
    assert made.digest_of([b]) != same


def test_the_digest_watches_what_computes() -> None:
    import fedconv.methods.split.torch_engine
    import fedconv.problems.noise

    folders = made._folders()
    assert all(folder.is_dir() for folder in folders)
    for module in (fedconv.methods.split.torch_engine, fedconv.problems.noise, work, store):
        assert any(folder in Path(str(module.__file__)).resolve().parents for folder in folders)
