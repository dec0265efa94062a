"""A low value of F by local searches: an upper bound of F★ for problems whose minimum has no closed form."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize

from fedconv.problems.envelopes.base import EnvelopeProblem

STARTS = 3


def lowest(problem: EnvelopeProblem) -> float:
    """The least F(w) that local searches find, from w = 0 and from a few fixed random starts. Any value of F bounds F★
    from above, so nothing rests on how good the searches are."""
    rng = np.random.default_rng(0)

    def F(w: np.ndarray) -> tuple[float, np.ndarray]:
        u = torch.from_numpy(w.copy()).to(problem.device)
        return float(problem.mean_envelope(u)), problem.mean_envelope_grad(u).cpu().numpy()

    if problem.d_u == 0:
        return F(np.zeros(0))[0]
    starts = [np.zeros(problem.d_u), *rng.standard_normal((STARTS - 1, problem.d_u))]
    options = {"maxiter": 100}
    return min(float(minimize(F, x, jac=True, method="L-BFGS-B", options=options).fun) for x in starts)
