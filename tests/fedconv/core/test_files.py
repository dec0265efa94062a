"""Files of settings: what they may hold, how large they may be, and one sentence for all else."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

import pytest

from fedconv.cli import main
from fedconv.core import files
from fedconv.core.files import read_toml
from fedconv.problem_file.settings import dump_toml
from fedconv.problems.errors import InputError
from fedconv.problems.plain import DEEPEST, LARGEST_INTEGER, LONGEST_KEY, check_plain

BASE: dict[str, Any] = {
    "problem": {"family": "trigonometric", "n": 6, "d_u": 3, "d_v": 2},
    "algorithm": {"name": ["fedalt", "fedsim"], "m": 3, "tau": 2, "eta": 0.1},
    "run": {"T": 5, "replicates": 16},
    "noise": {"law": "gaussian", "sigma_u": 0.1, "sigma_v": 0.1},
    "sweep": {"algorithm.m": [1, 2]},
}
HUGE = 10**400


def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, *command: str) -> str:
    file = tmp_path / "my.toml"
    file.write_text(text, encoding="utf-8")
    capsys.readouterr()
    assert main([a.replace("FILE", str(file)) for a in command]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert len(err) < 700 + len(str(tmp_path))
    return err


def changed(table: str, key: str, value: Any) -> dict[str, Any]:
    out = {name: dict(content) for name, content in BASE.items()}
    out.setdefault(table, {})[key] = value
    return out


NUMBERS = [
    *(("algorithm", key) for key in ("m", "tau", "tau_u", "tau_v", "eta", "gamma_u", "gamma_v", "gamma")),
    *(("run", key) for key in ("T", "seed", "replicates")),
    *(("problem", key) for key in ("n", "d_u", "d_v", "L_u", "chi", "delta", "seed")),
    *(("noise", key) for key in ("sigma_u", "sigma_v", "dof", "spike_probability", "dependence")),
    *(("start", key) for key in ("scale", "seed", "u")),
    *(("verify", key) for key in ("error", "max_replicates", "parameters")),
    *(("async", key) for key in ("tau_max", "slow")),
]


@pytest.mark.parametrize("command", ["run", "sweep"])
@pytest.mark.parametrize(("table", "key"), NUMBERS)
def test_no_integer_of_a_file_is_larger_than_64_bits(
    table: str, key: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value: Any = {"u": [1, HUGE], "parameters": {"a": HUGE}}.get(key, HUGE)
    spec = changed(table, key, value)
    if command == "run":
        del spec["sweep"]
    said = refused(tmp_path, capsys, dump_toml(spec), command, "FILE", "--out", str(tmp_path / "s"))
    assert f"{table}.{key}" in said
    assert "must be a number within 9223372036854775807 in size; got an integer of 1329 bits" in said


def test_no_axis_of_a_sweep_is_larger_than_64_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = changed("sweep", "algorithm.m", [1, -HUGE])
    assert "sweep.algorithm.m: must be a number" in refused(
        tmp_path, capsys, dump_toml(spec), "sweep", "FILE", "--out", str(tmp_path / "s")
    )


def test_the_bound_itself_is_a_number() -> None:
    check_plain({"a": [LARGEST_INTEGER, -LARGEST_INTEGER, 1e308, True, "x", None]}, "x")
    for value in (LARGEST_INTEGER + 1, -LARGEST_INTEGER - 1):
        with pytest.raises(InputError, match=r"x: a: must be a number within"):
            check_plain({"a": [value]}, "x")


@pytest.mark.parametrize("tau", [10**18, 10_000_001])
def test_local_steps_have_a_bound(tau: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = {k: v for k, v in changed("algorithm", "tau", tau).items() if k != "sweep"}
    said = refused(tmp_path, capsys, dump_toml(spec), "run", "FILE", "--out", str(tmp_path / "s"))
    assert "algorithm.tau: must be an integer from 1 to 10000000 (local steps)" in said


@pytest.mark.parametrize("value", [datetime.date(2020, 1, 1), datetime.time(1), datetime.datetime(2020, 1, 1)])
@pytest.mark.parametrize("place", ["value", "axis"])
def test_a_date_is_no_setting(value: Any, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = dump_toml(changed("algorithm", "m", 12345) if place == "value" else changed("sweep", "algorithm.m", [12345]))
    said = refused(
        tmp_path, capsys, text.replace("12345", value.isoformat()), "sweep", "FILE", "--out", str(tmp_path / "s")
    )
    assert "algorithm.m: must be a text, a number, true or false; got the date" in said or "got the time" in said


@pytest.mark.parametrize("text", ["a." * 3000 + "a = 1\n", "a = " + "[" * 200 + "]" * 200, "a = " + "[" * 5000])
@pytest.mark.parametrize("command", ["run", "sweep", "advise", "prove"])
def test_deep_files_are_refused(text: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"advise": ["FILE"], "prove": ["--replay", "FILE"]}.get(command, ["FILE", "--out", str(tmp_path / "s")])
    said = refused(tmp_path, capsys, text, command, *options)
    assert "nested" in said


def test_depth_and_length_of_keys_have_bounds() -> None:
    deep: Any = 1
    for _ in range(DEEPEST):
        deep = {"a": deep}
    check_plain(deep, "x")
    with pytest.raises(InputError, match="must not be nested more than"):
        check_plain({"a": deep}, "x")
    check_plain({"a" * LONGEST_KEY: 1}, "x")
    with pytest.raises(InputError, match=r"keys must have at most 200 characters; got a{57}\.\.\.$"):
        check_plain({"a" * (LONGEST_KEY + 1): 1}, "x")


@pytest.mark.parametrize("value", ['"nonsense"', "[1]", "-3", "{}", "0.5"])
def test_the_files_own_value_of_a_swept_key_is_checked(
    value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = dump_toml(changed("algorithm", "m", 12345)).replace("12345", value)
    said = refused(tmp_path, capsys, text, "sweep", "FILE", "--out", str(tmp_path / "s"))
    assert "without [sweep]: algorithm.m: must be an integer >= 1" in said


def test_the_files_own_value_of_a_swept_key_of_the_problem_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = changed("problem", "chi", "strong") | {"sweep": {"problem.chi": [0.1, 0.2]}}
    said = refused(tmp_path, capsys, dump_toml(spec), "sweep", "FILE", "--out", str(tmp_path / "s"))
    assert "without [sweep]: problem.chi: expected" in said


def test_a_table_among_the_names_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = changed("algorithm", "name", ["fedalt", {}])
    said = refused(tmp_path, capsys, dump_toml(spec), "sweep", "FILE", "--out", str(tmp_path / "s"))
    assert "algorithm.name: must be one of" in said


# ---- what is read ------------------------------------------------------------------------------------------


def test_large_files_devices_pipes_and_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST_FILE", 100)
    (tmp_path / "large.toml").write_text("#" * 101)
    (tmp_path / "fits.toml").write_text("#" * 100)
    os.mkfifo(tmp_path / "pipe.toml")
    assert read_toml(tmp_path / "fits.toml", "x") == {}
    for name, words in (
        ("large.toml", "must have at most 100 bytes; got 101"),
        ("pipe.toml", "is a device or a pipe, not a file"),
        ("/dev/zero", "is a device or a pipe, not a file"),
        (".", "is a folder, not a file"),
        ("none.toml", "no such file; x"),
        ("a\0b", "no such file"),
        ("fits.toml/x", "no such file"),
    ):
        with pytest.raises(InputError, match=words):
            read_toml(tmp_path / name, "x")


@pytest.mark.parametrize(
    "command", [["run", "FILE", "--out", "s"], ["sweep", "FILE", "--out", "s"], ["advise", "FILE"]]
)
def test_every_reader_refuses_a_device(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([a.replace("FILE", "/dev/zero") for a in command]) == 2
    assert "/dev/zero: is a device or a pipe, not a file" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--n", "--T", "--m", "--tau", "--communication"])
def test_no_integer_option_is_larger_than_64_bits(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", option, str(10**40)]) == 2
    assert f"options: {option[2:]}: must be a number within" in capsys.readouterr().err
