"""FedSpa's theorems as statements, and how its runs become their inputs; numbers of the theory page on FedSpa.

Lemma 1: one round; Theorem 1, Corollary 1 and rate (6): frozen masks; Theorem 2: moving masks, with the measured jumps
J_t and their bounds (8).
"""

from __future__ import annotations

from fedconv.analysis.theorems.fedspa import rates as fedspa_rates
from fedconv.analysis.theorems.fedspa import rounds as fedspa_rounds
from fedconv.analysis.theorems.fedspa.facts import of_experiment, of_trace
from fedconv.analysis.theorems.registry import Method
from fedconv.analysis.theorems.statement import Statement

STATEMENTS: dict[str, Statement] = {one.key: one for one in (*fedspa_rates.STATEMENTS, *fedspa_rounds.STATEMENTS)}
METHOD = Method("fedspa", STATEMENTS, of_trace, of_experiment)
