"""The discrete part of a candidate quadratic: who is equal to whom, which terms there are, how long it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fedconv.analysis.falsify.spaces.quadratic.moments import Shape

CLIENTS = (1, 2, 3, 4, 6, 8, 12, 24)
ROUNDS = (1, 2, 3, 5, 8, 12, 20, 40, 100, 200, 400, 1000)
STEPS = (1, 1, 1, 1, 1, 2, 3, 5, 10, 20)


@dataclass(frozen=True)
class Layout:
    """A family of candidates with the same continuous coordinates.

    sizes: clients in each group of equal ones. blocks: "u", "v" or "both": which move from where they start (the other
    one rests at its optimum, uncoupled). coupled, curved, shifted: whether C, own curvatures A and B, opposite a are
    there; coupled_apart: whether groups couple differently. noise: which blocks are noisy, "full" for one mini-batch.
    start: at the optimum or at a point. slack: the block whose step is shorter than the common η allows, or "none".
    measured: δ² is the measured diversity even where δ is finite. apart: by how much a weakened theorem must differ
    from the theorem at a candidate for it to be worth following (a premise's excess over 1, or a side's logarithm).
    """

    sizes: tuple[int, ...]
    d_u: int
    d_v: int
    m: int
    tau_u: int
    tau_v: int
    T: int
    joint: bool
    blocks: str
    coupled: bool
    coupled_apart: bool
    curved: bool
    shifted: bool
    noise: str
    start: str
    slack: str
    measured: bool
    apart: float = 0.02

    @property
    def shape(self) -> Shape:
        joint = self.joint
        return Shape(
            self.sizes, self.d_u, self.d_v, self.m, self.tau_u, self.tau_v, self.T, joint, self.noise == "full"
        )

    @property
    def n(self) -> int:
        return sum(self.sizes)

    @property
    def stratum(self) -> tuple[Any, ...]:
        """Layouts that are alike: the search follows the best of each kind."""
        return self.coupled, self.noise != "none", self.shifted, self.apart

    def describe(self) -> str:
        """A line: sizes, steps, noise, start."""
        words = [
            f"{'fedsim' if self.joint else 'fedalt'} on a quadratic, n = {self.n}, m = {self.m}",
            f"tau = {self.tau_u}" if self.tau_u == self.tau_v else f"tau_u = {self.tau_u}, tau_v = {self.tau_v}",
            f"T = {self.T}",
            {"none": "no noise", "full": "the same noise in both blocks", "both": "noise in both blocks"}.get(
                self.noise, f"noise in {self.noise}"
            ),
            "coupled" if self.coupled else f"{'u and v' if self.blocks == 'both' else self.blocks} alone",
            "from the optimum" if self.start == "optimum" else "from a point",
        ]
        return ", ".join(words)


def draw(rng: np.random.Generator, joint: bool) -> Layout:
    """A random layout in which something happens."""
    pick = lambda values, weights=None: values[int(rng.choice(len(values), p=weights))]  # noqa: E731
    n = pick(CLIENTS, (0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1))
    many = n > 1 and rng.random() < 0.6
    first = pick((1, (n + 1) // 2, max(n - 1, 1)))
    sizes = (first, n - first) if many else (n,)
    m = pick((1, n, int(rng.integers(1, n + 1))), (0.6, 0.2, 0.2))
    blocks = pick(("u", "v", "both"), (0.2, 0.1, 0.7))
    shared, personal = blocks != "v", blocks != "u"
    tau_u = pick(STEPS)
    tau_v = tau_u if joint else pick((tau_u, pick(STEPS)))
    noises = {
        "u": ("none", "u"),
        "v": ("none", "v"),
        "both": ("none", "none", "none", "u", "v", "both", "full", "full"),
    }[blocks]
    noise = pick(noises)
    if noise == "full" and not joint:
        noise = "both"
    coupled = blocks == "both" and rng.random() < 0.85
    shifted = shared and len(sizes) > 1 and rng.random() < 0.5
    start = pick(("point", "optimum"), (0.7, 0.3)) if noise != "none" or shifted else "point"
    return Layout(
        sizes=sizes,
        d_u=2 if shared and rng.random() < 0.1 else 1,
        d_v=2 if personal and rng.random() < 0.1 else 1,
        m=m,
        tau_u=tau_u,
        tau_v=tau_v,
        T=pick(ROUNDS),
        joint=joint,
        blocks=blocks,
        coupled=coupled,
        coupled_apart=coupled and len(sizes) > 1 and rng.random() < 0.5,
        curved=rng.random() < 0.4,
        shifted=shifted,
        noise=noise,
        start=start,
        slack=pick(("none", "u", "v"), (0.5, 0.3, 0.2)) if blocks == "both" else "none",
        measured=rng.random() < 0.2,
        apart=pick((0.02, 0.1, 0.3)),
    )


def neighbour(layout: Layout, rng: np.random.Generator) -> Layout:
    """One integer changed: T, m, the clients, or the local steps."""
    kind = int(rng.integers(4))
    if kind == 0:
        factor = float(rng.choice((0.3, 0.5, 2.0, 3.0)))
        return replace(layout, T=int(min(max(round(layout.T * factor), 1), ROUNDS[-1])))
    if kind == 1:
        return replace(layout, m=int(min(max(layout.m + rng.choice((-1, 1)), 1), layout.n)))
    if kind == 2:
        group = int(rng.integers(len(layout.sizes)))
        sizes = list(layout.sizes)
        sizes[group] = max(1, sizes[group] + int(rng.choice((-1, 1, sizes[group]))))
        n = sum(sizes)
        if n > CLIENTS[-1]:
            return layout
        return replace(layout, sizes=tuple(sizes), m=min(layout.m, n))
    steps = max(1, math.ceil(layout.tau_u * float(rng.choice((0.5, 2.0)))))
    steps = min(steps, STEPS[-1])
    return replace(layout, tau_u=steps, tau_v=steps if layout.joint else layout.tau_v)
