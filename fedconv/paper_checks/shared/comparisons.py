"""Comparisons that are not a theorem's check, as verdicts: identities, counts, bounds on numbers, slopes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedconv.analysis.claims.claim import Evidence
from fedconv.analysis.claims.slopes import Slope
from fedconv.analysis.verdicts.verdict import Status, Verdict

IDENTITY = 1e-10
"""Largest relative deviation of the two sides of an identity."""


def verdict(
    status: Status, measured: float, bound: float, reason: str, *, low: float | None = None, high: float | None = None,
    error: float = 0.0, method: str = "exact", replicates: int = 1, approximate: bool = False,
) -> Verdict:  # fmt: skip
    """A verdict on numbers; without limits the measured number is the quantity itself. ``approximate``: the limits'
    error is not proved."""
    return Verdict(
        status=status,
        measured=float(measured),
        bound=float(bound),
        low=float(measured if low is None else low),
        high=float(measured if high is None else high),
        error=error,
        method=method,
        replicates=replicates,
        grade="exact",
        reason=reason,
        approximate=approximate and status in ("holds", "violated"),
    )


def equal(
    name: str, got: Any, want: Any, tolerance: float = IDENTITY, spec: Mapping[str, Any] | None = None
) -> Evidence:
    """got = want: max |got − want| / max(1, |want|) at most ``tolerance``, over numbers or arrays. Measured is that
    deviation, the bound is the tolerance."""
    a, b = np.broadcast_arrays(np.asarray(got, dtype=float), np.asarray(want, dtype=float))
    with np.errstate(all="ignore"):
        away = np.abs(a - b) / np.maximum(1.0, np.abs(b))
    worst = float(np.max(np.where(np.isnan(away), math.inf, away), initial=0.0))
    status: Status = "holds" if worst <= tolerance else "violated"
    shown = f": {float(a.ravel()[0]):.9g} and {float(b.ravel()[0]):.9g}" if a.size == 1 else f" at {a.size} numbers"
    words = f"both sides agree to {worst:.2g}" if status == "holds" else f"the sides differ by {worst:.3g}"
    return Evidence(name, verdict(status, worst, tolerance, words + shown), spec=spec)


def none_fails(name: str, failures: Sequence[str], total: int, what: str, *, otherwise: Status = "violated",
               error: float = 0.0) -> Evidence:  # fmt: skip
    """No failure among ``total``; measured is their number, the bound 0."""
    status: Status = otherwise if failures or not total else "holds"
    listed = f", not {'; '.join(failures[:3])}{' and others' if len(failures) > 3 else ''}" if failures else ""
    reason = f"{total - len(failures)} of {total} {what}{listed}"
    return Evidence(name, verdict(status, len(failures), 0.0, reason, error=error))


def at_most(name: str, measured: Any, bound: Any, spec: Mapping[str, Any] | None = None) -> Evidence:
    """measured ≤ bound·(1 + 1e-9) for numbers or arrays, bound > 0; shown where the ratio is largest."""
    a, b = np.broadcast_arrays(np.asarray(measured, dtype=float), np.asarray(bound, dtype=float))
    with np.errstate(all="ignore"):
        ratio = np.where(b > 0, a / b, np.where(a <= 0, 0.0, math.inf)).ravel()
    worst = int(np.argmax(np.where(np.isnan(ratio), math.inf, ratio)))
    x, y = float(a.ravel()[worst]), float(b.ravel()[worst])
    status: Status = "holds" if bool((ratio <= 1 + 1e-9).all()) else "violated"
    many = "" if a.size == 1 else f", the closest of {a.size}"
    words = "is within" if status == "holds" else "exceeds"
    return Evidence(name, verdict(status, x, y, f"{x:.6g} {words} {y:.6g}{many}"), spec=spec)


def slope_is(name: str, found: Slope, expected: float, room: float, error: float, replicates: int = 1,
             spec: Mapping[str, Any] | None = None) -> Evidence:  # fmt: skip
    """The slope's limits lie in expected ± room (holds), apart from it (violated), or neither."""
    status: Status = "inconclusive"
    if expected - room <= found.low and found.high <= expected + room:
        status = "holds"
    elif found.high < expected - room or found.low > expected + room:
        status = "violated"
    return _sloped(name, found, status, expected, f"{expected:g} ± {room:g}", error, replicates, spec)


def slope_at_most(name: str, found: Slope, most: float, error: float, replicates: int = 1,
                  spec: Mapping[str, Any] | None = None) -> Evidence:  # fmt: skip
    """The slope's upper limit is at most ``most`` (holds), its lower limit above (violated), or neither."""
    status: Status = "holds" if found.high <= most else "violated" if found.low > most else "inconclusive"
    return _sloped(name, found, status, most, f"at most {most:g}", error, replicates, spec)


def _sloped(name: str, found: Slope, status: Status, bound: float, wanted: str, error: float, replicates: int,
            spec: Mapping[str, Any] | None) -> Evidence:  # fmt: skip
    window = f"window [{found.window[0]:g}, {found.window[1]:g}]"
    interval = "" if found.low == found.high else f", limits [{found.low:.4g}, {found.high:.4g}]"
    reason = f"slope {found.value:.4g}{interval}, {window}; expected {wanted}"
    method = "exact" if found.low == found.high else "jackknife"
    return Evidence(
        f"{name}, {window}",
        verdict(status, found.value, bound, reason, low=found.low, high=found.high, error=error, method=method,
                replicates=replicates, approximate=method == "jackknife"),
        spec=spec,
    )  # fmt: skip
