"""How the report writes numbers and plain data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

_SCRIPT = re.compile(r"([_^])(\{[^{}]*\}|(?:uv|vu)(?![A-Za-z])|[A-Za-z0-9])")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(x: float, digits: int = 4) -> str:
    """``x`` to ``digits`` significant digits: 0.05331, 1.2×10⁻⁷, −3, ∞; a dash for NaN."""
    if math.isnan(x):
        return "–"
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    text, _, exponent = f"{x:.{digits}g}".partition("e")
    text = text.replace("-", "−")
    return f"{text}×10{str(int(exponent)).translate(_SUPERSCRIPT)}" if exponent else text


def limit(x: float) -> str:
    """The value of a free parameter; 0 and ∞ are limits."""
    return f"→ {number(x)}" if x == 0 or math.isinf(x) else number(x)


def typeset(text: str) -> Markup:
    """Plain-text notation as HTML: ``u^t``, ``V^{t+1}``, ``∇_uF_i`` (one letter, ``uv`` or ``vu`` after ``_``)."""

    def shown(found: re.Match[str]) -> str:
        tag = "sub" if found[1] == "_" else "sup"
        return f"<{tag}>{found[2].strip('{}')}</{tag}>"

    return Markup(_SCRIPT.sub(shown, str(escape(text))))


def plain(x: Any) -> Any:
    """Data that JSON can hold: NumPy scalars and arrays by their ``tolist``, numbers that are not finite as the
    strings "inf", "-inf" and "nan"."""
    if hasattr(x, "tolist"):
        x = x.tolist()
    if isinstance(x, float) and not math.isfinite(x):
        return str(x)
    if isinstance(x, Mapping):
        return {str(k): plain(v) for k, v in x.items()}
    return [plain(v) for v in x] if isinstance(x, list | tuple) else x
