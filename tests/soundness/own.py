"""What a user may bring: algorithms that do a little more than FedAlt or FedSim, problems with an added term, constants
that are wrong, participation of one's own. Each is a subclass that the tool must not take for its parent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fedconv.core.run import Experiment
from fedconv.core.streams import Cause, Streams
from fedconv.methods.split import FedAlt, FedSim, LocalNoise, State
from fedconv.methods.split.method import gather, scatter
from fedconv.methods.split.torch_engine import Virtual, draw_noise
from fedconv.problems.base import Constant, Constants, Problem
from fedconv.problems.split.quadratic import Quadratic
from fedconv.problems.split.trigonometric import Trigonometric

NAMES = (
    "own-server", "own-momentum", "own-control", "own-clipped", "own-proximal", "own-decay", "own-server-sim",
    "own-bernoulli",
)  # fmt: skip


@dataclass(frozen=True)
class ServerStep(FedAlt):
    """u⁺ = u + s (ū − u)."""

    name: ClassVar[str] = "own-server"
    server: float = field(kw_only=True, default=3.0)

    def step(self, problem: Problem, state: State, cohort: Tensor, noise: LocalNoise) -> State:
        after = super().step(problem, state, cohort, noise)
        return State(state.u + self.server * (after.u - state.u), after.v)


@dataclass(frozen=True)
class ServerStepSim(FedSim):
    """The same upon FedSim."""

    name: ClassVar[str] = "own-server-sim"
    server: float = field(kw_only=True, default=3.0)

    def step(self, problem: Problem, state: State, cohort: Tensor, noise: LocalNoise) -> State:
        after = super().step(problem, state, cohort, noise)
        return State(state.u + self.server * (after.u - state.u), after.v)


@dataclass(frozen=True)
class WithVelocity(State):
    """Also the server's velocity ``(R, d_u)``."""

    velocity: Tensor | None = None


@dataclass(frozen=True)
class Momentum(FedAlt):
    """w⁺ = β w + (ū − u), u⁺ = u + w⁺."""

    name: ClassVar[str] = "own-momentum"
    beta: float = field(kw_only=True, default=0.9)

    def step(self, problem: Problem, state: State, cohort: Tensor, noise: LocalNoise) -> State:
        after = super().step(problem, state, cohort, noise)
        velocity = getattr(state, "velocity", None)
        velocity = torch.zeros_like(state.u) if velocity is None else velocity
        velocity = self.beta * velocity + (after.u - state.u)
        return WithVelocity(state.u + velocity, after.v, velocity)


@dataclass(frozen=True)
class WithControls(State):
    """Also control variates: the clients' ``(R, n, d_u)`` and their mean ``(R, d_u)``."""

    own: Tensor | None = None
    mean: Tensor | None = None


@dataclass(frozen=True)
class Controlled(FedAlt):
    """SCAFFOLD's control variates in the shared phase."""

    name: ClassVar[str] = "own-control"

    def step(self, problem: Problem, state: State, cohort: Tensor, noise: LocalNoise) -> State:
        u, v = gather(state, cohort)
        R = state.u.shape[0]
        own, mean = getattr(state, "own", None), getattr(state, "mean", None)
        own = state.u.new_zeros(R, problem.n, problem.d_u) if own is None else own
        mean = torch.zeros_like(state.u) if mean is None else mean
        mine = torch.take_along_dim(own, cohort[..., None], dim=1)
        v = self.personal_phase(problem, u, v, cohort, noise.v)
        w = u
        for k in range(self.tau_u):
            w = w - self.gamma_u * (problem.grad_u(w, v, cohort) + noise.u[:, :, k] - mine + mean[:, None])
        new = mine - mean[:, None] + (u - w) / (self.tau_u * self.gamma_u)
        mean = mean + (new - mine).sum(1) / problem.n
        return WithControls(w.mean(1), scatter(state.v, cohort, v), scatter(own, cohort, new), mean)


@dataclass(frozen=True)
class Clipped(FedAlt):
    """Each shared gradient is cut to a norm."""

    name: ClassVar[str] = "own-clipped"
    clip: float = field(kw_only=True, default=0.05)

    def shared_phase(
        self, problem: Problem, u: Tensor, v: Tensor, clients: Tensor, noise: Tensor, tally=None
    ) -> Tensor:
        for k in range(self.tau_u):
            g = problem.grad_u(u, v, clients) + noise[:, :, k]
            u = u - self.gamma_u * g * (self.clip / g.norm(dim=-1, keepdim=True).clamp(min=self.clip))
        return u


def unnamed() -> type[FedAlt]:
    """A class whose author forgot its name. Made when asked for, as the tool may refuse the class itself."""

    @dataclass(frozen=True)
    class Forgotten(FedAlt):
        def step(self, problem: Problem, state: State, cohort: Tensor, noise: LocalNoise) -> State:
            after = super().step(problem, state, cohort, noise)
            return State(state.u + 3.0 * (after.u - state.u), after.v)

    return Forgotten


@dataclass(frozen=True)
class Proximal(FedAlt):
    """μ (u_k − u) is added to each shared gradient."""

    name: ClassVar[str] = "own-proximal"
    mu: float = field(kw_only=True, default=5.0)

    def shared_phase(
        self, problem: Problem, u: Tensor, v: Tensor, clients: Tensor, noise: Tensor, tally=None
    ) -> Tensor:
        start = u
        for k in range(self.tau_u):
            u = u - self.gamma_u * (problem.grad_u(u, v, clients) + self.mu * (u - start) + noise[:, :, k])
        return u


@dataclass(frozen=True)
class Decaying(FedAlt):
    """Weight decay in the local steps of both blocks."""

    name: ClassVar[str] = "own-decay"
    decay: float = field(kw_only=True, default=0.5)

    def local(self, problem: Problem, u: Tensor, v: Tensor, clients: Tensor, noise: LocalNoise, tally=None):
        u_end, v_end = super().local(problem, u, v, clients, noise, tally)
        return u_end - self.decay * u, v_end


@dataclass(frozen=True)
class Bernoulli(FedAlt):
    """Every client takes part with a probability; the server averages those present."""

    name: ClassVar[str] = "own-bernoulli"
    probability: float = field(kw_only=True, default=0.5)

    def masked(self, problem: Problem, state: State, mask: Tensor, noise: LocalNoise) -> State:
        """A round of the clients in the mask ``(R, n)``."""
        everyone = problem.everyone().expand(len(mask), -1)
        u, v = gather(state, everyone)
        u_end, v_end = self.local(problem, u, v, everyone, noise)
        count = mask.sum(-1, keepdim=True)
        mean = (u_end * mask[..., None]).sum(1) / count.clamp(min=1)
        return State(torch.where(count > 0, mean, state.u), torch.where(mask[..., None] > 0, v_end, state.v))


@dataclass(frozen=True)
class BernoulliExperiment(Experiment):
    """An experiment whose cohorts are drawn by the algorithm."""

    algorithm: Bernoulli

    @property
    def deterministic(self) -> bool:
        return self.noise.silent and self.algorithm.probability == 1

    def choose(self, engine: str) -> tuple[str, str]:
        return "eager", "own participation"

    def block(self, streams: Streams, replicates: np.ndarray, level: str, engine: str) -> dict[str, np.ndarray]:
        problem, algorithm, R = self.problem, self.algorithm, len(replicates)
        state = State(self.start.u.expand(R, -1), self.start.v.expand(R, -1, -1))
        everyone = torch.arange(problem.n).expand(R, -1)
        out: dict[str, np.ndarray] = {}
        here = np.zeros((R, self.T, problem.n), dtype=bool)
        for t in range(self.T):
            words = streams.states(Cause.EXPLORE, replicates, t)
            mask = np.stack([np.random.default_rng(w).random(problem.n) < algorithm.probability for w in words])
            here[:, t] = mask
            noise = draw_noise(problem, algorithm, self.noise, streams, replicates, t, problem.n, absent=False)
            after = algorithm.masked(problem, state, torch.from_numpy(mask.astype(np.int64)), noise)
            u, v = gather(state, everyone)
            moved = State(after.u, algorithm.personal_phase(problem, u, v, everyone, noise.v))
            at = (streams, replicates, t, state, moved, everyone, everyone[:, :0], noise)
            for key, values in Virtual(problem, algorithm, self.noise, *at).measure(proof=False).items():
                out.setdefault(key, np.empty((R, self.T)))[:, t] = values.numpy()
            state = after
        final = problem.objective(state.u, state.v).numpy()
        return out | {"cohort": here, "F_final": final, "u_final": state.u.numpy(), "v_final": state.v.numpy()}


ALGORITHMS: tuple[tuple[type[FedAlt | FedSim], dict[str, tuple[float, ...]]], ...] = (
    (ServerStep, {"server": (0.1, 3.0, 40.0)}),
    (ServerStepSim, {"server": (3.0, 40.0)}),
    (Momentum, {"beta": (0.5, 0.9)}),
    (Controlled, {}),
    (Clipped, {"clip": (0.01, 0.2)}),
    (Proximal, {"mu": (5.0, 50.0)}),
    (Decaying, {"decay": (0.2, 1.5)}),
)
"""Each with the values of its parameter."""


# ---- problems ------------------------------------------------------------------------------------------------------


def _arrays(problem: Problem, names: str | tuple[str, ...]) -> dict[str, Any]:
    return {k: getattr(problem, k).numpy() for k in names}


def rebuilt(problem: Problem, kind: type) -> Any:
    """The quadratic or trigonometric problem's arrays in a subclass of it."""
    names = tuple("ABCab") if isinstance(problem, Quadratic) else ("a", "b", "kappa", "h", "s")
    return kind(**_arrays(problem, names))


class _Added:
    """½μ‖v‖² more, or ½μ‖u‖² more: value and gradient; constants that allow for it."""

    family = "own-added"
    mu_u, mu_v = 0.0, 0.0

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        more = 0.5 * self.mu_u * u.square().sum(-1) + 0.5 * self.mu_v * v.square().sum(-1)
        return super().value(u, v, clients) + more  # pyright: ignore[reportAttributeAccessIssue]

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return super().grad_u(u, v, clients) + self.mu_u * u  # pyright: ignore[reportAttributeAccessIssue]

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return super().grad_v(u, v, clients) + self.mu_v * v  # pyright: ignore[reportAttributeAccessIssue]

    def _constants(self) -> Constants:
        k = super()._constants()  # pyright: ignore[reportAttributeAccessIssue]
        return replace(
            k,
            L_u=Constant(k.L_u.value + self.mu_u, "upper"),
            L_v=Constant(k.L_v.value + self.mu_v, "upper"),
            F_star=Constant(k.F_star.value, "upper"),
        )


def added(problem: Problem, mu_u: float, mu_v: float) -> Problem:
    """The problem with both terms added, as a subclass of its own class. The diversity does not change: the term is
    the same for every client at the server's u."""
    base = type(problem)
    kind = type("Added", (_Added, base), {"mu_u": mu_u, "mu_v": mu_v})
    return rebuilt(problem, kind)


def claiming(problem: Problem, **values: float) -> Problem:
    """The problem with other values of its constants, called exact."""
    base = type(problem)

    def _constants(self: Any) -> Constants:
        k = base._constants(self)
        return replace(k, **{name: Constant(x, "exact", "claimed") for name, x in values.items()})

    return rebuilt(problem, type("Claiming", (base,), {"_constants": _constants, "family": "own-claiming"}))


__all__ = ["ALGORITHMS", "NAMES", "Bernoulli", "BernoulliExperiment", "Quadratic", "Trigonometric", "added", "claiming"]
