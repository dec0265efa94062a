"""The claims as a LaTeX table: a document of booktabs and longtable that compiles as it stands."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from fedconv.analysis.claims.claim import Outcome
from fedconv.analysis.pages.report_claims import GROUPS, standing

_PLAIN = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''",
}  # fmt: skip
_MATH = {
    "≤": r"\le", "≥": r"\ge", "→": r"\to", "∞": r"\infty", "√": r"\surd", "×": r"\times", "·": r"\cdot", "−": "-",
    "±": r"\pm", "∇": r"\nabla", "‖": r"\|", "⟨": r"\langle", "⟩": r"\rangle", "★": r"\star", "Σ": r"\Sigma",
    "Δ": r"\Delta", "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\varepsilon",
    "ζ": r"\zeta", "η": r"\eta", "θ": r"\theta", "κ": r"\kappa", "λ": r"\lambda", "μ": r"\mu", "ν": r"\nu",
    "ρ": r"\rho", "σ": r"\sigma", "τ": r"\tau", "φ": r"\varphi", "χ": r"\chi", "ω": r"\omega", "₁": "_1", "₂": "_2",
    "⁰": "^0", "²": "^2", "⁺": "^+", "∈": r"\in", "ℓ": r"\ell", "†": r"\dagger", "½": r"\tfrac12",
}  # fmt: skip
_OTHER = {"–": "--", "—": "---", "“": "``", "”": "''", "’": "'", "…": r"\dots{}", "\u00a0": "~"}


def escaped(text: str) -> str:
    """Plain text for LaTeX: its special characters, and mathematical ones that a text font lacks. Letters with accents
    stay (UTF-8); any other character beyond Latin becomes a question mark, so that the document compiles."""
    out = []
    for c in text:
        if c in _PLAIN:
            out.append(_PLAIN[c])
        elif c in _MATH:
            out.append(f"${_MATH[c]}$")
        elif c in _OTHER:
            out.append(_OTHER[c])
        else:
            out.append(c if ord(c) < 0x180 else "?")
    return "".join(out)


def prose(text: str) -> str:
    """Text with mathematics between dollar signs: the mathematics as it stands, the rest escaped."""
    return "".join(f"${part}$" if k % 2 else escaped(part) for k, part in enumerate(text.split("$")))


def number(x: float, digits: int = 3) -> str:
    """A number in mathematics, with a power of ten where it is long; a dash for NaN."""
    if math.isnan(x):
        return "--"
    if math.isinf(x):
        return r"$\infty$" if x > 0 else r"$-\infty$"
    mantissa, _, power = f"{x:.{digits}g}".partition("e")
    return f"${mantissa}$" if not power else rf"${mantissa}\cdot10^{{{int(power)}}}$"


_HEAD = r"""\documentclass[a4paper,landscape,10pt]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[margin=15mm]{geometry}
\usepackage{amsmath,amssymb,booktabs,longtable,array}
\begin{document}
"""
_COLUMNS = (
    r"@{}>{\raggedright}p{85mm}>{\raggedright}p{62mm}l>{\raggedleft}p{20mm}"
    r">{\raggedleft\arraybackslash}p{52mm}@{}"
)
_TITLES = r"Claim & Source & Verdict & Tightness & Measured, with limits"


def document(outcomes: Sequence[Outcome], title: str) -> str:
    """Claim, source, verdict, tightness (measured/bound) and the measured value with its limits, those of the piece of
    evidence that decides, as a longtable in a document of its own."""
    lines = [_HEAD, rf"\begin{{longtable}}{{{_COLUMNS}}}", r"\toprule"]
    lines += [rf"{_TITLES} \\", r"\midrule\endfirsthead", r"\toprule", rf"{_TITLES} \\", r"\midrule\endhead",
              r"\bottomrule\endfoot"]  # fmt: skip
    paper = ""
    for outcome in outcomes:
        if outcome.claim.paper != paper:
            paper = outcome.claim.paper
            lines.append(rf"\multicolumn{{5}}{{@{{}}l}}{{\textbf{{{escaped(paper)}}}}} \\")
        lines.append(_row(outcome))
    lines += [r"\end{longtable}", r"\end{document}", ""]
    return f"% {re.sub(r'[^ -~]', '?', title)}\n" + "\n".join(lines)


def _row(outcome: Outcome) -> str:
    words = {key: word for key, word, _ in GROUPS}
    worst = outcome.worst
    cells = [prose(outcome.claim.title), prose(outcome.claim.source), escaped(words[standing(outcome)])]
    if worst is None:
        cells += ["--", "--"]
    else:
        v = worst.verdict
        limits = "" if v.low == v.high else f" [{number(v.low)}, {number(v.high)}]"
        cells += [number(v.tightness), f"{number(v.measured, 4)}{limits}"]
    return " & ".join(cells) + r" \\"
