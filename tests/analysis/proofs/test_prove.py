"""Replayed proofs: parts that add up, slacks that are none below zero, failures that can be made again."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from fedconv.analysis.pages.report import render
from fedconv.analysis.pages.report_proofs import Replay
from fedconv.analysis.proofs import replay as proving
from fedconv.analysis.proofs.replay import Proof, prove
from fedconv.analysis.theorems import theorem
from fedconv.analysis.theorems.base import Theorem
from fedconv.cli import main
from fedconv.core.run import Experiment, run
from fedconv.figures.waterfall import one as waterfall
from fedconv.problem_file.settings import dump_toml, settings_from
from fedconv.problems.errors import InputError

WAVES = {"family": "trigonometric", "n": 6, "d_u": 3, "d_v": 2, "L_u": 1.0, "L_v": 2.0, "chi": 0.5, "delta": 1.0}
GAUSS = {"law": "gaussian", "sigma_u": 0.7, "sigma_v": 0.4}
QUADRATIC = {"family": "quadratic", "n": 4, "d_u": 2, "d_v": 2, "coupling": 0.6}
KEYS = ("FA", "FA*", "FS", "FS*")


def file(name: str, /, T: int = 10, **tables: Any) -> dict[str, Any]:
    out = {
        "name": "small",
        "problem": WAVES,
        "noise": GAUSS,
        "algorithm": {"name": [name], "m": 2, "tau": 3, "eta": 0.1},
        "run": {"T": T},
    }
    return {k: v for k, v in (out | tables).items() if v is not None}


def experiment(key: str, /, **tables: Any) -> tuple[Experiment, Theorem]:
    settings = settings_from(file("fedalt" if key.startswith("FA") else "fedsim", **tables), "test")
    return settings.experiment(settings.algorithms[0], 0.1), theorem(key)


def adds_up(proof: Proof) -> None:
    fall = proof.waterfall
    assert fall.measured + sum(p.slack for p in fall.parts) == pytest.approx(fall.bound, rel=1e-9)
    floor = 1e-12 * fall.bound
    for part in fall.parts:
        if part.kind in ("upper", "dropped"):
            assert part.high >= -floor, part
            if fall.exact:
                assert part.slack >= -floor, part
        elif part.kind == "equality":
            assert part.low <= floor, part
            assert part.high >= -floor, part


@pytest.mark.parametrize("key", KEYS)
def test_the_parts_of_a_noisy_run_add_up_and_every_lemma_holds(key: str) -> None:
    proof = prove(*experiment(key), states=3, copies=2048, replicates=16)
    adds_up(proof)
    assert not proof.failed
    assert all(len(x.findings) == 3 for x in proof.lines)
    assert sum(x.status == "holds" for x in proof.lines) >= len(proof.lines) - 2
    assert proof.waterfall.complete
    assert proof.waterfall.total > 0
    assert {p.kind for p in proof.waterfall.parts} == {"upper", "equality", "dropped", "sampling"}


@pytest.mark.parametrize("key", KEYS)
def test_all_cohorts_of_a_quiet_run_give_exact_verdicts(key: str) -> None:
    proof = prove(*experiment(key, noise=None, problem=QUADRATIC), states=4, replicates=5)
    adds_up(proof)
    assert proof.exact
    assert proof.waterfall.exact
    assert [x.lemma.key for x in proof.lines if x.status != "holds"] == []
    assert proof.setup.visited_diversity
    diversity = [p for p in proof.waterfall.parts if p.label.startswith("A3")]
    assert all(abs(p.slack) <= 1e-9 * proof.waterfall.total for p in diversity)
    assert not [p for p in proof.waterfall.parts if p.kind == "equality"]


@pytest.mark.parametrize("key", KEYS)
def test_a_deterministic_run_has_no_sampling_part(key: str) -> None:
    proof = prove(*experiment(key, noise=None, algorithm={"name": "fedalt" if "A" in key else "fedsim", "m": 6,
                                                          "tau": 3, "eta": 0.1}), states=3)  # fmt: skip
    adds_up(proof)
    fall = proof.waterfall
    assert fall.replicates == 1
    assert all(p.low == p.high and p.slack >= -1e-12 * fall.bound for p in fall.parts)
    assert {p.kind for p in fall.parts} == {"upper", "dropped"}


def test_the_waterfall_of_some_rounds_says_so_and_still_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "WATERFALL_WORK", 9e4)
    proof = prove(*experiment("FS", T=12), states=2, copies=64, replicates=8)
    adds_up(proof)
    assert not proof.waterfall.complete
    assert 1 < proof.waterfall.rounds < 12


def test_measured_is_the_left_hand_side_of_the_same_run() -> None:
    chosen, one = experiment("FS", T=7)
    proof = prove(chosen, one, states=1, copies=64, replicates=4)
    trace = run(chosen, 4, engine="eager")
    values = one.evaluate(proof.setup.inputs.values, proof.setup.parameters)
    assert proof.waterfall.measured == pytest.approx(float(one.lhs(trace, values).mean()), rel=1e-12)
    assert proof.waterfall.bound == pytest.approx(float(values["rhs"]), rel=1e-15)
    gap = float(trace["F_final"].values.mean()) - chosen.problem.constants.F_star.value
    (end,) = [p for p in proof.waterfall.parts if p.kind == "dropped"]
    assert end.slack == pytest.approx(2 * gap / (0.1 * 7), rel=1e-10)


def test_one_block_alone() -> None:
    for problem in (
        WAVES | {"d_v": 0, "L_v": 0.0, "chi": 0.0, "spread": 0.0},
        WAVES | {"d_u": 0, "L_u": 0.0, "chi": 0.0, "delta": 0.0},
    ):
        for key in ("FA", "FS"):
            noise = GAUSS | {"sigma_u": 0.7 if problem["d_u"] else 0.0, "sigma_v": 0.4 if problem["d_v"] else 0.0}
            proof = prove(*experiment(key, problem=problem, noise=noise), states=1, copies=256, replicates=8)
            adds_up(proof)
            assert not proof.failed


def test_a_step_beyond_the_premises_is_named_and_lemmas_still_hold() -> None:
    settings = settings_from(file("fedalt", T=4, noise=None), "test")
    proof = prove(settings.experiment(settings.algorithms[0], 1.5), theorem("FA"), states=2)
    assert any("fails" in sentence for sentence in proof.unmet)
    assert not proof.failed


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"states": 0}, "states must be at least 1; got 0"),
        ({"copies": 3}, "copies must be from 32 to 1000000; got 3"),
        ({"mutant": "L1"}, "a mutant is named LEMMA:KEY, for example L1:c_replaced; got 'L1'"),
        ({"mutant": "L99:x"}, "lemmas of fedalt are L1, .*; got 'L99'"),
        ({"parameters": {"alpha": 1.0}}, "theorem FA needs a value for its free parameter theta"),
    ],
)
def test_bad_wishes_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        prove(*experiment("FA", T=2), **change)


def test_other_algorithms_and_idle_blocks_are_refused() -> None:
    settings = settings_from(file("fedavg", T=2, noise=None), "test")
    chosen = settings.experiment(settings.algorithms[0], 0.1)
    with pytest.raises(InputError, match="the proofs of fedalt, fedsim can be replayed; got algorithm 'fedavg'"):
        prove(chosen, theorem("FA"))
    alt, _ = experiment("FA", T=2)
    with pytest.raises(InputError, match="theorem FS is about fedsim; got 'fedalt'"):
        prove(alt, theorem("FS"))
    idle = {"name": "fedalt", "m": 2, "tau_u": 3, "tau_v": 0, "eta": 0.1}
    with pytest.raises(InputError, match="tau_v must be at least 1"):
        prove(experiment("FA", T=2, algorithm=idle, noise=None)[0], theorem("FA"))


# ---- the command ---------------------------------------------------------------------------------------------------


def written(folder: Path, **tables: Any) -> str:
    path = folder / "small.toml"
    path.write_text(dump_toml(file("fedalt", **({"T": 5} | tables)) | {"verify": {"error": 0.1}}))
    return str(path)


def test_the_command_prints_both_tables_and_writes_numbers_and_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prove", "fedalt", written(tmp_path), "--states", "2", "--copies", "512", "--out", str(tmp_path / "o")]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "small/fedalt: proof of FA, eta = 0.1, m = 2 of n = 6" in out
    for words in ("L2_u", "L6: absent clients", "measured", "bound", "16 lemmas at 2 states", "all 5 rounds of 32"):
        assert words in out
    assert err == f"figure and numbers written to {tmp_path / 'o'}\n"
    data = json.loads((tmp_path / "o" / "proof.json").read_text())
    fall = data["waterfall"]
    total = sum(p["slack"] for p in fall["parts"])
    assert fall["measured"] + total == pytest.approx(fall["bound"], rel=1e-9)
    assert fall["total"] == pytest.approx(total, rel=1e-9)
    assert [x["lemma"] for x in data["lemmas"]][:2] == ["L1", "L2_u"]
    svg = (tmp_path / "o" / "waterfall.svg").read_text()
    assert ET.fromstring(svg).attrib["aria-label"].startswith("small/fedalt: where FA loses: waterfall from measured")


def test_a_lemma_that_fails_is_named_saved_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["prove", "fedalt", written(tmp_path), "--states", "2", "--copies", "1024", "--out", str(tmp_path)]
    assert main([*command, "--mutant", "L3_v_size:one_step"]) == 1
    out, err = capsys.readouterr()
    saved = tmp_path / "failed-L3_v_size-one_step.toml"
    assert "L3_v_size:one_step fails at round" in out
    assert "1 violated" in out
    assert f"`fedconv prove --replay {saved}` checks it again" in err
    assert main(["prove", "--replay", str(saved)]) == 1
    again = capsys.readouterr().out
    assert "the same comparison" in again
    assert "NOT" not in again
    then, now = (line.split()[1:] for line in again.splitlines() if line.strip().startswith(("saved", "now")))
    assert then == now
    assert then[-1] == "violated"
    text = saved.read_text()
    saved.write_text(text.replace("L3_v_size:one_step", "L3_v_size"))
    assert main(["prove", "--replay", str(saved)]) == 0
    assert "NOT the same comparison" in capsys.readouterr().out


def test_noise_without_variance_of_squares_leaves_lemmas_undecided(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, T=2, noise={"law": "student_t", "dof": 3.0, "sigma_u": 0.5, "sigma_v": 0.5})
    assert main(["prove", "fedalt", path, "--states", "1", "--copies", "64"]) == 0
    out = capsys.readouterr().out
    assert "16 inconclusive" in out
    assert "undecided: L1, L2_u" in out
    assert "no limits: student_t noise with dof = 3 <= 4" in out


def test_a_failure_of_an_exact_comparison_a_posteriori_is_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, problem=QUADRATIC, noise=None)
    assert main(["prove", "fedalt", path, "--theorem", "FA*", "--states", "2", "--mutant", "L1:c_replaced"]) == 1
    assert "no sampling error" in capsys.readouterr().out
    assert main(["prove", "--replay", "failed-L1-c_replaced.toml"]) == 1
    assert "the same comparison" in capsys.readouterr().out


def test_bad_calls_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path)
    broken = tmp_path / "broken.toml"
    broken.write_text('algorithm = 3\nfile = {name = "x"}\n')
    empty = tmp_path / "empty.toml"
    empty.write_text("lemma = 1\n")
    odd = tmp_path / "odd.toml"
    odd.write_text("x = ")
    for arguments, sentence in (
        (["prove"], "give an algorithm (fedalt or fedsim) and a problem file, or --replay FILE"),
        (["prove", "fedavg", path], "the algorithm must be fedalt or fedsim; got 'fedavg'"),
        (["prove", "fedsim", path], "algorithm.name must contain fedsim for this proof; got fedalt"),
        (["prove", "fedalt", path, "--theorem", "FS"], "--theorem must be one of FA, FA* for fedalt; got 'FS'"),
        (["prove", "fedalt", path, "--mutant", "L1:x"], "lemma L1 has the mutants c_replaced, no_spread; got 'x'"),
        (["prove", "fedalt", path, "--out", path], "--out must be a folder to write"),
        (["prove", "fedalt", path, "--replay", path], "--replay takes its own file; leave out the algorithm and FILE"),
        (["prove", "--replay", path], "is not a state that `fedconv prove` saved: file is missing"),
        (["prove", "--replay", str(broken)], "algorithm.name must be one of"),
        (["prove", "--replay", str(empty)], "is not a state that `fedconv prove` saved: algorithm is missing"),
        (["prove", "--replay", str(odd)], "not TOML"),
        (["prove", "--replay", str(tmp_path / "none.toml")], "no such file"),
    ):
        assert main(arguments) == 2, arguments
        out, err = capsys.readouterr()
        assert out == ""
        assert sentence in err
        assert err.count("\n") == 1


# ---- the figure and the report -------------------------------------------------------------------------------------


def test_the_figure_gathers_small_steps_and_loses_nothing() -> None:
    proof = prove(*experiment("FA", T=6), states=1, copies=64, replicates=8)
    fall = proof.waterfall
    drawn = waterfall.bars(fall)
    assert len(drawn) < len(fall.parts)
    assert sum(p.slack for p in drawn) == pytest.approx(fall.total, rel=1e-9)
    assert waterfall.picture(fall, "t") == waterfall.picture(fall, "t")


def test_the_report_has_a_section_for_each_proof() -> None:
    proofs = [prove(*experiment(key, T=4), states=1, copies=64, replicates=8) for key in ("FA", "FS")]
    replays = [Replay(p, waterfall.picture(p.waterfall, "w"), "fedconv prove x") for p in proofs]
    about = {"title": "t", "command": "c", "versions": {"fedconv": "0"}}
    page = render([], {}, **about, proofs=replays)
    assert page.count('<h2 id="proofs">Where the proof loses</h2>') == 1
    assert "FA on small · fedalt" in page
    assert "FS on small · fedsim" in page
    assert page.count("fedconv prove x") == 2
    for line in proofs[0].lines:
        assert f"<code>{line.lemma.key}</code>" in page
    assert "Where the proof loses" not in render([], {}, **about)
