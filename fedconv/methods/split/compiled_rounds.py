"""The compiled rounds of the fused engine: plain loops, one replicate at a time, nothing allocated in a round.

:func:`fedalt` and :func:`fedsim` are the two boxes; the functions above them are their local phases. Points are lifted
arrays ``(3, rows, d)`` (see ``fedconv.problems.compiled.lifted_losses``). No fast-math in the steps: what is measured
never changes how a step is rounded.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fedconv.core.streams import Cause, sample_cohort
from fedconv.methods.split.compiled_measures import (
    DRIFT_U,
    DRIFT_V,
    distance_sq,
    measure_proof,
    measure_state,
    measure_virtual,
    objective,
)
from fedconv.problems.compiled.jit import njit
from fedconv.problems.compiled.lifted_losses import grad_u_at, grad_v_at, lift
from fedconv.problems.compiled.xoshiro import seed_state
from fedconv.problems.noise import fill_row

COHORT, NOISE_U, NOISE_V = int(Cause.COHORT), int(Cause.NOISE_U), int(Cause.NOISE_V)
ABSENT_NOISE_U, ABSENT_NOISE_V = int(Cause.ABSENT_NOISE_U), int(Cause.ABSENT_NOISE_V)


class Setting(NamedTuple):
    """Everything that stays fixed in a block: the problem's kernel, the algorithm, the noise, the level (0 none,
    1 stationarity, 2 proof). ``common``: both blocks read the same draws (FedSim's noise with dependence full).
    ``correlation``: κ where FedSim's v draws are mixed from u's and their own, with weight ``remainder`` = √(1−κ²); 0
    where they are not.
    ``virtual``: FedAlt's virtual full participation is measured too (levels 1 and 2)."""

    code: int
    p: Any
    m: int
    tau_u: int
    tau_v: int
    gamma_u: float
    gamma_v: float
    law_u: int
    law_v: int
    parameter: float
    scale_u: float
    scale_v: float
    common: bool
    correlation: float
    remainder: float
    level: int
    virtual: bool


class Scratch(NamedTuple):
    """Work arrays of one block, allocated once.

    ``order (n,)``: the cohort, then the absent; a client's place there is its position. ``stream (4,)``: a
    generator's state. ``xi_u``, ``xi_v``: standardised noise of a round, position after position.
    Lifted points: ``u (3, 1, d_u)``: u^t; ``v (3, n, d_v)``: V^t by client; ``x (3, n, d_u)``, ``w (3, n, d_v)``:
    local iterates u_{i,k}, v_{i,k} by position, in the end Ṽ^{t+1}. ``g_u``, ``g_v``: a gradient.
    ``each``, ``each_virtual (n, d_u)``: ∇_uF_i at V^t and at Ṽ^{t+1} by position, with their means. ``y``, ``z``:
    Σ_{i∈S} of y_i and z_i; ``y_absent``, ``z_absent``: the same over the absent. ``sum_u``, ``sum_v``: sums over
    clients.
    """

    order: Any
    stream: Any
    xi_u: Any
    xi_v: Any
    u: Any
    v: Any
    x: Any
    w: Any
    g_u: Any
    g_v: Any
    each: Any
    each_virtual: Any
    mean: Any
    mean_virtual: Any
    y: Any
    z: Any
    y_absent: Any
    z_absent: Any
    sum_u: Any
    sum_v: Any


def scratch(s: Setting, n: int, d_u: int, d_v: int) -> Scratch:
    """Fresh work arrays."""
    names = ("g_u", "mean", "mean_virtual", "y", "z", "y_absent", "z_absent", "sum_u")
    return Scratch(
        order=np.empty(n, dtype=np.int64),
        stream=np.empty(4, dtype=np.uint64),
        xi_u=np.zeros(n * s.tau_u * (max(d_u, d_v) if s.common or s.correlation else d_u)),
        xi_v=np.zeros(n * s.tau_v * d_v),
        u=np.zeros((3, 1, d_u)),
        v=np.zeros((3, n, d_v)),
        x=np.zeros((3, n, d_u)),
        w=np.zeros((3, n, d_v)),
        each=np.zeros((n, d_u)),
        each_virtual=np.zeros((n, d_u)),
        g_v=np.zeros(d_v),
        sum_v=np.zeros(d_v),
        **{name: np.zeros(d_u) for name in names},
    )


@njit(forceinline=True)
def copy(x, a, y, c):
    """Row c of y ← row a of x, lifted."""
    for q in range(3):
        for l in range(x.shape[2]):
            y[q, c, l] = x[q, a, l]


@njit(forceinline=True)
def step(x, a, gamma, g, scale, xi, first):
    """x_a ← x_a − γ (g + noise); sines and cosines are left for :func:`lift`."""
    for l in range(g.size):
        x[0, a, l] -= gamma * (g[l] + scale * xi[first + l])


@njit(forceinline=True)
def tally(y, z, g, scale, xi, first):
    """Add a gradient to y and its noise to z."""
    for l in range(g.size):
        y[l] += g[l]
        z[l] += scale * xi[first + l]


@njit()
def personal_phase(s, b, first, last):
    """LocalAlt's personal steps at u of the clients i at positions j = first .. last − 1: w_j ← v_{i,τ_v}, from v_i.
    The clients step together. Returns Σ_i Σ_k ‖v_{i,k} − v_i‖² (proof)."""
    d, drift = b.w.shape[2], 0.0
    for j in range(first, last):
        copy(b.v, b.order[j], b.w, j)
    for k in range(s.tau_v):
        for j in range(first, last):
            i = b.order[j]
            if s.level == 2:
                drift += distance_sq(b.w, j, b.v, i)
            grad_v_at(s.code, s.p, i, b.u, 0, b.w, j, b.g_v)
            step(b.w, j, s.gamma_v, b.g_v, s.scale_v, b.xi_v, (j * s.tau_v + k) * d)
        lift(s.code, b.w, first, last)
    return drift


@njit()
def shared_phase(s, b, first, last, y, z):
    """LocalAlt's shared steps of the clients i at positions j = first .. last − 1: x_j ← u_{i,τ_u}, from u at their new
    w_j. Adds Σ_i Σ_k ∇_uF_i to y and the noise's sum to z; returns Σ_i Σ_k ‖u_{i,k} − u‖² (proof)."""
    d, drift = b.x.shape[2], 0.0
    for j in range(first, last):
        copy(b.u, 0, b.x, j)
    for k in range(s.tau_u):
        for j in range(first, last):
            grad_u_at(s.code, s.p, b.order[j], b.x, j, b.w, j, b.g_u)
            if s.level == 2:
                drift += distance_sq(b.x, j, b.u, 0)
                tally(y, z, b.g_u, s.scale_u, b.xi_u, (j * s.tau_u + k) * d)
            step(b.x, j, s.gamma_u, b.g_u, s.scale_u, b.xi_u, (j * s.tau_u + k) * d)
        if k + 1 < s.tau_u:
            lift(s.code, b.x, first, last)
    return drift


@njit()
def both_phases(s, b, first, last, y, z):
    """LocalSim of the clients i at positions j = first .. last − 1 from (u, v_i): x_j ← u_{i,τ}, w_j ← v_{i,τ}; y, z as
    in :func:`shared_phase`. Returns both drifts."""
    d_u, d_v, drift_u, drift_v = b.x.shape[2], b.w.shape[2], 0.0, 0.0
    width_u = max(d_u, d_v) if s.common or s.correlation != 0.0 else d_u
    width_v = width_u if s.common else d_v
    xi_v = b.xi_u if s.common else b.xi_v
    for j in range(first, last):
        copy(b.u, 0, b.x, j)
        copy(b.v, b.order[j], b.w, j)
    for k in range(s.tau_u):
        for j in range(first, last):
            i = b.order[j]
            grad_u_at(s.code, s.p, i, b.x, j, b.w, j, b.g_u)
            grad_v_at(s.code, s.p, i, b.x, j, b.w, j, b.g_v)
            if s.level == 2:
                drift_u += distance_sq(b.x, j, b.u, 0)
                drift_v += distance_sq(b.w, j, b.v, i)
                tally(y, z, b.g_u, s.scale_u, b.xi_u, (j * s.tau_u + k) * width_u)
            step(b.x, j, s.gamma_u, b.g_u, s.scale_u, b.xi_u, (j * s.tau_u + k) * width_u)
            step(b.w, j, s.gamma_v, b.g_v, s.scale_v, xi_v, (j * s.tau_u + k) * width_v)
        lift(s.code, b.w, first, last)
        if k + 1 < s.tau_u:
            lift(s.code, b.x, first, last)
    return drift_u, drift_v


@njit()
def begin(s, b, u, v):
    """The start of a replicate."""
    for l in range(u.size):
        b.u[0, 0, l] = u[l]
    for i in range(v.shape[0]):
        for l in range(v.shape[1]):
            b.v[0, i, l] = v[i, l]
    lift(s.code, b.u, 0, 1)
    lift(s.code, b.v, 0, v.shape[0])


@njit()
def end(s, b, u, v):
    """The end of a replicate: u ← u^T, v ← V^T; returns F(u^T, V^T)."""
    for l in range(u.size):
        u[l] = b.u[0, 0, l]
    for i in range(v.shape[0]):
        for l in range(v.shape[1]):
            v[i, l] = b.v[0, i, l]
    return objective(s, b)


@njit()
def begin_round(s, b, keys, replicate, t, sampled):
    """Draw the cohort and the sampled clients' noise; clear the round's sums."""
    seed_state(keys[COHORT], replicate, t, b.stream)
    sample_cohort(b.stream, s.m, b.order, sampled)
    draw_u(s, b, keys[NOISE_U], replicate, t, 0, s.m)
    draw_v(s, b, keys[NOISE_V], replicate, t, 0, s.m)
    mix(s, b, 0, s.m)
    for total in (b.y, b.z, b.y_absent, b.z_absent):
        total[:] = 0.0


@njit()
def draw_u(s, b, key, replicate, t, first, last):
    """Standardised noise of the u block in round t (of both blocks, where common) for the clients at positions
    first .. last − 1."""
    if s.law_u:
        size = b.xi_u.size // b.order.size
        seed_state(key, replicate, t, b.stream)
        fill_row(s.law_u, s.parameter, b.stream, b.xi_u[first * size : last * size])


@njit()
def draw_v(s, b, key, replicate, t, first, last):
    """The same for the v block."""
    if s.law_v:
        size = b.xi_v.size // b.order.size
        seed_state(key, replicate, t, b.stream)
        fill_row(s.law_v, s.parameter, b.stream, b.xi_v[first * size : last * size])


@njit()
def mix(s, b, first, last):
    """Where correlated: v's draws ← κ (u's) + √(1−κ²) (their own), for the clients at positions first .. last − 1."""
    if s.correlation != 0.0:
        d, width = b.w.shape[2], b.xi_u.size // (b.order.size * s.tau_u)
        for row in range(first * s.tau_u, last * s.tau_u):
            for l in range(d):
                own = s.remainder * b.xi_v[row * d + l]
                b.xi_v[row * d + l] = s.correlation * b.xi_u[row * width + l] + own


@njit()
def end_round(s, b):
    """The server: u ← (1/m) Σ_{i∈S} u_{i,τ_u}; v_i ← ṽ_i for i ∈ S."""
    if s.tau_u:
        for l in range(b.u.shape[2]):
            total = 0.0
            for j in range(s.m):
                total += b.x[0, j, l]
            b.u[0, 0, l] = total / s.m
        lift(s.code, b.u, 0, 1)
    for j in range(s.m):
        copy(b.w, j, b.v, b.order[j])


@njit(nogil=True)
def fedalt(s, b, keys, replicates, T, start_u, start_v, cohort, out, F_final, u_final, v_final):
    """FedAlt. Each round t: a cohort S of m of the n clients; every client i ∈ S runs LocalAlt,

        v_{i,0} = v_i^t;  v_{i,k+1} = v_{i,k} − γ_v ∇̃_vF_i(u^t, v_{i,k})           for k = 0..τ_v−1
        u_{i,0} = u^t;    u_{i,k+1} = u_{i,k} − γ_u ∇̃_uF_i(u_{i,k}, v_i^{t+1})     for k = 0..τ_u−1

    with v_i^{t+1} = v_{i,τ_v}; then u^{t+1} = (1/m) Σ_{i∈S} u_{i,τ_u} and v_i^{t+1} = v_i^t for i ∉ S.

    Fills ``cohort (R, T, n)``, ``out (14, R, T)`` and the final values. Where something is measured at Ṽ^{t+1}, the
    absent clients run their virtual steps with noise of their own.
    """
    n = b.order.size
    for r in range(replicates.size):
        begin(s, b, start_u, start_v)
        for t in range(T):
            row = out[:, r, t]
            begin_round(s, b, keys, replicates[r], t, cohort[r, t])
            drift_v = personal_phase(s, b, 0, s.m)
            drift_u = shared_phase(s, b, 0, s.m, b.y, b.z)
            if s.level >= 1:
                measure_state(s, b, row)
            if s.virtual:
                draw_v(s, b, keys[ABSENT_NOISE_V], replicates[r], t, s.m, n)
                drift_v += personal_phase(s, b, s.m, n)
                measure_virtual(s, b, row)
            if s.level == 2:
                draw_u(s, b, keys[ABSENT_NOISE_U], replicates[r], t, s.m, n)
                drift_u += shared_phase(s, b, s.m, n, b.y_absent, b.z_absent)
                row[DRIFT_U], row[DRIFT_V] = drift_u / n, drift_v / n
                measure_proof(s, b, b.mean_virtual, row)
            end_round(s, b)
        F_final[r] = end(s, b, u_final[r], v_final[r])


@njit(nogil=True)
def fedsim(s, b, keys, replicates, T, start_u, start_v, cohort, out, F_final, u_final, v_final):
    """FedSim. Each round t: a cohort S of m of the n clients; every client i ∈ S runs LocalSim,

        (u_{i,0}, v_{i,0}) = (u^t, v_i^t);  for k = 0..τ−1:
        (u_{i,k+1}, v_{i,k+1}) = (u_{i,k} − γ_u ∇̃_uF_i(u_{i,k}, v_{i,k}),  v_{i,k} − γ_v ∇̃_vF_i(u_{i,k}, v_{i,k}));

    then u^{t+1} = (1/m) Σ_{i∈S} u_{i,τ}, v_i^{t+1} = v_{i,τ} for i ∈ S and v_i^t for i ∉ S.

    Arguments as in :func:`fedalt`; the absent clients' virtual steps are needed for the proof's terms only.
    """
    n = b.order.size
    for r in range(replicates.size):
        begin(s, b, start_u, start_v)
        for t in range(T):
            row = out[:, r, t]
            begin_round(s, b, keys, replicates[r], t, cohort[r, t])
            drift_u, drift_v = both_phases(s, b, 0, s.m, b.y, b.z)
            if s.level >= 1:
                measure_state(s, b, row)
            if s.level == 2:
                draw_u(s, b, keys[ABSENT_NOISE_U], replicates[r], t, s.m, n)
                draw_v(s, b, keys[ABSENT_NOISE_V], replicates[r], t, s.m, n)
                mix(s, b, s.m, n)
                absent_u, absent_v = both_phases(s, b, s.m, n, b.y_absent, b.z_absent)
                row[DRIFT_U], row[DRIFT_V] = (drift_u + absent_u) / n, (drift_v + absent_v) / n
                measure_virtual(s, b, row)
                measure_proof(s, b, b.mean, row)
            end_round(s, b)
        F_final[r] = end(s, b, u_final[r], v_final[r])
