"""FFGG's theorems as statements, and how its runs become their inputs. Numbers are those of the theory page on FFGG.

Theorem 1: smoothness after fine-tuning; 2: the personalization gap; 3: exact fine-tuning, everybody or a cohort; 4:
inexact fine-tuning; 5: local steps; 6: an asynchronous server; 7: Byzantine clients.
"""

from __future__ import annotations

from analysis.exact_ffgg import exact_trace
from analysis.methods import Method
from analysis.theorems import ffgg_byzantine, ffgg_exact, ffgg_inexact, ffgg_local, ffgg_smoothness
from analysis.theorems.ffgg_inputs import of_experiment, of_trace
from analysis.theorems.statement import Statement

STATEMENTS: dict[str, Statement] = {
    one.key: one
    for one in (
        *ffgg_smoothness.STATEMENTS,
        *ffgg_exact.STATEMENTS,
        *ffgg_inexact.STATEMENTS,
        *ffgg_local.STATEMENTS,
        *ffgg_byzantine.STATEMENTS,
    )
}
METHOD = Method("ffgg", STATEMENTS, of_trace, of_experiment, exact_trace)
