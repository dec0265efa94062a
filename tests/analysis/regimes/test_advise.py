"""Advice: the choice within a budget, what it guarantees, how sure it is, and its sentences for bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedconv.analysis.regimes.advise import SLACK, TAUS, advise
from fedconv.analysis.theorems import THEOREMS
from fedconv.cli import main
from fedconv.problems.errors import InputError

GIVEN = {
    "L_u": 1.0, "L_v": 2.0, "chi": 0.5, "sigma_u": 1.0, "sigma_v": 1.0, "delta": 1.0, "rho": 0.1, "n": 6, "gap0": 4.0,
    "T": 200,
}  # fmt: skip
FIXED = GIVEN | {"m": 4, "tau": 3}


def options(given: dict) -> list[str]:
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def test_guarantees_are_those_of_the_theorems() -> None:
    found = advise(FIXED)
    assert [c.theorem for c in found.choices] == ["FA", "FA*", "FS", "FS*"]
    for one in found.choices:
        assert (one.m, one.tau, one.T) == (4, 3, 200)
        names = ("L_u", "L_v", "chi", "sigma_u", "sigma_v", "delta", "rho", "n", "gap0", "T", "m")
        inputs = {k: float(FIXED[k]) for k in names} | {"tau_u": 3.0, "tau_v": 3.0, "eta": one.eta}
        theorem = THEOREMS[one.theorem]
        values = theorem.evaluate(inputs, one.parameters)
        assert not theorem.unmet(values)
        smaller = min(float(values["weight_u"]), float(values["weight_v"]))
        assert one.guarantee == pytest.approx(float(values["rhs"]) / smaller, rel=1e-12)
        assert one.gamma_u == pytest.approx(one.eta / 3)
        assert one.gamma_v == pytest.approx(one.eta / 6)
    assert found.best.guarantee == min(c.guarantee for c in found.choices)
    assert found.best.theorem in ("FA*", "FS*")  # the sharper forms promise more


def test_free_m_and_tau_are_at_least_as_good_as_fixed_ones() -> None:
    free = {c.theorem: c.guarantee for c in advise(GIVEN).choices}
    for m, tau in ((1, 1), (6, 50)):
        for one in advise(GIVEN | {"m": m, "tau": tau}).choices:
            assert free[one.theorem] <= one.guarantee * (1 + SLACK) * (1 + 1e-6)


def test_budget_of_communication_counts_rounds() -> None:
    budget = {k: v for k, v in GIVEN.items() if k != "T"} | {"communication": 20_000, "d_u": 10}
    for one in advise(budget | {"tau": 2}).choices:
        assert pytest.approx(20_000 // (2 * one.m * 10)) == one.T
        assert one.sent == 2 * one.m * 10 * one.T <= 20_000


def test_without_coupling_and_noise_it_is_a_tie_at_the_least_work() -> None:
    found = advise(GIVEN | {"chi": 0.0, "sigma_u": 0.0, "sigma_v": 0.0, "delta": 0.0, "rho": 0.0, "n": 1})
    assert found.certainty == "tied"
    assert (found.best.m, found.best.tau, found.best.eta) == (1, 1, pytest.approx(1.0))
    assert found.best.guarantee == pytest.approx(2 * 4 / 200, rel=1e-6)  # 2ΔF₀/T at η = 1
    assert set(found.says.values()) == {"no difference"}


def test_disputed_where_a_comparison_names_the_other() -> None:
    """Small p, large σ_v: the constant-free and the tuned condition name FedSim, FA* promises more than FS*."""
    found = advise(GIVEN | {"n": 12, "sigma_v": 3.0, "m": 3, "tau": 5, "chi": 0.9})
    assert found.best.algorithm == "fedalt"
    assert (found.says["paper"], found.says["tuned"], found.says["tuned*"]) == ("fedsim", "fedsim", "fedalt")
    assert found.certainty == "disputed"
    assert "paper, tuned" in found.why


def test_agreed_where_everybody_takes_part() -> None:
    found = advise(GIVEN | {"m": 6, "tau": 5})
    assert (found.certainty, found.best.algorithm) == ("agreed", "fedalt")
    assert set(found.says.values()) == {"fedalt"}


def test_the_longest_tau_is_told() -> None:
    noisy = advise(GIVEN | {"sigma_v": 30.0, "sigma_u": 30.0, "delta": 0.0, "rho": 0.0, "m": 4})
    assert (noisy.longest, noisy.best.tau) == (True, max(TAUS))
    assert not advise(FIXED | {"tau": max(TAUS)}).longest


def test_command_reads_file_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "constants.toml"
    file.write_text("\n".join(f"{k} = {v}" for k, v in FIXED.items()))
    assert main(["advise", str(file)]) == 0
    by_file = capsys.readouterr().out
    assert main(["advise", *options(FIXED)]) == 0
    assert capsys.readouterr().out == by_file
    assert "guarantees (1/T)" in by_file
    assert main(["advise", str(file), "--tau", "1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["advice"]["best"]["tau"] == 1
    assert data["given"]["m"] == 4
    assert main(["advise", str(file), "--communication", "9000", "--d-u", "10", "--tau", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["advice"]["best"]["T"] == 9000 // 80


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"L_v": None}, "needs a value for L_v"),
        ({"T": None}, "one budget"),
        ({"communication": 100}, "got both"),
        ({"T": None, "communication": 100}, "needs d_u"),
        ({"T": None, "communication": 100, "d_u": 1000}, "one round"),
        ({"m": 7}, "at most n = 6"),
        ({"delta": float("inf")}, "delta must be a finite number"),
        ({"n": 2.5}, "n must be an integer"),
        ({"gap0": 0.0}, "gap0 must be a finite number > 0"),
        ({"chi": True}, "chi must be"),
        ({"Lu": 1.0}, "advice takes"),
    ],
)
def test_bad_input_is_one_sentence(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        advise(GIVEN | change)


def test_command_refuses_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "constants.toml"
    for text, message in (("sigma_w = 1.0", "'sigma_w'"), ("L_u = ", "not TOML"), (None, "no such file")):
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        assert main(["advise", str(file)]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert len(said.strip().splitlines()) == 1
