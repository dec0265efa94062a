"""From a problem file's tables to a FedFomo experiment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from fedconv.methods.fedfomo.experiment import FedFomoExperiment
from fedconv.methods.fedfomo.method import FedFomo
from fedconv.methods.fedfomo.privacy import Privacy
from fedconv.methods.registry import Request
from fedconv.problems.errors import InputError
from fedconv.problems.validation import Count, Fraction, NotNegative, Positive, Size, call_with

Made = TypeVar("Made")


def build(request: Request) -> FedFomoExperiment:
    """The experiment of ``[algorithm] name = "fedfomo"`` with its tables [fedfomo] and [privacy].

    ``eta``: γ = η/L, L the smoothness of the training losses in θ = (u, v).
    """
    privacy = None
    if "privacy" in request.sections:
        privacy = _table(request, "privacy", _privacy)
    given = _table(request, "fedfomo", _settings) if "fedfomo" in request.sections else _settings()
    tau = 1 if request.tau is None else request.tau
    algorithm = FedFomo(m=request.m, gamma=request.gamma or 1.0, tau=tau, privacy=privacy, **given)
    experiment = FedFomoExperiment(
        request.problem, algorithm, request.start, request.T, request.noise, request.seed, request.name
    )
    return experiment if request.eta is None else experiment.with_eta(request.eta)


def _settings(
    *,
    downloads: Size = 4,
    norm: Literal["euclidean", "l1", "squared", "layers", "none"] = "euclidean",
    epsilon: Fraction = 0.3,
    decay: NotNegative = 0.05,
    affinity: Literal["clipped", "signed", "raw"] = "clipped",
    rejected: Literal["base", "trained"] = "base",
    margin: NotNegative = 0.0,
    targets: list[int] | None = None,
    value_bits: Count = 32,
    ties: Literal["random", "index"] = "random",
    layers: list[Count] | None = None,
) -> dict[str, Any]:
    """The table [fedfomo]; see ``fedconv.methods.fedfomo.method.FedFomo``."""
    return {
        "downloads": downloads,
        "norm": norm,
        "epsilon": epsilon,
        "decay": decay,
        "affinity": affinity,
        "rejected": rejected,
        "margin": margin,
        "targets": None if targets is None else tuple(targets),
        "value_bits": value_bits,
        "ties": ties,
        "layers": None if layers is None else tuple(layers),
    }


def _privacy(
    *,
    clip: Positive,
    noise_multiplier: Positive,
    delta: Positive = 1e-5,
    loss_bound: Positive | None = None,
    loss_noise: Positive | None = None,
) -> Privacy:
    """The table [privacy]; see ``fedconv.methods.fedfomo.privacy.Privacy``."""
    return Privacy(clip, noise_multiplier, delta, loss_bound, loss_noise)


def _table(request: Request, section: str, kind: Callable[..., Made]) -> Made:
    try:
        return call_with(kind, request.sections[section], section)
    except InputError as error:
        # the settings' own sentences carry the section's name already
        doubled = f"{section}: {section}."
        raise InputError(
            str(error).removeprefix(f"{section}: ") if str(error).startswith(doubled) else str(error)
        ) from error
