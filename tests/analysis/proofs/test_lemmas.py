"""The lemmas: measured on the algorithm's own steps, true where they are true, caught where they are false."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fedconv.analysis.exact import tree_expectations
from fedconv.analysis.proofs.chain import CHAINS, compose
from fedconv.analysis.proofs.lemmas import LEMMAS, Lemma, lemma
from fedconv.analysis.proofs.lemmas.base import LemmaMutant, evaluate, lemma_values, linear, term
from fedconv.analysis.proofs.lemmas.catching import HALVES, INSTANCES, LIMITS, instance
from fedconv.analysis.proofs.quantities import QUANTITIES, observe
from fedconv.analysis.proofs.replay import Setup, check_lemma
from fedconv.analysis.proofs.replay import round_copies as copies
from fedconv.analysis.proofs.replay.decide import Finding, judge, steadied
from fedconv.analysis.proofs.replay.round_copies import Copies, Visited, copies_of, draw, every_outcome
from fedconv.analysis.proofs.replay.visited_states import evenly, visit
from fedconv.analysis.theorems import THEOREMS, theorem
from fedconv.analysis.theorems.base import eta, symbol
from fedconv.analysis.theorems.split.facts import of_experiment
from fedconv.analysis.tuning.one_run import closest
from fedconv.analysis.verdicts.verify import wants_a_posteriori
from fedconv.core.run import Experiment, run
from fedconv.methods.split import LocalNoise, State, Tally
from fedconv.problem_file.settings import settings_from
from fedconv.problems.errors import InputError

WAVES = {"family": "trigonometric", "n": 5, "d_u": 3, "d_v": 2, "L_u": 1.0, "L_v": 2.0, "chi": 0.5, "delta": 1.0}
GAUSS = {"law": "gaussian", "sigma_u": 0.7, "sigma_v": 0.4}
MUTANTS = [(a, f"{x.key}:{k.key}") for a, chosen in LEMMAS.items() for x in chosen for k in x.mutants]


def experiment(name: str = "fedalt", T: int = 3, /, **tables: Any) -> Experiment:
    file = {
        "problem": WAVES,
        "noise": GAUSS,
        "algorithm": {"name": name, "m": 2, "tau": 3, "eta": 0.2},
        "run": {"T": T},
    } | tables
    if file["noise"] is None:
        del file["noise"]
    settings = settings_from(file, "test")
    spec = settings.algorithms[0]
    assert not isinstance(spec.eta, str)
    return settings.experiment(spec, spec.eta)


def setup(chosen: Experiment, parameters: dict[str, float], count: int = 4096, error: float = 1e-6) -> Setup:
    inputs = of_experiment(chosen)
    use = wants_a_posteriori(inputs, "auto")
    if use:
        inputs = inputs.with_diversity(0.0)
    key = "FA" if chosen.algorithm.name == "fedalt" else "FS"
    return Setup(theorem(key), inputs, parameters, use, count, error)


def start(chosen: Experiment, replicate: int = 0) -> Visited:
    return Visited(replicate, 0, chosen.start.u.numpy(), chosen.start.v.numpy())


def exactly(algorithm: str, mutant: str) -> tuple[Experiment, Setup, Copies]:
    case = instance(algorithm, mutant)
    settings = settings_from(case.file(algorithm), "test")
    spec = settings.algorithms[0]
    chosen = settings.experiment(spec, float(spec.eta or 0.0))
    outcomes = every_outcome(chosen)
    assert outcomes is not None
    made = setup(chosen, case.parameters)
    (found,) = copies_of(chosen, [start(chosen)], 32, made.L, outcomes)
    return chosen, made, found


@pytest.mark.parametrize(("algorithm", "mutant"), MUTANTS)
def test_false_versions_are_caught_where_the_lemma_holds(algorithm: str, mutant: str) -> None:
    chosen, made, found = exactly(algorithm, mutant)
    here = start(chosen)
    assert check_lemma(chosen, made, lemma(algorithm, mutant), here, found).status == "violated"
    for one in LEMMAS[algorithm]:
        finding = check_lemma(chosen, made, one, here, found)
        assert finding.status == "holds", (one.key, finding.reason)


def test_every_lemma_has_a_false_version_and_every_instance_a_lemma() -> None:
    for algorithm, chosen in LEMMAS.items():
        assert all(x.mutants for x in chosen)
        assert set(INSTANCES[algorithm]) == {f"{x.key}:{m.key}" for x in chosen for m in x.mutants}
        numbered = {x.key.split("_")[0] for x in chosen}
        expected = {"L1", "L3", "L5", "L6", "L7", "L8", "L9"}
        assert numbered == expected | ({"L2", "L4", "L10"} if algorithm == "fedalt" else {"L2'", "L11"})


def test_formulas_typed_a_second_time() -> None:
    """Sides of lemmas at random quantities, against the page's formulas written out."""
    rng = np.random.default_rng(5)
    for name in LEMMAS:
        chosen = experiment(name)
        values = setup(chosen, HALVES | {"theta": 0.7, "theta_v": 1.3, "omega": 0.4}).values
        q = {k: rng.uniform(1, 2, (4, 5) if k == "s" else 4) for k in QUANTITIES}
        V = SimpleNamespace(**values)
        joint = name == "fedsim"
        s = q["s"].mean(1)
        drift_u = V.L_u * (1 + V.chi**2) * s if joint else V.L_u**2 * q["D_u"]
        drift_v = V.L_v * (1 + V.chi**2) * s if joint else V.L_v**2 * q["D_v"]
        gamma_u, gamma_v, tau = V.eta / (V.L_u * 3), V.eta / (V.L_v * 3), 3
        pages = {
            "L1": q["mean_sq"] + (5 - 2) / (2 * 4) * q["spread"],
            "L3_u": 0.35 * q["rr_u"] + tau * 0.49 / (2 * 0.7),
            "L3_v": 0.65 * q["rr_v"] + tau * 0.16 / (2 * 1.3),
            "L5": gamma_v**2 * (tau * q["sum_g"] + (1 + 1 / 1.3) * tau * 0.16 + 1.3 * tau * drift_v),
            "L8": gamma_u / 2 * (-tau * q["X"] - q["sum_h"] + drift_u),
            "L9": tau * q["sum_h"] + 3 / 8 * (1.4 * tau**2 * (V.delta**2 + V.rho**2 * q["X"]) + 3.5 * tau * drift_u)
            + ((1 + 1 / 0.7) * tau * 0.49 + 0.7 * tau * drift_u) / 2,
        }  # fmt: skip
        if joint:
            inside = 2 * tau * (q["grad_u_i_sq"] / V.L_u + q["Y"] / V.L_v) + 0.49 / V.L_u + 0.16 / V.L_v
            pages["L2'"] = math.exp(1 + 4 * V.eta**2 * (1 + V.chi**2)) / 2 * (2 / 3) * V.eta**2 * inside
            pages["L6_present"] = 0.4**2 * V.chi**2 * V.L_u * V.L_v * q["displacement"]
            pages["L11"] = (
                -gamma_u * q["inner_cohort"] + q["present_v"] + V.L_u * 1.5 / 2 * gamma_u**2 * q["step_sq"]
                + V.L_v / 2 * (0.4 + V.chi**2 * 0.16 / 0.5) * q["displacement"]
            )  # fmt: skip
        else:
            C = math.exp(1 + 2 * V.eta**2) / 2
            pages["L2_u"] = C * (2 / 3) * V.eta**2 * (2 * tau * q["grad_u_i_sq"] + 0.49)
            pages["L2_v"] = C * (2 / 3) * V.eta**2 * (2 * tau * q["Y"] + 0.16)
            pages["L4"] = (
                -V.eta / (2 * V.L_v) * q["Y"] - gamma_v / 2 * (1 - V.eta) * q["sum_g"]
                + V.eta * (1 + V.eta * 1.3) / (2 * V.L_v * tau) * V.L_v**2 * q["D_v"]
                + (1 + 1 / 1.3) * V.eta**2 * 0.16 / (2 * V.L_v * tau)
            )  # fmt: skip
            pages["L6"] = 0.6**2 * V.chi**2 * V.L_u * V.L_v * q["displacement"]
            pages["L10"] = (
                -gamma_u * q["inner"] + q["gap_sq"] / (2 * 0.5 * V.L_u) + 0.5 * V.L_u * gamma_u**2 / 2 * q["cohort_sq"]
                + V.L_u * gamma_u**2 / 2 * q["step_sq"]
            )  # fmt: skip
        for key, page in pages.items():
            side = evaluate(linear(lemma(name, key).rhs, values), q, False)
            np.testing.assert_allclose(side, page, rtol=1e-12, err_msg=f"{name} {key}")


@pytest.mark.parametrize("algorithm", ["fedalt", "fedsim"])
def test_observed_rounds_are_the_algorithms_own(algorithm: str) -> None:
    chosen = experiment(algorithm)
    rows = draw(chosen, [0], 0, 7)
    state = State(chosen.start.u[None], chosen.start.v[None])
    seen = observe(chosen.problem, chosen.algorithm, state, rows.noise, rows.sampled, (1.0, 2.0))
    order = torch.argsort(rows.sampled.int(), dim=1, descending=True, stable=True)
    cohort = order[:, :2]

    def taken(x: torch.Tensor) -> torch.Tensor:
        return torch.take_along_dim(x, cohort[..., None, None], 1)

    many = State(chosen.start.u.expand(7, -1), chosen.start.v.expand(7, -1, -1))
    after = chosen.algorithm.step(chosen.problem, many, cohort, LocalNoise(taken(rows.noise.u), taken(rows.noise.v)))
    np.testing.assert_allclose(seen.after.u, after.u, rtol=0, atol=1e-13)
    np.testing.assert_allclose(seen.after.v, after.v, rtol=0, atol=1e-13)
    tally = Tally()
    everyone = torch.arange(5).expand(7, -1)
    u = many.u[:, None].expand(-1, 5, -1)
    chosen.algorithm.local(chosen.problem, u, many.v, everyone, rows.noise, tally)
    np.testing.assert_allclose(seen.sample["D_u"], torch.as_tensor(tally.drift_u), rtol=1e-12)
    np.testing.assert_allclose(seen.sample["D_v"], torch.as_tensor(tally.drift_v), rtol=1e-12)
    y, z = torch.as_tensor(tally.y_u), torch.as_tensor(tally.z_u)
    np.testing.assert_allclose(seen.sample["yz_u"], (y * z).sum(-1), atol=1e-13)
    F = chosen.problem.objective(after.u, after.v) - chosen.problem.objective(many.u, many.v)
    np.testing.assert_allclose(seen.sample["change"], F, atol=1e-13)


@pytest.mark.parametrize("algorithm", ["fedalt", "fedsim"])
def test_expectations_agree_with_the_enumerated_tree_and_with_copies(algorithm: str) -> None:
    tables = {
        "problem": {"family": "quadratic", "n": 2, "d_u": 1, "d_v": 1, "coupling": 0.6},
        "noise": {"law": "rademacher", "sigma_u": 0.5, "sigma_v": 0.8},
        "algorithm": {"name": algorithm, "m": 1, "tau": 2, "eta": 0.3},
    }
    chosen = experiment(algorithm, 1, **tables)
    made = setup(chosen, HALVES, 20_000)
    (exact,) = copies_of(chosen, [start(chosen)], 0, made.L, every_outcome(chosen))
    tree = tree_expectations(chosen, level="proof")
    same = {
        "drift_u": "D_u", "drift_v": "D_v", "displacement": "displacement", "l6_gap_sq": "gap_sq", "l7_full": "inner",
        "l7_sampled": "inner_cohort", "l7_real_sampled": "real_cohort", "l7_real_full": "real_inner", "grad_v_sq": "Y",
        "grad_u_virtual_sq" if algorithm == "fedalt" else "grad_u_sq": "X",
    }  # fmt: skip
    assert exact.weights is not None
    means = {k: float(exact.weights @ (x.mean(1) if x.ndim == 2 else x)) for k, x in exact.sample.items()}
    for theirs, ours in same.items():
        assert means[ours] == pytest.approx(float(tree[theirs].values[0, 0]), rel=1e-10), ours
    F = float(tree["F_final"].values[0] - tree["F"].values[0, 0])
    assert means["change"] == pytest.approx(F, rel=1e-9)
    (drawn,) = copies_of(chosen, [start(chosen)], 20_000, made.L)
    for key, x in drawn.sample.items():
        flat = x.mean(1) if x.ndim == 2 else x
        assert abs(flat.mean() - means[key]) <= 6 * flat.std() / math.sqrt(20_000) + 1e-12, key


def test_the_gap_of_l7_has_its_closed_form() -> None:
    """c p (1/n)Σ⟨x̂_i − mean, y_i − ȳ⟩ with x̂_i = ∇_uF_i(u, ṽ_i) − ∇_uF_i(u, v_i), without noise."""
    chosen, _, found = exactly("fedalt", "L7:real")
    problem, p, c = chosen.problem, 1 / 3, 1.0
    u, v = chosen.start.u.expand(1, 3, 1), chosen.start.v[None]
    tally = Tally()
    none = LocalNoise(torch.zeros(1, 3, 2, 1), torch.zeros(1, 3, 2, 1))
    everyone = torch.arange(3)[None]
    _, ends = chosen.algorithm.local(problem, u, v, everyone, none, tally)
    x = problem.grad_u(u, ends, everyone) - problem.grad_u(u, v, everyone)
    y = torch.as_tensor(tally.y_u)
    gap = c * p * ((x - x.mean(1, True)) * (y - y.mean(1, True))).sum(-1).mean()
    assert found.weights is not None
    measured = found.weights @ (found.sample["real_cohort"] - found.sample["real_inner"])
    assert measured == pytest.approx(float(gap), rel=1e-10)
    assert abs(measured) > 1e-3


def test_copies_depend_on_neither_blocks_nor_company(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = experiment("fedsim", noise=GAUSS | {"dependence": "full"})
    states = [start(chosen, r) for r in range(3)]
    whole = list(copies_of(chosen, states, 40, (1.0, 2.0)))
    monkeypatch.setattr(copies, "CHUNK", 100)
    for a, b in zip(whole, copies_of(chosen, states, 40, (1.0, 2.0)), strict=True):
        for key, x in a.sample.items():
            np.testing.assert_allclose(b.sample[key], x, rtol=1e-12, atol=1e-13)
    (alone,) = copies_of(chosen, states[2:], 15, (1.0, 2.0))
    np.testing.assert_allclose(alone.sample["change"], whole[2].sample["change"][:15], rtol=1e-12, atol=1e-13)
    assert not np.allclose(whole[0].sample["change"], whole[1].sample["change"])


def test_rounding_is_no_violation_where_everyone_takes_part() -> None:
    """L6 reads 0 ≤ 0, and L3 with one local step."""
    for tau in (1, 2):
        chosen = experiment("fedalt", noise=None, algorithm={"name": "fedalt", "m": 5, "tau": tau, "eta": 0.2})
        made = setup(chosen, LIMITS if tau == 1 else HALVES)
        (found,) = copies_of(chosen, [start(chosen)], 32, made.L, every_outcome(chosen))
        assert found.exact
        for one in LEMMAS["fedalt"]:
            assert check_lemma(chosen, made, one, start(chosen), found).status == "holds", one.key


@pytest.mark.parametrize("algorithm", ["fedalt", "fedsim"])
def test_visited_states_are_those_of_a_run(algorithm: str) -> None:
    chosen = experiment(algorithm, 6)
    visited, final = visit(chosen, evenly(6, 3), 2)
    trace = run(chosen, 2, engine="eager")
    assert [(x.round, x.replicate) for x in visited] == [(0, 0), (0, 1), (2, 0), (2, 1), (4, 0), (4, 1)]
    for x in visited:
        F = chosen.problem.objective(torch.from_numpy(x.u), torch.from_numpy(x.v))
        assert float(F) == pytest.approx(float(trace["F"].values[x.replicate, x.round]), rel=1e-12)
    np.testing.assert_allclose(final, trace["F_final"].values, rtol=1e-12)
    assert evenly(5, 9).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("key", CHAINS)
@pytest.mark.parametrize("sizes", [(5, 2, 3), (5, 5, 2), (5, 1, 1), (1, 1, 2)])
def test_the_chain_ends_in_the_theorem(key: str, sizes: tuple[int, int, int]) -> None:
    n, m, tau = sizes
    name = "fedalt" if key.startswith("FA") else "fedsim"
    problem = WAVES | {"n": n} | ({"delta": 0.0, "spread": 0.0} if n == 1 else {})
    chosen = experiment(name, problem=problem, algorithm={"name": name, "m": m, "tau": tau, "eta": 0.1})
    inputs = of_experiment(chosen)
    inputs = replace(inputs, values=inputs.values | {"rho": 0.3})
    parameters = closest(THEOREMS[key], inputs).parameters
    values = lemma_values(THEOREMS[key], inputs.values, parameters)
    ends = compose(key, values)
    last = {k: x for k, x in ends.last.items() if x != 0}
    wanted = {
        "X": -values["eta"] / 2 * values["weight_u"] / values["L_u"],
        "Y": -values["eta"] / 2 * values["weight_v"] / values["L_v"],
        None: values["eta"] / 2 * (values["eta"] * values["S_1"] + values["eta"] ** 2 * values["S_2"]),
    }
    assert set(last) <= set(wanted)
    for k, x in wanted.items():
        assert ends.last[k] == pytest.approx(x, rel=1e-12)
    assert all(s.multiplier >= -1e-15 for s in ends.steps if s.link.kind == "upper")


def test_samples_decide_with_limits() -> None:
    rng = np.random.default_rng(3)
    one = Lemma("T", "test", "upper", ("fedalt",), term("X"), 2 * eta + 0 * term("sum_h"), mutants=())
    equal = replace(one, kind="equality")
    chosen = experiment()
    values = setup(chosen, HALVES).values | {"eta": 0.5}
    blank = {k: np.zeros((500, 5) if k in PER_CLIENT else 500) for k in QUANTITIES}

    def found(x: np.ndarray, rule: Lemma, **more: Any) -> Finding:
        return judge(rule, values, Copies(blank | {"X": x}, None), error=1e-6, scale=1.0, **more)

    noise = rng.standard_normal(500)
    assert found(0.5 + 0.1 * noise, one).status == "holds"
    assert found(1.5 + 0.1 * noise, one).status == "violated"
    assert found(1.0 + 0.1 * noise, one).status == "inconclusive"
    assert found(1.0 + 0.1 * noise, equal).status == "holds"
    assert found(0.5 + 0.1 * noise, equal).status == "violated"
    assert found(1.0 + 9.0 * noise, equal).status == "inconclusive"
    assert found(0.5 + 0.1 * noise, one, withheld="few spikes").reason == "no limits: few spikes"
    assert found(np.full(500, math.nan), one).status == "inconclusive"
    rough = replace(one, rhs=one.rhs * symbol("L_u"))
    assert found(1.5 + 0.1 * noise, rough, estimated=True).status == "inconclusive"
    assert found(1.5 + 0.1 * noise, one, estimated=True).status == "violated"
    exact = Copies({k: x[:1] for k, x in blank.items()} | {"X": np.array([1.0 + 5e-10])}, np.ones(1))
    assert judge(one, values, exact, error=1e-6, scale=1.0).status == "holds"
    beyond = Copies(dict(exact.sample) | {"X": np.array([1.0 + 5e-9])}, np.ones(1))
    assert judge(one, values, beyond, error=1e-6, scale=1.0).status == "violated"


PER_CLIENT = {"Y", "s", "D_u", "D_v", "displacement", "phi", "sum_g", "inner_v", "x_sq", "grad_u_i_sq"} | {
    f"{k}_{b}" for k in ("zz", "yz", "rr", "rz", "gz", "noise") for b in "uv"
}


def test_control_variates_keep_the_mean_and_take_spread_off() -> None:
    rng = np.random.default_rng(8)
    zero = rng.standard_normal(5000)
    x = 3.0 + 2.0 * zero + 0.1 * rng.standard_normal(5000)
    steady = steadied(x, [zero, np.zeros(5000)])
    assert steady.std() < 0.11
    assert abs(steady.mean() - 3.0) < 0.01
    assert steadied(x[:50], [zero[:50]]) is not None
    np.testing.assert_array_equal(steadied(x[:50], [zero[:50]]), x[:50])


def test_mutants_and_lemmas_by_name() -> None:
    false = lemma("fedsim", "L8:u_alone")
    assert (false.key, false.mutant_of) == ("L8:u_alone", "L8")
    with pytest.raises(InputError, match=r"lemmas of fedalt are L1, .*; got 'L11'"):
        lemma("fedalt", "L11")
    with pytest.raises(InputError, match=r"lemma L1 has the mutants c_replaced, no_spread; got 'x'"):
        lemma("fedalt", "L1:x")
    assert lemma("fedalt", "L6").quantities == ["displacement", "gap_sq"]
    assert r"\chi^{2}" in lemma("fedalt", "L6").latex()
    assert LemmaMutant("k", "words").rhs is None
    with pytest.raises(InputError, match="a proof can be replayed of FA, FA"):
        compose("XX", {})
