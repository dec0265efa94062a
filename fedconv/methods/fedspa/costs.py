"""What a round costs: bits down and up, and floating-point operations, by the formulas of the theory page on FedSpa."""

from __future__ import annotations

import math

import numpy as np

from fedconv.problems.layers import Layout


def bits_down(budgets: np.ndarray, value_bits: int) -> np.ndarray:
    """b s_k to each client, for budgets ``(..., layers)``: ``(...)``."""
    return value_bits * budgets.sum(-1)


def mask_bits(r: np.ndarray, layout: Layout) -> np.ndarray:
    """μ = min(d, Σ_l 2 r_l ⌈log₂ d_l⌉) for the changes r ``(..., layers)`` of a mask: ``(...)``."""
    word = np.array([math.ceil(math.log2(size)) for size in layout.sizes])
    return np.minimum(layout.d, (2 * r * word).sum(-1))


def bits_up(budgets: np.ndarray, r: np.ndarray, layout: Layout, value_bits: int) -> np.ndarray:
    """b s_k + μ from each client: ``(...)``."""
    return value_bits * budgets.sum(-1) + mask_bits(r, layout)


def first_mask_bits(budgets: np.ndarray, layout: Layout) -> np.ndarray:
    """Bits of a whole mask, sent once: the smaller of d and Σ_l ⌈log₂ C(d_l, s_{k,l})⌉, ``(...)``."""
    flat = budgets.reshape(-1, len(layout.sizes))
    choices = [sum(_log2_binomial(d, int(s)) for d, s in zip(layout.sizes, row, strict=True)) for row in flat]
    return np.minimum(layout.d, np.array(choices, dtype=np.int64)).reshape(budgets.shape[:-1])


def _log2_binomial(d: int, s: int) -> int:
    """⌈log₂ C(d, s)⌉, exactly where it is short, by the gamma function where it is long."""
    if d <= 4096:
        return (math.comb(d, s) - 1).bit_length()
    return math.ceil((math.lgamma(d + 1) - math.lgamma(s + 1) - math.lgamma(d - s + 1)) / math.log(2))


def fedavg_bits(d: int, value_bits: int) -> int:
    """2 b d: down and up of one client with a dense vector."""
    return 2 * value_bits * d


def forward_flops(budgets: np.ndarray, layout: Layout) -> np.ndarray:
    """F = Σ_l 2 nnz_l P_l (P_l c_out for a bias) per sample, for ``(..., layers)``: ``(...)``."""
    flat = budgets.reshape(-1, len(layout.sizes))
    return np.array([layout.flops(row.tolist()) for row in flat]).reshape(budgets.shape[:-1])


def dense_flops(layout: Layout) -> float:
    """F of the dense model."""
    return layout.flops(layout.sizes)


def training_flops(forward: np.ndarray, tau: int, batch: int) -> np.ndarray:
    """N B · 3F for N local steps on B samples."""
    return 3.0 * tau * batch * forward


def search_flops(forward: np.ndarray, dense: float, batch: int) -> np.ndarray:
    """B (2 F_sparse + F_dense): one gradient whose weight part alone is dense."""
    return batch * (2.0 * forward + dense)
