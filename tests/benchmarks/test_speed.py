"""Workloads W1 and W2: the engines against vectorised NumPy, timed in one run.

``pytest tests/benchmarks --benchmark-only -s`` measures and prints a table of client gradient steps per second,
replicates·T·m·(τ_u+τ_v)/seconds; a normal test run takes a few rounds of each, to see that they work. No time is
asserted: it belongs to the machine.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedconv.core.run import step_sizes
from fedconv.core.streams import Streams
from fedconv.methods.split import Algorithm, FedAlt, FedSim, State
from fedconv.methods.split import compiled_engine as fused
from fedconv.methods.split import torch_engine as eager
from fedconv.problems.noise import Noise
from fedconv.problems.registry import build_problem
from fedconv.problems.split.trigonometric import Trigonometric

REPLICATES, LEVEL = 32, "stationarity"


def _load(name: str) -> Any:
    """A module of this folder (tests are not a package)."""
    found = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module


numpy_vectorised = _load("numpy_vectorised")


@dataclass(frozen=True)
class Workload:
    """One timed setting."""

    name: str
    method: str
    n: int
    m: int
    d_u: int
    d_v: int
    tau: int
    T: int
    sigma_v: float = 1.0

    def problem(self) -> Trigonometric:
        dials = {"n": self.n, "d_u": self.d_u, "d_v": self.d_v, "chi": 0.5, "delta": 1.0, "spread": 0.5, "seed": 1}
        built = build_problem({"family": "trigonometric", **dials})
        assert isinstance(built, Trigonometric)
        return built

    def algorithm(self, problem: Trigonometric) -> Algorithm:
        gamma_u, gamma_v = step_sizes(problem, self.tau, self.tau, 0.1)
        method = FedAlt if self.method == "fedalt" else FedSim
        return method(self.m, gamma_u, gamma_v, tau_u=self.tau, tau_v=self.tau)

    def noise(self) -> Noise:
        return Noise("gaussian", 1.0, self.sigma_v)

    def start(self) -> State:
        rng = np.random.default_rng(0)
        return State(torch.from_numpy(rng.normal(size=self.d_u)), torch.from_numpy(rng.normal(size=(self.n, self.d_v))))

    def steps(self, T: int) -> int:
        return REPLICATES * T * self.m * 2 * self.tau


def with_engine(simulate: Callable[..., dict[str, np.ndarray]], threads: int) -> Callable[..., Callable[[], Any]]:
    def prepare(work: Workload, T: int) -> Callable[[], Any]:
        problem = work.problem()
        arguments = (problem, work.algorithm(problem), work.noise(), work.start(), T, Streams(0))
        blocks = np.split(np.arange(REPLICATES), 2)

        def one(replicates: np.ndarray) -> dict[str, np.ndarray]:
            return simulate(*arguments, replicates, LEVEL)

        def all_blocks() -> list[dict[str, np.ndarray]]:
            if threads == 1:
                return [one(block) for block in blocks]
            with ThreadPoolExecutor(threads) as pool:
                return list(pool.map(one, blocks))

        return all_blocks

    return prepare


def with_numpy(work: Workload, T: int) -> Callable[[], Any]:
    problem, noise, start = work.problem(), work.noise(), work.start()
    names = ("a", "h", "b", "s", "kappa")
    arrays = numpy_vectorised.Arrays(**{name: getattr(problem, name).numpy() for name in names})
    algorithm = work.algorithm(problem)
    scales = noise.scales(work.d_u, work.d_v)
    plan = numpy_vectorised.Plan(work.m, work.tau, work.tau, algorithm.gamma_u, algorithm.gamma_v, *scales)
    u, v = start.u.numpy(), start.v.numpy()
    return lambda: [numpy_vectorised.run(work.method, arrays, plan, u, v, T, REPLICATES, seed=0)]


CONTESTANTS: dict[str, Callable[[Workload, int], Callable[[], Any]]] = {
    "numpy": with_numpy,
    "eager": with_engine(eager.simulate_block, 1),
    "fused": with_engine(fused.simulate_block, 1),
    "fused, 2 threads": with_engine(fused.simulate_block, 2),
}
W1 = [Workload("W1", method, 50, 10, 20, 10, 5, 200) for method in ("fedalt", "fedsim")]
W2 = [
    Workload("W2", method, 20, m, 8, 8, 5, 500, sigma_v)
    for method in ("fedalt", "fedsim")
    for sigma_v, m in ((0.3, 2), (3.0, 10))
]
TIMED = [(work, contestant) for work in W1 for contestant in CONTESTANTS]
TIMED += [(work, contestant) for work in W2 for contestant in ("numpy", "fused", "fused, 2 threads")]


@pytest.fixture(scope="module")
def rates() -> Iterator[dict[tuple[Workload, str], float]]:
    """Steps per second by workload and contestant; printed as a table at the end of the module."""
    found: dict[tuple[Workload, str], float] = {}
    yield found
    if found:
        print("\n\nmillion client gradient steps per second, and ratio to vectorised NumPy in this run")
    for (work, contestant), rate in found.items():
        label = f"{work.name} {work.method} m={work.m} sigma_v={work.sigma_v:g}"
        print(f"{label:32s} {contestant:18s} {rate / 1e6:7.2f}  {rate / found[work, 'numpy']:6.2f}x")


@pytest.mark.parametrize(
    ("work", "contestant"),
    [pytest.param(w, c, id=f"{w.name}-{w.method}-m{w.m}-sigma{w.sigma_v:g}-{c}") for w, c in TIMED],
)
def test_speed(
    work: Workload,
    contestant: str,
    benchmark: Any,
    rates: dict[tuple[Workload, str], float],
    request: pytest.FixtureRequest,
) -> None:
    measuring = request.config.getoption("--benchmark-only")
    T = work.T if measuring else 2
    blocks = benchmark.pedantic(CONTESTANTS[contestant](work, T), rounds=5 if measuring else 1, warmup_rounds=1)
    for block in blocks:
        assert block["F"].shape[1] == T
        assert all(np.isfinite(block[key]).all() for key in ("F", "grad_u_sq", "grad_v_sq", "diversity", "F_final"))
    if measuring:
        rate = work.steps(T) / benchmark.stats.stats.min
        rates[work, contestant] = rate
        benchmark.extra_info["client_gradient_steps_per_second"] = rate
        benchmark.extra_info["ratio_to_numpy"] = rate / rates.get((work, "numpy"), np.nan)


@pytest.mark.parametrize("method", ["fedalt", "fedsim"])
def test_the_numpy_version_measures_the_same(method: str) -> None:
    """The first round's measures need no noise (FedAlt's virtual ones apart): they are the engine's."""
    work = Workload("check", method, n=7, m=3, d_u=4, d_v=3, tau=2, T=1)
    (got,) = with_numpy(work, 1)()
    want = CONTESTANTS["fused"](work, 1)()[0]
    for key in ("F", "grad_u_sq", "grad_v_sq", "diversity"):
        assert got[key][0] == pytest.approx(want[key][0], rel=1e-12), key
    quiet = Workload("check", method, n=7, m=7, d_u=4, d_v=3, tau=2, T=20)
    problem = quiet.problem()
    silent = (problem, quiet.algorithm(problem), Noise("zero"), quiet.start(), 20, Streams(0), np.array([0]))
    want = fused.simulate_block(*silent, LEVEL)
    names = ("a", "h", "b", "s", "kappa")
    arrays = numpy_vectorised.Arrays(**{name: getattr(problem, name).numpy() for name in names})
    plan = numpy_vectorised.Plan(7, 2, 2, silent[1].gamma_u, silent[1].gamma_v, 0.0, 0.0)
    got = numpy_vectorised.run(method, arrays, plan, quiet.start().u.numpy(), quiet.start().v.numpy(), 20, 1, seed=0)
    assert set(got) == {key for key in want if key not in ("cohort", "u_final", "v_final")}
    for key, values in got.items():
        assert values == pytest.approx(want[key], rel=1e-11), key
