"""Losses and partial gradients at points that carry their sines and cosines, for the fused engine's inner loops.

The same functions as in ``fedconv.problems.compiled.losses``, where several evaluations share a point: the sines and
cosines of the coordinates are most of the cost of a trigonometric loss and are computed once, many clients at a time,
by ``lift``. A lifted array is ``(3, rows, d)``: coordinates, their sines, their cosines. Families without sines leave
the last two alone and are evaluated by ``fedconv.problems.compiled.losses``.
"""

from __future__ import annotations

import numpy as np

from fedconv.problems.compiled.jit import njit
from fedconv.problems.compiled.losses import PERSONALIZED, SLOT, TRIGONOMETRIC, grad_u, grad_v, value
from fedconv.problems.compiled.sincos import sincos

_MEASURED = {"reassoc", "contract"}  # what the compiler may do to sums of values; NaN and inf stay what they are


def prepare(code: int, p: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """A family's six arrays and two more, b cos s and b sin s where there are sines."""
    if code % PERSONALIZED == TRIGONOMETRIC:
        b, s = p[1], p[4]
        return (*p, np.ascontiguousarray(b * np.cos(s)), np.ascontiguousarray(b * np.sin(s)))
    return (*p, np.zeros((1, 1, 1)), np.zeros((1, 1, 1)))


@njit(forceinline=True)
def lift(code, x, first, last):
    """Fill in the sines and cosines of the rows first .. last − 1 of ``x (3, rows, d)``."""
    if code == TRIGONOMETRIC or code == PERSONALIZED + TRIGONOMETRIC:
        sincos(x[0, first:last].reshape(-1), x[1, first:last].reshape(-1), x[2, first:last].reshape(-1))


@njit(forceinline=True, fastmath=_MEASURED)
def value_at(code, p, i, u, a, v, c):
    """F_i at row a of ``u (3, ., d_u)`` and row c of ``v (3, ., d_v)``."""
    if code == TRIGONOMETRIC:
        total = _personal_value(p, i, v, c)
        for k in range(u.shape[2]):
            total += p[0][0, 0, k] * (1.0 - u[2, a, k]) + p[3][i, 0, k] * u[0, a, k]
        for k in range(p[2].shape[2]):
            total += p[2][0, 0, k] * u[1, a, k] * v[1, c, k]
        return total
    if code == PERSONALIZED + TRIGONOMETRIC:
        total = _personal_value(p, i, v, c)
        for k in range(v.shape[2]):
            total += 0.5 * p[SLOT][0, 0, 0] * (v[0, c, k] - u[0, a, k]) ** 2
        return total
    return _other_value(code, p, i, u, a, v, c)


@njit(forceinline=True, fastmath=_MEASURED)
def _personal_value(p, i, v, c):
    """Σ b (1 − cos(v − s))."""
    total = 0.0
    for k in range(v.shape[2]):
        total += p[1][0, 0, k] - p[6][i, 0, k] * v[2, c, k] - p[7][i, 0, k] * v[1, c, k]
    return total


@njit(forceinline=True)
def grad_u_at(code, p, i, u, a, v, c, out):
    """Fill ``out (d_u,)`` with ∇_uF_i at row a of u and row c of v."""
    if code == TRIGONOMETRIC:
        for k in range(u.shape[2]):
            out[k] = p[0][0, 0, k] * u[1, a, k] + p[3][i, 0, k]
        for k in range(p[2].shape[2]):
            out[k] += p[2][0, 0, k] * u[2, a, k] * v[1, c, k]
    else:
        _other_grad_u(code, p, i, u, a, v, c, out)


@njit(forceinline=True)
def grad_v_at(code, p, i, u, a, v, c, out):
    """Fill ``out (d_v,)`` with ∇_vF_i at row a of u and row c of v."""
    if code == TRIGONOMETRIC:
        _personal_slope(p, i, v, c, out)
        for k in range(p[2].shape[2]):
            out[k] += p[2][0, 0, k] * u[1, a, k] * v[2, c, k]
    elif code == PERSONALIZED + TRIGONOMETRIC:
        _personal_slope(p, i, v, c, out)
        for k in range(v.shape[2]):
            out[k] += p[SLOT][0, 0, 0] * (v[0, c, k] - u[0, a, k])
    else:
        _other_grad_v(code, p, i, u, a, v, c, out)


@njit(forceinline=True)
def _personal_slope(p, i, v, c, out):
    """b sin(v − s)."""
    for k in range(v.shape[2]):
        out[k] = p[6][i, 0, k] * v[1, c, k] - p[7][i, 0, k] * v[2, c, k]


@njit()
def _other_value(code, p, i, u, a, v, c):
    return value(code, p[:6], i, u[0, a], v[0, c])


@njit()
def _other_grad_u(code, p, i, u, a, v, c, out):
    grad_u(code, p[:6], i, u[0, a], v[0, c], out)


@njit()
def _other_grad_v(code, p, i, u, a, v, c, out):
    grad_v(code, p[:6], i, u[0, a], v[0, c], out)
