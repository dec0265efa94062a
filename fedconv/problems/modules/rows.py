"""Clients' data sets of unequal size as padded tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.base import check_array
from fedconv.problems.errors import InputError


@dataclass(frozen=True)
class Rows:
    """X ``(n, N, ...)`` and y ``(n, N, ...)`` of n clients, N the largest number of rows; ``sizes (n,)``.

    Rows behind a client's own repeat its first row: they are finite, and their share of the loss is 0.
    """

    X: Tensor
    y: Tensor
    sizes: Tensor

    @property
    def n(self) -> int:
        return len(self.sizes)

    def to(self, device: torch.device | str) -> Rows:
        return Rows(self.X.to(device), self.y.to(device), self.sizes.to(device))

    def of(self, client: int, draws: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One client's own rows, or those that uniform numbers ``draws (b,)`` choose (see :meth:`gather`)."""
        size = int(self.sizes[client])
        X, y = self.X[client, :size], self.y[client, :size]
        if draws is None:
            return X, y
        which = (draws * size).long().clamp(max=size - 1)
        return X[which], y[which]

    def gather(self, clients: Tensor, draws: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """X, y and the shares of the rows ``(K, N)`` for K clients: 1/N_i for a client's own rows, 0 for padding.

        With ``draws (K, b)``, uniform in (0, 1): the rows ⌊N_i x⌋, each with share 1/b.
        """
        sizes = self.sizes[clients]
        if draws is None:
            rows = torch.arange(self.X.shape[1], device=self.X.device)
            share = torch.where(rows < sizes[:, None], 1.0 / sizes[:, None].double(), 0.0)
            return self.X[clients], self.y[clients], share
        which = (draws * sizes[:, None]).long().clamp(max=(sizes - 1)[:, None])
        share = torch.full(which.shape, 1.0 / which.shape[1], dtype=torch.float64, device=self.X.device)
        return self.X[clients[:, None], which], self.y[clients[:, None], which], share


def stack(clients: Sequence[Any], classes: bool) -> Rows:
    """Rows of n clients, each a pair (X, y) or a ``Dataset`` of such pairs. ``classes``: y must be integers ``(N_i,)``.

    Raises InputError for no clients, a client without rows, sizes that do not fit, NaN or inf, or wrong types.
    """
    if len(clients) == 0:
        raise InputError("clients must hold at least one data set; got none")
    pairs = [_pair(given, f"clients[{i}]", classes) for i, given in enumerate(clients)]
    for i, (X, y) in enumerate(pairs):
        for name, here, first in (("X", X, pairs[0][0]), ("y", y, pairs[0][1])):
            if here.shape[1:] != first.shape[1:] or here.dtype != first.dtype or here.device != first.device:
                raise InputError(
                    f"clients[{i}]: {name} must have rows like those of clients[0], {tuple(first.shape[1:])}"
                    f" {first.dtype} on {first.device}; got {tuple(here.shape[1:])} {here.dtype} on {here.device}"
                )
    sizes = torch.tensor([len(X) for X, _ in pairs], device=pairs[0][0].device)
    N = int(sizes.max())

    def padded(x: Tensor) -> Tensor:
        return torch.cat([x, x[:1].expand(N - len(x), *x.shape[1:])])

    return Rows(torch.stack([padded(X) for X, _ in pairs]), torch.stack([padded(y) for _, y in pairs]), sizes)


def _pair(given: Any, where: str, classes: bool) -> tuple[Tensor, Tensor]:
    if isinstance(given, (tuple, list)) and len(given) == 2:
        X, y = given
    elif hasattr(given, "__getitem__") and hasattr(given, "__len__") and not isinstance(given, (tuple, list, dict)):
        rows = [given[j] for j in range(len(given))]
        if not rows or any(not isinstance(row, (tuple, list)) or len(row) != 2 for row in rows):
            raise InputError(f"{where} must be a pair (X, y) or a data set of pairs with at least one row")
        X = torch.stack([torch.as_tensor(row[0]) for row in rows])
        y = torch.stack([torch.as_tensor(row[1]) for row in rows])
    else:
        raise InputError(f"{where} must be a pair (X, y) or a data set of pairs; got {type(given).__name__}")
    try:
        X, y = (torch.as_tensor(np.asarray(a) if not isinstance(a, Tensor) else a).detach() for a in (X, y))
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} must hold arrays of numbers X and y; {error}") from error
    if X.ndim < 1 or y.ndim < 1 or len(X) != len(y) or len(X) == 0:
        raise InputError(
            f"{where}: X and y must have the same number of rows >= 1; got {tuple(X.shape)}, {tuple(y.shape)}"
        )
    if classes and (y.ndim != 1 or y.is_floating_point() or y.dtype == torch.bool):
        raise InputError(
            f"{where}: y must be integers of shape (rows,) for cross_entropy; got {y.dtype} {tuple(y.shape)}"
        )
    X = X.double() if X.is_floating_point() else X
    y = y.long() if classes else (y.double() if y.is_floating_point() else y)
    for name, a in (("X", X), ("y", y)):
        if a.is_floating_point() and not torch.isfinite(a).all():
            raise InputError(f"{where}: {name} must be finite; got NaN or inf")
    return X, y


def client_weights(weights: Iterable[float] | None, n: int) -> Tensor:
    """ω ``(n,)`` with mean 1: n weight_i / Σ weights; None: all 1."""
    if weights is None:
        return torch.ones(n, dtype=torch.float64)
    given = check_array("weights", list(weights), (n,))
    if (given < 0).any() or not given.sum() > 0:
        raise InputError(f"weights must be numbers >= 0 that are not all 0; got {given.tolist()}")
    return torch.from_numpy(given * (n / given.sum()))
