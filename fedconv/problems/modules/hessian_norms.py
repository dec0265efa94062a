"""Norms of Hessian blocks at given points, by Lanczos' method on Hessian-vector products."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import vjp

from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError

STEPS = 24
"""Lanczos steps (fewer where the block is smaller: then the norm is exact up to rounding)."""

Gradient = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class BlockNorms:
    """‖∇²_uuF_i‖, ‖∇²_vvF_i‖, ‖∇²_uvF_i‖ per point and client ``(..., k)``; lower bounds, from inside.

    ``share_u, share_v, share_uv``: with probability 1 − error for each entry, the norm is at most the entry divided by
    its share (1 where the method ran to the end). ``differences``: whether they come from central differences.
    ``kinks``: gradients jump near the points (as those of ReLU do); then norms are those between the kinks.
    """

    L_u: Tensor
    L_v: Tensor
    L_uv: Tensor
    share_u: float
    share_v: float
    share_uv: float
    differences: bool
    kinks: bool


def block_norms(
    problem: Problem, u: Tensor, v: Tensor, clients: Tensor | None = None, *, steps: int = STEPS, error: float = 1e-6,
    seed: int = 0,
) -> BlockNorms:  # fmt: skip
    """Norms of the Hessian blocks of every client at u ``(..., k, d_u)``, v ``(..., k, d_v)`` (default: all clients).

    Lanczos on M^T M with a random start, M the block: products are derivatives of ``grad_u`` and ``grad_v``
    (``torch.func.vjp``); where these do not agree with central differences, central differences are used, to about
    1e-6 relative, but where differences of two widths do not agree with each other: there gradients jump. ``error``:
    the probability of each entry's upper limit (:func:`share`). Raises InputError where it does not lie in (0, 1).
    """
    if not 0 < error < 1:
        raise InputError(f"error must lie in (0, 1); got {error}")
    clients = problem.everyone() if clients is None else clients
    shape = torch.broadcast_shapes(u.shape[:-1], v.shape[:-1], clients.shape)
    u, v = u.expand(*shape, problem.d_u), v.expand(*shape, problem.d_v)
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    d_u, d_v = problem.d_u, problem.d_v

    functions: dict[str, tuple[Gradient, Tensor]] = {
        "uu": (lambda x: problem.grad_u(x, v, clients), u),
        "vv": (lambda x: problem.grad_v(u, x, clients), v),
        "uv": (lambda x: problem.grad_u(u, x, clients), v),
        "vu": (lambda x: problem.grad_v(x, v, clients), u),
    }

    def draw(d: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal((*shape, d))).to(u.device)

    sizes = {"u": d_u, "v": d_v}
    there = [key for key in functions if all(sizes[block] for block in key)]
    pulls = {key: _pull(*functions[key]) for key in there}
    found = {_compare(*functions[key], pulls[key[::-1]], draw(sizes[key[1]])) for key in there}
    differences, kinks = "differences" in found, bool({"kinks", "differences at kinks"} & found)
    differences = differences or "differences at kinks" in found
    zero = torch.zeros(shape, dtype=torch.float64, device=u.device)

    def push(key: str, x: Tensor) -> Tensor:
        """∇²_{ab}F_i x for key "ab"; the Hessian is symmetric, so that ∇_bF's pull-back to a does it."""
        pull = pulls[key[::-1]]
        return _central(*functions[key], x) if differences or pull is None else pull(x)

    def norm(first: str, second: str, d: int, other: int) -> tuple[Tensor, float]:
        if d == 0 or other == 0:
            return zero, 1.0
        k = min(steps, d)
        return _lanczos(lambda x: push(second, push(first, x)), draw(d), k), 1.0 if k == d else share(d, k, error)

    L_u, share_u = norm("uu", "uu", d_u, d_u)
    L_v, share_v = norm("vv", "vv", d_v, d_v)
    L_uv, share_uv = norm("uv", "vu", d_v, d_u) if d_v <= d_u else norm("vu", "uv", d_u, d_v)
    return BlockNorms(L_u, L_v, L_uv, share_u, share_v, share_uv, differences, kinks)


def _pull(f: Gradient, at: Tensor) -> Gradient | None:
    """x ↦ Jᵀx with J the derivative of f, or None where torch.func cannot differentiate f."""
    try:
        back: Any = vjp(f, at.contiguous())[1]
    except (RuntimeError, NotImplementedError):
        return None
    return lambda x: back(x)[0].detach()


def _central(f: Gradient, at: Tensor, x: Tensor, width: float = 1e-5) -> Tensor:
    """(f(at + hx) − f(at − hx))/(2h) with ‖hx‖ = width·(1 + ‖at‖)."""
    h = width * (1 + at.norm(dim=-1, keepdim=True)) / x.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    return (f(at + h * x) - f(at - h * x)) / (2 * h)


def _compare(f: Gradient, at: Tensor, pull: Gradient | None, x: Tensor) -> str:
    """What to take: "derivatives"; "differences" where derivatives are missing or wrong (a loop of torch.autograd has
    none); "kinks" (derivatives) or "differences at kinks" where differences of two widths are not alike."""
    central = _central(f, at, x)
    size = float(central.norm())
    derived = None
    if pull is not None:
        with contextlib.suppress(RuntimeError, NotImplementedError):
            derived = pull(x)
    if derived is not None and float((derived - central).norm()) <= 1e-3 * size + 1e-9:
        return "derivatives"
    jumps = float((_central(f, at, x, 1e-6) - central).norm()) > 1e-3 * size + 1e-9
    if jumps:
        return "kinks" if derived is not None and float(derived.norm()) > 0 else "differences at kinks"
    return "differences"


def _lanczos(apply: Gradient, start: Tensor, k: int) -> Tensor:
    """√θ, θ the largest Ritz value of ``apply`` (positive semidefinite) after k steps; fully reorthogonalised."""
    q = start / start.norm(dim=-1, keepdim=True)
    basis, diagonal, beside = [q], [], []
    for j in range(k):
        w = apply(basis[j])
        diagonal.append((w * basis[j]).sum(-1))
        if j == k - 1:
            break
        scale = w.norm(dim=-1, keepdim=True)
        for _ in range(2):
            for b in basis:
                w = w - (w * b).sum(-1, keepdim=True) * b
        length = w.norm(dim=-1, keepdim=True)
        alive = length > 1e-12 * scale
        basis.append(torch.where(alive, w / length.clamp(min=1e-300), 0.0))
        beside.append(torch.where(alive, length, 0.0)[..., 0])
    T = torch.diag_embed(torch.stack(diagonal, -1))
    if beside:
        off = torch.stack(beside, -1)
        T = T + torch.diag_embed(off, offset=1) + torch.diag_embed(off, offset=-1)
    if not torch.isfinite(T).all():
        return torch.full(T.shape[:-2], math.inf, dtype=torch.float64, device=T.device)
    return torch.linalg.eigvalsh(T)[..., -1].clamp(min=0.0).sqrt()


def share(d: int, k: int, error: float) -> float:
    """√(1 − ε) such that θ < (1 − ε)λ has probability at most ``error``: λ the largest eigenvalue of a positive
    semidefinite d × d matrix M, θ the largest Ritz value after k ≥ 1 steps from a Gaussian start b. 1 for k ≥ d.

    Derived here (Kuczyński and Woźniakowski 1992 have the rate √d e^{−(2k−1)√ε}); s = √(1 − ε) solves

        P(|t_{d−1}| < √(d−1)/sinh((2k − 1) artanh √ε)) = error,   t_{d−1} Student's with d − 1 degrees of freedom.

    Proof. Scale M to λ = 1, eigenvalues λ_i, λ_1 = 1, b_i the coefficients of b, all independent N(0, 1). θ is the
    largest Rayleigh quotient of the vectors q(M)b, deg q ≤ k − 1. So θ < 1 − ε gives, for every such q,
    Σ_i q(λ_i)²(λ_i − (1 − ε)) b_i² < 0, and as only λ_i < 1 − ε count against i = 1,

        ε q(1)² b_1² < max_{0≤x≤1−ε} q(x)²(1 − ε − x) · Σ_{i≥2} b_i².

    With y = (1 − ε − x)/(1 − ε) take √y q = T_{2k−1}(√y), Chebyshev's polynomial, which is odd: the maximum is at most
    1 − ε, as |T_{2k−1}| ≤ 1 for y in [0, 1]. At x = 1, y = −ε/(1 − ε) = −sinh² a for a = artanh √ε, so that
    q(1)² = sinh²((2k − 1)a)/sinh² a. Hence b_1²/Σ_{i≥2} b_i² < 1/sinh²((2k − 1)a), and the left side times d − 1 is
    the square of a Student variable. ∎ Spectra at Chebyshev's points come near the stated probability.
    """
    from scipy.special import stdtrit

    if k >= d:
        return 1.0
    # where 1/2 + error/2 rounds: |t| < x has probability below x√(2/π), as no density here exceeds 1/√(2π)
    smallest = float(stdtrit(d - 1, 0.5 + 0.5 * error)) if error > 1e-8 else math.sqrt(math.pi / 2) * error
    return 1.0 / math.cosh(math.asinh(math.sqrt(d - 1) / smallest) / (2 * k - 1))
