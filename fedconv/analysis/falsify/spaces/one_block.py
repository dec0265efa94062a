"""FedAvg and local-only training as a space to search: quadratics of which one block alone moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fedconv.analysis.falsify.spaces.quadratic import QuadraticSpace
from fedconv.analysis.falsify.spaces.quadratic.layout import Layout

BLOCK = {"fedavg": "u", "local": "v"}
"""The block that an algorithm moves."""


@dataclass
class OneBlockSpace(QuadraticSpace):
    """``QuadraticSpace`` where the other block rests, uncoupled, at its optimum: there FedAlt moves as ``algorithm``,
    which takes no steps in it, does."""

    algorithm: str = "fedavg"

    @property
    def joint(self) -> bool:
        return False

    def draw(self, rng: np.random.Generator) -> Layout:
        while (layout := super().draw(rng)).blocks != BLOCK[self.algorithm]:
            pass
        return self._resting(layout)

    def neighbour(self, layout: Layout, rng: np.random.Generator) -> Layout:
        return self._resting(super().neighbour(layout, rng))

    def _resting(self, layout: Layout) -> Layout:
        if self.algorithm == "fedavg":
            return replace(layout, tau_v=1, d_v=1)
        return replace(layout, tau_u=1, d_u=1, measured=False)

    def describe(self, layout: Layout) -> str:
        return super().describe(layout).replace("fedalt", self.algorithm, 1)

    def file(self, layout: Layout, point: np.ndarray) -> dict[str, Any]:
        file = super().file(layout, point)
        moved = BLOCK[self.algorithm]
        steps = {f"tau_{b}": getattr(layout, f"tau_{b}") if b == moved else 0 for b in "uv"}
        kept = {k: x for k, x in file["algorithm"].items() if k != "tau"}
        return file | {"algorithm": kept | {"name": self.algorithm} | steps}
