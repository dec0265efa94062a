"""Exact expectations of many small quadratics at once: groups of equal clients, and T rounds by doubling.

Clients come in G groups of equal ones (F_i and start alike), so the moments depend on the groups alone. With
w_i = (1, u, v_i) the recursion keeps M = E zzᵀ of z = (1, u, v_1..v_G), one client of each group, where the block of
v_g with itself belongs to two different clients of the group, and S_g = E v_i v_iᵀ of one client. Both after a round
are linear in both before it, because sampling without replacement enters through P(i ∈ S) = p = m/n and
P(i, j ∈ S) = m(m−1)/(n(n−1)) alone. So one round is a small matrix R, and Σ_{t<T} Rᵗ x takes log₂T squarings. The same
numbers as ``fedconv.analysis.exact.moments``; derived here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Shape:
    """What a batch has in common. ``sizes``: clients in each group; ``joint``: FedSim, else FedAlt; ``full``: both
    blocks share their noise draws in a FedSim step."""

    sizes: tuple[int, ...]
    d_u: int
    d_v: int
    m: int
    tau_u: int
    tau_v: int
    T: int
    joint: bool
    full: bool = False

    @property
    def n(self) -> int:
        return sum(self.sizes)

    @property
    def groups(self) -> int:
        return len(self.sizes)

    @property
    def width(self) -> int:
        """Numbers in (1, u, v_1..v_G)."""
        return 1 + self.d_u + self.groups * self.d_v


@dataclass(frozen=True)
class Batch:
    """B quadratics of one shape: F_g = ½uᵀA_gu + uᵀC_gv + ½vᵀB_gv − a_gᵀu (b = 0), steps, noise and starts.

    A ``(B, G, d_u, d_u)``, B ``(B, G, d_v, d_v)``, C ``(B, G, d_u, d_v)``, a ``(B, G, d_u)``, steps and noise ``(B,)``,
    u ``(B, d_u)``, v ``(B, G, d_v)``.
    """

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    a: np.ndarray
    gamma_u: np.ndarray
    gamma_v: np.ndarray
    sigma_u: np.ndarray
    sigma_v: np.ndarray
    u: np.ndarray
    v: np.ndarray

    def __len__(self) -> int:
        return len(self.gamma_u)


@dataclass(frozen=True)
class Means:
    """Means over t < T, each ``(B,)``: E X_t and the diversity where FedAlt or FedSim measures them, and E Y_t."""

    X: np.ndarray
    Y: np.ndarray
    diversity: np.ndarray


@dataclass(frozen=True)
class _Round:
    """Local steps of a group: end ``(B, G, d_u+d_v, q)`` gives (ũ, ṽ − v) from (1, u, v), with noise covariance
    ``(B, G, d_u+d_v, d_u+d_v)``; gradient ``(B, G, d_u, q)`` at the measured point, with its noise's mean square."""

    end: np.ndarray
    noise: np.ndarray
    gradient: np.ndarray
    gradient_noise: np.ndarray
    personal: np.ndarray


def means(shape: Shape, batch: Batch) -> Means:
    """Exact means over t < T of what the theorems measure. Diverging runs give inf or NaN."""
    with np.errstate(all="ignore"):
        one = _local(shape, batch)
        recursion = _Recursion(shape, one)
        M, S = recursion.summed(*_start(shape, batch))
        k = np.asarray(shape.sizes, dtype=float) / shape.n
        cross, own = recursion.pairs(M, S)
        H = one.gradient
        each = np.einsum("g,bgri,bgij,bgrj->b", k, H, own, H, optimize=True)
        each = each + np.einsum("g,bg->b", k, one.gradient_noise)
        mean = np.einsum("g,bgri->bgri", k, H)
        X = np.einsum("bgri,bghij,bhrj->b", mean, cross, mean, optimize=True)
        diagonal = cross[:, np.arange(shape.groups), np.arange(shape.groups)]
        X = X + np.einsum("g,bgri,bgij,bgrj->b", k / shape.n, H, own - diagonal, H, optimize=True)
        X = X + np.einsum("g,bg->b", k / shape.n, one.gradient_noise)
        Y = np.einsum("g,bgri,bgij,bgrj->b", k, one.personal, own, one.personal, optimize=True)
        return Means(X, Y, np.maximum(each - X, 0.0))


def gap(shape: Shape, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """(F(start) − F★, |F(start)| + |F★|), each ``(B,)``, where Σ_g |g| a_g = 0: the minimiser is 0 and F★ = 0.

    The gap is NaN where F is unbounded below.
    """
    k = np.asarray(shape.sizes, dtype=float) / shape.n
    Au = np.einsum("bgij,bj->bgi", batch.A, batch.u)
    Cv = np.einsum("bgij,bgj->bgi", batch.C, batch.v)
    Bv = np.einsum("bgij,bgj->bgi", batch.B, batch.v)
    value = np.einsum("bi,bgi->bg", batch.u, 0.5 * Au + Cv - batch.a) + 0.5 * (batch.v * Bv).sum(-1)
    found = value @ k
    bounded = np.ones(len(batch), dtype=bool)
    schur = np.einsum("g,bgij->bij", k, batch.A)
    if shape.d_v:
        bounded = np.linalg.eigvalsh(batch.B).min(axis=(1, 2)) > 1e-9
        safe = np.where(bounded[:, None, None, None], batch.B, np.eye(shape.d_v))
        back = np.linalg.solve(safe, batch.C.swapaxes(2, 3))
        schur = schur - np.einsum("g,bgij->bij", k, batch.C @ back)
    if shape.d_u:
        bounded &= np.linalg.eigvalsh(schur).min(axis=1) > 1e-9
    return np.where(bounded, found, np.nan), np.abs(found)


def _start(shape: Shape, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    z = np.concatenate([np.ones((len(batch), 1)), batch.u, batch.v.reshape(len(batch), -1)], axis=1)
    return z[:, :, None] * z[:, None, :], batch.v[..., :, None] * batch.v[..., None, :]


def _local(shape: Shape, batch: Batch) -> _Round:
    """The local steps as products of the matrices of one step on (1, u, v)."""
    size, G, d_u, d_v = len(batch), shape.groups, shape.d_u, shape.d_v
    q = 1 + d_u + d_v
    to_u, to_v = slice(1, 1 + d_u), slice(1 + d_u, q)
    of_u = np.concatenate([-batch.a[..., None], batch.A, batch.C], axis=3)
    of_v = np.concatenate([np.zeros((size, G, d_v, 1)), batch.C.swapaxes(2, 3), batch.B], axis=3)
    scale_u = batch.gamma_u * batch.sigma_u / max(d_u, 1) ** 0.5
    scale_v = batch.gamma_v * batch.sigma_v / max(d_v, 1) ** 0.5

    def step(u_moves: bool, v_moves: bool) -> tuple[np.ndarray, np.ndarray]:
        matrix = np.broadcast_to(np.eye(q), (size, G, q, q)).copy()
        noise = np.zeros((size, 1, q, q))
        if u_moves:
            matrix[:, :, to_u] -= batch.gamma_u[:, None, None, None] * of_u
            noise[:, 0, to_u, to_u] = (scale_u**2)[:, None, None] * np.eye(d_u)
        if v_moves:
            matrix[:, :, to_v] -= batch.gamma_v[:, None, None, None] * of_v
            noise[:, 0, to_v, to_v] = (scale_v**2)[:, None, None] * np.eye(d_v)
        if u_moves and v_moves and shape.full:
            noise[:, 0, to_u, to_v] = (scale_u * scale_v)[:, None, None] * np.eye(d_u, d_v)
            noise[:, 0, to_v, to_u] = (scale_u * scale_v)[:, None, None] * np.eye(d_v, d_u)
        return matrix, noise

    phases = [(shape.tau_u, step(True, True))] if shape.joint else []
    if not shape.joint:
        phases = [(shape.tau_v, step(False, True)), (shape.tau_u, step(True, False))]
    path = np.broadcast_to(np.eye(q), (size, G, q, q))
    covariance = np.zeros((size, G, q, q))
    gradient, gradient_noise = of_u, np.zeros((size, G))
    for number, (count, (matrix, noise)) in enumerate(phases):
        if number == 1:
            gradient = of_u @ path
            gradient_noise = np.einsum("bgri,bgij,bgrj->bg", of_u, covariance, of_u)
        for _ in range(count):
            path = matrix @ path
            covariance = matrix @ covariance @ matrix.swapaxes(2, 3) + noise
    end = path[:, :, 1:].copy()
    end[:, :, d_u:] -= np.eye(q)[to_v]
    return _Round(end, covariance[:, :, 1:, 1:], gradient, gradient_noise, of_v)


class _Recursion:
    """One round as a linear map of (M, S), and its powers' sum."""

    def __init__(self, shape: Shape, one: _Round) -> None:
        self.shape, self.one = shape, one
        n, m = shape.n, shape.m
        self.p = m / n
        self.pair = m * (m - 1) / (n * (n - 1)) if n > 1 else 0.0

    @cached_property
    def _places(self) -> np.ndarray:
        """Index of each number of (1, u, v_g) in (1, u, v_1..v_G), ``(G, q)``."""
        s = self.shape
        shared = np.broadcast_to(np.arange(1 + s.d_u), (s.groups, 1 + s.d_u))
        personal = 1 + s.d_u + np.arange(s.groups * s.d_v).reshape(s.groups, s.d_v)
        return np.concatenate([shared, personal], axis=1)

    def pairs(self, M: np.ndarray, S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """E w_i w_jᵀ of two clients of the groups g, h ``(..., G, G, q, q)``, and of one ``(..., G, q, q)``."""
        places, G, d_u = self._places, self.shape.groups, self.shape.d_u
        cross = M[..., places[:, None, :, None], places[None, :, None, :]]
        own = cross[..., np.arange(G), np.arange(G), :, :].copy()
        own[..., 1 + d_u :, 1 + d_u :] = S
        return cross, own

    def advance(self, M: np.ndarray, S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(M, S) one round later; leading axes ``(B, ...)`` as the batch has them, one of basis vectors added."""
        s, p, pair = self.shape, self.p, self.pair
        d_u, d_v, G = s.d_u, s.d_v, s.groups
        k = np.asarray(s.sizes, dtype=float)
        J = self.one.end[:, None]
        noise = self.one.noise[:, None] * M[:, :, 0, 0][:, :, None, None, None]
        cross, own = self.pairs(M, S)
        ends = J[:, :, :, None] @ cross  # E f_i w_jᵀ
        both = ends @ J[:, :, None].swapaxes(-1, -2)  # E f_i f_jᵀ
        alone_w = J @ own
        alone = alone_w @ J.swapaxes(-1, -2) + noise
        diagonal = np.arange(G)
        of_v = slice(1 + d_u, 1 + d_u + d_v)
        up, down = slice(0, d_u), slice(d_u, d_u + d_v)
        out, own_out = np.empty_like(M), np.empty_like(S)
        out[:, :, 0, 0] = M[:, :, 0, 0]
        # E u⁺ and E v⁺
        first = ends[:, :, :, 0, :, 0]
        mean_u = np.einsum("g,xbgi->xbi", k / s.n, first[..., up])
        out[:, :, 0, 1 : 1 + d_u] = out[:, :, 1 : 1 + d_u, 0] = mean_u
        moved = (M[:, :, 0, 1 + d_u :].reshape(*M.shape[:2], G, d_v) + p * first[..., down]).reshape(*M.shape[:2], -1)
        out[:, :, 0, 1 + d_u :] = out[:, :, 1 + d_u :, 0] = moved
        # E u⁺u⁺ᵀ
        same = both[:, :, diagonal, diagonal]
        total = np.einsum("g,h,xbghij->xbij", k, k, both[..., up, up], optimize=True)
        total = total - np.einsum("g,xbgij->xbij", k, same[..., up, up])
        out[:, :, 1 : 1 + d_u, 1 : 1 + d_u] = (
            pair * total + p * np.einsum("g,xbgij->xbij", k, alone[..., up, up])
        ) / s.m**2
        if d_v:
            same_w = ends[:, :, diagonal, diagonal]
            pull = np.einsum("g,xbghij->xbhij", k, ends[..., up, of_v])
            pull = p * (pull - same_w[..., up, of_v] + alone_w[..., up, of_v])
            push = np.einsum("g,xbghij->xbhij", k, both[..., up, down])
            push = pair * (push - same[..., up, down]) + p * alone[..., up, down]
            mixed = ((pull + push) / s.m).swapaxes(2, 3).reshape(*M.shape[:2], d_u, G * d_v)
            out[:, :, 1 : 1 + d_u, 1 + d_u :] = mixed
            out[:, :, 1 + d_u :, 1 : 1 + d_u] = mixed.swapaxes(-1, -2)
            stay = cross[..., of_v, of_v]
            change = p * ends[..., down, of_v]
            after = stay + change + change.swapaxes(2, 3).swapaxes(-1, -2) + pair * both[..., down, down]
            out[:, :, 1 + d_u :, 1 + d_u :] = after.swapaxes(3, 4).reshape(*M.shape[:2], G * d_v, G * d_v)
            own_change = p * alone_w[..., down, of_v]
            own_out[...] = S + own_change + own_change.swapaxes(-1, -2) + p * alone[..., down, down]
        return out, own_out

    def summed(self, M: np.ndarray, S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(1/T) Σ_{t<T} of the moments from the first round's, by doubling."""
        s = self.shape
        N, G, d_v = s.width, s.groups, s.d_v
        rows, columns = np.triu_indices(N)
        own_rows, own_columns = np.triu_indices(d_v)
        size = len(rows) + G * len(own_rows)

        def packed(M: np.ndarray, S: np.ndarray) -> np.ndarray:
            own = S[..., own_rows, own_columns].reshape(*S.shape[:-3], -1)
            return np.concatenate([M[..., rows, columns], own], axis=-1)

        def unpacked(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            M = np.empty((*x.shape[:-1], N, N))
            M[..., rows, columns] = M[..., columns, rows] = x[..., : len(rows)]
            S = np.empty((*x.shape[:-1], G, d_v, d_v))
            own = x[..., len(rows) :].reshape(*x.shape[:-1], G, len(own_rows))
            S[..., own_rows, own_columns] = S[..., own_columns, own_rows] = own
            return M, S

        x = packed(M, S)[..., None]
        if s.T == 1:
            return M, S
        basis = np.broadcast_to(np.eye(size), (len(M), size, size))
        power = packed(*self.advance(*unpacked(basis))).swapaxes(1, 2)
        partial, total, left = np.broadcast_to(np.eye(size), power.shape), np.zeros_like(x), s.T
        while left:
            if left % 2:
                total, x = total + partial @ x, power @ x
            left //= 2
            if left:
                partial, power = partial + partial @ power, power @ power
        return unpacked(total[..., 0] / s.T)
