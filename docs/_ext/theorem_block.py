"""The directive ``theorem``: statement, definitions, premises and weakened versions of a theorem, from its object."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class TheoremBlock(SphinxDirective):
    """``{theorem} KEY``: printed from the object that tests, reports and the command line evaluate."""

    required_arguments = 1
    final_argument_whitespace = False

    def run(self) -> list[nodes.Node]:
        from fedconv.analysis.theorems import THEOREMS
        from fedconv.analysis.theorems.registry import statements

        key = self.arguments[0]
        found = THEOREMS.get(key) or statements().get(key)
        if found is None:
            raise self.error(f"there is no theorem {key!r}")
        tex = found.latex()
        title = nodes.paragraph("", "", nodes.strong("", found.key), nodes.Text(f": {found.title}"))
        out: list[nodes.Node] = [title, self.formula(tex["statement"])]
        if tex["conditions"]:
            out += [nodes.paragraph("", "if"), self.formula(tex["conditions"])]
        names = defined(found, tex)
        if names:
            out.append(nodes.paragraph("", "where"))
            out += [self.formula(tex[name]) for name in names]
        measured = [(x.latex, plain(x.meaning)) for x in getattr(found, "measured", ()) if explains(x.latex, x.meaning)]
        if measured:
            words: list[nodes.Node] = [nodes.Text("Measured: ")]
            for k, (name, meaning) in enumerate(measured):
                words += [nodes.Text("; " if k else ""), nodes.math(name, name), nodes.Text(f", {meaning}")]
            out.append(nodes.paragraph("", "", *words, nodes.Text(".")))
        premises = [p.sentence for p in getattr(found, "premises", ())]
        if premises:
            out.append(
                nodes.paragraph("", f"Premises, by what a verdict says where one is unmet: {'; '.join(premises)}.")
            )
        if found.mutants:
            refuted = [f"{found.key}:{x.key} – {x.statement}" for x in found.mutants]
            out += [nodes.paragraph("", "Weakened versions, each refuted by an instance:"), self.listed(refuted)]
        box = nodes.container("", *out, classes=["theorem"])
        self.set_source_info(box)
        return [box]

    def formula(self, tex: str) -> nodes.math_block:
        node = nodes.math_block(tex, tex, nowrap=False, number=None, label=None, docname=self.env.docname)
        self.set_source_info(node)
        return node

    def listed(self, lines: list[str]) -> nodes.bullet_list:
        return nodes.bullet_list("", *(nodes.list_item("", nodes.paragraph("", line)) for line in lines))


def explains(tex: str, meaning: str) -> bool:
    """Whether words say more than the LaTeX: it is a name, and no formula."""
    same = letters(tex.replace(r"\mathrm", "")) == letters(meaning)
    return not same and not any(sign in tex for sign in (r"\|", r"\sum", r"\frac", "("))


def letters(text: str) -> str:
    return re.sub(r"[\W_²2]", "", text)


def plain(meaning: str) -> str:
    """The words without the name that they begin with ("W: every ...")."""
    return re.sub(r"^\w+: ", "", meaning)


def defined(found: Any, tex: dict[str, str]) -> list[str]:
    """The definitions to print, in order: all but both sides, and those that read ``a = a``."""
    names = [str(s) for s in found.definitions if str(s) in tex and str(s) != "rhs"]
    return [name for name in names if len(set(tex[name].split(" = "))) > 1]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("theorem", TheoremBlock)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
