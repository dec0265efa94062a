"""What all searches for violations share: the same seed, Ctrl-C, a budget in seconds, and the command."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from fedconv.analysis import falsify as falsifier
from fedconv.analysis.falsify import falsify
from fedconv.analysis.falsify.statements import search as falsify_statement
from fedconv.analysis.falsify.statements.target import NOTHING, Target
from fedconv.analysis.theorems import THEOREMS
from fedconv.analysis.verdicts.verify import any_theorem, known
from fedconv.cli import main
from fedconv.problems.errors import InputError

ONE_EACH = (("FS", "present_dropped"), ("FFGG-3b-last", "half"), ("FSPA-C2", "no_jump"), ("FOMO-3", "half"))
"""A theorem of every kind, with a false version that is quickly broken."""


@pytest.mark.parametrize(("key", "mutant"), ONE_EACH)
def test_the_same_seed_gives_the_same_result(key, mutant):
    first, again = (falsify(any_theorem(key), mutant=mutant, seed=4) for _ in range(2))
    assert first.found
    assert (first.file, first.tried, first.tightness) == (again.file, again.tried, again.tightness)
    other = falsify(any_theorem(key), mutant=mutant, seed=5)
    assert other.tightness != first.tightness


@pytest.mark.parametrize(("key", "mutant"), ONE_EACH)
def test_a_budget_in_seconds_ends(key, mutant):
    found = falsify(any_theorem(key), budget=0.2)
    assert found.tried > 0
    assert not found.found
    assert not found.interrupted


@pytest.mark.parametrize(("key", "mutant"), ONE_EACH)
def test_ctrl_c_keeps_the_best(key, mutant):
    seen, counts = [], []

    def tick(tried: int, best: float) -> None:
        seen.append(best)
        counts.append(tried)
        if len(seen) == 8:
            raise KeyboardInterrupt

    found = falsify(any_theorem(key), tick=tick)
    assert found.interrupted
    assert (found.tried, found.tightness) == (counts[-1], seen[-1])
    assert found.verdict is not None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"budget": "long"}, r"budget must be one of quick, full or a number of seconds > 0; got 'long'"),
        ({"budget": -1.0}, r"budget must be .*; got -1"),
        ({"seed": -1}, r"seed must be an integer >= 0; got -1"),
        ({"mutant": "none"}, r"theorem \S+ has the mutants \w+.*; got 'none'"),
    ],
)
@pytest.mark.parametrize("key", ["FA", "FFGG-3a", "FSPA-1", "FOMO-1"])
def test_bad_arguments_are_one_sentence(key, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        falsify(any_theorem(key), **arguments)


@pytest.mark.parametrize(
    ("key", "mutant", "table"),
    [("FA", "gap1", "[run]"), ("FFGG-7Be", "twice", "[byzantine]"), ("FFGG-3e-over", "not_over", "[run]"),
     ("FSPA-J-parts", "pruning", "[start]"), ("FSPA-C1", "moving", "[masks]"), ("FOMO-1", "no_convexity", "[start]")],
)  # fmt: skip
def test_the_command_writes_a_file_that_verify_refutes(tmp_path: Path, capsys, key, mutant, table):
    """Also for versions without a premise, about runs that the theorem is not about."""
    out = tmp_path / "found.toml"
    assert main(["falsify", key, "--mutant", mutant, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{key}:{mutant} is violated: measured ")
    assert "\nlargest tightness " in printed.out
    assert printed.err == f"written to {out}\n"
    text = out.read_text(encoding="utf-8")
    assert f"# Reproduce: fedconv verify {out} --mutant {mutant}" in text
    assert f"# Found by: fedconv falsify {key} --mutant {mutant} --budget quick --seed 0" in text
    assert table in text
    assert len(text.splitlines()) < 45
    assert main(["verify", str(out), "--mutant", mutant]) == 1
    assert f"{key}:{mutant}" in capsys.readouterr().out
    assert main(["verify", str(out)]) in ((0,) if not _dropped(key, mutant) else (0, 2))
    capsys.readouterr()
    assert main(["verify", str(out), "--mutant", "none"]) == 2
    assert f"{key} has " in capsys.readouterr().err
    assert main(["falsify", key, "--mutant", mutant, "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"--out must be a new file; {out} exists\n"


def _dropped(key: str, mutant: str) -> bool:
    return bool(getattr(any_theorem(key).mutant(mutant), "without", ()))


def test_without_out_the_file_is_printed(capsys: pytest.CaptureFixture[str]):
    assert main(["falsify", "FS", "--mutant", "gap1"]) == 0
    text = capsys.readouterr().out.partition("\n\n")[2]
    assert tomllib.loads(text)["verify"]["theorems"] == ["FS"]


@pytest.mark.parametrize(
    ("key", "mutant"),
    [("FA*", "sampling_alpha"), ("FFGG-3d-min", "no_condition"), ("FSPA-1", "N_clients"), ("FOMO-4iii", "no_rho")],
)
def test_nothing_found(monkeypatch, capsys: pytest.CaptureFixture[str], key, mutant):
    monkeypatch.setitem(falsifier.BUDGETS, "quick", 16)
    monkeypatch.setitem(falsify_statement.BUDGETS, "quick", 16)
    assert main(["falsify", key]) == 0
    assert capsys.readouterr().out.startswith(f"no violation of {key} found among 16 candidates in ")
    assert main(["falsify", key, "--mutant", mutant]) == 1
    assert capsys.readouterr().out.startswith(f"no violation of {key}:{mutant} found among 16 candidates in ")


def test_a_search_that_met_no_such_run_says_so(monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(falsify_statement.BUDGETS, "quick", 3)
    monkeypatch.setattr(Target, "score", lambda self, draft: NOTHING)
    assert main(["falsify", "FSPA-6"]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("\nnone of them was a run that FSPA-6 is about, its premises met\n")


def test_a_theorem_that_is_violated_gives_1(monkeypatch, capsys: pytest.CaptureFixture[str]):
    false = replace(THEOREMS["FA"].mutate(THEOREMS["FA"].mutant("gap1")), key="FA", mutant_of=None)
    monkeypatch.setitem(THEOREMS, "FA", false)
    assert main(["falsify", "FA"]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("FA is violated: measured ")
    assert "# Reproduce: fedconv verify FILE\n" in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["FX"], "THEOREM must be one of FA, FA*, FS, FS*, or one about ffgg, fedspa, fedfomo as in"
                 " `fedconv list theorems`; got 'FX'"),
        (["FFGG-3x"], "got 'FFGG-3x'; did you mean 'FFGG-3"),
        (["FSPA-9"], "got 'FSPA-9'; did you mean 'FSPA-"),
        (["FA", "--mutant", "gap2"], "for theorem FA; got 'gap2'; did you mean 'gap1'?"),
        (["FFGG-3a", "--mutant", "no2"], "for theorem FFGG-3a; got 'no2'; did you mean 'no_2'?"),
        (["FOMO-1", "--mutant", "beste"], "for theorem FOMO-1; got 'beste'; did you mean 'best'?"),
        (["FA", "--budget", "0"], "--budget must be quick, full or a number of seconds > 0; got '0'"),
        (["FSPA-1", "--budget", "big"], "--budget must be quick, full or a number of seconds > 0; got 'big'"),
        (["FA", "--out", "none/x.toml"], "--out must lie in an existing folder; none is none"),
        (["FA", "--seed", "-1"], "--seed"),
    ],
)  # fmt: skip
def test_the_command_refuses_in_one_sentence(arguments, sentence, capsys: pytest.CaptureFixture[str]):
    assert main(["falsify", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert sentence in printed.err


def test_every_theorem_can_be_given_to_the_command():
    """``known`` lists what `fedconv list theorems` does; a false key is refused with these."""
    for key in known():
        assert falsify(any_theorem(key), budget=1e-9).tried == 0
