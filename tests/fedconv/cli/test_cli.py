"""The command line: what it prints, what it leaves behind, its exit status, and one line for bad input."""

from __future__ import annotations

import io
import json
import math
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from rich.console import Console

from fedconv import commands
from fedconv.analysis import theorems
from fedconv.analysis.verdicts.verify import known, verify_settings
from fedconv.cli import Engine, Level, main
from fedconv.commands.listing import LAW_SUMMARIES
from fedconv.commands.verify import tables
from fedconv.core.run import BLOCK, ENGINES, run
from fedconv.core.store import load
from fedconv.methods.registry import METHODS
from fedconv.methods.split import ALGORITHMS
from fedconv.methods.split import torch_engine as eager
from fedconv.methods.split.torch_engine import LEVELS
from fedconv.problem_file import schema
from fedconv.problem_file.settings import dump_toml, load_settings
from fedconv.problems.noise import LAWS
from fedconv.problems.registry import FAMILIES

ROOT = Path(__file__).resolve().parents[3]
SPEC: dict[str, Any] = {
    "name": "mine",
    "problem": {"family": "trigonometric", "n": 5, "d_u": 3, "d_v": 2},
    "noise": {"law": "gaussian", "sigma_u": 0.3, "sigma_v": 0.3},
    "algorithm": {"name": "fedalt", "m": 2, "tau": 2, "eta": 0.1},
    "run": {"T": 6, "replicates": BLOCK + 2, "engine": "eager"},
}
DESCENT: dict[str, Any] = {
    "name": "descent",
    "problem": {"family": "sharp", "kind": "descent"},
    "start": {"kind": "point", "u": [1.0]},
    "algorithm": {"name": "fedalt", "m": 1, "tau": 1, "eta": 0.1},
    "run": {"T": 200},
}
"""A deterministic run on which FA is nearly tight: half of its first term is too little."""


def write(folder: Path, spec: dict[str, Any] = SPEC, name: str = "my.toml", **changes: Any) -> str:
    """A problem file; a change ``table__key=value`` sets a key."""
    out = json.loads(json.dumps(spec))
    for path, value in changes.items():
        table, key = path.split("__")
        out.setdefault(table, {})[key] = value
    (folder / name).write_text(dump_toml(out), encoding="utf-8")
    return str(folder / name)


def ok(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> tuple[str, str]:
    """(stdout, stderr) of a command that must end with ``status``."""
    found = main(arguments)
    out, err = capsys.readouterr()
    assert found == status, err
    return out, err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that must end with status 2 and print nothing else."""
    out, err = ok(capsys, *arguments, status=2)
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err.strip()


# ---- starting ----------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from fedconv.cli import main
for command in ([], ["verify"], ["run"], ["show"], ["list"], ["new"]):
    assert main([*command, "--help"]) == 0
assert main(["--version"]) == 0
heavy = ("torch", "numpy", "scipy", "sympy", "matplotlib", "xarray", "zarr", "numba", "pandas", "joblib", "hypothesis")
print("loaded:", [name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_python_m_fedconv_is_the_command() -> None:
    command = [sys.executable, "-m", "fedconv", "verify", "none.toml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "none.toml: no such file; `fedconv new` writes one to start from\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert ok(capsys, "--version")[0] == f"fedconv {commands.version()}\n"


def test_the_options_name_what_there_is() -> None:
    assert tuple(Level) == LEVELS
    assert tuple(Engine) == ENGINES


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = ok(capsys, status=2)
    assert "verify" in out
    assert err == "a command is needed; see fedconv --help\n"


# ---- list --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "names"),
    [("problems", FAMILIES), ("algorithms", [*ALGORITHMS, *METHODS]), ("theorems", known()), ("noise", LAWS)],
)
def test_list_names_everything(capsys: pytest.CaptureFixture[str], kind: str, names: Any) -> None:
    rows = json.loads(ok(capsys, "list", kind, "--json")[0])
    assert [next(iter(row.values())) for row in rows] == list(names)
    assert all(len(row["summary"]) > 8 for row in rows)
    table = ok(capsys, "list", kind)[0]
    assert all(re.search(rf"^ ?{re.escape(name)} ", table, re.MULTILINE) for name in names)


def test_every_noise_law_has_a_sentence() -> None:
    assert set(LAW_SUMMARIES) == set(LAWS)


# ---- new ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_file_of_new_is_accepted_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str], family: str) -> None:
    path = tmp_path / "deep" / "a.toml"
    _, err = ok(capsys, "new", str(path), "--family", family)
    assert err == f"{path} written; next: fedconv verify {path}\n"
    settings = load_settings(path)
    assert settings.spec["problem"]["family"] == family
    constants = settings.problem.constants
    smooth = math.isfinite(constants.L_u.value) and math.isfinite(constants.L_v.value)
    assert [a.name for a in settings.algorithms] == (["fedalt", "fedsim"] if smooth else ["ffgg"])


@pytest.mark.parametrize("family", ["trigonometric", "full_personalization"])
def test_the_file_of_new_passes_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str], family: str) -> None:
    path = str(tmp_path / "a.toml")
    ok(capsys, "new", path, "--family", family)
    out, _ = ok(capsys, "verify", path, "--strict", "--workers", "1")
    assert out.count(" holds") == 5


def test_the_template_shows_every_key_and_its_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.toml"
    ok(capsys, "new", str(path))
    text = path.read_text(encoding="utf-8")
    for table in ("noise", "start", "algorithm", "run", "verify"):
        model = schema.File.model_fields[table].annotation
        assert isinstance(model, type)
        assert issubclass(model, schema.Table)
        body = re.split(r"^\[", text.split(f"\n[{table}]")[1], flags=re.MULTILINE)[0]
        for key, field in model.model_fields.items():
            assert re.search(rf"\b{key}\b", body), f"{table}.{key} is not shown"
            line = re.search(rf"^# {key} = (.*?)(?: +#.*)?$", body, re.MULTILINE)
            if line and field.default is not None and not field.is_required():
                assert tomllib.loads(f"x = {line[1]}")["x"] == field.default, f"{table}.{key}"


def test_new_overwrites_only_with_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.toml"
    path.write_text("precious")
    assert refused(capsys, "new", str(path)).startswith(f"{path} exists already; choose another path or give --force")
    assert path.read_text() == "precious"
    ok(capsys, "new", str(path), "--force")
    assert "[problem]" in path.read_text(encoding="utf-8")


def test_new_of_an_unknown_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'quadratic'?" in refused(capsys, "new", str(tmp_path / "a.toml"), "--family", "quadratc")
    assert not (tmp_path / "a.toml").exists()


# ---- run and show ------------------------------------------------------------------------------------------


def test_run_saves_what_the_library_computes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, store = write(tmp_path), tmp_path / "a.zarr"
    _, err = ok(capsys, "run", file, "--out", str(store), "--workers", "1")
    assert err == f"{store}: {BLOCK + 2} replicates of fedalt, 6 rounds; eager engine (requested)\n"
    settings = load_settings(file)
    expected = run(settings.experiment(settings.algorithms[0], 0.1), BLOCK + 2, engine="eager")
    xr.testing.assert_identical(load(store), expected)


def test_run_options_override_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, store = write(tmp_path, run__engine="auto"), tmp_path / "a.zarr"
    ok(capsys, "run", file, "--out", str(store), "--replicates", "3", "--level", "proof", "--engine", "eager")
    trace = load(store)
    assert (trace.sizes["replicate"], trace.attrs["level"], trace.attrs["engine"]) == (3, "proof", "eager")
    assert trace.attrs["engine_reason"] == "requested"


def test_several_algorithms_go_to_suffixed_stores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, algorithm__name=["fedalt", "fedsim", "local"], run__replicates=2)
    ok(capsys, "run", file, "--out", str(tmp_path / "a.zarr"), "--algorithm", "fedsim", "--algorithm", "local")
    assert sorted(p.name for p in tmp_path.glob("*.zarr")) == ["a-fedsim.zarr", "a-local.zarr"]
    ok(capsys, "run", file, "--out", str(tmp_path / "one.zarr"), "--algorithm", "fedsim")
    xr.testing.assert_identical(load(tmp_path / "one.zarr"), load(tmp_path / "a-fedsim.zarr"))


@pytest.mark.parametrize(("wanted", "theorem"), [(None, "FA*"), (["FS", "FA"], "FA")])
def test_a_step_of_a_theorem_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wanted: list[str] | None, theorem: str
) -> None:
    changes: dict[str, Any] = {} if wanted is None else {"verify__theorems": wanted}
    file = write(tmp_path, algorithm__eta="best", run__replicates=1, **changes)
    _, err = ok(capsys, "run", file, "--out", str(tmp_path / "a.zarr"))
    said = re.search(rf"mine/fedalt: eta = (\S+) \(best step of theorem {re.escape(theorem)}\)", err)
    assert said
    trace = load(tmp_path / "a.zarr")
    algorithm, constants = json.loads(trace.attrs["algorithm"]), json.loads(trace.attrs["constants"])
    assert algorithm["gamma_u"] * constants["L_u"]["value"] * 2 == pytest.approx(float(said[1]), rel=1e-5)


def test_an_interrupted_run_is_continued_by_the_same_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, store = write(tmp_path), tmp_path / "a.zarr"
    command = ("run", file, "--out", str(store), "--workers", "1")
    original = eager.simulate_block

    def stops_at_the_second_block(*arguments: Any) -> Any:
        if arguments[6][0] == BLOCK:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(eager, "simulate_block", stops_at_the_second_block)
    _, err = ok(capsys, *command, status=130)
    assert err == (
        f"interrupted: {BLOCK} of {BLOCK + 2} replicates are kept in {store}.partial;"
        " the same command continues there\n"
    )
    monkeypatch.undo()
    assert "is not finished" in refused(capsys, "show", str(store))
    ok(capsys, *command)
    ok(capsys, "run", file, "--out", str(tmp_path / "b.zarr"))
    xr.testing.assert_identical(load(store), load(tmp_path / "b.zarr"))


def test_a_finished_run_is_left_and_another_one_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, store = write(tmp_path), str(tmp_path / "a.zarr")
    ok(capsys, "run", file, "--out", store)
    assert ok(capsys, "run", file, "--out", store)[1] == f"{store} is finished already: nothing to do\n"
    assert "holds another run" in refused(capsys, "run", file, "--out", store, "--replicates", "3")
    assert "holds another run" in refused(capsys, "run", write(tmp_path, run__seed=1), "--out", store)
    assert "holds another run" in refused(capsys, "run", write(tmp_path, start__seed=1), "--out", store)


def test_show_tells_what_a_store_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path / "a.zarr")
    ok(capsys, "run", write(tmp_path), "--out", store)
    out, err = ok(capsys, "show", store)
    trace = load(store)
    assert err == ""
    for words in (
        "mine/fedalt", "trigonometric: n = 5, d_u = 3, d_v = 2", "eager (requested)", f"0 of {BLOCK + 2} replicates",
        "law = gaussian, sigma_u = 0.3", "6 rounds", "exact",
    ):  # fmt: skip
        assert words in out
    row = re.search(r"^ *grad_v_sq +(\S+) +(\S+) +(\S+)", out, re.MULTILINE)
    assert row
    first, last = (float(trace["grad_v_sq"].values[:, t].mean()) for t in (0, -1))
    assert float(row[1]) == pytest.approx(first, rel=1e-5)
    assert float(row[2]) == pytest.approx(last, rel=1e-5)
    assert row[3] == "F²/v²"


def test_show_counts_diverged_replicates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = {"family": "quadratic", "n": 4, "d_u": 3, "d_v": 2}
    spec = SPEC | {"problem": problem, "algorithm": SPEC["algorithm"] | {"eta": 1e9}, "run": {"T": 60, "replicates": 3}}
    store = str(tmp_path / "a.zarr")
    _, err = ok(capsys, "run", write(tmp_path, spec), "--out", store)
    assert "60 rounds, 3 diverged; " in err
    assert "3 of 3 replicates" in ok(capsys, "show", store)[0]


# ---- verify ------------------------------------------------------------------------------------------------


def test_verify_prints_a_verdict_for_every_theorem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, algorithm__name=["fedalt", "fedsim"])
    out, err = ok(capsys, "verify", file)
    assert err == ""
    for algorithm, theorem in (("fedalt", "FA"), ("fedalt", r"FA\*"), ("fedsim", "FS"), ("fedsim", r"FS\*")):
        assert re.search(rf"^ *mine +{algorithm} +{theorem} .*\[.*\] +holds *$", out, re.MULTILINE)
    assert "4 verdicts: 4 holds; one-sided error of each limit at most 2.5e-07" in out


@pytest.mark.parametrize("width", [60, 80, 109, 200])
def test_narrow_terminals_fold_and_never_cut(tmp_path: Path, width: int) -> None:
    results = verify_settings(load_settings(write(tmp_path)))
    console = Console(width=width, record=True, file=io.StringIO())
    for part in tables(results, width):
        console.print(part)
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    if width >= 80:
        assert f"{results[0].verdict.measured:.4g}" in text


@pytest.mark.long
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_greek_letters_gets_question_marks(tmp_path: Path, encoding: str) -> None:
    store = tmp_path / "runs.zarr"
    assert main(["run", write(tmp_path), "--out", str(store)]) == 0
    for command in (["show", str(store)], ["verify", write(tmp_path, problem__delta=0.1)]):
        done = subprocess.run(
            [sys.executable, "-m", "fedconv", *command],
            capture_output=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONIOENCODING": encoding},
            check=False,
        )
        assert done.returncode == (0 if command[0] == "show" else 2)
        assert b"Traceback" not in done.stderr


def test_verify_json_is_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = ok(capsys, "verify", write(tmp_path), "--json", "--theorem", "FA", "--error", "0.001")
    data = json.loads(out)
    assert data["counts"] == {
        "holds": 1, "holds_approximate": 0, "violated": 0, "violated_approximate": 0, "inconclusive": 0,
        "premises_unmet": 0,
    }  # fmt: skip
    (result,) = data["results"]
    assert (result["problem"], result["algorithm"], result["theorem"]) == ("mine", "fedalt", "FA")
    assert (result["status"], result["error"]) == ("holds", 0.001)
    assert result["low"] <= result["measured"] <= result["high"] <= result["bound"]
    assert result["tightness"] == pytest.approx(result["measured"] / result["bound"])


def test_the_error_is_shared_by_all_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [write(tmp_path, name=f"{i}.toml") for i in range(2)]
    data = json.loads(ok(capsys, "verify", *files, "--json", "--error", "0.01")[0])
    assert [r["error"] for r in data["results"]] == [0.0025] * 4


def test_a_violation_is_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, DESCENT)
    out, _ = ok(capsys, "verify", file, "--theorem", "FA", "--strict")
    assert "1 verdict: 1 holds; no sampling error" in out
    weak = theorems.FA.mutate(theorems.FA.mutant("gap1"))
    monkeypatch.setitem(theorems.THEOREMS, "FA", weak)
    out, _ = ok(capsys, "verify", file, "--theorem", "FA", status=1)
    assert "violated: lower limit" in out
    out, _ = ok(capsys, "verify", file, "--theorem", "FA", "--strict", "--json", status=1)
    assert json.loads(out)["counts"]["violated"] == 1


def test_unmet_premises_are_a_note_and_status_3_under_strict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, DESCENT, algorithm__eta=3.0)
    out, _ = ok(capsys, "verify", file)
    assert re.search(r"descent, fedalt, FA: premises_unmet: \(1\+α\)η ≤ 1 fails: it is 3", out)
    ok(capsys, "verify", file, "--strict", status=3)


def test_inconclusive_is_a_note_and_status_3_under_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--max-replicates", "2", "--theorem", "FA")
    out, _ = ok(capsys, "verify", write(tmp_path), *options)
    assert "mine, fedalt, FA: inconclusive: the bound " in out
    ok(capsys, "verify", write(tmp_path), *options, "--strict", status=3)


def test_a_posteriori_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = ok(capsys, "verify", write(tmp_path, verify__a_posteriori=True), "--theorem", "FA")
    assert re.search(r"fedalt +FA† ", out)
    assert "† a posteriori: δ² is the mean diversity measured at the visited points" in out


def test_a_store_is_judged_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, store = write(tmp_path), tmp_path / "kept.zarr"
    ok(capsys, "run", file, "--out", str(store), "--algorithm", "fedalt", "--replicates", "64")
    folder = tmp_path / "report"
    out, _ = ok(
        capsys, "verify", str(store), file, "--theorem", "FA", "--error", "0.01", "--json", "--out", str(folder)
    )
    fresh, kept = json.loads(out)["results"]
    assert kept["bound"] == pytest.approx(fresh["bound"])
    assert [fresh["error"], kept["error"]] == [0.005, 0.005]
    assert f"fedconv verify {store}" in (folder / "index.html").read_text(encoding="utf-8")
    _, err = ok(capsys, "verify", str(store), "--max-replicates", "8", status=2)
    assert "--max-replicates must be left out for a store" in err
    _, err = ok(capsys, "verify", str(store), "--algorithm", "fedsim", status=2)
    assert "nothing to verify with --algorithm fedsim; the algorithms here are fedalt" in err


def test_out_is_a_folder_with_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep" / "report"
    file = write(tmp_path, DESCENT)
    _, err = ok(capsys, "verify", file, "--theorem", "FA", "--out", str(folder))
    assert err == f"report written to {folder / 'index.html'}\n"
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert f"fedconv verify {file}" in page
    assert "<svg" in page
    (result,) = json.loads((folder / "results.json").read_text(encoding="utf-8"))["results"]
    assert (result["theorem"], result["status"]) == ("FA", "holds")


def test_algorithm_selects_over_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [write(tmp_path, name="a.toml"), write(tmp_path, name="b.toml", algorithm__name="fedsim")]
    data = json.loads(ok(capsys, "verify", *files, "--json", "--algorithm", "fedsim", "--theorem", "FS")[0])
    assert [r["theorem"] for r in data["results"]] == ["FS"]


def test_the_suite_is_the_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedconv import paper_checks

    sizes: list[str] = []
    monkeypatch.setattr(paper_checks, "suite", lambda size: (sizes.append(size), [DESCENT])[1])
    for arguments in ((), ("--suite", "full")):
        assert "descent" in ok(capsys, "verify", *arguments)[0]
    assert sizes == ["quick", "full"]


def test_ctrl_c_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(eager, "simulate_block", stop)
    assert ok(capsys, "verify", write(tmp_path), status=130) == ("", "interrupted\n")


# ---- bad input ---------------------------------------------------------------------------------------------

BAD: list[tuple[dict[str, Any], str]] = [
    ({"algorithm__m": 9}, r"my\.toml: algorithm\.m: must be at most problem\.n = 5; got 9$"),
    ({"algorithm__eta": 0}, r"my\.toml: algorithm\.eta: must be a finite number > 0"),
    ({"algorithm__eta": -0.1}, r"my\.toml: algorithm\.eta: must be a finite number > 0.*; got -0\.1$"),
    ({"algorithm__eta": float("nan")}, r"my\.toml: algorithm\.eta: .*; got nan$"),
    ({"algorithm__gamma_u": 0.1}, r"my\.toml: algorithm\.gamma_u: must be left out where eta is given"),
    ({"algorithm__gama_u": 0.1}, r"my\.toml: algorithm\.gama_u: unknown key; did you mean 'gamma_u'\?$"),
    ({"algorithm__name": "fedalts"}, r"my\.toml: algorithm\.name: .*did you mean 'fedalt'\?$"),
    ({"algorithm__m": {"a": 1}}, r"my\.toml: algorithm\.m: must be an integer >= 1.*; got a table"),
    ({"problem__family": "trigonometrc"}, r"my\.toml: problem\.family: .*did you mean 'trigonometric'\?"),
    ({"problem__L_u": float("nan")}, r"my\.toml: problem\.L_u: .*; got nan$"),
    ({"problem__d_vv": 2}, r"my\.toml: problem\.d_vv: unknown key; did you mean 'd_v'\?"),
    ({"noise__sigma_u": -1}, r"my\.toml: noise\.sigma_u: must be a finite number >= 0; got -1$"),
    ({"run__T": 0}, r"my\.toml: run\.T: must be an integer from 1"),
    ({"run__seed": -1}, r"my\.toml: run\.seed: must be an integer >= 0; got -1$"),
    ({"run__replicates": 0}, r"my\.toml: run\.replicates: must be an integer from 1"),
    ({"start__kind": "point", "start__u": [0.0], "start__v": [[0.0]]}, r"my\.toml: start\.u: must have shape \(3,\)"),
    (
        {"problem__d_u": 0, "problem__L_u": 0.0, "problem__chi": 0.0, "problem__delta": 0.0},
        r"my\.toml: noise\.sigma_u: must be 0 where d_u = 0; got 0\.3$",
    ),
]
ONLY_VERIFY: list[tuple[dict[str, Any], str]] = [
    ({"verify__theorems": ["FA", "FX"]}, r"my\.toml: verify\.theorems: must be one of FA, .*; got 'FX'"),
    ({"verify__theorems": ["FS"]}, r"my\.toml: mine: nothing to verify"),
    (
        {"verify__parameters": {"alfa": 1.0}},
        r"my\.toml: verify\.parameters\.alfa: unknown key; did you mean 'alpha'\?$",
    ),
    ({"verify__parameters": {"alpha": 1.0}}, r"my\.toml: verify\.parameters\.omega: missing; give all of alpha, omega"),
    (
        {"verify__parameters": {"alpha": 0, "theta": 1, "theta_v": 1, "omega": 1}},
        r"my\.toml: .*free parameter alpha must be finite and > 0",
    ),
]


@pytest.mark.parametrize(
    ("changes", "sentence"), BAD + ONLY_VERIFY, ids=lambda x: "" if isinstance(x, dict) else x[:30]
)
def test_verify_refuses_a_bad_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], sentence: str
) -> None:
    assert re.search(sentence, refused(capsys, "verify", write(tmp_path, **changes)))


@pytest.mark.parametrize(("changes", "sentence"), BAD, ids=lambda x: "" if isinstance(x, dict) else x[:30])
def test_run_refuses_a_bad_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], sentence: str
) -> None:
    assert re.search(sentence, refused(capsys, "run", write(tmp_path, **changes), "--out", str(tmp_path / "a.zarr")))
    assert [p.name for p in tmp_path.iterdir()] == ["my.toml"]


@pytest.mark.parametrize("command", [["verify"], ["run", "--out", "x.zarr"]])
@pytest.mark.parametrize("kind", ["missing", "folder", "not TOML", "not text"])
def test_what_is_not_a_problem_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], kind: str
) -> None:
    file = tmp_path / "my.toml"
    if kind == "folder":
        file.mkdir()
    elif kind != "missing":
        file.write_bytes(b"\xff" if kind == "not text" else b"x = = 1")
    sentence = refused(capsys, *command, str(file))
    expected = {
        "missing": "no such file",
        "folder": "is a folder, not a file",
        "not TOML": "not TOML",
        "not text": "UTF-8",
    }
    assert sentence.startswith(f"{file}: ")
    assert expected[kind] in sentence


OPTIONS: list[tuple[list[str], str]] = [
    (["verify", "FILE", "--error", "0.7"], r"--error must be a number in \(0, 0\.5\); got 0\.7"),
    (["verify", "FILE", "--error", "nan"], r"--error must be a number in \(0, 0\.5\); got nan"),
    (["verify", "FILE", "--max-replicates", "1"], r"--max-replicates must be an integer from 2"),
    (["verify", "FILE", "--workers", "0"], r"--workers"),
    (["verify", "FILE", "--workers", "two"], r"--workers"),
    (["verify", "FILE", "--theorem", "FX"], r"--theorem: must be one of FA, FA\*, FS, FS\*, FFGG-1a, .*; got 'FX'"),
    (
        ["verify", "FILE", "--algorithm", "sgd"],
        r"nothing to verify with --algorithm sgd; the algorithms here are fedalt",
    ),
    (["verify", "FILE", "--theorem", "FS"], r"nothing to verify with --theorem FS"),
    (["verify", "FILE", "--suite", "quick"], r"give problem files or --suite, not both"),
    (["verify", "--suite", "slow"], r"--suite"),
    (["verify", "FILE", "--out", "FILE"], r"--out must be a folder to write; .* is a file"),
    (["run", "FILE", "--out", "STORE", "--replicates", "0"], r"--replicates must be an integer from 1"),
    (["run", "FILE", "--out", "STORE", "--algorithm", "fedsim"], r"--algorithm must be one of the file's: fedalt"),
    (["run", "FILE", "--out", "STORE", "--level", "all"], r"--level"),
    (["run", "FILE", "--out", "STORE", "--engine", "jax"], r"--engine"),
    (["run", "FILE"], r"--out"),
    (["run", "--out", "STORE"], r"FILE"),
    (["run", "FILE", "--out", "FILE"], r"my\.toml is not a complete fedconv store"),
    (["run", "FILE", "--out", "FILE/x.zarr"], r"my\.toml"),
    (["show"], r"STORE"),
    (["show", "STORE"], r"a\.zarr does not exist; expected a fedconv store"),
    (["show", "FILE"], r"my\.toml is not a complete fedconv store"),
    (["list", "everything"], r"everything"),
    (["list"], r"kind.*problems"),
    (["new", "FILE/x.toml"], r"my\.toml"),
    (["verfy"], r"verfy.*verify"),
    (["verify", "--quick"], r"--quick"),
]


@pytest.mark.parametrize(("arguments", "sentence"), OPTIONS, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_bad_options_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    file, store = write(tmp_path), str(tmp_path / "a.zarr")
    real = [a.replace("FILE", file).replace("STORE", store) for a in arguments]
    assert re.search(sentence, refused(capsys, *real))
    assert [p.name for p in tmp_path.iterdir()] == ["my.toml"]


@pytest.mark.parametrize("damage", ["half-written", "attributes", "empty"])
def test_show_refuses_a_damaged_store(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    store = tmp_path / "a.zarr"
    ok(capsys, "run", write(tmp_path, run__replicates=1), "--out", str(store))
    if damage == "half-written":
        next(p for p in (store / "F").rglob("*") if p.is_file() and p.name != "zarr.json").unlink()
    elif damage == "attributes":
        meta = json.loads((store / "zarr.json").read_text())
        meta["attributes"]["constants"] = "{}"
        (store / "zarr.json").write_text(json.dumps(meta))
    else:
        for path in sorted(store.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    assert refused(capsys, "show", str(store)).startswith(f"{store} is ")


def test_a_file_that_may_not_be_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    file = write(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", denied)
    assert refused(capsys, "verify", file) == f"{file}: cannot be read as a file: Permission denied"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "a.zarr"), MemoryError()])
def test_a_full_disk_or_memory_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(eager, "simulate_block", fail)
    sentence = refused(capsys, "run", write(tmp_path), "--out", str(tmp_path / "a.zarr"))
    assert sentence in ("a.zarr: No space left on device", "not enough memory for a problem or a run of this size")
