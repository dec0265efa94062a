"""Classes of a user's own are never taken for those that they inherit from: not by an exact route, not by a kernel, not
by a closed form, not in the record of a run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedconv.analysis import exact
from fedconv.analysis.exact import ffgg as exact_ffgg
from fedconv.analysis.proofs.replay import prove
from fedconv.analysis.theorems import FA
from fedconv.analysis.verdicts.verify import verify
from fedconv.core.run import Block, Experiment, run
from fedconv.core.streams import Cause, Streams
from fedconv.core.trace import read
from fedconv.methods.fedfomo import target_losses as judge
from fedconv.methods.fedspa import constants as masked
from fedconv.methods.ffgg.experiment import FFGGExperiment
from fedconv.methods.ffgg.method import FFGG
from fedconv.methods.ffgg.robust.aggregators import Median
from fedconv.methods.ffgg.robust.preaggregation import Defence, Nothing
from fedconv.methods.ffgg.robust.robustness import kappa_of, robustness_of
from fedconv.methods.split import FedAlt, FedSim, State, reference
from fedconv.methods.split import compiled_engine as fused
from fedconv.methods.split.method import gather
from fedconv.methods.split.torch_engine import Virtual, draw_noise
from fedconv.problems import written_for as rule
from fedconv.problems.base import Constant, Constants
from fedconv.problems.envelopes.quadratic import EnvelopeQuadratic
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.registry import build_problem
from fedconv.problems.split.full_personalization import FullPersonalization
from fedconv.problems.split.quadratic import Quadratic
from fedconv.problems.split.trigonometric import Trigonometric

MU = 0.75


@dataclass(frozen=True)
class ServerStep(FedAlt):
    name: ClassVar[str] = "own-server"
    eta_s: float = field(kw_only=True, default=1.7)

    def step(self, problem, state, cohort, noise):
        after = super().step(problem, state, cohort, noise)
        return State(state.u + self.eta_s * (after.u - state.u), after.v)


@dataclass(frozen=True)
class WithMomentum(State):
    mom: Tensor | None = None


@dataclass(frozen=True)
class Momentum(FedAlt):
    name: ClassVar[str] = "own-momentum"
    beta: float = field(kw_only=True, default=0.5)

    def step(self, problem, state, cohort, noise):
        after = super().step(problem, state, cohort, noise)
        mom = self.beta * getattr(state, "mom", torch.zeros_like(state.u)) + (after.u - state.u)
        return WithMomentum(state.u + mom, after.v, mom)


@dataclass(frozen=True)
class Clipped(FedAlt):
    name: ClassVar[str] = "own-clipped"
    clip: float = field(kw_only=True, default=0.4)

    def shared_phase(self, problem, u, v, clients, noise, tally=None):
        for k in range(self.tau_u):
            g = problem.grad_u(u, v, clients) + noise[:, :, k]
            u = u - self.gamma_u * g * (self.clip / g.norm(dim=-1, keepdim=True).clamp(min=self.clip))
        return u


@dataclass(frozen=True)
class Bernoulli(FedAlt):
    name: ClassVar[str] = "own-bernoulli"


def present(streams: Streams, replicates: np.ndarray, t: int, n: int) -> np.ndarray:
    """Who takes part, each with probability ½, ``(R, n)``."""
    words = streams.states(Cause.EXPLORE, replicates, t)
    return np.stack([np.random.default_rng(w).random(n) < 0.5 for w in words])


@dataclass(frozen=True)
class BernoulliExperiment(Experiment):
    """Everybody computes (m = n); the server averages those present."""

    def block(self, streams: Streams, replicates: np.ndarray, level: str, engine: str) -> Block:
        p, a, R = self.problem, self.algorithm, len(replicates)
        state = State(self.start.u.expand(R, -1), self.start.v.expand(R, -1, -1))
        everyone, out = torch.arange(p.n).expand(R, -1), {}
        for t in range(self.T):
            here = torch.from_numpy(present(streams, replicates, t, p.n))
            noise = draw_noise(p, a, self.noise, streams, replicates, t, p.n, absent=False)
            u_all, v_all = a.local(p, *gather(state, everyone), everyone, noise)
            count = here.sum(-1, keepdim=True)
            mean = (u_all * here[..., None]).sum(1) / count.clamp(min=1)
            after = State(torch.where(count > 0, mean, state.u), torch.where(here[..., None], v_all, state.v))
            met = (state, State(after.u, v_all), everyone, everyone[:, :0], noise)
            seen = Virtual(p, a, self.noise, streams, replicates, t, *met)
            for key, x in seen.measure(proof=False).items():
                out.setdefault(key, np.empty((R, self.T)))[:, t] = x.numpy()
            state = after
        final = {"F_final": p.objective(state.u, state.v), "u_final": state.u, "v_final": state.v}
        return out | {key: x.numpy() for key, x in final.items()} | {"cohort": np.zeros((R, self.T, p.n), dtype=bool)}


@dataclass(frozen=True)
class Louder(Noise):
    """Two-point noise at three times the size that Noise would give it."""

    law: Any = "louder"

    def code(self) -> tuple[int, float]:
        return 2, 0.0

    def scales(self, d_u: int, d_v: int) -> tuple[float, float]:
        u, v = super().scales(d_u, d_v)
        return 3 * u, 3 * v


def plus_l2(base: type) -> type:
    """A subclass with (μ/2)‖v‖² added to every client's loss."""

    class Mine(base):
        def value(self, u, v, clients):
            return super().value(u, v, clients) + MU / 2 * v.square().sum(-1)

        def grad_v(self, u, v, clients):
            return super().grad_v(u, v, clients) + MU * v

        def _constants(self) -> Constants:
            known = super()._constants()
            return replace(known, L_v=Constant(known.L_v.value + MU, "upper"))

        def to(self, device):
            return self

    return Mine


def quadratic(kind: type = Quadratic, n: int = 3) -> Any:
    rng = np.random.default_rng(3)
    A, B = (x[:, None, None] * np.eye(2) for x in rng.uniform(0.5, 1.0, (2, n)))
    return kind(A=A, B=B, C=0.1 * rng.standard_normal((n, 2, 2)), a=rng.standard_normal((n, 2)),
                b=rng.standard_normal((n, 2)))  # fmt: skip


def waves(kind: type = Trigonometric) -> Any:
    return kind(a=[1.0], b=[0.8], kappa=[0.2], h=[[0.3], [-0.3]], s=[[0.4], [-0.2]])


def start(problem: Any, kind: type = State) -> State:
    return kind(torch.ones(problem.d_u, dtype=torch.float64), torch.ones(problem.n, problem.d_v, dtype=torch.float64))


def plain_loop(e: Experiment, replicates: int) -> tuple[np.ndarray, np.ndarray]:
    """Means over rounds of X = ‖∇_uF(u, Ṽ)‖² and Y = (1/n) Σ_i ‖∇_vF_i‖², each ``(replicates,)``, client by client."""
    p, a, streams = e.problem, e.algorithm, Streams(e.seed)
    bernoulli = isinstance(e, BernoulliExperiment)

    def slopes(i: int, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(p, Quadratic):
            A, B, C, a_, b = (x[i].numpy() for x in (p.A, p.B, p.C, p.a, p.b))
            g, h = A @ u + C @ v - a_, C.T @ u + B @ v - b
        else:
            assert isinstance(p, Trigonometric)
            A, B, K, H, S = (x.numpy() for x in (p.a, p.b, p.kappa, p.h[i], p.s[i]))
            g, h = A * np.sin(u) + H + K * np.cos(u) * np.sin(v), B * np.sin(v - S) + K * np.sin(u) * np.cos(v)
        return g, h + (0.0 if type(p) in (Quadratic, Trigonometric) else MU) * v

    X, Y = np.zeros(replicates), np.zeros(replicates)
    for r in range(replicates):
        draws = reference.draw(p, a, e.noise, e.T, streams, r)
        u, V, mom = e.start.u.numpy().copy(), e.start.v.numpy().copy(), 0.0
        for t in range(e.T):
            ends, virtual = {}, V.copy()
            for i in range(p.n):
                for k in range(a.tau_v):
                    virtual[i] = virtual[i] - a.gamma_v * (slopes(i, u, virtual[i])[1] + draws.v[t, i, k])
                x = u
                for k in range(a.tau_u):
                    g = slopes(i, x, virtual[i])[0] + draws.u[t, i, k]
                    if isinstance(a, Clipped):
                        g = g * min(1.0, a.clip / np.linalg.norm(g))
                    x = x - a.gamma_u * g
                ends[i] = x
            X[r] += np.square(np.mean([slopes(i, u, virtual[i])[0] for i in range(p.n)], axis=0)).sum() / e.T
            Y[r] += np.mean([np.square(slopes(i, u, V[i])[1]).sum() for i in range(p.n)]) / e.T
            cohort = list(draws.cohorts[t])
            if bernoulli:
                cohort = list(np.flatnonzero(present(streams, np.array([r]), t, p.n)[0]))
            after = np.mean([ends[i] for i in cohort], axis=0) if cohort else u
            if isinstance(a, ServerStep):
                after = u + a.eta_s * (after - u)
            if isinstance(a, Momentum):
                mom = a.beta * mom + (after - u)
                after = u + mom
            u = after
            V[cohort] = virtual[cohort]
    return X, Y


MINE = replace(FA, algorithms=("fedalt", "own-server", "own-momentum", "own-clipped", "own-bernoulli"), mutants=())
REPLICATES = 8


def case(kind: type, problem: str, added: bool, law: str) -> Experiment:
    """A short run of the algorithm of that class."""
    family, build = (Quadratic, quadratic) if problem == "quadratic" else (Trigonometric, waves)
    p = build(plus_l2(family) if added else family)
    noise = Louder(sigma_u=0.4, sigma_v=0.3) if law == "louder" else Noise(law, 0.4, 0.3)  # type: ignore[arg-type]
    bernoulli = kind is Bernoulli
    a = kind(p.n if bernoulli else p.n - 1, 0.2, 0.2, tau_u=1, tau_v=1)
    return (BernoulliExperiment if bernoulli else Experiment)(p, a, noise, start(p), T=2)


def measured(e: Experiment) -> float:
    return verify(e, [MINE], max_replicates=REPLICATES, a_posteriori=True)[0].verdict.measured


def looped(e: Experiment) -> float:
    """The same from the plain loop."""
    verdict = verify(e, [MINE], max_replicates=REPLICATES, a_posteriori=True)[0].verdict
    from fedconv.analysis.theorems.split.facts import of_experiment

    values = MINE.evaluate(of_experiment(e).with_diversity(0.0).values, verdict.parameters)
    X, Y = plain_loop(e, REPLICATES)
    return float((values["weight_u"] * X / values["L_u"] + values["weight_v"] * Y / values["L_v"]).mean())


@given(
    kind=st.sampled_from([FedAlt, ServerStep, Momentum, Clipped, Bernoulli]),
    problem=st.sampled_from(["quadratic", "waves"]),
    added=st.booleans(),
    law=st.sampled_from(["rademacher", "louder"]),
)
@settings(max_examples=25, deadline=None)
def test_what_is_measured_is_what_the_users_own_code_does(kind: type, problem: str, added: bool, law: str) -> None:
    e = case(kind, problem, added, law)
    if kind is FedAlt and law == "rademacher" and not (added and problem == "quadratic"):
        assert verify(e, [MINE], a_posteriori=True)[0].verdict.method == "exact"
        return
    assert measured(e) == pytest.approx(looped(e), rel=1e-9)


CASES = {
    "server step": (ServerStep, "quadratic", False, "rademacher"),
    "momentum": (Momentum, "waves", False, "rademacher"),
    "clipping": (Clipped, "waves", False, "rademacher"),
    "Bernoulli cohorts": (Bernoulli, "quadratic", False, "rademacher"),
    "added term": (FedAlt, "quadratic", True, "rademacher"),
    "noise": (FedAlt, "quadratic", False, "louder"),
}


@pytest.mark.parametrize("what", CASES)
def test_with_isinstance_in_place_of_the_exact_type_it_would_not(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of the guard, which the test above kills."""
    e = case(*CASES[what])
    assert exact.exact_trace(e) is None
    right = looped(e)
    assert measured(e) == pytest.approx(right, rel=1e-9)
    monkeypatch.setattr(exact, "written_for", lambda x, *kinds: isinstance(x, kinds))
    assert exact.exact_trace(e) is not None
    assert measured(e) != pytest.approx(right, rel=1e-3)


def test_a_start_with_a_state_of_its_own_is_sampled() -> None:
    p = quadratic()
    e = Experiment(p, FedAlt(2, 0.2, 0.2, tau_u=1, tau_v=1), Noise("rademacher", 0.4, 0.3), start(p, WithMomentum), T=2)
    assert exact.exact_trace(e) is None
    assert "start of the class State; this one is of WithMomentum" in str(exact.known_rounds(e))
    with pytest.raises(InputError, match="start of the class State"):
        exact.tree_expectations(e)
    assert "WithMomentum has no compiled kernel" in str(fused.supported(p, e.algorithm, e.noise, e.start))


@pytest.mark.parametrize("compute", [exact.expectations, exact.tree_expectations])
def test_exact_expectations_of_an_own_algorithm_are_refused(compute: Any) -> None:
    with pytest.raises(InputError, match=r"algorithm of the class FedAlt or .*; this one is of ServerStep"):
        compute(case(ServerStep, "quadratic", False, "rademacher"))


# ---- kernels, closed forms, constants ----------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "build"), [(Quadratic, quadratic), (Trigonometric, waves)])
def test_a_problem_with_an_added_term_keeps_no_shortcut_of_its_parent(family: type, build: Any) -> None:
    parent, mine = build(family), build(plus_l2(family))
    assert parent.kernel() is not None
    assert mine.kernel() is None
    assert parent.minimiser() is not None
    assert mine.minimiser() is None
    assert mine.gradient_bounds() is None
    assert "the problem family 'Mine' has no compiled kernel" in str(
        fused.supported(mine, FedAlt(1, 1, 1, tau_u=1, tau_v=1))
    )

    class Copied(family):
        pass

    with pytest.raises(InputError, match=rf"Copied\.to is inherited and gives a {family.__name__}: write to in Copied"):
        build(Copied).to("cpu")
    e = Experiment(mine, FedAlt(2, 0.1, 0.1, tau_u=2, tau_v=2), Noise("gaussian", 0.1, 0.1), start(mine), T=600)
    trace = run(e, 1)
    assert trace.attrs["engine"] == "eager"
    assert read(trace, "problem") == {"family": "Mine"}
    assert float(trace["F"][0, 0]) == pytest.approx(float(mine.objective(e.start.u, e.start.v)), rel=1e-12)


def test_full_personalization_over_an_own_base_is_no_quadratic() -> None:
    rng = np.random.default_rng(0)
    arrays = {"A": np.zeros((2, 0, 0)), "B": np.stack([np.eye(2)] * 2), "C": np.zeros((2, 0, 2)),
              "a": np.zeros((2, 0)), "b": rng.standard_normal((2, 2))}  # fmt: skip
    plain, mine = (FullPersonalization(base=k(**arrays), lam=1.0) for k in (Quadratic, plus_l2(Quadratic)))
    assert plain.as_quadratic() is not None
    assert plain.kernel() is not None
    assert (mine.as_quadratic(), mine.kernel(), mine.minimiser()) == (None, None, None)
    assert mine.constants.L_v.value == plain.constants.L_v.value + MU
    assert exact.as_quadratic(mine) is None

    class Wrapped(FullPersonalization):
        def grad_u(self, u, v, clients):
            return 2 * super().grad_u(u, v, clients)

    wrapped = Wrapped(base=plain.base, lam=1.0)
    assert exact.as_quadratic(wrapped) is None
    assert (wrapped.as_quadratic(), wrapped.kernel()) == (None, None)


def test_a_loss_without_constants_of_its_own_is_refused() -> None:
    class Mine(Quadratic):
        def value(self, u, v, clients):
            return super().value(u, v, clients) + v.square().sum(-1)

    class Further(Mine):
        pass

    for kind in (Mine, Further):
        with pytest.raises(
            InputError, match=r"Mine\.value replaces what Quadratic\._constants is about: write _constants"
        ):
            _ = quadratic(kind).constants

    class Said(Mine):
        def _constants(self) -> Constants:
            return super()._constants()

    assert quadratic(Said).constants.L_v.value == quadratic().constants.L_v.value


def test_a_class_that_promises_to_compute_as_its_parent_keeps_its_shortcuts() -> None:
    class Logged(Quadratic):
        computes_as = Quadratic

        def value(self, u, v, clients):
            return super().value(u, v, clients)

    class Below(Logged):
        """What it inherits is no promise of its own."""

    one, below = quadratic(Logged), quadratic(Below)
    assert one.kernel() is not None
    assert one.constants == quadratic().constants
    assert exact.as_quadratic(one) is one
    assert below.kernel() is None
    assert exact.as_quadratic(below) is None
    assert (
        exact.as_quadratic(EnvelopeQuadratic(A=[[[1.0]]], B=[[[1.0]]], C=[[[0.0]]], a=[[0.0]], b=[[0.0]])) is not None
    )

    class Stranger(Quadratic):
        computes_as = Trigonometric

    with pytest.raises(InputError, match=r"Stranger\.computes_as must be a class that it inherits from"):
        rule.written_for(quadratic(Stranger), Quadratic)


@dataclass(frozen=True)
class LoggedFedAlt(FedAlt):
    name: ClassVar[str] = "logged"
    computes_as: ClassVar[type] = FedAlt


def test_an_algorithm_that_promises_so_is_exact_and_compiled() -> None:
    p = quadratic()
    e = Experiment(p, LoggedFedAlt(2, 0.2, 0.2, tau_u=1, tau_v=1), Noise("gaussian", 0.1, 0.1), start(p), T=600)
    assert exact.exact_trace(e) is not None
    assert e.choose("auto")[0] == "fused"


@pytest.mark.parametrize("masks", [None, np.array([[True, False, True, True]] * 3)])
def test_masked_constants_of_an_added_term_are_not_the_parents(
    masks: np.ndarray | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = quadratic(plus_l2(Quadratic))
    found = masked.masked_constants(mine, masks)
    assert found.delta == masked.UNKNOWN
    assert found.L.grade == "upper"
    assert found.L.value >= 0.5 + MU
    monkeypatch.setattr(masked, "written_for", lambda x, *kinds: isinstance(x, kinds))
    assert masked.masked_constants(mine, masks).L.grade == "exact"  # the mutant says "exact" of the parent's


def test_target_losses_of_an_added_term_are_not_the_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = quadratic(plus_l2(Quadratic))
    assert judge.loss_constants(quadratic()).L.grade == "exact"
    assert judge.loss_constants(mine).L.grade == "upper"
    targets: Any = build_problem({"family": "quadratic_targets_arrays", "A": [[[1.0]]] * 2, "b": [[0.0], [1.0]],
                                  "H": [[[1.0]]] * 2, "c": [[0.0], [1.0]]})  # fmt: skip

    class Other(type(targets)):  # type: ignore[misc]
        def target_value(self, u, v, clients):
            return super().target_value(u, v, clients) + v.square().sum(-1)

    arrays = {k: getattr(targets, k).numpy() for k in ("A", "b", "H", "c")}
    other = judge.Judge(Other(**arrays), np.arange(2))
    assert judge.Judge(targets, np.arange(2)).isotropic is not None
    assert judge.Judge(targets, np.arange(2)).own
    assert other.isotropic is None
    assert not other.own
    with pytest.raises(InputError, match=r"Other\.target_value replaces what QuadraticTargets\.target_constants"):
        _ = other.constants
    monkeypatch.setattr(judge, "written_for", lambda x, *kinds: isinstance(x, kinds))
    assert judge.loss_constants(mine).L.grade == "exact"
    assert other.isotropic is not None


def test_fine_tuning_of_an_added_term_is_not_the_parents() -> None:
    class Mine(EnvelopeQuadratic):
        def grad_v(self, u, v, clients):
            return super().grad_v(u, v, clients) + v

    with pytest.raises(InputError, match=r"Mine\.grad_v replaces what EnvelopeQuadratic\._envelope_constants is about"):
        _ = quadratic(Mine).envelope_constants


@dataclass(frozen=True)
class OwnFFGG(FFGG):
    name: ClassVar[str] = "own-ffgg"


def test_ffgg_of_ones_own_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    p = quadratic(EnvelopeQuadratic)
    assert exact_ffgg.exact_trace(FFGGExperiment(p, FFGG(1, 0.1), start(p), 3)) is not None
    own = FFGGExperiment(p, OwnFFGG(1, 0.1), start(p), 3)
    assert exact_ffgg.exact_trace(own) is None
    monkeypatch.setattr(exact_ffgg, "written_for", lambda x, *kinds: isinstance(x, kinds))
    assert exact_ffgg.exact_trace(own) is not None


def test_robustness_of_an_own_aggregator_is_not_known() -> None:
    class Mine(Median):
        name = "mine"

    class Before(Nothing):
        name = "before"

    assert kappa_of(Median(), 5, 1).kappa == 1.0
    with pytest.raises(InputError, match="κ is known for the aggregators of the theory page's table only; got Mine"):
        kappa_of(Mine(), 5, 1)
    with pytest.raises(InputError, match="κ is known for the pre-steps of the theory page's table only; got Before"):
        robustness_of(Defence(Median(), Before()), 5, 1)


# ---- names ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nameless(FedAlt):
    pass


@dataclass(frozen=True)
class Borrowed(FedSim):
    name: ClassVar[str] = "fedalt"


@dataclass(frozen=True)
class SameName(FedAlt):
    name: ClassVar[str] = "fedalt"


@dataclass(frozen=True)
class NamelessFFGG(FFGG):
    pass


@dataclass(frozen=True)
class Lawless(Noise):
    pass


@dataclass(frozen=True)
class SameLaw(Noise):
    law: Any = "rademacher"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Nameless, "class Nameless must say its name in its own body, .*; it inherits 'fedalt'"),
        (Borrowed, "class Borrowed must have a name of its own; 'fedalt' is that of a registered one"),
        (SameName, "class SameName must have a name of its own; 'fedalt' is that of FedAlt"),
    ],
)
def test_an_algorithm_that_would_pass_for_another_is_refused(kind: type, words: str) -> None:
    p = quadratic()
    with pytest.raises(InputError, match=words):
        Experiment(p, kind(2, 0.1, 0.1, tau_u=1, tau_v=1), Noise("zero"), start(p), T=1)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Lawless, "class Lawless must say its law in its own body, .*; it inherits 'gaussian'"),
        (SameLaw, "class SameLaw must have a law of its own; 'rademacher' is that of a registered one"),
    ],
)
def test_so_is_a_noise(kind: type, words: str) -> None:
    p = quadratic()
    with pytest.raises(InputError, match=words):
        Experiment(p, FedAlt(2, 0.1, 0.1, tau_u=1, tau_v=1), kind(sigma_u=1.0), start(p), T=1)


def test_so_is_a_problem_and_another_methods_class() -> None:
    class Same(EnvelopeQuadratic):
        family = "envelope_quadratic"

    p, same = quadratic(EnvelopeQuadratic), quadratic(Same)
    with pytest.raises(InputError, match=r"class NamelessFFGG must say its name in its own body, .* inherits 'ffgg'"):
        FFGGExperiment(p, NamelessFFGG(1, 0.1), start(p), 3)
    with pytest.raises(InputError, match="class Same must have a family of its own; 'envelope_quadratic' is that of"):
        FFGGExperiment(same, FFGG(1, 0.1), start(p), 3)


def test_rounds_of_ones_own_need_a_name_that_says_what_differs() -> None:
    p = quadratic()
    with pytest.raises(InputError, match=r"BernoulliExperiment runs rounds of its own \(block\): its algorithm or its"):
        BernoulliExperiment(p, FedAlt(3, 0.1, 0.1, tau_u=1, tau_v=1), Noise("zero"), start(p), T=1)
    own = BernoulliExperiment(p, Bernoulli(3, 0.1, 0.1, tau_u=1, tau_v=1), Noise("zero"), start(p), T=2000)
    assert not own.deterministic
    assert own.choose("auto")[0] == "eager"
    with pytest.raises(InputError, match="proofs are replayed on the rounds of Experiment"):
        prove(own, FA)


# ---- the proof's measures ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frozen(FedAlt):
    name: ClassVar[str] = "frozen"

    def step(self, problem, state, cohort, noise):
        return state


@dataclass(frozen=True)
class AtTheState(Frozen):
    name: ClassVar[str] = "frozen-at-the-state"
    measured_at: ClassVar[str] = "state"


@pytest.mark.parametrize(
    ("kind", "level", "words"),
    [
        (ServerStep, "proof", 'level "proof" tallies the local steps of Algorithm.local, and ServerStep has a step of'),
        (Frozen, "proof", 'level "proof" tallies the local steps of Algorithm.local, and Frozen has a step of its own'),
        (Clipped, "proof", "needs every local step told to the tally, tau_u = 2 and .* Clipped.local told 0 and 2"),
        (Frozen, "stationarity", r"Frozen\.step moves the personal parameters otherwise than its personal_phase"),
    ],
)
def test_measures_of_other_steps_than_the_runs_are_refused(kind: type, level: str, words: str) -> None:
    p = quadratic()
    e = Experiment(p, kind(2, 0.1, 0.1, tau_u=2, tau_v=2), Noise("gaussian", 0.1, 0.1), start(p), T=2)
    with pytest.raises(InputError, match=words):
        run(e, 2, level=level)


def test_an_own_step_is_measured_where_nothing_virtual_is_needed() -> None:
    p = quadratic()
    e = Experiment(p, AtTheState(2, 0.1, 0.1, tau_u=2, tau_v=2), Noise("zero"), start(p), T=2)
    trace = run(e, 1)
    assert "grad_u_virtual_sq" not in trace
    assert float(trace["F"][0, 1]) == float(trace["F"][0, 0])
