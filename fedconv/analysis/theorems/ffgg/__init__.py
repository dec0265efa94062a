"""FFGG's theorems as statements, and how its runs become their inputs. Numbers are those of the theory page on FFGG.

Theorem 1: smoothness after fine-tuning; 2: the personalization gap; 3: exact fine-tuning, everybody or a cohort; 4:
inexact fine-tuning; 5: local steps; 6: an asynchronous server; 7: Byzantine clients.
"""

from __future__ import annotations

from fedconv.analysis.exact.ffgg import exact_trace
from fedconv.analysis.theorems.ffgg import byzantine as ffgg_byzantine
from fedconv.analysis.theorems.ffgg import exact as ffgg_exact
from fedconv.analysis.theorems.ffgg import inexact as ffgg_inexact
from fedconv.analysis.theorems.ffgg import local as ffgg_local
from fedconv.analysis.theorems.ffgg import smoothness as ffgg_smoothness
from fedconv.analysis.theorems.ffgg.facts import of_experiment, of_trace
from fedconv.analysis.theorems.registry import Method
from fedconv.analysis.theorems.statement import Statement

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
