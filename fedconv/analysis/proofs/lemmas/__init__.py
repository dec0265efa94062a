"""The lemmas behind the theorems, each checkable by itself on a visited state."""

from fedconv.analysis.proofs.lemmas.base import Lemma, LemmaMutant
from fedconv.analysis.proofs.lemmas.fedalt import LEMMAS as _ALT
from fedconv.analysis.proofs.lemmas.fedsim import LEMMAS as _SIM
from fedconv.problems.errors import InputError

LEMMAS: dict[str, tuple[Lemma, ...]] = {"fedalt": _ALT, "fedsim": _SIM}
"""By algorithm, in the order of the proof."""


def lemma(algorithm: str, key: str) -> Lemma:
    """A lemma of an algorithm's proof, or a false version of it (``"L1:c_replaced"``)."""
    whole, _, mutant = key.partition(":")
    for one in LEMMAS[algorithm]:
        if one.key == whole:
            return one.mutate(mutant) if mutant else one
    raise InputError(f"lemmas of {algorithm} are {', '.join(x.key for x in LEMMAS[algorithm])}; got {whole!r}")


__all__ = ["LEMMAS", "Lemma", "LemmaMutant", "lemma"]
