"""Trigonometric problems as a space to search: nonconvex, one coordinate a block, two-point noise enumerated.

F_i(u,v) = a(1−cos u) + h_i u + b(1−cos(v−s_i)) + κ sin u sin v with n ≤ 3 (``fedconv.problems.split.trigonometric``,
whose exact constants are typed once more here for many problems at a time). Every cohort and every noise of every
client in a round is a path of its own; T is what keeps the paths few.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fedconv.analysis.falsify.spaces.sides import largest_step, strength
from fedconv.analysis.falsify.spaces.space import Scores
from fedconv.analysis.theorems import Theorem

PATHS = 1024
"""Paths of one candidate in its last round, at most."""

_GRID = np.linspace(-0.5 * math.pi, 0.5 * math.pi, 129)


@dataclass(frozen=True)
class Waves:
    """A layout: n clients, m sampled, local steps, rounds; ``noise`` none, u, v, both or full; whether κ ≠ 0."""

    n: int
    m: int
    tau_u: int
    tau_v: int
    T: int
    joint: bool
    noise: str
    coupled: bool
    apart: float

    @property
    def steps(self) -> dict[str, int]:
        """The local steps as a problem file gives them."""
        return {"tau": self.tau_u} if self.tau_u == self.tau_v else {"tau_u": self.tau_u, "tau_v": self.tau_v}

    @property
    def branches(self) -> int:
        """Outcomes of one round: cohorts, and the noises of all clients."""
        noisy_u, noisy_v = self.noise in ("u", "both", "full"), self.noise in ("v", "both")
        return math.comb(self.n, self.m) * 2 ** (self.n * (noisy_u * self.tau_u + noisy_v * self.tau_v))


@dataclass
class TrigonometricSpace:
    """Trigonometric problems that may refute ``theorem``; ``original``: what it is a weakened version of, or None."""

    theorem: Theorem
    original: Theorem | None = None
    _limits: dict[tuple[Any, ...], dict[str, float]] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator) -> Waves:
        pick = lambda *values: values[int(rng.integers(len(values)))]  # noqa: E731
        joint = self.theorem.algorithms == ("fedsim",)
        n = pick(1, 2, 2, 3)
        tau_u = pick(1, 1, 2, 3)
        tau_v = tau_u if joint else pick(tau_u, 1)
        noise = pick("none", "none", "u", "v", "full" if joint else "both")
        drawn = Waves(n, pick(1, n), tau_u, tau_v, pick(1, 2, 4, 16, 64), joint, noise, pick(True, True, False),
                      pick(0.02, 0.1, 0.3))  # fmt: skip
        return self._few_paths(drawn)

    def neighbour(self, layout: Waves, rng: np.random.Generator) -> Waves:
        factor = float(rng.choice((0.5, 2.0)))
        return self._few_paths(replace(layout, T=max(1, min(64, round(factor * layout.T)))))

    def _few_paths(self, layout: Waves) -> Waves:
        if layout.branches > PATHS:
            layout = replace(layout, noise="none")
        if layout.branches == 1:
            return layout
        return replace(layout, T=max(1, min(layout.T, int(math.log(PATHS) / math.log(layout.branches)))))

    def stratum(self, layout: Waves) -> tuple[Any, ...]:
        return layout.coupled, layout.noise != "none", layout.apart

    def describe(self, layout: Waves) -> str:
        name = "fedsim" if layout.joint else "fedalt"
        steps = ", ".join(f"{key} = {value}" for key, value in layout.steps.items())
        noise = "no noise" if layout.noise == "none" else f"two-point noise ({layout.noise})"
        return f"{name} on a trigonometric problem, n = {layout.n}, m = {layout.m}, {steps}, T = {layout.T}, {noise}"

    def names(self, layout: Waves) -> tuple[str, ...]:
        clients = range(layout.n)
        out = ["eta", "a", "b", "u", *(f"v{i}" for i in clients), *(f"s{i}" for i in clients)]
        out += [f"h{i}" for i in clients[:-1]] + ["kappa"] * layout.coupled
        out += ["sigma_u"] * (layout.noise not in ("none", "v")) + ["sigma_v"] * (layout.noise not in ("none", "u"))
        limits = self.limits(layout)
        return (*out, *(f.name for f in self.theorem.free if f.name not in limits))

    def limits(self, layout: Waves) -> dict[str, float]:
        """Free parameters whose limit is allowed for every candidate of a layout."""
        key = (layout.tau_u == 1, layout.tau_v == 1, layout.n, layout.m, layout.noise, layout.coupled)
        if key not in self._limits:
            sigma = {b: float(layout.noise not in ("none", other)) for b, other in (("u", "v"), ("v", "u"))}
            inputs = self._fixed(layout) | {
                "eta": 0.5, "L_u": 1.0, "L_v": 1.0, "gap0": 1.0, "rho": 0.0, "delta": 1.0,
                "chi": 0.5 if layout.coupled else 0.0, "sigma_u": sigma["u"], "sigma_v": sigma["v"],
            }  # fmt: skip
            found = self.theorem.limits(inputs)
            if layout.coupled:
                found.pop("alpha", None)
            self._limits[key] = found
        return self._limits[key]

    def sample(self, layout: Waves, rng: np.random.Generator, count: int) -> np.ndarray:
        return rng.standard_normal((count, len(self.names(layout))))

    def scores(self, layout: Waves, points: np.ndarray) -> Scores:
        """Exact tightness at points ``(N, D)``."""
        with np.errstate(all="ignore"):
            x, inputs, parameters, gap_scale = self._decode(layout, points)
            found = _enumerate(layout, x)
        return strength(
            self.theorem, self.original, inputs, parameters, found, a_posteriori=False, gap_scale=gap_scale,
            apart=layout.apart,
        )  # fmt: skip

    def file(self, layout: Waves, point: np.ndarray) -> dict[str, Any]:
        """The problem file of a candidate."""
        x, inputs, parameters, _ = self._decode(layout, point[None])
        column = {k: np.asarray(v)[0].reshape(-1, 1).tolist() for k, v in x.items() if k in ("h", "s", "v")}
        file: dict[str, Any] = {
            "problem": {"family": "trigonometric_arrays", "a": [float(x["a"][0])], "b": [float(x["b"][0])],
                        "kappa": [float(x["kappa"][0])], "h": column["h"], "s": column["s"]},
            "start": {"kind": "point", "u": [float(x["u"][0])], "v": column["v"]},
            "algorithm": {"name": "fedsim" if layout.joint else "fedalt", "m": layout.m} | layout.steps
            | {"eta": float(inputs["eta"][0])},
            "run": {"T": layout.T},
        }  # fmt: skip
        if layout.noise != "none":
            file["noise"] = {"law": "rademacher", "sigma_u": float(x["sigma_u"][0]), "sigma_v": float(x["sigma_v"][0])}
            if layout.noise == "full":
                file["noise"]["dependence"] = "full"
        chosen = {k: float(np.broadcast_to(v, (1,))[0]) for k, v in parameters.items()}
        file["verify"] = {"theorems": [self.theorem.mutant_of or self.theorem.key], "parameters": chosen}
        return file

    def _fixed(self, layout: Waves) -> dict[str, Any]:
        return {k: float(getattr(layout, k)) for k in ("n", "m", "tau_u", "tau_v", "T")}

    def _decode(
        self, layout: Waves, points: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any], np.ndarray]:
        """(problem and run, the theorem's inputs, free parameters, |F(start)| + |F★|)."""
        values = dict(zip(self.names(layout), points.T, strict=True))
        count, n = len(points), layout.n
        zero = np.zeros(count)

        def get(name: str) -> np.ndarray:
            return values.get(name, zero)

        h = np.stack([get(f"h{i}") for i in range(n)], axis=1) / n
        h[:, -1] = -h[:, :-1].sum(axis=1)
        a, b = (np.exp(np.clip(get(k), -10, 10)) for k in "ab")
        x = {
            "a": a, "b": b, "h": h, "s": np.stack([get(f"s{i}") for i in range(n)], axis=1),
            "kappa": get("kappa"), "u": 2 * get("u"), "v": np.stack([2 * get(f"v{i}") for i in range(n)], axis=1),
        }  # fmt: skip
        for block in "uv":
            name = f"sigma_{block}"
            x[name] = np.exp(np.clip(get(name), -10, 10)) if name in values else zero
        L_u, kappa = np.hypot(a, x["kappa"]), np.abs(x["kappa"])
        L_v = np.sqrt(b**2 + kappa**2 + 2 * b * kappa * np.abs(np.sin(x["s"])).max(axis=1))
        first = _values(x, x["u"][:, None], x["v"]).mean(axis=1)
        least = _least(x)
        inputs: dict[str, Any] = self._fixed(layout) | {
            "L_u": L_u, "L_v": L_v, "chi": kappa / np.sqrt(L_u * L_v), "sigma_u": x["sigma_u"], "sigma_v": x["sigma_v"],
            "delta": _delta(x), "rho": 0.0, "gap0": np.maximum(first - least, 0.0),
        }  # fmt: skip
        parameters: dict[str, Any] = dict(self.limits(layout))
        for free in self.theorem.free:
            if free.name not in parameters:
                parameters[free.name] = np.exp(1.5 * np.clip(get(free.name), -20, 20) - 0.5)
        eta = np.exp(np.minimum(get("eta"), 0.0)) * largest_step(self.theorem, inputs, parameters, count)
        x |= {"gamma_u": eta / (L_u * layout.tau_u), "gamma_v": eta / (L_v * layout.tau_v)}
        return x, inputs | {"eta": eta}, parameters, np.abs(first) + np.abs(least)


def _wide(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Axes of length 1 put between the candidates' and the clients' axes, to match ``(N, paths, n)``."""
    if array.ndim == 1:
        return array.reshape(-1, *(1,) * (like.ndim - 1))
    return array.reshape(len(array), *(1,) * (like.ndim - 2), array.shape[1])


def _values(x: dict[str, np.ndarray], u: np.ndarray, v: np.ndarray) -> np.ndarray:
    a, b, kappa, h, s = (_wide(x[k], v) for k in ("a", "b", "kappa", "h", "s"))
    return a * (1 - np.cos(u)) + h * u + b * (1 - np.cos(v - s)) + kappa * np.sin(u) * np.sin(v)


def _slopes(x: dict[str, np.ndarray], u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(∇_uF_i, ∇_vF_i)."""
    a, b, kappa, h, s = (_wide(x[k], v) for k in ("a", "b", "kappa", "h", "s"))
    return a * np.sin(u) + h + kappa * np.cos(u) * np.sin(v), b * np.sin(v - s) + kappa * np.sin(u) * np.cos(v)


def _least(x: dict[str, np.ndarray]) -> np.ndarray:
    """F★ to about 1e-12: min over u of a(1−cos u) + mean_i (b − √(b²cos²s_i + (b sin s_i − κ sin u)²)), on [−π/2, π/2]
    (beyond it 1−cos u is larger at the same sin u), by a grid and golden sections around its best point."""
    a, b, kappa, s = x["a"], x["b"], x["kappa"], x["s"]

    def at(u: np.ndarray) -> np.ndarray:
        pull = b[:, None, None] * np.sin(s)[:, None] - (kappa[:, None] * np.sin(u))[..., None]
        root = np.hypot(b[:, None, None] * np.cos(s)[:, None], pull)
        return a[:, None] * (1 - np.cos(u)) + (b[:, None, None] - root).mean(axis=2)

    u = np.broadcast_to(_GRID, (len(a), len(_GRID)))
    best = u[np.arange(len(a)), at(u).argmin(axis=1)]
    width = _GRID[1] - _GRID[0]
    for _ in range(4):
        near = best[:, None] + width * np.linspace(-1, 1, 65)
        found = at(near)
        best, width = near[np.arange(len(a)), found.argmin(axis=1)], width / 32
    return at(best[:, None])[:, 0]


def _delta(x: dict[str, np.ndarray]) -> np.ndarray:
    """δ: the largest variance of h_i + κ x_i over x ∈ {−1, 1}ⁿ."""
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=x["h"].shape[1])))
    spread = x["h"][:, None] + x["kappa"][:, None, None] * signs
    return spread.std(axis=2).max(axis=1)


def _enumerate(layout: Waves, x: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact means over t < T of X, Y and the diversity, all paths ``(N, paths, n)`` equally likely."""
    n, m = layout.n, layout.m
    cohorts = np.array([[float(i in S) for i in range(n)] for S in itertools.combinations(range(n), m)])
    draws_u = layout.tau_u if layout.noise in ("u", "both", "full") else 0
    draws_v = layout.tau_v if layout.noise in ("v", "both") else 0
    count = n * (draws_u + draws_v)
    coins = np.array(list(itertools.product((-1.0, 1.0), repeat=count))).reshape(2**count, count)
    coin_u = coins[:, : n * draws_u].reshape(len(coins), draws_u, n)
    coin_v = coin_u if layout.noise == "full" else coins[:, n * draws_u :].reshape(len(coins), draws_v, n)
    u, v = x["u"][:, None], x["v"][:, None]
    totals = [np.zeros(len(u)) for _ in range(3)]
    for _ in range(layout.T):
        here_u = np.repeat(u, len(coins), axis=1)[..., None] * np.ones(n)
        here_v = np.repeat(v, len(coins), axis=1)
        parents = u.shape[1]

        def noise(block: str, k: int, like: np.ndarray, parents: int = parents) -> np.ndarray | float:
            coin = coin_u if block == "u" else coin_v
            return _wide(x[f"sigma_{block}"], like) * np.tile(coin[:, k], (parents, 1)) if coin.shape[1] else 0.0

        end_u, end_v = here_u, here_v
        gamma_u, gamma_v = _wide(x["gamma_u"], here_v), _wide(x["gamma_v"], here_v)
        if layout.joint:
            measured = _slopes(x, here_u, here_v)[0]
            for k in range(layout.tau_u):
                g_u, g_v = _slopes(x, end_u, end_v)
                end_u, end_v = (
                    end_u - gamma_u * (g_u + noise("u", k, g_u)),
                    end_v - gamma_v * (g_v + noise("v", k, g_v)),
                )
        else:
            for k in range(layout.tau_v):
                g_v = _slopes(x, here_u, end_v)[1]
                end_v = end_v - gamma_v * (g_v + noise("v", k, g_v))
            measured = _slopes(x, here_u, end_v)[0]
            for k in range(layout.tau_u):
                g_u = _slopes(x, end_u, end_v)[0]
                end_u = end_u - gamma_u * (g_u + noise("u", k, g_u))
        personal = _slopes(x, here_u, here_v)[1]
        totals[0] += (measured.mean(axis=2) ** 2).mean(axis=1)
        totals[1] += (personal**2).mean(axis=(1, 2))
        totals[2] += measured.var(axis=2).mean(axis=1)
        u = np.einsum("bpi,ci->bpc", end_u, cohorts / m).reshape(len(u), -1)
        chosen = cohorts[None, None] > 0
        v = np.where(chosen, end_v[:, :, None], here_v[:, :, None]).reshape(len(v), -1, n)
    return totals[0] / layout.T, totals[1] / layout.T, totals[2] / layout.T
