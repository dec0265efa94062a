"""Which parameters of a torch module are personal, and which modules a problem can be made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from fedconv.problems.errors import InputError

Personal = str | Sequence[str] | Callable[[str], bool]
"""Patterns of parameters' names, or a predicate on a name."""


def personal_names(names: Sequence[str], personal: Personal) -> set[str]:
    """The names that ``personal`` chooses among ``names``.

    A pattern is a name, the beginning of one (``"head"`` and ``"head."`` mean ``head.weight`` and ``head.bias``), or a
    glob (``"*.adapter.*"``). Raises InputError where a pattern, or the predicate, chooses nothing.
    """
    if callable(personal):
        chosen = {name for name in names if personal(name)}
        if not chosen:
            raise InputError(f"personal must be true for a parameter's name, {', '.join(names)}; got false for all")
        return chosen
    chosen = set()
    for pattern in [personal] if isinstance(personal, str) else personal:
        beginning = pattern.rstrip(".") + "."
        found = {name for name in names if fnmatchcase(name, pattern) or name.startswith(beginning)}
        if not found:
            raise InputError(f"personal must fit a parameter's name, {', '.join(names)}; got {pattern!r}")
        chosen |= found
    return chosen


def check_module(module: nn.Module) -> None:
    """Raise InputError where the module's output is not a function of its parameters and of one row alone."""
    for name, part in module.named_modules():
        here = f"{name or 'module'} ({type(part).__name__})"
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.running_mean is None:
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                raise InputError(
                    f"module must not mix rows: batch norm without running statistics does, in {here};"
                    " GroupNorm and LayerNorm do not"
                )
            continue
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.training:
            raise InputError(
                f"module must not mix rows: {here} does in training mode; hand over module.eval(), which freezes its"
                " statistics, or take GroupNorm or LayerNorm"
            )
        if part.training and _dropout(part) > 0:
            raise InputError(
                f"module must have no dropout, as F is a function of the parameters: {here} drops with probability"
                f" {_dropout(part):g}; hand over module.eval(), which switches it off"
            )


def _dropout(part: nn.Module) -> float:
    """The probability with which a part drops; 0 for parts that do not."""
    given: Any = part.p if isinstance(part, nn.modules.dropout._DropoutNd) else getattr(part, "dropout", 0.0)
    return float(given) if isinstance(given, (int, float)) else 0.0
