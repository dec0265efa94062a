"""From a problem file's tables to a FedSpa experiment."""

from __future__ import annotations

from fedconv.methods.fedspa.experiment import FedSpaExperiment
from fedconv.methods.fedspa.tables import from_tables
from fedconv.methods.registry import Request


def build(request: Request) -> FedSpaExperiment:
    """The experiment of ``[algorithm] name = "fedspa"`` with its tables [masks] and [fedspa].

    ``eta``: γ = η/(LN), L the smoothness of F_k on the masks (frozen), or everywhere.
    """
    tau = 1 if request.tau is None else request.tau
    sections = request.sections
    algorithm = from_tables(request.m, request.gamma or 1.0, tau, sections.get("masks"), sections.get("fedspa"))
    experiment = FedSpaExperiment(
        request.problem, algorithm, request.start, request.T, request.noise, request.seed, request.name
    )
    return experiment if request.eta is None else experiment.with_eta(request.eta)
