"""The registered algorithms."""

from fedconv.algorithms.base import Algorithm, LocalNoise, State, Tally
from fedconv.algorithms.fedalt import FedAlt
from fedconv.algorithms.fedsim import FedSim
from fedconv.algorithms.single import FedAvg, LocalOnly

ALGORITHMS: dict[str, type[Algorithm]] = {a.name: a for a in (FedAlt, FedSim, FedAvg, LocalOnly)}

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "FedAlt",
    "FedAvg",
    "FedSim",
    "LocalNoise",
    "LocalOnly",
    "State",
    "Tally",
]
