"""FedSpa's theorems as statements, and how its runs become their inputs; numbers of the theory page on FedSpa.

Lemma 1: one round; Theorem 1, Corollary 1 and rate (6): frozen masks; Theorem 2: moving masks, with the measured jumps
J_t and their bounds (8).
"""

from __future__ import annotations

from analysis.methods import Method
from analysis.theorems import fedspa_rates, fedspa_rounds
from analysis.theorems.fedspa_inputs import of_experiment, of_trace
from analysis.theorems.statement import Statement

STATEMENTS: dict[str, Statement] = {one.key: one for one in (*fedspa_rates.STATEMENTS, *fedspa_rounds.STATEMENTS)}
METHOD = Method("fedspa", STATEMENTS, of_trace, of_experiment)
