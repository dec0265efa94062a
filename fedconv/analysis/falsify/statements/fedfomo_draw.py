"""Random small runs of FedFomo for the falsifier: structured draws, and variations of what is already tight."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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

KINDS = ("centres", "quadratic", "indefinite", "wells", "samples", "private")
"""Kinds of run by their losses. ``centres``: those of Theorem 4; ``indefinite``: target losses that are not convex;
``samples``: finite validation splits; ``private``: the same with noisy gradients and losses."""

FAMILIES = {"wells": "double_well", "samples": "cluster_samples_arrays", "private": "cluster_samples_arrays"}
ROUNDS = (2, 2, 2, 3, 4, 6)
LONG = (6, 12, 25)
"""Rounds where a statement is about late ones, or about noise."""
MOST_ROUNDS = 40
NEAR = (1e-1, 1e-2, 1e-4, 1e-6)


@dataclass(frozen=True)
class Draft:
    """A run before its step size is known: ``step`` is in units of the largest admissible one.

    arrays: of the problem's family, the first axis the clients; ``v``: the models that clients begin with ``(n, d)``;
    ``settings``: of the table [fedfomo]; ``more``: [privacy].
    """

    kind: str
    arrays: dict[str, np.ndarray]
    v: np.ndarray
    T: int
    m: int
    tau: int
    sigma: float
    settings: dict[str, Any]
    step: float
    more: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return len(self.v)

    @property
    def d(self) -> int:
        return self.v.shape[1]

    @property
    def at_optimum(self) -> bool:
        return False

    def start(self, experiment: Runnable) -> State | None:
        return State(torch.zeros(0, dtype=torch.float64), torch.from_numpy(np.array(self.v, dtype=float)))

    def file(self, start: State | None, gamma: float, key: str) -> dict[str, Any]:
        """The problem file with step size γ, about the theorem of that key."""
        family = FAMILIES.get(self.kind, "quadratic_targets_arrays")
        algorithm: dict[str, Any] = {"name": "fedfomo", "m": self.m, "gamma": gamma}
        if self.tau > 1:
            algorithm["tau"] = self.tau
        file = {
            "problem": {"family": family} | {k: x.tolist() for k, x in self.arrays.items()},
            "start": {"kind": "point", "v": self.v.tolist()},
            "algorithm": algorithm,
            "run": {"T": self.T},
            "fedfomo": dict(self.settings),
            "verify": {"theorems": [key]},
        } | {k: dict(x) for k, x in self.more.items()}
        if self.sigma > 0:
            file["noise"] = {"law": "gaussian", "sigma_v": self.sigma}
        return file

    def describe(self) -> str:
        noise = f", sigma={self.sigma:.3g}" if self.sigma else ""
        return f"{self.kind}, n={self.n}, d={self.d}, T={self.T}, m={self.m}, tau={self.tau}{noise}"


# ---- draws -----------------------------------------------------------------------------------------------------


def draw(rng: Rng, wishes: Wishes) -> Draft:
    """A random run of a kind that is wished for; a premise that is left out is broken."""
    kind = pick(rng, wishes.kinds)
    apart = wishes.asks("clusters") is True
    n, d = int(pick(rng, (2, 2, 3) if apart else (1, 1, 2, 2, 3, 4))), int(pick(rng, (1, 1, 2)))
    arrays = _problem(rng, kind, n, d, wishes)
    noisy = wishes.asks("exact_gradients") is False
    if wishes.asks("exact_gradients") is None and kind != "private" and rng.random() < 0.1:
        noisy = True
    private = {"clip": 10.0, "noise_multiplier": 0.01, "loss_bound": 100.0, "loss_noise": float(pick(rng, (1.0, 0.1)))}
    return Draft(
        kind,
        arrays,
        _start(rng, arrays, n, d),
        _rounds(rng, wishes),
        n if wishes.asks("everybody") or rng.random() < 0.85 else int(rng.integers(1, n + 1)),
        int(pick(rng, (1, 1, 1, 2, 3))),
        float(pick(rng, (0.1, 1.0, 2.0))) if noisy else 0.0,
        _settings(rng, wishes),
        step_of(rng, wishes),
        {"privacy": private} if kind == "private" else {},
    )


def _rounds(rng: Rng, wishes: Wishes) -> int:
    late = wishes.asks("clusters") is True or wishes.asks("exact_gradients") is False
    return int(pick(rng, LONG if late and rng.random() < 0.7 else ROUNDS))


def _settings(rng: Rng, wishes: Wishes) -> dict[str, Any]:
    out: dict[str, Any] = {"epsilon": 0.0}
    if wishes.asks("base") is False or (wishes.asks("base") is None and rng.random() < 0.1):
        out["rejected"] = "trained"
    if rng.random() < 0.1:
        out["norm"] = pick(rng, ("l1", "squared", "none"))
    if rng.random() < 0.1:
        out |= {"downloads": int(rng.integers(0, 3)), "ties": "index"}
    return out


def _problem(rng: Rng, kind: str, n: int, d: int, wishes: Wishes) -> dict[str, np.ndarray]:
    if kind == "wells":
        return {"b": crisp(rng, (n, d)), "h": rng.choice((0.1, 0.0, -0.1, 0.3), size=(n, d))}
    b = _targets(rng, n, d)
    if kind in ("samples", "private"):
        spread = float(pick(rng, (0.0, 0.5, 1.0)))
        X = b[:, None] + spread * crisp(rng, (n, int(rng.integers(1, 3)), d))
        Y = b[:, None] + spread * crisp(rng, (n, int(rng.integers(1, 3)), d))
        return {"X": X, "Y": Y, "c": b + 0.0, "variance": rng.choice((0.0, 0.5, 1.0), size=n)}
    same = wishes.asks("own_targets") or wishes.asks("unbiased")
    if same is None:
        same = bool(rng.random() < 0.5)
    c = b + 0.0 if same else _other_targets(rng, b)
    eye = np.repeat(np.eye(d)[None], n, axis=0)
    if kind == "centres":
        A = eye * float(pick(rng, (1.0, 1.0, 0.5, 2.0)))
        return {"A": A, "b": b, "H": A, "c": c}
    A = _positive(rng, n, d)
    H = A
    if kind == "indefinite":
        signs = rng.choice((-1.0, -1.0, 1.0), size=(n, d))
        signs[0, 0] = -1.0
        H = eye * (signs * rng.choice((1.0, 1.0, 0.5), size=(n, d)))[:, None, :]
    elif not wishes.asks("own_targets") and rng.random() < 0.5:
        H = _positive(rng, n, d)
    return {"A": A, "b": b, "H": H, "c": c}


def _positive(rng: Rng, n: int, d: int) -> np.ndarray:
    if rng.random() < 0.5:
        return np.eye(d)[None] * rng.choice((1.0, 1.0, 0.5, 0.1), size=(n, 1, d))
    root = crisp(rng, (n, d, d))
    return root @ root.swapaxes(1, 2) + 0.1 * np.eye(d)


def _targets(rng: Rng, n: int, d: int) -> np.ndarray:
    """b ``(n, d)``: opposed, equal, or of a few values."""
    style = rng.random()
    b = crisp(rng, (n, d))
    if style < 0.3:
        b = np.zeros((n, d))
        b[:, 0] = np.where(np.arange(n) % 2, -1.0, 1.0)
    elif style < 0.4:
        b = np.repeat(b[:1], n, axis=0)
    return b


def _other_targets(rng: Rng, b: np.ndarray) -> np.ndarray:
    """Target centres that differ from the training ones: shifted, swapped, or drawn anew."""
    style = rng.random()
    if style < 0.4:
        return b + float(pick(rng, (1.0, 0.3, 0.1, -1.0))) * crisp(rng, b.shape)
    return np.roll(b, 1, axis=0) if style < 0.7 and len(b) > 1 else crisp(rng, b.shape)


def _start(rng: Rng, arrays: dict[str, np.ndarray], n: int, d: int) -> np.ndarray:
    """Anywhere, at the centres, between them, or a little beside the place to which another client's training leads."""
    style, centre = rng.random(), arrays["c" if "c" in arrays else "b"]
    if style < 0.4:
        return crisp(rng, (n, d))
    if style < 0.65:
        towards = np.roll(centre, 1, axis=0) - centre
        return centre + rng.uniform(-1.5, 1.5, (n, 1)) * (towards if n > 1 else np.ones((n, d)))
    other = np.roll(arrays.get("b", centre), 1, axis=0)
    if style < 0.85:
        away = other - centre if n > 1 else np.ones((n, d))
        v = centre + 0.0
        v[0] = (other + float(pick(rng, NEAR)) * away)[0]
        return v
    return centre + float(pick(rng, (1.0, *NEAR))) * crisp(rng, (n, d))


# ---- variations ------------------------------------------------------------------------------------------------


def _other_rounds(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    T = draft.T * 2 if rng.random() < 0.2 else max(1, draft.T + int(pick(rng, (-1, 1))))
    return replace(draft, T=min(T, MOST_ROUNDS))


def _other_number(draft: Draft, rng: Rng, wishes: Wishes) -> Draft:
    """One entry of a centre or sample; centres that must agree still do."""
    names = [k for k in ("b", "c", "h", "X", "Y", "variance") if k in draft.arrays]
    name = pick(rng, names)
    found = nudged(rng, draft.arrays[name])
    if name == "variance":
        found = np.abs(found)
    arrays = draft.arrays | {name: found}
    if name in ("b", "c") and "H" in arrays and (wishes.asks("own_targets") or wishes.asks("unbiased")):
        arrays |= {"b": found, "c": found}
    return replace(draft, arrays=arrays)


def _moved_start(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    """One entry of a start replaced, all scaled, or one client's a little moved."""
    style, v = rng.random(), draft.v
    if style < 0.3:
        return replace(draft, v=nudged(rng, v))
    if style < 0.4:
        return replace(draft, v=stretched(rng, v))
    v = v + 0.0
    v[int(rng.integers(draft.n))] += 10.0 ** rng.uniform(-4, 0) * rng.standard_normal(draft.d)
    return replace(draft, v=v)


def _other_start(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    return replace(draft, v=_start(rng, draft.arrays, draft.n, draft.d))


def _other_curvature(draft: Draft, rng: Rng, wishes: Wishes) -> Draft:
    """Curvatures scaled alike; of ``centres`` both stay the same."""
    if "H" not in draft.arrays:
        return draft
    factor = float(np.exp(0.5 * rng.standard_normal()))
    names = ("A", "H") if draft.kind == "centres" or wishes.asks("own_targets") else (pick(rng, ("A", "H")),)
    return replace(draft, arrays=draft.arrays | {k: draft.arrays[k] * factor for k in names})


def _other_steps(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    return replace(draft, tau=max(1, draft.tau + int(pick(rng, (-1, 1)))))


def _other_noise(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    return replace(draft, sigma=draft.sigma * float(np.exp(0.5 * rng.standard_normal())))


VARIATIONS: tuple[Variation, ...] = (
    _other_rounds,
    other_step,
    other_step,
    _other_number,
    _other_number,
    _moved_start,
    _moved_start,
    _other_start,
    _other_curvature,
    _other_steps,
    _other_noise,
)
