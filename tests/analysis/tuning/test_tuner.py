"""The largest admissible step and the least worst premise: against a second route, and what the method rests on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedconv.analysis.theorems import THEOREMS, Theorem
from fedconv.analysis.theorems.split.facts import Inputs
from fedconv.analysis.tuning.one_run import closest, max_step
from fedconv.problems.errors import InputError

BASE = {
    "n": 20.0, "m": 5.0, "tau_u": 5.0, "tau_v": 5.0, "T": 100.0, "eta": 0.1, "L_u": 1.0, "L_v": 2.0, "chi": 0.7,
    "sigma_u": 0.3, "sigma_v": 0.2, "delta": 0.5, "rho": 0.4, "gap0": 1.0,
}  # fmt: skip
VARIED = [
    {},
    {"chi": 0.0},
    {"sigma_u": 0.0, "sigma_v": 0.0},
    {"delta": 0.0, "rho": 0.0},
    {"rho": 30.0},
    {"m": 20.0},
    {"tau_u": 1.0, "tau_v": 1.0},
    {"n": 1.0, "m": 1.0},
    {"chi": 20.0, "tau_u": 50.0, "tau_v": 50.0},
    {"m": 1.0, "rho": 3.0, "chi": 2.0},
    {"delta": math.inf},
]
EVERY = [t for theorem in THEOREMS.values() for t in (theorem, *(theorem.mutate(x) for x in theorem.mutants))]
ANY: tuple[str, ...] = ("alpha", "theta", "theta_v", "omega")


def inputs_of(values: dict[str, float]) -> Inputs:
    return Inputs(values, (True, True), "exact", 1.0)


def worst(theorem: Theorem, values: dict[str, float], parameters: dict, eta: object = None) -> np.ndarray:
    """The largest left side of a premise."""
    found = theorem.evaluate(values | ({} if eta is None else {"eta": eta}), parameters)["conditions"].values()
    return np.maximum.reduce(np.broadcast_arrays(*found))


def second_route(theorem: Theorem, values: dict[str, float]) -> float:
    """The largest η by another method: COBYQA, without derivatives, from another start."""
    from scipy.optimize import minimize

    fixed = theorem.limits(values)
    names = [f.name for f in theorem.free if f.name not in fixed]

    def slack(y: np.ndarray) -> np.ndarray:
        parameters = {**fixed, **dict(zip(names, np.exp(y[1:]), strict=True))}
        found = theorem.evaluate(values | {"eta": float(np.exp(y[0]))}, parameters)["conditions"].values()
        return -np.log(np.maximum([float(x) for x in found], 1e-30))

    y = np.array([-4.0] + [0.0] * len(names))
    for _ in range(2):
        y = minimize(
            lambda y: -y[0],
            y,
            method="COBYQA",
            bounds=[(-25.0, 0.0)] + [(-36.0, 36.0)] * len(names),
            constraints=[{"type": "ineq", "fun": slack}],
            options={"final_tr_radius": 1e-9, "maxiter": 1500},
        ).x
    assert slack(y).min() > -1e-8
    return math.exp(y[0])


@pytest.mark.parametrize("key", list(THEOREMS))
@pytest.mark.parametrize("change", VARIED, ids=str)
def test_the_largest_step_is_admissible_and_no_larger_one_is(key: str, change: dict) -> None:
    theorem, values = THEOREMS[key], BASE | change
    eta = max_step(theorem, inputs_of(values))
    at = values | {"eta": eta}
    parameters = closest(theorem, inputs_of(at)).parameters
    theorem.check_parameters(parameters, at)
    assert not theorem.unmet(theorem.evaluate(at, parameters))
    if eta < 1:
        beyond = closest(theorem, inputs_of(values | {"eta": eta * (1 + 2e-6)}))
        assert beyond.guarantee > 1.0


@pytest.mark.parametrize("key", list(THEOREMS))
@pytest.mark.parametrize("change", [VARIED[4], VARIED[9]], ids=str)
def test_a_second_route_finds_the_same_largest_step(key: str, change: dict) -> None:
    theorem, values = THEOREMS[key], BASE | change
    assert max_step(theorem, inputs_of(values)) == pytest.approx(second_route(theorem, values), rel=1e-6)


@pytest.mark.parametrize("key", list(THEOREMS))
def test_no_random_parameters_meet_the_premises_better(key: str) -> None:
    theorem, rng = THEOREMS[key], np.random.default_rng(5)
    for change in VARIED:
        values = BASE | change
        found = closest(theorem, inputs_of(values))
        assert found.guarantee == pytest.approx(float(worst(theorem, values, found.parameters)), rel=1e-12)
        fixed = theorem.limits(values)
        draws = {f.name: fixed.get(f.name, np.exp(rng.uniform(-9, 9, 5_000))) for f in theorem.free}
        near = {
            k: x if k in fixed else x * np.exp(rng.normal(scale=0.02, size=5_000)) for k, x in found.parameters.items()
        }
        for parameters in (draws, near):
            assert found.guarantee <= worst(theorem, values, parameters).min() * (1 + 1e-7)


@pytest.mark.parametrize("theorem", EVERY, ids=lambda t: t.key)
def test_premises_are_convex_in_the_logarithms_and_limits_know_no_step(theorem: Theorem) -> None:
    """What the method rests on, for the theorems and their weakened versions."""
    assert "eta" not in {str(s) for f in theorem.free for e in (f.to_zero, f.to_infinity) for s in e.free_symbols}
    rng = np.random.default_rng(1)
    for change in VARIED:
        ends = rng.uniform(-6, 3, (2, 500, 5))
        ends[..., 0] = np.minimum(ends[..., 0], 0.0)
        logs = []
        for z in (*ends, ends.mean(axis=0)):
            parameters = dict(zip(ANY, np.exp(z[:, 1:]).T, strict=True))
            values = theorem.evaluate(BASE | change | {"eta": np.exp(z[:, 0])}, parameters)
            with np.errstate(divide="ignore"):
                logs.append({k: np.log(np.broadcast_to(x, (500,))) for k, x in values["conditions"].items()})
        for name, middle in logs[2].items():
            mean = (logs[0][name] + logs[1][name]) / 2
            assert ((middle <= mean + 1e-9) | (middle == -np.inf) | (mean == np.inf)).all(), name


def test_weakened_theorems_have_a_largest_step_too() -> None:
    for theorem in EVERY:
        eta = max_step(theorem, inputs_of(BASE))
        at = BASE | {"eta": eta}
        assert not theorem.unmet(theorem.evaluate(at, closest(theorem, inputs_of(at)).parameters)), theorem.key
        assert (eta == 1.0) == (not theorem.conditions), theorem.key


@pytest.mark.parametrize("chi", [1e-6, 1.0, 1e5, 1e8])
def test_the_largest_step_in_closed_form_over_all_magnitudes(chi: float) -> None:
    """τ = 1, ρ = 0: FedAlt needs η ≤ 1/(1 + χ(1−p)/√p), FedSim η ≤ 1/(1 + χ√p)."""
    values, p = BASE | {"tau_u": 1.0, "tau_v": 1.0, "rho": 0.0, "chi": chi}, 0.25
    assert max_step(THEOREMS["FA"], inputs_of(values)) == pytest.approx(1 / (1 + chi * (1 - p) / p**0.5), rel=1e-6)
    assert max_step(THEOREMS["FS"], inputs_of(values)) == pytest.approx(1 / (1 + chi * p**0.5), rel=1e-6)


def test_no_step_where_the_premises_fail_at_every_step() -> None:
    theorem = THEOREMS["FA"]
    with pytest.raises(InputError, match=r"theorem FA admits no step size for these constants: n = 20.*chi = 1e\+12"):
        max_step(theorem, inputs_of(BASE | {"chi": 1e12}))
    with pytest.raises(InputError, match="has no best step here, as δ is infinite"):
        max_step(theorem, inputs_of(BASE | {"chi": 1e12, "delta": math.inf}))


def test_the_worst_premise_is_infinite_where_it_overflows() -> None:
    values = BASE | {"chi": 50.0, "eta": 1.0}
    found = closest(THEOREMS["FS"], inputs_of(values))
    assert found.guarantee == math.inf
    assert found.parameters == {f.name: f.default for f in THEOREMS["FS"].free}
