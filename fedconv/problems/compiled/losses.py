"""Losses and partial gradients of one client as compiled scalar loops, for the fused engine.

A problem hands over a family code and six float64 arrays of three dimensions (``pack``); the slot ``SLOT`` is λ of
full personalization and is never used by a family itself.
"""

from __future__ import annotations

import math

import numpy as np

from fedconv.problems.compiled.jit import njit

TRIGONOMETRIC = 0
QUADRATIC = 1
RESIDUALS = 2
LEAST_SQUARES = 3
"""½‖Au + Bv − c‖², with the arrays of residuals."""
PERSONALIZED = 100
"""Added to a family's code: f_i(v) + (λ/2)‖v − u‖² over that family with an empty u."""

SLOT = 5


def pack(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Up to five arrays of one to three dimensions as the six 3-D arrays of a kernel (leading axes of size 1 added)."""
    if len(arrays) > SLOT:
        raise ValueError(f"a family has at most {SLOT} arrays; got {len(arrays)}")
    padded = [np.ascontiguousarray(x, dtype=np.float64).reshape((1,) * (3 - x.ndim) + x.shape) for x in arrays]
    empty = np.zeros((1, 1, 1))
    return tuple(padded + [empty] * (SLOT + 1 - len(padded)))


@njit()
def value(code, p, i, u, v):
    """F_i(u, v)."""
    if code >= PERSONALIZED:
        total = _family_value(code - PERSONALIZED, p, i, u[:0], v)
        for k in range(v.size):
            total += 0.5 * p[SLOT][0, 0, 0] * (v[k] - u[k]) ** 2
        return total
    return _family_value(code, p, i, u, v)


@njit()
def grad_u(code, p, i, u, v, out):
    """Fill ``out (d_u,)`` with ∇_uF_i(u, v)."""
    if code >= PERSONALIZED:
        lam = p[SLOT][0, 0, 0]
        for k in range(u.size):
            out[k] = lam * (u[k] - v[k])
    elif code == TRIGONOMETRIC:
        a, kappa, h = p[0][0, 0], p[2][0, 0], p[3][i, 0]
        for k in range(u.size):
            out[k] = a[k] * math.sin(u[k]) + h[k]
        for k in range(kappa.size):
            out[k] += kappa[k] * math.cos(u[k]) * math.sin(v[k])
    elif code == QUADRATIC:
        A, C, a = p[0][i], p[2][i], p[3][i, 0]
        for k in range(u.size):
            total = -a[k]
            for j in range(u.size):
                total += A[k, j] * u[j]
            for j in range(v.size):
                total += C[k, j] * v[j]
            out[k] = total
    else:
        A, B, c = p[0][i], p[1][i], p[2][i, 0]
        out[:] = 0.0
        for j in range(c.size):
            slope = _slope(code, A[j], B[j], c[j], u, v)
            for k in range(u.size):
                out[k] += slope * A[j, k]


@njit()
def grad_v(code, p, i, u, v, out):
    """Fill ``out (d_v,)`` with ∇_vF_i(u, v)."""
    if code >= PERSONALIZED:
        lam = p[SLOT][0, 0, 0]
        _family_grad_v(code - PERSONALIZED, p, i, u[:0], v, out)
        for k in range(v.size):
            out[k] += lam * (v[k] - u[k])
    else:
        _family_grad_v(code, p, i, u, v, out)


@njit()
def _family_grad_v(code, p, i, u, v, out):
    if code == TRIGONOMETRIC:
        b, kappa, s = p[1][0, 0], p[2][0, 0], p[4][i, 0]
        for k in range(v.size):
            out[k] = b[k] * math.sin(v[k] - s[k])
        for k in range(min(kappa.size, u.size)):
            out[k] += kappa[k] * math.sin(u[k]) * math.cos(v[k])
    elif code == QUADRATIC:
        B, C, b = p[1][i], p[2][i], p[4][i, 0]
        for k in range(v.size):
            total = -b[k]
            for j in range(v.size):
                total += B[k, j] * v[j]
            for j in range(u.size):
                total += C[j, k] * u[j]
            out[k] = total
    else:
        A, B, c = p[0][i], p[1][i], p[2][i, 0]
        out[:] = 0.0
        for j in range(c.size):
            slope = _slope(code, A[j], B[j], c[j], u, v)
            for k in range(v.size):
                out[k] += slope * B[j, k]


@njit()
def _family_value(code, p, i, u, v):
    total = 0.0
    if code == TRIGONOMETRIC:
        a, b, kappa, h, s = p[0][0, 0], p[1][0, 0], p[2][0, 0], p[3][i, 0], p[4][i, 0]
        for k in range(u.size):
            total += a[k] * (1.0 - math.cos(u[k])) + h[k] * u[k]
        for k in range(v.size):
            total += b[k] * (1.0 - math.cos(v[k] - s[k]))
        for k in range(min(kappa.size, u.size)):
            total += kappa[k] * math.sin(u[k]) * math.sin(v[k])
    elif code == QUADRATIC:
        A, B, C, a, b = p[0][i], p[1][i], p[2][i], p[3][i, 0], p[4][i, 0]
        for k in range(u.size):
            row = -a[k]
            for j in range(u.size):
                row += 0.5 * A[k, j] * u[j]
            for j in range(v.size):
                row += C[k, j] * v[j]
            total += u[k] * row
        for k in range(v.size):
            row = -b[k]
            for j in range(v.size):
                row += 0.5 * B[k, j] * v[j]
            total += v[k] * row
    else:
        A, B, c = p[0][i], p[1][i], p[2][i, 0]
        for j in range(c.size):
            square = _residual(A[j], B[j], c[j], u, v) ** 2
            total += 0.5 * square if code == LEAST_SQUARES else square / (2.0 * (1.0 + square))
    return total


@njit()
def _residual(a, b, c, u, v):
    r = -c
    for k in range(u.size):
        r += a[k] * u[k]
    for k in range(v.size):
        r += b[k] * v[k]
    return r


@njit()
def _slope(code, a, b, c, u, v):
    r = _residual(a, b, c, u, v)
    return r if code == LEAST_SQUARES else r / (1.0 + r * r) ** 2
