"""Random small runs of FedSpa for the falsifier: structured draws, and variations of what is already tight."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fedconv.analysis.falsify.statements.drawing import (
    Rng,
    Variation,
    Wishes,
    crisp,
    nudged,
    other_step,
    pick,
    step_of,
    stretched,
)
from fedconv.methods.split.method import State

if TYPE_CHECKING:
    from fedconv.core.run import Runnable

KINDS = ("frozen", "frozen_noisy", "moving", "moving_noisy")
ROUNDS = (1, 1, 2, 2, 3, 4, 6)
NOISY_ROUNDS = (1, 2, 3, 4, 6, 9, 20)
MOST_ROUNDS = 40


@dataclass(frozen=True)
class Draft:
    """A run before its step size is known: ``step`` is in units of the largest admissible one.

    arrays: A ``(n, r, d)`` and c ``(n, r)`` of least squares, or b ``(d,)`` and s ``(n, d)`` of trigonometric losses.
    ``masks``: the first ones, 0 and 1, ``(n, d)``; ``search``: keys of [masks] besides. ``w`` None: the start is the
    minimiser of f under the first masks that is nearest to 0.
    """

    kind: str
    arrays: dict[str, np.ndarray]
    masks: np.ndarray
    search: dict[str, Any]
    w: np.ndarray | None
    T: int
    m: int
    tau: int
    sigma: float
    average: str
    step: float

    @property
    def n(self) -> int:
        return len(self.masks)

    @property
    def d(self) -> int:
        return self.masks.shape[1]

    @property
    def waves(self) -> bool:
        return "s" in self.arrays

    @property
    def at_optimum(self) -> bool:
        return self.w is None

    def start(self, experiment: Runnable) -> State | None:
        """Where it starts; None where the minimiser is not known."""
        w = self._least() if self.w is None else self.w
        if w is None:
            return None
        u, v = (np.zeros(0), np.repeat(w[None], self.n, axis=0)) if self.waves else (w, np.zeros((self.n, 0)))
        return State(torch.from_numpy(np.array(u, dtype=float)), torch.from_numpy(np.array(v, dtype=float)))

    def _least(self) -> np.ndarray | None:
        if self.waves:
            return None
        J = (self.arrays["A"] * self.masks[:, None, :]).reshape(-1, self.d)
        w = np.linalg.lstsq(J, self.arrays["c"].reshape(-1), rcond=None)[0]
        return np.where(np.abs(w) < 1e-12, 0.0, w)

    def file(self, start: State | None, gamma: float, key: str) -> dict[str, Any]:
        """The problem file from a start (None: from 0) with step size γ, about the theorem of that key."""
        n, d = self.n, self.d
        block = "v" if self.waves else "u"
        if self.waves:
            problem = {"family": "trigonometric_arrays", "a": [], "kappa": [], "h": [[]] * n}
            problem |= {k: x.tolist() for k, x in self.arrays.items()}
        else:
            A, c = self.arrays["A"], self.arrays["c"]
            empty = np.zeros((n, A.shape[1], 0)).tolist()
            problem = {"family": "least_squares_arrays", "A": A.tolist(), "B": empty, "c": c.tolist()}
        point = [[0.0] * d] * n if self.waves else [0.0] * d
        if start is not None:
            point = getattr(start, block).tolist()
        algorithm: dict[str, Any] = {"name": "fedspa", "m": self.m, "gamma": gamma}
        if self.tau > 1:
            algorithm["tau"] = self.tau
        moving = self.kind.startswith("moving")
        file = {
            "problem": problem,
            "start": {"kind": "point", block: point} | ({} if self.waves else {"v": [[]] * n}),
            "algorithm": algorithm,
            "run": {"T": self.T},
            "masks": {"initial": self.masks.tolist()} | (self.search if moving else {"mode": "frozen"}),
            "verify": {"theorems": [key]},
        }
        if self.sigma > 0:
            file["noise"] = {"law": "rademacher", f"sigma_{block}": self.sigma}
        if self.average != "cohort":
            file["fedspa"] = {"average": self.average}
        return file

    def describe(self) -> str:
        problem = "trigonometric" if self.waves else "least squares"
        masks = "moving masks" if self.kind.startswith("moving") else "frozen masks"
        noise = f", sigma={self.sigma:.3g}" if self.sigma else ""
        return f"{problem}, n={self.n}, d={self.d}, T={self.T}, m={self.m}, tau={self.tau}, {masks}{noise}"


# ---- draws -----------------------------------------------------------------------------------------------------


def draw(rng: Rng, wishes: Wishes) -> Draft:
    """A random run of a kind that is wished for. A premise on masks or on the average that is left out is broken."""
    kind = pick(rng, wishes.kinds)
    if wishes.asks("average") is False and rng.random() < 0.6:
        return _held(rng, kind, wishes)
    noisy, moving = kind.endswith("noisy"), kind.startswith("moving")
    n = int(pick(rng, (1, 1, 2, 2, 3, 4)))
    d = int(pick(rng, (2, 2, 3, 4) if moving else (1, 1, 2, 3)))
    waves = rng.random() < 0.12
    if moving and wishes.asks("delta") and not waves:  # least squares have no finite δ under all masks
        n, waves = (1, False) if rng.random() < 0.5 else (n, n > 1)
    arrays = _waves(rng, n, d) if waves else _squares(rng, n, d)
    d = arrays["s" if "s" in arrays else "A"].shape[-1]
    masks = _masks(rng, n, d, moving)
    w = None if rng.random() < 0.3 else _start(rng, d)
    sigma = 0.0
    if noisy:
        sigma = float(pick(rng, (1.0, 1.0, 0.3, 3.0)))
    return Draft(
        kind,
        arrays,
        masks,
        _search(rng) if moving else {},
        w,
        int(pick(rng, NOISY_ROUNDS if noisy else ROUNDS)),
        _cohort(rng, n, wishes),
        int(pick(rng, (1, 1, 1, 1, 2, 2, 3, 5))),
        sigma,
        "coverage" if wishes.asks("average") is False else "cohort",
        step_of(rng, wishes),
    )


def _held(rng: Rng, kind: str, wishes: Wishes) -> Draft:
    """Every weight is held by two clients that disagree about it; the server divides by those that took part."""
    d = int(pick(rng, (1, 2, 2)))
    n = 2 * d
    masks = np.eye(d, dtype=int)[np.arange(n) // 2]
    c = masks * np.where(np.arange(n) % 2, -1.0, 1.0)[:, None]
    arrays = {"A": np.repeat(np.eye(d)[None], n, axis=0), "c": c}
    w = None if rng.random() < 0.7 else _start(rng, d)
    T, m = int(pick(rng, (2, 3, 4, 12))), int(rng.integers(1, n + 1))
    return Draft(kind, arrays, masks, {}, w, T, m, 1, float(kind.endswith("noisy")), "coverage", step_of(rng, wishes))


def _start(rng: Rng, d: int) -> np.ndarray:
    return np.ones(d) if rng.random() < 0.4 else crisp(rng, (d,))


def _cohort(rng: Rng, n: int, wishes: Wishes) -> int:
    return n if n == 1 or rng.random() < 0.5 else int(rng.integers(1, n))


def _squares(rng: Rng, n: int, d: int) -> dict[str, np.ndarray]:
    """½‖A_kw − c_k‖²: bowls, equal or different clients, flat directions."""
    style = pick(rng, ("bowl", "bowl", "equal", "curved", "random"))
    if style == "bowl":
        A = np.repeat(np.eye(d)[None], n, axis=0)
    elif style == "curved":
        A = np.eye(d)[None] * rng.choice((1.0, 1.0, 0.5, 0.3, 0.1), size=(n, 1, d))
    else:
        A = crisp(rng, (1 if style == "equal" else n, int(rng.integers(1, d + 1)), d))
        A = np.repeat(A, n, axis=0) if style == "equal" else A
    c = np.zeros(A.shape[:2])
    kind = rng.random()
    if kind < 0.3:
        c[:, 0] = np.where(np.arange(n) % 2, -1.0, 1.0)
    elif kind < 0.75:
        c = crisp(rng, c.shape) * float(pick(rng, (1.0, 1.0, 10.0)))
    return {"A": np.array(A), "c": c}


def _waves(rng: Rng, n: int, d: int) -> dict[str, np.ndarray]:
    """Σ_j b_j(1 − cos(w_j − s_kj))."""
    return {"b": rng.choice((1.0, 1.0, 0.5), size=d), "s": rng.choice((0.0, 0.0, 1.0, -1.0, 3.0), size=(n, d))}


def _masks(rng: Rng, n: int, d: int, moving: bool) -> np.ndarray:
    """Ones, one weight for each client, or random; of moving ones mostly some are off."""
    style = rng.random()
    if style < (0.1 if moving else 0.5) or d == 1:
        return np.ones((n, d), dtype=int)
    if style < 0.75:
        return np.eye(d, dtype=int)[(np.arange(n) if rng.random() < 0.6 else np.zeros(n, dtype=int)) % d]
    masks = rng.integers(0, 2, (n, d))
    masks[masks.sum(axis=1) == 0, 0] = 1
    return masks


def _search(rng: Rng) -> dict[str, Any]:
    out: dict[str, Any] = {"alpha": float(pick(rng, (1.0, 1.0, 0.5, 0.1)))}
    return out | ({"regrow_pruned": False} if rng.random() < 0.7 else {})


# ---- variations ------------------------------------------------------------------------------------------------


def _other_rounds(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    T = draft.T * 2 if rng.random() < 0.4 else max(1, draft.T + int(pick(rng, (-1, 1))))
    return replace(draft, T=min(T, MOST_ROUNDS))


def _other_number(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    name = pick(rng, tuple(draft.arrays))
    found = nudged(rng, draft.arrays[name])
    return replace(draft, arrays=draft.arrays | {name: np.abs(found) if name == "b" else found})


def _scaled(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    name = pick(rng, tuple(draft.arrays))
    return replace(draft, arrays=draft.arrays | {name: stretched(rng, draft.arrays[name])})


def _other_start(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    if draft.w is not None and rng.random() < 0.6:
        return replace(draft, w=draft.w * np.exp(0.4 * rng.standard_normal(draft.d)))
    return replace(draft, w=None if rng.random() < 0.3 else _start(rng, draft.d))


def _other_masks(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    if rng.random() < 0.5:
        return replace(draft, masks=_masks(rng, draft.n, draft.d, draft.kind.startswith("moving")))
    masks = draft.masks.copy()
    i, j = int(rng.integers(draft.n)), int(rng.integers(draft.d))
    masks[i, j] = 1 - masks[i, j]
    return replace(draft, masks=masks) if masks.any(axis=1).all() else draft


def _other_cohort(draft: Draft, rng: Rng, wishes: Wishes) -> Draft:
    return replace(draft, m=_cohort(rng, draft.n, wishes))


def _other_steps(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    return replace(draft, tau=max(1, draft.tau + int(pick(rng, (-1, 1, 1, draft.tau)))))


def _other_rest(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    if draft.kind.startswith("moving") and rng.random() < 0.7:
        return replace(draft, search=_search(rng))
    return replace(draft, sigma=draft.sigma * math.exp(0.5 * rng.standard_normal()))


VARIATIONS: tuple[Variation, ...] = (
    _other_rounds,
    other_step,
    other_step,
    _other_number,
    _other_number,
    _scaled,
    _other_start,
    _other_masks,
    _other_cohort,
    _other_steps,
    _other_rest,
)
