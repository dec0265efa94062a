"""The torch engine: any problem, any algorithm, CPU or GPU, vectorised over replicates and clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedconv.core.streams import Cause, Streams
from fedconv.methods.split import Algorithm, FedAlt, FedSim, LocalNoise, State, Tally
from fedconv.methods.split.method import gather, scatter
from fedconv.problems.base import Problem
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise, fill

Level = str
LEVELS = ("none", "stationarity", "proof")
STATE = "state"
"""A level of both engines besides LEVELS, for sweeps: what "stationarity" measures at (u^t, V^t), without the virtual
full participation that FedAlt's theorems need. A trace never has it."""


def simulate_block(
    problem: Problem,
    algorithm: Algorithm,
    noise: Noise,
    start: State,
    T: int,
    streams: Streams,
    replicates: np.ndarray,
    level: Level,
    tick: Callable[[], None] | None = None,
) -> dict[str, np.ndarray]:
    """T rounds for the given replicates, all from ``start`` (u ``(d_u,)``, v ``(n, d_v)``).

    Returns arrays ``(R, T)`` for what ``level`` measures, with ``F_final (R,)``, ``u_final (R, d_u)``,
    ``v_final (R, n, d_v)`` and ``cohort (R, T, n)``. What is measured never changes the trajectory.
    ``tick`` is called after each round.
    """

    def local(t: int) -> tuple[Problem, LocalNoise]:
        return problem, draw_noise(problem, algorithm, noise, streams, replicates, t, algorithm.m, absent=False)

    def virtual(t: int, *met: Any) -> Virtual:
        return Virtual(problem, algorithm, noise, streams, replicates, t, *met)

    return play(problem, algorithm, start, T, streams, replicates, level, local, virtual, tick)


def play(
    problem: Problem,
    algorithm: Algorithm,
    start: State,
    T: int,
    streams: Streams,
    replicates: np.ndarray,
    level: Level,
    local: Callable[[int], tuple[Problem, LocalNoise]],
    virtual: Callable[..., Virtual],
    tick: Callable[[], None] | None = None,
) -> dict[str, np.ndarray]:
    """What :func:`simulate_block` returns, for any source of local gradients.

    ``local(t)``: the problem as the cohort of round t meets it, and the noise of its gradients;
    ``virtual(t, state, after, cohort, absent, noise)``: the round with everybody taking part, for what is measured.
    """
    if level == "proof":
        refuse_own_step(algorithm)
    R, m = len(replicates), algorithm.m
    state = State(start.u.to(problem.device).expand(R, -1), start.v.to(problem.device).expand(R, -1, -1))
    measured: dict[str, np.ndarray] = {}
    sampled = np.zeros((R, T, problem.n), dtype=bool)
    for t in range(T):
        order = streams.cohorts(replicates, t, problem.n, m)
        np.put_along_axis(sampled[:, t], order[:, :m], True, axis=1)
        clients = torch.from_numpy(order).to(problem.device)
        cohort, absent = clients[:, :m], clients[:, m:]
        met, drawn = local(t)
        after = algorithm.step(met, state, cohort, drawn)
        if level != "none":
            everyone = virtual(t, state, after, cohort, absent, drawn)
            for key, values in everyone.measure(proof=level == "proof", virtually=level != STATE).items():
                measured.setdefault(key, np.empty((R, T)))[:, t] = values.cpu().numpy()
        state = after
        if tick is not None:
            tick()
    return measured | {
        "cohort": sampled,
        "F_final": problem.objective(state.u, state.v).cpu().numpy(),
        "u_final": state.u.cpu().numpy(),
        "v_final": state.v.cpu().numpy(),
    }


def refuse_own_step(algorithm: Algorithm) -> None:
    """Raise InputError where ``local``, of which the proof's measures are, need not be what a round does."""
    if type(algorithm).step is not Algorithm.step:
        raise InputError(
            f'level "proof" tallies the local steps of Algorithm.local, and {type(algorithm).__name__} has a step of'
            ' its own, which may do others: its level must be "none" or "stationarity"'
        )


def shared_path(
    problem: Problem,
    algorithm: Algorithm,
    noise: Noise,
    start: State,
    T: int,
    streams: Streams,
    replicates: np.ndarray,
) -> np.ndarray:
    """u^0, …, u^T ``(R, T + 1, d_u)`` of the same runs as :func:`simulate_block`'s."""
    R = len(replicates)
    state = State(start.u.to(problem.device).expand(R, -1), start.v.to(problem.device).expand(R, -1, -1))
    path = [state.u]
    for t in range(T):
        order = streams.cohorts(replicates, t, problem.n, algorithm.m)
        cohort = torch.from_numpy(order[:, : algorithm.m]).to(problem.device)
        drawn = draw_noise(problem, algorithm, noise, streams, replicates, t, algorithm.m, absent=False)
        state = algorithm.step(problem, state, cohort, drawn)
        path.append(state.u)
    return torch.stack(path, dim=1).cpu().numpy()


def draw_noise(
    problem: Problem,
    algorithm: Algorithm,
    noise: Noise,
    streams: Streams,
    replicates: np.ndarray,
    t: int,
    k: int,
    *,
    absent: bool,
) -> LocalNoise:
    """Noise of round t for k clients: the sampled ones', or the absent virtual clients' from their own streams."""
    scale_u, scale_v = noise.scales(problem.d_u, problem.d_v)
    law, parameter = noise.code()

    def draw(cause: Cause, tau: int, d: int) -> Tensor:
        out = np.zeros((len(replicates), k * tau * d))
        if law:
            fill(law, parameter, streams.states(cause, replicates, t), out)
        return torch.from_numpy(out.reshape(len(replicates), k, tau, d)).to(problem.device)

    cause_u, cause_v = (Cause.ABSENT_NOISE_U, Cause.ABSENT_NOISE_V) if absent else (Cause.NOISE_U, Cause.NOISE_V)
    if noise.dependence != "independent" and isinstance(algorithm, FedSim):
        common = draw(cause_u, algorithm.tau_u, max(problem.d_u, problem.d_v))
        ours, theirs = common[..., : problem.d_u], common[..., : problem.d_v]
        if noise.dependence != "full":
            theirs = noise.correlation * theirs
            if noise.remainder:
                theirs = theirs + noise.remainder * draw(cause_v, algorithm.tau_v, problem.d_v)
        return LocalNoise(scale_u * ours, scale_v * theirs)
    return LocalNoise(
        scale_u * draw(cause_u, algorithm.tau_u, problem.d_u),
        scale_v * draw(cause_v, algorithm.tau_v, problem.d_v),
    )


class Virtual:
    """Virtual full participation in one round: every client runs its local steps from (u^t, v_i^t).

    The sampled clients' virtual steps are their real ones; the absent use noise of their own. Ṽ^{t+1} collects all
    personal results, V⁺ = V^{t+1} only the sampled ones'.
    """

    def __init__(
        self,
        problem: Problem,
        algorithm: Algorithm,
        noise: Noise,
        streams: Streams,
        replicates: np.ndarray,
        t: int,
        state: State,
        after: State,
        cohort: Tensor,
        absent: Tensor,
        drawn: LocalNoise,
    ) -> None:
        self.problem, self.algorithm, self.state, self.after = problem, algorithm, state, after
        self.cohort, self.absent, self.drawn = cohort, absent, drawn
        self._absent_noise = lambda: draw_noise(
            problem, algorithm, noise, streams, replicates, t, absent.shape[1], absent=True
        )

    def measure(self, proof: bool, virtually: bool = True) -> dict[str, Tensor]:
        """Scalars per replicate ``(R,)``; names and formulas in ``fedconv.core.trace.VARIABLES``. Not ``virtually``:
        only those at (u^t, V^t)."""
        problem, state = self.problem, self.state
        clients = problem.everyone()
        u = state.u[:, None, :].expand(-1, problem.n, -1)
        gradient, diversity = self._shared_gradient(state.v)
        out = {
            "F": problem.objective(state.u, state.v),
            "grad_u_sq": gradient.square().sum(-1),
            "grad_v_sq": problem.grad_v(u, state.v, clients).square().sum(-1).mean(-1),
            "diversity": diversity,
        }
        tallies: tuple[Tally, Tally] | None = None
        virtual: Tensor | None = None
        if proof:
            virtual, tallies = self._everyone()
        elif virtually and self.algorithm.measured_at == "virtual":
            virtual = self._personal()
        at_virtual = gradient
        if virtual is not None and self.algorithm.measured_at == "virtual":
            at_virtual, diversity = self._shared_gradient(virtual)
            out |= {"grad_u_virtual_sq": at_virtual.square().sum(-1), "diversity_virtual": diversity}
        if virtual is not None and tallies is not None:
            out |= self._proof(virtual, tallies, at_virtual)
        return out

    def _shared_gradient(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """∇_uF(u^t, V) ``(R, d_u)`` and the diversity (1/n) Σ ‖∇_uF_i − ∇_uF‖² ``(R,)``."""
        u = self.state.u[:, None, :].expand(-1, self.problem.n, -1)
        each = self.problem.grad_u(u, v, self.problem.everyone())
        mean = each.mean(-2)
        return mean, (each - mean[:, None, :]).square().sum(-1).mean(-1)

    def _personal(self) -> Tensor:
        """Ṽ^{t+1}, for algorithms whose personal phase comes first."""
        if not isinstance(self.algorithm, FedAlt):
            raise InputError(
                f'measured_at = "virtual" needs FedAlt\'s personal_phase; {type(self.algorithm).__name__} has none'
            )
        if type(self.algorithm).step is not Algorithm.step:
            self._same_phase(self.algorithm)
        u, v = gather(self.state, self.absent)
        return scatter(
            self.after.v,
            self.absent,
            self.algorithm.personal_phase(self.problem, u, v, self.absent, self._absent_noise().v),
        )

    def _same_phase(self, algorithm: FedAlt) -> None:
        """Raise InputError where a step of its own moves the cohort's v otherwise than ``personal_phase`` would, with
        which the absent are moved: half of Ṽ^{t+1} would be another algorithm's."""
        u, v = gather(self.state, self.cohort)
        phase = algorithm.personal_phase(self.problem, u, v, self.cohort, self.drawn.v)
        _, moved = gather(self.after, self.cohort)
        if not torch.allclose(phase, moved, rtol=1e-9, atol=0.0, equal_nan=True):
            raise InputError(
                f"{type(algorithm).__name__}.step moves the personal parameters otherwise than its personal_phase, so"
                ' that the virtual Ṽ is not known; with measured_at = "state" in its body it is measured without'
            )

    def _everyone(self) -> tuple[Tensor, tuple[Tally, Tally]]:
        """Ṽ^{t+1} and the tallies of the sampled and of the absent."""
        present, away = Tally(), Tally()
        u, v = gather(self.state, self.cohort)
        self.algorithm.local(self.problem, u, v, self.cohort, self.drawn, present)
        u, v = gather(self.state, self.absent)
        _, v_absent = self.algorithm.local(self.problem, u, v, self.absent, self._absent_noise(), away)
        told = (present.steps_u, present.steps_v)
        if told != (self.algorithm.tau_u, self.algorithm.tau_v):
            raise InputError(
                f'level "proof" needs every local step told to the tally, tau_u = {self.algorithm.tau_u} and tau_v ='
                f" {self.algorithm.tau_v} of them; {type(self.algorithm).__name__}.local told {told[0]} and {told[1]}"
            )
        return scatter(self.after.v, self.absent, v_absent), (present, away)

    def _proof(self, virtual: Tensor, tallies: tuple[Tally, Tally], at: Tensor) -> dict[str, Tensor]:
        n, m = self.problem.n, self.algorithm.m
        present, away = tallies
        zero = torch.zeros_like(at)
        y_present = torch.as_tensor(present.y_u).sum(1) if self.algorithm.tau_u else zero
        y_absent = torch.as_tensor(away.y_u).sum(1) if self.algorithm.tau_u else zero
        z_present = torch.as_tensor(present.z_u).sum(1) if self.algorithm.tau_u else zero
        y_mean = (y_present + y_absent) / n
        gradient_after, _ = self._shared_gradient(self.after.v)
        gradient_virtual, _ = self._shared_gradient(virtual)

        def total(a: Tensor | float, b: Tensor | float) -> Tensor:
            if isinstance(a, Tensor) and isinstance(b, Tensor):
                return (a.sum(-1) + b.sum(-1)) / n
            return at.new_zeros(at.shape[0])

        return {
            "drift_u": total(present.drift_u, away.drift_u),
            "drift_v": total(present.drift_v, away.drift_v),
            "displacement": (virtual - self.state.v).square().sum(-1).mean(-1),
            "l6_gap_sq": (gradient_after - gradient_virtual).square().sum(-1),
            "l7_sampled": (at * (y_present + z_present)).sum(-1) / m,
            "l7_full": (at * y_mean).sum(-1),
            "l7_real_sampled": (gradient_after * y_present).sum(-1) / m,
            "l7_real_full": (gradient_after * y_mean).sum(-1),
        }
