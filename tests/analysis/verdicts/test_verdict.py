"""Intervals and decisions: coverage at measurable errors, and every way a verdict can come out."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedconv.analysis.theorems import FA, FA_STAR, FS, FS_STAR
from fedconv.analysis.verdicts import verify as module
from fedconv.analysis.verdicts.limits import betting_lower, student_lower, student_upper
from fedconv.analysis.verdicts.tails import replicates_for_skewness, withheld
from fedconv.analysis.verdicts.verdict import RELATIVE_FLOOR, Limits, decide, limits
from fedconv.analysis.verdicts.verify import judge, verify
from fedconv.core.run import Experiment, run
from fedconv.methods.split import FedAlt, FedAvg, FedSim, LocalOnly, State
from fedconv.problems.base import Constant
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.registry import build_problem
from fedconv.problems.split.sharp import sharp


def state(problem, u=0.0, v=0.0):
    return State(
        torch.full((problem.d_u,), float(u), dtype=torch.float64),
        torch.full((problem.n, problem.d_v), float(v), dtype=torch.float64),
    )


def descent(eta=1.0, T=1, noise=None, u=1.0):
    problem = sharp(kind="descent")
    algorithm = FedAlt(1, 1.0, 0.0, tau_u=1, tau_v=0)
    return Experiment(problem, algorithm, noise or Noise("zero"), state(problem, u), T).with_eta(eta)


# ---- intervals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "law",
    [
        lambda rng, shape: rng.exponential(size=shape),
        lambda rng, shape: rng.lognormal(-0.5, 1.0, size=shape),
        lambda rng, shape: 10.0 * (rng.random(shape) < 0.1),
        lambda rng, shape: np.ones(shape),
    ],
)
def test_betting_lower_limit_errs_rarely_for_every_law(law):
    """The mean is 1 for each law; at error 0.05 the limit exceeds it in at most 5 % of trials (z = 5 above that)."""
    rng = np.random.default_rng(1)
    wrong = sum(betting_lower(row, 0.05) > 1 + 1e-9 for row in law(rng, (2000, 40)))
    assert wrong <= 2000 * 0.05 + 5 * math.sqrt(2000 * 0.05 * 0.95)


def test_betting_may_look_after_every_sample():
    rng = np.random.default_rng(2)
    wrong = 0
    for row in rng.exponential(size=(300, 64)):
        wrong += any(betting_lower(row[:k], 0.05) > 1 for k in range(1, 65, 3))
    assert wrong <= 300 * 0.05 + 5 * math.sqrt(300 * 0.05 * 0.95)


def test_betting_has_power():
    """Constant samples at 1.3 refute a mean of 1 at error 1e-6 within 64, and their limit tends to 1.3."""
    assert betting_lower(np.full(64, 1.3), 1e-6) > 1.0
    assert betting_lower(np.full(4096, 1.3), 1e-6) == pytest.approx(1.3, rel=0.005)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(1e-9, 0.4))
def test_betting_limit_is_below_the_sample_maximum_and_scales(values, error):
    x = np.array(values)
    low = betting_lower(x, error)
    assert 0 <= low <= x.max()
    assert betting_lower(2 * x, error) == pytest.approx(2 * low, rel=1e-9)


def test_betting_refuses_negative_samples_and_takes_divergence_as_infinite():
    with pytest.raises(ValueError, match="nonnegative"):
        betting_lower(np.array([-1.0, 2.0]), 0.1)
    assert betting_lower(np.array([1.0, math.inf]), 0.1) == math.inf


def test_student_limits_cover_normal_samples():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(4000, 20))
    wrong = sum(student_upper(row, 0.05) < 0 for row in rows)
    assert abs(wrong - 200) <= 5 * math.sqrt(200)
    assert student_lower(rows[0], 0.05) == -student_upper(-rows[0], 0.05)
    assert student_upper(np.array([1.0]), 0.1) == math.inf


# ---- decisions ---------------------------------------------------------------------------------------------


def test_decisions():
    assert decide(Limits(0.5, 0.9, ""), 1.0, 0.0)[0] == "holds"
    assert decide(Limits(1.1, 1.9, ""), 1.0, 0.0)[0] == "violated"
    assert decide(Limits(0.5, 1.9, ""), 1.0, 0.0)[0] == "inconclusive"
    assert decide(Limits(0.5, 0.9, ""), math.inf, 0.0)[0] == "inconclusive"
    just_above = 1 + 0.5 * RELATIVE_FLOOR
    assert decide(Limits(just_above, just_above, ""), 1.0, 0.0)[0] == "holds"
    clearly = 1 + 3 * RELATIVE_FLOOR
    assert decide(Limits(clearly, clearly, ""), 1.0, 0.0)[0] == "violated"
    assert decide(Limits(clearly, clearly, ""), 1.0, 1e-3)[0] == "holds"


def test_methods_are_named():
    x = np.array([1.0, 2.0, 3.0])
    assert limits(x, 0.1, 1, deterministic=True, nonnegative=True) == Limits(1.0, 1.0, "deterministic")
    assert limits(x, 0.1, 1, deterministic=False, nonnegative=True).method == "betting (low), Student t (high)"
    assert limits(x, 0.1, 1, deterministic=False, nonnegative=False).method == "Student t"
    wider = limits(x, 0.1, 8, deterministic=False, nonnegative=False)
    assert wider.high > limits(x, 0.1, 1, deterministic=False, nonnegative=False).high


def test_equality_holds_with_one_replicate():
    for result in verify(descent(), [FA, FA_STAR]):
        verdict = result.verdict
        assert verdict.status == "holds"
        assert verdict.tightness == pytest.approx(1.0, rel=1e-12)
        assert (verdict.replicates, verdict.method) == (1, "deterministic")


def test_half_the_bound_is_violated():
    weak = FA.mutate(FA.mutant("gap1"))
    verdict = verify(descent(), [weak])[0].verdict
    assert verdict.status == "violated"
    assert verdict.tightness == pytest.approx(2.0)


def test_a_step_outside_the_range_is_premises_unmet_and_says_which():
    verdict = verify(descent(eta=1.5), [FA])[0].verdict
    assert verdict.status == "premises_unmet"
    assert any("(1+α)η ≤ 1 fails: it is 1.5" in sentence for sentence in verdict.premises)
    dropped = FA.mutate(FA.mutant("no_conditions"))
    assert verify(descent(eta=1.5), [dropped])[0].verdict.status == "violated"


def test_divergence_counts_against_the_bound():
    """η = 3 on a quadratic doubles u each round and overflows; without step-size premises that refutes the bound."""
    experiment = descent(eta=3.0, T=2000, noise=Noise("gaussian", 1.0))
    verdict = verify(experiment, [FA.mutate(FA.mutant("no_conditions"))])[0].verdict
    assert verdict.status == "violated"
    assert verdict.diverged == verdict.replicates
    assert "diverged" in verdict.reason
    assert verify(experiment, [FA])[0].verdict.status == "premises_unmet"


def test_estimated_constants_never_give_a_final_verdict():
    experiment = descent()
    constants = experiment.problem.constants
    experiment.problem.__dict__["constants"] = replace(constants, L_u=Constant(constants.L_u.value, "estimated"))
    for theorem, word in ((FA, "consistent"), (FA.mutate(FA.mutant("gap1")), "not consistent")):
        verdict = verify(experiment, [theorem])[0].verdict
        assert verdict.status == "inconclusive"
        assert verdict.reason.startswith(word)
        assert verdict.grade == "estimated"


def test_replicates_are_added_until_decided(monkeypatch):
    """A noisy bound close to equality needs more than the first look; a budget ends the search."""
    experiment = descent(eta=0.97, T=6, noise=Noise("gaussian", 1.0), u=0.0)
    far = verify(experiment, [FA], max_replicates=8192, engine="eager")[0].verdict
    assert far.status == "holds"
    assert 64 < far.replicates <= 8192
    near = verify(experiment, [FA], max_replicates=64, engine="eager")[0].verdict
    assert (near.status, near.replicates) == ("inconclusive", 64)
    assert near.low < near.bound < near.high


def test_error_is_shared_by_the_checks():
    one, many = (
        verify(descent(0.5, 5, Noise("gaussian", 1.0)), [FA], checks=k, engine="eager")[0].verdict for k in (1, 10)
    )
    assert many.error == pytest.approx(one.error / 10)
    assert many.high > one.high


def test_infinite_diversity_uses_the_visited_points():
    problem = build_problem({"family": "quadratic", "n": 4, "d_u": 2, "d_v": 2})
    start = state(problem, 1.0, 1.0)
    for cls, theorems in ((FedAlt, (FA, FA_STAR)), (FedSim, (FS, FS_STAR))):
        algorithm = cls(2, 1.0, 1.0, tau_u=2, tau_v=2)
        experiment = Experiment(problem, algorithm, Noise("gaussian", 0.3, 0.3), start, 50).with_eta(0.1)
        for result in verify(experiment, theorems):
            assert result.verdict.status == "holds"
            assert result.verdict.a_posteriori
        refused = verify(experiment, theorems[:1], a_posteriori=False)[0].verdict
        assert refused.status == "premises_unmet"
        assert "δ is infinite" in refused.reason


def test_a_posteriori_is_the_plain_bound_where_the_diversity_is_constant():
    """Equal Hessians and no coupling: the diversity is δ² everywhere, so both forms agree."""
    problem = sharp(kind="sampling", n=3, delta=2.0)
    algorithm = FedAlt(2, 1.0, 0.0, tau_u=2, tau_v=0)
    experiment = Experiment(problem, algorithm, Noise("zero"), state(problem, 0.3), 20).with_eta(0.3)
    parameters = {"alpha": 0.0, "theta": 0.0, "theta_v": 0.0, "omega": 1.0}
    plain, visited = (
        verify(experiment, [FA], parameters=parameters, a_posteriori=choice)[0].verdict for choice in (False, True)
    )
    assert visited.a_posteriori
    assert visited.bound == pytest.approx(plain.bound, rel=1e-9)
    assert visited.measured == plain.measured


def test_one_block_runs_use_one_block_of_the_theorem():
    problem = build_problem({"family": "trigonometric", "n": 4, "d_u": 2, "d_v": 2})
    noise = Noise("gaussian", 0.2, 0.2)
    for algorithm, blocks in (
        (FedAvg(2, 1.0, 0.0, tau_u=2, tau_v=0), (True, False)),
        (LocalOnly(2, 0.0, 1.0, tau_u=0, tau_v=2), (False, True)),
    ):
        experiment = Experiment(problem, algorithm, noise, state(problem, 0.5, 0.5), 40).with_eta(0.2)
        result = verify(experiment, [FA])[0]
        assert result.inputs.blocks == blocks
        assert result.inputs.values["chi"] == 0.0
        assert result.verdict.status == "holds"


def test_unequal_steps_raise_the_other_constant():
    """γ_v a quarter of what η asks for: L_v is raised fourfold, and the verdict is the same as if it were that."""
    problem = build_problem({"family": "trigonometric", "n": 4, "d_u": 2, "d_v": 2})
    algorithm = FedAlt(2, 0.1, 0.025, tau_u=2, tau_v=2)
    experiment = Experiment(problem, algorithm, Noise("gaussian", 0.2, 0.2), state(problem, 0.5, 0.5), 20)
    result = verify(experiment, [FA])[0]
    assert result.inputs.values["eta"] == pytest.approx(0.2)
    assert result.inputs.values["L_v"] == pytest.approx(4 * problem.constants.L_v.value)
    assert "L_v raised" in result.inputs.notes[0]
    assert result.verdict.status == "holds"


def test_a_recorded_run_is_judged_like_the_experiment():
    problem = build_problem({"family": "trigonometric", "n": 4, "d_u": 2, "d_v": 2})
    algorithm = FedSim(2, 1.0, 1.0, tau_u=2, tau_v=2)
    experiment = Experiment(problem, algorithm, Noise("gaussian", 0.2, 0.2), state(problem, 0.5, 0.5), 20).with_eta(0.2)
    direct = verify(experiment, [FS, FS_STAR], checks=2, max_replicates=64)
    recorded = judge(run(experiment, 64))
    for a, b in zip(direct, recorded, strict=True):
        assert b.verdict.status == "holds"
        assert b.verdict.measured == a.verdict.measured
        assert b.verdict.bound == a.verdict.bound
        assert b.inputs == a.inputs
    with pytest.raises(InputError, match="theorem FA is about"):
        judge(run(experiment, 2), [FA])
    with pytest.raises(InputError, match=r"grad_u_sq.* missing"):
        judge(run(experiment, 2, level="none"))
    with pytest.raises(InputError, match="at least 2 replicates"):
        judge(run(experiment, 1))


def test_a_recorded_run_with_visited_diversity_tunes_on_other_replicates():
    problem = build_problem({"family": "quadratic", "n": 4, "d_u": 2, "d_v": 2})
    algorithm = FedAlt(2, 1.0, 1.0, tau_u=2, tau_v=2)
    experiment = Experiment(problem, algorithm, Noise("gaussian", 0.3, 0.3), state(problem, 1.0, 1.0), 30).with_eta(0.1)
    for result in judge(run(experiment, 64)):
        assert result.verdict.status == "holds"
        assert result.verdict.a_posteriori
        assert result.verdict.replicates == 48


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e8, 1e12])
def test_units_of_F_do_not_matter_a_posteriori(scale):
    """F rescaled with its noise: every bound and measure scales along, also where δ² is measured (nothing cancels)."""
    rng = np.random.default_rng(0)
    parts = {"A": np.ones((3, 1, 1)), "B": np.ones((3, 1, 1)), "C": rng.uniform(-0.9, 0.9, (3, 1, 1))}
    parts |= {"a": rng.normal(size=(3, 1)), "b": rng.normal(size=(3, 1))}

    def tightness(by):
        problem = build_problem({"family": "quadratic_arrays"} | {k: (by * x).tolist() for k, x in parts.items()})
        noise = Noise("gaussian", 0.3 * by, 0.3 * by)
        experiment = Experiment(problem, FedAlt(1, 1.0, 1.0, tau_u=2, tau_v=2), noise, state(problem, 1, 1), 30)
        verdict = verify(experiment.with_eta(0.1), [FA], parameters=parameters)[0].verdict
        assert verdict.a_posteriori
        return verdict.tightness

    parameters = {"alpha": 0.5, "theta": 1.0, "theta_v": 1.0, "omega": 1.0}
    assert tightness(scale) == pytest.approx(tightness(1.0), rel=1e-9)


@pytest.mark.parametrize(
    ("noise", "word"),
    [
        (
            Noise("spikes", 1.0, spike_probability=1e-6),
            "a spike of one coordinate of u at a client and round is expected",
        ),
        (Noise("student_t", 1.0, dof=2.05), "no variance"),
    ],
)
def test_rare_and_heavy_noise_never_gives_a_false_holds(noise, word):
    """Half of S₁ is refuted by unit noise at η = 1, whatever the law; samples that cannot know it must not deny it."""
    experiment = descent(1.0, 100, noise, u=0.0)
    weak = FA.mutate(FA.mutant("half_s1"))
    for verdict in (
        verify(experiment, [weak], max_replicates=64, engine="eager")[0].verdict,
        judge(run(experiment, 64), [FA])[0].verdict,
    ):
        assert verdict.status in ("inconclusive", "violated")
        assert verdict.high == math.inf
        assert word in verdict.method or word in verdict.reason
    exact = verify(experiment, [weak])[0].verdict
    assert (exact.status, exact.method) == ("violated", "exact")


def test_enough_spikes_and_bounded_gradients_decide():
    assert withheld(*known("spikes"), 64, True) is not None
    assert withheld(*known("spikes"), 6400, True) is None
    assert withheld(*known("student_t", dof=3.0), 64, True) is None
    assert withheld(*known("student_t", dof=3.0), 10**6, False) is not None
    assert withheld(*known("student_t", dof=4.5), 64, False) is None
    assert replicates_for_skewness(np.ones(5)) == math.inf  # no spread in a random sample is no certainty
    assert replicates_for_skewness(np.array([0.0] * 99 + [1.0])) > 100


def known(law, **options):
    noise = Noise(law, 1.0, 0.0, spike_probability=0.01, **options).to_dict()
    return noise, {"m": 1, "tau_u": 2, "tau_v": 0}, {"n": 3, "d_u": 1, "d_v": 4}, 10


def test_divergence_decides_nothing_where_the_visited_diversity_diverges_too():
    problem = sharp(kind="coupled", n=2, chi=0.5)
    algorithm = FedAlt(1, 1.0, 1.0, tau_u=1, tau_v=1)
    experiment = Experiment(problem, algorithm, Noise("gaussian", 1.0, 1.0), state(problem), 2000).with_eta(3.0)
    weak = FA.mutate(FA.mutant("no_conditions"))
    for engine in ("eager", "auto"):
        verdict = verify(experiment, [weak], max_replicates=2, engine=engine, parameters=YOUNG)[0].verdict
        assert (verdict.status, verdict.bound) == ("inconclusive", math.inf)
        assert verdict.diverged == verdict.replicates
        assert verdict.a_posteriori


YOUNG = {"alpha": 0.5, "theta": math.inf, "theta_v": math.inf, "omega": 0.0}


def test_bad_requests_are_sentences():
    experiment = descent()
    with pytest.raises(InputError, match="theorem FS is about fedsim; got 'fedalt'"):
        verify(experiment, [FS])
    with pytest.raises(InputError, match=r"error must lie in \(0, 0.5\); got 0.7"):
        verify(experiment, [FA], error=0.7)
    with pytest.raises(InputError, match="max_replicates must be at least 2"):
        verify(experiment, [FA], max_replicates=1)
    with pytest.raises(InputError, match="free parameters alpha, theta, theta_v, omega; got 'beta'"):
        verify(experiment, [FA], parameters={"beta": 1.0})


def test_pilots_never_enter_a_verdict():
    assert module.PILOT >= 1_000_000


def test_verdict_as_plain_data():
    data = verify(descent(), [FA])[0].to_dict()
    assert data["status"] == "holds"
    assert data["parameters"]["theta"] in ("inf", 0.0)
    assert data["inputs"]["L_u"] == 1.0


def test_estimated_constants_have_words_of_their_own_and_settle_early(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from fedconv.cli import main

    file = tmp_path / "mlp.toml"
    file.write_text(
        'name = "mlp"\n[problem]\nfamily = "mlp"\nn = 3\npersonal = "head"\n'
        '[noise]\nlaw = "gaussian"\nsigma_u = 0.1\nsigma_v = 0.1\n'
        '[algorithm]\nname = "fedalt"\nm = 3\ntau = 1\neta = 0.1\n[run]\nT = 3\n'
    )
    assert main(["verify", str(file), "--theorem", "FA", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["results"]
    assert (one["status"], one["consistent"], one["replicates"]) == ("inconclusive", True, 64)
    assert main(["verify", str(file), "--theorem", "FA", "--strict"]) == 3
    assert "1 verdict: 1 consistent" in capsys.readouterr().out
