"""The theory pages: every theorem and lemma has its place, its box is its own, and nothing else is named."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedconv.analysis.proofs.lemmas import LEMMAS
from fedconv.analysis.theorems import THEOREMS
from fedconv.analysis.theorems.registry import statement, statements
from fedconv.methods.ffgg.robust.robustness import robustness
from fedconv.methods.ffgg.robust.threat import Byzantine

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((DOCS / "theory").glob("*.md"))}
HOME = {"FA": "fedalt_fedsim", "FS": "fedalt_fedsim", "FFGG": "ffgg", "FSPA": "fedspa", "FOMO": "fedfomo"}
"""The page of a theorem, by the letters of its key."""
THEOREM_KEYS = [*THEOREMS, *statements()]
LEMMA_KEYS = sorted({one.key for lemmas in LEMMAS.values() for one in lemmas})


def anchor(kind: str, key: str) -> str:
    """The label of a theorem or a lemma, as it stands above its heading."""
    return f"({kind}-{key.replace('*', '-star').replace(chr(39), '-prime').replace('_', '-')})="


def found(pattern: str) -> list[str]:
    return [x for text in PAGES.values() for x in re.findall(pattern, text, re.MULTILINE)]


@pytest.mark.parametrize("key", THEOREM_KEYS)
def test_a_theorem_has_an_anchor_and_behind_it_its_box(key: str) -> None:
    text = PAGES[HOME[key.split("-")[0].rstrip("*")]]
    box = f"```{{theorem}} {key}\n```\n"
    assert text.count(f"\n{anchor('theorem', key)}\n") == 1
    assert text.count(box) == 1
    between = text[text.index(anchor("theorem", key)) : text.index(box)]
    headings = re.findall(r"^#+ ", between, re.MULTILINE)
    assert len(headings) == 1, f"the box of {key} is not in the section of its anchor"


@pytest.mark.parametrize("key", LEMMA_KEYS)
def test_a_lemma_has_an_anchor(key: str) -> None:
    assert PAGES["fedalt_fedsim"].count(f"\n{anchor('lemma', key)}\n") == 1


def test_every_anchor_and_box_is_of_a_key_that_exists() -> None:
    assert sorted(found(r"^```\{theorem\} (.*)$")) == sorted(THEOREM_KEYS)
    labels = {anchor("theorem", key) for key in THEOREM_KEYS} | {anchor("lemma", key) for key in LEMMA_KEYS}
    assert set(found(r"^\((?:theorem|lemma)-.*\)=$")) == labels
    assert {"index", *HOME.values()} == set(PAGES)


def test_every_key_in_the_text_exists() -> None:
    known = set(THEOREM_KEYS)
    named = found(r"(?<![\w-])((?:FFGG|FSPA|FOMO)-[\w-]+)")
    unknown = {x for x in named if x not in known and x.rstrip("-") not in known}
    families = {x for x in unknown if any(key.startswith(x) for key in known)}
    assert not unknown - families, "keys that no theorem has"


@pytest.mark.parametrize("page", sorted(set(HOME.values())))
def test_references_lead_to_anchors_of_some_page(page: str) -> None:
    labels = set(found(r"^\(([\w-]+)\)=$"))
    assert set(re.findall(r"\{ref\}`[^`<]*<([^>]+)>`", PAGES[page])) <= labels


def test_the_weakened_versions_named_in_the_text_exist() -> None:
    """``(mutant `NAME`)`` or ``mutants `NAME` ...`` after a theorem: some theorem of that page has it."""
    for page, text in PAGES.items():
        mine = [key for key in THEOREM_KEYS if HOME[key.split("-")[0].rstrip("*")] == page]
        keys = {x.key for key in mine for x in (THEOREMS[key] if key in THEOREMS else statement(key)).mutants}
        keys |= {x.key for lemmas in LEMMAS.values() for one in lemmas for x in one.mutants if page == "fedalt_fedsim"}
        named = re.findall(r"mutants? `(\w+)`", text)
        assert set(named) <= keys, page


def extension(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("sphinx")  # of the extra docs
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    return importlib.import_module(name)


@pytest.mark.parametrize("key", THEOREM_KEYS)
def test_every_formula_of_a_box_becomes_mathml(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block, converter = (extension(name, monkeypatch) for name in ("theorem_block", "docs_mathml"))
    found = THEOREMS.get(key) or statement(key)
    tex = found.latex()
    names = block.defined(found, tex)
    assert not {"lhs", "rhs", "floor"} & set(names)
    inline = [x.latex for x in getattr(found, "measured", ())]
    for one in [tex["statement"], tex["conditions"], *(tex[name] for name in names), *inline]:
        assert not one or converter.mathml(one, block=True).startswith("<math")


def test_every_formula_of_a_page_becomes_mathml(monkeypatch: pytest.MonkeyPatch) -> None:
    converter = extension("docs_mathml", monkeypatch)
    for text in PAGES.values():
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for display, inline in re.findall(r"\$\$(.+?)\$\$|\$([^$]+)\$", prose, re.DOTALL):
            tex = re.sub(r"\\tag\{.*?\}", "", display or inline)
            assert converter.mathml(tex, block=bool(display)).startswith("<math")


def test_words_are_added_only_where_they_say_more_than_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    block = extension("theorem_block", monkeypatch)
    assert block.explains("D_0", "F(w^0) − F★")
    assert not block.explains(r"E_{\mathrm{in}}^2", "E_in²")
    assert not block.explains(r"\|b_k\|^2", "‖b_k‖²")
    assert block.plain("W: every W updates") == "every W updates"


# ---- numbers and formulas of the prose, against the objects ----------------------------------------------------


def test_the_example_of_theorem_1_is_what_the_page_says() -> None:
    """f = 0.05w² + wθ + 0.05θ²: F'' = 0.1 − 1/0.1; and F_1 = w²/2 − (2w)²/2."""
    assert "$F''=0.1-10=-9.9$, 99 times as much" in " ".join(PAGES["ffgg"].split())
    assert pytest.approx(-99 * 0.1, rel=1e-12) == 0.1 - 1 / 0.1
    assert "$F_1=-\\frac{3}{2}w^2$" in PAGES["ffgg"]
    assert 0.5 - 2**2 / 2 == -1.5


def kappa(n: int, f: int, **defence: Any) -> tuple[float, float]:
    found = robustness(Byzantine(f, attack="zero", **defence), n)
    return found.kappa, found.beta


@pytest.mark.parametrize(("n", "f", "r", "s"), [(8, 1, 3, 2), (12, 2, 10, 2), (12, 5, 4, 1), (15, 2, 9, 3)])
def test_the_table_of_robustness_is_that_of_the_program(n: int, f: int, r: int, s: int) -> None:
    """The table's formulas typed out once more."""
    N, u, q, b, delta = n - f, n - 2 * f, n - f - 1, (n - 1) // 2, f / n
    v = q - f
    itself = (min(N / u, (2 * N / u) ** 0.5) + (f / u) ** 0.5) ** 2
    without = ((2 * N * (q - 1) / ((N - 1) * v)) ** 0.5 + ((N - v) / v) ** 0.5) ** 2
    rho = (N / u * (1 + N / (N - r + 1))) ** 0.5 + (f / u) ** 0.5
    best = max((j * rho + ((r - j) * (N - r + j)) ** 0.5) ** 2 / r**2 for j in range(min(f, r) + 1))
    inner = f / (n // s - 2 * f)
    sigma, eta = (N - s) / (s * (N - 1)), (s - 1) * f / ((n - s * f) * (N - 1))
    bucketed = ((inner * (sigma - eta)) ** 0.5 + eta**0.5) ** 2
    table: list[tuple[dict[str, Any], float, float]] = [
        ({"aggregator": "trimmed_mean"}, f / u, 0),
        ({"aggregator": "trimmed_mean", "trim": b}, b / (N - b), 0),
        ({"aggregator": "median"}, b / (N - b), 0),
        ({"aggregator": "geometric_median"}, n / u, 0),
        ({"aggregator": "krum"}, itself, 0),
        ({"aggregator": "krum_without_itself"}, without, 0),
        ({"aggregator": "multi_krum", "keep": r}, best, 0),
        ({"aggregator": "trimmed_mean", "pre": "nnm"}, 8 * f / N * (1 + f / u), 0),
        ({"aggregator": "trimmed_mean", "pre": "bucketing", "bucket": s}, bucketed, 0),
        ({"aggregator": "centred_clipping"}, delta, 2 * delta),
        ({"aggregator": "mean"}, float("inf"), 0),
    ]
    for defence, expected, beta in table:
        assert kappa(n, f, **defence) == pytest.approx((expected, beta), rel=1e-12), defence


def test_the_double_well_on_the_page_of_fedfomo() -> None:
    """L(x) = (x² − 1)² + x/10 from 0.5 with the candidates −1 and 1, in the page's own digits."""

    def loss(x: float) -> float:
        return (x**2 - 1) ** 2 + x / 10

    slopes = [(loss(0.5) - loss(x)) / abs(x - 0.5) for x in (-1.0, 1.0)]
    weights = [a / sum(slopes) for a in slopes]
    mixed = weights[1] - weights[0]
    numbers = [*weights, mixed, loss(0.5), loss(mixed)]
    text = PAGES["fedfomo"].split("Without a condition the loss can rise", 1)[1].split("(theorem-", 1)[0]
    assert all(f"{x:.4f}" in text for x in numbers), numbers


def test_the_numbers_in_the_proof_of_fspa_c1() -> None:
    """C at η = ¼ and N → ∞, the price of the drift, and what is left of A."""
    text, eta = PAGES["fedspa"], 0.25
    C = 1 / (1 - eta / 2**0.5) ** 2
    assert C <= 1.4758
    assert "C\\le1.4758" in text
    drift = (2 + eta) * C / 12 + C * (eta**3 + eta**2 / 8)
    assert drift <= 0.3113
    assert "0.3113" in text
    assert 3 / 2 - 1 / 8 - 3 / 16 - 0.3113 > 7 / 8
    assert 8 * C / 7 <= 12 / 7
    assert 12 * C / 7 <= 18 / 7
    assert 24 / 7 * (4 / 3) ** 0.5 < 4


@pytest.mark.parametrize("N", [1, 2, 5, 12, 40])
def test_the_weights_behind_the_last_iterate(N: int) -> None:
    """FFGG-3b-last: the weights add up to 1, and Q is a Laplacian (rows 0, nothing positive off the diagonal)."""
    weight = np.array([k / (2 * N + 1 - k) for k in range(N + 1)])
    nu = np.append(np.diff(weight), 1 - weight[N])
    closed = [(2 * N + 1) / ((2 * N - k) * (2 * N + 1 - k)) for k in range(N)] + [1 / (N + 1)]
    assert nu == pytest.approx(closed, rel=1e-12)
    assert nu.sum() == pytest.approx(1, rel=1e-12)
    Q = np.array([[nu[max(j, k)] * (1 - (2 * N + 1) * nu[min(j, k)]) for k in range(N + 1)] for j in range(N + 1)])
    np.fill_diagonal(Q, [*(2 * weight[1:]), 1.0] - (2 * N + 1) * nu**2)
    assert np.abs(Q.sum(axis=1)).max() <= 1e-12
    assert (Q - np.diag(np.diag(Q))).max() <= 0
