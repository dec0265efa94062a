"""Quadratics as a space to search: continuous coordinates of a layout, their exact tightness, and the file they mean.

The optimum is at 0, L_u = L_v = 1 and L_uv is a share of what keeps F bounded below: units and the place of the
optimum change neither side of a theorem. The step is a share of the largest that the theorem's premises admit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedconv.analysis.falsify.spaces.quadratic import layout as falsify_layout
from fedconv.analysis.falsify.spaces.quadratic.layout import Layout
from fedconv.analysis.falsify.spaces.quadratic.moments import Batch, gap, means
from fedconv.analysis.falsify.spaces.sides import largest_step, strength
from fedconv.analysis.falsify.spaces.space import Scores
from fedconv.analysis.theorems import Theorem


@dataclass(frozen=True)
class Decoded:
    """Candidates of one layout as numbers: the problems with their steps, the theorem's inputs and free parameters."""

    batch: Batch
    eta: np.ndarray
    inputs: dict[str, Any]
    parameters: dict[str, Any]
    gap_scale: np.ndarray


@dataclass
class QuadraticSpace:
    """Coupled quadratics, n ≤ 24, with groups of equal clients: what refutes ``theorem``.

    ``original``: where ``theorem`` is a weakened version, what it is a version of; candidates at which both say nearly
    the same are ranked below all others, as they refute nothing.
    """

    theorem: Theorem
    original: Theorem | None = None
    _limits: dict[tuple[Any, ...], dict[str, float]] = field(default_factory=dict)

    @property
    def joint(self) -> bool:
        return self.theorem.algorithms == ("fedsim",)

    def draw(self, rng: np.random.Generator) -> Layout:
        return falsify_layout.draw(rng, self.joint)

    def neighbour(self, layout: Layout, rng: np.random.Generator) -> Layout:
        return falsify_layout.neighbour(layout, rng)

    def describe(self, layout: Layout) -> str:
        return layout.describe()

    def stratum(self, layout: Layout) -> tuple[Any, ...]:
        return layout.stratum

    def names(self, layout: Layout) -> tuple[str, ...]:
        """The continuous coordinates of a layout, by name."""
        shared, personal = layout.blocks != "v", layout.blocks != "u"
        groups = range(len(layout.sizes))
        d_u, d_v = layout.d_u, layout.d_v
        out = ["eta"]
        if layout.curved:
            if shared:
                out += [f"A{g}{i}{j}" for g in groups for i in range(d_u) for j in range(i + 1)]
            if personal:
                out += [f"B{g}{i}{j}" for g in groups for i in range(d_v) for j in range(i + 1)]
        if layout.coupled:
            which = groups if layout.coupled_apart else range(1)
            out += ["coupling"] + [f"C{g}{i}{j}" for g in which for i in range(d_u) for j in range(d_v)]
        if layout.shifted:
            out += [f"a{g}{i}" for g in groups[:-1] for i in range(d_u)]
        if layout.start == "point":
            out += ["start"] if layout.shifted or layout.noise != "none" else []
            out += [f"u{i}" for i in range(d_u) if shared]
            out += [f"v{g}{j}" for g in groups for j in range(d_v) if personal]
        out += ["sigma_u"] * (layout.noise in ("u", "both", "full"))
        out += ["sigma_v"] * (layout.noise in ("v", "both", "full"))
        out += ["slack"] * (layout.slack != "none")
        limits = self.limits(layout)
        return (*out, *(f.name for f in self.theorem.free if f.name not in limits))

    def limits(self, layout: Layout) -> dict[str, float]:
        """Free parameters whose limit is allowed for every candidate of a layout."""
        key = (layout.tau_u == 1, layout.tau_v == 1, layout.m == layout.n, layout.n == 1, layout.coupled, layout.noise)
        if key not in self._limits:
            inputs = self._fixed(layout) | {
                "eta": 0.5, "L_u": 1.0, "L_v": 1.0, "gap0": 1.0, "rho": 1.0, "delta": 1.0,
                "chi": 0.5 if layout.coupled else 0.0,
                "sigma_u": float(layout.noise in ("u", "both", "full")),
                "sigma_v": float(layout.noise in ("v", "both", "full")),
            }  # fmt: skip
            found = self.theorem.limits(inputs)
            if layout.coupled:
                found.pop("alpha", None)  # χ(1−p) vanishes at m = n up to rounding only, so that it may be refused
            self._limits[key] = found
        return self._limits[key]

    def sample(self, layout: Layout, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random points ``(count, D)``. A quarter has groups that start alike, a quarter starts along the eigenvector
        of F's Hessian with the least or the largest eigenvalue."""
        names = self.names(layout)
        points = rng.standard_normal((count, len(names)))
        if layout.start != "point" or layout.blocks != "both":
            return points
        places = {name: k for k, name in enumerate(names)}
        groups, d_u, d_v = len(layout.sizes), layout.d_u, layout.d_v
        for j in range(d_v):
            points[: count // 4, [places[f"v{g}{j}"] for g in range(groups)]] = points[: count // 4, [places[f"v0{j}"]]]
        along = slice(count // 4, count // 2)
        batch = self.decode(layout, points[along]).batch
        vectors = _extreme_directions(layout, batch, rng.random(len(batch)) < 0.5)
        points[along, [places[f"u{i}"] for i in range(d_u)]] = vectors[:, :d_u]
        points[along, [places[f"v{g}{j}"] for g in range(groups) for j in range(d_v)]] = vectors[:, d_u:]
        return points

    def scores(self, layout: Layout, points: np.ndarray) -> Scores:
        """Exact tightness at points ``(N, D)``."""
        with np.errstate(all="ignore"):
            x = self.decode(layout, points)
            found = means(layout.shape, x.batch)
        return strength(
            self.theorem,
            self.original,
            x.inputs,
            x.parameters,
            (found.X, found.Y, found.diversity),
            a_posteriori=self._a_posteriori(layout),
            gap_scale=x.gap_scale,
            apart=layout.apart,
        )

    def file(self, layout: Layout, point: np.ndarray) -> dict[str, Any]:
        """The problem file of a candidate."""
        x = self.decode(layout, point[None])
        b, sizes = x.batch, layout.sizes

        def every(stack: np.ndarray) -> list[Any]:
            return np.repeat(stack[0], sizes, axis=0).tolist()

        algorithm: dict[str, Any] = {"name": "fedsim" if layout.joint else "fedalt", "m": layout.m}
        same = layout.tau_u == layout.tau_v
        algorithm |= {"tau": layout.tau_u} if same else {"tau_u": layout.tau_u, "tau_v": layout.tau_v}
        if layout.slack == "none":
            algorithm["eta"] = float(x.eta[0])
        else:
            algorithm |= {"gamma_u": float(b.gamma_u[0]), "gamma_v": float(b.gamma_v[0])}
        file: dict[str, Any] = {
            "problem": {"family": "quadratic_arrays", "A": every(b.A), "B": every(b.B), "C": every(b.C),
                        "a": every(b.a), "b": np.zeros((layout.n, layout.d_v)).tolist()},
            "start": {"kind": "point", "u": b.u[0].tolist(), "v": every(b.v)},
            "algorithm": algorithm,
            "run": {"T": layout.T},
        }  # fmt: skip
        if layout.noise != "none":
            file["noise"] = {"law": "rademacher", "sigma_u": float(b.sigma_u[0]), "sigma_v": float(b.sigma_v[0])}
            if layout.noise == "full":
                file["noise"]["dependence"] = "full"
        parameters = {k: float(np.broadcast_to(v, (1,))[0]) for k, v in x.parameters.items()}
        file["verify"] = {"theorems": [self.theorem.mutant_of or self.theorem.key], "parameters": parameters}
        if layout.measured:
            file["verify"]["a_posteriori"] = True
        return file

    # ---- from coordinates to numbers -----------------------------------------------------------------------

    def decode(self, layout: Layout, points: np.ndarray) -> Decoded:
        """Candidates at points ``(N, D)``; F unbounded below gives a NaN gap."""
        values = dict(zip(self.names(layout), points.T, strict=True))
        count, G, d_u, d_v = len(points), len(layout.sizes), layout.d_u, layout.d_v
        k = np.asarray(layout.sizes, dtype=float) / layout.n
        zero = np.zeros(count)

        def get(name: str) -> np.ndarray:
            return values.get(name, zero)

        A = np.broadcast_to(np.eye(d_u), (count, G, d_u, d_u)).copy()
        B = np.broadcast_to(np.eye(d_v), (count, G, d_v, d_v)).copy()
        if layout.curved and layout.blocks != "v":
            for g in range(G):
                for i in range(d_u):
                    for j in range(i + 1):
                        A[:, g, i, j] = A[:, g, j, i] = 0.6 * (i == j) + 0.6 * get(f"A{g}{i}{j}")
            A /= np.linalg.norm(A, 2, axis=(2, 3)).max(axis=1)[:, None, None, None]
        if layout.curved and layout.blocks != "u":
            L = np.zeros_like(B)
            for g in range(G):
                for i in range(d_v):
                    for j in range(i + 1):
                        z = get(f"B{g}{i}{j}")
                        L[:, g, i, j] = np.exp(0.5 * np.clip(z, -10, 10)) if i == j else z
            B = L @ L.swapaxes(2, 3)
            B /= np.linalg.norm(B, 2, axis=(2, 3)).max(axis=1)[:, None, None, None]
        C = np.zeros((count, G, d_u, d_v))
        if layout.coupled:
            for g in range(G):
                for i in range(d_u):
                    for j in range(d_v):
                        C[:, g, i, j] = get(f"C{g if layout.coupled_apart else 0}{i}{j}")
            pulled = np.einsum("g,bgij->bij", k, C @ np.linalg.solve(B, C.swapaxes(2, 3)))
            mean = np.einsum("g,bgij->bij", k, A)
            convex = np.linalg.eigvalsh(mean).min(axis=1) > 1e-6
            safe = np.where(convex[:, None, None], mean, np.eye(d_u))
            share = np.linalg.eigvals(np.linalg.solve(safe, pulled)).real.max(axis=1)
            kappa = 0.999 / (1 + np.exp(-1 - 2 * get("coupling")))
            C *= np.sqrt(kappa / np.maximum(share, 1e-12))[:, None, None, None]
        a = np.zeros((count, G, d_u))
        if layout.shifted:
            for g in range(G - 1):
                for i in range(d_u):
                    a[:, g, i] = get(f"a{g}{i}") / layout.sizes[g]
            a[:, -1] = -np.einsum("g,bgi->bi", np.asarray(layout.sizes[:-1], dtype=float), a[:, :-1]) / layout.sizes[-1]
        scale = np.exp(1.5 * np.clip(get("start"), -20, 5))
        u = np.stack([scale * get(f"u{i}") for i in range(d_u)], axis=1)
        v = np.stack([np.stack([scale * get(f"v{g}{j}") for j in range(d_v)], axis=1) for g in range(G)], axis=1)
        noisy_u, noisy_v = "sigma_u" in values, "sigma_v" in values
        sigma_u = np.exp(np.clip(get("sigma_u"), -20, 20)) if noisy_u else zero
        sigma_v = np.exp(np.clip(get("sigma_v"), -20, 20)) if noisy_v else zero
        longer = np.exp(np.minimum(np.abs(get("slack")), 20))
        L_u = np.linalg.norm(A, 2, axis=(2, 3)).max(axis=1) * (longer if layout.slack == "u" else 1.0)
        L_v = np.linalg.norm(B, 2, axis=(2, 3)).max(axis=1) * (longer if layout.slack == "v" else 1.0)
        cross = np.linalg.norm(C, 2, axis=(2, 3)).max(axis=1)
        delta, rho = _diversity(A, a, k)
        still = Batch(A, B, C, a, zero, zero, sigma_u, sigma_v, u, v)
        gap0, gap_scale = gap(layout.shape, still)
        inputs = self._fixed(layout) | {
            "L_u": L_u, "L_v": L_v, "chi": cross / np.sqrt(L_u * L_v), "sigma_u": sigma_u, "sigma_v": sigma_v,
            "delta": 0.0 if layout.n == 1 else delta, "rho": 0.0 if layout.n == 1 else rho, "gap0": gap0,
        }  # fmt: skip
        if self._a_posteriori(layout):
            inputs |= {"delta": 0.0, "rho": 0.0}
        parameters: dict[str, Any] = dict(self.limits(layout))
        for free in self.theorem.free:
            if free.name not in parameters:
                parameters[free.name] = np.exp(1.5 * np.clip(get(free.name), -20, 20) - 0.5)
        eta = np.exp(np.minimum(get("eta"), 0.0)) * largest_step(self.theorem, inputs, parameters, count)
        inputs["eta"] = eta
        batch = Batch(
            A, B, C, a, eta / (L_u * layout.tau_u), eta / (L_v * layout.tau_v), sigma_u, sigma_v, u, v
        )  # fmt: skip
        return Decoded(batch, eta, inputs, parameters, gap_scale)

    def _fixed(self, layout: Layout) -> dict[str, Any]:
        s = layout
        return {"n": float(s.n), "m": float(s.m), "tau_u": float(s.tau_u), "tau_v": float(s.tau_v), "T": float(s.T)}

    def _a_posteriori(self, layout: Layout) -> bool:
        return layout.measured or (layout.coupled and layout.n > 1)


def _extreme_directions(layout: Layout, batch: Batch, least: np.ndarray) -> np.ndarray:
    """Eigenvectors ``(N, d_u + G d_v)`` of the Hessian of F in (u, √(k_g) v_g), given back in (u, v_g).

    k_g is a group's share of the clients. The least eigenvalue's where ``least``, else the largest one's."""
    k = np.asarray(layout.sizes, dtype=float) / layout.n
    G, d_u, d_v = len(k), layout.d_u, layout.d_v
    H = np.zeros((len(batch), d_u + G * d_v, d_u + G * d_v))
    H[:, :d_u, :d_u] = np.einsum("g,bgij->bij", k, batch.A)
    for g in range(G):
        own = slice(d_u + g * d_v, d_u + (g + 1) * d_v)
        H[:, own, own] = batch.B[:, g]
        H[:, :d_u, own] = math.sqrt(k[g]) * batch.C[:, g]
        H[:, own, :d_u] = H[:, :d_u, own].swapaxes(1, 2)
    _, vectors = np.linalg.eigh(H)
    chosen = np.where(least[:, None], vectors[:, :, 0], vectors[:, :, -1])
    chosen[:, d_u:] /= np.repeat(np.sqrt(k), d_v)
    return chosen


def _diversity(A: np.ndarray, a: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(δ, ρ) of A3 for uncoupled quadratics, as :class:`fedconv.problems.split.quadratic.Quadratic` gives them (mean of
    a_g = 0)."""
    spread = A - np.einsum("g,bgij->bij", k, A)[:, None]
    mean = np.einsum("g,bgij->bij", k, A)
    convex = np.abs(np.linalg.eigvalsh(mean)).min(axis=1) > 1e-9
    D = spread @ np.linalg.inv(np.where(convex[:, None, None], mean, np.eye(A.shape[2])))[:, None]
    slope = np.linalg.norm(np.einsum("g,bgij,bgik->bjk", k, D, D), 2, axis=(1, 2))
    offset = np.einsum("g,bgi->b", k, a**2)
    share = np.where((offset > 0) & (slope > 0), 2.0, 1.0)
    return np.sqrt(share * offset), np.sqrt(share * slope)
