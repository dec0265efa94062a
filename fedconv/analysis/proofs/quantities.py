"""What one round shows: every quantity that a lemma names, for many copies of the round at once.

The local steps are the algorithm's own: ``Algorithm.local`` runs on a problem that records which gradients it was asked
for. Every client takes its virtual local steps, with noise of its own; the cohort only says who is averaged and kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedconv.methods.split import Algorithm, LocalNoise, State
from fedconv.problems.base import Constants, Problem


class Quantity(NamedTuple):
    """A measured quantity in LaTeX and in words."""

    latex: str
    words: str


def _noise_terms(b: str) -> dict[str, Quantity]:
    y, z, r = f"y_i^{b}", f"z_i^{b}", f"r_i^{b}"
    start = rf"\nabla_{b}F_i"
    return {
        f"zz_{b}": Quantity(rf"\|{z}\|^2", f"‖z_i‖², z_i the sum of the noises of client i's {b} steps"),
        f"yz_{b}": Quantity(rf"\langle {y},{z}\rangle", f"⟨y_i, z_i⟩, y_i the sum of its {b} gradients"),
        f"rr_{b}": Quantity(rf"\|{r}\|^2", "‖r_i‖², r_i = y_i − τ·(gradient at the start of the phase)"),
        f"rz_{b}": Quantity(rf"\langle {r},{z}\rangle", "⟨r_i, z_i⟩"),
        f"gz_{b}": Quantity(rf"\langle {start},{z}\rangle", "⟨gradient at the start of the phase, z_i⟩"),
        f"noise_{b}": Quantity(rf"(2\langle {y},{z}\rangle+\|{z}\|^2)", "2⟨y_i, z_i⟩ + ‖z_i‖²"),
    }


_COHORT = r"\tfrac1m\textstyle\sum_{i\in S}"
QUANTITIES: dict[str, Quantity] = {
    "X": Quantity("X", "‖∇_uF‖² at the measured point: (u, Ṽ) for FedAlt, (u, V) for FedSim"),
    "Y": Quantity(r"\|\nabla_vF_i\|^2", "‖∇_vF_i(u, v_i)‖²; its mean over clients is Y"),
    "grad_u_i_sq": Quantity(r"\|\nabla_uF_i\|^2", "‖∇_uF_i‖² at the start of the u phase"),
    "diversity": Quantity(r"\tfrac1n\textstyle\sum_i\|\nabla_uF_i-\nabla_uF\|^2", "diversity at the measured point"),
    "sum_h": Quantity(r"\textstyle\sum_k\|h_k\|^2", "Σ_k ‖h_k‖², h_k the mean over clients of the k-th u gradients"),
    "sum_g": Quantity(r"\textstyle\sum_k\|g_k\|^2", "Σ_k ‖g_{i,k}‖², g_{i,k} the v gradients along client i's steps"),
    "D_u": Quantity(r"D_{u,i}", "Σ_k ‖ũ_{i,k} − u‖²"),
    "D_v": Quantity(r"D_{v,i}", "Σ_k ‖ṽ_{i,k} − v_i‖²"),
    "s": Quantity(r"\textstyle\sum_ks_{i,k}", "L_u Σ_k ‖ũ_{i,k} − u‖² + L_v Σ_k ‖ṽ_{i,k} − v_i‖²"),
    "displacement": Quantity(r"\|\tilde v_i-v_i\|^2", "‖ṽ_i − v_i‖²"),
    **_noise_terms("u"),
    **_noise_terms("v"),
    "mean_sq": Quantity(r"\|\bar y\|^2", "‖ȳ‖²"),
    "spread": Quantity(r"\tfrac1n\textstyle\sum_i\|y_i-\bar y\|^2", "(1/n) Σ_i ‖y_i − ȳ‖²"),
    "cohort_sq": Quantity(rf"\|{_COHORT}y_i\|^2", "‖(1/m) Σ_{i∈S} y_i‖²"),
    "step_sq": Quantity(rf"\|{_COHORT}(y_i+z_i)\|^2", "‖(1/m) Σ_{i∈S} (y_i + z_i)‖²"),
    "inner": Quantity(r"\langle\nabla_uF,\bar y\rangle", "⟨g, ȳ⟩, g = ∇_uF at the measured point"),
    "inner_cohort": Quantity(rf"\langle\nabla_uF,{_COHORT}(y_i+z_i)\rangle", "⟨g, (1/m) Σ_{i∈S} (y_i + z_i)⟩"),
    "real_inner": Quantity(r"\langle\nabla_uF(u,V^+),\bar y\rangle", "⟨∇_uF(u, V⁺), ȳ⟩"),
    "real_cohort": Quantity(rf"\langle\nabla_uF(u,V^+),{_COHORT}y_i\rangle", "⟨∇_uF(u, V⁺), (1/m) Σ_{i∈S} y_i⟩"),
    "gap_sq": Quantity(r"\|\nabla_uF(u,V^+)-\nabla_uF\|^2", "‖∇_uF(u, V⁺) − g‖²"),
    "cross": Quantity(r"\langle\nabla_uF(u,V^+)-\nabla_uF,\cdot\rangle",
                      "⟨∇_uF(u, V⁺) − g, (1/m) Σ_{i∈S} y_i⟩ (FedAlt), with y_i + z_i (FedSim)"),
    "cross_noise": Quantity(rf"\langle\nabla_uF(u,V^+)-\nabla_uF,{_COHORT}z_i\rangle",
                            "⟨∇_uF(u, V⁺) − g, (1/m) Σ_{i∈S} z_i⟩ (FedAlt)"),
    "own_cross": Quantity(r"\tfrac1n\textstyle\sum_i\langle x_i,w_i\rangle",
                          "(1/n) Σ_i ⟨x_i, w_i⟩, the sampling term without the cohort: FedAlt x_i = ∇_uF_i(u, v_i) − "
                          "∇_uF_i(u, ṽ_i), w_i = (1−p)(ȳ − (y_i − ȳ)/(n−1)); FedSim −x_i, p(ȳ + c(y_i − ȳ) + z_i/m)"),
    "x_sq": Quantity(r"\|x_i\|^2", "‖∇_uF_i(u, ṽ_i) − ∇_uF_i(u, v_i)‖²"),
    "weighted_sq": Quantity(r"\tfrac1n\textstyle\sum_i\|w_i\|^2/q^2", "(1/n) Σ_i ‖w_i‖² without the factor 1−p or p"),
    "phi": Quantity(r"[\phi_i(\tilde v_i)-\phi_i(v_i)]", "F_i(u, ṽ_i) − F_i(u, v_i)"),
    "change": Quantity("[F(u^+,V^+)-F(u,V)]", "F(u⁺, V⁺) − F(u, V)"),
    "change_u": Quantity("[F(u^+,V^+)-F(u,V^+)]", "F(u⁺, V⁺) − F(u, V⁺)"),
    "change_v": Quantity("[F(u,V^+)-F(u,V)]", "F(u, V⁺) − F(u, V)"),
    "inner_v": Quantity(r"\langle\nabla_vF_i,y_i^v\rangle", "⟨∇_vF_i(u, v_i), Σ_k of client i's v gradients⟩"),
    "present_v": Quantity(r"\tfrac1n\textstyle\sum_i\langle\nabla_vF_i,v_i^+-v_i\rangle",
                          "(1/n) Σ_i ⟨∇_vF_i(u, v_i), v_i⁺ − v_i⟩"),
    "present_sq": Quantity(r"\tfrac1n\textstyle\sum_i\|v_i^+-v_i\|^2", "(1/n) Σ_i ‖v_i⁺ − v_i‖²"),
}  # fmt: skip
"""Every measured quantity; those with an i are recorded for every client."""


class Recorder(Problem):
    """A problem that answers as another one does and keeps what it was asked: (u, v, gradient), call by call."""

    family = "recorder"

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.n, self.d_u, self.d_v = problem.n, problem.d_u, problem.d_v
        self.asked_u: list[tuple[Tensor, Tensor, Tensor]] = []
        self.asked_v: list[tuple[Tensor, Tensor, Tensor]] = []

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self.problem.value(u, v, clients)

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        gradient = self.problem.grad_u(u, v, clients)
        self.asked_u.append((u, v, gradient))
        return gradient

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        gradient = self.problem.grad_v(u, v, clients)
        self.asked_v.append((u, v, gradient))
        return gradient

    def _constants(self) -> Constants:
        return self.problem.constants

    def to(self, device: torch.device | str) -> Recorder:
        return Recorder(self.problem.to(device))


class Observed(NamedTuple):
    """What the copies of a round show by name, the state that each of them ends in, and ``averaged``: of what depends
    on the cohort, the exact expectation over all cohorts given the copy's noise, where there is a closed form."""

    sample: dict[str, np.ndarray]
    after: State
    averaged: dict[str, np.ndarray]


def observe(
    problem: Problem,
    algorithm: Algorithm,
    state: State,
    noise: LocalNoise,
    sampled: Tensor,
    L: tuple[float, float],
) -> Observed:
    """All QUANTITIES of R copies of a round, K from each of B states: arrays ``(R,)``, or ``(R, n)`` where a quantity
    is one client's; R = BK, the copies of a state one after another.

    state: u ``(B, d_u)``, V ``(B, n, d_v)``; noise: of *every* client, u ``(R, n, τ_u, d_u)``, v ``(R, n, τ_v, d_v)``;
    sampled ``(R, n)`` bool with m clients in each row; L: (L_u, L_v).
    """
    n, m = problem.n, algorithm.m
    p, c, peers = m / n, ((n - m) / (m * (n - 1)) if n > 1 else 0.0), (1 / (n - 1) if n > 1 else 0.0)
    joint = algorithm.measured_at == "state"
    everyone = problem.everyone()
    copies = len(sampled) // len(state.u)

    def copied(x: Tensor) -> Tensor:
        return x.repeat_interleave(copies, 0)

    spread_u = state.u[:, None, :].expand(-1, n, -1)
    at_state, gradient_v, before = (
        copied(f(spread_u, state.v, everyone)) for f in (problem.grad_u, problem.grad_v, problem.value)
    )
    u, v = copied(spread_u), copied(state.v)
    recorder = Recorder(problem)
    u_end, v_end = algorithm.local(recorder, u, v, everyone.expand(len(v), n), noise)
    chosen = sampled[..., None]
    if not joint and recorder.asked_u:  # FedAlt's first shared step is asked at (u, ṽ_i)
        at_virtual = recorder.asked_u[0][2]
    else:
        at_virtual = problem.grad_u(u, v_end, everyone)
    start_u = at_state if joint else at_virtual
    g = start_u.mean(1)
    change = at_virtual - at_state
    gap = (chosen * change).mean(1) if joint else -(~chosen * change).mean(1)
    g_after = g + gap
    out: dict[str, Tensor] = {
        "X": _sq(g), "Y": _sq(gradient_v), "grad_u_i_sq": _sq(start_u),
        "diversity": _sq(start_u - g[:, None]).mean(1), "displacement": _sq(v_end - v), "gap_sq": _sq(gap),
        "x_sq": _sq(change),
    }  # fmt: skip
    y, z, of_u = _phase("u", recorder.asked_u, noise.u, start_u, u)
    y_v, _, of_v = _phase("v", recorder.asked_v, noise.v, gradient_v, v)
    out |= of_u | of_v
    out["s"] = L[0] * out["D_u"] + L[1] * out["D_v"]
    mean = y.mean(1)
    apart = y - mean[:, None]
    y_cohort, z_cohort, end_u = ((chosen * x).sum(1) / m for x in (y, z, u_end))
    step = y_cohort + z_cohort
    if joint:
        weights, crossed, direction, share = mean[:, None] + c * apart + z / m, step, change, p
    else:
        weights, crossed, direction, share = mean[:, None] - peers * apart, y_cohort, -change, 1 - p
    out |= {
        "mean_sq": _sq(mean), "spread": _sq(apart).mean(1), "cohort_sq": _sq(y_cohort), "step_sq": _sq(step),
        "inner": _dot(g, mean), "inner_cohort": _dot(g, step), "real_inner": _dot(g_after, mean),
        "real_cohort": _dot(g_after, y_cohort), "cross": _dot(gap, crossed), "cross_noise": _dot(gap, z_cohort),
        "own_cross": share * _dot(direction, weights).mean(1), "weighted_sq": _sq(weights).mean(1),
        "inner_v": _dot(gradient_v, y_v),
    }  # fmt: skip
    after = State(end_u, torch.where(chosen, v_end, v))
    phi = problem.value(u, v_end, everyone) - before
    end = problem.value(after.u[:, None, :].expand(-1, n, -1), after.v, everyone)
    out |= {"phi": phi, "change_v": (sampled * phi).mean(1), "change": (end - before).mean(1)}
    out["change_u"] = out["change"] - out["change_v"]
    moved = after.v - v
    out |= {"present_v": _dot(gradient_v, moved).mean(1), "present_sq": _sq(moved).mean(1)}
    over = _over_cohorts(n, m, joint, g, y, z, change, gradient_v=gradient_v, moved_v=v_end - v, phi=phi)
    sample, averaged = ({k: x.cpu().numpy() for k, x in found.items()} for found in (out, over))
    return Observed(sample, after, averaged)


def _over_cohorts(
    n: int, m: int, joint: bool, g: Tensor, y: Tensor, z: Tensor, change: Tensor, *,
    gradient_v: Tensor, moved_v: Tensor, phi: Tensor,
) -> dict[str, Tensor]:  # fmt: skip
    """Expectations over the cohort S of m from n clients, all of the same probability, from P(i ∈ S) = m/n and
    P(i, j ∈ S) = m(m−1)/(n(n−1)). Quantities are linear or bilinear in who is sampled; F at the next state is not."""
    p = m / n

    def both(size: int) -> float:
        return size * (size - 1) / (n * (n - 1)) if n > 1 else 0.0

    def pairs(a: Tensor, b: Tensor, size: int) -> Tensor:
        """E⟨Σ_{i∈S} a_i, Σ_{j∈S} b_j⟩ over cohorts of that size."""
        q = both(size)
        return (size / n - q) * _dot(a, b).sum(1) + q * _dot(a.sum(1), b.sum(1))

    def crossed(b: Tensor) -> Tensor:
        """E⟨∇_uF(u, V⁺) − g, (1/m) Σ_{i∈S} b_i⟩."""
        along = pairs(change, b, m) / (n * m)
        return along if joint else along - _dot(change.mean(1), b.mean(1))

    mean = y.mean(1)
    shift = p * change.mean(1) if joint else -(1 - p) * change.mean(1)
    size = m if joint else n - m
    return {
        "cohort_sq": pairs(y, y, m) / m**2, "step_sq": pairs(y + z, y + z, m) / m**2,
        "gap_sq": pairs(change, change, size) / n**2, "inner_cohort": _dot(g, (y + z).mean(1)),
        "real_inner": _dot(g + shift, mean), "real_cohort": _dot(g, mean) + crossed(y),
        "cross": crossed(y + z if joint else y), "cross_noise": crossed(z), "change_v": p * phi.mean(1),
        "present_v": p * _dot(gradient_v, moved_v).mean(1), "present_sq": p * _sq(moved_v).mean(1),
    }  # fmt: skip


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _sq(a: Tensor) -> Tensor:
    return a.square().sum(-1)


def _phase(
    b: str, asked: list[tuple[Tensor, Tensor, Tensor]], noise: Tensor, start: Tensor, origin: Tensor
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """y_i, z_i ``(R, n, d)`` of a block's steps, and the quantities of its noise, drift and gradients."""
    y, z = torch.zeros_like(start), noise.sum(2)
    drift = start.new_zeros(start.shape[:2])
    squares = start.new_zeros(start.shape[:1] if b == "u" else start.shape[:2])
    for at_u, at_v, gradient in asked:
        y = y + gradient
        drift = drift + _sq((at_u if b == "u" else at_v) - origin)
        squares = squares + (_sq(gradient.mean(1)) if b == "u" else _sq(gradient))
    r = y - len(asked) * asked[0][2] if asked else y
    yz, zz = _dot(y, z), _sq(z)
    return y, z, {
        f"zz_{b}": zz, f"yz_{b}": yz, f"rr_{b}": _sq(r), f"rz_{b}": _dot(r, z), f"gz_{b}": _dot(start, z),
        f"noise_{b}": 2 * yz + zz, f"D_{b}": drift, "sum_h" if b == "u" else "sum_g": squares,
    }  # fmt: skip
