"""Trigonometric coupling: nonconvex in both blocks, every constant in closed form."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.base import Constant, Constants, GradientBounds, Kernel, Problem, check_array
from fedconv.problems.certified_minimum import Enclosure, minimise_arc
from fedconv.problems.errors import InputError
from fedconv.problems.validation import Matrix, Vector

EXACT_WIDTH = 1e-11
"""Enclosures of F★ up to this share of Σ (a + b + |κ|) count as exact; the search aims at a hundredth of it."""

CELLS = 1 << 22
"""Numbers that the search for F★ holds at a time."""


class Trigonometric(Problem):
    """F_i(u,v) = Σ_k a_k(1−cos u_k) + ⟨h_i,u⟩ + Σ_k b_k(1−cos(v_k−s_ik)) + Σ_k κ_k sin u_k sin v_k.

    a ``(d_u,)`` ≥ 0, b ``(d_v,)`` ≥ 0, kappa ``(min(d_u, d_v),)`` (the common coordinates), h ``(n, d_u)`` with
    Σ_i h_i = 0, s ``(n, d_v)``. All constants are exact (derived here): per coordinate L_u = √(a²+κ²),
    L_v = max_i √(b²+κ²+2b|κ||sin s_i|), L_uv = L_vu = |κ|; ρ = 0 and δ² = Σ_k max Var_i(h_ik + κ_k x_i) over
    x ∈ {−1,1}ⁿ; F★ = Σ_k min_u [a(1−cos u) + (1/n) Σ_i (b − √(b²cos²s_i + (b sin s_i − κ sin u)²))], enclosed by a
    certified one-dimensional search.
    """

    family: ClassVar[str] = "trigonometric"

    def __init__(self, *, a: Any, b: Any, kappa: Any, h: Any, s: Any) -> None:
        h_, s_ = check_array("h", h, (None, None)), check_array("s", s, (None, None))
        self.n, self.d_u, self.d_v = h_.shape[0], h_.shape[1], s_.shape[1]
        if self.n < 1:
            raise InputError("h must have a row for each of n >= 1 clients; got none")
        check_array("s", s_, (self.n, None))
        common = min(self.d_u, self.d_v)
        arrays = {
            "a": check_array("a", a, (self.d_u,)),
            "b": check_array("b", b, (self.d_v,)),
            "kappa": check_array("kappa", kappa, (common,)),
            "h": h_,
            "s": s_,
        }
        for name in ("a", "b"):
            if (arrays[name] < 0).any():
                raise InputError(f"{name} must be >= 0; got {arrays[name].min()}")
        excess = np.abs(h_.sum(0))
        if (excess > 1e-12 * np.abs(h_).sum(0)).any():
            raise InputError(
                f"h must have rows that sum to zero (else F is unbounded below); got a sum of {excess.max():.3g}"
            )
        self._set({name: torch.from_numpy(array) for name, array in arrays.items()})

    def _set(self, tensors: dict[str, Tensor]) -> None:
        self.a, self.b, self.kappa, self.h, self.s = (tensors[k] for k in ("a", "b", "kappa", "h", "s"))

    def to(self, device: torch.device | str) -> Trigonometric:
        out = Trigonometric.__new__(Trigonometric)
        out.n, out.d_u, out.d_v, out.spec = self.n, self.d_u, self.d_v, self.spec
        out._set({k: getattr(self, k).to(device) for k in ("a", "b", "kappa", "h", "s")})
        return out

    @property
    def device(self) -> torch.device:
        return self.a.device

    def gradient_bounds(self) -> GradientBounds | None:
        """From the coordinates' amplitudes: √(a² + κ²) of ∇_uF (the h_i cancel), that plus |h_i| of ∇_uF_i, and
        √(b² + κ² + 2b|κ||sin s_i|) of ∇_vF_i."""
        a, b, h, s = (x.cpu().numpy() for x in (self.a, self.b, self.h, self.s))
        in_u, in_v = self._padded(self.d_u), self._padded(self.d_v)
        shared = np.hypot(a, in_u)
        own = ((shared + np.abs(h)) ** 2).sum(axis=1).mean()
        personal = (b**2 + in_v**2 + 2 * b * in_v * np.abs(np.sin(s))).sum(axis=1).mean()
        return GradientBounds(float((shared**2).sum()), float(own), float(personal))

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        c = len(self.kappa)
        own = (self.a * (1.0 - torch.cos(u)) + self.h[clients] * u).sum(-1)
        personal = (self.b * (1.0 - torch.cos(v - self.s[clients]))).sum(-1)
        return own + personal + (self.kappa * torch.sin(u[..., :c]) * torch.sin(v[..., :c])).sum(-1)

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        c = len(self.kappa)
        gradient = _over(v, self.a * torch.sin(u) + self.h[clients])
        if c:
            coupled = self.kappa * torch.cos(u[..., :c]) * torch.sin(v[..., :c])
            gradient = gradient + torch.nn.functional.pad(coupled, (0, self.d_u - c))
        return gradient

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        c = len(self.kappa)
        gradient = _over(u, self.b * torch.sin(v - self.s[clients]))
        if c:
            coupled = self.kappa * torch.sin(u[..., :c]) * torch.cos(v[..., :c])
            gradient = gradient + torch.nn.functional.pad(coupled, (0, self.d_v - c))
        return gradient

    def kernel(self) -> Kernel:
        from fedconv.problems.compiled.losses import TRIGONOMETRIC, pack

        a, b, kappa, h, s = (x.cpu().numpy() for x in (self.a, self.b, self.kappa, self.h, self.s))
        return TRIGONOMETRIC, pack(a, b, kappa, h[:, None, :], s[:, None, :])

    def _padded(self, d: int) -> np.ndarray:
        """|κ| per coordinate of a block of dimension d, 0 beyond the common ones."""
        kappa = np.abs(self.kappa.cpu().numpy())
        return np.pad(kappa, (0, d - len(kappa)))

    def _constants(self) -> Constants:
        a, b, s = (x.cpu().numpy() for x in (self.a, self.b, self.s))
        in_u, in_v = self._padded(self.d_u), self._padded(self.d_v)
        L_u = np.hypot(a, in_u).max(initial=0.0)
        L_v = np.sqrt(b**2 + in_v**2 + 2 * b * in_v * np.abs(np.sin(s)).max(axis=0)).max(initial=0.0)
        cross = float(in_u.max(initial=0.0))
        lower = float(sum(e.lower for e in self._enclosures))
        width = float(sum(e.width for e in self._enclosures))
        close = width <= EXACT_WIDTH * float(a.sum() + b.sum() + in_u.sum())
        return Constants(
            L_u=Constant(float(L_u), "exact", "max_k √(a_k² + κ_k²)"),
            L_v=Constant(float(L_v), "exact", "max_ik √(b_k² + κ_k² + 2 b_k |κ_k| |sin s_ik|)"),
            L_uv=Constant(cross, "exact", "max_k |κ_k|"),
            L_vu=Constant(cross, "exact", "max_k |κ_k|"),
            delta=Constant(self._delta(), "exact", "largest variance of h_ik + κ_k x_i over x ∈ {−1,1}ⁿ"),
            rho=Constant(0.0, "exact", "the diversity is bounded"),
            F_star=Constant(
                lower,
                "exact" if close else "upper",
                f"lower end of a certified enclosure of width {width:.1e}",
            ),
        )

    def _delta(self) -> float:
        """√Σ_k max_x Var_i(h_ik + |κ_k| x_i): the largest variance puts −1 on the smallest h and +1 on the others."""
        h = np.sort(self.h.cpu().numpy(), axis=0)
        kappa = self._padded(self.d_u)
        below = np.arange(self.n + 1)[:, None]
        sums = np.concatenate([np.zeros((1, self.d_u)), np.cumsum(h, axis=0)])
        signs = (self.n - 2 * below) / self.n
        cross = (sums[-1] - 2 * sums) / self.n
        square = (h**2).mean(axis=0) + 2 * kappa * cross + kappa**2
        mean = sums[-1] / self.n + kappa * signs
        return float(np.sqrt(np.maximum(square - mean**2, 0.0).max(axis=0).sum()))

    @cached_property
    def _enclosures(self) -> list[Enclosure]:
        """The minimum of each common coordinate's part of F, as a function of x_k = sin u_k; v beyond u and u beyond v
        add 0 at their own minima."""
        a, b, kappa, s = (x.cpu().numpy() for x in (self.a, self.b, self.kappa, self.s))
        return [_coordinate(float(a[k]), float(b[k]), float(kappa[k]), s[:, k]) for k in range(len(kappa))]

    def minimiser(self) -> tuple[Tensor, Tensor]:
        """u_k = arcsin x_k from the certified search, v_ik the best answer to it; 0 and s beyond the common ones."""
        b, kappa, s = (x.cpu().numpy() for x in (self.b, self.kappa, self.s))
        x = np.array([e.x for e in self._enclosures])
        c = len(kappa)
        u, v = np.zeros(self.d_u), s.copy()
        u[:c] = np.arcsin(x)
        v[:, :c] = np.arctan2(b[:c] * np.sin(s[:, :c]) - kappa * x, b[:c] * np.cos(s[:, :c]))
        return torch.from_numpy(u).to(self.device), torch.from_numpy(v).to(self.device)


def _over(other: Tensor, gradient: Tensor) -> Tensor:
    """The gradient expanded over the other block's leading axes, on which it may not depend."""
    shape = torch.broadcast_shapes(other.shape[:-1], gradient.shape[:-1])
    return gradient.expand(*shape, gradient.shape[-1])


def _coordinate(a: float, b: float, kappa: float, s: np.ndarray) -> Enclosure:
    """Enclosure of min_x a(1 − √(1−x²)) + (1/n) Σ_i (b − √(b²cos²s_i + (b sin s_i − κx)²)) over |x| ≤ 1, s ``(n,)``."""
    if kappa == 0.0:
        return Enclosure(0.0, 0.0, 0.0)
    cosine, sine = b * np.cos(s), b * np.sin(s)
    rows = max(1, CELLS // len(s))

    def personal(x: np.ndarray) -> np.ndarray:
        """min over V of the coordinate's part without a: concave in x, as minus a mean of norms of affine maps."""
        parts = [
            b - np.hypot(cosine, sine - kappa * x[j : j + rows, None]).mean(axis=1) for j in range(0, len(x), rows)
        ]
        return np.concatenate(parts)

    scale = a + b + abs(kappa)
    found = minimise_arc(a, personal, tolerance=0.01 * EXACT_WIDTH * scale)
    rounding = 16 * np.finfo(float).eps * scale
    return Enclosure(found.lower - rounding, found.upper, found.x)


def build_arrays(*, a: Vector, b: Vector, kappa: Vector, h: Matrix, s: Matrix) -> Trigonometric:
    """The trigonometric problem with explicit arrays; shapes and errors as in :class:`Trigonometric`."""
    return Trigonometric(a=a, b=b, kappa=kappa, h=h, s=s)
