"""What a problem is: client losses with partial gradients, and the constants that theorems ask for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, wraps
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.errors import InputError
from fedconv.problems.written_for import refuse_overridden

Grade = Literal["exact", "upper", "estimated"]
GRADES: tuple[Grade, ...] = ("exact", "upper", "estimated")


@dataclass(frozen=True)
class Constant:
    """One constant with the way it is known.

    ``exact``: a closed form that is attained (or certified to a stated width). ``upper``: a proved
    bound on the safe side (an upper bound for L, δ, ρ; a lower bound for F★). ``estimated``: sampled.
    """

    value: float
    grade: Grade
    note: str = ""

    def __post_init__(self) -> None:
        if self.grade not in GRADES:
            raise InputError(f"a constant's grade must be one of {', '.join(GRADES)}; got {self.grade!r}")
        if math.isnan(self.value):
            raise InputError(f"a constant must be a number; got NaN ({self.note or 'no note'})")

    def __float__(self) -> float:
        return self.value

    def to_dict(self) -> dict[str, Any]:
        """Plain data; infinity is written as the string "inf"."""
        return {"value": self.value if math.isfinite(self.value) else str(self.value), "grade": self.grade,
                "note": self.note}  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Constant:
        """Inverse of :meth:`to_dict`."""
        return cls(float(data["value"]), data["grade"], data.get("note", ""))


@dataclass(frozen=True)
class Constants:
    """The constants of assumptions A1 and A3, and the infimum.

    A1 (block smoothness), for every client i: ∇_uF_i is L_u-Lipschitz in u and L_uv-Lipschitz in v_i;
    ∇_vF_i is L_v-Lipschitz in v_i and L_vu-Lipschitz in u.
    A3 (partial gradient diversity), for all u, V:
    (1/n) Σ_i ‖∇_uF_i(u,v_i) − ∇_uF(u,V)‖² ≤ δ² + ρ² ‖∇_uF(u,V)‖²  (δ = ∞ where no finite δ exists).
    F_star: inf F, or a lower bound of it.
    """

    L_u: Constant
    L_v: Constant
    L_uv: Constant
    L_vu: Constant
    delta: Constant
    rho: Constant
    F_star: Constant

    @property
    def chi(self) -> float:
        """Relative cross-sensitivity χ = max(L_uv, L_vu)/√(L_u L_v); 0 where a block is missing, ∞ where one of the
        four is infinite."""
        cross = max(self.L_uv.value, self.L_vu.value)
        if math.isinf(max(cross, self.L_u.value, self.L_v.value)):
            return math.inf
        return 0.0 if cross == 0.0 else cross / math.sqrt(self.L_u.value * self.L_v.value)

    @property
    def grade(self) -> Grade:
        """The weakest grade among the constants."""
        return max((getattr(self, f.name).grade for f in fields(self)), key=GRADES.index)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain data for provenance; infinity is written as the string "inf"."""
        return {f.name: getattr(self, f.name).to_dict() for f in fields(self)}

    @classmethod
    def from_dict(cls, data: dict[str, dict[str, Any]]) -> Constants:
        """Inverse of :meth:`to_dict`."""
        return cls(**{k: Constant.from_dict(c) for k, c in data.items()})


@dataclass(frozen=True)
class GradientBounds:
    """What gradients never exceed, over all (u, V): ‖∇_uF‖² ≤ ``u_sq``, (1/n) Σ_i ‖∇_uF_i‖² ≤ ``u_i_sq`` and
    (1/n) Σ_i ‖∇_vF_i‖² ≤ ``v_sq``."""

    u_sq: float
    u_i_sq: float
    v_sq: float


Kernel = tuple[int, tuple[np.ndarray, ...]]
"""A family's code in ``fedconv.problems.compiled.losses`` and its six float64 arrays of three dimensions."""

LOSSES = ("value", "grad_u", "grad_v", "objective")
"""The methods that constants, closed forms and copies of a problem are about."""

SHORTCUTS: dict[str, Any] = {
    "kernel": lambda self: None,
    "minimiser": lambda self: None,
    "nearest_minimiser": lambda self, u: None,
    "as_quadratic": lambda self: None,
    "gradient_bounds": lambda self: None,
    "joint_smoothness": None,
    "masked_constants": None,
    "nonnegative": False,
    "own_targets": False,
    "population_value": None,
    "magnitudes": lambda self, u, v: Problem.magnitudes(self, u, v),
}
"""What a subclass of a finished problem does not inherit, and what it has in place of it."""

COPIES = ("to", "restrict", "flipped")
"""Methods that give a problem of the same class."""


class Problem(ABC):
    """F(u,V) = (1/n) Σ_i F_i(u, v_i) with n clients, shared u ∈ R^{d_u}, personal v_i ∈ R^{d_v}.

    A subclass of a finished problem is a problem of its own: it has its own ``family`` (its class's name where it
    names none), and inherits the parent's methods but none of its SHORTCUTS, which hold for the parent's losses alone.
    Where it replaces a loss or a gradient, it states ``_constants`` too. ``computes_as = Parent`` in its body promises
    that all its numbers are the parent's; then it keeps them (``fedconv.problems.written_for``).

    Every method is batched over any leading axes ``...`` and over ``k`` clients at once, in float64:
    ``u (..., k, d_u)`` (each client's own copy), ``v (..., k, d_v)``, ``clients (..., k)`` or ``(k,)``
    (int64 indices into 0..n−1). ``value`` gives ``(..., k)``, ``grad_u`` gives ``(..., k, d_u)``,
    ``grad_v`` gives ``(..., k, d_v)``. Sizes along ``...`` must be equal or broadcast.
    """

    family: ClassVar[str]
    spec: dict[str, Any] | None = None
    """The ``[problem]`` table that builds this problem again (set by ``fedconv.problems.registry.build_problem``)."""
    n: int
    d_u: int
    d_v: int

    def __init_subclass__(cls, **options: Any) -> None:
        """A class that names no family gets its own name as one: provenance needs a word. See the class's text on
        what a subclass of a finished problem does not inherit."""
        super().__init_subclass__(**options)
        own = vars(cls)
        if "family" not in own:
            cls.family = cls.__name__
        finished = [c for c in cls.__mro__[1:] if issubclass(c, Problem) and not c.__abstractmethods__]
        if not finished or "computes_as" in own:
            return
        for name, nothing in SHORTCUTS.items():
            if name not in own and hasattr(cls, name):
                setattr(cls, name, nothing)
        for name in COPIES:
            if name not in own and hasattr(cls, name):
                setattr(cls, name, _of_its_own_class(name, getattr(cls, name)))

    @abstractmethod
    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        """F_i(u_i, v_i) for the given clients, ``(..., k)``."""

    @abstractmethod
    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        """∇_uF_i(u_i, v_i) for the given clients, ``(..., k, d_u)``."""

    @abstractmethod
    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        """∇_vF_i(u_i, v_i) for the given clients, ``(..., k, d_v)``."""

    @abstractmethod
    def _constants(self) -> Constants: ...

    @cached_property
    def constants(self) -> Constants:
        """The constants of A1 and A3 and F★, each with its grade. Never taken from a run.

        Raises InputError where a subclass replaces a loss and keeps its parent's constants.
        """
        refuse_overridden(type(self), "_constants", LOSSES)
        return self._constants()

    @abstractmethod
    def to(self, device: torch.device | str) -> Problem:
        """The same problem with its data on another device."""

    def gradient_bounds(self) -> GradientBounds | None:
        """What gradients never exceed over all (u, V), proved from the data; None where they are not bounded, or no
        bound is known. A verdict's limits rest on it: a subclass with another loss must give its own, or None."""
        return None

    def minimiser(self) -> tuple[Tensor, Tensor] | None:
        """A point (u ``(d_u,)``, V ``(n, d_v)``) where F★ is attained, by a closed form or a certified
        search, or None where none is known."""
        return None

    def kernel(self) -> Kernel | None:
        """Data for the fused engine (see ``fedconv.problems.compiled.losses``), or None: then runs are eager."""
        return None

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def everyone(self) -> Tensor:
        """Indices of all clients, ``(n,)``."""
        return torch.arange(self.n, device=self.device)

    def objective(self, u: Tensor, v: Tensor) -> Tensor:
        """F(u, V) for u ``(..., d_u)`` and V ``(..., n, d_v)``: ``(...)``."""
        spread = u[..., None, :].expand(*u.shape[:-1], self.n, self.d_u)
        return self.value(spread, v, self.everyone()).mean(-1)

    def magnitudes(self, u: Tensor, v: Tensor) -> tuple[float, float, float]:
        """Sizes of the terms that F, ∇_uF and ∇_vF are sums of at u ``(d_u,)``, V ``(n, d_v)``: rounding is a share of
        these, not of the sums, which may cancel.

        By default from the smoothness, for losses whose formulas bend over lengths of order 1 (as cos and exp do):
        |F| + ‖g‖‖x‖ + L(1 + ‖x‖²) and ‖g‖ + ‖g(0)‖ + L(1 + ‖x‖), means over clients. A family whose terms are known, or
        far smaller, says so in its own method.
        """
        clients, c = self.everyone(), self.constants
        each = u.expand(self.n, self.d_u)
        value, at = self.value(each, v, clients), (self.grad_u(each, v, clients), self.grad_v(each, v, clients))
        zero = (torch.zeros_like(each), torch.zeros_like(v))
        far = (self.grad_u(*zero, clients), self.grad_v(*zero, clients))
        finite = {k: x if math.isfinite(x := getattr(c, k).value) else 0.0 for k in ("L_u", "L_v", "L_uv", "L_vu")}
        size = float(torch.linalg.vector_norm(u)), float(torch.linalg.vector_norm(v, dim=-1).mean()) if self.n else 0.0
        g = [float(torch.linalg.vector_norm(x, dim=-1).mean()) for x in at]
        g_0 = [float(torch.linalg.vector_norm(x, dim=-1).mean()) for x in far]
        L = finite["L_u"], finite["L_v"]
        F = float(value.abs().mean()) + sum(g[b] * size[b] + L[b] * (1 + size[b] ** 2) for b in (0, 1))
        return (
            F,
            g[0] + g_0[0] + L[0] * (1 + size[0]) + finite["L_uv"] * size[1],
            g[1] + g_0[1] + L[1] * (1 + size[1]) + finite["L_vu"] * size[0],
        )

    def shape(self) -> str:
        return f"n={self.n}, d_u={self.d_u}, d_v={self.d_v}"


def _of_its_own_class(name: str, copy: Callable[..., Any]) -> Callable[..., Any]:
    """An inherited method of COPIES that refuses to give an instance of the parent."""

    @wraps(copy)
    def checked(self: Problem, *given: Any, **options: Any) -> Any:
        out = copy(self, *given, **options)
        if isinstance(out, Problem) and type(out) is not type(self):
            mine, theirs = type(self).__name__, type(out).__name__
            raise InputError(f"{mine}.{name} is inherited and gives a {theirs}: write {name} in {mine} too")
        return out

    return checked


def check_array(name: str, data: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """``data`` as a finite float64 array of the given shape (None: any size along that axis).

    Raises InputError naming the argument, what was expected and what came.
    """
    try:
        given = np.array(data)
        if given.size and given.dtype.kind not in "iuf":
            raise TypeError
        array = given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array of numbers of shape {_show(shape)}; got {data!r}") from error
    if array.ndim != len(shape) or any(s is not None and s != a for s, a in zip(shape, array.shape, strict=True)):
        raise InputError(f"{name} must have shape {_show(shape)}; got {_show(array.shape)}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} must be finite; got {int((~np.isfinite(array)).sum())} entries that are NaN or inf")
    return array


def _show(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if s is None else str(s) for s in shape) + ("," if len(shape) == 1 else "") + ")"
