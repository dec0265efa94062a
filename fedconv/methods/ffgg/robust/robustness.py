"""How robust an aggregator is proved to be: ‖Agg − x̄_S‖² ≤ κV + β‖x̄_S‖², Theorem 7A of the theory page.

S are the N = n − f honest messages, x̄_S their mean, V = (1/N) Σ_S ‖x_i − x̄_S‖², u = n − 2f. For randomised rules the
left side is an expectation. β > 0 only for centred clipping at 0 (at another centre c read ‖x̄_S − c‖²).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fedconv.methods.ffgg.robust.aggregators import (
    Aggregator,
    CentredClipping,
    GeometricMedian,
    Krum,
    KrumWithoutItself,
    Mean,
    Median,
    MultiKrum,
    TrimmedMean,
)
from fedconv.methods.ffgg.robust.named import check_counts
from fedconv.methods.ffgg.robust.preaggregation import Bucketing, Defence, NearestNeighbourMixing, Nothing, defence_of
from fedconv.problems.errors import InputError
from fedconv.problems.written_for import written_for

if TYPE_CHECKING:
    from fedconv.methods.ffgg.robust.threat import Byzantine


@dataclass(frozen=True)
class Robustness:
    """‖Agg − x̄_S‖² ≤ κV + β‖x̄_S‖²; κ = ∞ where no κ is known, and then ``reason`` is a sentence."""

    kappa: float
    beta: float = 0.0
    randomised: bool = False
    reason: str = ""


def robustness(threat: Byzantine, n: int) -> Robustness:
    """κ and β of the defence in ``[byzantine]`` with n clients. Raises InputError for settings that cannot be."""
    return robustness_of(defence_of(threat), n, threat.f)


def robustness_of(defence: Defence, n: int, f: int) -> Robustness:
    """κ and β of an aggregator after its pre-step with f attackers among n messages.

    NNM: (8f/N)(1 + κ). Bucketing into b = ⌈n/s⌉ groups, the last of r: (√(κ(b, f)(σ − η)) + √η)² with
    σ = (Nh−1)/(N−1), η = (Nh/g−1)/(N−1), g = b − f, h = ((g−1)/s + 1/r)/g. Raises InputError for settings that cannot
    be.
    """
    defence.check(n, f)
    aggregator, pre = defence.aggregator, defence.pre
    if not written_for(pre, Nothing, Bucketing, NearestNeighbourMixing):
        raise InputError(f"κ is known for the pre-steps of the theory page's table only; got {type(pre).__name__}")
    inner = kappa_of(aggregator, pre.rows(n), f)
    inner = replace(inner, randomised=pre.randomised)
    N = n - f
    if written_for(pre, Nothing) or not math.isfinite(inner.kappa):
        return inner
    if inner.beta:
        return replace(
            inner, kappa=math.inf, beta=0.0, reason=f"no κ is known for centred clipping after {pre.name} where f >= 1"
        )
    if written_for(pre, NearestNeighbourMixing):
        return replace(inner, kappa=8 * f / N * (1 + inner.kappa))
    assert isinstance(pre, Bucketing)
    s = pre.size
    if N == 1:
        return replace(inner, kappa=0.0)
    sigma, eta = (N - s) / (s * (N - 1)), (s - 1) * f / ((n - s * f) * (N - 1))
    if n % s:
        g = pre.rows(n) - f
        h = ((g - 1) / s + 1 / pre.last(n)) / g
        sigma, eta = (N * h - 1) / (N - 1), (N * h / g - 1) / (N - 1)
    return replace(inner, kappa=(math.sqrt(inner.kappa * max(sigma - eta, 0.0)) + math.sqrt(eta)) ** 2)


def kappa_of(aggregator: Aggregator, n: int, f: int) -> Robustness:
    """κ and β of an aggregator on its own (the first column of the page's table).

    Raises InputError for settings that cannot be.
    """
    aggregator.check(n, f)
    N, u = n - f, n - 2 * f
    if written_for(aggregator, Mean):
        reason = "the mean has no κ where f >= 1: one attacker can move it anywhere"
        return Robustness(math.inf, reason=reason) if f else Robustness(0.0)
    if written_for(aggregator, Median):
        b = (n - 1) // 2
        return Robustness(b / (N - b))
    if written_for(aggregator, TrimmedMean):
        b = aggregator.trimmed(f)
        return Robustness(b / (N - b))
    if written_for(aggregator, GeometricMedian):
        return Robustness(n / u)
    if written_for(aggregator, Krum):
        return Robustness((min(N / u, math.sqrt(2 * N / u)) + math.sqrt(f / u)) ** 2)
    if written_for(aggregator, KrumWithoutItself):
        q = n - f - 1
        v = q - f
        return Robustness((math.sqrt(2 * N * (q - 1) / ((N - 1) * v)) + math.sqrt((N - v) / v)) ** 2)
    if written_for(aggregator, MultiKrum):
        return Robustness(_multi_krum(n, f, aggregator.kept(n, f)))
    if written_for(aggregator, CentredClipping):
        if aggregator.radius is None:
            return Robustness(f / n, beta=2 * f / n)
        return Robustness(
            math.inf, reason="centred clipping with a given radius has no κ: it errs even where all honest agree"
        )
    raise InputError(f"κ is known for the aggregators of the theory page's table only; got {type(aggregator).__name__}")


def _multi_krum(n: int, f: int, r: int) -> float:
    """max over the j ≤ min(f, r) attackers selected of ((j/r) ρ + ((r−j)/r) √((N−r+j)/(r−j)))²."""
    N, u = n - f, n - 2 * f
    rho = math.sqrt(N / u * (1 + N / (N - r + 1))) + math.sqrt(f / u)
    return max((j / r * rho + math.sqrt((r - j) * (N - r + j)) / r) ** 2 for j in range(min(f, r) + 1))


def least_kappa(n: int, f: int) -> float:
    """f/(n − 2f): no aggregator has a smaller κ. Raises InputError unless 0 ≤ f < n/2."""
    check_counts(n, f)
    return f / (n - 2 * f)


def published_kappa(defence: Defence, n: int, f: int) -> float | None:
    """The value recalled from the literature (the page's second column), None where there is none.

    Raises InputError for settings that cannot be.
    """
    defence.check(n, f)
    u = n - 2 * f
    if written_for(defence.pre, NearestNeighbourMixing):
        inner = published_kappa(Defence(defence.aggregator), n, f)
        return None if inner is None else 8 * f / (n - f) * (1 + inner)
    if not written_for(defence.pre, Nothing):
        return None
    if written_for(defence.aggregator, TrimmedMean) and defence.aggregator.trimmed(f) == f:
        return 6 * f / u * (1 + f / u)
    if written_for(defence.aggregator, Median, GeometricMedian):
        return 4 * (1 + f / u) ** 2
    if written_for(defence.aggregator, Krum):
        return 6 * (1 + f / u)
    return None
