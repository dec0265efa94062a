"""How one client's local steps answer to their start and noise on a quadratic problem: exactly, by probing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedconv.analysis.exact.draws import noise_factors
from fedconv.methods.split import LocalNoise, Tally
from fedconv.problems.split.quadratic import Quadratic

if TYPE_CHECKING:
    from fedconv.core.run import Experiment


@dataclass(frozen=True)
class Affine:
    """For every client an affine function of w_i = (u, v_i) and of its B standardised draws of the round.

    linear ``(n, r, q)``, constant ``(n, r)``, noise ``(n, r, B)``; q = d_u + d_v.
    """

    linear: np.ndarray
    constant: np.ndarray
    noise: np.ndarray

    def at(self, w: np.ndarray) -> np.ndarray:
        """The values without noise at w ``(..., n, q)``: ``(..., n, r)``."""
        return (self.linear @ w[..., None])[..., 0] + self.constant

    def scaled(self, factor: float) -> Affine:
        return Affine(factor * self.linear, factor * self.constant, factor * self.noise)

    def __add__(self, other: Affine) -> Affine:
        return Affine(self.linear + other.linear, self.constant + other.constant, self.noise + other.noise)

    def mapped(self, matrices: np.ndarray) -> Affine:
        """``matrices (n, k, r)`` times this, client by client."""
        return Affine(matrices @ self.linear, (matrices @ self.constant[..., None])[..., 0], matrices @ self.noise)

    def stacked(self, other: Affine) -> Affine:
        """The rows of both."""
        return Affine(
            np.concatenate([self.linear, other.linear], axis=1),
            np.concatenate([self.constant, other.constant], axis=1),
            np.concatenate([self.noise, other.noise], axis=1),
        )


@dataclass(frozen=True)
class Responses:
    """What the local steps of every client give, as functions of their start (u, v_i) and noise.

    ``shared_end`` = ũ_i, ``displacement`` = ṽ_i − v_i, ``y`` = Σ_k ∇_uF_i and ``z`` = Σ_k of the noises along the u
    steps, ``moved_u`` and ``moved_v``: ũ_{i,k} − u and ṽ_{i,k} − v_i for all k, one after another. ``gradient`` =
    ∇_uF_i(u, v_i), ``at_virtual`` = ∇_uF_i(u, ṽ_i), ``change`` = their difference C_i(ṽ_i − v_i), ``personal`` =
    ∇_vF_i(u, v_i). ``point`` = (u, v_i) and ``slope`` with F_i = ⟨point, slope⟩.
    """

    shared_end: Affine
    displacement: Affine
    y: Affine
    z: Affine
    moved_u: Affine
    moved_v: Affine
    gradient: Affine
    at_virtual: Affine
    change: Affine
    personal: Affine
    point: Affine
    slope: Affine


@dataclass
class Steps(Tally):
    """A tally that also keeps where the local steps were: one ``(R, k, d)`` for each step."""

    path_u: list[Tensor] = field(default_factory=list)
    path_v: list[Tensor] = field(default_factory=list)

    def u_step(self, moved: Tensor, gradient: Tensor, noise: Tensor) -> None:
        super().u_step(moved, gradient, noise)
        self.path_u.append(moved)

    def v_step(self, moved: Tensor) -> None:
        super().v_step(moved)
        self.path_v.append(moved)


def respond(experiment: Experiment, quadratic: Quadratic) -> Responses:
    """The responses of ``experiment.algorithm`` on a quadratic form of its problem.

    Local steps are affine in start and noise: their constant part is what they give from 0 without noise, the columns
    of the linear part what they give from each unit vector where the linear terms a, b of the problem are left out.
    """
    quadratic = quadratic.to("cpu")
    A, B, C, a, b = (x.numpy() for x in (quadratic.A, quadratic.B, quadratic.C, quadratic.a, quadratic.b))
    n, d_u, d_v = C.shape
    q = d_u + d_v
    to_u, to_v = noise_factors(experiment)
    draws = len(to_u)
    units = torch.eye(q, dtype=torch.float64)
    still_u, still_v = to_u.new_zeros(1, *to_u.shape[1:]), to_v.new_zeros(1, *to_v.shape[1:])
    constant = _run(experiment, quadratic, units.new_zeros(1, q), still_u, still_v)
    start = torch.cat([units, units.new_zeros(draws, q)])
    noise_u = torch.cat([still_u.expand(q, -1, -1), to_u])
    noise_v = torch.cat([still_v.expand(q, -1, -1), to_v])
    pure = Quadratic(A=A, B=B, C=C, a=np.zeros_like(a), b=np.zeros_like(b))
    columns = _run(experiment, pure, start, noise_u, noise_v)

    def affine(key: str) -> Affine:
        rows = np.ascontiguousarray(columns[key].transpose(1, 2, 0))
        return Affine(rows[:, :, :q], constant[key][0], rows[:, :, q:])

    def of_state(linear: np.ndarray, offset: np.ndarray) -> Affine:
        return Affine(linear, offset, np.zeros((n, linear.shape[1], draws)))

    found = {key: affine(key) for key in constant}
    gradient = of_state(np.concatenate([A, C], axis=2), -a)
    personal = of_state(np.concatenate([C.swapaxes(1, 2), B], axis=2), -b)
    change = found["displacement"].mapped(C)
    half = gradient.stacked(personal)
    return Responses(
        **found,
        gradient=gradient,
        at_virtual=gradient + change,
        change=change,
        personal=personal,
        point=of_state(np.broadcast_to(np.eye(q), (n, q, q)), np.zeros((n, q))),
        slope=of_state(0.5 * half.linear, half.constant),
    )


def _run(
    experiment: Experiment, quadratic: Quadratic, start: Tensor, noise_u: Tensor, noise_v: Tensor
) -> dict[str, np.ndarray]:
    """Local steps of all clients from each row of ``start (R, q)`` with each noise ``(R, tau, d)``: ``(R, n, r)``."""
    n, d_u = quadratic.n, quadratic.d_u
    algorithm = experiment.algorithm
    w = start[:, None, :].expand(-1, n, -1)
    u, v = w[..., :d_u], w[..., d_u:]
    noise = LocalNoise(
        noise_u[:, None].expand(-1, n, -1, -1),
        noise_v[:, None].expand(-1, n, -1, -1),
    )
    steps = Steps()
    u_end, v_end = algorithm.local(quadratic, u, v, quadratic.everyone(), noise, steps)
    nothing = torch.zeros_like(u)
    out = {
        "shared_end": u_end,
        "displacement": v_end - v,
        "y": steps.y_u if isinstance(steps.y_u, Tensor) else nothing,
        "z": steps.z_u if isinstance(steps.z_u, Tensor) else nothing,
        "moved_u": torch.cat([nothing[..., :0], *steps.path_u], dim=-1),
        "moved_v": torch.cat([nothing[..., :0], *steps.path_v], dim=-1),
    }
    return {key: values.numpy() for key, values in out.items()}
