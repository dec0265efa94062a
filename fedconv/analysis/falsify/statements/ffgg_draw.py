"""Random small runs of FFGG for the falsifier: structured draws, and variations of what is already tight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fedconv.analysis.falsify.statements.drawing import CRISP, Rng, Variation, Wishes, crisp, other_step, pick, step_of
from fedconv.methods.ffgg.experiment import FFGGExperiment
from fedconv.methods.ffgg.robust.aggregators import AGGREGATORS
from fedconv.methods.ffgg.robust.attacks import ATTACKS
from fedconv.methods.split.method import State

if TYPE_CHECKING:
    from fedconv.core.run import Runnable

KINDS = ("exact", "sampled", "steps", "tolerance", "local", "asynchronous", "byzantine", "bucketing", "worlds")
"""Kinds of run. ``bucketing``: Byzantine with a server that draws; ``worlds``: the two of Theorem 7B(e)."""

ROUNDS = (1, 1, 1, 2, 3, 5, 10, 20, 60)
LONG = {"asynchronous": (5, 20, 80, 160), "steps": (1, 2, 5, 20, 80), "local": (1, 1, 2, 3, 5, 20, 60)}
MOST_ROUNDS = 200
OVER = "overpersonalized"


@dataclass(frozen=True)
class Draft:
    """A run before its step size is known: ``step`` is in units of the largest admissible one.

    arrays: of the problem's family, the first axis the clients; numbers: its scalars. ``u`` None: the start is the
    minimiser of F nearest to 0. tables: [fine_tuning], [async] and [byzantine].
    """

    kind: str
    family: str
    arrays: dict[str, np.ndarray]
    numbers: dict[str, float]
    u: np.ndarray | None
    v: np.ndarray
    T: int
    m: int
    tau: int
    step: float
    tables: dict[str, dict[str, Any]]

    @property
    def n(self) -> int:
        return len(self.v)

    @property
    def d_u(self) -> int:
        return next(iter(self.arrays.values())).shape[2]

    @property
    def at_optimum(self) -> bool:
        return self.u is None

    def start(self, experiment: Runnable) -> State | None:
        """Where it starts; None where F has no minimiser."""
        assert isinstance(experiment, FFGGExperiment)
        if self.u is not None:
            return State(torch.from_numpy(np.array(self.u, dtype=float)), experiment.start.v)
        nearest = experiment.honest.nearest_minimiser(experiment.start.u)
        return None if nearest is None else State(nearest, experiment.start.v)

    def problem(self) -> dict[str, Any]:
        """The table [problem]."""
        return {"family": self.family, **{k: x.tolist() for k, x in self.arrays.items()}, **self.numbers}

    def file(self, start: State | None, gamma: float, key: str) -> dict[str, Any]:
        """The problem file from a start (None: from u, or 0) with step size γ, about the theorem of that key."""
        u = start.u.numpy() if start is not None else (np.zeros(self.d_u) if self.u is None else self.u)
        algorithm: dict[str, Any] = {"name": "ffgg", "m": self.m, "gamma": gamma}
        if self.tau > 1:
            algorithm["tau"] = self.tau
        return {
            "problem": self.problem(),
            "start": {"kind": "point", "u": u.tolist(), "v": self.v.tolist()},
            "algorithm": algorithm,
            "run": {"T": self.T},
            "verify": {"theorems": [key]},
        } | {k: dict(x) for k, x in self.tables.items()}

    def describe(self) -> str:
        shape = f"{self.family}, n={self.n}, d={self.d_u}, T={self.T}"
        if self.kind in ("byzantine", "bucketing", "worlds"):
            how = self.tables["byzantine"]
            return f"{shape}, {how['f']} Byzantine ({how['attack']}) against {how['aggregator']}"
        words = {"sampled": f"m={self.m}", "local": f"tau={self.tau}", "steps": "K inner steps", "exact": "everybody"}
        if self.kind == "asynchronous":
            how = self.tables["async"]
            return f"{shape}, asynchronous ({how['law']}, {how['assignment']}, tau_max={how['tau_max']})"
        return f"{shape}, {words.get(self.kind, 'fine-tuned to a tolerance')}"


# ---- draws -----------------------------------------------------------------------------------------------------


def draw(rng: Rng, wishes: Wishes) -> Draft:
    """A random run of a kind that is wished for."""
    kind = pick(rng, wishes.kinds)
    if kind == "worlds":
        return _worlds(rng, wishes)
    inexact = kind in ("steps", "tolerance")
    n = _clients(rng, kind)
    asked = wishes.asks(OVER)
    over = bool(rng.random() < 0.5) if asked is None else asked
    family, arrays, numbers = _problem(rng, n, over, inexact, wishes)
    n = len(next(iter(arrays.values())))
    d_u = next(iter(arrays.values())).shape[2]
    d_v = arrays["c"].shape[1] if family == "huber_arrays" else arrays["B"].shape[2]
    v = crisp(rng, (n, d_v)) if inexact else np.zeros((n, d_v))
    m, tau, tables = _algorithm(rng, kind, n, wishes)
    T = int(pick(rng, LONG.get(kind, ROUNDS)))
    return Draft(kind, family, arrays, numbers, _start(rng, d_u, over), v, T, m, tau, step_of(rng, wishes), tables)


def _clients(rng: Rng, kind: str) -> int:
    if kind == "bucketing":
        return int(pick(rng, (2, 4, 6, 8, 10)))
    if kind == "byzantine":
        return int(pick(rng, (1, 2, 3, 3, 4, 5, 5, 6, 7, 9)))
    return int(pick(rng, (2, 2, 3, 4, 5, 6) if kind == "sampled" else (1, 1, 2, 2, 3, 4)))


def _start(rng: Rng, d: int, over: bool) -> np.ndarray | None:
    if rng.random() < (0.15 if over else 0.4):
        return None
    return np.ones(d) if rng.random() < 0.5 else crisp(rng, (d,))


def _problem(
    rng: Rng, n: int, over: bool, inexact: bool, wishes: Wishes
) -> tuple[str, dict[str, np.ndarray], dict[str, float]]:
    other = rng.random()
    if wishes.asks("convex") is False or (wishes.asks("convex") is None and other < 0.1 and not inexact):
        return "envelope_quadratic", _saddle(rng, max(n, 3)), {}
    rows, d = int(rng.integers(1, 4)), 1 if rng.random() < 0.6 else 2
    A = _matrices(rng, n, rows, d)
    rows, d = A.shape[1:]
    c = np.zeros((n, rows)) if over else _targets(rng, n, rows)
    if other > 0.85 and not inexact:
        lam = np.full((n, rows), 10.0 ** rng.uniform(-1.5, 0.0))
        return "huber_arrays", {"A": A, "c": c, "lam": lam}, {}
    B = _personal(rng, n, rows, inexact)
    if wishes.asks("convex") is None and 0.1 < other < 0.15:
        D = crisp(rng, (n, 1, d))
        more = {"D": D, "B": crisp(rng, (n, 1, 1)), "e": np.zeros((n, 1)) if over else crisp(rng, (n, 1))}
        return "geman_mcclure_arrays", {"A": A, "c": c, **more}, {"nu": float(pick(rng, (0.5, 1.0, 0.1)))}
    return "least_squares_arrays", {"A": A, "B": B, "c": c}, {}


def _matrices(rng: Rng, n: int, rows: int, d: int) -> np.ndarray:
    """A ``(n, rows, d)``: equal clients, different curvatures, one axis for each client, idle clients, or random."""
    style = pick(rng, ("equal", "curved", "axes", "idle", "random"))
    if style == "equal":
        return np.repeat(crisp(rng, (1, rows, d)), n, axis=0)
    if style == "random":
        return crisp(rng, (n, rows, d))
    if style == "axes":
        d = min(n, 4)
    A = np.zeros((n, rows, d))
    if style == "axes":
        A[np.arange(n), 0, np.arange(n) % d] = 1.0
    elif style == "curved":
        A[:, 0, 0] = rng.choice((1.0, 1.0, 0.5, 0.3, 0.1), size=n)
    else:
        busy = int(rng.integers(1, n + 1))
        A[n - busy if rng.random() < 0.7 else 0 :, 0, 0] = 1.0
    return A


def _personal(rng: Rng, n: int, rows: int, inexact: bool) -> np.ndarray:
    """B ``(n, rows, d_v)``, mostly 0 unless fine-tuning is inexact."""
    d_v = 2 if rng.random() < 0.4 else 1
    if rng.random() < (0.15 if inexact else 0.7):
        return np.zeros((n, rows, d_v))
    B = crisp(rng, (1 if rng.random() < 0.5 else n, rows, d_v)) * float(pick(rng, (1.0, 1.0, 0.3, 0.1)))
    return np.array(np.broadcast_to(B, (n, rows, d_v)))


def _targets(rng: Rng, n: int, rows: int) -> np.ndarray:
    """c ``(n, rows)``: opposed, of a few values, or random."""
    style = rng.random()
    if style < 0.3:
        c = np.zeros((n, rows))
        c[:, 0] = np.where(np.arange(n) % 2, -1.0, 1.0)
        return c
    return rng.choice((-1.0, 0.0, 1.0, 2.0), size=(n, rows)) if style < 0.7 else rng.standard_normal((n, rows))


def _saddle(rng: Rng, n: int) -> dict[str, np.ndarray]:
    """Clients ½ aw² + cwθ + ½ bθ² that couple, the first so that it may be concave once θ is minimised away."""
    A = np.full((n, 1, 1), float(pick(rng, (1.0, 0.5, 0.1))))
    B = np.full((n, 1, 1), 1.0)
    C = np.zeros((n, 1, 1))
    C[0] = rng.uniform(0.5, 2.0)
    return {"A": A, "B": B, "C": C, "a": np.zeros((n, 1)), "b": np.zeros((n, 1))}


def _worlds(rng: Rng, wishes: Wishes) -> Draft:
    """n − 2f clients ½‖w‖², f honest ones ½‖w − x‖², and f attackers who copy a client of the majority."""
    f = int(rng.integers(1, 3))
    n = int(rng.integers(2 * f + 1, 8))
    A, B, c = np.ones((n, 1, 1)), np.zeros((n, 1, 1)), np.zeros((n, 1))
    c[n - 2 * f : n - f] = 1.0
    threat: dict[str, Any] = {"f": f, "attack": "mimic", "client": 0}
    threat["aggregator"] = _aggregator(wishes) or pick(rng, ("trimmed_mean", "median"))
    arrays = {"A": A, "B": B, "c": c}
    T, step, start = int(pick(rng, ROUNDS)), step_of(rng, wishes), (np.zeros(1), np.zeros((n, 1)))
    return Draft("worlds", "least_squares_arrays", arrays, {}, *start, T, n, 1, step, {"byzantine": threat})


def _algorithm(rng: Rng, kind: str, n: int, wishes: Wishes) -> tuple[int, int, dict[str, dict[str, Any]]]:
    """(m, τ, tables) of a kind of run with n clients."""
    if kind == "sampled":
        return (1 if rng.random() < 0.7 else int(rng.integers(1, n))), 1, {}
    if kind == "local":
        return n, int(pick(rng, (2, 2, 3, 5, 8))), {}
    if kind == "asynchronous":
        return 1, 1, {"async": _arrivals(rng, n)}
    if kind in ("byzantine", "bucketing"):
        return n, 1, {"byzantine": _threat(rng, kind, n, wishes)}
    if kind in ("steps", "tolerance"):
        how: dict[str, Any] = {"mode": kind}
        how |= {"steps": int(pick(rng, (0, 0, 1, 1, 2, 3)))} if kind == "steps" else {"tolerance": 10 ** -rng.random()}
        return n, 1, {"fine_tuning": how | ({"warm": False} if "warm" in wishes.dropped and rng.random() < 0.8 else {})}
    return n, 1, {}


def _arrivals(rng: Rng, n: int) -> dict[str, Any]:
    law = pick(rng, ("constant", "constant", "adversarial", "uniform", "heavy_tailed"))
    assignment = pick(rng, ("random", "cyclic", "per_client"))
    tau_max = int(pick(rng, (0, 1, 2, 3, 5, 10, 20, 30)))
    if assignment == "per_client":
        tau_max = max(tau_max, n - 1)
    tail = {"tail": float(pick(rng, (0.5, 1.5)))} if law == "heavy_tailed" else {}
    return {"law": law, "tau_max": tau_max, "assignment": assignment} | tail


def _aggregator(wishes: Wishes) -> str | None:
    """The aggregator that the statement is about, where it is about one."""
    return "trimmed_mean" if "trim" in wishes.kept else None


def _threat(rng: Rng, kind: str, n: int, wishes: Wishes) -> dict[str, Any]:
    f = int(rng.integers(0, (n - 1) // 2 + 1)) if rng.random() < 0.7 else 0
    if kind == "bucketing":
        f = min(f, max(0, (n // 2 - 1) // 2))
    attack = pick(rng, tuple(a for a in ATTACKS if a != "label_flip"))
    threat: dict[str, Any] = {"f": f, "attack": attack, "aggregator": pick(rng, tuple(AGGREGATORS))}
    known = _aggregator(wishes)
    if known is not None:
        threat["aggregator"] = known
    elif rng.random() < 0.4:
        several = ("trimmed_mean", "trimmed_mean", "median", "centred_clipping")  # the last alone has β > 0
        threat["aggregator"] = pick(rng, several)
    if attack in ("sign_flip", "ipm") and rng.random() < 0.5:
        threat["strength"] = float(pick(rng, (1.0, 50.0, 1000.0)))
    if kind == "bucketing":
        threat |= {"pre": "bucketing", "bucket": 2}
    elif rng.random() < 0.1:
        threat["pre"] = "nnm"
    return threat


# ---- variations ------------------------------------------------------------------------------------------------


def _other_rounds(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    T = draft.T * 2 if rng.random() < 0.5 else max(1, draft.T // 2)
    T = T if rng.random() < 0.7 else max(1, draft.T + int(pick(rng, (-1, 1))))
    return replace(draft, T=min(T, MOST_ROUNDS))


def _other_number(draft: Draft, rng: Rng, wishes: Wishes) -> Draft:
    """One entry of one array; zeros of overpersonalized problems stay."""
    name = pick(rng, [k for k in draft.arrays if not (wishes.asks(OVER) and k in ("c", "e", "a", "b"))])
    array = draft.arrays[name].copy()
    place = tuple(int(rng.integers(k)) for k in array.shape)
    if array[place] and rng.random() < 0.6:
        array[place] *= float(np.exp(0.5 * rng.standard_normal()))
    elif name != "lam":
        array[place] = float(pick(rng, (*CRISP, rng.standard_normal())))
    return replace(draft, arrays=draft.arrays | {name: array})


def _scaled(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    """One array larger or smaller, for all clients alike."""
    name = pick(rng, tuple(draft.arrays))
    return replace(draft, arrays=draft.arrays | {name: draft.arrays[name] * float(np.exp(0.5 * rng.standard_normal()))})


def _copied(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    """One client becomes like another."""
    i, j = (int(x) for x in rng.integers(draft.n, size=2))
    arrays = {k: x.copy() for k, x in draft.arrays.items()}
    for array in arrays.values():
        array[i] = array[j]
    return replace(draft, arrays=arrays)


def _other_start(draft: Draft, rng: Rng, wishes: Wishes) -> Draft:
    if draft.u is not None and rng.random() < 0.6:
        return replace(draft, u=draft.u * np.exp(0.4 * rng.standard_normal(draft.d_u)))
    return replace(draft, u=_start(rng, draft.d_u, bool(wishes.asks(OVER))))


def _other_personal(draft: Draft, rng: Rng, _: Wishes) -> Draft:
    if draft.kind not in ("steps", "tolerance"):
        return draft
    v = draft.v * np.exp(0.4 * rng.standard_normal(draft.v.shape)) if rng.random() < 0.6 else crisp(rng, draft.v.shape)
    return replace(draft, v=v)


def _other_algorithm(draft: Draft, rng: Rng, wishes: Wishes) -> Draft:
    m, tau, tables = _algorithm(rng, draft.kind, draft.n, wishes)
    return replace(draft, m=m, tau=tau, tables=tables)


VARIATIONS: tuple[Variation, ...] = (
    _other_rounds,
    other_step,
    other_step,
    _other_number,
    _other_number,
    _scaled,
    _copied,
    _other_start,
    _other_personal,
    _other_algorithm,
)
