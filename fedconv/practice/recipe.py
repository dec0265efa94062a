"""What fixes the training of a personalized model: a method and its numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from fedconv.core.checks import integer, number, one_of
from fedconv.problems.errors import InputError

Method = Literal["local", "fedavg", "fedavg_finetune", "fedalt", "fedsim", "pfedme", "ditto"]
METHODS: tuple[Method, ...] = get_args(Method)

USES: dict[str, frozenset[str]] = {
    "local": frozenset({"tau_v", "gamma_v"}),
    "fedavg": frozenset({"tau_u", "gamma_u"}),
    "fedavg_finetune": frozenset({"tau_u", "gamma_u", "gamma_v", "finetune_steps"}),
    "fedalt": frozenset({"tau_u", "tau_v", "gamma_u", "gamma_v"}),
    "fedsim": frozenset({"tau_u", "tau_v", "gamma_u", "gamma_v"}),
    "pfedme": frozenset({"tau_u", "gamma_u", "gamma_v", "lam", "inner_steps"}),
    "ditto": frozenset({"tau_u", "tau_v", "gamma_u", "gamma_v", "lam"}),
}
"""The numbers that each method needs, besides m, rounds, batch, weight_decay and dropout. They must exceed 0."""


@dataclass(frozen=True)
class Recipe:
    """A method and its numbers; the boxes are the classes of ``fedconv.practice.rules``.

    m: clients in a cohort. rounds: T. tau_u, gamma_u: local steps and step size of what the server averages. tau_v,
    gamma_v: of what a client keeps for itself. batch: rows of a local step, drawn with replacement; None: all rows.
    weight_decay: μ ≥ 0, so that a step follows gradient + μ·(the parameters it moves). dropout: probability in [0, 1)
    with which a training step drops a hidden unit; F and all accuracies are without. lam: λ of pFedMe and Ditto.
    inner_steps: gradient steps for a proximal point of pFedMe, with step size gamma_v; its tau_u and gamma_u are R and
    η of its box. finetune_steps: local steps of every client after the last round; None: tau_v, of the methods that
    have one.

    Raises InputError for a number that the method needs and is not given, or is given and that it does not use.
    """

    method: Method
    m: int
    rounds: int
    tau_u: int = 0
    tau_v: int = 0
    gamma_u: float = 0.0
    gamma_v: float = 0.0
    batch: int | None = None
    weight_decay: float = 0.0
    dropout: float = 0.0
    lam: float = 0.0
    finetune_steps: int | None = None
    inner_steps: int = 0

    def __post_init__(self) -> None:
        one_of("method", self.method, METHODS)
        integer("m", self.m, 1)
        integer("rounds", self.rounds, 1)
        if self.batch is not None:
            integer("batch", self.batch, 1)
        number("weight_decay", self.weight_decay, 0.0)
        number("dropout", self.dropout, 0.0)
        if self.dropout >= 1:
            raise InputError(f"dropout must be below 1; got {self.dropout!r}")
        uses = USES[self.method]
        for name in ("tau_u", "tau_v", "inner_steps"):
            self._fits(name, name in uses, integer, 1)
        for name in ("gamma_u", "gamma_v", "lam"):
            self._fits(name, name in uses, lambda key, value, least: number(key, value, least, open_=True), 0)
        if self.finetune_steps is None:
            if "finetune_steps" in uses:
                raise InputError(f"finetune_steps must be an integer >= 1 for {self.method}; got None")
        elif not uses & {"finetune_steps", "tau_v"}:
            raise InputError(
                f"finetune_steps must be None for {self.method}, whose clients have no personal steps;"
                f" got {self.finetune_steps!r}"
            )
        else:
            integer("finetune_steps", self.finetune_steps, int("finetune_steps" in uses))
        if self.method == "fedsim" and self.tau_u != self.tau_v:
            raise InputError(f"fedsim has one tau: tau_u must equal tau_v; got {self.tau_u} and {self.tau_v}")

    def _fits(self, name: str, used: bool, check: Any, least: int) -> None:
        value = getattr(self, name)
        if used:
            check(name, value, least)
        elif isinstance(value, bool) or value != 0:
            raise InputError(f"{name} must be 0 for {self.method}, which does not use it; got {value!r}")

    @property
    def last_steps(self) -> int:
        """Personal steps of every client after the last round."""
        return self.tau_v if self.finetune_steps is None else self.finetune_steps

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def recipes(methods: Sequence[str] = METHODS, **settings: Any) -> dict[str, Recipe]:
    """A recipe for each method by its name, from settings for all of them, of which each method takes those it uses.

    finetune_steps goes to the methods with personal steps, so that all of them take as many after the last round.
    Raises InputError for a setting that is no field of :class:`Recipe`, that none of the methods uses, or that is
    missing.
    """
    known = {f.name for f in fields(Recipe)} - {"method"}
    for method in methods:
        one_of("method", method, METHODS)
    common = {"m", "rounds", "batch", "weight_decay", "dropout"}
    taken = {m: common | USES[m] | ({"finetune_steps"} if "tau_v" in USES[m] else set()) for m in methods}
    for name in settings:
        if name not in known:
            raise InputError(f"a setting must be one of {', '.join(sorted(known))}; got {name!r}")
        if not any(name in names for names in taken.values()):
            raise InputError(f"setting {name} must be used by one of {', '.join(methods)}; none of them does")
    for name in ("m", "rounds"):
        if name not in settings:
            raise InputError(f"settings must give {name}; got {', '.join(settings) or 'none'}")
    return {m: Recipe(m, **{k: x for k, x in settings.items() if k in taken[m]}) for m in METHODS if m in methods}
