"""Mathematics as MathML, converted when the pages are built: it needs neither a network, nor JavaScript, nor LaTeX."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

from fedconv.analysis.pages.mathml import latex

logger = logging.getLogger(__name__)


def prepare(tex: str) -> str:
    r"""LaTeX that the converter reads as LaTeX would: several lines as ``aligned``, ``\arg`` as an operator, and norms
    whose bars do not grow."""
    tex = re.sub(r"\\arg(?![a-zA-Z])", r"\\operatorname{arg}", tex.strip())
    tex = re.sub(r"\\mathbb\s*([A-Z])", r"\\mathbb{\1}", tex)
    tex = re.sub(r"\\[lr]Vert(?![a-zA-Z])", r"\\|", tex)
    if r"\\" in tex and r"\begin" not in tex:
        return rf"\begin{{aligned}}{tex}\end{{aligned}}"
    return tex


def mathml(tex: str, block: bool) -> str:
    """A formula as MathML. Raises ValueError where the converter knows a command of it not."""
    try:
        found = latex(prepare(tex), block=block)
    except Exception as error:  # the converter has many kinds
        raise ValueError(f"{type(error).__name__}: {error}") from error
    unknown = re.findall(r"\\[a-zA-Z]+", found)
    if unknown:
        raise ValueError(f"unknown command {unknown[0]}")
    return found


RELATIONS = frozenset("=<>≤≥≈≠∈⊆→⇒⇔≪≫∼≡:")
OPENING, CLOSING = frozenset("([{⌊⌈⟨"), frozenset(")]}⌋⌉⟩")


LONG = 24
"""Signs of a piece that may be wider than a telephone: there it can be scrolled."""


def breakable(formula: str) -> str:
    """A formula in a line as several, between which the line may be broken: after each relation outside parentheses."""
    root = ET.fromstring(re.sub(r' xmlns="[^"]*"', "", formula, count=1))  # HTML needs no namespace
    rows = list(root)
    if len(rows) != 1 or rows[0].tag != "mrow":
        return formula
    pieces: list[list[ET.Element]] = [[]]
    depth, last = 0, len(rows[0]) - 1
    for k, child in enumerate(rows[0]):
        pieces[-1].append(child)
        signs = [mo.text or "" for mo in child.iter("mo")]  # a closing parenthesis may stand inside a power
        depth += sum(x in OPENING for x in signs) - sum(x in CLOSING for x in signs)
        if child.tag == "mo" and child.text in RELATIONS and depth == 0 and 0 < k < last:
            child.set("form", "infix")
            pieces.append([])
    out = []
    for piece in pieces:
        math = ET.Element("math", root.attrib)
        ET.SubElement(math, "mrow", rows[0].attrib).extend(piece)
        text = ET.tostring(math, encoding="unicode")
        out.append(f'<span class="long">{text}</span>' if len("".join(math.itertext())) > LONG else text)
    return "<wbr>".join(out)


def _converted(node: nodes.Element, block: bool) -> str:
    try:
        found = mathml(node.astext(), block)
        return found if block else breakable(found)
    except ValueError as error:
        logger.warning("no MathML for %r: %s", node.astext(), error, location=node)
        return f"<code>{escape(node.astext())}</code>"


def inline(self: HTML5Translator, node: nodes.math) -> None:
    """A formula in a line of text."""
    self.body.append(f'<span class="math">{_converted(node, block=False)}</span>')
    raise nodes.SkipNode


def display(self: HTML5Translator, node: nodes.math_block) -> None:
    """A formula by itself, with its number where it has a label; wide ones can be scrolled."""
    self.body.append(self.starttag(node, "div", CLASS="math"))
    if node.get("number"):
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})</span>')
    self.body.append(_converted(node, block=True))
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
