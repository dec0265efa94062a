"""Full personalization: a loss of one's own, tied to the shared model (the objective of pFedMe and Ditto)."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.base import Constant, Constants, Kernel, Problem
from fedconv.problems.certified_minimum import Enclosure, minimise_semiconcave
from fedconv.problems.errors import InputError
from fedconv.problems.split.quadratic import Quadratic
from fedconv.problems.split.trigonometric import CELLS, EXACT_WIDTH, Trigonometric
from fedconv.problems.validation import Positive
from fedconv.problems.written_for import written_for


class FullPersonalization(Problem):
    """F_i(u,v) = f_i(v) + (λ/2)‖v − u‖² over a base problem f without shared part (d_u = 0 there, d_u = d_v here).

    L_u = λ, L_uv = L_vu = λ, L_v = L_f + λ, so χ = √(λ/(L_f + λ)). L_v is exact where L_f is a curvature that is
    attained upward (trigonometric: b; quadratic: where the largest eigenvalue is the norm). The diversity is λ² times
    the variance of the v_i: unbounded (δ = ∞) for more than one client. F★: exact over quadratics, certified
    over trigonometric bases (:func:`envelope_minimum`), otherwise the mean of inf f_i, a lower bound. Pillutla et al.
    2022 discuss this objective among others; constants derived here. Raises InputError unless λ > 0, d_v ≥ 1 and the
    base has d_u = 0.
    """

    family: ClassVar[str] = "full_personalization"

    def __init__(self, *, base: Problem, lam: float) -> None:
        if not (math.isfinite(lam) and lam > 0):
            raise InputError(f"lam must be a finite number > 0; got {lam}")
        if base.d_u != 0:
            raise InputError(f"base must have d_u = 0 (its loss is f_i(v)); got d_u={base.d_u}")
        if base.d_v == 0:
            raise InputError("base must have d_v >= 1; got 0")
        self.base, self.lam = base, float(lam)
        self.n, self.d_u, self.d_v = base.n, base.d_v, base.d_v

    def to(self, device: torch.device | str) -> FullPersonalization:
        out = FullPersonalization(base=self.base.to(device), lam=self.lam)
        out.spec = self.spec
        return out

    @property
    def device(self) -> torch.device:
        return self.base.device

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self.base.value(v[..., :0], v, clients) + 0.5 * self.lam * (v - u).square().sum(-1)

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self.lam * (u - v)

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self.base.grad_v(v[..., :0], v, clients) + self.lam * (v - u)

    def kernel(self) -> Kernel | None:
        from fedconv.problems.compiled.losses import PERSONALIZED, SLOT

        below = self.base.kernel()
        if below is None:
            return None
        code, arrays = below
        lam = np.full((1, 1, 1), self.lam)
        return PERSONALIZED + code, (*arrays[:SLOT], lam, *arrays[SLOT + 1 :])

    def as_quadratic(self) -> Quadratic | None:
        """The same problem as a coupled quadratic, where the base is one."""
        if not written_for(self.base, Quadratic):
            return None
        eye = torch.eye(self.d_v, dtype=torch.float64, device=self.device).expand(self.n, -1, -1)
        zero = torch.zeros(self.n, self.d_u, dtype=torch.float64)
        A, B, C, b = self.lam * eye, self.base.B + self.lam * eye, -self.lam * eye, self.base.b
        return Quadratic(A=A.cpu().numpy(), B=B.cpu().numpy(), C=C.cpu().numpy(), a=zero.numpy(), b=b.cpu().numpy())

    def _constants(self) -> Constants:
        lam, below = self.lam, self.base.constants
        quadratic = self.as_quadratic()
        if quadratic is not None:
            exact = quadratic.constants
            L_v = Constant(exact.L_v.value, "exact", "max_i ‖B_i + λI‖₂")
            F_star = Constant(exact.F_star.value, "exact", "normal equations of F in (u, V)")
        else:
            upward = written_for(self.base, Trigonometric)
            L_v = Constant(below.L_v.value + lam, below.L_v.grade if upward else "upper", "L_f + λ")
            F_star = self._certified() if upward else Constant(below.F_star.value, "upper", "mean of inf f_i")
        tie = Constant(lam, "exact", "λ")
        delta = (
            Constant(0.0, "exact", "one client")
            if self.n == 1
            else Constant(math.inf, "exact", "λ² Var(v_i) is unbounded: use the mean diversity of the visited points")
        )
        rho = Constant(0.0, "exact", "not needed")
        return Constants(L_u=tie, L_v=L_v, L_uv=tie, L_vu=tie, delta=delta, rho=rho, F_star=F_star)

    def _certified(self) -> Constant:
        lower = float(sum(e.lower for e in self._envelopes))
        width = float(sum(e.width for e in self._envelopes))
        close = width <= EXACT_WIDTH * self.base.constants.L_v.value * self.d_v
        note = f"lower end of a certified enclosure of width {width:.1e}"
        return Constant(lower, "exact" if close else "upper", note)

    @cached_property
    def _envelopes(self) -> list[Enclosure]:
        """Over a trigonometric base: each coordinate's least mean envelope, with the u_k where it is taken."""
        assert isinstance(self.base, Trigonometric)
        b, s = self.base.b.cpu().numpy(), self.base.s.cpu().numpy()
        return [envelope_minimum(float(b[k]), s[:, k], self.lam) for k in range(self.d_v)]

    def minimiser(self) -> tuple[Tensor, Tensor] | None:
        quadratic = self.as_quadratic()
        if quadratic is not None:
            return quadratic.minimiser()
        if not written_for(self.base, Trigonometric):
            return None
        b, s = self.base.b.cpu().numpy(), self.base.s.cpu().numpy()
        u = np.array([e.x for e in self._envelopes])
        r = np.remainder(u - s + np.pi, 2 * np.pi) - np.pi
        v = u - np.sign(r) * np.stack([_pull(float(b[k]), np.abs(r[:, k]), self.lam) for k in range(self.d_v)], axis=1)
        return torch.from_numpy(u).to(self.device), torch.from_numpy(v).to(self.device)


def envelope_minimum(b: float, s: np.ndarray, lam: float) -> Enclosure:
    """Enclosure of min_u (1/n) Σ_i e(u − s_i), e(r) = min_w b(1 − cos(r − w)) + (λ/2)w² (w = u − v), for s ``(n,)``.

    e has the period 2π and is semiconcave with μ = λb/(λ + b), as moving u by d and v by λd/(λ + b) shows (own proof).
    """
    if b == 0.0:
        return Enclosure(0.0, 0.0, 0.0)
    rows = max(1, CELLS // len(s))

    def mean_envelope(u: np.ndarray) -> np.ndarray:
        parts = []
        for j in range(0, len(u), rows):
            r = np.abs(np.remainder(u[j : j + rows, None] - s + np.pi, 2 * np.pi) - np.pi)
            w = _pull(b, r, lam)
            parts.append((2 * b * np.sin(0.5 * (r - w)) ** 2 + 0.5 * lam * w**2).mean(axis=1))
        return np.concatenate(parts)

    mu = b / (1.0 + b / lam)
    found = minimise_semiconcave(mean_envelope, mu, -np.pi, np.pi, tolerance=0.01 * EXACT_WIDTH * b)
    return Enclosure(found.lower - 16 * np.finfo(float).eps * b, found.upper, found.x)


def _pull(b: float, r: np.ndarray, lam: float) -> np.ndarray:
    """The w that attains e(r), 0 ≤ r ≤ π: the root of λw = b sin(r − w) in [0, min(r, b/λ)], by bisection. There
    v = r − w lies in [0, r], where the slope b sin v + λv − λr of the loss changes sign once, from below."""
    low, high = np.zeros_like(r), np.minimum(r, b / lam)
    for _ in range(52):
        middle = 0.5 * (low + high)
        short = lam * middle <= b * np.sin(r - middle)
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return 0.5 * (low + high)


def build(*, lam: Positive, base: dict[str, Any]) -> FullPersonalization:
    """λ = ``lam`` > 0 over the problem that the table ``base`` describes (any family, built with d_u = 0)."""
    from fedconv.problems.registry import build_problem

    return FullPersonalization(base=build_problem(base, where="base"), lam=lam)
