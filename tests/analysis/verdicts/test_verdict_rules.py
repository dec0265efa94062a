"""What a verdict may say: two infinite sides, lower bounds, visited diversity, what is judged, and the shared error."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
import torch

from fedconv.analysis.theorems import FA, FA_STAR, FS, FS_STAR, Free, Theorem
from fedconv.analysis.theorems.base import SAMPLING, delta, eta, gap0, rho, rhs, sigma_u, weight_u, weight_v
from fedconv.analysis.theorems.ffgg.catching import TWO_WORLDS
from fedconv.analysis.theorems.registry import statement
from fedconv.analysis.theorems.statement import Statement, StatementInputs, lhs, measured
from fedconv.analysis.verdicts.statement_check import StatementCheck
from fedconv.analysis.verdicts.statement_verify import judge_statements, verify_statements
from fedconv.analysis.verdicts.verdict import Limits, Verdict, decide, excess
from fedconv.analysis.verdicts.verify import fitting, judge, resolve_step, verify
from fedconv.core.run import Experiment, run
from fedconv.methods.split import FedAlt, FedAvg, FedSim, State
from fedconv.problem_file.settings import settings_from
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.registry import build_problem

INF, NAN = math.inf, math.nan


def state(problem, u=1.0, v=0.0):
    return State(
        torch.full((problem.d_u,), u, dtype=torch.float64),
        torch.full((problem.n, problem.d_v), v, dtype=torch.float64),
    )


def own(key="OWN", right=delta**2, **given):
    """A bound of a user on (1/T) Σ X_t / L_u."""
    parts = {
        "title": key, "source": "a user", "algorithms": ("fedavg", "fedalt"), "conditions": (), "free": (),
        "shared": "grad_u_sq", "diversity": "diversity",
        "definitions": {**SAMPLING, weight_u: sp.Integer(1), weight_v: sp.Integer(0), rhs: right},
    }  # fmt: skip
    return Theorem(key=key, **(parts | given))


def averaging(T=30, noise=1.0):
    """FedAvg on client losses that differ by their linear terms."""
    problem = build_problem(
        {"family": "trigonometric", "n": 10, "d_u": 5, "d_v": 0, "L_v": 0.0, "chi": 0.0, "spread": 0.0}
    )
    algorithm = FedAvg(2, 0.1, 0.0, tau_u=1, tau_v=0)
    return Experiment(problem, algorithm, Noise("gaussian", noise, 0.0), state(problem), T)


def coupled(T=30, eta_=0.1, cls=FedAlt, **given):
    """Clients that couple differently: δ is infinite."""
    table = {"family": "quadratic", "n": 6, "d_u": 3, "d_v": 2, "spread": 3.0, "coupling": 0.5}
    problem = build_problem(table | given)
    m = problem.n if not given else 1
    algorithm = cls(m, 1.0, 1.0, tau_u=1, tau_v=1)
    noise = Noise("gaussian", 0.1, 0.0) if given else Noise("zero")
    return Experiment(problem, algorithm, noise, state(problem), T).with_eta(eta_)


# ---- two infinite sides decide nothing ---------------------------------------------------------------------


DIVERGING = {"n": 8, "indefinite": 0.95, "coupling": 0.3, "spread": 1.0}


@pytest.mark.parametrize(("cls", "bounds"), [(FedAlt, (FA, FA_STAR)), (FedSim, (FS, FS_STAR))])
@pytest.mark.parametrize("engine", ["auto", "eager"])
def test_an_infinite_left_side_against_an_infinite_diversity_decides_nothing(cls, bounds, engine):
    """Exact and sampled; the step conditions are left out, so that nothing else stands in the way."""
    free = [t.mutate(t.mutant("gap1")) for t in bounds]
    steep = [replace(t, conditions=()) for t in (*bounds, *free)]
    parameters = {"alpha": 0.5, "theta": 1.0, "theta_v": 1.0, "omega": 1.0}
    for result in verify(
        coupled(3000, 2.4, cls, **DIVERGING), steep, engine=engine, max_replicates=2, parameters=parameters
    ):
        verdict = result.verdict
        assert verdict.a_posteriori
        assert (verdict.measured, verdict.bound, verdict.status) == (INF, INF, "inconclusive")
        assert "two infinite sides decide nothing" in verdict.reason
        assert verdict.diverged == verdict.replicates


def test_a_finite_bound_is_still_broken_by_an_infinite_left_side():
    """Without diversity in the bound the same run refutes it: nothing is dropped."""
    verdict = verify(coupled(3000, 2.4, **DIVERGING), [own(right=sp.Integer(7))], engine="eager", max_replicates=2)
    assert (verdict[0].verdict.status, verdict[0].verdict.bound) == ("violated", 7.0)


def test_a_mean_diversity_that_overflows_is_an_infinite_bound():
    """Finite at each replicate, and their mean is not: neither side may then be compared."""
    experiment = coupled(4)
    trace = run(experiment, 2)
    with_noise = replace(experiment, noise=Noise("gaussian", 0.1, 0.1))
    several = run(with_noise, 4)
    for name in ("diversity", "diversity_virtual", "grad_u_virtual_sq", "grad_u_sq"):
        several[name] = several[name] * 0 + 1.5e308
    for verdict in (r.verdict for r in judge(several, [own(right=1e3 * delta**2), own(right=delta**2)])):
        assert verdict.status == "inconclusive"
    assert judge(trace, [own()])[0].verdict.a_posteriori


@pytest.mark.parametrize(
    ("left", "right", "kind", "expected"),
    [
        (INF, INF, "upper", "open"), (NAN, INF, "upper", "open"), (1.0, INF, "upper", "obeyed"),
        (INF, 1.0, "upper", "broken"), (NAN, 1.0, "upper", "broken"), (1.0, NAN, "upper", "open"),
        (1.0, -INF, "upper", "open"), (2.0, 1.0, "upper", "broken"), (1.0, 1.0, "upper", "obeyed"),
        (INF, INF, "lower", "open"), (NAN, 1.0, "lower", "open"), (1.0, -INF, "lower", "obeyed"),
        (1.0, 2.0, "lower", "broken"), (2.0, 1.0, "lower", "obeyed"), (1.0, INF, "lower", "open"),
        (INF, INF, "equality", "open"), (INF, 1.0, "equality", "broken"), (1.0, INF, "equality", "open"),
        (1.0, 2.0, "equality", "broken"), (2.0, 2.0, "equality", "obeyed"), (NAN, NAN, "equality", "open"),
    ],
)  # fmt: skip
def test_sides_that_are_not_finite(left, right, kind, expected):
    """A path, a round of a path, and an expectation say the same."""
    over = excess(np.array([left]), np.array([right]), 0.0, kind)[0]
    assert {"open": math.isnan(over), "broken": over > 0, "obeyed": over <= 0}[expected]
    wanted = {"open": {"inconclusive"}, "broken": {"violated"}, "obeyed": {"holds", "inconclusive"}}[expected]
    for rounds in (False, True):
        assert on_path([[left]] if rounds else [left], [[right]] if rounds else [right], kind, rounds).status in wanted
    if kind != "equality" or not math.isnan(left):
        assert in_expectation([left] * 999, [right] * 999, kind).status in wanted


def test_a_broken_round_outweighs_an_open_one_and_an_open_one_a_good_one():
    finite = on_path([[1.0, INF, 3.0]], [[2.0, INF, 2.0]], "upper", True)
    assert (finite.status, finite.measured, finite.bound) == ("violated", 3.0, 2.0)
    open_ = on_path([[1.0, INF, 1.9]], [[2.0, INF, 2.0]], "upper", True)
    assert (open_.status, open_.measured) == ("inconclusive", INF)
    assert "decide nothing" in open_.reason
    two = on_path([1.0, INF], [2.0, INF], "upper", False)
    assert (two.status, two.measured) == ("inconclusive", INF)
    assert on_path([3.0, INF], [2.0, INF], "upper", False).status == "violated"


def test_two_worlds_are_measured_against_their_bound_and_not_the_other_way_round():
    """FFGG-7Be, the one lower bound of this package: its weakened version claims more than is there."""
    one = statement("FFGG-7Be")
    true, false = verify_statements(ffgg(), [one, one.mutate(one.mutant("twice"))])
    assert (true.verdict.status, false.verdict.status) == ("holds", "violated")
    assert false.verdict.measured == true.verdict.measured
    assert false.verdict.bound > 1.9 * false.verdict.measured
    assert false.verdict.tightness == pytest.approx(2.0, abs=0.1)


def claim(left, right, kind, rounds=False, pathwise=True):
    """A statement whose sides are these arrays, over replicates or ``(R, K)``."""
    a = measured("a", "a", "a", lambda trace, values: np.array(left, dtype=float))
    b = measured("b", "b", "b", lambda trace, values: np.array(right, dtype=float))
    return Statement("S", "S", "here", ("ffgg",), {lhs: a.symbol, rhs: b.symbol}, (a, b), kind=kind, pathwise=pathwise,
                     rounds=rounds)  # fmt: skip


def checked(one, count):
    import xarray as xr

    trace = xr.Dataset(coords={"replicate": np.arange(count), "round": np.arange(1)})
    check = StatementCheck(one, StatementInputs({}, {}, "exact"), False, 1e-6, 1)
    check.add(trace)
    return check.verdict()


def on_path(left, right, kind, rounds) -> Verdict:
    return checked(claim(left, right, kind, rounds), len(left))


def in_expectation(left, right, kind) -> Verdict:
    """The left side varies by a millionth: samples without spread decide nothing by Student's limits."""
    varied = [x * (1 + 1e-6 * (-1) ** k) for k, x in enumerate(left)]
    return checked(claim(varied, right, kind, pathwise=False), len(left))


# ---- what is claimed: at most, at least, equal ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "kind", "status"),
    [
        (1.1, 1.2, "lower", "holds"), (0.8, 0.9, "lower", "violated"), (0.8, 1.1, "lower", "inconclusive"),
        (-INF, INF, "lower", "inconclusive"), (1.1, INF, "lower", "holds"), (1.0, 1.0, "equality", "holds"),
        (1.1, 1.2, "equality", "violated"), (0.8, 0.9, "equality", "violated"), (0.9, 1.1, "equality", "inconclusive"),
        (INF, INF, "equality", "violated"),
    ],
)  # fmt: skip
def test_decisions_by_kind(low, high, kind, status):
    assert decide(Limits(low, high, ""), 1.0, 0.0, kind)[0] == status


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_bound_of_each_kind_is_decided_as_it_is_claimed(noise):
    """Sampled cohorts: the mean of X/L_u lies between 0.05 and 5; the other way round each claim is false."""
    cases = [("upper", 5.0, "holds"), ("lower", 0.05, "holds"), ("upper", 0.05, "violated"), ("lower", 50.0, None),
             ("equality", 0.05, "violated")]  # fmt: skip
    found = verify(averaging(noise=noise), [own(right=sp.Float(b), kind=k) for k, b, _ in cases], max_replicates=128)
    for (kind, _, status), result in zip(cases, found, strict=True):
        verdict = result.verdict
        assert verdict.kind == kind
        assert verdict.status == (status or "violated"), (kind, verdict.reason)
        assert ("lower bound" in verdict.reason) == (kind == "lower")
        if verdict.status == "holds":
            assert verdict.tightness == pytest.approx(
                verdict.bound / verdict.measured if kind == "lower" else verdict.measured / verdict.bound
            )
            assert verdict.tightness <= 1


def test_a_lower_bound_a_posteriori_needs_limits_of_the_difference():
    """lhs − slope·diversity is negative here: the lower bound −… is judged by the mirrored limits."""
    experiment = replace(coupled(T=8), noise=Noise("gaussian", 0.3, 0.3))
    trace = run(experiment, 64)
    diversity = float(trace["diversity"].mean())
    left = float(trace["grad_u_sq"].mean()) / experiment.problem.constants.L_u.value
    share = 0.5 * left / diversity
    true, false = judge(trace, [own(right=c * delta**2, kind="lower") for c in (sp.Float(share), sp.Float(8 * share))])
    assert (true.verdict.status, false.verdict.status) == ("holds", "violated")
    spiky = replace(experiment, noise=Noise("spikes", 1.0, spike_probability=1e-7))
    (unknown,) = judge(run(spiky, 8), [own(right=sp.Float(share) * delta**2, kind="lower")])
    assert unknown.verdict.status == "inconclusive"
    assert unknown.verdict.low == -INF


def test_a_lower_bound_decides_nothing_where_replicates_diverge():
    experiment = replace(averaging(T=2000, noise=1.0))
    problem = build_problem({"family": "quadratic", "n": 3, "d_u": 2, "d_v": 0, "coupling": 0.0})
    experiment = Experiment(
        problem, FedAvg(1, 1.0, 0.0, tau_u=1, tau_v=0), Noise("gaussian", 1.0), state(problem), 3000
    ).with_eta(8.0)
    low, high = verify(
        experiment, [own(right=sp.Integer(1), kind=k) for k in ("lower", "upper")], max_replicates=2, engine="eager"
    )
    assert (low.verdict.status, high.verdict.status) == ("inconclusive", "violated")
    assert low.verdict.diverged == 2


def test_each_kind_is_printed_with_its_relation(capsys):
    from fedconv.analysis.pages import mathml
    from fedconv.commands.verify import bounded

    marks = {
        "upper": (r"\le", "&#8804;", ""),
        "lower": (r"\ge", "&#8805;", "≥ "),
        "equality": ("=", "<mo>=</mo>", "= "),
    }
    verdicts = verify(averaging(T=2), [own(right=sp.Float(0.25), kind=k) for k in marks], max_replicates=2)
    for (kind, (latex, html, table)), result in zip(marks.items(), verdicts, strict=True):
        one = own(right=sp.Float(0.25), kind=kind)
        assert f"\\Big){latex} 0.25" in one.latex()["statement"]
        assert html in mathml.statement(one)
        assert bounded(result.verdict) == f"{table}0.25"
        assert result.to_dict()["kind"] == kind


def test_what_only_an_upper_bound_has_is_refused():
    """Nothing tunes the free parameters, or the step, of a lower bound."""
    alpha = Free("alpha", sp.Integer(1), sp.Integer(1))
    one = own(right=alpha.x / 1000, kind="lower", free=(alpha,))
    with pytest.raises(InputError, match=r"OWN is no upper bound, so nothing tunes its free parameters.* alpha"):
        verify(averaging(), [one])
    assert verify(averaging(), [one], parameters={"alpha": 1.0})[0].verdict.status == "holds"
    with pytest.raises(InputError, match='must be a number or "max" for theorem OWN, which is no upper bound'):
        resolve_step(averaging(), one, "best")


def test_falsify_refuses_a_bound_that_is_no_upper_bound():
    from fedconv.analysis.falsify import falsify

    with pytest.raises(
        InputError, match="searched for is a run that breaks an upper bound; theorem FA is a lower bound"
    ):
        falsify(replace(FA, kind="lower"), budget="quick")


def test_a_statement_that_is_a_lower_bound_shows_its_sides_as_they_are():
    low = on_path([2.0, 3.0], [1.0, 1.0], "lower", False)
    assert (low.status, low.measured, low.bound, low.tightness) == ("holds", 2.0, 1.0, 0.5)
    assert low.reason == "2 is not below the lower bound 1 on each of 2 replicates"
    broken = on_path([2.0, 0.5], [1.0, 1.0], "lower", False)
    assert (broken.status, broken.measured, broken.bound, broken.tightness) == ("violated", 0.5, 1.0, 2.0)
    assert broken.reason == "0.5 is not ≥ 1 on 1 of 2 replicates"
    rng = np.random.default_rng(0)
    for shift, status in ((1.0, "holds"), (-1.0, "violated")):
        left = rng.uniform(1, 2, 400)
        for right in (np.full(400, 1.5 - shift), left - shift + rng.uniform(-0.1, 0.1, 400)):
            verdict = in_expectation(left, right, "lower")
            assert verdict.status == status
            assert verdict.measured == pytest.approx(left.mean())
            assert verdict.bound == pytest.approx(right.mean())
            assert verdict.low <= verdict.measured <= verdict.high


# ---- δ² is replaced only in a bound that is affine in it ------------------------------------------------------


def test_built_in_bounds_are_affine_and_their_slope_is_the_difference():
    experiment = coupled()
    for one in fitting("fedalt"):
        assert one.affine
        values = verify(experiment, [one])[0].inputs.values
        parameters = verify(experiment, [one])[0].verdict.parameters
        at = [one.evaluate(values | {"delta": x, "rho": 0.0}, parameters) for x in (0.0, 1.0)]
        assert one.slope(at[0]) == pytest.approx(float(at[1]["rhs"]) - float(at[0]["rhs"]), rel=1e-9)


@pytest.mark.parametrize(
    "right",
    [delta / 10, (gap0 * delta) ** sp.Rational(2, 3) / 10, delta**4, sp.Max(delta**2, 1), 1 / (1 + delta**2),
     delta**2 / rho],
)  # fmt: skip
def test_a_bound_that_is_not_affine_is_refused(right):
    one = own(right=right)
    assert not one.affine
    verdict = verify(coupled(), [one])[0].verdict
    assert verdict.status == "premises_unmet"
    assert "not affine in δ²" in verdict.reason
    with pytest.raises(InputError, match=r"theorem OWN must be affine in δ²"):
        verify(coupled(), [one], a_posteriori=True)
    assert judge(run(coupled(), 1), [one])[0].verdict.status == "premises_unmet"


@pytest.mark.parametrize(
    ("right", "weight"),
    [
        (sp.Rational(1, 1000) + 3 * delta**2, sp.Integer(1)),
        (eta * sigma_u + (1 + delta) ** 2 - 2 * delta, sp.Integer(1)),
        (delta**2 * (1 + 5 * rho * delta) + gap0, 1 + rho),
        (2 + delta**2 * (1 - eta) - delta**2, sp.Integer(1)),
    ],
)
def test_an_affine_bound_is_the_formula_at_the_visited_diversity(right, weight):
    """Terms that are neither gap nor noise included; ρ is 0 where the diversity itself is measured."""
    one = own(right=right, definitions={**SAMPLING, weight_u: weight, weight_v: sp.Integer(0), rhs: right})
    experiment = coupled()
    result = verify(experiment, [one])[0]
    visited = float(run(experiment, 1)["diversity"].mean())
    values = result.inputs.values | {"delta": math.sqrt(visited), "rho": 0.0}
    assert result.verdict.a_posteriori
    assert result.verdict.bound == pytest.approx(float(one.evaluate(values, {})["rhs"]), rel=1e-12)


@pytest.mark.parametrize("where", ["weight", "condition"])
def test_a_weight_or_premise_that_asks_for_delta_is_refused_too(where):
    from fedconv.analysis.theorems import Condition

    weight = 1 / (1 + delta) if where == "weight" else sp.Integer(1)
    conditions = (Condition("ηδ", eta * delta / 1000),) if where == "condition" else ()
    definitions = {**SAMPLING, weight_u: weight, weight_v: sp.Integer(0), rhs: delta**2}
    one = own(definitions=definitions, conditions=conditions)
    assert not one.affine
    assert "not affine" in verify(coupled(), [one])[0].verdict.reason


# ---- what was asked is decided or refused -----------------------------------------------------------------------


def some_statement():
    return claim([0.0], [1.0], "upper")


def test_judge_never_answers_a_question_with_an_empty_list():
    trace = run(averaging(T=3), 4)
    with pytest.raises(
        InputError, match=r"a run of 'fedavg' is judged by bounds .*; S is a Statement, which needs a run"
    ):
        judge(trace, [some_statement()])
    with pytest.raises(InputError, match="S is a Statement"):
        judge(trace, [own(right=sp.Integer(9)), some_statement()])
    with pytest.raises(InputError, match="S is a Statement"):
        verify(averaging(T=3), [some_statement()])
    assert judge(trace, []) == []
    assert len(judge(trace, [own(right=sp.Integer(9))])) == 1
    assert len(judge(trace)) == len(fitting("fedavg"))


def test_judge_refuses_where_no_theorem_is_known():
    trace = run(averaging(T=3), 4)
    trace.attrs["algorithm"] = trace.attrs["algorithm"].replace('"fedavg"', '"mine"')
    with pytest.raises(InputError, match="no theorem is known about 'mine'; name the theorems"):
        judge(trace)


def ffgg():
    settings = settings_from(TWO_WORLDS, "here")
    return settings.runnable(settings.algorithms[0])


def test_a_run_of_another_method_is_judged_by_what_was_asked():
    """A bound about FedAlt was dropped, and every statement judged in its place."""
    trace = run(ffgg(), 2)
    with pytest.raises(InputError, match=r"a run of ffgg is judged by statements; FA is a bound about fedalt"):
        judge(trace, [FA])
    with pytest.raises(InputError, match="theorem S is about fedspa; got 'ffgg'"):
        judge(trace, [replace(some_statement(), algorithms=("fedspa",))])
    with pytest.raises(InputError, match="theorem S is about fedspa; got 'ffgg'"):
        verify_statements(ffgg(), [replace(some_statement(), algorithms=("fedspa",))])
    assert judge(trace, []) == []
    assert judge(trace)


# ---- the error is shared by the checks ------------------------------------------------------------------------


def test_the_error_is_shared_by_the_checks_on_every_route():
    experiment = averaging(T=3)
    (alone,) = verify(experiment, [own(right=sp.Integer(9))], error=1e-3)
    (shared,) = verify(experiment, [own(right=sp.Integer(9))], error=1e-3, checks=10)
    assert (alone.verdict.error, shared.verdict.error) == (1e-3, 1e-4)
    trace = run(experiment, 8)
    judged = judge(trace, [own(right=sp.Integer(9)), own(right=sp.Integer(8))], error=1e-3)
    assert [r.verdict.error for r in judged] == [5e-4, 5e-4]
    constant = [replace(claim([[1.0]], [[2.0]], "upper", True), key=k) for k in ("A", "B", "C", "D")]
    statements = verify_statements(ffgg(), constant, error=1e-3, checks=8)
    assert [r.verdict.error for r in statements] == [1e-3 / 8] * 4
    judged = judge_statements(run(ffgg(), 1), constant, error=1e-3)
    assert [r.verdict.error for r in judged] == [1e-3 / 4] * 4


def test_the_error_of_a_statement_moves_its_limits():
    """Not only the number that is printed: with more checks the interval is wider."""
    wide, narrow = (
        StatementCheck(claim([0.0], [1.0], "upper", pathwise=False), StatementInputs({}, {}, "exact"), False, e, 1)
        for e in (1e-9, 1e-3)
    )
    for check in (wide, narrow):
        check.lhs.append(np.random.default_rng(0).uniform(0, 1, 64))
        check.rhs.append(np.full(64, 2.0))
    assert wide.verdict().low < narrow.verdict().low
    assert wide.verdict().high > narrow.verdict().high
