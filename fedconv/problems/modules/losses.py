"""Losses of a model's outputs: one number a row, never negative."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(scores: Tensor, y: Tensor) -> Tensor:
    """−log softmax(scores)_y for scores ``(rows, classes)`` and integers y ``(rows,)``: ``(rows,)``."""
    return -torch.log_softmax(scores, -1).gather(-1, y[:, None])[:, 0]


def squared(outputs: Tensor, y: Tensor) -> Tensor:
    """½‖output − y‖² for outputs and y of one shape ``(rows, ...)``: ``(rows,)``."""
    return 0.5 * (outputs - y).square().reshape(y.shape[0], -1).sum(-1)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "squared": squared}
