"""Problems whose clients train on one loss and are judged by another: the loss of their target distribution."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.base import Constant, Constants, Problem, check_array
from fedconv.problems.errors import InputError
from fedconv.problems.split.quadratic import Quadratic
from fedconv.problems.validation import Matrix, Size, Stack

ALIKE = 1e-12
"""Share of the largest curvature up to which eigenvalues count as 0 and curvatures as equal."""


@dataclass(frozen=True)
class TargetConstants:
    """What is known of the target losses L_i.

    L: every L_i is L-smooth (∞ where none is). weak: λ, every L_i + (λ/2)‖·‖² is convex (0 where ``convex``).
    infima: lower bounds of the L_i (−∞ where none is known), of grade ``inf_grade``.
    """

    L: Constant
    weak: Constant
    convex: bool
    infima: tuple[float, ...]
    inf_grade: str = "exact"

    def of(self, assignment: Any) -> TargetConstants:
        """The same where client i is judged by the loss of client ``assignment[i]``."""
        return TargetConstants(
            self.L, self.weak, self.convex, tuple(self.infima[int(j)] for j in assignment), self.inf_grade
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data; numbers that are not finite become strings."""

        def plain(x: float) -> float | str:
            return x if np.isfinite(x) else str(x)

        return {
            "L": self.L.to_dict(),
            "weak": self.weak.to_dict(),
            "convex": self.convex,
            "infima": [plain(x) for x in self.infima],
            "inf_grade": self.inf_grade,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TargetConstants:
        """Inverse of :meth:`to_dict`."""
        L, weak = (Constant.from_dict(data[k]) for k in ("L", "weak"))
        return cls(L, weak, bool(data["convex"]), tuple(float(x) for x in data["infima"]), data["inf_grade"])


class TargetProblem(Problem):
    """A problem with training losses F_i (all of ``Problem`` is about these) and target losses L_i on θ = (u, v).

    ``target_value (..., k)`` and ``target_grad (..., k, d_u + d_v)`` take arguments shaped as those of ``value``.
    Training: F_i(θ) = ½(θ − b_i)ᵀA_i(θ − b_i) + o_i with A_i positive semidefinite ``(n, d, d)``, b ``(n, d)``, o
    ``(n,)``; the first d_u coordinates of θ are u.
    """

    A: Tensor
    b: Tensor
    offset: Tensor

    def __init__(self, *, A: Any, b: Any, d_u: int, offset: Any = None) -> None:
        b_ = check_array("b", b, (None, None))
        n, d = b_.shape
        if n < 1 or d < 1:
            raise InputError(f"b must have n >= 1 rows of d >= 1 numbers; got shape {b_.shape}")
        if not 0 <= d_u <= d:
            raise InputError(f"d_u must be at most d = {d}; got {d_u}")
        self.n, self.d_u, self.d_v = n, d_u, d - d_u
        A_ = symmetric("A", check_array("A", A, (n, d, d)))
        least = float(np.linalg.eigvalsh(A_).min())
        if least < -ALIKE * float(np.abs(A_).max(initial=0.0)):
            raise InputError(f"A must hold positive semidefinite matrices; got the eigenvalue {least:.6g}")
        self.A, self.b = torch.from_numpy(A_), torch.from_numpy(b_)
        self.offset = torch.from_numpy(np.zeros(n) if offset is None else check_array("offset", offset, (n,)))

    # ---- training ----------------------------------------------------------------------------------------------

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        away = whole(u, v) - self.b[clients]
        return 0.5 * (away * _apply(self.A[clients], away)).sum(-1) + self.offset[clients]

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self._grad(u, v, clients)[..., : self.d_u]

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self._grad(u, v, clients)[..., self.d_u :]

    def _grad(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return _apply(self.A[clients], whole(u, v) - self.b[clients])

    def _constants(self) -> Constants:
        inner, (u, v) = self._inner(), self.minimiser()
        c = inner.constants
        F_star = Constant(float(self.objective(u, v)), "exact", "normal equations of F in (u, V)")
        return Constants(c.L_u, c.L_v, c.L_uv, c.L_vu, c.delta, c.rho, F_star)

    def minimiser(self) -> tuple[Tensor, Tensor]:
        return self._inner().minimiser()

    def _inner(self) -> Quadratic:
        """F without its constant."""
        A, b, k = self.A.cpu().numpy(), self.b.cpu().numpy(), self.d_u
        g = np.einsum("nij,nj->ni", A, b)
        return Quadratic(A=A[:, :k, :k], B=A[:, k:, k:], C=A[:, :k, k:], a=g[:, :k], b=g[:, k:])

    @property
    def joint_smoothness(self) -> Constant:
        """L of every F_i in θ."""
        return Constant(float(torch.linalg.matrix_norm(self.A, 2).max()), "exact", "max_i ‖A_i‖₂")

    @property
    def device(self) -> torch.device:
        return self.b.device

    # ---- targets -----------------------------------------------------------------------------------------------

    @abstractmethod
    def target_value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        """L_i(u_i, v_i) for the given clients, ``(..., k)``."""

    @abstractmethod
    def target_grad(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        """∇L_i in θ = (u, v), ``(..., k, d_u + d_v)``."""

    @property
    @abstractmethod
    def target_constants(self) -> TargetConstants:
        """What is known of the L_i."""

    @property
    def own_targets(self) -> bool:
        """Whether L_i = F_i (up to a constant) for every client."""
        return False


class QuadraticTargets(TargetProblem):
    """F_i(θ) = ½(θ − b_i)ᵀA_i(θ − b_i), judged by L_i(θ) = ½(θ − c_i)ᵀH_i(θ − c_i).

    A, H ``(n, d, d)`` symmetric, A_i positive semidefinite, H_i of any sign; b, c ``(n, d)``. All constants exact.
    Raises InputError for wrong shapes, asymmetric matrices, or an A_i with a negative eigenvalue.
    """

    family: ClassVar[str] = "quadratic_targets"

    def __init__(self, *, A: Any, b: Any, H: Any, c: Any, d_u: int = 0) -> None:
        super().__init__(A=A, b=b, d_u=d_u)
        shape = (self.n, self.d_u + self.d_v)
        self.H = torch.from_numpy(symmetric("H", check_array("H", H, (*shape, shape[1]))))
        self.c = torch.from_numpy(check_array("c", c, shape))

    def to(self, device: torch.device | str) -> QuadraticTargets:
        return moved(self, device, ("A", "b", "offset", "H", "c"))

    def target_value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        away = whole(u, v) - self.c[clients]
        return 0.5 * (away * _apply(self.H[clients], away)).sum(-1)

    def target_grad(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return _apply(self.H[clients], whole(u, v) - self.c[clients])

    @property
    def target_constants(self) -> TargetConstants:
        values = np.linalg.eigvalsh(self.H.cpu().numpy())
        L, low = float(np.abs(values).max()), values.min(axis=1)
        convex = bool((low >= -ALIKE * L).all())
        weak = 0.0 if convex else float(max(0.0, -low.min()))
        infima = tuple(0.0 if x >= -ALIKE * L else -np.inf for x in low)
        return TargetConstants(
            Constant(L, "exact", "max_i ‖H_i‖₂"), Constant(weak, "exact", "−min eigenvalue of the H_i"), convex, infima
        )

    @property
    def own_targets(self) -> bool:
        return bool(torch.equal(self.A, self.H) and torch.equal(self.b, self.c))


def whole(u: Tensor, v: Tensor) -> Tensor:
    """θ = (u, v), leading axes broadcast."""
    axes = torch.broadcast_shapes(u.shape[:-1], v.shape[:-1])
    return torch.cat([u.expand(*axes, u.shape[-1]), v.expand(*axes, v.shape[-1])], -1)


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    return (matrices @ vectors[..., None])[..., 0]


def symmetric(name: str, array: np.ndarray) -> np.ndarray:
    """The matrices ``(n, d, d)`` made exactly symmetric. Raises InputError where they are not nearly so."""
    gap = float(np.abs(array - array.swapaxes(1, 2)).max(initial=0.0))
    if gap > 1e-12 * float(np.abs(array).max(initial=0.0)):
        raise InputError(f"{name} must hold symmetric matrices; got an asymmetry of {gap:.3g}")
    return np.ascontiguousarray(0.5 * (array + array.swapaxes(1, 2)))


def moved(problem: Any, device: torch.device | str, tensors: tuple[str, ...]) -> Any:
    """A copy of a problem with the named tensors on another device."""
    out = object.__new__(type(problem))
    out.__dict__.update({k: x for k, x in problem.__dict__.items() if k != "constants"})
    for name in tensors:
        setattr(out, name, getattr(problem, name).to(device))
    return out


def build_arrays(*, A: Stack, b: Matrix, H: Stack, c: Matrix, d_u: Size = 0) -> QuadraticTargets:
    """Quadratic training and target losses with explicit arrays; shapes and errors as in :class:`QuadraticTargets`."""
    return QuadraticTargets(A=A, b=b, H=H, c=c, d_u=d_u)
