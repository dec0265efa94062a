"""What runs are known by: the names of the classes of problem, algorithm and noise, which no other class may borrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedconv.problems.errors import InputError
from fedconv.problems.noise import LAWS, Noise

if TYPE_CHECKING:
    from fedconv.problems.base import Problem


def named(problem: Problem, algorithm: Any, noise: Noise | None = None) -> None:
    """Raise InputError where a run's record would take the problem, algorithm or noise for one of another class:
    without a family, name or law in the class's own body, or with that of a parent or of a registered class."""
    from fedconv.methods.registry import METHODS
    from fedconv.methods.split import ALGORITHMS
    from fedconv.problems.registry import FAMILIES

    _own(problem, "family", "problem", FAMILIES)
    if type(algorithm) is not ALGORITHMS.get(algorithm.name):
        _own(algorithm, "name", "algorithm", {*ALGORITHMS, *METHODS})
    if noise is not None and type(noise) is not Noise:
        _own(noise, "law", "noise", LAWS)


def _own(x: Any, word: str, what: str, registered: Any) -> None:
    kind = type(x)
    said, name = vars(kind).get(word), kind.__name__
    if said is None:
        inherited = f"it inherits {getattr(kind, word)!r}" if hasattr(kind, word) else "it has none"
        raise InputError(
            f'the {what} class {name} must say its {word} in its own body, {word} = "...", or its runs pass for'
            f" those of another; {inherited}"
        )
    owner = next((c.__name__ for c in kind.__mro__[1:] if vars(c).get(word) == said), None)
    if owner is None and said in registered and kind.__module__.partition(".")[0] != "fedconv":
        owner = "a registered one"
    if owner is not None:
        raise InputError(f"the {what} class {name} must have a {word} of its own; {said!r} is that of {owner}")
