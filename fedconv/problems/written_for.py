"""Which classes a shortcut serves: those it was written for, and a subclass only where its own body says so.

A compiled kernel, a recursion of moments or a closed form computes what one class computes. A subclass may change that
in any method, so it is never taken for its parent. It opts in by ``computes_as = Parent`` in its own body: the promise
that every number is the parent's. What it inherits does not count.
"""

from __future__ import annotations

from typing import TypeGuard, TypeVar

from fedconv.problems.errors import InputError

T = TypeVar("T")


def lineage(kind: type) -> tuple[type, ...]:
    """The class, and those that it ``computes_as``, one after another. Raises InputError for one that is no parent."""
    out = [kind]
    while (promised := vars(out[-1]).get("computes_as")) is not None:
        if not isinstance(promised, type) or promised not in out[-1].__mro__[1:]:
            raise InputError(f"{out[-1].__name__}.computes_as must be a class that it inherits from; got {promised!r}")
        out.append(promised)
    return tuple(out)


def written_for(x: object, *kinds: type[T]) -> TypeGuard[T]:
    """Whether ``x`` is of exactly one of these classes, or its class ``computes_as`` one."""
    return any(kind in kinds for kind in lineage(type(x)))


def overridden(kind: type, claim: str, losses: tuple[str, ...]) -> str | None:
    """``Class.method`` of the method among ``losses`` that is redefined below the class that makes ``claim``, or None.

    What a class says of its methods is not said of those that replace them. None where ``kind`` computes as the class
    that makes the claim.
    """
    author = next((c for c in kind.__mro__ if claim in vars(c)), kind)
    if author in lineage(kind):
        return None
    below = kind.__mro__[: kind.__mro__.index(author)]
    return next((f"{c.__name__}.{name}" for c in below for name in losses if name in vars(c)), None)


def refuse_overridden(kind: type, claim: str, losses: tuple[str, ...]) -> None:
    """Raise InputError where :func:`overridden` names a method."""
    changed = overridden(kind, claim, losses)
    if changed is not None:
        author = next(c for c in kind.__mro__ if claim in vars(c))
        raise InputError(
            f"{changed} replaces what {author.__name__}.{claim} is about: write {claim} in {kind.__name__} too (it may"
            f" return super()'s where that still holds)"
        )
