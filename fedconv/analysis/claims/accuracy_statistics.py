"""What runs on data show of a claim: paired statistics over seeds and over clients, and the verdicts they allow.

The data are what ``fedconv.practice.compare`` gives: held-out ``accuracy_before`` and ``accuracy_after`` (the last
local phase) with dims (method, seed, client), ``rows`` and ``rows_held_out`` (client). Methods of one seed share the
start, the cohorts and the mini-batches, so differences are paired by seed. Intervals over seeds are about other starts,
cohorts and mini-batches for the *same* clients and the same held-out rows.

A claim "more than" is written as lhs ≤ rhs, as everywhere, and ``error`` is that of each one-sided limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from fedconv.analysis.claims.claim import Evidence
from fedconv.analysis.verdicts.limits import student_lower, student_upper
from fedconv.analysis.verdicts.verdict import Status, Verdict
from fedconv.problems.errors import InputError


@dataclass(frozen=True)
class Interval:
    """An estimate and its limits, each at a one-sided error."""

    value: float
    low: float
    high: float

    def text(self, scale: float = 1.0, digits: int = 2) -> str:
        return f"{scale * self.value:.{digits}f} [{scale * self.low:.{digits}f}, {scale * self.high:.{digits}f}]"


@dataclass(frozen=True)
class Finding:
    """A claim in one sentence and what was seen of it."""

    claim: str
    evidence: tuple[Evidence, ...]


# ---- intervals --------------------------------------------------------------------------------------------------


def mean_interval(samples: np.ndarray, error: float) -> Interval:
    """The mean of ``samples (seeds,)`` with Student's limits; −∞ and ∞ where all are the same number, as a standard
    deviation of 0 says nothing after a few seeds, and where one is not finite."""
    if np.ptp(samples) == 0:
        return Interval(float(samples[0]), -math.inf, math.inf)
    return Interval(float(samples.mean()), student_lower(samples, error), student_upper(samples, error))


def fieller(numerator: np.ndarray, denominator: np.ndarray, error: float) -> Interval:
    """E[numerator]/E[denominator] from pairs ``(seeds,)`` by Fieller 1954: all ρ that Student's test of
    E[numerator − ρ·denominator] = 0 does not refute on either side, each side at ``error``.

    With means a, b, variances s_aa, s_bb, covariance s_ab of the means and t Student's quantile, the limits solve
    (b² − t²s_bb)ρ² − 2(ab − t²s_ab)ρ + (a² − t²s_aa) = 0. Where b is not apart from 0 (b² ≤ t²s_bb) no ratio can be
    refuted far out: the limits are −∞ and ∞. Raises InputError for samples of different lengths.
    """
    from scipy.special import stdtrit

    if numerator.shape != denominator.shape:
        raise InputError(
            f"numerator and denominator must be paired; got {numerator.shape} and {denominator.shape} samples"
        )
    R = len(numerator)
    a, b = float(numerator.mean()), float(denominator.mean())
    value = a / b if b else math.nan
    unknown = Interval(value, -math.inf, math.inf)
    if R < 2 or not (np.isfinite(numerator).all() and np.isfinite(denominator).all()):
        return unknown
    (s_aa, s_ab), (_, s_bb) = np.cov(numerator, denominator) / R
    t_sq = float(stdtrit(R - 1, 1.0 - error)) ** 2
    square = b * b - t_sq * s_bb
    if square <= 0:
        return unknown
    middle = (a * b - t_sq * s_ab) / square
    radius = math.sqrt(max(0.0, middle**2 - (a * a - t_sq * s_aa) / square))
    return Interval(value, middle - radius, middle + radius)


def rank_correlation(x: np.ndarray, y: np.ndarray, error: float) -> Interval:
    """Spearman's correlation of ``x (clients,)`` and ``y (clients,)``, ties sharing their mean rank, with limits by
    Fisher's transform and the variance (1 + r²/2)/(n − 3) of Bonett and Wright 2000: clients are the sample.

    Fisher's transform of ±1 is infinite: for the limits the correlation is taken no nearer to ±1 than two neighbours
    in the wrong order bring it, 1 − 12/(n(n² − 1)). Where all x or all y are equal or one is not finite the value is
    NaN; then, and for n < 4, the limits are −1 and 1. Raises InputError for x and y of different lengths.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    if x.shape != y.shape or x.ndim != 1:
        raise InputError(f"x and y must have one number for each client; got {x.shape} and {y.shape}")
    n = len(x)
    first, second = (rankdata(a) - (n + 1) / 2 for a in (x, y))
    size = math.sqrt(float(first @ first) * float(second @ second))
    if not (size > 0 and np.isfinite(x).all() and np.isfinite(y).all()):
        return Interval(math.nan, -1.0, 1.0)
    r = min(max(float(first @ second) / size, -1.0), 1.0)
    if n < 4:
        return Interval(r, -1.0, 1.0)
    most = 1 - 12 / (n * (n * n - 1))
    at = math.atanh(min(max(r, -most), most))
    away = float(ndtri(1.0 - error)) * math.sqrt((1 + r * r / 2) / (n - 3))
    return Interval(r, min(r, math.tanh(at - away)), max(r, math.tanh(at + away)))


@dataclass(frozen=True)
class Worse:
    """Clients whose accuracy falls. ``change``: each client's mean over seeds, ``low`` and ``high`` its limits that
    hold for all clients at once; ``share``: of clients with a negative mean, its limits the shares of those whose
    ``high`` and whose ``low`` is negative."""

    change: np.ndarray
    low: np.ndarray
    high: np.ndarray
    share: Interval


def made_worse(changes: np.ndarray, held_rows: np.ndarray, error: float) -> Worse:
    """Of ``changes (seeds, clients)`` in accuracy on ``held_rows (clients,)`` held-out rows: which are negative.

    Each client's limits are Student's at error/clients, so that all upper (all lower) limits hold at once with
    probability 1 − error, and so the share of clients whose expected change is negative lies between the share of
    negative upper and of negative lower limits. As accuracies are multiples of 1/rows, a client may change by the same
    amount in a few seeds by chance: the standard deviation s of the changes is taken as √(s² + 1/rows²). Raises
    InputError for fewer than two seeds or other numbers of clients.
    """
    from scipy.special import stdtrit

    R, n = changes.shape
    if R < 2 or held_rows.shape != (n,) or (held_rows < 1).any():
        raise InputError(
            "changes must be (seeds, clients) from at least two seeds, with a number of held-out rows >= 1 for each"
            f" client; got {changes.shape} and {held_rows.shape}"
        )
    mean = changes.mean(0)
    half = float(stdtrit(R - 1, 1.0 - error / n)) * np.sqrt((changes.var(0, ddof=1) + held_rows**-2.0) / R)
    low, high = (np.where(np.isfinite(mean), mean + sign * half, sign * np.inf) for sign in (-1, 1))
    share = Interval(float((mean < 0).mean()), float((high < 0).mean()), float((low < 0).mean()))
    return Worse(mean, low, high, share)


# ---- pieces of evidence -----------------------------------------------------------------------------------------


def accuracy(data: xr.Dataset, method: str, field: str = "accuracy_after") -> np.ndarray:
    """A method's held-out accuracy (or another field) ``(seeds, clients)``.

    Raises InputError for a method or a field that the data lack.
    """
    methods = [str(k) for k in data["method"].values]
    if method not in methods:
        raise InputError(f"method must be one of {', '.join(methods)}; got {method!r}")
    if field not in data:
        raise InputError(f"the data must have the field {field!r}; they have {', '.join(map(str, data.data_vars))}")
    return data[field].sel({"method": method}).transpose("seed", "client").values.astype(float)


def gain(data: xr.Dataset, method: str, baseline: str = "fedavg") -> np.ndarray:
    """Clients' mean accuracy after the local phase, less that of the baseline's shared model: ``(seeds,)``."""
    return (accuracy(data, method) - accuracy(data, baseline, "accuracy_before")).mean(1)


def recovered(data: xr.Dataset, name: str, partial: str, full: str, *, least: float = 0.5, error: float) -> Evidence:
    """Does ``partial`` recover at least the share ``least`` of the gain of ``full`` over FedAvg?

    lhs: the share that is lost, 1 − gain(partial)/gain(full), with limits by Fieller; rhs: 1 − least. A premise is that
    ``full`` gains at all (else the share means nothing): unmet where even the upper limit of its gain is not positive.
    """
    part, whole = gain(data, partial), gain(data, full)
    found, gained = fieller(part, whole, error), mean_interval(whole, error)
    lost = Interval(1 - found.value, 1 - found.high, 1 - found.low)
    seen = (
        f"{partial} recovers {found.text()} of the gain of {full}, which is {gained.text(100)} points of accuracy over"
        f" FedAvg; {partial} gains {mean_interval(part, error).text(100)}"
    )
    premises: tuple[str, ...] = ()
    if gained.high <= 0:
        premises = (f"{full} gains on FedAvg: it does not, {gained.text(100)} points",)
        status: Status = "premises_unmet"
    elif gained.low <= 0:
        status = "inconclusive"
    else:
        status = _decided(lost, 1 - least)
    return Evidence(name, _verdict(status, lost, 1 - least, error, "Fieller over seeds", len(part), seen, premises))


def better(data: xr.Dataset, name: str, first: str, second: str, field: str, *, error: float) -> Evidence:
    """Is ``first`` at least as good as ``second`` in the mean over clients? lhs: by how much it is behind (in accuracy,
    or in loss for a field of losses); rhs: 0. ``name`` says what is compared; the reason says in how many seeds."""
    sign = 1.0 if field.startswith("loss") else -1.0
    behind = sign * (accuracy(data, first, field) - accuracy(data, second, field)).mean(1)
    found = mean_interval(behind, error)
    ahead = Interval(-found.value, -found.high, -found.low)
    unit, scale, digits = ("nats", 1.0, 4) if field.startswith("loss") else ("points", 100.0, 2)
    seen = (
        f"{first} is ahead of {second} by {ahead.text(scale, digits)} {unit} in {field}, and ahead in"
        f" {int((behind < 0).sum())} of {len(behind)} seeds"
    )
    return Evidence(name, _verdict(_decided(found, 0.0), found, 0.0, error, "Student t", len(behind), seen))


def small(data: xr.Dataset, name: str, first: str, second: str, *, most: float, error: float) -> Evidence:
    """Do the mean accuracies of two methods differ by at most ``most``? lhs: |difference|, limits from Student's."""
    found = mean_interval((accuracy(data, first) - accuracy(data, second)).mean(1), error)
    low = max(0.0, found.low, -found.high)
    size = Interval(abs(found.value), low, max(abs(found.low), abs(found.high)))
    seen = f"{first} − {second}: {found.text(100)} points of accuracy, to be at most {100 * most:g} either way"
    return Evidence(name, _verdict(_decided(size, most), size, most, error, "Student t", data.sizes["seed"], seen))


def some_worse(data: xr.Dataset, name: str, method: str, *, beside: str | None = None, error: float) -> Evidence:
    """Are there clients for whom ``method`` is worse than FedAvg? measured: the share of clients whose mean change is
    negative, its limits as in :func:`made_worse`; holds where the lower limit is > 0, violated where the upper is 0.

    beside: a method without the cure under test; the reason says how far the share of a seed's clients that are worse
    falls from there.
    """
    change = accuracy(data, method) - accuracy(data, "fedavg", "accuracy_before")
    found = made_worse(change, data["rows_held_out"].values, error)
    n = change.shape[1]
    status: Status = "holds" if found.share.low > 0 else "violated" if found.share.high == 0 else "inconclusive"
    seen = (
        f"{round(n * found.share.value)} of {n} clients lose accuracy in the mean over seeds,"
        f" between {round(n * found.share.low)} and {round(n * found.share.high)} at this error; the largest loss is"
        f" {100 * max(0.0, -found.change.min()):.1f} points"
    )
    if beside is not None:
        plain = accuracy(data, beside) - accuracy(data, "fedavg", "accuracy_before")
        fall = mean_interval((plain < 0).mean(1) - (change < 0).mean(1), error)
        seen += (
            f"; without the cure {round(n * float((plain.mean(0) < 0).mean()))}; a seed's share of clients that lose"
            f" falls by {fall.text()}"
        )
    verdict = _verdict(status, found.share, 0.0, error, f"Student t, {n} clients at once", len(change), seen)
    return Evidence(name, verdict)


def little_data_first(data: xr.Dataset, name: str, method: str, *, error: float) -> Evidence:
    """Do clients with fewer training rows lose more (gain less)? lhs: minus Spearman's correlation over clients of
    rows and mean change against FedAvg, rhs: 0."""
    change = (accuracy(data, method) - accuracy(data, "fedavg", "accuracy_before")).mean(0)
    found = rank_correlation(data["rows"].values.astype(float), change, error)
    against = Interval(-found.value, -found.high, -found.low)
    seen = f"Spearman's correlation of rows and change in accuracy is {found.text()} over {len(change)} clients"
    return Evidence(
        name,
        _verdict(_decided(against, 0.0), against, 0.0, error, "Fisher z (Bonett, Wright)", data.sizes["seed"], seen),
    )


def table(data: xr.Dataset, methods: Sequence[str] | None = None, *, error: float) -> xr.Dataset:
    """Mean accuracy over clients before and after the local phase and the gain over FedAvg, for every method:
    variables ``before``, ``after`` and ``gain``, each with dims (method, limit) and limits value, low, high."""
    names = [str(k) for k in data["method"].values] if methods is None else list(methods)

    def limits(samples: np.ndarray) -> list[float]:
        found = mean_interval(samples, error)
        return [found.value, found.low, found.high]

    rows = {
        "before": [limits(accuracy(data, k, "accuracy_before").mean(1)) for k in names],
        "after": [limits(accuracy(data, k).mean(1)) for k in names],
        "gain": [limits(gain(data, k)) for k in names],
    }
    long = {
        "before": "mean accuracy over clients before the local phase",
        "after": "mean accuracy over clients after the local phase",
        "gain": "mean accuracy after the local phase less that of FedAvg",
    }
    return xr.Dataset(
        {k: (("method", "limit"), np.array(v), {"long_name": long[k], "units": "1"}) for k, v in rows.items()},
        coords={"method": names, "limit": ["value", "low", "high"]},
        attrs={"error": error},
    )


def _decided(found: Interval, bound: float) -> Status:
    if found.high <= bound:
        return "holds"
    return "violated" if found.low > bound else "inconclusive"


def _verdict(
    status: Status,
    found: Interval,
    bound: float,
    error: float,
    method: str,
    seeds: int,
    reason: str,
    premises: tuple[str, ...] = (),
) -> Verdict:
    """All intervals here are approximate: right for many seeds, or for normal samples."""
    return Verdict(
        status, found.value, bound, found.low, found.high, error, method, seeds, "exact", reason, premises,
        approximate=status in ("holds", "violated"),
    )  # fmt: skip
