"""Clients in clusters: those of a cluster want the same model up to noise, those of different clusters do not."""

from __future__ import annotations

import math

import numpy as np

from fedconv.problems.errors import InputError
from fedconv.problems.targets.base import QuadraticTargets
from fedconv.problems.targets.samples import SampleTargets
from fedconv.problems.validation import Count, NotNegative, Positive, Size


def centres(groups: int, d: int, separation: float) -> np.ndarray:
    """Centres ``(groups, d)``, every two of them ``separation`` apart, their mean at 0.

    Raises InputError where d < groups − 1 dimensions do not hold them.
    """
    if d < groups - 1:
        raise InputError(f"groups must be at most d_u + d_v + 1 = {d + 1}, so that centres can be equally far; got"
                         f" {groups}")  # fmt: skip
    simplex = np.eye(groups) - 1.0 / groups
    basis = np.linalg.svd(simplex)[2][: groups - 1]
    out = np.zeros((groups, d))
    out[:, : groups - 1] = separation / math.sqrt(2.0) * simplex @ basis.T
    return out


def build(
    *,
    n: Count,
    groups: Count = 2,
    d_u: Size = 0,
    d_v: Size = 2,
    curvature: Positive = 1.0,
    separation: Positive = 4.0,
    bias: NotNegative = 0.0,
    within: NotNegative = 0.0,
    shift: Size = 0,
    seed: Size = 0,
) -> QuadraticTargets:
    """L_i = (a/2)‖θ − c_i‖², training on (a/2)‖θ − b_i‖², ‖b_i − c_i‖ = ``bias`` exactly (z of Theorem 4 of the theory
    page on FedFomo).

    Client i belongs to cluster i mod ``groups``; centres are ``separation`` apart. c_i is the cluster's centre plus
    ``within`` times a random unit vector. ``shift``: a client's training data are those of its own cluster, its target
    that of the cluster ``shift`` further on.
    """
    d = d_u + d_v
    _check(d, groups, n)
    rng = np.random.default_rng(seed)
    middle, mine = centres(groups, d, separation), np.arange(n) % groups
    apart, error = within * _units(rng, n, d), bias * _units(rng, n, d)
    eye = np.broadcast_to(curvature * np.eye(d), (n, d, d))
    c = middle[(mine + shift) % groups] + apart
    return QuadraticTargets(A=eye, b=middle[mine] + apart + error, H=eye, c=c, d_u=d_u)


def build_samples(
    *,
    n: Count,
    samples: Count = 8,
    validation: Count = 8,
    groups: Count = 2,
    d_u: Size = 0,
    d_v: Size = 2,
    curvature: Positive = 1.0,
    separation: Positive = 4.0,
    deviation: NotNegative = 1.0,
    shift: Size = 0,
    seed: Size = 0,
) -> SampleTargets:
    """Clients of the same clusters with ``samples`` training and ``validation`` validation points each, normal around
    their cluster's centre with standard deviation ``deviation`` in every coordinate."""
    d = d_u + d_v
    _check(d, groups, n)
    rng = np.random.default_rng(seed)
    middle, mine = centres(groups, d, separation), np.arange(n) % groups
    c = middle[(mine + shift) % groups]
    X = middle[mine][:, None] + deviation * rng.standard_normal((n, samples, d))
    Y = c[:, None] + deviation * rng.standard_normal((n, validation, d))
    return SampleTargets(X=X, Y=Y, curvature=curvature, c=c, variance=np.full(n, d * deviation**2), d_u=d_u)


def _check(d: int, groups: int, n: int) -> None:
    if d == 0:
        raise InputError("d_v must be at least 1 where d_u = 0; got 0")
    if groups > n:
        raise InputError(f"groups must be at most n = {n}; got {groups}")


def _units(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    draws = rng.standard_normal((n, d))
    return draws / np.linalg.norm(draws, axis=1, keepdims=True)
