"""Special cases, examples and known differences between implementations of FedFomo."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fedconv.analysis.claims.claim import Budget, Evidence
from fedconv.core.run import run
from fedconv.methods.fedfomo.experiment import FedFomoExperiment
from fedconv.methods.fedfomo.method import FedFomo
from fedconv.methods.fedfomo.mixing import Mixed, increments, mix
from fedconv.methods.split import State
from fedconv.paper_checks.shared.building import compared
from fedconv.paper_checks.shared.comparisons import at_most, equal, none_fails
from fedconv.problems.registry import build_problem
from fedconv.problems.targets.base import QuadraticTargets
from fedconv.problems.targets.clusters import build

PAPER = "zhang2021"
PAGE = "theory page, {}"


def scalars(b: list[float], c: list[float] | None = None) -> QuadraticTargets:
    """Training losses ½(v − b_i)², target losses ½(v − c_i)²."""
    one = np.ones((len(b), 1, 1))
    return QuadraticTargets(A=one, b=np.array(b)[:, None], H=one, c=np.array(b if c is None else c)[:, None])


def _at(v: list[float]) -> State:
    return State(torch.zeros(0, dtype=torch.float64), torch.tensor(v, dtype=torch.float64)[:, None])


def mixed(models: np.ndarray, gains: np.ndarray, **options: Any) -> Mixed:
    """The mixing of one client at 0 with candidates ``(C, d)`` that lower its loss by ``gains``."""
    base, stack = torch.zeros(1, models.shape[1], dtype=torch.float64), torch.from_numpy(models)[None]
    valid = torch.ones(1, len(models), dtype=torch.bool)
    five = torch.full((1,), 5.0, dtype=torch.float64)
    return mix(FedFomo(1, 1.0, **options), base, stack, valid, five, 5.0 - torch.from_numpy(gains)[None])


def _weights(models: np.ndarray, gains: np.ndarray, **options: Any) -> np.ndarray:
    return mixed(models, gains, **options).weight[0].numpy()


# ---- reductions -------------------------------------------------------------------------------------------------


def one_client(budget: Budget) -> tuple[Evidence, ...]:
    """θ⁺ is the own trained model where it lowers L_i, else θ⁰."""
    better = run(FedFomoExperiment(scalars([0.0]), FedFomo(1, 0.5), _at([1.0]), 3), 1, level="proof")
    worse = run(FedFomoExperiment(scalars([3.0], [0.0]), FedFomo(1, 0.5), _at([1.0]), 3), 1, level="proof")
    return (
        equal("training that helps is accepted", better["w"].values[0, :, 0, 0], [1, 1, 0.5, 0.25], 1e-14),
        equal("training that hurts is rejected, own training included", worse["w"].values[0, :, 0, 0], 1.0, 1e-14),
    )


def identical_clients(budget: Budget) -> tuple[Evidence, ...]:
    """Same data, start and training: every model is the locally trained one, and FedAvg's mean of them."""
    trial = FedFomoExperiment(scalars([0.3] * 4), FedFomo(4, 0.4, 2, downloads=3), _at([2.0] * 4), 6)
    trace = run(trial, 1, level="proof")
    alone = 0.3 + 1.7 * 0.36 ** np.arange(1, 7)
    trained = trace["w_trained"].values[0, 1:, :, 0]
    return (
        equal("trained models and training alone", trained, alone[:, None].repeat(4, 1), 1e-12),
        equal("their mean and training alone", trained.mean(1), alone, 1e-12),
    )


def invariances(budget: Budget) -> tuple[Evidence, ...]:
    """Units of the loss and of the parameters, added candidates without gain, duplicates, equal scores."""
    rng = np.random.default_rng(0)
    units, scale, extra, twice, even = [], [], [], [], []
    for _ in range(200):
        models, gains = rng.normal(size=(5, 3)), rng.normal(size=5)
        for norm in ("euclidean", "l1", "squared", "none"):
            w = _weights(models, gains, norm=norm)
            units.append(np.abs(_weights(models, 7.0 * gains, norm=norm) - w).max())
            scale.append(np.abs(_weights(3.0 * models, gains, norm=norm) - w).max())
            more = _weights(np.vstack([models, rng.normal(size=(2, 3))]), np.append(gains, [-1.0, 0.0]), norm=norm)
            extra.append(np.abs(more[:5] - w).max() + more[5:].sum())
            double = _weights(np.vstack([models, models[:1]]), np.append(gains, gains[0]), norm=norm)
            twice.append(np.abs(double - np.append(w, w[0]) / (1 + w[0])).max())
        sphere = models / np.linalg.norm(models, axis=1, keepdims=True)
        even.append(np.abs(_weights(sphere, np.full(5, 0.3)) - 0.2).max())
    return (
        equal("weights with the loss in other units", units, 0.0, 1e-9),
        equal("weights with parameters in other units", scale, 0.0, 1e-9),
        equal("weights with further candidates that gain nothing", extra, 0.0, 1e-12),
        equal("a duplicated candidate has two shares", twice, 0.0, 1e-12),
        equal("equal scores of five candidates: a uniform average", even, 0.0, 1e-12),
    )


def double_well(budget: Budget) -> tuple[Evidence, ...]:
    """L(x) = (x²−1)² + 0.1x, θ⁰ = ½, candidates −1 and 1: w = (0.3167, 0.6833), θ⁺ = 0.3667, L rises to 0.7859."""
    problem = build_problem({"family": "double_well", "b": [[1.0], [-1.0]], "h": [[0.1], [0.1]]})
    trace = run(FedFomoExperiment(problem, FedFomo(2, 1.0, epsilon=0.0), _at([0.5, -1.0]), 2), 1, level="proof")  # pyright: ignore
    safe = run(
        FedFomoExperiment(problem, FedFomo(2, 1.0, epsilon=0.0, margin=4.0), _at([0.5, -1.0]), 2), 1, level="proof"
    )  # pyright: ignore
    return (
        equal("weights", trace["weight"].values[0, 1, 0], [0.6833, 0.3167], 5e-5),
        equal("the mixed model", trace["w"].values[0, 2, 0, 0], 0.3667, 5e-5),
        equal("the loss before and after", trace["loss"].values[0, 1:3, 0], [0.6125, 0.7859], 5e-5),
        at_most("with clipped weights, the increase of the loss plus 1", 1.0 - safe["decrease"].values, 1.0),
    )


# ---- official code against the paper ------------------------------------------------------------------------------


def norms_differ(budget: Budget) -> tuple[Evidence, ...]:
    """ℓ1 and squared norms give other weights; the squared one is the step of bounded length for orthogonal d_n."""
    models, gains = np.array([[1.0, 1.0], [2.0, 0.0]]), np.array([1.0, 1.0])
    root = np.sqrt(2.0)
    want = {"euclidean": [2, root], "l1": [1, 1], "squared": [2, 1], "none": [1, 1]}
    out = [
        equal(f"weights with the norm {k}", _weights(models, gains, norm=k), np.array(x) / sum(x), 1e-12)
        for k, x in want.items()
    ]
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 3, 3)[:, None]
    gains = rng.uniform(0.1, 1, 3)
    best = np.linalg.solve(turn @ turn.T, gains)
    out.append(equal("squared norm, orthogonal candidates: the best step of bounded length",
                     _weights(turn, gains, norm="squared"), best / best.sum(), 1e-10))  # fmt: skip
    apart = np.abs(_weights(turn, gains) - best / best.sum()).max()
    out.append(
        none_fails(
            "the Euclidean norm is not that step", [] if apart > 1e-3 else ["different"], 1, f"differs by {apart:.2g}"
        )
    )
    return tuple(out)


def zero_distance(budget: Budget) -> tuple[Evidence, ...]:
    """A candidate at θ⁰ itself (0/0 in the official code) and one with an infinite loss have weight 0; none is NaN."""
    got = mixed(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 1.0, -np.inf]))
    grown = increments(FedFomo(1, 1.0, affinity="signed"), got)
    return (
        equal("weights", got.weight[0].numpy(), [0.0, 1.0, 0.0], 0.0),
        equal("increments of the affinity by the signed rule", grown[0].numpy(), [0.0, 1.0, 0.0], 0.0),
    )


def nothing_gains(budget: Budget) -> tuple[Evidence, ...]:
    """S = 0: θ⁺ = θ⁰ as in the official code, or the trained model as in another implementation."""
    models, gains = np.array([[1.0], [2.0]]), np.array([-1.0, -0.5])
    return (
        equal("kept model, official", mixed(models, gains).after[0].numpy(), [0.0], 0.0),
        equal("kept model, the other rule", mixed(models, gains, rejected="trained").after[0].numpy(), [1.0], 0.0),
    )


def signed_affinity(budget: Budget) -> tuple[Evidence, ...]:
    """Clipped increments are w ≥ 0 and add up to 1; the official code's a_n/|Σ a_j| keep their sign."""
    models, gains = np.array([[1.0], [-2.0]]), np.array([1.0, -1.0])
    found = mixed(models, gains)
    clipped, signed = (increments(FedFomo(1, 1.0, affinity=k), found)[0].numpy() for k in ("clipped", "signed"))
    return (
        equal("clipped increments", clipped, [1.0, 0.0], 0.0),
        equal("signed increments", signed, [2.0, -1.0], 1e-14),
    )


def exploration(budget: Budget) -> tuple[Evidence, ...]:
    """M Σ_t ε_t exploratory downloads a client: 0.75 M with 0.3 and 0.05, from t = 1 on; then the choice locks in."""
    start = State(torch.zeros(0, dtype=torch.float64), torch.zeros(9, 2, dtype=torch.float64))
    trial = FedFomoExperiment(build(n=9, groups=3), FedFomo(9, 0.1, downloads=2), start, 10, seed=5)
    count = 200 if budget.size == "quick" else 5000
    explored = run(trial, count)["explored"].values
    total, expected = explored.sum(1), 9 * 2 * 0.75
    spread = float(total.std(ddof=1)) / np.sqrt(count)
    away = abs(float(total.mean()) - expected) / spread
    locked = FedFomoExperiment(build(n=6), FedFomo(6, 0.2, downloads=1, epsilon=0.0, ties="index"), State(
        torch.zeros(0, dtype=torch.float64), torch.zeros(6, 2, dtype=torch.float64)), 12, seed=5)  # fmt: skip
    chosen = (run(locked, 1, level="proof")["origin"].values[0, 1:] == 2).argmax(-1)
    return (
        at_most(f"standard errors between {total.mean():.3f} and {expected} downloads, {count} replicates", away, 6.5),
        equal("explored before t = 1 and after t = 5", explored[:, [0, 6, 7, 8, 9]], 0.0, 0.0),
        equal("choices after exploration, every round the first", chosen - chosen[0], 0.0, 0.0),
    )


def communication(budget: Budget) -> tuple[Evidence, ...]:
    """M d b bits down and d b + M b_w up for each client that weighs candidates; FedAvg: d b each way."""
    start = State(torch.zeros(0, dtype=torch.float64), torch.zeros(6, 2, dtype=torch.float64))
    trial = FedFomoExperiment(build(n=6), FedFomo(6, 0.2, downloads=3), start, 4, seed=5)
    trace = run(trial, 1, level="proof")
    down, up = trace["bits_down"].values[0, 2], trace["bits_up"].values[0, 2]
    b, d, M, n = 32, 2, 3, 6
    return (
        equal("bits down of six clients", down, n * M * d * b, 0.0),
        equal("bits up of six clients, model and weights", up, n * (d + M) * b, 0.0),
        equal("download ratio to FedAvg", down / (n * trace["fedavg_bits"].values / 2), M, 1e-12),
    )


def _case(name: str, title: str, statement: str, where: str, *checks: Any, theorems: tuple[str, ...] = (),
          kind: Any = "reduction") -> Any:  # fmt: skip
    return compared(f"{PAPER}/{name}", title, statement, PAGE.format(where), *checks, theorems=theorems, kind=kind)


CLAIMS = (
    _case("one-client", "One client: accept or reject one's own training",
          "With one client $\\theta^+$ is the trained model where it lowers $L_i$, and $\\theta^0$ otherwise.",
          "section 4, derived here", one_client, theorems=("FOMO-1-monotone",)),
    _case("identical-clients", "Identical clients: local training and FedAvg",
          "With equal data, start and deterministic training all models coincide with training alone and with their"
          " mean.",
          "section 4, derived here", identical_clients),
    _case("invariances", "What the weights do not depend on",
          "Rescaling the loss or the parameters and adding candidates with $\\Delta_n\\le0$ leaves $w$; duplicating one"
          " doubles its share; equal $a_n$ give the uniform average.", "section 4, derived here", invariances),
    _case("double-well", "Without convexity the loss can rise",
          "For $L(x)=(x^2-1)^2+0.1x$, $\\theta^0=0.5$ and candidates $-1$ and $1$ the mixed model raises $L$ from"
          " 0.6125 to"
          " 0.7859; the clipped weight $\\max(a_n-\\lambda D_n/2,0)$ never does.", "Theorem 2, derived"
          " here", double_well,
          theorems=("FOMO-2",)),
    _case("norms", "The official code's norms are not the paper's",
          "The default of the official code is $\\|d_n\\|_1$, and any other name gives $\\|d_n\\|_2^2$: weights"
          " differ. For"
          " orthogonal $d_n$ the squared norm, not the Euclidean, gives the best step of bounded length.",
          "sections 1 and 2: official code against the"
          " paper", norms_differ, theorems=("FOMO-P2i",), kind="implementation"),
    _case("zero-distance", "A candidate at no distance has no weight",
          "Where $D_n=0$ the official code divides 0 by 0 and spoils the affinities of the round; here $a_n=0$.",
          "section 1: official code against the paper", zero_distance, kind="implementation"),
    _case("nothing-gains", "Where no candidate is better",
          "The official code keeps $\\theta^0$ and throws the own training away; another implementation keeps the"
          " trained"
          " model.", "section 1: official code and a re-implementation", nothing_gains, kind="implementation"),
    _case("affinity", "Clipped or signed affinities",
          "The paper, as remembered, adds $w$ to the affinities; the official code adds $a_n/|\\sum_ja_j|$ with its"
          " sign.",
          "section 1: official code against the paper", signed_affinity, kind="implementation"),
    _case("exploration", "How much is explored, and lock-in",
          "Expected exploratory downloads of a client are $M\\sum_t\\varepsilon_t$, $0.75M$ with the official defaults;"
          " afterwards the choice need not change any more.", "section 5, derived"
          " here", exploration, kind="implementation"),
    _case("communication", "What FedFomo sends",
          "An active client receives $M d b$ bits, $M$ times FedAvg's, and sends $d b$ and its weights.",
          "section 5, derived here", communication, kind="implementation"),
)  # fmt: skip
