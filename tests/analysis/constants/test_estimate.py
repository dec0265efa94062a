"""Estimated constants against problems whose constants are exact, and against Hessians written out."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedconv.analysis.constants import visited_points as along
from fedconv.analysis.constants.estimate import Visited, estimate, sentences, visited
from fedconv.analysis.constants.pilot import pilot, sizes
from fedconv.analysis.regimes.advise import advise
from fedconv.analysis.theorems.split.effective_variance import PAPER
from fedconv.core.run import Experiment, run, step_sizes
from fedconv.methods.split import FedAlt, State
from fedconv.methods.split.minibatch import BatchExperiment, MiniBatch
from fedconv.problems.base import Problem
from fedconv.problems.envelopes.least_squares import LeastSquares, build_random
from fedconv.problems.errors import InputError
from fedconv.problems.modules.data import synthetic
from fedconv.problems.modules.hessian_norms import _lanczos, block_norms, share
from fedconv.problems.modules.mlp_family import MLP
from fedconv.problems.modules.problem import ModuleProblem, squared
from fedconv.problems.noise import Noise
from fedconv.problems.registry import build_problem

QUADRATIC = {"family": "quadratic", "n": 4, "d_u": 30, "d_v": 12, "coupling": 0.6}
WAVES = {
    "family": "trigonometric", "n": 6, "d_u": 3, "d_v": 2, "L_u": 1.0, "L_v": 2.0, "chi": 0.4, "delta": 1.3,
    "spread": 0.8,
}  # fmt: skip
RESIDUALS = {"family": "residuals", "n": 4, "d_u": 3, "d_v": 2}


def scattered(problem: Problem, count: int, scale: float = 1.0, replicates: int = 1) -> Visited:
    rng = np.random.default_rng(0)
    u = torch.from_numpy(scale * rng.normal(size=(replicates, count, problem.d_u)))
    return Visited(u, torch.from_numpy(scale * rng.normal(size=(replicates, count, problem.n, problem.d_v))))


def model(n: int = 4) -> ModuleProblem:
    return ModuleProblem(MLP((5, 4, 3), seed=2), synthetic(n=n, inputs=5, seed=1, rows=12), personal="layers.1")


def test_norms_of_a_quadratic_are_its_constants() -> None:
    problem = build_problem(QUADRATIC)
    found = estimate(problem, scattered(problem, 1))
    for name in ("L_u", "L_v", "L_uv"):
        want, got = getattr(problem.constants, name).value, getattr(found, name)
        assert got.low <= want * (1 + 1e-9)
        assert want <= got.high * (1 + 1e-9)
        assert got.largest == pytest.approx(want, rel=1e-6)
    assert found.constants.grade == "estimated"
    assert found.constants.chi == pytest.approx(problem.constants.chi, rel=1e-6)


def test_the_dials_of_trigonometric_coupling_are_approached_from_below() -> None:
    problem = build_problem(WAVES)
    found = estimate(problem, scattered(problem, 400, 2.0))
    c = problem.constants
    for got, want, reached in (
        (found.L_u.largest, c.L_u.value, 0.99),
        (found.L_v.largest, c.L_v.value, 0.98),
        (found.L_uv.largest, c.L_uv.value, 0.99),
        (found.delta.largest, c.delta.value, 0.6),  # the largest diversity asks for one phase in all coordinates
    ):
        assert reached * want <= got <= want * (1 + 1e-9)


def test_a_diversity_that_is_the_same_everywhere_is_found() -> None:
    problem = build_problem({"family": "sharp", "kind": "sampling", "n": 3, "delta": 2.0})
    assert problem.constants.delta.grade == "exact"
    found = estimate(problem, scattered(problem, 3, replicates=2))
    for got in (found.delta.largest, found.delta.value, found.delta.low, found.delta.high):
        assert got == pytest.approx(2.0, rel=1e-9)


def test_proved_upper_bounds_are_not_exceeded() -> None:
    problem = build_problem(RESIDUALS)
    found, c = estimate(problem, scattered(problem, 200)).constants, problem.constants
    assert 0.2 * c.L_u.value <= found.L_u.value <= c.L_u.value
    assert 0.2 * c.L_v.value <= found.L_v.value <= c.L_v.value
    assert found.L_uv.value <= c.L_uv.value
    assert found.delta.value <= c.delta.value


def test_a_modules_blocks_are_those_of_its_written_out_hessians() -> None:
    problem = model()
    rng = np.random.default_rng(3)
    u, v = (torch.from_numpy(rng.normal(size=(problem.n, d))) for d in (problem.d_u, problem.d_v))
    found = block_norms(problem, u, v)
    for i in range(problem.n):
        X, y = problem.rows.of(i)

        def loss(w: Tensor, X: Tensor = X, y: Tensor = y) -> Tensor:
            W0, b0, W1, b1 = torch.split(w, [20, 4, 12, 3])
            scores = torch.tanh(X @ W0.reshape(4, 5).T + b0) @ W1.reshape(3, 4).T + b1
            return torch.nn.functional.cross_entropy(scores, y)

        hessian = torch.autograd.functional.hessian(loss, torch.cat([u[i], v[i]]))
        blocks = (hessian[:24, :24], hessian[24:, 24:], hessian[:24, 24:])  # type: ignore[index]
        for got, block in zip((found.L_u[i], found.L_v[i], found.L_uv[i]), blocks, strict=True):
            assert float(got) == pytest.approx(float(torch.linalg.matrix_norm(block, 2)), rel=1e-8)


class Undifferentiable(Problem):
    """A quadratic whose gradients torch cannot follow: blocks come from central differences."""

    def __init__(self, inner: Problem) -> None:
        self.inner = inner
        self.n, self.d_u, self.d_v = inner.n, inner.d_u, inner.d_v

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self.inner.value(u, v, clients)

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        with torch.no_grad():
            return self.inner.grad_u(u.detach(), v.detach(), clients) * torch.ones(1, dtype=torch.float64)

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        with torch.no_grad():
            return self.inner.grad_v(u.detach(), v.detach(), clients)

    def _constants(self) -> Any:
        return self.inner.constants

    def to(self, device: torch.device | str) -> Problem:
        return self


def test_gradients_without_derivatives_are_differenced_and_said_to_be() -> None:
    inner = build_problem({"family": "quadratic", "n": 3, "d_u": 4, "d_v": 3, "coupling": 0.6})
    hidden = Undifferentiable(inner)
    found = estimate(hidden, scattered(hidden, 1))
    for name in ("L_u", "L_v", "L_uv"):
        assert getattr(found, name).largest == pytest.approx(getattr(inner.constants, name).value, rel=1e-5)


def test_lanczos_intervals_cover_the_norm_when_steps_are_few() -> None:
    problem = build_problem(QUADRATIC)
    points = scattered(problem, 1)
    wants = {name: getattr(problem.constants, name).value for name in ("L_u", "L_v", "L_uv")}
    inside = 0
    for seed in range(20):
        found = estimate(problem, points, steps=10, seed=seed)
        inside += all(
            getattr(found, k).low <= x * (1 + 1e-9) <= getattr(found, k).high * (1 + 2e-9) for k, x in wants.items()
        )
    assert inside >= 19  # each at 95 per cent at least; the theorem is far from tight
    assert found.L_u.high > found.L_u.low


def test_diversity_is_covered_at_every_point_for_a_given_rho() -> None:
    problem = model()
    points = scattered(problem, 10)
    u = points.u[:, :, None].expand(-1, -1, problem.n, -1)
    each = problem.grad_u(u, points.v, problem.everyone())
    mean = each.mean(-2)
    diversity = (each - mean[..., None, :]).square().sum(-1).mean(-1)
    for rho in (0.0, 0.5, 2.0):
        c = estimate(problem, points, rho=rho).constants
        allowed = c.delta.value**2 + c.rho.value**2 * mean.square().sum(-1)
        assert (diversity <= allowed * (1 + 1e-12)).all()
        assert float((diversity / allowed).max()) == pytest.approx(1.0, rel=1e-9)


def test_sigma_of_mini_batches_is_that_of_single_rows_over_b() -> None:
    problem = model()
    points = scattered(problem, 2, replicates=3)
    found = estimate(problem, points, noise=MiniBatch(batch=4))
    assert found.sigma_u is not None
    worst, squares = 0.0, []
    for r, p, i in np.ndindex(3, 2, problem.n):
        X, y = problem.rows.of(i)
        u, v = points.u[r, p], points.v[r, p, i]
        first = ModuleProblem(MLP((5, 4, 3)), [(X[:1], y[:1])], personal="layers.1")
        shares = torch.tensor([(j + 0.5) / 12 for j in range(12)], dtype=torch.float64)
        each = torch.stack(
            [problem.batch_grad_u(u[None], v[None], torch.tensor([i]), s.reshape(1, 1))[0] for s in shares]
        )
        torch.testing.assert_close(each[0], first.grad_u(u[None], v[None], torch.tensor([0]))[0], rtol=1e-9, atol=1e-12)
        squares.append(float((each - each.mean(0)).square().sum(-1).mean()) / 4)
        worst = max(worst, squares[-1])
    assert found.sigma_u.largest == pytest.approx(worst**0.5, rel=1e-9)
    assert found.sigma_u.value == pytest.approx(np.mean(squares) ** 0.5, rel=1e-9)
    assert 0 <= found.sigma_u.low <= found.sigma_u.value <= found.sigma_u.high
    stated = estimate(problem, points, noise=Noise("gaussian", 0.3, 0.2))
    assert stated.sigma_u is not None
    assert stated.sigma_u.largest == 0.3


def test_visited_points_are_those_of_the_run() -> None:
    problem = build_problem(WAVES)
    start = State(torch.zeros(3, dtype=torch.float64), torch.ones(6, 2, dtype=torch.float64))
    trial = Experiment(problem, FedAlt(2, 0.1, 0.1, tau_u=1, tau_v=1), Noise("gaussian", 0.1, 0.1), start, 8)
    points = visited(trial, points=3, replicates=2)
    assert points.u.shape == (2, 3, 3)
    assert torch.equal(points.u[:, 0], torch.zeros(2, 3, dtype=torch.float64))
    np.testing.assert_array_equal(points.v[:, 2], run(trial, 2, engine="eager")["v_final"].values)
    half = Experiment(problem, trial.algorithm, trial.noise, start, 4)
    np.testing.assert_array_equal(points.u[:, 1], run(half, 2, engine="eager")["u_final"].values)


def test_the_regime_is_the_comparisons_own() -> None:
    problem = model()
    found = estimate(problem, scattered(problem, 2, replicates=2), noise=MiniBatch(batch=2))
    for m in (1, 3):
        inputs = found.inputs(m, tau=2)
        _, _, condition = PAPER.evaluate(inputs)
        assert found.regime(m, tau=2)["paper"] == ("fedalt" if condition < 0 else "fedsim")
    assert len(sentences(found.regime(1))) == 3
    silent = estimate(problem, scattered(problem, 1))
    assert silent.regime(4)["tuned"] == "no difference"
    with pytest.raises(InputError, match="m must lie between 1 and n = 4; got 5"):
        found.inputs(5)


def rows_of(problem: LeastSquares) -> list[tuple[Tensor, Tensor]]:
    """Data whose squared loss, a mean over rows, is the problem's ½‖Au + Bv − c‖²."""
    root = problem.c.shape[1] ** 0.5
    X = torch.cat([problem.A, problem.B], -1) * root
    return [(X[i], problem.c[i] * root) for i in range(problem.n)]


class Linear(nn.Module):
    """x ↦ x·(u, v)."""

    def __init__(self, d_u: int, d_v: int) -> None:
        super().__init__()
        self.u, self.v = (nn.Parameter(torch.zeros(d, dtype=torch.float64)) for d in (d_u, d_v))

    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.cat([self.u, self.v])


def linear(exact: LeastSquares) -> ModuleProblem:
    return ModuleProblem(Linear(exact.d_u, exact.d_v), rows_of(exact), personal="v", loss="squared")


def test_a_linear_model_has_the_constants_of_least_squares() -> None:
    exact = build_random(n=5, d_u=4, d_v=3, rows=7, seed=3)
    problem = linear(exact)
    found = pilot(problem, batch=2, T=6, points=3, replicates=2)
    e, c = found.estimates, exact.constants
    for name in ("L_u", "L_v", "L_uv"):
        assert getattr(c, name).grade == "exact"
        assert getattr(e, name).largest == pytest.approx(getattr(c, name).value, rel=1e-9)
        assert getattr(e, name).high == pytest.approx(getattr(c, name).value, rel=1e-9)  # Lanczos ran to the end
    assert e.constants.chi == pytest.approx(c.chi, rel=1e-9)
    np.testing.assert_allclose(e.along.values["L_u"], c.L_u.value, rtol=1e-9)  # the same at every point


def test_diversity_and_noise_of_a_linear_model_by_formula() -> None:
    exact = build_random(n=5, d_u=4, d_v=3, rows=7, seed=4)
    problem = linear(exact)
    points = scattered(problem, 3, replicates=2)
    found = estimate(problem, points, noise=MiniBatch(batch=3), rho=0.5)
    A, B, c = (x.numpy() for x in (exact.A, exact.B, exact.c))
    N = A.shape[1]
    excess, of_u, of_v = np.empty((2, 3)), np.empty((2, 3, 5)), np.empty((2, 3, 5))
    for r, t in np.ndindex(2, 3):
        u, v = points.u[r, t].numpy(), points.v[r, t].numpy()
        residual = A @ u + np.einsum("irj,ij->ir", B, v) - c
        each = np.einsum("irj,ir->ij", A, residual)
        mean = each.mean(0)
        excess[r, t] = max(0.0, ((each - mean) ** 2).sum(1).mean() - 0.25 * (mean**2).sum())
        for block, out in ((A, of_u), (B, of_v)):
            rows = N * residual[..., None] * block
            out[r, t] = ((rows - rows.mean(1, keepdims=True)) ** 2).sum(2).mean(1) / 3
    assert found.delta.largest == pytest.approx(excess.max() ** 0.5, rel=1e-9)
    assert found.delta.value == pytest.approx(excess.mean() ** 0.5, rel=1e-9)
    for got, want, name in ((found.sigma_u, of_u, "sigma_u"), (found.sigma_v, of_v, "sigma_v")):
        assert got is not None
        assert got.largest == pytest.approx(want.max() ** 0.5, rel=1e-9)
        assert got.value == pytest.approx(want.mean() ** 0.5, rel=1e-9)
        np.testing.assert_allclose(found.along.values[name], want.max(2) ** 0.5, rtol=1e-9)


def test_an_exact_diversity_is_found_by_a_module() -> None:
    """AᵀB = 0 and one AᵀA for all clients: the diversity is the same everywhere, and exact."""
    A = np.tile(np.eye(6)[:, :2], (4, 1, 1))
    B = np.tile(np.eye(6)[:, 2:4], (4, 1, 1))
    exact = LeastSquares(A=A, B=B, c=np.random.default_rng(0).normal(size=(4, 6)))
    assert exact.constants.delta.grade == "exact"
    e = pilot(linear(exact), batch=2, T=4, points=3, replicates=2).estimates
    for got in (e.delta.largest, e.delta.low, e.delta.high):
        assert got == pytest.approx(exact.constants.delta.value, rel=1e-9)


def test_intervals_over_replicates_are_calibrated() -> None:
    """60 pilot runs of 6 replicates: 95 % intervals cover about as often as they say, 50 % intervals about half."""
    problem = linear(build_random(n=4, d_u=2, d_v=2, rows=5, seed=5))
    start = State(*problem.start())
    algorithm = FedAlt(2, *step_sizes(problem, 1, 1, 0.5), tau_u=1, tau_v=1)
    points = visited(BatchExperiment(problem, algorithm, MiniBatch(batch=2), start, 3), 2, 360)
    noise = MiniBatch(batch=2)
    truth = estimate(problem, points, noise=noise)
    covered = {0.05: np.zeros(3, int), 0.5: np.zeros(3, int)}
    for k in range(60):
        mine = Visited(points.u[6 * k : 6 * k + 6], points.v[6 * k : 6 * k + 6])
        for error, counts in covered.items():
            found = estimate(problem, mine, noise=noise, error=error)
            for j, name in enumerate(("delta", "sigma_u", "sigma_v")):
                got = getattr(found, name)
                counts[j] += got.low <= getattr(truth, name).value <= got.high
    # 4.1 standard deviations of Bin(60, 0.95) below its mean, and of Bin(60, 0.5) around it
    assert (covered[0.05] >= 50).all(), covered
    assert (abs(covered[0.5] - 30) <= 16).all(), covered


def adverse(d: int, k: int, eps: float) -> np.ndarray:
    """Eigenvalues ``(d,)`` for which k Lanczos steps miss 1 by ε as often as can be: one 1, the others at the extreme
    points of Chebyshev's polynomial below 1 − ε, as often as makes it the best polynomial."""
    y = np.cos(np.arange(k) * np.pi / (2 * k - 1)) ** 2
    x = (1 - eps) * (1 - y)
    basis = [np.prod([(1 - x[b]) / (x[a] - x[b]) for b in range(k) if b != a]) for a in range(k)]
    weight = np.abs(basis) / np.sqrt(y)
    ideal = weight / weight.sum() * (d - 1)
    counts = np.floor(ideal).astype(int)
    counts[np.argsort(counts - ideal)[: d - 1 - counts.sum()]] += 1
    return np.concatenate([[1.0], np.repeat(x, counts)])


@pytest.mark.parametrize(("d", "k", "error"), [(200, 3, 0.1), (60, 2, 0.05), (400, 6, 0.1), (50, 1, 0.1), (3, 1, 0.2)])
def test_the_error_of_lanczos_is_kept_on_adverse_spectra(d: int, k: int, error: float) -> None:
    s = share(d, k, error)
    values = torch.from_numpy(adverse(d, k, 1 - s * s))
    starts = torch.from_numpy(np.random.default_rng(d).standard_normal((4000, d)))
    missed = float((_lanczos(lambda x: values * x, starts, k) < s * (1 - 1e-12)).double().mean())
    noise = (error * (1 - error) / 4000) ** 0.5
    assert missed <= error + 4 * noise
    assert missed >= 0.8 * error  # the limit is nearly attained, so that a smaller one would be caught


def test_the_share_is_sharper_than_the_published_bound_and_never_nothing() -> None:
    """1.648 √d e^{−(2k−1)√ε} is Kuczyński and Woźniakowski's failure probability."""
    for d, k, error in itertools.product((2, 10, 1000, 10**6), (1, 3, 24), (0.3, 1e-3, 1e-9, 1e-20)):
        s = share(d, k, error)
        assert 0 < s <= 1
        eps = 1 - s * s
        assert k >= d or 1.648 * math.sqrt(d) * math.exp(-(2 * k - 1) * math.sqrt(eps)) >= 0.999 * error
    assert share(24, 24, 1e-9) == 1.0
    assert share(100, 5, 1e-8 * (1 - 1e-9)) == pytest.approx(share(100, 5, 1e-8 * (1 + 1e-9)), rel=1e-3)


def test_a_pilot_run_gives_an_adviser_its_values() -> None:
    problem = model()
    found = pilot(problem, batch=3, T=6, points=3)
    given = found.given()
    assert given["L_u"] >= 0.9 * problem.constants.L_u.value
    assert given["gap0"] == pytest.approx(float(problem.objective(*problem.start())))
    assert found.given(F_star=-1.0)["gap0"] == pytest.approx(given["gap0"] + 1)
    assert pilot(problem, batch=3, T=6, points=3).given() == given
    assert pilot(problem, batch=3, T=6, points=3, seed=1).given() != given
    advice = advise(given | {"T": 50})
    assert advice.best.m <= 4
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.to_dict()["constants"]["sigma_u"]["used"] == given["sigma_u"]
    assert "sigma_u" not in pilot(problem, T=2).listed


def test_large_models_get_fewer_points(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = model()  # 4 clients, 12 rows, 39 parameters
    each = 4 * 12 * 39
    for work, want in ((48 * each, (6, 8)), (48 * each - 1, (6, 4)), (24 * each - 1, (4, 3)), (1.0, (3, 3))):
        monkeypatch.setattr("fedconv.analysis.constants.pilot.WORK", work)
        assert sizes(problem) == want
    found = pilot(problem, batch=2, T=4)
    assert (found.replicates, found.estimates.points, found.estimates.along.rounds) == (3, 9, (0, 2, 4))


def test_progress_is_told_to_the_end() -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    pilot(
        model(),
        T=4,
        points=3,
        replicates=4,
        progress=lambda what, done, all_: told.setdefault(what, []).append((done, all_)),
    )
    assert {k: x[-1] for k, x in told.items()} == {"pilot run": (6, 6), "constants at visited points": (12, 12)}


def test_groups_of_points_do_not_change_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = model()
    points = scattered(problem, 3, replicates=2)
    whole = estimate(problem, points, noise=MiniBatch(batch=2))
    monkeypatch.setattr(along, "AT_ONCE", 1)
    pieces = estimate(problem, points, noise=MiniBatch(batch=2))
    for name in ("L_u", "L_v", "L_uv", "delta", "sigma_u", "sigma_v"):
        np.testing.assert_allclose(pieces.along.values[name], whole.along.values[name], rtol=1e-8)


def test_kinks_are_said_and_not_differenced() -> None:
    """Central differences across a kink of ReLU are as large as 1/h; derivatives between kinks are not."""
    torch_net = nn.Sequential(nn.Linear(8, 60), nn.ReLU(), nn.Linear(60, 3))
    with torch.no_grad():
        for k, parameter in enumerate(torch_net.parameters()):
            numbers = np.random.default_rng(k).normal(size=tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(numbers / parameter.shape[-1] ** 0.5))
    problem = ModuleProblem(torch_net, synthetic(n=6, inputs=8, rows=400, seed=1), personal="2")
    points = Visited(problem.start()[0][None, None], problem.start()[1][None, None])
    found = estimate(problem, points)
    assert (found.along.kinks, found.along.differences) == (True, False)
    assert "between the kinks" in found.L_u.meaning
    assert found.L_u.largest < 10
    assert not estimate(model(), scattered(model(), 1)).along.kinks


def test_one_client_has_no_diversity() -> None:
    problem = ModuleProblem(MLP((5, 4, 3), seed=2), synthetic(n=1, inputs=5, seed=1, rows=12), personal="layers.1")
    e = pilot(problem, T=2).estimates
    assert (e.delta.largest, e.delta.low, e.delta.high) == (0.0, 0.0, 0.0)
    assert "cannot be anything else" in e.delta.meaning


def test_without_a_personal_part_there_is_nothing_to_choose() -> None:
    for personal, block in (((), "personal"), (["layers"], "shared")):
        problem = ModuleProblem(MLP((5, 3), seed=2), synthetic(n=3, inputs=5, rows=6), personal=personal)
        found = pilot(problem, batch=2, T=2)
        assert found.estimates.constants.chi == 0.0
        assert set(found.estimates.regime(2).values()) == {"no difference"}
        with pytest.raises(InputError, match=f"it has no {block} one"):
            found.given()


def test_an_unknown_lower_bound_is_said() -> None:
    problem = ModuleProblem(
        MLP((5, 3, 2)), [(x, y.double()[:, None].expand(-1, 2)) for x, y in synthetic(n=3, inputs=5, rows=6)],
        personal="layers.1", loss=squared, lower_bound=-math.inf,
    )  # fmt: skip
    found = pilot(problem, T=2)
    assert any("no lower bound of F is stated" in line for line in found.estimates.lines())
    assert set(found.estimates.regime(1)) == {"paper", "tuned", "tuned*"}  # no gap enters
    with pytest.raises(InputError, match="gap0 needs a finite number below F"):
        found.estimates.inputs(1)
    with pytest.raises(InputError, match="F_star must be a finite number below F"):
        found.given()
    assert found.given(F_star=0.0)["gap0"] == pytest.approx(found.estimates.F_start)
    with pytest.raises(InputError, match=r"F_star must be a number below F; got 1e\+06"):
        found.given(F_star=1e6)


def test_a_loss_that_is_not_a_number_is_said() -> None:
    def undefined(outputs: Tensor, y: Tensor) -> Tensor:
        return outputs.sum(-1) * math.nan

    clients = synthetic(n=3, inputs=5, rows=6)
    problem = ModuleProblem(MLP((5, 3, 2)), clients, personal="layers.1", loss=undefined, lower_bound=0.0)
    with pytest.raises(InputError, match="finite at the module's own parameters; client 0 has nan"):
        pilot(problem)
    points = scattered(problem, 2)
    with pytest.raises(InputError, match="finite at every visited point; F is nan in round 0"):
        estimate(problem, points)


def test_what_a_pilot_run_refuses() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"batch": 0}, "batch must be an integer >= 1; got 0"),
        ({"T": 0}, "T must be an integer >= 1; got 0"),
        ({"m": 5}, "m must be at most n = 4; got 5"),
    ]
    for wrong, message in cases:
        with pytest.raises(InputError, match=message):
            pilot(model(), **wrong)


def test_what_is_refused() -> None:
    problem = model()
    points = scattered(problem, 1)
    with pytest.raises(InputError, match="rho must be a finite number >= 0; got -1"):
        estimate(problem, points, rho=-1.0)
    with pytest.raises(InputError, match=r"points must have u \(R, P, 24\)"):
        estimate(problem, Visited(points.u[..., 1:], points.v))
    waves = build_problem(WAVES)
    with pytest.raises(InputError, match="mini-batches need a problem with rows; got the family 'trigonometric'"):
        estimate(waves, scattered(waves, 1), noise=MiniBatch())
    far = State(*problem.start())
    wild = Experiment(problem, FedAlt(4, 1e200, 1e200, tau_u=3, tau_v=3), Noise(law="zero"), far, 4)
    with pytest.raises(InputError, match="the run must stay finite"):
        visited(wild)
