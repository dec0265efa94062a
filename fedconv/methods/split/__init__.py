"""The registered algorithms."""

from fedconv.methods.split.fedalt import FedAlt
from fedconv.methods.split.fedsim import FedSim
from fedconv.methods.split.method import Algorithm, LocalNoise, State, Tally
from fedconv.methods.split.one_block import FedAvg, LocalOnly

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
