"""Theorems as MathML: their own sympy definitions, printed for browsers (nothing is typed a second time)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import sympy as sp
from latex2mathml.converter import convert
from markupsafe import Markup, escape
from sympy.printing.mathml import MathMLPresentationPrinter

from fedconv.analysis.theorems.base import Condition, L_u, L_v, T, Theorem, gap0, rhs, symbol, weight_u, weight_v
from fedconv.analysis.theorems.statement import Statement, lhs
from fedconv.problems.errors import InputError

_GREEK = {
    "alpha": "α", "theta": "θ", "omega": "ω", "eta": "η", "chi": "χ", "rho": "ρ", "sigma": "σ", "delta": "δ",
    "tau": "τ", "mu": "μ", "kappa": "κ", "zeta": "ζ", "beta": "β", "epsilon": "ε", "Lambda": "Λ", "ell": "ℓ",
    "gamma": "γ", "eps": "ε", "weight": "w", "gap": "ΔF", "rhs": "bound",
}  # fmt: skip
_HABIT = {"gap0": "gap_0"}
_ROUND, _X, _Y = (sp.Symbol(s) for s in ("t", "X_t", "Y_t"))
_FIRST = (gap0, _X)
"""Terms with these are written first (sympy's own order is alphabetical)."""


class _Printer(MathMLPresentationPrinter):
    """sympy's printer with the project's names, σ_v² as one subsup, and terms in the order of a page of proof."""

    def __init__(self, written: Mapping[str, str], labels: Mapping[str, str]) -> None:
        super().__init__()
        self.written = dict(written)
        self.labels = dict(labels)

    def parts(self, name: str) -> tuple[str, str]:
        """(letter, subscript) of a symbol's name."""
        name = self.written.get(name, _HABIT.get(name, name)).removeprefix("\\")
        letter, _, below = name.partition("_")
        return _GREEK.get(letter, letter), _GREEK.get(below, below)

    def leaf(self, text: str) -> Any:
        node = self.dom.createElement("mn" if text.isdigit() else "mi")
        node.appendChild(self.dom.createTextNode(text))
        return node

    def _print_Symbol(self, sym: sp.Symbol, style: str = "plain") -> Any:
        if sym.name in self.labels:
            text = self.dom.createElement("mtext")
            text.appendChild(self.dom.createTextNode(self.labels[sym.name]))
            return text
        letter, below = self.parts(sym.name)
        if not below:
            return self.leaf(letter)
        node = self.dom.createElement("msub")
        node.appendChild(self.leaf(letter))
        node.appendChild(self.leaf(below))
        return node

    def _print_Pow(self, e: sp.Pow) -> Any:
        if (
            isinstance(e.base, sp.Symbol)
            and e.base.name not in self.labels
            and e.exp.is_Integer
            and e.exp.is_positive
            and self.parts(e.base.name)[1]
        ):
            letter, below = self.parts(e.base.name)
            node = self.dom.createElement("msubsup")
            for text in (letter, below, str(e.exp)):
                node.appendChild(self.leaf(text))
            return node
        return super()._print_Pow(e)

    def _as_ordered_terms(self, expr: sp.Expr, order: str | None = None) -> list[Any]:
        terms: Any = super()._as_ordered_terms(expr, order=order)
        return sorted(terms, key=lambda x: (x.could_extract_minus_sign(), not x.is_number, not x.has(*_FIRST)))


def _labels(theorem: Theorem | Statement | None) -> dict[str, str]:
    """Words for what a statement measures, in brackets."""
    if not isinstance(theorem, Statement):
        return {}
    return {x.name: f"[{x.label or x.name.replace('_', ' ')}]" for x in theorem.measured}


def _printed(theorem: Theorem | Statement | None, expression: Any) -> str:
    """The inside of a <math> element. The dual symbols of free parameters are written 1/x."""
    written = dict(theorem.written or {}) if theorem else {}
    duals: dict[Any, Any] = {f.inv: 1 / f.x for f in theorem.free} if theorem else {}
    text = _Printer(written, _labels(theorem)).doprint(sp.sympify(expression).subs(duals))
    text = text.replace("&InvisibleTimes;", "&#8290;").replace("&ExponentialE;", "e")
    return re.sub(r"<mo>-</mo>", "<mo>&#8722;</mo>", text)


def _math(inside: str, *, block: bool = False) -> str:
    style = ' displaystyle="true"' if block else ""
    return f"<math{style}><mrow>{inside}</mrow></math>"


_SIZED = re.compile(r"(\\[bB]igg?[lr]?)\s*(\\\||\\langle|\\rangle)")
_SIGNS = {r"\|": "‖", r"\langle": "⟨", r"\rangle": "⟩"}


def latex(tex: str, *, block: bool = False) -> str:
    r"""LaTeX as a ``<math>`` element. (``\Big\|`` is given to the converter as ``\Big‖``, which it can read.)"""
    readable = _SIZED.sub(lambda found: found[1] + _SIGNS[found[2]], tex.strip())
    return convert(readable, display="block" if block else "inline")


def prose(text: str) -> Markup:
    r"""Text with mathematics as LaTeX between dollar signs, say ``"at most $\\frac{1}{T}$"``, for HTML."""
    parts = text.split("$")
    if len(parts) % 2 == 0:
        raise InputError(f"dollar signs must come in pairs; got {text!r}")
    return Markup("").join(Markup(latex(x)) if k % 2 else escape(x) for k, x in enumerate(parts))


def name(key: str, theorem: Theorem | Statement | None = None) -> str:
    """A symbol by its name (``"tau_u"``), inline."""
    return _math(_printed(theorem, symbol(key)))


def definition(theorem: Theorem | Statement, defined: sp.Symbol, expression: Any) -> str:
    """``defined = expression``."""
    return _math(f"{_printed(theorem, defined)}<mo>=</mo>{_printed(theorem, expression)}", block=True)


def condition(theorem: Theorem | Statement, premise: Condition) -> str:
    """``left ≤ 1`` or ``left < 1``."""
    relation = "&lt;" if premise.strict else "&#8804;"
    return _math(f"{_printed(theorem, premise.left)}<mo>{relation}</mo><mn>1</mn>", block=True)


def vanishes(theorem: Theorem, expression: Any) -> str | None:
    """``expression = 0``, or None where it never is."""
    expression = sp.sympify(expression)
    if expression.is_number:
        return None
    return _math(f"{_printed(theorem, expression)}<mo>=</mo><mn>0</mn>")


def statement(theorem: Theorem | Statement) -> str:
    """Both sides by the definitions: (1/T) Σ_{t<T} (weight_u X_t/L_u + weight_v Y_t/L_v) ≤ rhs; a statement's own."""
    right = _printed(theorem, theorem.definitions[rhs])
    relation = {"upper": "&#8804;", "lower": "&#8805;", "equality": "="}[theorem.kind]
    if isinstance(theorem, Statement):
        left = _printed(theorem, theorem.definitions[lhs])
        return _math(f"{left}<mo>{relation}</mo>{right}", block=True)
    total = sp.Sum(weight_u * _X / L_u + weight_v * _Y / L_v, (_ROUND, 0, T - 1))
    left = f"{_printed(theorem, 1 / T)}<mo>&#8290;</mo>{_printed(theorem, total)}"
    return _math(f"{left}<mo>{relation}</mo>{right}", block=True)
