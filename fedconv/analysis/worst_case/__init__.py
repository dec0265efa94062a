"""How far a bound is from the true worst case: settings, what is known in closed form, and the result.

Everything is deterministic (σ = 0, m = n) and in the units L_u = L_v = 1, F(u⁰, V⁰) − F★ = 1. The worst case of a
setting is the largest left-hand side (1/T) Σ_t (w_u X_t + w_v Y_t) of its theorem over the admissible functions, with
the weights and the right-hand side at the free parameters tuned for that theorem.
``fedconv.analysis.worst_case.program`` computes an upper value; a run on a quadratic gives a lower one.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from fedconv.analysis.theorems import THEOREMS, theorem
from fedconv.analysis.theorems.split.facts import Inputs
from fedconv.analysis.tuning.one_run import tune
from fedconv.problems.errors import InputError

Kind = Literal["exact", "relaxed"]
Algorithm = Literal["gd", "local_gd", "fedalt", "fedsim"]


@dataclass(frozen=True)
class Setting:
    """A deterministic run: T rounds of τ local steps with γ = η/τ on n clients, cross-sensitivity χ, diversity ≤ δ².

    ``gd`` is one client with τ = 1 and no personal block, ``local_gd`` has no personal block; FedAlt's theorems are
    about both. The diversity bound is imposed where the theorem's proof uses it, at the visited (u^t, Ṽ^{t+1}) or
    (u^t, V^t) (with one client there is none).

    Raises InputError where a value is out of range or the theorem is not about the algorithm.
    """

    name: str
    algorithm: Algorithm
    theorem: str
    T: int
    eta: float
    n: int = 1
    tau: int = 1
    chi: float = 0.0
    delta: float = 0.0

    def __post_init__(self) -> None:
        about = "fedsim" if self.algorithm == "fedsim" else "fedalt"
        if self.algorithm not in ("gd", "local_gd", "fedalt", "fedsim"):
            raise InputError(f"algorithm must be gd, local_gd, fedalt or fedsim; got {self.algorithm!r}")
        if about not in theorem(self.theorem).algorithms:
            fitting = " or ".join(key for key, t in THEOREMS.items() if about in t.algorithms)
            raise InputError(f"theorem must be {fitting} for {self.algorithm}; got {self.theorem!r}")
        for name, low, high in (("T", 1, 5), ("n", 1, 2), ("tau", 1, 2)):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise InputError(f"{name} must be an integer from {low} to {high}; got {value!r}")
        if not 0 < self.eta <= 1:
            raise InputError(f"eta must be in (0, 1]; got {self.eta}")
        if not 0 <= self.chi < 1:
            raise InputError(f"chi must be in [0, 1); got {self.chi}")
        if not (0 <= self.delta < math.inf):
            raise InputError(f"delta must be a number >= 0; got {self.delta}")
        if self.algorithm == "gd" and (self.n, self.tau) != (1, 1):
            raise InputError(f"gd means n = 1 and tau = 1; got n = {self.n}, tau = {self.tau}")
        if not self.personal and self.chi > 0:
            raise InputError(f"chi must be 0 for {self.algorithm}, which has no personal block; got {self.chi}")

    @property
    def personal(self) -> bool:
        """Whether there is a personal block."""
        return self.algorithm in ("fedalt", "fedsim")

    @property
    def joint(self) -> bool:
        """Whether both blocks step together (FedSim)."""
        return self.algorithm == "fedsim"

    @property
    def kind(self) -> Kind:
        """``exact`` where some function attains the worst case (``closed_form``), else ``relaxed``: an upper bound."""
        return "exact" if self.n == 1 and self.chi == 0 else "relaxed"

    @cached_property
    def inputs(self) -> Inputs:
        """What the theorem is given."""
        values = {
            "n": self.n, "m": self.n, "tau_u": self.tau, "tau_v": self.tau, "T": self.T, "eta": self.eta,
            "L_u": 1.0, "L_v": 1.0, "chi": self.chi, "sigma_u": 0.0, "sigma_v": 0.0,
            "delta": self.delta if self.n > 1 else 0.0, "rho": 0.0, "gap0": 1.0,
        }  # fmt: skip
        floats = {name: float(x) for name, x in values.items()}
        return Inputs(floats, (True, self.personal), "exact", 1.0)

    @cached_property
    def bound(self) -> Bound:
        """The theorem at its tuned parameters; InputError where no choice of them meets the premises."""
        tuned = tune(theorem(self.theorem), self.inputs)
        if tuned is None:
            raise InputError(f"theorem {self.theorem} admits no free parameters at eta = {self.eta}, chi = {self.chi}")
        values = theorem(self.theorem).evaluate(self.inputs.values, tuned.parameters)
        weights = (float(values["weight_u"]), float(values["weight_v"]) if self.personal else 0.0)
        return Bound(float(values["rhs"]), weights, tuned.parameters)


@dataclass(frozen=True)
class Bound:
    """A theorem's right-hand side, the weights (w_u, w_v) of its left-hand side, and the tuned parameters."""

    value: float
    weights: tuple[float, float]
    parameters: dict[str, float]


@dataclass(frozen=True)
class Tightness:
    """The result of a setting.

    ``worst_case`` = ``dual`` + ``residual`` is the safe upper value; ``primal`` the solver's primal value;
    ``attained`` the largest value met on a quadratic, so the true worst case lies in [attained, worst_case];
    ``closed_form`` where it is known. ``tightness`` = worst_case / bound ≤ 1 for a true theorem.
    """

    setting: Setting
    bound: float
    worst_case: float
    primal: float
    dual: float
    residual: float
    attained: float
    closed_form: float | None

    @property
    def tightness(self) -> float:
        return self.worst_case / self.bound

    @property
    def refuted(self) -> bool:
        """Whether an instance, the attained one, exceeds the bound (beyond rounding)."""
        return self.attained > self.bound * (1 + 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        numbers = {name: x for name, x in vars(self).items() if name != "setting"}
        return asdict(self.setting) | {"kind": self.setting.kind} | numbers | {"tightness": self.tightness}


def tightness(setting: Setting) -> Tightness:
    """Bound, worst case and what lies between; needs the extra ``pep`` (InputError names it)."""
    from fedconv.analysis.worst_case.program import worst_case

    bound = setting.bound
    found = worst_case(setting, bound.weights, magnitudes(setting), "mean")
    return Tightness(
        setting, bound.value, found.value, found.primal, found.dual, found.residual,
        attained(setting, bound.weights), closed_form(setting, bound.weights),
    )  # fmt: skip


# ---- closed forms ------------------------------------------------------------------------------------------


def descent_mean(T: int, eta: float, tau: int = 1) -> float:
    """The worst (1/T) Σ_{t<T} ‖∇f(x_{tτ})‖² of gradient descent with step h = η/τ ≤ 1 on 1-smooth f, f(x₀) − inf f ≤ 1.

    2(1 − q^T)/(T(1 − q)), q = (1−h)^{2τ}; attained by f = x²/2. Proof (derived here): ‖∇f(x_{k+1})‖ ≥ (1−h)‖∇f(x_k)‖
    and f(x_k) − f(x_{k+1}) ≥ h(1−h/2)‖∇f(x_k)‖², so τ steps gain at least ½(1−q)‖∇f(x_k)‖². With ‖∇f‖² ≤ 2(f − inf f)
    the sum over k+1 rounds is at most c_{k+1}(f − inf f), c_{k+1} = 2 + q c_k, c_1 = 2, as c_k(1−q)/2 ≤ 1.
    """
    q = (1 - eta / tau) ** (2 * tau)
    return 2 * sum(q**t for t in range(T)) / T


def descent_min(T: int, eta: float) -> float:
    """The worst min_{t<T} ‖∇f(x_t)‖² of gradient descent with step η ≤ 1 on 1-smooth f, f(x₀) − inf f ≤ 1.

    1/((T−1)(η − η²/4) + ½). With f(x₀) − f(x_{T−1}) ≤ 1 instead, the ½ goes; that is 4/(3(T−1)) for η = 1, the rate in
    Taylor 2017 (thesis, page 190).
    Proof (derived here): with a_t = ‖∇f(x_t)‖ the interpolation inequalities of x_t, x_{t+1} and f − inf f ≥ ½‖∇f‖² at
    the last point sum to aᵀAa ≤ 1, A tridiagonal with off-diagonals −(1−η)/4 and nonnegative row sums; so a ≥ G gives
    G² 1ᵀA1 ≤ 1. Attained by the function of one variable whose derivative is G at every x_t, falls with slope 1 to the
    middle of each step and rises again, and falls to 0 after the last point.
    """
    return 1 / ((T - 1) * (eta - eta**2 / 4) + 0.5)


def closed_form(setting: Setting, weights: tuple[float, float]) -> float | None:
    """The worst case where it is proved: one client, F = f(u) + h(v), the gap in the better block."""
    if setting.kind != "exact":
        return None
    return max(weights) * descent_mean(setting.T, setting.eta, setting.tau)


# ---- a lower value -----------------------------------------------------------------------------------------


def attained(setting: Setting, weights: tuple[float, float]) -> float:
    """The largest left-hand side met on F_i(u, v) = ½(a u² + b v²) + c uv, the same for all clients, over all starts.

    a, b in (0, 1], |c| ≤ χ, c² ≤ ab (a grid; c ≥ 0 loses nothing, as v → −v). The left-hand side and the gap are
    quadratic forms of the start, so the best start is an eigenvector. Clients that agree meet every diversity bound.
    """
    curvatures = np.linspace(0.05, 1.0, 20)
    cross = np.linspace(0.0, setting.chi, 11) if setting.chi > 0 else np.zeros(1)
    best = 0.0
    for a, b, c in itertools.product(curvatures, curvatures if setting.personal else [1.0], cross):
        if c**2 <= a * b:
            best = max(best, _largest(setting, weights, np.array([[a, c], [c, b]])))
    return best


def _largest(setting: Setting, weights: tuple[float, float], hessian: np.ndarray) -> float:
    """The largest left-hand side over starts with gap 1."""
    step = setting.eta / setting.tau
    both = np.eye(2) - step * hessian
    rows_u, rows_v = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])
    local_u, local_v = (
        np.linalg.matrix_power(np.eye(2) - step * rows @ hessian, setting.tau) for rows in (rows_u, rows_v)
    )
    if not setting.personal:
        local_v = np.eye(2)
    state, form = np.eye(2), np.zeros((2, 2))
    for _ in range(setting.T):
        seen = state if setting.joint else local_v @ state
        x, y = hessian[:1] @ seen, hessian[1:] @ state
        form += (weights[0] * x.T @ x + weights[1] * y.T @ y) / setting.T
        state = np.linalg.matrix_power(both, setting.tau) @ state if setting.joint else local_u @ seen
    if not setting.personal:  # v is not there
        return float(2 * form[0, 0] / hessian[0, 0])
    curvature, axes = np.linalg.eigh(hessian)
    kept = curvature > 1e-9  # along the others nothing changes
    starts = axes[:, kept] / np.sqrt(curvature[kept] / 2)  # F = 1 on unit combinations of the columns
    return float(np.linalg.eigvalsh(starts.T @ form @ starts)[-1])


def magnitudes(setting: Setting) -> tuple[float, float]:
    """(R², B): bounds on inner products of gradients, and on the program's other unknowns (derived here).

    One client: steps of at most 1/L in a block, and FedSim's because η(1+χ) ≤ 1, descend; so F ≤ 1 and all partial
    gradients are at most R = √2. More clients: by the theorem's one-round inequality F(u^t, V^t) ≤ Φ =
    1 + ½ηT·(rhs − 2/(ηT)), so a client's partial gradients are at most √(2nΦ) + √n δ where the diversity is bounded,
    1 + χηe^η times that during the personal steps, and e^{(1+χ)η} times that during the others. Two points of a run
    are at most D = η(T+1)R apart in each block, so |F_i| ≤ 1 + 2DR + 2D² by smoothness; the objective is at most 4R²,
    as no weight exceeds 2.
    """
    eta, T, n, chi = setting.eta, setting.T, setting.n, setting.chi
    R = math.sqrt(2)
    if n > 1:
        level = 1 + max(eta * T * setting.bound.value / 2 - 1, 0.0)
        R = math.sqrt(n) * (math.sqrt(2 * level) + setting.delta)
        R *= (1 + chi * eta * math.exp(eta)) * math.exp((1 + chi) * eta)
    D = eta * (T + 1) * R
    value = 1 + 2 * D * R + 2 * D**2 if n > 1 else 1.0
    product = D**2 if chi > 0 else 0.0
    return R**2, max(4 * R**2, value, product)


# ---- the built-in settings ---------------------------------------------------------------------------------


def _named(algorithm: Algorithm, key: str, T: int, eta: float, **others: Any) -> Setting:
    """A setting, named after what sets it apart."""
    parts = [algorithm.replace("_", "-"), f"T{T}", f"eta{eta:g}", *(f"{k}{x:g}" for k, x in others.items())]
    return Setting("-".join(parts) + ("-star" if key.endswith("*") else ""), algorithm, key, T, eta, **others)


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        *(_named("gd", "FA", T, eta) for eta in (0.5, 1.0) for T in (1, 2, 3, 4, 5)),
        _named("gd", "FA*", 5, 0.5),
        _named("local_gd", "FA", 5, 0.3, tau=2),
        _named("local_gd", "FA", 3, 0.3, n=2, delta=0.5),
        _named("local_gd", "FA", 3, 0.3, n=2, tau=2, delta=0.5),
        _named("local_gd", "FA*", 3, 0.3, n=2, tau=2, delta=0.5),
        *(_named("fedalt", "FA", T, 0.5, chi=chi) for T, chi in ((3, 0.0), (1, 0.5), (3, 0.5))),
        _named("fedalt", "FA", 2, 0.3, tau=2, chi=0.0),
        _named("fedalt", "FA", 2, 0.3, tau=2, chi=0.5),
        _named("fedalt", "FA*", 2, 0.3, tau=2, chi=0.5),
        _named("fedalt", "FA", 2, 0.3, n=2, chi=0.5, delta=0.5),
        *(_named("fedsim", "FS", T, 0.5, chi=chi) for T, chi in ((3, 0.0), (1, 0.5), (3, 0.5), (5, 0.5))),
        _named("fedsim", "FS", 2, 0.2, tau=2, chi=0.0),
        _named("fedsim", "FS", 2, 0.2, tau=2, chi=0.5),
        _named("fedsim", "FS*", 2, 0.2, tau=2, chi=0.5),
        _named("fedsim", "FS", 2, 0.3, n=2, chi=0.5, delta=0.5),
    )
}
"""The settings of ``fedconv tightness``, by name."""
