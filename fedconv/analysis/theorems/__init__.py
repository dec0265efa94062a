"""The registered theorems."""

from fedconv.analysis.theorems.base import Condition, Free, Mutant, Theorem
from fedconv.analysis.theorems.split.fedalt import FA, FA_STAR
from fedconv.analysis.theorems.split.fedsim import FS, FS_STAR
from fedconv.problems.errors import InputError

THEOREMS: dict[str, Theorem] = {t.key: t for t in (FA, FA_STAR, FS, FS_STAR)}


def theorem(key: str) -> Theorem:
    """The theorem of that key (``FA``, ``FA*``, ``FS``, ``FS*``)."""
    if key not in THEOREMS:
        raise InputError(f"theorems are {', '.join(THEOREMS)}; got {key!r}")
    return THEOREMS[key]


__all__ = ["FA", "FA_STAR", "FS", "FS_STAR", "THEOREMS", "Condition", "Free", "Mutant", "Theorem", "theorem"]
