"""Least squares with a shared and a personal part: every constant of the envelopes exact, any rank of B_m."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.base import Constant, Constants, Kernel, check_array
from fedconv.problems.envelopes.base import EnvelopeConstants, EnvelopeProblem, apply, chosen_clients, negated, norms
from fedconv.problems.envelopes.least_squares_algebra import Projected, project
from fedconv.problems.errors import InputError
from fedconv.problems.split.quadratic import diversity
from fedconv.problems.validation import Count, Matrix, NotNegative, Positive, Size, Stack


class LeastSquares(EnvelopeProblem):
    """f_m(w, θ) = ½‖A_m w + B_m θ − c_m‖², with F_m(w) = ½‖P_m(A_m w − c_m)‖², P_m = I − B_mB_m⁺.

    A ``(n, rows, d_u)``, B ``(n, rows, d_v)`` of any rank (also 0, also d_v = 0), c ``(n, rows)``. All constants exact:
    L_m = ‖P_mA_m‖², L = λ_max(H̄), mu = λ⁺_min(H̄), H̄ = (1/n) Σ A_mᵀP_mA_m; G, zeta_sq, B_sq as in
    ``fedconv.problems.envelopes.least_squares_algebra``; mu_v = λ⁺_min(B_mᵀB_m), L_uv = max ‖A_mᵀB_m‖, L_F = L_max
    (Theorems 1(d), 2 and 7B(b) of the theory page on FFGG). The exception is a finite δ of A3, an upper bound.

    Raises InputError for wrong shapes and for scales that float64 cannot decide ranks in.
    """

    family: ClassVar[str] = "least_squares"

    def __init__(self, *, A: Any, B: Any, c: Any) -> None:
        c_ = check_array("c", c, (None, None))
        self.n, rows = c_.shape
        if self.n < 1 or rows < 1:
            raise InputError(f"c must have at least one client and one row; got shape ({self.n}, {rows})")
        A_, B_ = check_array("A", A, (self.n, rows, None)), check_array("B", B, (self.n, rows, None))
        self.d_u, self.d_v = A_.shape[2], B_.shape[2]
        if self.d_u + self.d_v == 0:
            raise InputError("A and B must not both have rows of length 0; got d_u=0, d_v=0")
        self._set(torch.from_numpy(A_), torch.from_numpy(B_), torch.from_numpy(c_), project(A_, B_, c_))

    def _set(self, A: Tensor, B: Tensor, c: Tensor, projected: Projected) -> None:
        self.A, self.B, self.c, self.projected = A, B, c, projected
        names = ("R", "p", "pinv_B", "kernel_B")
        self._R, self._p, self._pinv, self._kernel = (
            torch.from_numpy(np.ascontiguousarray(getattr(projected, name))).to(c.device) for name in names
        )

    def to(self, device: torch.device | str) -> LeastSquares:
        out = LeastSquares.__new__(LeastSquares)
        out.n, out.d_u, out.d_v, out.spec = self.n, self.d_u, self.d_v, self.spec
        out._set(self.A.to(device), self.B.to(device), self.c.to(device), self.projected)
        return out

    @property
    def device(self) -> torch.device:
        return self.c.device

    def _residual(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return apply(self._of(self.A, clients), u) + apply(self._of(self.B, clients), v) - self._of(self.c, clients)

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return 0.5 * self._residual(u, v, clients).square().sum(-1)

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        A, B = self._of(self.A, clients), self._of(self.B, clients)
        return apply(A.mT, apply(A, u) + apply(B, v) - self._of(self.c, clients))

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        A, B = self._of(self.A, clients), self._of(self.B, clients)
        return apply(B.mT, apply(A, u) + apply(B, v) - self._of(self.c, clients))

    def kernel(self) -> Kernel:
        from fedconv.problems.compiled.losses import LEAST_SQUARES, pack

        A, B, c = (x.cpu().numpy() for x in (self.A, self.B, self.c))
        return LEAST_SQUARES, pack(A, B, c[:, None, :])

    def fine_tune(self, u: Tensor, clients: Tensor, start: Tensor | None = None) -> Tensor:
        """θ★ = B⁺(c − Au), plus the part of ``start`` in ker B."""
        least = apply(self._of(self._pinv, clients), self._of(self.c, clients) - apply(self._of(self.A, clients), u))
        return least if start is None else least + apply(self._of(self._kernel, clients), start)

    def envelope(self, u: Tensor, clients: Tensor) -> Tensor:
        return 0.5 * (apply(self._of(self._R, clients), u) - self._of(self._p, clients)).square().sum(-1)

    def envelope_grad(self, u: Tensor, clients: Tensor) -> Tensor:
        R = self._of(self._R, clients)
        return apply(R.mT, apply(R, u) - self._of(self._p, clients))

    def fine_tuning_distance(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return apply(self._of(self._pinv, clients), self._residual(u, v, clients)).norm(dim=-1)

    def nearest_minimiser(self, u: Tensor) -> Tensor:
        kernel = torch.from_numpy(self.projected.kernel).to(u)
        return torch.from_numpy(self.projected.w_star).to(u) + kernel @ u

    def minimiser(self) -> tuple[Tensor, Tensor]:
        """The shared minimiser of least norm, and each client's personal one of least norm there."""
        u = torch.from_numpy(self.projected.w_star).to(self.device)
        return u, self.fine_tune(u.expand(self.n, self.d_u), self.everyone())

    def restrict(self, clients: Sequence[int]) -> LeastSquares:
        rows = chosen_clients(clients, self.n)
        A, B, c = (x.cpu().numpy()[rows] for x in (self.A, self.B, self.c))
        return self._moved(LeastSquares(A=A, B=B, c=c))

    def flipped(self, clients: Sequence[int]) -> LeastSquares:
        """c_m → −c_m for these clients."""
        c = negated(self.c, clients).cpu().numpy()
        return self._moved(LeastSquares(A=self.A.cpu().numpy(), B=self.B.cpu().numpy(), c=c))

    def _moved(self, problem: LeastSquares) -> LeastSquares:
        return problem if self.device.type == "cpu" else problem.to(self.device)

    @cached_property
    def _cross(self) -> float:
        return float(norms(self.A.cpu().numpy().swapaxes(1, 2) @ self.B.cpu().numpy()).max())

    def _constants(self) -> Constants:
        A, B, c = (x.cpu().numpy() for x in (self.A, self.B, self.c))
        At = A.swapaxes(1, 2)
        delta, rho = diversity(At @ A, At @ B, (At @ c[..., None])[..., 0])
        cross = Constant(self._cross, "exact", "max_m ‖A_mᵀB_m‖₂")
        return Constants(
            L_u=Constant(float(norms(A).max()) ** 2, "exact", "max_m ‖A_m‖₂²"),
            L_v=Constant(float(norms(B).max()) ** 2, "exact", "max_m ‖B_m‖₂²"),
            L_uv=cross,
            L_vu=cross,
            delta=delta,
            rho=rho,
            F_star=self.envelope_constants.F_star,
        )

    def _envelope_constants(self) -> EnvelopeConstants:
        A, B, of = self.A.cpu().numpy(), self.B.cpu().numpy(), self.projected
        L_max = Constant(float(of.L_m.max()), "exact", "max_m ‖P_mA_m‖₂²")
        return EnvelopeConstants(
            L=Constant(of.L, "exact", "λ_max(H̄)"),
            L_m=of.L_m,
            L_max=L_max,
            mu=Constant(of.mu, "exact", "least positive eigenvalue of H̄" if of.mu else "H̄ = 0: F is constant"),
            strongly_convex=of.mu > 0,
            mu_v=Constant(of.mu_v, "exact", "least positive eigenvalue of the B_mᵀB_m" if of.mu_v else "all B_m = 0"),
            L_theta=Constant(float(norms(B).max()) ** 2, "exact", "max_m ‖B_m‖₂²"),
            L_uv=Constant(self._cross, "exact", "max_m ‖A_mᵀB_m‖₂"),
            L_block=Constant(float(norms(A).max()) ** 2, "exact", "max_m ‖A_m‖₂²"),
            ell_block=Constant(0.0, "exact", "convex in w"),
            L_F=L_max,
            F_star=Constant(of.gap_projection + float(of.inf_m.mean()), "exact", "G + mean inf F_m"),
            inf_m=of.inf_m,
            G=Constant(of.gap_projection, "exact", "‖(I − Π)q‖²/2n"),
            zeta_sq=Constant(of.zeta_sq, "exact", "the same at every minimiser, as the F_m are convex"),
            B_sq=Constant(of.B_sq, "exact", "λ_max(H̄⁺ mean(H_m²) H̄⁺) − 1"),
            convex=True,
            overpersonalized=of.overpersonalized,
            vacuous=not of.R.any(),
            quadratic=True,
        )


def build_random(
    *,
    n: Count,
    d_u: Size,
    d_v: Size,
    rows: Count = 6,
    rank: Size | None = None,
    scale: Positive = 1.0,
    spread: NotNegative = 1.0,
    seed: Size = 0,
) -> LeastSquares:
    """Random least squares: A_m, B_m with normal entries of deviation scale/√rows, c_m of deviation ``spread``.

    rank: of every B_m, at most min(rows, d_v), which is the default; rank = rows is the vacuous case F_m ≡ 0.
    """
    for name, value, least in (("n", n, 1), ("d_u", d_u, 0), ("d_v", d_v, 0), ("rows", rows, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"{name} must be an integer >= {least}; got {value}")
    if d_u + d_v == 0:
        raise InputError("d_u + d_v must be at least 1; got 0")
    if not scale > 0:
        raise InputError(f"scale must exceed 0; got {scale}")
    if not spread >= 0:
        raise InputError(f"spread must be >= 0; got {spread}")
    most = min(rows, d_v)
    if rank is not None and not 0 <= rank <= most:
        raise InputError(f"rank must lie in 0..{most}, as B_m is {rows} x {d_v}; got {rank}")
    rng = np.random.default_rng(seed)
    deviation = scale / np.sqrt(rows)
    A = deviation * rng.standard_normal((n, rows, d_u))
    B = deviation * rng.standard_normal((n, rows, d_v))
    if rank is not None and rank < most:
        left, values, right = np.linalg.svd(B, full_matrices=False)
        B = (left[..., :rank] * values[:, None, :rank]) @ right[:, :rank]
    return LeastSquares(A=A, B=B, c=spread * rng.standard_normal((n, rows)))


def build_arrays(*, A: Stack, B: Stack, c: Matrix) -> LeastSquares:
    """Least squares with explicit arrays; shapes and errors as in :class:`LeastSquares`."""
    return LeastSquares(A=A, B=B, c=c)
