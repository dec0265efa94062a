"""Theorem objects: formulas against plain Python, limits, special cases, tuning, words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedconv.analysis.theorems import FA, FA_STAR, FS, FS_STAR, THEOREMS, theorem
from fedconv.analysis.theorems.split.effective_variance import COMPARISONS, PAPER, TUNED, TUNED_STAR
from fedconv.analysis.theorems.split.facts import Inputs
from fedconv.analysis.tuning.one_run import best_step, max_step, tune
from fedconv.problems.errors import InputError

BASE = {
    "n": 5.0,
    "m": 2.0,
    "tau_u": 3.0,
    "tau_v": 3.0,
    "T": 10.0,
    "eta": 0.1,
    "L_u": 1.0,
    "L_v": 2.0,
    "chi": 0.5,
    "sigma_u": 1.0,
    "sigma_v": 1.0,
    "delta": 0.5,
    "rho": 0.0,
    "gap0": 1.0,
}
YOUNG = {"alpha": 0.5, "theta": 2.0, "theta_v": 0.7, "omega": 1.5}


def inputs_of(values: dict[str, float]) -> Inputs:
    return Inputs(values, (True, True), "exact", 1.0)


def plain(key: str, x: dict[str, float], y: dict[str, float]) -> tuple[float, float, float]:
    """(rhs, weight_u, weight_v) of the theorem, typed out once more without sympy."""
    n, m, tau_u, tau_v, eta, chi = (x[k] for k in ("n", "m", "tau_u", "tau_v", "eta", "chi"))
    al, th, thv, om = y["alpha"], y["theta"], y["theta_v"], y["omega"]
    su, sv, d, rho, Lu, Lv = (x[k] for k in ("sigma_u", "sigma_v", "delta", "rho", "L_u", "L_v"))
    p, c = m / n, (n - m) / (m * (n - 1)) if n > 1 else 0.0
    star, sim = key.endswith("*"), key.startswith("FS")
    if sim:
        cross = chi**2 * p**2 / al
        a = 1 + 2 * eta**2 * (1 + chi) ** 2
        C = (math.exp(a) - 1 - a) / a**2 if star else 0.5 * math.exp(1 + 4 * eta**2 * (1 + chi**2))
        noise = 1 + al / m if star else 1 + al
        samp = (1 + al * c) * c if star else (1 + al) * c
        K = (1 + chi**2) * C * (1 - 1 / tau_u)
        K *= 1 + p + eta * (samp * (1 + 1 / om) + noise * th / m + (p + cross) * thv)
        S1 = noise * (1 + 1 / th) * su**2 / (m * tau_u * Lu)
        S2 = K * (2 * d**2 / Lu + (su**2 / Lu + sv**2 / Lv) / tau_u)
        eps_u, eps_v = 2 * K * eta**2 * (1 + rho**2), 2 * K * eta**2 / p
        tau_u = tau_v = x["tau_u"]
    else:
        cross = chi**2 * (1 - p) ** 2 / al
        a = 1 + 2 * eta**2
        C = (math.exp(a) - 1 - a) / a**2 if star else 0.5 * math.exp(a)
        samp = c + (al / (n - 1) ** 2 if n > 1 else 0.0) if star else (1 + al) * c
        Ku = C * (1 - 1 / tau_u) * (1 + eta * (samp * (1 + 1 / om) + th / m))
        Kv = C * (1 - 1 / tau_v) * (p * (1 + eta * thv) + cross * eta * thv)
        S1 = (1 + 1 / th) * su**2 / (m * tau_u * Lu)
        S2 = Ku / Lu * (2 * d**2 + su**2 / tau_u) + Kv * sv**2 / (tau_v * Lv)
        eps_u, eps_v = 2 * Ku * eta**2 * (1 + rho**2), 2 * Kv * eta**2 / p
    S1 += (1 + om) * samp * d**2 / Lu + (1 + 1 / thv) * sv**2 / (tau_v * Lv) * (p + cross)
    eps_u += (1 + om) * samp * eta * rho**2
    w_u, w_v = 1 - eps_u, p * (1 - eps_v)
    if star:
        w_u += (1 - (1 + al) * eta) / tau_u
        w_v += (p - eta * (p + cross)) / tau_v
    return 2 * x["gap0"] / (eta * x["T"]) + eta * S1 + eta**2 * S2, w_u, w_v


settings_of = st.fixed_dictionaries(
    {
        "n": st.integers(1, 40).map(float),
        "tau_u": st.integers(1, 9).map(float),
        "T": st.integers(1, 5000).map(float),
        "eta": st.floats(1e-4, 1.0),
        "L_u": st.floats(0.1, 10),
        "L_v": st.floats(0.1, 10),
        "chi": st.floats(0, 1.5),
        "sigma_u": st.floats(0, 3),
        "sigma_v": st.floats(0, 3),
        "delta": st.floats(0, 3),
        "rho": st.floats(0, 3),
        "gap0": st.floats(0, 10),
    }
)


@pytest.mark.parametrize("key", list(THEOREMS))
@given(x=settings_of, share=st.floats(0, 1), young=st.tuples(*[st.floats(0.01, 50)] * 4), tau_v=st.integers(1, 9))
def test_formulas_equal_a_second_writing(key, x, share, young, tau_v):
    x = x | {"m": max(1.0, round(share * x["n"])), "tau_v": float(tau_v) if key.startswith("FA") else x["tau_u"]}
    y = dict(zip(("alpha", "theta", "theta_v", "omega"), young, strict=True))
    values = THEOREMS[key].evaluate(x, y)
    for name, expected in zip(("rhs", "weight_u", "weight_v"), plain(key, x, y), strict=True):
        assert float(values[name]) == pytest.approx(expected, rel=1e-10, abs=1e-10 * (1 + abs(expected)))


@pytest.mark.parametrize("key", list(THEOREMS))
def test_closed_form_equals_the_definitions(key):
    chosen = theorem(key)
    expression = chosen.closed_form()
    numbers = {s: (BASE | YOUNG)[str(s)] for s in expression.free_symbols}
    assert float(expression.subs(numbers)) == pytest.approx(float(chosen.evaluate(BASE, YOUNG)["rhs"]), rel=1e-12)


@pytest.mark.parametrize("key", list(THEOREMS))
def test_arrays_equal_numbers_one_by_one(key):
    chosen = theorem(key)
    eta = np.array([0.01, 0.1, 0.3])[:, None]
    delta = np.array([0.0, 2.0])[None, :]
    together = chosen.evaluate(BASE | {"eta": eta, "delta": delta}, YOUNG)["rhs"]
    for i, j in np.ndindex(3, 2):
        alone = chosen.evaluate(BASE | {"eta": float(eta[i, 0]), "delta": float(delta[0, j])}, YOUNG)["rhs"]
        assert together[i, j] == alone


@pytest.mark.parametrize("key", list(THEOREMS))
def test_limits_are_the_limits(key):
    """At τ = 1, m = n (FedAlt) or χ = 0 (FedSim) the limit values equal what small and large parameters tend to."""
    chosen = theorem(key)
    x = BASE | {"tau_u": 1.0, "tau_v": 1.0, "m": 5.0, "rho": 1.0}
    if key.startswith("FS"):
        x["chi"] = 0.0
    limits = chosen.limits(x)
    assert limits["alpha"] == 0.0
    assert set(limits) == {"alpha", "theta", "theta_v", "omega"}
    near = {k: 1e-9 if v == 0 else 1e9 for k, v in limits.items()}
    exact, close = chosen.evaluate(x, limits), chosen.evaluate(x, near)
    for name in ("rhs", "weight_u", "weight_v"):
        assert float(exact[name]) == pytest.approx(float(close[name]), rel=1e-6)
    chosen.check_parameters(limits, x)
    with pytest.raises(InputError, match="limit is not allowed"):
        chosen.check_parameters(limits, BASE)


def test_no_best_step_for_infinite_diversity_is_a_sentence():
    inputs = Inputs(BASE | {"delta": math.inf}, (True, True), "exact", 1.0)
    with pytest.raises(InputError, match="theorem FA has no best step here, as δ is infinite; give eta as a number"):
        best_step(FA, inputs)


@pytest.mark.parametrize("chosen", THEOREMS.values(), ids=lambda t: t.key)
def test_absurd_steps_overflow_to_unmet_premises(chosen):
    """exp(2η²) of Python's own floats would raise."""
    parameters = {f.name: 1.0 for f in chosen.free}
    unmet = chosen.unmet(chosen.evaluate(BASE | {"eta": 1e300}, parameters))
    assert len(unmet) == len(chosen.conditions)


def test_sgd_is_the_special_case():
    """n = m = 1, no v, τ = 1: (1/T) Σ E‖∇F‖² ≤ 2LΔF₀/(ηT) + ησ², η ≤ 1."""
    x = BASE | {"n": 1.0, "m": 1.0, "tau_u": 1.0, "tau_v": 1.0, "chi": 0.0, "sigma_v": 0.0, "delta": 0.0, "eta": 1.0}
    for chosen in (FA, FS):
        values = chosen.evaluate(x, chosen.limits(x))
        assert float(values["weight_u"]) == 1.0
        assert float(values["rhs"]) == pytest.approx(2 * 1.0 / 10 + 1.0, rel=1e-15)
        assert chosen.unmet(values) == []
        over = chosen.evaluate(x | {"eta": 1.01}, chosen.limits(x))
        assert any("(1+α)η" in sentence for sentence in chosen.unmet(over))


def test_full_participation_has_no_cross_term_in_fedalt():
    x = BASE | {"m": 5.0}
    assert float(FA.evaluate(x, YOUNG | {"alpha": 0.0})["R"]) == 0.0
    assert FA.evaluate(x, YOUNG | {"alpha": 0.0})["S_1"] == FA.evaluate(x | {"chi": 1.0}, YOUNG | {"alpha": 0.0})["S_1"]


@pytest.mark.parametrize(("plain_one", "star"), [(FA, FA_STAR), (FS, FS_STAR)])
@given(x=settings_of, share=st.floats(0, 1))
def test_star_is_never_weaker_at_the_same_parameters(plain_one, star, x, share):
    x = x | {"m": max(1.0, round(share * x["n"])), "tau_v": x["tau_u"]}
    young = YOUNG | ({"alpha": 0.0} if x["m"] == x["n"] else {})  # with m = n FA* is meant at α → 0
    if x["m"] == x["n"] and plain_one is FS:
        young = YOUNG
    a, b = plain_one.evaluate(x, young), star.evaluate(x, young)
    if not plain_one.unmet(a) and x["chi"] <= 1:
        assert float(b["rhs"]) <= float(a["rhs"]) * (1 + 1e-12)
        assert float(b["weight_u"]) >= float(a["weight_u"]) * (1 - 1e-12)
        assert float(b["weight_v"]) >= float(a["weight_v"]) * (1 - 1e-12)


@pytest.mark.parametrize("key", list(THEOREMS))
def test_tuner_beats_a_random_search(key):
    chosen, inputs = theorem(key), inputs_of(BASE)
    tuned = tune(chosen, inputs)
    assert tuned is not None
    rng = np.random.default_rng(0)
    draws = {k: np.exp(rng.uniform(-9, 9, 20_000)) for k in YOUNG}
    best = float(np.min(chosen.guarantee(chosen.evaluate(BASE, draws))))
    assert tuned.guarantee <= best * (1 + 1e-9)
    assert chosen.unmet(chosen.evaluate(BASE, tuned.parameters)) == []


@pytest.mark.parametrize("key", list(THEOREMS))
def test_best_step_beats_every_other_step(key):
    chosen, inputs = theorem(key), inputs_of(BASE | {"T": 500.0})
    best = best_step(chosen, inputs)
    for eta in np.geomspace(1e-3, 0.99 * max_step(chosen, inputs), 15):
        other = tune(chosen, inputs_of(inputs.values | {"eta": float(eta)}))
        assert other is not None
        assert best.guarantee <= other.guarantee * (1 + 1e-6)


@pytest.mark.parametrize("key", list(THEOREMS))
def test_largest_step_is_the_edge(key):
    chosen, inputs = theorem(key), inputs_of(BASE)
    edge = max_step(chosen, inputs)
    assert tune(chosen, inputs_of(BASE | {"eta": edge * (1 - 1e-4)})) is not None
    assert tune(chosen, inputs_of(BASE | {"eta": edge * 1.001})) is None


def test_largest_step_in_closed_form():
    """τ = 1, ρ = 0: FedAlt needs η ≤ 1/(1 + χ(1−p)/√p), FedSim η ≤ 1/(1 + χ√p)."""
    x = BASE | {"tau_u": 1.0, "tau_v": 1.0}
    p, chi = 0.4, 0.5
    assert max_step(FA, inputs_of(x)) == pytest.approx(1 / (1 + chi * (1 - p) / math.sqrt(p)), rel=1e-5)
    assert max_step(FS, inputs_of(x)) == pytest.approx(1 / (1 + chi * math.sqrt(p)), rel=1e-5)


@pytest.mark.parametrize("key", list(THEOREMS))
def test_every_mutant_claims_more(key):
    """Somewhere a mutant's bound is smaller, its left-hand side larger, or its premises weaker."""
    chosen = theorem(key)
    x = BASE | {"rho": 0.5}
    for mutant in chosen.mutants:
        weak = chosen.mutate(mutant)
        a, b = chosen.evaluate(x, YOUNG), weak.evaluate(x, YOUNG)
        stronger = (
            float(b["rhs"]) < float(a["rhs"])
            or float(b["weight_u"]) > float(a["weight_u"])
            or float(b["weight_v"]) > float(a["weight_v"])
            or not weak.conditions
        )
        assert stronger, mutant.key
        assert weak.mutant_of == key


def test_words():
    for chosen in THEOREMS.values():
        words = chosen.latex()
        assert "inv" not in " ".join(words.values())
        assert r"\frac{1}{\theta_{v}}" in words["S_1"] or r"\theta_{v}" in words["S_1"]
    with pytest.raises(InputError, match="theorems are FA"):
        theorem("FB")
    with pytest.raises(InputError, match="got 'beta'"):
        FA.check_parameters(YOUNG | {"beta": 1.0}, BASE)
    with pytest.raises(InputError, match="needs a value for its free parameter omega"):
        FA.check_parameters({k: v for k, v in YOUNG.items() if k != "omega"}, BASE)


@given(x=settings_of, share=st.floats(0, 1))
def test_regime_conditions_are_signs_of_differences(x, share):
    x = x | {"m": max(1.0, round(share * x["n"])), "chi": max(x["chi"], 0.05), "sigma_v": max(x["sigma_v"], 0.05)}
    for comparison in COMPARISONS.values():
        alt, sim, condition = comparison.evaluate(x)
        if abs(alt - sim) > 1e-9 * (alt + sim):
            assert (alt < sim) == (condition < 0), comparison.key


def test_tuned_regimes_are_the_small_step_limits():
    """S₁ of the theorem at the best α, as η → 0, equals the stated effective variance."""
    x = BASE | {"eta": 1e-7, "tau_v": 3.0}
    for comparison, alt, sim in ((TUNED, FA, FS), (TUNED_STAR, FA_STAR, FS_STAR)):
        found = []
        for chosen in (alt, sim):
            alphas = np.geomspace(1e-4, 1e4, 400_001)
            values = chosen.evaluate(x, {"alpha": alphas, "theta": 1e9, "theta_v": 1e9, "omega": 1e-9})
            found.append(float(np.min(values["S_1"])))
        assert found == pytest.approx([float(v) for v in comparison.evaluate(x)[:2]], rel=1e-6)
    assert PAPER.constant_free
    assert not TUNED.constant_free
