"""Target losses from finite samples: a training split, a validation split, and the population behind the latter."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.base import Constant, check_array
from fedconv.problems.errors import InputError
from fedconv.problems.targets.base import TargetConstants, TargetProblem, moved, whole
from fedconv.problems.validation import Matrix, Positive, Size, Stack, Vector


class SampleTargets(TargetProblem):
    """F_i(θ) = (1/N) Σ_s (a/2)‖θ − x_{i,s}‖², judged by L̂_i(θ) = (1/N_val) Σ_s (a/2)‖θ − y_{i,s}‖².

    X ``(n, N, d)``, Y ``(n, N_val, d)``; the population behind the validation split has mean c_i ``(n, d)`` and total
    variance s_i ``(n,)``, so that its loss is (a/2)(‖θ − c_i‖² + s_i). Losses and gradients of single samples serve
    the differentially private variant. All constants exact. Raises InputError for wrong shapes, a ≤ 0 or s_i < 0.
    """

    family: ClassVar[str] = "cluster_samples"

    def __init__(self, *, X: Any, Y: Any, c: Any, variance: Any, curvature: float = 1.0, d_u: int = 0) -> None:
        X_ = check_array("X", X, (None, None, None))
        n, N, d = X_.shape
        Y_ = check_array("Y", Y, (n, None, d))
        if min(N, Y_.shape[1]) < 1:
            raise InputError(f"X and Y must hold at least 1 sample of every client; got {N} and {Y_.shape[1]}")
        if not (np.isfinite(curvature) and curvature > 0):
            raise InputError(f"curvature must be a finite number > 0; got {curvature}")
        spread = check_array("variance", variance, (n,))
        if (spread < 0).any():
            raise InputError(f"variance must hold numbers >= 0; got {spread.min():g}")
        b = X_.mean(1)
        offset = 0.5 * curvature * np.square(X_ - b[:, None]).sum(-1).mean(-1)
        eye = np.broadcast_to(curvature * np.eye(d), (n, d, d))
        super().__init__(A=eye, b=b, d_u=d_u, offset=offset)
        self.curvature = float(curvature)
        self.X, self.Y = torch.from_numpy(X_), torch.from_numpy(Y_)
        self.c = torch.from_numpy(check_array("c", c, (n, d)))
        self.variance = torch.from_numpy(spread)

    def to(self, device: torch.device | str) -> SampleTargets:
        return moved(self, device, ("A", "b", "offset", "X", "Y", "c", "variance"))

    @property
    def samples(self) -> int:
        """N, training samples of a client."""
        return self.X.shape[1]

    @property
    def validation(self) -> int:
        """N_val, validation samples of a client."""
        return self.Y.shape[1]

    def sample_grads(self, w: Tensor, clients: Tensor) -> Tensor:
        """Gradients of the training samples' losses at θ ``(..., k, d)``: ``(..., k, N, d)``."""
        return self.curvature * (w[..., None, :] - self.X[clients])

    def sample_losses(self, w: Tensor, clients: Tensor) -> Tensor:
        """Losses of the validation samples at θ ``(..., k, d)``: ``(..., k, N_val)``."""
        return 0.5 * self.curvature * (w[..., None, :] - self.Y[clients]).square().sum(-1)

    def target_value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self.sample_losses(whole(u, v), clients).mean(-1)

    def target_grad(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self.curvature * (whole(u, v) - self.Y.mean(1)[clients])

    def population_value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        """(a/2)(‖θ − c_i‖² + s_i): what the validation loss estimates, ``(..., k)``."""
        away = whole(u, v) - self.c[clients]
        return 0.5 * self.curvature * (away.square().sum(-1) + self.variance[clients])

    @property
    def target_constants(self) -> TargetConstants:
        spread = 0.5 * self.curvature * (self.Y - self.Y.mean(1, keepdim=True)).square().sum(-1).mean(-1)
        zero = Constant(0.0, "exact", "convex")
        L = Constant(self.curvature, "exact", "curvature")
        return TargetConstants(L, zero, True, tuple(spread.cpu().tolist()))


def build_arrays(
    *, X: Stack, Y: Stack, c: Matrix, variance: Vector, curvature: Positive = 1.0, d_u: Size = 0
) -> SampleTargets:
    """Training and validation samples as explicit arrays; shapes and errors as in :class:`SampleTargets`."""
    return SampleTargets(X=X, Y=Y, c=c, variance=variance, curvature=curvature, d_u=d_u)
