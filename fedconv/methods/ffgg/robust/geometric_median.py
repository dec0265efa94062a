"""The geometric median argmin_y Σ_i ‖x_i − y‖, exact to rounding and batched.

A data point x_k, of which there are m_k copies, is a minimiser exactly where the unit vectors from it to the other data
points have a sum of norm ≤ m_k. Where none is, the points do not lie on a line, the minimiser is unique and
the sum of distances is smooth around it: damped Newton steps, with Weiszfeld's step as the one that always descends,
until the gradient Σ (y − x_i)/‖y − x_i‖ is 0 to rounding. All sums are taken relative to a data point near y and as
differences, so that outliers of any size cost no digits. Even numbers of points very near a line are ill-conditioned:
there Σ ‖x_i − y‖ is least to rounding, y less so.
"""

from __future__ import annotations

import torch
from torch import Tensor

RESIDUAL = 1e-14
"""The gradient, a sum of n unit vectors, counts as 0 below n times this."""

STEPS, RULE = 60, 10
"""Newton steps at most; after ``RULE``, which is rarely reached, a flat valley is suspected."""

TOGETHER = 4096
"""Numbers of the differences from some data points that are taken at once."""

DAMPING = (1.0, 0.5, 0.25, 1 / 16, 1 / 64, 1 / 1024)


def geometric_median(x: Tensor) -> Tensor:
    """The minimiser of Σ_i ‖x_i − y‖ over y; where it is not unique, the midpoint of the segment of minimisers.

    x ``(..., n, d)`` → ``(..., d)``; NaN where x is not finite. Entries are to be below 1e150 (squares are taken).
    Source: Weiszfeld 1937; the step that leaves a data point is Vardi and Zhang's (2000); Newton: derived here.
    """
    n, d = x.shape[-2:]
    flat = x.reshape(-1, n, d)
    pulls, copies, heights = _at_data_points(flat)
    optimal = torch.linalg.vector_norm(pulls, dim=-1) <= copies + RESIDUAL * n
    share = optimal / copies
    best = torch.where(optimal.any(-1, keepdim=True), heights.masked_fill(~optimal, torch.inf), heights).argmin(-1)
    base = _row(flat, best)
    weight = share.sum(-1, keepdim=True)
    offset = (share.unsqueeze(-1) * (flat - base.unsqueeze(1))).sum(1) / weight.clamp(min=1)
    several = (weight > 1.5).squeeze(-1)
    if bool(several.any()):  # all points on a line, or nearly: the way across it is left to Newton
        offset[several] = _descend((flat - base.unsqueeze(1))[several], offset[several])
    out = base + offset
    inside = ~optimal.any(-1)
    if bool(inside.any()):
        out[inside] = _smooth(flat[inside], best[inside], _row(pulls, best)[inside], copies[inside])
    return torch.where(flat.isfinite().all(-1).all(-1, keepdim=True), out, torch.nan).reshape(*x.shape[:-2], d)


def residual(x: Tensor, y: Tensor) -> Tensor:
    """How far y is from satisfying the optimality condition: max(0, ‖Σ_{x_i≠y} (x_i − y)/‖x_i − y‖‖ − #{x_i = y}).

    x ``(..., n, d)``, y ``(..., d)`` → ``(...,)``: at a minimiser 0.
    """
    away = x - y.unsqueeze(-2)
    r = torch.linalg.vector_norm(away, dim=-1)
    pull = (away / torch.where(r == 0, 1, r).unsqueeze(-1)).sum(-2)
    return (torch.linalg.vector_norm(pull, dim=-1) - (r == 0).sum(-1)).clamp(min=0)


def _row(x: Tensor, index: Tensor) -> Tensor:
    return x[torch.arange(len(x), device=x.device), index]


def _at_data_points(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For every data point: Σ of the unit vectors to the others ``(B, n, d)``, its copies ``(B, n)``, and the sum of
    the distances from it ``(B, n)``."""
    n, d = x.shape[1:]
    pulls, copies, heights = torch.empty_like(x), torch.empty_like(x[..., 0]), torch.empty_like(x[..., 0])
    width = max(1, TOGETHER // (n * d))
    for k in range(0, n, width):
        part = slice(k, k + width)
        away = x.unsqueeze(1) - x[:, part].unsqueeze(2)
        r = torch.linalg.vector_norm(away, dim=-1)
        same = r == 0
        pulls[:, part] = (away / torch.where(same, 1, r).unsqueeze(-1)).sum(2)
        copies[:, part] = same.sum(-1)
        heights[:, part] = r.sum(-1)
    return pulls, copies, heights


def _rise(away: Tensor, steps: Tensor) -> Tensor:
    """Σ_i (‖away_i − step‖ − ‖away_i‖) without cancellation: away ``(B, n, d)``, steps ``(B, C, d)`` → ``(B, C)``."""
    away, steps = away.unsqueeze(1), steps.unsqueeze(2)
    lengths = torch.linalg.vector_norm(away, dim=-1) + torch.linalg.vector_norm(away - steps, dim=-1)
    return ((steps * (steps - 2 * away)).sum(-1) / torch.where(lengths == 0, 1, lengths)).sum(-1)


def _smooth(x: Tensor, best: Tensor, pull: Tensor, copies: Tensor) -> Tensor:
    """The minimiser where no data point is one: x ``(B, n, d)``, ``best (B,)`` the lowest data point → ``(B, d)``."""
    base = _row(x, best)
    away = x - base.unsqueeze(1)
    r = torch.linalg.vector_norm(away, dim=-1)
    inverse = torch.where(r == 0, 0, 1 / torch.where(r == 0, 1, r)).sum(-1, keepdim=True)
    length = torch.linalg.vector_norm(pull, dim=-1, keepdim=True)
    start = (1 - _row(copies, best).unsqueeze(-1) / length) * pull / inverse
    offset = _descend(away, start)
    # once more relative to the nearest data point, which may be very close
    near = torch.linalg.vector_norm(away - offset.unsqueeze(1), dim=-1).argmin(-1)
    shift = _row(away, near)
    return base + shift + _descend(x - _row(x, near).unsqueeze(1), offset - shift)


def _descend(points: Tensor, y: Tensor) -> Tensor:
    """Newton's method for Σ ‖points_i − y‖ from y ``(B, d)``, which must be no data point."""
    y = y.clone()
    n = points.shape[1]
    active = torch.arange(len(y), device=y.device)
    for k in range(STEPS):
        x, at = (points, y.clone()) if len(active) == len(y) else (points[active], y[active])
        gradient, newton, weiszfeld = _steps(x, at)
        size = torch.linalg.vector_norm(gradient, dim=-1)
        move = size > RESIDUAL * n
        if not bool(move.any()):
            break
        blur = RESIDUAL * n * torch.linalg.vector_norm(newton, dim=-1)
        rise = _rise(x - at.unsqueeze(1), newton.unsqueeze(1)).squeeze(1)
        careful = move & ~((_size(x, at + newton) <= size / 2) & (rise <= blur))
        step = newton
        if bool(careful.any()):
            some = (v[careful] for v in (x, at, newton, weiszfeld, size))
            step[careful], move[careful] = _careful(*some, valley=k >= RULE)
        move &= (at + step != at).any(-1)
        y[active[move]] = (at + step)[move]
        active = active[move]
        if not len(active):
            break
    return y


def _careful(
    x: Tensor, at: Tensor, newton: Tensor, weiszfeld: Tensor, size: Tensor, *, valley: bool
) -> tuple[Tensor, Tensor]:
    """(step, whether it is worth taking) where Newton's own step does not halve the gradient's norm ``size (B,)``.

    Far from the solution that is the step that leads lowest; near it, where heights drown in rounding, the one with the
    smaller gradient. ``valley``: steps towards every data point as well, along a nearly flat valley.
    """
    n = x.shape[1]
    steps = torch.stack([*(t * newton for t in DAMPING), weiszfeld], dim=1)
    sizes = torch.stack([_size(x, at + newton), _size(x, at + weiszfeld)], dim=1)
    smaller, least = sizes.argmin(-1) * len(DAMPING), sizes.amin(-1)
    if valley:
        steps = torch.cat([steps, (x - at.unsqueeze(1)) / 2], dim=1)
    rise = _rise(x - at.unsqueeze(1), steps)
    rise = torch.where(rise.isnan(), torch.inf, rise)
    flat = (rise >= -RESIDUAL * n * torch.linalg.vector_norm(steps, dim=-1)).all(-1)
    choice = torch.where((least <= RESIDUAL * n) | flat, smaller, rise.argmin(-1))
    return _row(steps, choice), ~(flat & (least > size / 2))


def _size(x: Tensor, y: Tensor) -> Tensor:
    """‖Σ (y − x_i)/‖y − x_i‖‖ at y ``(B, d)``."""
    away = x - y.unsqueeze(1)
    r = torch.linalg.vector_norm(away, dim=-1, keepdim=True)
    return torch.linalg.vector_norm((away / r.clamp(min=torch.finfo(x.dtype).tiny)).sum(1), dim=-1)


def _steps(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient, Newton's step and Weiszfeld's step ``(B, d)`` of Σ ‖x_i − y‖ at y.

    With r_i = ‖x_i − y‖, a = Σ 1/r_i and W = [(x_i − y)/(r_i √(r_i a))] the Hessian is a (I − W Wᵀ).
    """
    away = x - y.unsqueeze(1)
    r = torch.linalg.vector_norm(away, dim=-1)
    r = torch.where(r == 0, torch.finfo(x.dtype).tiny, r)
    gradient = -(away / r.unsqueeze(-1)).sum(1)
    a = (1 / r).sum(-1, keepdim=True)
    W = away / (r * (r * a).sqrt()).unsqueeze(-1)
    n, d = x.shape[1:]
    scaled = -gradient / a
    if d <= n:
        newton = _solved(W.mT @ W, scaled)
    else:
        newton = scaled + (W * _solved(W @ W.mT, (W @ scaled.unsqueeze(-1)).squeeze(-1)).unsqueeze(-1)).sum(1)
    usable = newton.isfinite().all(-1, keepdim=True) & ((newton * gradient).sum(-1, keepdim=True) < 0)
    return gradient, torch.where(usable, newton, scaled), scaled


def _solved(gram: Tensor, right: Tensor) -> Tensor:
    """(I − gram)⁻¹ right, non-finite where singular."""
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve_ex(eye - gram, right.unsqueeze(-1)).result.squeeze(-1)
