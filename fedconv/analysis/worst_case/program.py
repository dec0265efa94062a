"""Worst cases by performance estimation: the semidefinite programs behind ``fedconv.analysis.worst_case``.

The unknowns are the Gram matrix of all partial gradients met by a deterministic run (σ = 0, m = n) and the function
values there; the program maximises (1/T) Σ_t (w_u X_t + w_v Y_t) subject to inequalities that every admissible
function satisfies, F(u⁰, V⁰) − F★ ≤ 1, and the diversity bound at the visited points. Units: L_u = L_v = 1, which loses
nothing (replace u by √L_u u and v by √L_v v; then L_uv, L_vu ≤ χ). The run starts at 0 with F★ = 0.

Class of functions, for points a, b of one client with d = a − b, Δ = ∇(a) − ∇(b):

- one block (no v, or χ = 0, where F_i(u,v) = f_i(u) + h_i(v)): the interpolation inequality of 1-smooth functions
  (Taylor, Hendrickx, Glineur 2017, Theorem 3.10 with μ = −L),
  f(a) − f(b) ≥ −¼‖d‖² + ½⟨∇(a) + ∇(b), d⟩ + ¼‖Δ‖²;
- χ > 0: necessary inequalities only, so that the class is a superset (derived here). The Hessian lies between ±D_s,
  D_s = diag(1+χs, 1+χ/s), for every s > 0: the same inequality in the norm of D_s for the s of ``SCALES``, and for
  s = 0 (s = ∞) where a and b share v (u). With w ≤ ‖d_u‖‖d_v‖ (a 2×2 semidefinite constraint):
  |f(a) − f(b) − ⟨∇(b), d⟩| ≤ ½‖d_u‖² + ½‖d_v‖² + χw, ‖Δ_u‖² ≤ ‖d_u‖² + 2χw + χ²‖d_v‖², and the same for Δ_v.

F★ enters by F − F★ ≥ ½(‖∇_uF‖²/(1+χs) + Y/(1+χ/s)), s from 0 to ∞, wherever every client is evaluated at one u.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

from fedconv.analysis.worst_case.solver import Solved, pepit, solve

if TYPE_CHECKING:
    from fedconv.analysis.worst_case import Setting

Metric = Literal["mean", "min"]

SCALES = (0.5, 1.0, 2.0)
"""Values of s at which the joint interpolation inequality is imposed."""


def worst_case(
    setting: Setting, weights: tuple[float, float], magnitudes: tuple[float, float], metric: Metric = "mean"
) -> Solved:
    """The largest (1/T) Σ_t (w_u X_t + w_v Y_t) over the class, or for ``min`` the largest min_t of the summands.

    ``magnitudes``: bounds on every inner product of gradients and on every other unknown
    (``fedconv.analysis.worst_case.magnitudes``). Raises InputError where the extra ``pep`` is missing.
    """
    pep, _ = program(setting, weights, metric)
    return solve(pep, magnitudes)


def program(setting: Setting, weights: tuple[float, float], metric: Metric) -> tuple[Any, Run]:
    """The program as a PEPit object, and the run in it. Solve it before the next is built: PEPit counts globally."""
    lib = pepit()
    pep = lib.PEP()
    run = Run(lib, setting)
    terms = [weights[0] * x + weights[1] * y for x, y in run.rounds()]
    for constraint in run.conditions():
        pep.add_constraint(constraint)
    for matrix in run.matrices():
        pep.add_psd_matrix(matrix)
    for term in terms if metric == "min" else [sum(terms[1:], terms[0]) / setting.T]:
        pep.set_performance_metric(term)
    return pep, run


# ---- functions ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a client: point, partial gradients, value. A missing block has None."""

    u: Any
    v: Any
    grad_u: Any
    grad_v: Any
    f: Any


class Smooth:
    """A 1-smooth function of one block, evaluated once per point."""

    def __init__(self, lib: Any, first: Any) -> None:
        self.lib, self.first = lib, first
        self.points: dict[int, tuple[Any, Any, Any]] = {}

    def at(self, x: Any) -> tuple[Any, Any]:
        """(gradient, value) at a point; the value at the first point is ``first``."""
        if id(x) not in self.points:
            f = self.lib.Expression() if self.points else self.first
            self.points[id(x)] = (x, self.lib.Point(), f)
        return self.points[id(x)][1:]

    def conditions(self) -> Iterator[Any]:
        for a, b in combinations(self.points.values(), 2):
            for (x, g, f), (y, h, k) in ((a, b), (b, a)):
                d = x - y
                yield f - k >= -(d**2) / 4 + (g + h) * d / 2 + (g - h) ** 2 / 4


class Separate:
    """F_i(u, v) = f_i(u) + h_i(v), both 1-smooth; without v only f_i. h_i ≥ 0 = inf h_i."""

    def __init__(self, lib: Any, first: Any, personal: bool) -> None:
        self.shared = Smooth(lib, first)
        self.own = Smooth(lib, lib.Expression()) if personal else None

    def at(self, u: Any, v: Any) -> Evaluation:
        grad_u, f = self.shared.at(u)
        return Evaluation(u, v, grad_u, self.own.at(v)[0] if self.own else None, f)

    def start_value(self) -> Any:
        """F_i at the start."""
        return self.shared.first + self.own.first if self.own else self.shared.first

    def conditions(self) -> Iterator[Any]:
        yield from self.shared.conditions()
        if self.own:
            yield from self.own.conditions()
            yield from (f >= g**2 / 2 for _, g, f in self.own.points.values())

    def matrices(self) -> Iterator[Any]:
        yield from ()


@dataclass
class Coupled:
    """A client's function with cross-sensitivity χ > 0: necessary inequalities on all pairs of evaluated points."""

    lib: Any
    first: Any
    chi: float
    points: dict[tuple[int, int], Evaluation] = field(default_factory=dict)
    products: dict[tuple[int, int], Any] = field(default_factory=dict)

    def at(self, u: Any, v: Any) -> Evaluation:
        key = (id(u), id(v))
        if key not in self.points:
            f = self.lib.Expression() if self.points else self.first
            self.points[key] = Evaluation(u, v, self.lib.Point(), self.lib.Point(), f)
        return self.points[key]

    def start_value(self) -> Any:
        """F_i at the start."""
        return self.first

    def _pairs(self) -> Iterator[tuple[Evaluation, Evaluation]]:
        yield from combinations(self.points.values(), 2)

    def _product(self, a: Evaluation, b: Evaluation) -> Any:
        """The unknown w ≤ ‖a_u − b_u‖ ‖a_v − b_v‖ of a pair that shares no block."""
        return self.products.setdefault((id(a), id(b)), self.lib.Expression())

    def conditions(self) -> Iterator[Any]:
        for a, b in self._pairs():
            if a.v is b.v:
                yield from self._one_block((a.u, a.grad_u, a.grad_v), (b.u, b.grad_u, b.grad_v), a.f, b.f)
            elif a.u is b.u:
                yield from self._one_block((a.v, a.grad_v, a.grad_u), (b.v, b.grad_v, b.grad_u), a.f, b.f)
            else:
                yield from self._both_blocks(a, b)
            for s in SCALES:
                yield from (self._joint(x, y, s) for x, y in ((a, b), (b, a)))

    def _one_block(self, a: tuple[Any, Any, Any], b: tuple[Any, Any, Any], f: Any, k: Any) -> Iterator[Any]:
        """Pairs (point, its gradient, the other block's gradient) that differ in one block only."""
        d, change = a[0] - b[0], (a[1] - b[1]) ** 2
        for sign, left in ((1, f - k), (-1, k - f)):
            yield left >= -(d**2) / 4 + sign * ((a[1] + b[1]) * d) / 2 + change / 4
        yield (a[2] - b[2]) ** 2 <= self.chi**2 * d**2

    def _both_blocks(self, a: Evaluation, b: Evaluation) -> Iterator[Any]:
        d, e, w = (a.u - b.u), (a.v - b.v), self._product(a, b)
        most = d**2 / 2 + e**2 / 2 + self.chi * w
        for g, h in ((a.grad_u, a.grad_v), (b.grad_u, b.grad_v)):
            rest = a.f - b.f - g * d - h * e
            yield rest <= most
            yield rest >= -most
        yield (a.grad_u - b.grad_u) ** 2 <= d**2 + 2 * self.chi * w + self.chi**2 * e**2
        yield (a.grad_v - b.grad_v) ** 2 <= e**2 + 2 * self.chi * w + self.chi**2 * d**2

    def _joint(self, a: Evaluation, b: Evaluation, s: float) -> Any:
        """The interpolation inequality of 1-smooth functions in the norm of D_s."""
        total = 0
        for x, y, g, h, D in (
            (a.u, b.u, a.grad_u, b.grad_u, 1 + self.chi * s),
            (a.v, b.v, a.grad_v, b.grad_v, 1 + self.chi / s),
        ):
            total = total + (g - h) ** 2 / (4 * D)
            if x is not y:
                total = total - D * (x - y) ** 2 / 4 + (g + h) * (x - y) / 2
        return a.f - b.f >= total

    def matrices(self) -> Iterator[Any]:
        for a, b in self._pairs():
            if a.u is not b.u and a.v is not b.v:
                w = self._product(a, b)
                yield [[(a.u - b.u) ** 2, w], [w, (a.v - b.v) ** 2]]


# ---- runs --------------------------------------------------------------------------------------------------


class Run:
    """The deterministic run of a setting: evaluates the clients along it and collects what must hold."""

    def __init__(self, lib: Any, setting: Setting) -> None:
        self.lib, self.setting, self.step = lib, setting, setting.eta / setting.tau
        self.gap = lib.Expression()  # shifting F_i by constants of mean 0 changes nothing: all clients start equal
        self.origin = lib.Point(is_leaf=False, decomposition_dict={})
        coupled = setting.personal and setting.chi > 0
        self.clients: list[Coupled | Separate] = [
            Coupled(lib, self.gap, setting.chi) if coupled else Separate(lib, self.gap, setting.personal)
            for _ in range(setting.n)
        ]
        self.diverse: list[Any] = []
        self.together: list[list[Evaluation]] = []

    def rounds(self) -> Iterator[tuple[Any, Any]]:
        """(X_t, Y_t) round by round."""
        u, last = self.origin, self.setting.T - 1
        vs = [self.lib.Point(is_leaf=False, decomposition_dict={}) for _ in self.clients]
        for t in range(self.setting.T):
            start = self._evaluate(u, vs)
            if self.setting.joint:
                measured = start
            else:
                vs = [self._personal(client, u, v) for client, v in zip(self.clients, vs, strict=True)]
                measured = self._evaluate(u, vs)
            gradient = mean([x.grad_u for x in measured])
            if len(measured) > 1:
                spread = mean([(x.grad_u - gradient) ** 2 for x in measured])
                self.diverse.append(spread <= self.setting.delta**2)
            personal = mean([x.grad_v**2 for x in start]) if self.setting.personal else 0 * self.gap
            yield gradient**2, personal
            if t < last:
                moved = [self._shared(client, u, v) for client, v in zip(self.clients, vs, strict=True)]
                u, vs = mean([x for x, _ in moved]), [v for _, v in moved]

    def _evaluate(self, u: Any, vs: Sequence[Any]) -> list[Evaluation]:
        """Every client at one u."""
        values = [client.at(u, v) for client, v in zip(self.clients, vs, strict=True)]
        self.together.append(values)
        return values

    def _personal(self, client: Coupled | Separate, u: Any, v: Any) -> Any:
        """LocalAlt's steps of v."""
        for _ in range(self.setting.tau if self.setting.personal else 0):
            v = v - self.step * client.at(u, v).grad_v
        return v

    def _shared(self, client: Coupled | Separate, u: Any, v: Any) -> tuple[Any, Any]:
        """LocalAlt's steps of u, or LocalSim's of both."""
        for _ in range(self.setting.tau):
            value = client.at(u, v)
            u = u - self.step * value.grad_u
            if self.setting.joint and self.setting.personal:
                v = v - self.step * value.grad_v
        return u, v

    def conditions(self) -> Iterator[Any]:
        """Everything that must hold besides the matrices; call after ``rounds``."""
        yield mean([client.start_value() for client in self.clients]) <= 1
        yield from self.diverse
        for client in self.clients:
            yield from client.conditions()
        yield from self._above_infimum()

    def _above_infimum(self) -> Iterator[Any]:
        """The inequalities with F★ where all clients are evaluated at one u; for one client everywhere."""
        places = self.together
        if len(self.clients) == 1:
            client = self.clients[0]
            if isinstance(client, Coupled):
                places = [[x] for x in client.points.values()]
            else:
                places = [[Evaluation(x, None, g, None, f)] for x, g, f in client.shared.points.values()]
        chi = self.setting.chi if isinstance(self.clients[0], Coupled) else None
        for values in {tuple(map(id, values)): values for values in places}.values():
            yield from above_infimum(values, chi)

    def matrices(self) -> Iterator[Any]:
        """The positive semidefinite matrices; call after ``rounds``."""
        for client in self.clients:
            yield from client.matrices()


def above_infimum(values: Sequence[Evaluation], chi: float | None) -> Iterator[Any]:
    """F − F★ ≥ ½(‖∇_uF‖²/(1+χs) + Y/(1+χ/s)) for all clients at one u; without χ only the shared block counts."""
    f, x = mean([z.f for z in values]), mean([z.grad_u for z in values]) ** 2
    yield f >= x / 2
    if chi is not None:
        y = mean([z.grad_v**2 for z in values])
        yield f >= y / 2
        yield from (f >= (x / (1 + chi * s) + y / (1 + chi / s)) / 2 for s in SCALES)


def mean(xs: Sequence[Any]) -> Any:
    """The average; of one thing the thing itself, as points are told apart by identity."""
    return sum(xs[1:], xs[0]) / len(xs) if len(xs) > 1 else xs[0]
