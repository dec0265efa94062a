"""Stores: complete or absent, equal when loaded back, resumed bit for bit."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from fedconv.core import made, resume, store
from fedconv.core.resume import run_to_store
from fedconv.core.run import BLOCK, Experiment, run
from fedconv.core.store import load, save
from fedconv.methods.split import FedAlt, FedSim, State
from fedconv.methods.split import torch_engine as eager
from fedconv.problems.base import Constant, Constants, Problem
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise


class Bowl(Problem):
    """F_i = ½‖u − i‖² + ½‖v_i − u‖², one coordinate each, three clients."""

    family = "bowl"
    n, d_u, d_v = 3, 1, 1

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return 0.5 * ((u[..., 0] - clients).square() + (v[..., 0] - u[..., 0]).square())

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return (u - clients[..., None]) + (u - v)

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return v - u

    def _constants(self) -> Constants:
        one = Constant(1.0, "exact")
        return Constants(
            Constant(2.0, "exact"), one, one, one, Constant(float("inf"), "exact"), one, Constant(1 / 3, "exact")
        )

    def to(self, device: torch.device | str) -> Bowl:
        return self


@pytest.fixture
def experiment() -> Experiment:
    start = State(torch.tensor([0.5], dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64))
    algorithm = FedAlt(m=2, gamma_u=0.1, gamma_v=0.2, tau_u=2, tau_v=1)
    return Experiment(Bowl(), algorithm, Noise("gaussian", 0.3, 0.4), start, T=3, seed=5, name="bowl/fedalt")


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def chunk_of(path: Path, variable: str) -> Path:
    """A file with numbers of a variable."""
    return next(p for p in sorted((path / variable).rglob("*")) if p.is_file() and p.name != "zarr.json")


# ---- saved and loaded --------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["none", "stationarity", "proof"])
def test_loaded_equals_saved(experiment: Experiment, tmp_path: Path, level: str) -> None:
    trace = run(experiment, 4, level=level)
    save(trace, tmp_path / "a.zarr")
    loaded = load(tmp_path / "a.zarr")
    xr.testing.assert_identical(loaded, trace)
    assert {k: v.dtype for k, v in loaded.variables.items()} == {k: v.dtype for k, v in trace.variables.items()}
    assert leftovers(tmp_path) == ["a.zarr"]


def test_odd_numbers_survive(experiment: Experiment, tmp_path: Path) -> None:
    trace = run(experiment, 2)
    trace["F"].values[0, 1:] = [np.inf, np.nan]
    trace["grad_u_sq"].values[:] = -np.nan
    trace["F_final"].values[:] = -0.0
    save(trace, tmp_path / "a.zarr")
    loaded = load(tmp_path / "a.zarr")
    xr.testing.assert_identical(loaded, trace)
    assert np.signbit(loaded["F_final"].values).all()


def test_a_store_of_no_shared_part_survives(tmp_path: Path, experiment: Experiment) -> None:
    trace = run(experiment, 2).isel(shared=slice(0, 0))
    save(trace, tmp_path / "a.zarr")
    xr.testing.assert_identical(load(tmp_path / "a.zarr"), trace)


# ---- complete or absent ------------------------------------------------------------------------------------


def test_a_failed_save_leaves_nothing(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = run(experiment, 2)
    original = xr.Dataset.to_zarr

    def fails_at_the_end(self, *args, **kwargs):
        original(self, *args, **kwargs)
        raise OSError("disk full")

    monkeypatch.setattr(xr.Dataset, "to_zarr", fails_at_the_end)
    with pytest.raises(OSError, match="disk full"):
        save(trace, tmp_path / "a.zarr")
    assert leftovers(tmp_path) == []


def test_a_failed_overwrite_keeps_the_old_store(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = run(experiment, 2)
    save(old, tmp_path / "a.zarr")
    original = store.os.replace

    def fails_for_the_new(source, target):
        if str(source).endswith(".tmp"):
            raise OSError("no")
        original(source, target)

    monkeypatch.setattr(store.os, "replace", fails_for_the_new)
    with pytest.raises(OSError, match="no"):
        save(run(experiment, 3), tmp_path / "a.zarr", overwrite=True)
    monkeypatch.undo()
    assert leftovers(tmp_path) == ["a.zarr"]
    xr.testing.assert_identical(load(tmp_path / "a.zarr"), old)


# ---- overwriting -------------------------------------------------------------------------------------------


def test_an_existing_store_is_kept_unless_overwriting_is_allowed(experiment: Experiment, tmp_path: Path) -> None:
    save(run(experiment, 2), tmp_path / "a.zarr")
    newer = run(experiment, 3)
    with pytest.raises(InputError, match=r"a\.zarr exists already"):
        save(newer, tmp_path / "a.zarr")
    assert load(tmp_path / "a.zarr").sizes["replicate"] == 2
    save(newer, tmp_path / "a.zarr", overwrite=True)
    xr.testing.assert_identical(load(tmp_path / "a.zarr"), newer)
    assert leftovers(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_not_a_store_is_never_overwritten(experiment: Experiment, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "mine"
    if kind == "file":
        target.write_text("precious")
    else:
        target.mkdir()
        (target / "precious").write_text("precious")
    with pytest.raises(InputError, match="is not a fedconv store; it will not be overwritten"):
        save(run(experiment, 2), target, overwrite=True)
    assert (target if kind == "file" else target / "precious").read_text() == "precious"


# ---- damaged stores ----------------------------------------------------------------------------------------


def delete(path: Path) -> None:
    chunk_of(path, "F").unlink()


def delete_variable(path: Path) -> None:
    shutil.rmtree(path / "F")


def truncate(path: Path) -> None:
    chunk = chunk_of(path, "F")
    chunk.write_bytes(chunk.read_bytes()[:-5])


def empty(path: Path) -> None:
    chunk_of(path, "F").write_bytes(b"")


def delete_metadata(path: Path) -> None:
    (path / "zarr.json").unlink()


def break_metadata(path: Path) -> None:
    (path / "zarr.json").write_text("{")


def edit_attributes(path: Path, change) -> None:
    meta = json.loads((path / "zarr.json").read_text())
    change(meta["attributes"])
    (path / "zarr.json").write_text(json.dumps(meta))


def lose_checksums(path: Path) -> None:
    edit_attributes(path, lambda a: a.pop("checksums"))


def break_checksums(path: Path) -> None:
    edit_attributes(path, lambda a: a.update(checksums="[1, 2]"))


def other_format(path: Path) -> None:
    edit_attributes(path, lambda a: a.update(format=99))


def change_provenance(path: Path) -> None:
    edit_attributes(path, lambda a: a.update(seed=6))


def lose_provenance(path: Path) -> None:
    edit_attributes(path, lambda a: a.pop("constants"))


def swap_chunks(path: Path) -> None:
    chunk_of(path, "F").write_bytes(chunk_of(path, "grad_u_sq").read_bytes())


def drop_dimension_names(path: Path) -> None:
    file = path / "F" / "zarr.json"
    meta = json.loads(file.read_text())
    del meta["dimension_names"]
    file.write_text(json.dumps(meta))


def change_units(path: Path) -> None:
    file = path / "F" / "zarr.json"
    meta = json.loads(file.read_text())
    meta["attributes"]["units"] = "m"
    file.write_text(json.dumps(meta))


@pytest.mark.parametrize(
    "damage",
    [
        delete, delete_variable, truncate, empty, delete_metadata, break_metadata, lose_checksums, break_checksums,
        other_format, change_provenance, lose_provenance, swap_chunks, drop_dimension_names, change_units,
    ],
)  # fmt: skip
def test_a_damaged_store_is_refused_in_one_sentence(experiment: Experiment, tmp_path: Path, damage) -> None:
    path = tmp_path / "a.zarr"
    save(run(experiment, 3), path)
    load(path)
    damage(path)
    with pytest.raises(InputError, match=r"a\.zarr (is|has|does)") as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["missing", "file", "empty folder"])
def test_what_is_not_a_store_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.zarr"
    if kind == "file":
        path.write_text("x")
    if kind == "empty folder":
        path.mkdir()
    with pytest.raises(InputError, match=r"a\.zarr (does not exist|is not a complete fedconv store)"):
        load(path)


# ---- resuming ----------------------------------------------------------------------------------------------

MANY = 2 * BLOCK + 3


class Stop(Exception):
    pass


def interrupted(experiment: Experiment, path: Path, after: int, error: type[BaseException] = Stop) -> None:
    """Start a run of MANY replicates and stop it when ``after`` are done."""
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        if done >= after:
            raise error

    with pytest.raises(error):
        run_to_store(experiment, MANY, path, progress=progress)


@pytest.mark.parametrize("after", [1, BLOCK + 1, MANY])
@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
def test_a_resumed_run_is_bit_for_bit_an_uninterrupted_one(
    experiment: Experiment, tmp_path: Path, after: int, error: type[BaseException]
) -> None:
    path = tmp_path / "a.zarr"
    interrupted(experiment, path, after, error)
    assert leftovers(tmp_path) == ["a.zarr.partial"]
    counted: list[int] = []
    resumed = run_to_store(experiment, MANY, path, progress=counted.append, workers=2)
    assert leftovers(tmp_path) == ["a.zarr"]
    assert sum(counted) == MANY
    xr.testing.assert_identical(resumed, run(experiment, MANY))
    xr.testing.assert_identical(resumed, load(path))


def test_finished_blocks_are_not_computed_again(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zarr"
    interrupted(experiment, path, BLOCK)
    computed: list[np.ndarray] = []
    simulate = eager.simulate_block
    monkeypatch.setattr(eager, "simulate_block", lambda *a: (computed.append(a[6]), simulate(*a))[1])
    run_to_store(experiment, MANY, path)
    assert np.concatenate(computed).tolist() == list(range(BLOCK, MANY))


def test_an_exception_while_a_block_is_saved_loses_only_that_block(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zarr"
    original = store.save

    def fails_once(trace: xr.Dataset, target: Path, **options) -> None:
        if f"{BLOCK:08d}" in str(target):
            raise OSError("disk full")
        original(trace, target, **options)

    monkeypatch.setattr(store, "save", fails_once)
    with pytest.raises(OSError, match="disk full"):
        run_to_store(experiment, MANY, path)
    assert leftovers(tmp_path / "a.zarr.partial") == ["block-00000000.zarr", "experiment.json", "lock"]
    monkeypatch.undo()
    xr.testing.assert_identical(run_to_store(experiment, MANY, path), run(experiment, MANY))


def changed_start(e: Experiment) -> Experiment:
    return dataclasses.replace(e, start=State(e.start.u + 1, e.start.v))


@pytest.mark.parametrize(
    "change",
    [
        lambda e: dataclasses.replace(e, seed=6),
        lambda e: dataclasses.replace(e, T=4),
        lambda e: dataclasses.replace(e, noise=Noise("rademacher", 0.3, 0.4)),
        lambda e: dataclasses.replace(e, algorithm=FedSim(m=2, gamma_u=0.1, gamma_v=0.2, tau_u=2, tau_v=2)),
        lambda e: dataclasses.replace(e, algorithm=dataclasses.replace(e.algorithm, gamma_u=0.11)),
        changed_start,
    ],
)
def test_blocks_of_another_experiment_are_refused(experiment: Experiment, tmp_path: Path, change) -> None:
    path = tmp_path / "a.zarr"
    interrupted(experiment, path, 1)
    with pytest.raises(InputError, match=r"a\.zarr\.partial holds blocks of another experiment"):
        run_to_store(change(experiment), MANY, path)


def test_another_level_or_number_of_replicates_is_refused(experiment: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    interrupted(experiment, path, 1)
    with pytest.raises(InputError, match="another experiment"):
        run_to_store(experiment, MANY, path, level="none")
    with pytest.raises(InputError, match="another experiment"):
        run_to_store(experiment, MANY + 1, path)


def test_a_folder_that_is_not_ours_is_refused_and_kept(experiment: Experiment, tmp_path: Path) -> None:
    foreign = tmp_path / "a.zarr.partial"
    foreign.mkdir()
    (foreign / "precious").write_text("precious")
    with pytest.raises(InputError, match=r"a\.zarr\.partial"):
        run_to_store(experiment, 2, tmp_path / "a.zarr")
    assert (foreign / "precious").read_text() == "precious"


def blocks(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "a.zarr.partial").glob("block-*"))


def swap_blocks(tmp_path: Path, experiment: Experiment) -> None:
    a, b = blocks(tmp_path)
    a.rename(tmp_path / "x")
    b.rename(a)
    (tmp_path / "x").rename(b)


def block_of_another(tmp_path: Path, experiment: Experiment) -> None:
    """A whole block of a run that differs in the seed alone."""
    other = tmp_path / "other"
    other.mkdir()
    interrupted(dataclasses.replace(experiment, seed=6), other / "a.zarr", BLOCK)
    shutil.rmtree(blocks(tmp_path)[0])
    shutil.move(blocks(other)[0], blocks(tmp_path)[0].parent / "block-00000000.zarr")
    shutil.rmtree(other)


def block_of_another_start(tmp_path: Path, experiment: Experiment) -> None:
    other = tmp_path / "other"
    other.mkdir()
    interrupted(changed_start(experiment), other / "a.zarr", BLOCK)
    shutil.rmtree(blocks(tmp_path)[0])
    shutil.move(blocks(other)[0], tmp_path / "a.zarr.partial" / "block-00000000.zarr")
    shutil.rmtree(other)


def block_of_another_level(tmp_path: Path, experiment: Experiment) -> None:
    save(run(experiment, BLOCK, level="none"), blocks(tmp_path)[0], overwrite=True)


def cut_block(tmp_path: Path, experiment: Experiment) -> None:
    truncate(blocks(tmp_path)[0])


def block_is_a_file(tmp_path: Path, experiment: Experiment) -> None:
    shutil.rmtree(blocks(tmp_path)[0])
    (tmp_path / "a.zarr.partial" / "block-00000000.zarr").write_text("x")


@pytest.mark.parametrize(
    "damage",
    [swap_blocks, block_of_another, block_of_another_start, block_of_another_level, cut_block, block_is_a_file],
)
def test_a_damaged_or_foreign_block_is_said_and_computed_again(experiment: Experiment, tmp_path: Path, damage) -> None:
    path = tmp_path / "a.zarr"
    interrupted(experiment, path, BLOCK + 1)
    assert len(blocks(tmp_path)) == 2
    damage(tmp_path, experiment)
    said: list[str] = []
    xr.testing.assert_identical(run_to_store(experiment, MANY, path, note=said.append), run(experiment, MANY))
    assert len(said) == (2 if damage is swap_blocks else 1)
    for sentence in said:
        assert "block-000000" in sentence
        assert sentence.endswith("; its replicates are computed again")
    assert leftovers(tmp_path) == ["a.zarr"]


def test_a_damaged_marker_is_said_and_begun_anew_on_request(experiment: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    interrupted(experiment, path, 1)
    (tmp_path / "a.zarr.partial" / "experiment.json").write_text("[" * 9999)
    with pytest.raises(InputError, match=r"experiment\.json is damaged"):
        run_to_store(experiment, MANY, path)
    xr.testing.assert_identical(run_to_store(experiment, MANY, path, restart=True), run(experiment, MANY))


# ---- written in pieces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["none", "proof"])
def test_a_long_trace_is_the_same_written_in_pieces(
    experiment: Experiment, tmp_path: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "STREAM", 64)
    stored = run_to_store(experiment, MANY, tmp_path / "a.zarr", level=level)
    monkeypatch.undo()
    want = run(experiment, MANY, level=level)
    xr.testing.assert_identical(stored.load(), want)
    xr.testing.assert_identical(load(tmp_path / "a.zarr"), want)
    save(want, tmp_path / "b.zarr")
    attributes = [json.loads((tmp_path / x / "zarr.json").read_text())["attributes"] for x in ("a.zarr", "b.zarr")]
    assert attributes[0] == attributes[1], "checksums and all"
    chunk_of(tmp_path / "a.zarr", "v_final").unlink()
    monkeypatch.setattr(store, "STREAM", 64)
    with pytest.raises(InputError, match=r"a\.zarr is"):
        load(tmp_path / "a.zarr")


def test_a_store_with_the_first_checksums_is_verified_as_before(experiment: Experiment, tmp_path: Path) -> None:
    trace = run(experiment, 3)
    save(trace, tmp_path / "a.zarr")
    old = store._checksums(trace, old=True)
    assert all(isinstance(x, int) for x in old.values())
    edit_attributes(tmp_path / "a.zarr", lambda a: a.update(checksums=json.dumps(old)))
    xr.testing.assert_identical(load(tmp_path / "a.zarr"), trace)
    swap_chunks(tmp_path / "a.zarr")
    with pytest.raises(InputError, match="by its checksums: F"):
        load(tmp_path / "a.zarr")


# ---- two runs at once, and what a kill leaves --------------------------------------------------------------


def test_two_runs_on_one_store_exclude_each_other(experiment: Experiment, tmp_path: Path) -> None:
    said: list[str] = []

    def second(_: int) -> None:
        if not said:
            with pytest.raises(InputError, match=r"a\.zarr is in use by another process; wait until it ends") as error:
                run_to_store(experiment, MANY, tmp_path / "a.zarr")
            said.append(str(error.value))

    trace = run_to_store(experiment, MANY, tmp_path / "a.zarr", progress=second)
    assert said
    xr.testing.assert_identical(trace, run(experiment, MANY))


def test_what_a_kill_left_is_cleared_by_the_next_call(experiment: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    interrupted(experiment, path, 1)
    for name in (".a.zarr.0123abcd.tmp", "a.zarr.partial/.block-00000016.zarr.0123abcd.tmp"):
        (tmp_path / name / "F").mkdir(parents=True)
    for other in (".a.zarr.mine.tmp", ".b.zarr.0123abcd.tmp"):
        (tmp_path / other).mkdir()
    run_to_store(experiment, MANY, path)
    assert leftovers(tmp_path) == [".a.zarr.mine.tmp", ".b.zarr.0123abcd.tmp", "a.zarr"]
    (tmp_path / "a.zarr.partial").mkdir()  # killed after the last rename
    (tmp_path / "a.zarr.partial" / "experiment.json").write_text("{}")
    (tmp_path / ".a.zarr.0123abcd.old").mkdir()
    resume.clear_finished(path)
    assert leftovers(tmp_path) == [".a.zarr.mine.tmp", ".b.zarr.0123abcd.tmp", "a.zarr"]
    path.rename(tmp_path / ".a.zarr.0123abcd.old")  # killed between the renames of an overwriting
    store.clear_leftovers(path)
    assert load(path).sizes["replicate"] == MANY


# ---- other code --------------------------------------------------------------------------------------------


def test_other_code_does_not_continue_unasked_and_is_told_apart(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zarr"
    interrupted(experiment, path, 1)
    monkeypatch.setattr(made, "code_version", lambda: "feedfeedfeedfeed")
    with pytest.raises(InputError, match=r"here is code feedfeedfeedfeed.*: --restart computes all anew"):
        run_to_store(experiment, MANY, path)
    trace = run_to_store(experiment, MANY, path, allow_other_code=True)
    told = [(first, who["code"] == "feedfeedfeedfeed") for first, who in json.loads(trace.attrs["blocks_made_by"])]
    assert told == [(0, False), (BLOCK, True), (2 * BLOCK, True)]
    xr.testing.assert_identical(trace.drop_attrs(), run(experiment, MANY).drop_attrs())


def test_a_block_of_other_code_is_not_taken_unasked(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's marker is of this code, one of its blocks is not."""
    path = tmp_path / "a.zarr"
    interrupted(experiment, path, 1)
    with monkeypatch.context() as m:
        m.setattr(made, "code_version", lambda: "feedfeedfeedfeed")
        save(run(experiment, BLOCK), blocks(tmp_path)[0], overwrite=True)
    with pytest.raises(InputError, match="was begun by code feedfeedfeedfeed"):
        run_to_store(experiment, MANY, path)


def test_restart_keeps_the_old_store_until_the_new_one_is_whole(experiment: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    old = run_to_store(experiment, 3, path)

    def stop(_: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        run_to_store(experiment, MANY, path, restart=True, progress=stop)
    xr.testing.assert_identical(load(path), old)
    run_to_store(experiment, MANY, path, restart=True)
    assert load(path).sizes["replicate"] == MANY
    assert leftovers(tmp_path) == ["a.zarr"]


# ---- no code of others -------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", ["alone", "below a group of format 3"])
def test_a_pickle_in_an_old_zarr_store_does_not_run(tmp_path: Path, beside: str) -> None:
    """numcodecs below 0.16.6 unpickles an object array of a zarr v2 store."""
    marker, path = tmp_path / "ran", tmp_path / "evil.zarr"
    payload = b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."
    (path / "F").mkdir(parents=True)
    (path / "F" / "0").write_bytes(payload)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps({"checksums": "{}", "format": 1}))
    array = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "compressor": None, "fill_value": None,
             "order": "C", "filters": [{"id": "pickle"}]}  # fmt: skip
    (path / "F" / ".zarray").write_text(json.dumps(array))
    (path / "F" / ".zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": ["replicate"]}))
    if beside != "alone":
        group = {"zarr_format": 3, "node_type": "group", "attributes": {"checksums": "{}", "format": 1}}
        (path / "zarr.json").write_text(json.dumps(group))
    with pytest.raises(InputError, match=r"evil\.zarr is"):
        load(path)
    assert not marker.exists()


def test_only_the_format_that_cannot_hold_code_is_read(experiment: Experiment, tmp_path: Path) -> None:
    """Whole and with the right checksums, but of zarr format 2."""
    trace = run(experiment, 3)
    marked = trace.assign_attrs(checksums=json.dumps(store._checksums(trace)))
    marked.to_zarr(tmp_path / "a.zarr", consolidated=False, zarr_format=2)
    with pytest.raises(InputError, match=r"a\.zarr is not a complete fedconv store"):
        load(tmp_path / "a.zarr")


@pytest.mark.parametrize("text", ["[" * 9999, '{"attributes": []}', "\x00"])
def test_metadata_that_cannot_be_read_is_no_store(tmp_path: Path, text: str) -> None:
    (tmp_path / "zarr.json").write_text(text)
    assert not store.is_store(tmp_path)
    with pytest.raises(InputError, match="is not a complete fedconv store"):
        load(tmp_path)


def test_an_existing_target_is_refused_before_anything_runs(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(InputError, match=r"a\.zarr exists already"):
        run_to_store(experiment, 2, tmp_path / "a.zarr")
    assert leftovers(tmp_path) == ["a.zarr"]


def test_diverged_replicates_are_counted_over_all_blocks(experiment: Experiment, tmp_path: Path) -> None:
    wild = dataclasses.replace(experiment, T=30, algorithm=dataclasses.replace(experiment.algorithm, gamma_u=1e12))
    trace = run_to_store(wild, BLOCK + 1, tmp_path / "a.zarr")
    assert trace.attrs["diverged"] == BLOCK + 1
    assert not np.isfinite(trace["F_final"].values).any()


@pytest.mark.parametrize("replicates", [0, -1])
def test_no_replicates_is_an_input_error(experiment: Experiment, tmp_path: Path, replicates: int) -> None:
    with pytest.raises(InputError, match="replicates must be at least 1"):
        run_to_store(experiment, replicates, tmp_path / "a.zarr")
    assert leftovers(tmp_path) == []
