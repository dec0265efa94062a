"""The methods as boxes, one round each, batched over seeds and clients.

w: all parameters of a model in the module's order, D = d_u + d_v of them; (u, v): shared and personal ones. ∇̃F_i: the
gradient over the rows of a local step, under its mask, with weight_decay·(the parameters that move) added.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice, tee
from typing import ClassVar

import torch
from torch import Tensor

from fedconv.core.streams import Cause
from fedconv.methods.split import Algorithm, FedAlt, FedSim, State
from fedconv.methods.split.method import gather, scatter
from fedconv.methods.split.minibatch import silence
from fedconv.practice.draws import Draws, Step, Trained
from fedconv.practice.recipe import METHODS, Recipe
from fedconv.problems.errors import InputError
from fedconv.problems.modules.problem import ModuleProblem


class Rule(ABC):
    """A method on a problem, for R seeds at once.

    State: u ``(R, shared)`` what the server has, v ``(R, n, kept)`` what clients keep. ``before``: the whole model
    ``(R, n, D)`` that each client has at the end, from what the server would send it and what it has kept; ``after``:
    the same after the client's last local phase, which every client runs, sampled or not.
    """

    method: ClassVar[str]
    has_objective: ClassVar[bool] = True
    one_model: ClassVar[bool] = True
    """All clients start from one model, which the server has."""

    def __init__(self, problem: ModuleProblem, recipe: Recipe, draws: Draws) -> None:
        self.problem, self.recipe, self.draws = problem, recipe, draws
        self.whole = problem.with_personal(())

    @abstractmethod
    def begin(self, u: Tensor, v: Tensor) -> State:
        """The state before the first round, from u ``(R, d_u)``, V ``(R, n, d_v)``."""

    @abstractmethod
    def round(self, state: State, t: int, cohort: Tensor) -> State:
        """Round t with the cohort ``(R, m)``."""

    @abstractmethod
    def before(self, state: State) -> Tensor: ...

    @abstractmethod
    def after(self, state: State) -> Tensor: ...

    def objective(self, state: State) -> Tensor:
        """(1/n) Σ_i F_i at every client's model, ``(R,)``."""
        models = self.before(state)
        return self.whole.value(models, models[..., :0], self.problem.everyone()).mean(-1)

    def shared_steps(self, t: int, k: int, repeats: int = 1) -> Iterator[Step]:
        return self.draws.steps(Cause.NOISE_U, t, k, self.recipe.tau_u, repeats)

    def personal_steps(self, t: int, k: int) -> Iterator[Step]:
        return self.draws.steps(Cause.NOISE_V, t, k, self.recipe.tau_v)

    def last_steps(self) -> Iterator[Step]:
        """The personal steps of all clients after the last round."""
        return self.draws.steps(Cause.NOISE_V, self.recipe.rounds, self.problem.n, self.recipe.last_steps)

    def everyone(self, R: int) -> Tensor:
        return self.problem.everyone().expand(R, -1)

    def descend(
        self, w: Tensor, clients: Tensor, gamma: float, steps: Iterator[Step], anchor: Tensor | None = None
    ) -> Tensor:
        """Whole models w ``(R, k, D)`` of the clients after w ← w − γ(∇̃F_i(w) + λ(w − anchor)) for every step; without
        an anchor, w ← w − γ∇̃F_i(w)."""
        for step in steps:
            slope = self.whole.slope("u", w, w[..., :0], clients, *step)
            if self.recipe.weight_decay:
                slope = slope + self.recipe.weight_decay * w
            if anchor is not None:
                slope = slope + self.recipe.lam * (w - anchor)
            w = w - gamma * slope
        return w


class Split(Rule):
    """FedAlt and FedSim (Pillutla et al. 2022, arXiv 2204.03809): ``fedconv.methods.split``' own boxes.

    After the last round every client takes personal steps at u^T: v_i ← v_i − γ_v ∇̃_vF_i(u^T, v_i).
    """

    one_model = False
    algorithm: Algorithm

    def begin(self, u: Tensor, v: Tensor) -> State:
        return State(u, v)

    def phase(self, t: int, k: int) -> Trained:
        """The problem as the cohort of round t trains on it."""
        return Trained(self.problem, self.recipe.weight_decay, self.shared_steps(t, k), self.personal_steps(t, k))

    def round(self, state: State, t: int, cohort: Tensor) -> State:
        R, k = cohort.shape
        return self.algorithm.step(self.phase(t, k), state, cohort, silence(self.algorithm, self.problem, R, k))

    def before(self, state: State) -> Tensor:
        return self.problem.joined(state.u[:, None, :], state.v)

    def after(self, state: State) -> Tensor:
        recipe, R, n = self.recipe, len(state.u), self.problem.n
        last = FedAlt(recipe.m, 0.0, recipe.gamma_v, tau_u=0, tau_v=recipe.last_steps)
        phase = Trained(self.problem, recipe.weight_decay, iter(()), self.last_steps())
        u, everyone = state.u[:, None, :].expand(-1, n, -1), self.everyone(R)
        v = last.personal_phase(phase, u, state.v, everyone, silence(last, self.problem, R, n).v)
        return self.problem.joined(u, v)


class Alternating(Split):
    """FedAlt: personal steps, then shared steps at the new personal parameters (``fedconv.methods.split.FedAlt``)."""

    method = "fedalt"

    def __init__(self, problem: ModuleProblem, recipe: Recipe, draws: Draws) -> None:
        super().__init__(problem, recipe, draws)
        self.algorithm = FedAlt(recipe.m, recipe.gamma_u, recipe.gamma_v, tau_u=recipe.tau_u, tau_v=recipe.tau_v)


class Simultaneous(Split):
    """FedSim: both move in every local step, on the same rows under the same mask
    (``fedconv.methods.split.FedSim``)."""

    method = "fedsim"

    def __init__(self, problem: ModuleProblem, recipe: Recipe, draws: Draws) -> None:
        super().__init__(problem, recipe, draws)
        self.algorithm = FedSim(recipe.m, recipe.gamma_u, recipe.gamma_v, tau_u=recipe.tau_u, tau_v=recipe.tau_v)

    def phase(self, t: int, k: int) -> Trained:
        return Trained(self.problem, self.recipe.weight_decay, *tee(self.shared_steps(t, k)))


class Local(Rule):
    """Local-only training: nothing is sent. In each round the cohort's clients take τ_v steps on their own rows,
    w_i ← w_i − γ_v ∇̃F_i(w_i), so that a client computes as often as in the other methods."""

    method = "local"
    one_model = False

    def begin(self, u: Tensor, v: Tensor) -> State:
        return State(u[:, :0], self.problem.joined(u[:, None, :], v))

    def round(self, state: State, t: int, cohort: Tensor) -> State:
        _, w = gather(state, cohort)
        w = self.descend(w, cohort, self.recipe.gamma_v, self.personal_steps(t, cohort.shape[1]))
        return State(state.u, scatter(state.v, cohort, w))

    def before(self, state: State) -> Tensor:
        return state.v

    def after(self, state: State) -> Tensor:
        return self.descend(state.v, self.everyone(len(state.v)), self.recipe.gamma_v, self.last_steps())


class Averaging(Rule):
    """FedAvg (McMahan et al. 2017, arXiv 1602.05629), all parameters shared, every client of the cohort counting the
    same: w_i = w^t; w_i ← w_i − γ_u ∇̃F_i(w_i) for τ_u steps; w^{t+1} = (1/m) Σ_{i∈S} w_i. No last local phase."""

    method = "fedavg"

    def begin(self, u: Tensor, v: Tensor) -> State:
        w = self.problem.joined(u, v[:, 0])
        return State(w, w.new_zeros(len(w), self.problem.n, 0))

    def average(self, state: State, t: int, cohort: Tensor) -> Tensor:
        """w^{t+1}."""
        w, _ = gather(state, cohort)
        return self.descend(w, cohort, self.recipe.gamma_u, self.shared_steps(t, cohort.shape[1])).mean(-2)

    def round(self, state: State, t: int, cohort: Tensor) -> State:
        return State(self.average(state, t, cohort), state.v)

    def before(self, state: State) -> Tensor:
        return state.u[:, None, :].expand(-1, self.problem.n, -1)

    def after(self, state: State) -> Tensor:
        return self.before(state)


class FineTuning(Averaging):
    """FedAvg, then every client takes finetune_steps steps of all parameters from w^T: w_i ← w_i − γ_v ∇̃F_i(w_i)."""

    method = "fedavg_finetune"

    def after(self, state: State) -> Tensor:
        return self.descend(self.before(state), self.everyone(len(state.u)), self.recipe.gamma_v, self.last_steps())


class MoreauEnvelopes(Averaging):
    """pFedMe (Dinh, Tran and Nguyen 2020, arXiv 2006.08848, Algorithm 1) with β = 1; R = τ_u, η = γ_u, K = inner_steps.

    Every client of the cohort starts from w_i = w^t and R times draws rows, finds
        θ_i ≈ argmin_θ F̃_i(θ) + (λ/2)‖θ − w_i‖²,
    and moves w_i ← w_i − ηλ(w_i − θ_i). Server: w^{t+1} = (1/m) Σ_{i∈S} w_i. In the paper all clients run and the
    server takes the cohort's, which gives the same w. θ_i is found by K steps θ ← θ − γ_v(∇̃F_i(θ) + λ(θ − w_i)) on
    the rows drawn, from θ = w^t at first and from the last θ_i later, as in the authors' code. After the last round
    every client runs the same phase from w^T, and its last θ_i is its model; before it, w^T is. The objective
    (1/n) Σ_i min_θ F_i(θ) + (λ/2)‖θ − w‖² is not computed.
    """

    method = "pfedme"
    has_objective = False

    def phase(self, w: Tensor, t: int, clients: Tensor) -> tuple[Tensor, Tensor]:
        """(w_i, θ_i) after R steps, both ``(R, k, D)``."""
        recipe, theta = self.recipe, w
        steps = self.shared_steps(t, clients.shape[1], recipe.inner_steps)
        for _ in range(recipe.tau_u):
            theta = self.descend(theta, clients, recipe.gamma_v, islice(steps, recipe.inner_steps), anchor=w)
            w = w - recipe.gamma_u * recipe.lam * (w - theta)
        return w, theta

    def average(self, state: State, t: int, cohort: Tensor) -> Tensor:
        w, _ = gather(state, cohort)
        return self.phase(w, t, cohort)[0].mean(-2)

    def after(self, state: State) -> Tensor:
        return self.phase(self.before(state), self.recipe.rounds, self.everyone(len(state.u)))[1]


class Ditto(Averaging):
    """Ditto (Li, Hu, Beirami and Smith 2021, arXiv 2012.04221, Algorithm 1) on FedAvg.

    w is FedAvg's. In each round every client of the cohort also takes τ_v steps of a whole model of its own towards
    argmin_v F_i(v) + (λ/2)‖v − w^t‖²:  v_i ← v_i − γ_v(∇̃F_i(v_i) + λ(v_i − w^t)), at the w^t it received. v_i^0 = w^0.
    Before the last local phase a client's model is v_i^T, and after it v_i after such steps at w^T. Two objectives, no
    single one.
    """

    method = "ditto"
    has_objective = False

    def begin(self, u: Tensor, v: Tensor) -> State:
        w = self.problem.joined(u, v[:, 0])
        return State(w, w[:, None, :].expand(-1, self.problem.n, -1))

    def round(self, state: State, t: int, cohort: Tensor) -> State:
        w, v = gather(state, cohort)
        v = self.descend(v, cohort, self.recipe.gamma_v, self.personal_steps(t, cohort.shape[1]), anchor=w)
        return State(self.average(state, t, cohort), scatter(state.v, cohort, v))

    def before(self, state: State) -> Tensor:
        return state.v

    def after(self, state: State) -> Tensor:
        anchor, everyone = state.u[:, None, :], self.everyone(len(state.u))
        return self.descend(state.v, everyone, self.recipe.gamma_v, self.last_steps(), anchor)


RULES: dict[str, type[Rule]] = {
    rule.method: rule
    for rule in (Local, Averaging, FineTuning, Alternating, Simultaneous, MoreauEnvelopes, Ditto)
}  # fmt: skip
assert set(RULES) == set(METHODS)


def rule_of(problem: ModuleProblem, recipe: Recipe, draws: Draws) -> Rule:
    """The recipe's method on a problem. Raises InputError where the problem or its module does not fit the recipe."""
    if recipe.m > problem.n:
        raise InputError(f"m must be at most problem.n = {problem.n}; got {recipe.m}")
    if recipe.dropout > 0 and not isinstance(getattr(problem.module, "dropout_width", None), int):
        raise InputError(
            "dropout needs a module with an integer dropout_width that takes masks as forward(x, keep);"
            f" {type(problem.module).__name__} has none"
        )
    return RULES[recipe.method](problem, recipe, draws)


def check_one_model(rule: Rule, v: Tensor) -> None:
    """Raise InputError unless all clients start from one model, V ``(R, n, d_v)``, where the method needs it."""
    if rule.one_model and not torch.equal(v, v[:, :1].expand_as(v)):
        raise InputError(f"starts must give every client the same v for {rule.method}, which starts from one model")
