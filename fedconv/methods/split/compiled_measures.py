"""What the fused engine measures in a round: the rows of its table and the sums behind them.

``s`` is a ``Setting`` and ``b`` a ``Scratch`` of ``fedconv.methods.split.compiled_rounds``; ``out`` is a column of the
table.
"""

from __future__ import annotations

from fedconv.problems.compiled.jit import njit
from fedconv.problems.compiled.lifted_losses import grad_u_at, grad_v_at, value_at

MEASURES = (
    ("F", 1),
    ("grad_u_sq", 1),
    ("grad_v_sq", 1),
    ("diversity", 1),
    ("grad_u_virtual_sq", 1),
    ("diversity_virtual", 1),
    ("drift_u", 2),
    ("drift_v", 2),
    ("displacement", 2),
    ("l6_gap_sq", 2),
    ("l7_sampled", 2),
    ("l7_full", 2),
    ("l7_real_sampled", 2),
    ("l7_real_full", 2),
)
"""Rows of the kernels' table ``out (14, R, T)`` with the level that fills them (1 stationarity, 2 proof)."""

F, GRAD_U, GRAD_V, DIVERSITY, GRAD_U_VIRTUAL, DIVERSITY_VIRTUAL = 0, 1, 2, 3, 4, 5
DRIFT_U, DRIFT_V, DISPLACEMENT, L6_GAP, L7_SAMPLED, L7_FULL, L7_REAL_SAMPLED, L7_REAL_FULL = range(6, 14)
MEASURED = {"reassoc", "contract"}
"""What the compiler may do to sums that are only measured; NaN and inf stay what they are."""


@njit(forceinline=True, fastmath=MEASURED)
def dot(a, b):
    total = 0.0
    for l in range(a.size):
        total += a[l] * b[l]
    return total


@njit(forceinline=True, fastmath=MEASURED)
def distance_sq(x, a, y, c):
    """‖x_a − y_c‖² for rows of lifted arrays."""
    total = 0.0
    for l in range(x.shape[2]):
        total += (x[0, a, l] - y[0, c, l]) ** 2
    return total


@njit()
def objective(s, b):
    """F(u, V)."""
    total = 0.0
    for i in range(b.v.shape[1]):
        total += value_at(s.code, s.p, i, b.u, 0, b.v, i)
    return total / b.v.shape[1]


@njit()
def shared_gradient(s, b, v, by_position, each, mean):
    """mean ← ∇_uF(u, V), each_j ← ∇_uF_i(u, v_i) for the client i at position j, whose row in v is i or, where
    ``by_position``, j. Returns the diversity (1/n) Σ_i ‖∇_uF_i − ∇_uF‖²."""
    n, d = each.shape
    mean[:] = 0.0
    b.sum_u[:] = 0.0
    for j in range(n):
        i = b.order[j]
        grad_u_at(s.code, s.p, i, b.u, 0, v, j if by_position else i, b.g_u)
        for l in range(d):
            each[j, l] = b.g_u[l]
            mean[l] += b.g_u[l]
    for l in range(d):
        mean[l] /= n
    for j in range(n):
        for l in range(d):
            b.sum_u[l] += (each[j, l] - mean[l]) ** 2
    return b.sum_u.sum() / n


@njit()
def measure_state(s, b, out):
    """F, ‖∇_uF‖², Y and the diversity at (u^t, V^t)."""
    n = b.v.shape[1]
    out[F] = objective(s, b)
    out[DIVERSITY] = shared_gradient(s, b, b.v, False, b.each, b.mean)
    out[GRAD_U] = dot(b.mean, b.mean)
    b.sum_v[:] = 0.0
    for i in range(n):
        grad_v_at(s.code, s.p, i, b.u, 0, b.v, i, b.g_v)
        for l in range(b.g_v.size):
            b.sum_v[l] += b.g_v[l] ** 2
    out[GRAD_V] = b.sum_v.sum() / n


@njit()
def measure_virtual(s, b, out):
    """‖∇_uF‖² and the diversity at (u^t, Ṽ^{t+1})."""
    out[DIVERSITY_VIRTUAL] = shared_gradient(s, b, b.w, True, b.each_virtual, b.mean_virtual)
    out[GRAD_U_VIRTUAL] = dot(b.mean_virtual, b.mean_virtual)


@njit()
def measure_proof(s, b, g, out):
    """Displacement, the left side of L6 and both sides of L7, from the shared gradients at V^t and Ṽ^{t+1};
    ``g``: the measured gradient. Only the absent clients differ between V⁺ and Ṽ^{t+1}."""
    n, total = b.v.shape[1], 0.0
    for j in range(n):
        total += distance_sq(b.w, j, b.v, b.order[j])
    out[DISPLACEMENT] = total / n
    gap_sq, virtual_sampled, virtual_full, real_sampled, real_full = 0.0, 0.0, 0.0, 0.0, 0.0
    for l in range(g.size):
        gap = 0.0
        for j in range(s.m, n):
            gap += b.each[j, l] - b.each_virtual[j, l]
        gap /= n
        after = b.mean_virtual[l] + gap
        y, y_mean = b.y[l], (b.y[l] + b.y_absent[l]) / n
        gap_sq += gap * gap
        virtual_sampled += g[l] * (y + b.z[l])
        virtual_full += g[l] * y_mean
        real_sampled += after * y
        real_full += after * y_mean
    out[L6_GAP] = gap_sq
    out[L7_SAMPLED] = virtual_sampled / s.m
    out[L7_FULL] = virtual_full
    out[L7_REAL_SAMPLED] = real_sampled / s.m
    out[L7_REAL_FULL] = real_full
