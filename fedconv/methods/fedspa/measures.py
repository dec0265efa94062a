"""Measuring along a run of FedSpa: f_t, its gradient, jumps, mask changes, virtual full participation, invariants."""

from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedconv.methods.fedspa import costs
from fedconv.methods.fedspa.masks import Search, layer_counts
from fedconv.methods.fedspa.method import FedSpa
from fedconv.methods.fedspa.steps import Draws, Local, local_steps, server_step
from fedconv.problems.layers import Layout
from fedconv.problems.whole_model import Whole, masked

SUBSETS = 128
"""Cohorts up to which the conditional expectation of f_t(w^{t+1}) is taken over all of them."""

TOGETHER = 40_000
"""Points w are evaluated together as long as all clients' masked models hold at most so many numbers."""

INTERVALS = 8
"""Parts of the segment between old and new masked model at whose ends |∂_jF_k| is looked at."""

SNAPSHOTS = 9
"""Rounds at which the distances between the clients' masks are kept."""

INVARIANTS = ("budget", "exchange", "iterates", "server", "absent", "frozen", "gradient")


class Step(NamedTuple):
    """One round: iterates and masks before and after, clients ``(R, n)`` (the cohort first), what the cohort did, the
    mask search (None where no mask moves), the changes asked for ``(R, m, layers)``, and α_t."""

    t: int
    w: Tensor
    after: Tensor
    masks: Tensor
    following: Tensor
    clients: Tensor
    local: Local
    found: Search | None
    r: np.ndarray
    alpha: float


class Meter:
    """Arrays by name for R replicates. Level ``none`` keeps cohorts and the end alone; ``proof`` also iterates and
    masks."""

    def __init__(
        self,
        whole: Whole,
        method: FedSpa,
        layout: Layout,
        budgets: np.ndarray,
        draws: Draws,
        T: int,
        R: int,
        level: str,
    ) -> None:
        self.whole, self.method, self.layout, self.budgets, self.draws = whole, method, layout, budgets, draws
        self.T, self.R, self.wanted, self.proof = T, R, level != "none", level == "proof"
        self.arrays: dict[str, np.ndarray] = {"cohort": np.zeros((R, T, whole.n), dtype=bool)}
        self.everyone = whole.problem.everyone()
        self.marks = np.random.default_rng(0).integers(1, 2**62, whole.d)
        n, m = whole.n, method.m
        self.together = max(1, TOGETHER // (R * n * whole.d))
        known = 0 < m < n and math.comb(n, m) <= SUBSETS
        self.subsets = torch.tensor(list(combinations(range(n), m)) if known else [], device=self.everyone.device)

    def put(self, name: str, t: int, values: Tensor | np.ndarray, columns: int | None = None) -> None:
        """Column t of a variable (one of T, or of ``columns``)."""
        array = values.cpu().numpy() if isinstance(values, Tensor) else values
        shape = (self.R, self.T if columns is None else columns, *array.shape[1:])
        self.arrays.setdefault(name, np.zeros(shape, dtype=array.dtype))[:, t] = array

    def start(self, w: Tensor, masks: Tensor) -> None:
        if self.wanted:
            self._point(0, w, masks)

    def round(self, step: Step) -> None:
        """Measure one round; nothing here feeds back into the run."""
        m, t = self.method.m, step.t
        np.put_along_axis(self.arrays["cohort"][:, t], step.clients[:, :m].cpu().numpy(), True, axis=1)
        if not self.wanted:
            return
        gradients = self._stationarity(step)
        self._jump(step)
        self._virtual(step, gradients)
        self._masks(step)
        self._costs(step)
        self._invariants(step, gradients)
        self._point(t + 1, step.after, step.following)

    def finish(self, w: Tensor, masks: Tensor) -> dict[str, np.ndarray]:
        return self.arrays | {
            "F_final": self.whole.objective(w, masks).cpu().numpy(),
            "w_final": w.cpu().numpy().copy(),
            "mask_final": masks.cpu().numpy().copy(),
        }

    def _point(self, k: int, w: Tensor, masks: Tensor) -> None:
        kept = snapshots(self.T)
        if k in kept:
            on = masks.to(torch.float64)
            size = on.sum(-1)
            apart = size[..., None] + size[..., None, :] - 2 * on @ on.mT
            self.put("mask_distance", kept.index(k), apart, len(kept))
        if self.proof:
            self.put("w", k, w, self.T + 1)
            self.put("mask", k, masks, self.T + 1)

    def _spread(self, w: Tensor) -> Tensor:
        return w[:, None, :].expand(-1, self.whole.n, -1)

    def _stationarity(self, step: Step) -> Tensor:
        """f_t, ‖∇f_t‖², D_t at w_t; returns all ∇f_k ``(R, n, d)``."""
        each = self.whole.masked_grad(self._spread(step.w), step.masks, self.everyone)
        mean = each.mean(-2)
        self.put("f", step.t, self.whole.objective(step.w, step.masks))
        self.put("grad_sq", step.t, mean.square().sum(-1))
        self.put("diversity", step.t, (each - mean[:, None, :]).square().sum(-1).mean(-1))
        self.put("noise_sq", step.t, step.local.noise_sq.mean(-1))
        self.put("update_sq", step.t, step.local.update.square().sum(-1).mean(-1))
        self.put("alpha", step.t, np.full(self.R, step.alpha))
        return each

    def _jump(self, step: Step) -> None:
        """J_t = f_{t+1}(w_{t+1}) − f_t(w_{t+1}) in its two parts, and both sides of its bounds."""
        t, after = step.t, step.after
        f_after = self.whole.objective(after, step.masks)
        f_pruned = f_next = f_after
        changed = step.masks ^ step.following
        if step.found is not None:
            cohort = step.clients[:, : self.method.m, None].expand_as(step.found.mask)
            mine = torch.gather(step.masks, 1, cohort)
            f_pruned = self.whole.objective(after, step.masks.scatter(1, cohort, mine & ~step.found.pruned))
            f_next = self.whole.objective(after, step.following)
        self.put("f_after", t, f_after)
        self.put("f_next", t, f_next)
        self.put("jump", t, f_next - f_after)
        self.put("jump_prune", t, f_pruned - f_after)
        self.put("jump_regrow", t, f_next - f_pruned)
        moved = masked(self._spread(after), changed).abs()
        self.put("changed_l1", t, moved.sum((-1, -2)))
        self.put("changed_max", t, moved.amax((-1, -2)))
        self.put("hamming", t, changed.sum(-1))
        slope, gap = self._slopes(step, changed)
        self.put("slope", t, slope)
        self.put("slope_gap", t, gap)

    def _slopes(self, step: Step, changed: Tensor) -> tuple[Tensor, Tensor]:
        """Largest |∂_jF_k| over changed coordinates at INTERVALS + 1 points from m_t ⊙ w_{t+1} to m_{t+1} ⊙ w_{t+1},
        and the largest distance of a point of a segment to the nearest of these."""
        zero = step.after.new_zeros(self.R)
        if step.found is None:
            return zero, zero
        old, new = (masked(self._spread(step.after), mask) for mask in (step.masks, step.following))
        slope, shares = zero, torch.arange(INTERVALS + 1, dtype=old.dtype, device=old.device) / INTERVALS
        for share in shares.split(self.together):
            at = old + share[:, None, None, None] * (new - old)
            steepest = masked(self.whole.grad(at, self.everyone), changed).abs().amax((0, -1, -2))
            slope = torch.maximum(slope, steepest)
        return slope, torch.linalg.vector_norm(new - old, dim=-1).amax(-1) / (2 * INTERVALS)

    def _virtual(self, step: Step, gradients: Tensor) -> None:
        """Every client's local steps from w_t: mean ‖ḡ_k − ∇f_k‖², and the mean of f_t(w_{t+1}) over all cohorts."""
        n, m = self.whole.n, self.method.m
        update, gradient = step.local.update, step.local.gradient
        masks = torch.take_along_dim(step.masks, step.clients[..., None], dim=1)
        if m < n:
            absent = step.clients[:, m:]
            noise = self.draws.absent(step.t, n - m)
            away = local_steps(self.whole, self.method, step.w, masks[:, m:], absent, noise)
            update, gradient = torch.cat([update, away.update], 1), torch.cat([gradient, away.gradient], 1)
        own = torch.take_along_dim(gradients, step.clients[..., None], dim=1)
        self.put("drift_sq", step.t, (gradient - own).square().sum(-1).mean(-1))
        if m == n:
            self.put("f_expected", step.t, self.arrays["f_after"][:, step.t])
        elif len(self.subsets):
            self.put("f_expected", step.t, self._expected(step, update, masks))

    def _expected(self, step: Step, update: Tensor, masks: Tensor) -> Tensor:
        """Mean of f_t(w_{t+1}) over all cohorts ``(R,)``, from all clients' updates and masks ``(R, n, d)`` in the
        order of ``step.clients``."""
        total = torch.zeros_like(step.w[:, 0])
        for chosen in self.subsets.split(self.together):
            w = step.w[:, None, :].expand(-1, len(chosen), -1)
            reached = server_step(self.method, w, update[:, chosen], masks[:, chosen])
            for value in self.whole.objective(reached.transpose(0, 1), step.masks):
                total = total + value  # one by one: the sum does not depend on how many are known at once
        return total / len(self.subsets)

    def _everyones(self, step: Step, values: np.ndarray) -> np.ndarray:
        """Values ``(R, m, ...)`` of the cohort as those of all clients ``(R, n, ...)``, 0 for the absent."""
        out = np.zeros((self.R, self.whole.n, *values.shape[2:]), dtype=values.dtype)
        cohort = step.clients[:, : self.method.m].cpu().numpy()
        out[np.arange(self.R)[:, None], cohort] = values
        return out

    def _masks(self, step: Step) -> None:
        t, nothing = step.t, np.zeros(step.r.shape, dtype=np.int64)
        found = step.found
        sets = (
            {"pruned": None, "regrown": None} if found is None else {"pruned": found.pruned, "regrown": found.regrown}
        )
        for name, chosen in sets.items():
            count = nothing if chosen is None else layer_counts(chosen, self.layout)
            self.put(name, t, self._everyones(step, count))
            marked = nothing[..., 0] if chosen is None else (chosen.cpu().numpy() * self.marks).sum(-1)
            self.put(f"{name}_hash", t, self._everyones(step, marked))
        self.put("asked", t, self._everyones(step, step.r))
        self.put("nnz", t, layer_counts(step.following, self.layout))
        self.put("mask_hash", t, (step.following.cpu().numpy() * self.marks).sum(-1))

    def _costs(self, step: Step) -> None:
        method, layout = self.method, self.layout
        budgets = self.budgets[step.clients[:, : method.m].cpu().numpy()]
        forward = costs.forward_flops(budgets, layout)
        searching = (step.r > 0).any(-1)
        found = searching * costs.search_flops(forward, costs.dense_flops(layout), method.batch)
        self.put("bits_down", step.t, costs.bits_down(budgets, method.value_bits).sum(-1))
        self.put("bits_up", step.t, costs.bits_up(budgets, step.r, layout, method.value_bits).sum(-1))
        self.put("flops_train", step.t, costs.training_flops(forward, method.tau, method.batch).sum(-1))
        self.put("flops_search", step.t, found.sum(-1))

    def _invariants(self, step: Step, gradients: Tensor) -> None:
        """How often each of INVARIANTS is broken, ``(R, 7)``; 0 everywhere, or the run is not FedSpa."""
        m = self.method.m
        cohort, away = step.clients[:, :m, None], step.clients[:, m:, None]
        mine = torch.take_along_dim(step.masks, cohort, dim=1)
        covered = mine.any(1)
        changed = step.masks ^ step.following
        moved = (step.after != step.w) & ~(step.after.isnan() & step.w.isnan())
        exchange = np.zeros(self.R, dtype=np.int64)
        if step.found is not None:
            pruned, regrown = (layer_counts(x, self.layout) for x in step.found[:2])
            exchange = (np.abs(pruned - step.r) + np.abs(regrown - pruned)).sum((1, 2))
            kept = mine & ~step.found.pruned
            strange = (step.found.pruned & ~mine).sum((1, 2)) + (step.found.regrown & kept).sum((1, 2))
            exchange = exchange + strange.cpu().numpy()
        still = changed.sum((1, 2)) if step.found is None or self.method.masks.frozen else exchange * 0
        counts = (
            np.abs(layer_counts(step.following, self.layout) - self.budgets).sum((1, 2)),
            exchange,
            step.local.stray + ((step.local.update != 0) & ~mine).sum((1, 2)),
            (moved & ~covered).sum(1),
            torch.take_along_dim(changed, away, dim=1).sum((1, 2)),
            still,
            ((gradients != 0).any(1) & ~step.masks.any(1)).sum(1),
        )
        plain = [x.cpu().numpy() if isinstance(x, Tensor) else x for x in counts]
        self.put("breaches", step.t, np.stack(plain, axis=-1).astype(np.int64))


def snapshots(T: int) -> list[int]:
    """Points 0..T at which mask distances are kept."""
    return np.unique(np.linspace(0, T, min(T + 1, SNAPSHOTS)).round().astype(int)).tolist()
