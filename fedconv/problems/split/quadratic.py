"""Coupled quadratics: exact Lipschitz constants and minimum; also indefinite in u alone."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.base import Constant, Constants, Kernel, Problem, check_array
from fedconv.problems.errors import InputError
from fedconv.problems.validation import Count, Matrix, NotNegative, Positive, Share, Size, Stack

SINGULAR = 1e-12
"""Eigenvalues below this share of the largest, times the dimension, count as zero."""

FLAT = 1e-9
"""Share of a linear part or coupling that may lie along eigenvectors of zero eigenvalue: rounding."""


class Quadratic(Problem):
    """F_i(u,v) = ½uᵀA_iu + uᵀC_iv + ½vᵀB_iv − a_iᵀu − b_iᵀv.

    A ``(n, d_u, d_u)`` and B ``(n, d_v, d_v)`` symmetric, C ``(n, d_u, d_v)``, a ``(n, d_u)``, b ``(n, d_v)``. Single
    A_i may be indefinite as long as F is bounded below. L_u = max‖A_i‖₂, L_v = max‖B_i‖₂, L_uv = L_vu = max‖C_i‖₂,
    exact; F★ by the normal equations of F in (u, V), exact.

    The diversity is a quadratic in (u, V). It is constant where all C_i = 0 and the A_i agree (δ² = variance of the
    a_i, exact); it is at most δ² + ρ²‖∇_uF‖² (upper) where ∇_uF fixes all ∇_uF_i − ∇_uF; otherwise δ = ∞.

    Raises InputError for wrong shapes, asymmetric matrices, or F unbounded below.
    """

    family: ClassVar[str] = "quadratic"

    def __init__(self, *, A: Any, B: Any, C: Any, a: Any, b: Any) -> None:
        a_, b_ = check_array("a", a, (None, None)), check_array("b", b, (None, None))
        self.n, self.d_u, self.d_v = a_.shape[0], a_.shape[1], b_.shape[1]
        if self.n < 1:
            raise InputError("a must have a row for each of n >= 1 clients; got none")
        arrays = {
            "A": check_array("A", A, (self.n, self.d_u, self.d_u)),
            "B": check_array("B", B, (self.n, self.d_v, self.d_v)),
            "C": check_array("C", C, (self.n, self.d_u, self.d_v)),
            "a": a_,
            "b": check_array("b", b_, (self.n, self.d_v)),
        }
        for name in ("A", "B"):
            gap = float(np.abs(arrays[name] - arrays[name].swapaxes(1, 2)).max(initial=0.0))
            if gap > 1e-12 * float(np.abs(arrays[name]).max(initial=0.0)):
                raise InputError(f"{name} must hold symmetric matrices; got an asymmetry of {gap:.3g}")
            arrays[name] = 0.5 * (arrays[name] + arrays[name].swapaxes(1, 2))
        self._set({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()})
        self._optimum = _minimise(arrays)

    def _set(self, tensors: dict[str, Tensor]) -> None:
        self.A, self.B, self.C, self.a, self.b = (tensors[k] for k in "ABCab")

    def to(self, device: torch.device | str) -> Quadratic:
        out = Quadratic.__new__(Quadratic)
        out.n, out.d_u, out.d_v, out.spec, out._optimum = self.n, self.d_u, self.d_v, self.spec, self._optimum
        out._set({k: getattr(self, k).to(device) for k in "ABCab"})
        return out

    @property
    def device(self) -> torch.device:
        return self.a.device

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        half_u = 0.5 * _apply(self.A[clients], u) + _apply(self.C[clients], v) - self.a[clients]
        half_v = 0.5 * _apply(self.B[clients], v) - self.b[clients]
        return (u * half_u).sum(-1) + (v * half_v).sum(-1)

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return _apply(self.A[clients], u) + _apply(self.C[clients], v) - self.a[clients]

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return _apply(self.C[clients].mT, u) + _apply(self.B[clients], v) - self.b[clients]

    def magnitudes(self, u: Tensor, v: Tensor) -> tuple[float, float, float]:
        """Means over clients of ½|u|ᵀ|A||u| + |u|ᵀ|C||v| + ½|v|ᵀ|B||v| + |a|ᵀ|u| + |b|ᵀ|v|, and of its slopes."""
        u, v = u.abs().expand(self.n, self.d_u), v.abs()
        A, B, C, a, b = (x.abs() for x in (self.A, self.B, self.C, self.a, self.b))
        in_u, in_v, across = _apply(A, u), _apply(B, v), _apply(C, v)
        F = (u * (0.5 * in_u + across + a)).sum(-1) + (v * (0.5 * in_v + b)).sum(-1)
        in_each = in_u + across + a, _apply(C.mT, u) + in_v + b
        grad_u, grad_v = (float(torch.linalg.vector_norm(x, dim=-1).mean()) for x in in_each)
        return float(F.mean()), grad_u, grad_v

    def kernel(self) -> Kernel:
        from fedconv.problems.compiled.losses import QUADRATIC, pack

        A, B, C, a, b = (x.cpu().numpy() for x in (self.A, self.B, self.C, self.a, self.b))
        return QUADRATIC, pack(A, B, C, a[:, None, :], b[:, None, :])

    def _constants(self) -> Constants:
        A, B, C, a = (x.cpu().numpy() for x in (self.A, self.B, self.C, self.a))
        cross = _norm(C)
        delta, rho = diversity(A, C, a)
        return Constants(
            L_u=Constant(_norm(A), "exact", "max_i ‖A_i‖₂"),
            L_v=Constant(_norm(B), "exact", "max_i ‖B_i‖₂"),
            L_uv=Constant(cross, "exact", "max_i ‖C_i‖₂"),
            L_vu=Constant(cross, "exact", "max_i ‖C_i‖₂"),
            delta=delta,
            rho=rho,
            F_star=Constant(self._optimum[2], "exact", "normal equations of F in (u, V)"),
        )

    def minimiser(self) -> tuple[Tensor, Tensor]:
        u, v, _ = self._optimum
        return torch.from_numpy(u).to(self.device), torch.from_numpy(v).to(self.device)


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    return (matrices @ vectors[..., None])[..., 0]


def _norm(matrices: np.ndarray) -> float:
    """max_i of the spectral norms; 0 for empty matrices."""
    return float(np.linalg.norm(matrices, 2, axis=(1, 2)).max()) if matrices[0].size else 0.0


def diversity(A: np.ndarray, C: np.ndarray, a: np.ndarray) -> tuple[Constant, Constant]:
    """(δ, ρ) of A3. With z = (u, V), ∇_uF = Mz − ā and ∇_uF_i − ∇_uF = E_i z − e_i are affine in z.

    Where every E_i vanishes on ker M, E_i z = E_i M⁺(∇_uF + ā), so the diversity is (1/n) Σ ‖D_i w + r_i‖² at
    w = ∇_uF with D_i = E_i M⁺, r_i = D_i ā − e_i: at most 2‖(1/n) Σ D_iᵀD_i‖‖w‖² + (2/n) Σ ‖r_i‖² (without the 2
    where one part is 0). Elsewhere it grows without bound along ker M.
    """
    none = Constant(0.0, "exact", "not needed")
    if len(a) == 1 or a.shape[1] == 0:
        return Constant(0.0, "exact", "one client, or no shared block"), none
    mean_a, e = a.mean(0), a - a.mean(0)
    if not C.any() and np.abs(A - A.mean(0)).max() <= SINGULAR * _norm(A):
        return Constant(float(np.sqrt((e**2).sum(1).mean())), "exact", "√ of the variance of a_i"), none
    A, C = A / (_norm(A) or 1.0), C / (_norm(C) or 1.0)  # other units for u and for V: ker M ⊂ ker E_i as before
    D = None if _moves_freely(A, C) else _linear_in_mean(A, C)
    if D is None:
        note = "unbounded over (u, V): use the mean diversity of the visited points (a posteriori)"
        return Constant(float("inf"), "exact", note), none
    r = D @ mean_a - e
    slope = float(np.linalg.norm(np.einsum("nij,nik->jk", D, D) / len(a), 2))
    offset = float((r**2).sum(1).mean())
    share = 2.0 if offset > 0 else 1.0
    delta, rho = float(np.sqrt(share * offset)), float(np.sqrt(share * slope))
    note = "∇_uF fixes every ∇_uF_i − ∇_uF; Young's inequality"
    return Constant(delta, "upper", note), Constant(rho, "upper", note)


def _moves_freely(A: np.ndarray, C: np.ndarray) -> bool:
    """True where a random (u, V) with Mz = 0 moves some ∇_uF_i: the general case, seen at little cost."""
    n, d_u, d_v = C.shape
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal(d_u), rng.standard_normal((n, d_v))
    mean_A = A.mean(0)
    gram = mean_A @ mean_A + np.einsum("nij,nkj->ik", C, C) / n**2
    pull = np.linalg.pinv(gram, rcond=1e-10, hermitian=True) @ (mean_A @ u + np.einsum("nij,nj->i", C, v) / n)
    u, v = u - mean_A @ pull, v - np.einsum("nij,i->nj", C, pull) / n
    moved = A @ u + np.einsum("nij,nj->ni", C, v)
    still = float(np.abs(moved.mean(0)).max())
    return still <= 1e-9 and float(np.abs(moved).max()) > 1e-3


def _linear_in_mean(A: np.ndarray, C: np.ndarray) -> np.ndarray | None:
    """D ``(n, d_u, d_u)`` with E_i = D_i M, or None where there is none. V is left out where C = 0."""
    n, d_u, d_v = C.shape if C.any() else (*C.shape[:2], 0)
    maps = np.zeros((n, d_u, d_u + n * d_v))
    maps[:, :, :d_u] = A
    for i in range(n if d_v else 0):
        maps[i, :, d_u + i * d_v : d_u + (i + 1) * d_v] = C[i]
    M = maps.mean(0)
    E, inverse = maps - M, np.linalg.pinv(M, rcond=1e-10)
    D = E @ inverse
    return D if np.abs(E - D @ M).max() <= 1e-9 else None


def _minimise(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, float]:
    """(u★, V★, F★), or an InputError saying why F is unbounded below.

    Personal part first: v_i = B_i⁺(b_i − C_iᵀu), which leaves ½uᵀSu − gᵀu with S = mean(A_i − C_iB_i⁺C_iᵀ) and
    g = mean(a_i − C_iB_i⁺b_i). F is bounded below exactly where the B_i and S have no negative eigenvalue and C_iᵀ, b_i
    and g have no part where B_i and S vanish.
    """
    A, B, C, a, b = (arrays[k] for k in "ABCab")
    inverse, flat = _pseudoinverse(B, _norm(B), "B")
    across, along = C @ flat, np.einsum("nij,ni->nj", flat, b)
    if _largest(across) > FLAT * _norm(C) or _largest(along) > FLAT * _largest(b):
        raise InputError("F must be bounded below; b or C acts along a direction in which some B_i has no curvature")
    back = C @ inverse
    pulled = np.einsum("nij,nkj->ik", back, C) / len(a)
    S = A.mean(0) - pulled
    g = (a - np.einsum("nij,nj->ni", back, b)).mean(0)
    scale = max(_norm(A), _norm(pulled[None]))
    (inverse_S,), (flat_S,) = _pseudoinverse(0.5 * (S + S.T)[None], scale, "mean A_i - C_i B_i^-1 C_i^T")
    if _largest(flat_S.T @ g) > FLAT * (_largest(a) + _norm(back) * _largest(b)):
        raise InputError("F must be bounded below; its linear part a, b acts along a direction without curvature")
    u = inverse_S @ g
    v = np.einsum("nij,nj->ni", inverse, b - np.einsum("nij,i->nj", C, u))
    half_u = 0.5 * A @ u + np.einsum("nij,nj->ni", C, v) - a
    half_v = 0.5 * np.einsum("nij,nj->ni", B, v) - b
    return u, v, float((half_u @ u + (half_v * v).sum(1)).mean())


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array).max(initial=0.0))


def _pseudoinverse(matrices: np.ndarray, scale: float, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pseudoinverses of positive semidefinite matrices ``(n, d, d)``, and their eigenvectors with the columns of
    positive eigenvalues set to 0."""
    if matrices.size == 0:
        return matrices, matrices
    values, vectors = np.linalg.eigh(matrices)
    cut = SINGULAR * scale * matrices.shape[1]
    if values.min() < -cut:
        raise InputError(f"F must be bounded below; {name} has the eigenvalue {values.min():.6g} < 0")
    flat = values <= cut
    inverse = np.where(flat, 0.0, 1.0 / np.where(flat, 1.0, values))
    return (vectors * inverse[:, None, :]) @ vectors.swapaxes(1, 2), vectors * flat[:, None, :]


def build_random(
    *,
    n: Count,
    d_u: Size,
    d_v: Size,
    L_u: Positive = 1.0,
    L_v: Positive = 1.0,
    coupling: Share = 0.5,
    indefinite: Share = 0.0,
    spread: NotNegative = 1.0,
    seed: Size = 0,
) -> Quadratic:
    """Random coupled quadratics with exactly the given L_u and L_v.

    coupling in [0, 1): ‖C_i‖₂ = coupling·√(μ_uμ_v), μ the least eigenvalues of mean A_i and of the B_i, so that F is
    bounded below for every value. indefinite in [0, 1): clients come in pairs shifted up and down
    until the lower one has the eigenvalue −indefinite·L_u (their mean stays positive definite). spread: standard
    deviation of the entries of a_i and b_i.
    """
    for name, value in (("n", n - 1), ("d_u", d_u), ("d_v", d_v), ("seed", seed), ("spread", spread)):
        if value < 0:
            raise InputError(f"{name} must be >= {1 if name == 'n' else 0}; got {value + (name == 'n')}")
    for name, value in (("coupling", coupling), ("indefinite", indefinite)):
        if not 0 <= value < 1:
            raise InputError(f"{name} must lie in [0, 1); got {value}")
    if d_u + d_v == 0:
        raise InputError("d_u + d_v must be at least 1; got 0")
    for name, value in (("L_u", L_u), ("L_v", L_v)):
        if not value > 0:
            raise InputError(f"{name} must exceed 0; got {value}")
    if indefinite > 0 and (n < 2 or d_u == 0):
        raise InputError(f"indefinite must be 0 where n = 1 or d_u = 0; got {indefinite}")
    rng = np.random.default_rng(seed)

    def symmetric(d: int, low: float, high: float) -> np.ndarray:
        """n symmetric matrices with eigenvalues from [low, high], the ends included."""
        spectrum = rng.uniform(min(low, high), high, (n, d))
        if d:
            spectrum[:, 0] = high
        if d > 1:
            spectrum[:, 1] = low
        basis, _ = np.linalg.qr(rng.standard_normal((n, d, d)))
        made = np.einsum("nij,nj,nkj->nik", basis, spectrum, basis)
        return 0.5 * (made + made.swapaxes(1, 2))

    low = min(0.2, (1 - indefinite) / 4) if d_u > 1 else (1 - indefinite) / 2
    if indefinite > 0:
        # Pairs M + sI, M − sI with the spectrum of M in [low·L_u, L_u − s]; a client without a partner has M.
        shift = (low + indefinite) * L_u
        A = symmetric(d_u, low * L_u, L_u - shift)
        paired = n - n % 2
        A[1:paired:2] = A[0:paired:2]
        A[0:paired:2] += shift * np.eye(d_u)
        A[1:paired:2] -= shift * np.eye(d_u)
    else:
        A = symmetric(d_u, 0.2 * L_u, L_u)
    B = symmetric(d_v, 0.2 * L_v, L_v)
    C = rng.standard_normal((n, d_u, d_v))
    if d_u and d_v:
        mu = np.linalg.eigvalsh(A.mean(0))[0] * np.linalg.eigvalsh(B).min()
        C *= (coupling * np.sqrt(mu) / np.linalg.norm(C, 2, axis=(1, 2)))[:, None, None]
    return Quadratic(A=A, B=B, C=C, a=spread * rng.standard_normal((n, d_u)), b=spread * rng.standard_normal((n, d_v)))


def build_arrays(*, A: Stack, B: Stack, C: Stack, a: Matrix, b: Matrix) -> Quadratic:
    """Coupled quadratics with explicit arrays; shapes and errors as in :class:`Quadratic`.

    A block without coordinates is written with an empty list for each client (``A = [[], []]`` where d_u = 0).
    """
    n, d_u, d_v = len(A), *(np.shape(x)[-1] if np.ndim(x) == 2 else 0 for x in (a, b))

    def whole(x: Any, *shape: int) -> Any:
        empty = np.size(x) == 0 and math.prod(shape) == 0 and len(x) == n
        return np.reshape(np.asarray(x, dtype=float), (n, *shape)) if empty else x

    return Quadratic(A=whole(A, d_u, d_u), B=whole(B, d_v, d_v), C=whole(C, d_u, d_v), a=whole(a, d_u), b=whole(b, d_v))
