"""A problem of one's own: a subclass that is not registered and has no kernel runs, is judged, and says how it ran."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fedconv.analysis.verdicts.verify import fitting, judge, verify
from fedconv.core.resume import run_to_store
from fedconv.core.run import Experiment, run
from fedconv.core.store import load
from fedconv.core.trace import read
from fedconv.methods.split import FedAlt, State
from fedconv.problems.base import Constant, Constants, Problem
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise


class Springs(Problem):
    """F_i = ½(u − i)² + ½(v_i − u)², three clients: F★ = 1/3 at u = v_i = 1, and δ = ∞ as the v_i differ freely."""

    n, d_u, d_v = 3, 1, 1

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return 0.5 * ((u[..., 0] - clients).square() + (v[..., 0] - u[..., 0]).square())

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return (u - clients[..., None]) + (u - v)

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return v - u

    def _constants(self) -> Constants:
        one = Constant(1.0, "exact")
        infinite, none = Constant(math.inf, "exact"), Constant(0.0, "exact")
        return Constants(Constant(2.0, "exact"), one, one, one, infinite, none, Constant(1 / 3, "exact"))

    def to(self, device: torch.device | str) -> Springs:
        return self


def experiment(T: int = 30, dtype: torch.dtype = torch.float64) -> Experiment:
    start = State(torch.zeros(1, dtype=dtype), torch.ones(3, 1, dtype=dtype))
    algorithm = FedAlt(m=2, gamma_u=0.025, gamma_v=0.1, tau_u=2, tau_v=1)
    return Experiment(Springs(), algorithm, Noise("gaussian", 0.1, 0.1), start, T)


@pytest.mark.parametrize("T", [3, 3000])
def test_it_runs_in_torch_and_the_trace_says_why(T: int) -> None:
    trace = run(experiment(T), 2)
    assert trace.attrs["engine"] == "eager"
    assert trace.attrs["engine_reason"] == "the problem family 'Springs' has no compiled kernel"
    assert read(trace, "problem") == {"family": "Springs"}
    with pytest.raises(InputError, match=r"'fused' cannot run this experiment: .*'Springs' has no compiled kernel"):
        run(experiment(T), 2, engine="fused")


def test_a_class_without_a_family_is_called_by_its_own_name_not_its_parents() -> None:
    class Named(Springs):
        family = "springs"

    class Child(Named):
        pass

    assert (Springs.family, Named.family, Child.family) == ("Springs", "springs", "Child")


def test_it_is_judged_directly_and_from_its_store(tmp_path) -> None:
    found = verify(experiment(), fitting("fedalt"), max_replicates=64)
    run_to_store(experiment(), 64, tmp_path / "springs.zarr")
    stored = judge(load(tmp_path / "springs.zarr"))
    assert [r.theorem for r in found] == [r.theorem for r in stored] == ["FA", "FA*"]
    for result in (*found, *stored):
        assert result.verdict.status == "holds", result.verdict.reason
        assert result.verdict.a_posteriori


def test_a_start_in_single_precision_is_refused() -> None:
    with pytest.raises(InputError, match=r"start must be of type float64; got u torch\.float32"):
        experiment(dtype=torch.float32)


def test_a_start_below_the_infimum_is_refused() -> None:
    class Wrong(Springs):
        def _constants(self) -> Constants:
            right = Springs()._constants()
            return Constants(
                right.L_u, right.L_v, right.L_uv, right.L_vu, right.delta, right.rho, Constant(99.0, "exact")
            )

    plain = experiment()
    wrong = Experiment(Wrong(), plain.algorithm, plain.noise, plain.start, plain.T)
    with pytest.raises(InputError, match=r"lies below F_star = 99: F_star is wrong, or the start"):
        verify(wrong, fitting("fedalt"))
