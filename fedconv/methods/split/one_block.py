"""The two one-block cases: FedAvg has no personal part, local-only has no shared part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedconv.methods.split.fedalt import FedAlt
from fedconv.problems.errors import InputError


@dataclass(frozen=True)
class FedAvg(FedAlt):
    """FedAvg: FedAlt with τ_v = 0. The personal parameters, if the problem has any, stay at their start, so the
    objective is u ↦ F(u, V⁰)."""

    name: ClassVar[str] = "fedavg"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau_v != 0:
            raise InputError(f"fedavg takes no personal steps: tau_v must be 0; got {self.tau_v}")


@dataclass(frozen=True)
class LocalOnly(FedAlt):
    """Local-only training: FedAlt with τ_u = 0. The shared parameters stay at their start, so the objective is
    V ↦ F(u⁰, V), client by client."""

    name: ClassVar[str] = "local"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau_u != 0:
            raise InputError(f"local takes no shared steps: tau_u must be 0; got {self.tau_u}")
