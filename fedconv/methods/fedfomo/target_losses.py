"""By which loss each client judges models, and what is known of these losses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.base import Constant, Problem
from fedconv.problems.envelopes.base import EnvelopeProblem
from fedconv.problems.envelopes.least_squares import LeastSquares
from fedconv.problems.split.quadratic import Quadratic
from fedconv.problems.targets.base import ALIKE, QuadraticTargets, TargetConstants, TargetProblem
from fedconv.problems.targets.samples import SampleTargets
from fedconv.problems.whole_model import Whole, smoothness
from fedconv.problems.written_for import refuse_overridden, written_for


@dataclass(frozen=True)
class Isotropic:
    """F_i = (a/2)‖θ − b_i‖² and L_i = (a/2)‖θ − c_i‖² up to constants; b, c ``(n, d)``."""

    a: float
    b: Tensor
    c: Tensor

    @property
    def bias(self) -> float:
        """z = max_i ‖b_i − c_i‖."""
        return float(torch.linalg.vector_norm(self.b - self.c, dim=-1).max())

    @property
    def separation(self) -> float:
        """R: the least distance between two different c_i; 0 where all agree."""
        apart = torch.cdist(self.c, self.c, compute_mode="donot_use_mm_for_euclid_dist")
        different = apart[apart > ALIKE * (1 + float(self.c.abs().max()))]
        return float(different.min()) if different.numel() else 0.0

    @property
    def across(self) -> Tensor:
        """Which pairs of clients have different c_i, ``(n, n)``."""
        apart = torch.cdist(self.c, self.c, compute_mode="donot_use_mm_for_euclid_dist")
        return apart > ALIKE * (1 + float(self.c.abs().max()))


class Judge:
    """L_i = target loss of client ``assignment[i]``: the problem's own targets where it has such, else its F_i.

    ``w (..., k, d)`` and ``clients (..., k)`` → ``value (..., k)``, ``grad (..., k, d)``.
    """

    def __init__(self, problem: Problem, assignment: np.ndarray) -> None:
        self.problem, self.assignment = problem, torch.from_numpy(assignment).to(problem.device)
        self.whole = Whole(problem)
        self.d = self.whole.d

    def value(self, w: Tensor, clients: Tensor) -> Tensor:
        chosen = self.assignment[clients]
        if isinstance(self.problem, TargetProblem):
            return self.problem.target_value(*self._parts(w), chosen)
        return self.whole.value(w, chosen)

    def grad(self, w: Tensor, clients: Tensor) -> Tensor:
        chosen = self.assignment[clients]
        if isinstance(self.problem, TargetProblem):
            return self.problem.target_grad(*self._parts(w), chosen)
        return self.whole.grad(w, chosen)

    def population(self, w: Tensor, clients: Tensor) -> Tensor | None:
        """What the validation losses estimate; None where they are all there is."""
        if getattr(self.problem, "population_value", None) is not None:
            assert isinstance(self.problem, SampleTargets)
            return self.problem.population_value(*self._parts(w), self.assignment[clients])
        return None

    def _parts(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return w[..., : self.problem.d_u], w[..., self.problem.d_u :]

    @property
    def own(self) -> bool:
        """Whether every client trains on the very loss it is judged by."""
        straight = bool((self.assignment == self.problem.everyone()).all())
        return straight and (self.problem.own_targets if isinstance(self.problem, TargetProblem) else True)

    @property
    def constants(self) -> TargetConstants:
        """What is known of the L_i. Raises InputError where a subclass replaces a target loss and keeps what its
        parent says of it."""
        problem = self.problem
        refuse_overridden(type(problem), "target_constants", ("target_value", "target_grad"))
        own = problem.target_constants if isinstance(problem, TargetProblem) else loss_constants(problem)
        return own.of(self.assignment.cpu().numpy())

    @property
    def isotropic(self) -> Isotropic | None:
        """The common form of Theorem 4 of the theory page, or None."""
        problem, chosen = self.problem, self.assignment
        if written_for(problem, SampleTargets):
            return Isotropic(problem.curvature, problem.b, problem.Y.mean(1)[chosen])
        if not written_for(problem, QuadraticTargets):
            return None
        a = float(problem.A[0, 0, 0])
        eye = a * torch.eye(self.d, dtype=torch.float64, device=problem.device)
        near = max(float((problem.A - eye).abs().max()), float((problem.H - eye).abs().max()))
        return Isotropic(a, problem.b, problem.c[chosen]) if a > 0 and near <= ALIKE * a else None


def loss_constants(problem: Problem) -> TargetConstants:
    """The same of the training losses F_i themselves, in θ = (u, v).

    Quadratics and least squares exactly, by eigenvalues; elsewhere L from the block constants, λ = L, and lower bounds
    of the F_i where the problem has such.
    """
    if written_for(problem, Quadratic, LeastSquares):
        return _quadratic(problem)
    L = smoothness(problem)
    weak = Constant(L.value, "upper" if L.grade != "estimated" else "estimated", "λ ≤ L")
    infima, grade = [-math.inf] * problem.n, "upper"
    if isinstance(problem, EnvelopeProblem):
        infima, grade = [float(x) for x in problem.envelope_constants.inf_m], "upper"
    elif problem.n == 1:
        infima, grade = [problem.constants.F_star.value], problem.constants.F_star.grade
    elif getattr(problem, "nonnegative", False):
        infima = [0.0] * problem.n
    return TargetConstants(L, weak, False, tuple(infima), grade)


def _quadratic(problem: Quadratic | LeastSquares) -> TargetConstants:
    """F_k = ½wᵀH_kw − g_kᵀw + o_k: inf F_k = o_k − ½g_kᵀH_k⁺g_k, or −∞."""
    if isinstance(problem, Quadratic):
        A, B, C, a, b = (x.cpu().numpy() for x in (problem.A, problem.B, problem.C, problem.a, problem.b))
        H = np.concatenate([np.concatenate([A, C], 2), np.concatenate([C.swapaxes(1, 2), B], 2)], 1)
        g, offset = np.concatenate([a, b], 1), np.zeros(len(a))
    else:
        A, B, c = (x.cpu().numpy() for x in (problem.A, problem.B, problem.c))
        J = np.concatenate([A, B], 2)
        H, g, offset = J.swapaxes(1, 2) @ J, np.einsum("kij,ki->kj", J, c), 0.5 * np.square(c).sum(1)
    values, vectors = np.linalg.eigh(H)
    L = float(np.abs(values).max())
    convex = isinstance(problem, LeastSquares) or bool(values.min() >= -ALIKE * L)
    infima = []
    for x, U, along, o in zip(values, vectors, g, offset, strict=True):
        flat, slope = np.abs(x) <= ALIKE * L, U.T @ along
        steep = np.abs(slope[flat]).max(initial=0.0) > 1e-9 * (np.abs(along).max(initial=0.0))
        bounded = not ((x < -ALIKE * L).any() or steep)
        infima.append(float(o - 0.5 * np.sum(slope[~flat] ** 2 / x[~flat])) if bounded else -math.inf)
    weak = 0.0 if convex else max(0.0, float(-values.min()))
    L_, weak_ = Constant(L, "exact", "max_k ‖H_k‖₂"), Constant(weak, "exact", "−min eigenvalue of the H_k")
    return TargetConstants(L_, weak_, convex, tuple(infima))
