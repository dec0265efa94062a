"""The HTML report: complete, well-formed, self-contained, safe against names, readable in light and dark."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

from fedconv.analysis.pages import mathml
from fedconv.analysis.pages.numerals import limit, number, plain, typeset
from fedconv.analysis.pages.report import OVERVIEW, as_data, groups, render, write
from fedconv.analysis.theorems import THEOREMS
from fedconv.analysis.theorems.split.facts import Inputs
from fedconv.analysis.verdicts.check import Curve, Result
from fedconv.analysis.verdicts.verdict import STATUSES, Verdict
from fedconv.figures.bound_measured import pictures
from fedconv.problem_file.toml import dump_toml
from fedconv.problems.errors import InputError

VALUES = {
    "n": 5.0, "m": 2.0, "tau_u": 3.0, "tau_v": 3.0, "T": 40.0, "eta": 0.1, "L_u": 1.0, "L_v": 2.0, "chi": 0.5,
    "sigma_u": 1.0, "sigma_v": 0.25, "delta": math.inf, "rho": 0.0, "gap0": 1.0,
}  # fmt: skip
SPEC = {
    "name": "waves",
    "problem": {"family": "trigonometric", "n": 5, "d_u": 2, "d_v": 2, "chi": 0.4, "delta": 1.0},
    "noise": {"law": "student_t", "sigma_u": 1.0, "sigma_v": 0.25, "dof": 4.5},
    "algorithm": {"name": ["fedalt"], "m": 2, "tau": 3, "eta": 0.1},
    "run": {"T": 40, "seed": 7},
}
ABOUT = {"title": "Report", "command": "fedconv verify x.toml --max-replicates 128", "versions": {"fedconv": "0.1.0"}}
VOID = {"meta", "link", "br", "input", "hr", "img", "wbr"}


def result(theorem="FA", name="waves", status="holds", spec=SPEC, algorithm="fedalt", notes=(), **verdict) -> Result:
    horizon = np.arange(1, 11)
    curve = Curve(0.5 / horizon, 20.0 / horizon)
    numbers = {"measured": 0.05, "bound": 2.0, "low": 0.04, "high": 0.06, "error": 1e-7, "reason": "because",
               "method": "betting (low), Student t (high)"} | verdict  # fmt: skip
    young = {"alpha": 0.5, "theta": math.inf, "theta_v": 0.0, "omega": 1.5}
    found = Verdict(status=status, replicates=64, grade="exact", parameters=young, eta=0.1, **numbers)
    inputs = Inputs(VALUES, (True, True), "exact", 1.0, tuple(notes))
    return Result(f"{name}/{algorithm}", algorithm, theorem, found, curve, inputs, spec)


MANY = [
    result("FA"), result("FA*", a_posteriori=True),
    result("FA", name="broken", status="violated", measured=3.0, low=2.5),
    result("FA", name="slow", status="inconclusive", high=math.inf, notes=["L_u raised to 3"]),
    result("FA:gap1", name="unmet", status="premises_unmet", measured=math.nan, bound=math.inf, spec=None),
    result("FS", name="still", algorithm="fedsim", low=0.05, high=0.05, method="deterministic"),
]  # fmt: skip


class Page(HTMLParser):
    """Tags in order, attributes, ids and visible text; every element must be closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def ids(self) -> list[str]:
        return [str(a["id"]) for _, a in self.attributes if "id" in a]

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def text() -> str:
    return render(MANY, pictures(MANY), toml=dump_toml, **ABOUT)


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def test_every_result_has_a_row_and_every_experiment_a_section(text, page):
    rows = re.findall(r'<tr data-status="(\w+)">(.*?)</tr>', text, re.DOTALL)
    assert [status for status, _ in rows] == [r.verdict.status for r in _in_order()]
    for (_, row), expected in zip(rows, _in_order(), strict=True):
        assert f">{expected.theorem}</a>" in row
        assert f"<td>{expected.algorithm}</td>" in row
        assert number(expected.verdict.bound) in row
    for group in groups(MANY):
        assert f"{group.problem} · {group.algorithm}</h3>" in text
    assert text.count("<svg") == len(groups(MANY)) + 1
    assert [t for t, _ in page.attributes].count("h3") == len(groups(MANY)) + len(THEOREMS)


def _in_order() -> list[Result]:
    return [r for g in groups(MANY) for r in g.results]


def test_the_summary_counts_and_says_how_sure_it_is(page):
    words = page.words()
    assert "6 checks of bounds on 5 problems" in words
    for count, word in ((3, "● holds"), (1, "✕ violated"), (1, "◆ inconclusive"), (1, "■ premises unmet")):
        assert f"{count} {word}" in words
    assert "probability at most 1×10⁻⁷ (one-sided)" in words
    assert "with at most 5×10⁻⁷" in words
    assert "1 check has no randomness, or an expectation that is computed exactly, and is compared directly" in words
    assert "Largest measured/bound: broken, fedalt, theorem FA, at 1.5 (violated)" in words


def test_a_section_says_what_was_run(page):
    words = page.words()
    assert "trigonometric: n=5, d_u=2, d_v=2" in words
    assert "student t (4.5 degrees of freedom)" in words
    assert "64 (seed 7)" in words
    assert "→ ∞" in words
    assert "→ 0" in words
    assert "L u raised to 3" in words
    again = "fedconv verify waves.toml --algorithm fedalt --theorem FA --theorem 'FA*' --error 2e-07"
    assert f"{again} --max-replicates 128" in words
    assert 'family = "trigonometric"' in words
    for note in ("max_k |κ_k|", "largest variance of"):
        assert note in words, "the constants' notes are shown"


def test_ids_are_unique_and_links_arrive(page):
    ids = page.ids()
    assert len(ids) == len(set(ids))
    targets = {str(a["href"]) for t, a in page.attributes if t == "a"}
    assert targets - {"results.json"} <= {f"#{x}" for x in ids}
    assert {"#theorem-FA", "#theorem-FA-star", "#theorem-FS"} <= targets


def test_nothing_is_fetched_from_outside(text, page):
    for tag, attributes in page.attributes:
        assert "src" not in attributes
        assert "srcset" not in attributes
        href = attributes.get("href")
        assert href is None or href.startswith("#") or href in ("data:,", "results.json"), (tag, href)
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert not re.search(r"https?://", text.replace('xmlns="http://www.w3.org/2000/svg"', ""))


def test_mathematics_and_pictures_are_well_formed(text):
    for tag in ("math", "svg"):
        found = re.findall(rf"<{tag}\b.*?</{tag}>", text, re.DOTALL)
        assert len(found) == text.count(f"<{tag}")
        for element in found:
            ET.fromstring(element)


@pytest.mark.parametrize("key", list(THEOREMS))
def test_theorems_are_printed_from_their_definitions(key, text):
    chosen = THEOREMS[key]
    assert mathml.statement(chosen) in text
    for premise in chosen.conditions:
        assert mathml.condition(chosen, premise) in text
    for defined, expression in list(chosen.definitions.items())[:-1]:
        assert mathml.definition(chosen, defined, expression) in text
    for mutant in chosen.mutants:
        assert f"{key}:{mutant.key}</code>" in text


def test_mathml_names():
    fa, fs = THEOREMS["FA"], THEOREMS["FS"]
    s1 = mathml.definition(fa, *next((s, e) for s, e in fa.definitions.items() if str(s) == "S_1"))
    assert "inv" not in s1
    assert "<mfrac><mn>1</mn><msub><mi>θ</mi><mi>v</mi></msub></mfrac>" in _readable(s1)
    assert "<msubsup><mi>σ</mi><mi>v</mi><mn>2</mn></msubsup>" in _readable(s1)
    assert "<mi>τ</mi><mi>u</mi>" not in _readable(mathml.name("tau_u", fs)), "FedSim has one τ"
    assert _readable(mathml.statement(fa)).index("<mi>X</mi>") < _readable(mathml.statement(fa)).index("<mi>Y</mi>")
    assert "<msub><mi>ΔF</mi><mn>0</mn></msub>" in _readable(mathml.statement(fa))
    assert mathml.vanishes(fa, 1) is None


def _readable(text: str) -> str:
    return re.sub(r"&#(\d+);", lambda found: chr(int(found[1])), text)


HOSTILE = ["<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "</svg></style>&amp;", "{{ 7*7 }}{% raw %}",
           "nul\0\x07\u202e", "日本語", "$x^"]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text(name, tmp_path):
    spec = SPEC | {"name": name}
    found = [result(name=name, spec=spec, reason=name, notes=[name]), result("FA*", name=name, spec=spec)]
    about = {"title": name, "command": name, "versions": {name: name}}
    path = write(found, pictures(found), tmp_path, toml=dump_toml, **about)
    page = Page(path.read_text(encoding="utf-8"))
    tags = [t for t, _ in page.attributes]
    assert tags.count("script") == 1
    assert "img" not in tags
    assert not any(a.startswith("on") for _, attributes in page.attributes for a in attributes)
    if name.isprintable():
        assert " ".join(name.split()) in page.words()


def test_results_json_holds_every_number(tmp_path):
    write(MANY, {}, tmp_path / "new" / "folder", **ABOUT)
    data = json.loads((tmp_path / "new" / "folder" / "results.json").read_text(), parse_constant=pytest.fail)
    assert data == json.loads(json.dumps(as_data(MANY, **ABOUT)))
    assert data["counts"] == {
        "holds": 3, "holds_approximate": 0, "violated": 1, "violated_approximate": 0, "inconclusive": 1,
        "premises_unmet": 1,
    }  # fmt: skip
    for found, given in zip(data["results"], MANY, strict=True):
        assert found["theorem"] == given.theorem
        assert found["spec"] == given.spec
        for key in ("measured", "bound", "low", "high"):
            np.testing.assert_equal(float(found[key]), getattr(given.verdict, key))
        assert float(found["inputs"]["delta"]) == math.inf
        assert float(found["parameters"]["theta"]) == math.inf
    assert data["results"][3]["high"] == "inf"
    assert data["results"][4]["measured"] == "nan"


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    write(MANY[:1], {}, tmp_path, **ABOUT)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert set(before) == {"index.html", "results.json"}

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write(MANY, {}, tmp_path, **ABOUT)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "report").write_text("mine")
    for place in (tmp_path / "report", tmp_path / "report" / "below"):
        with pytest.raises(InputError, match=f"written to a folder; {place} is, or lies below, a file"):
            write(MANY, {}, place, **ABOUT)
    assert (tmp_path / "report").read_text() == "mine"


def test_without_pictures_specs_or_results():
    bare = Page(render([result(spec=None)], {}, **ABOUT))
    assert "svg" not in [t for t, _ in bare.attributes]
    assert "Reproduce it" not in bare.words()
    assert "0 checks of bounds on 0 problems" in Page(render([], {}, **ABOUT)).words()


def test_a_problem_file_that_builds_nothing_still_gives_a_report():
    broken = SPEC | {"problem": {"family": "unheard of"}}
    words = Page(render([result(spec=broken)], {}, toml=dump_toml, **ABOUT)).words()
    assert 'family = "unheard of"' in words


def test_groups_have_unique_keys():
    twice = [result("FA"), result("FA*"), result("FA"), result("FA*"), result("FA", algorithm="fedavg")]
    found = groups(twice)
    assert [g.key for g in found] == ["waves/fedalt|fedalt", "waves/fedalt|fedalt|2", "waves/fedavg|fedavg"]
    assert [len(g.results) for g in found] == [2, 2, 1]
    assert set(pictures(twice)) == {g.key for g in found} | {OVERVIEW}


def test_tables_have_headers_with_a_scope(page):
    heads = [a for t, a in page.attributes if t == "th"]
    assert heads
    assert all(a.get("scope") in ("col", "row") for a in heads)
    assert [a["lang"] for t, a in page.attributes if t == "html"] == ["en"]
    assert all(a.get("aria-label") for t, a in page.attributes if t == "svg")


def _luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a: str, b: str) -> float:
    dark, light = sorted((_luminance(a), _luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def test_text_can_be_read_in_light_and_dark(text):
    themes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{([^}]*)\}", text)
    ]
    light, dark = themes[:2]
    assert set(light) == set(dark)
    for theme in (light, dark):
        for ink in ("ink", "quiet", "link"):
            for ground in ("page", "soft"):
                assert _contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground)
        for status in (*STATUSES, "conjecture", "unseen"):
            assert _contrast(theme[status], theme[f"{status}-soft"]) >= 4.5, status


@pytest.mark.parametrize(
    ("x", "shown"),
    [
        (0.053312345, "0.05331"), (1.2e-7, "1.2×10⁻⁷"), (-3.0, "−3"), (math.inf, "∞"), (-math.inf, "−∞"),
        (math.nan, "–"), (1e22, "1×10²²"), (0.0, "0"),
    ],
)  # fmt: skip
def test_numbers(x, shown):
    assert number(x) == shown


def test_words_and_plain_data():
    assert (limit(0.0), limit(math.inf), limit(0.25)) == ("→ 0", "→ ∞", "0.25")
    assert typeset("‖∇_uF_i(u^t, V^{t+1})‖² <b>") == (
        "‖∇<sub>u</sub>F<sub>i</sub>(u<sup>t</sup>, V<sup>t+1</sup>)‖² &lt;b&gt;"
    )
    assert plain({"a": np.array([1.0, math.inf]), "b": (np.float64("nan"), True)}) == {
        "a": [1.0, "inf"],
        "b": ["nan", True],
    }
