"""From a problem file's tables to an FFGG experiment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from fedconv.methods.ffgg.experiment import FFGGExperiment
from fedconv.methods.ffgg.method import FFGG, Asynchrony, Byzantine, FineTuning
from fedconv.methods.registry import Request
from fedconv.problems.envelopes.base import EnvelopeProblem
from fedconv.problems.errors import InputError
from fedconv.problems.registry import FAMILIES
from fedconv.problems.validation import call_with

Made = TypeVar("Made")


def build(request: Request) -> FFGGExperiment:
    """The experiment of ``[algorithm] name = "ffgg"`` with its tables [fine_tuning], [async] and [byzantine].

    ``eta``: γ = η/L_max, L_max over the honest clients.
    """
    problem = request.problem
    if not isinstance(problem, EnvelopeProblem):
        raise InputError(
            f"problem.family must be one whose clients can be fine-tuned exactly, for ffgg: {', '.join(tunable())}; got"
            f" {problem.family!r}"
        )
    if not request.noise.silent:
        raise InputError(
            f"noise.sigma_u must be 0 for ffgg, whose gradients are exact; got sigma_u = {request.noise.sigma_u:g},"
            f" sigma_v = {request.noise.sigma_v:g}"
        )
    parts: dict[str, Any] = {
        "fine_tuning": _table(request, "fine_tuning", FineTuning) or FineTuning(),
        "asynchrony": _table(request, "async", Asynchrony),
        "byzantine": _table(request, "byzantine", Byzantine),
    }
    tau = 1 if request.tau is None else request.tau
    algorithm = FFGG(m=request.m, gamma=request.gamma or 1.0, tau=tau, **parts)
    experiment = FFGGExperiment(problem, algorithm, request.start, request.T, request.seed, request.name)
    if request.gamma is None:
        assert request.eta is not None
        L_max = experiment.honest.envelope_constants.L_max.value
        if not L_max > 0:
            raise InputError(
                "algorithm.eta must be left out, and gamma given, where every client's loss after fine-tuning is"
                f" constant in u (L_max = 0); got {request.eta:g}"
            )
        experiment = replace(experiment, algorithm=replace(algorithm, gamma=request.eta / L_max))
    return experiment


def tunable() -> list[str]:
    """The families whose problems have an envelope."""
    return [name for name, family in FAMILIES.items() if getattr(family, "envelope", False)]


def _table(request: Request, section: str, kind: type[Made]) -> Made | None:
    given = request.sections.get(section)
    if given is None:
        return None
    try:
        return call_with(kind, given, section)
    except InputError as error:
        # the settings' own sentences carry the section's name already
        doubled = f"{section}: {section}."
        raise InputError(
            str(error).removeprefix(f"{section}: ") if str(error).startswith(doubled) else str(error)
        ) from error
