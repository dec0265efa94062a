"""FedFomo's theorems as statements, and how its runs become their inputs. Numbers are those of the theory page.

Proposition 1: secants against slopes; 2: what the weights optimise; 3: how much of the best gain is kept. Theorem 1:
convex; 2: weakly convex; 3: rates; 4: quadratic clients in clusters.
"""

from __future__ import annotations

from fedconv.analysis.theorems.fedfomo import mixing as fedfomo_mixing
from fedconv.analysis.theorems.fedfomo import rates as fedfomo_rates
from fedconv.analysis.theorems.fedfomo.facts import of_experiment, of_trace
from fedconv.analysis.theorems.registry import Method
from fedconv.analysis.theorems.statement import Statement

STATEMENTS: dict[str, Statement] = {one.key: one for one in (*fedfomo_mixing.STATEMENTS, *fedfomo_rates.STATEMENTS)}
METHOD = Method("fedfomo", STATEMENTS, of_trace, of_experiment)
