"""Figures: labels with units, a legend for each theorem, the same bytes every time, ids that never clash."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from fedconv.analysis.pages.report import OVERVIEW, groups
from fedconv.analysis.theorems.split.facts import Inputs
from fedconv.analysis.verdicts.check import Curve, Result
from fedconv.analysis.verdicts.verdict import CATEGORIES, STATUSES, Verdict
from fedconv.figures import bound_measured, style
from fedconv.figures import verdict_overview as verdicts
from fedconv.problems.errors import InputError

VALUES = {
    "n": 5.0, "m": 2.0, "tau_u": 3.0, "tau_v": 3.0, "T": 40.0, "eta": 0.1, "L_u": 1.0, "L_v": 2.0, "chi": 0.5,
    "sigma_u": 1.0, "sigma_v": 1.0, "delta": 0.5, "rho": 0.0, "gap0": 1.0,
}  # fmt: skip
YOUNG = {"alpha": 0.5, "theta": 2.0, "theta_v": 0.7, "omega": 1.5}


def result(theorem="FA", name="waves", status="holds", T=40, algorithm="fedalt", **verdict) -> Result:
    horizon = np.arange(1, T + 1)
    curve = Curve(verdict.pop("measured_curve", 0.5 / horizon**0.3), 20.0 / horizon + 0.4)
    numbers = {"measured": float(curve.measured[-1]), "bound": float(curve.bound[-1])}
    numbers |= {"low": 0.9 * numbers["measured"], "high": 1.1 * numbers["measured"]} | verdict
    found = Verdict(status=status, error=1e-7, method="betting (low), Student t (high)", replicates=64, grade="exact",
                    reason="because", parameters=YOUNG, eta=0.1, **numbers)  # fmt: skip
    return Result(f"{name}/{algorithm}", algorithm, theorem, found, curve, Inputs(VALUES, (True, True), "exact", 1.0))


def texts(axes) -> list[str]:
    return [t.get_text() for t in axes.get_legend().get_texts()]


def test_a_panel_for_each_theorem_says_what_it_shows():
    figure = bound_measured.draw([result("FA"), result("FA*", status="inconclusive")])
    left, right = figure.axes
    assert figure.get_figwidth() == style.COLUMN == 3.3
    assert left.get_ylabel().endswith("[units of F]")
    for axes, key, word in ((left, "FA", "holds"), (right, "FA*", "inconclusive")):
        assert axes.get_xlabel() == "horizon T′ [rounds]"
        assert axes.get_title() == f"{key}: {word}"
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        measured, bound, at_end = texts(axes)
        assert measured.startswith("measured, $w_u$ ")
        assert bound == f"{key} bound"
        assert at_end == "limits at T = 40"
    assert texts(left)[0] != texts(right)[0], "the theorems weigh the gradients differently"
    assert left.get_ylim() == right.get_ylim()


def test_the_curves_are_the_results():
    drawn = result("FS", algorithm="fedsim")
    (axes,) = bound_measured.draw([drawn]).axes
    by_label = {line.get_label(): line for line in axes.get_lines()}
    measured = next(line for label, line in by_label.items() if str(label).startswith("measured"))
    np.testing.assert_array_equal(measured.get_xdata(), np.arange(1, 41))
    np.testing.assert_array_equal(measured.get_ydata(), drawn.curve.measured)
    np.testing.assert_array_equal(by_label["FS bound"].get_ydata(), drawn.curve.bound)
    low, high = axes.get_ylim()
    assert low < min(drawn.curve.measured.min(), drawn.verdict.low)
    assert high > drawn.curve.bound.max()
    (bar,) = axes.collections
    np.testing.assert_allclose(bar.get_segments()[0][:, 1], [drawn.verdict.low, drawn.verdict.high])


def test_lines_and_verdicts_differ_by_more_than_colour():
    (axes,) = bound_measured.draw([result()]).axes
    measured, bound = axes.get_lines()[:2]
    assert measured.get_linestyle() != bound.get_linestyle()
    assert to_hex(str(measured.get_color())) != to_hex(str(bound.get_color()))
    assert set(style.MARKS) == set(CATEGORIES)
    assert len({m.marker for m in style.MARKS.values()}) == len(CATEGORIES)
    assert len({style.MARKS[status].colour for status in STATUSES}) == len(STATUSES)


@pytest.mark.parametrize(
    "hard",
    [
        {"measured": math.inf, "high": math.inf, "low": math.inf, "measured_curve": np.full(40, np.inf)},
        {"measured_curve": np.r_[np.ones(20), np.full(20, np.nan)], "measured": math.nan},
        {"measured_curve": -np.ones(40), "status": "premises_unmet"},
        {"low": -0.3},
        {"low": -math.inf},
        {"T": 1},
        {"measured_curve": np.zeros(40), "low": 0.0, "high": 0.0},
    ],
    ids=["diverged", "nan later", "negative", "low below zero", "no low", "one round", "zero"],
)
def test_what_a_logarithmic_axis_cannot_show_does_not_break_the_figure(hard):
    found = [result("FA", **hard), result("FA*", **hard)]
    made = bound_measured.pictures(found)
    assert set(made) == {"waves/fedalt|fedalt", OVERVIEW}
    shown = [t.get_text() for t in bound_measured.draw(found).axes[0].texts]
    finite = np.asarray(hard.get("measured_curve", 1.0))
    assert bool(shown) == (not (np.isfinite(finite) & (finite > 0)).any())


def test_svg_is_the_same_every_time_and_fetches_nothing():
    first, again = (bound_measured.pictures([result("FA"), result("FA*")]) for _ in range(2))
    assert first == again
    for text in first.values():
        root = ET.fromstring(text)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert not re.findall(r"<(?:style|metadata|script|image)\b", text)
        assert "<text" not in text, "text is drawn as paths"
        links = re.findall(r'href="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
        assert links
        ids = {node.get("id") for node in root.iter() if node.get("id")}
        assert {link.removeprefix("#") for link in links} <= ids


def test_ids_are_unique_across_pictures():
    made = bound_measured.pictures([result(name=n, theorem=t) for n in ("a", "b") for t in ("FA", "FA*")])
    assert len(made) == 3
    ids = [x for text in made.values() for x in re.findall(r'\bid="([^"]*)"', text)]
    assert len(ids) == len(set(ids)) > 100


def test_drawing_leaves_no_state_behind(tmp_path):
    before = dict(matplotlib.rcParams)
    bound_measured.pictures([result()])
    bound_measured.write([result("FA"), result("FA*")], tmp_path / "x.pdf")
    assert dict(matplotlib.rcParams) == before
    pyplot = __import__("sys").modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_outside_settings_do_not_change_a_picture():
    plain = bound_measured.pictures([result()])
    with matplotlib.rc_context({"lines.linewidth": 9.0, "font.size": 20.0, "svg.hashsalt": None}):
        assert bound_measured.pictures([result()]) == plain


@pytest.mark.parametrize(("suffix", "magic"), [("pdf", b"%PDF"), ("svg", b"<svg"), ("png", b"\x89PNG")])
def test_figures_are_saved_whole_and_the_same(tmp_path, suffix, magic):
    paths = [tmp_path / "deep" / f"{k}.{suffix}" for k in (1, 2)]
    for path in paths:
        bound_measured.write([result("FA"), result("FA*")], path)
    assert paths[0].read_bytes().startswith(magic)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == [p.name for p in paths]


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"must end in \.pdf, \.svg, \.png; got 'x\.tiff'"):
        bound_measured.write([result()], tmp_path / "x.tiff")


def test_overview_places_every_comparable_check():
    found = groups([
        result("FA"), result("FA*"), result("FA", name="far", status="violated", measured=4.0, bound=1.0),
        result("FA", name="unmet", status="premises_unmet"), result("FA*", name="unmet", status="premises_unmet"),
        result("FA", name="tiny", measured=1e-9, bound=1.0),
    ])  # fmt: skip
    (axes,) = verdicts.draw(found).axes
    points = {
        (float(x), float(y))
        for line in axes.get_lines()
        for x, y in [line.get_xydata()[0]]
        if line.get_marker() != "None"
    }
    bound = 20.0 / 40 + 0.4
    assert {(p[0], p[1]) for p in points} == {(0.5 / 40**0.3 / bound, 0.0), (4.0, 1.0), (verdicts.LEAST, 3.0)}
    assert [t.get_text() for t in axes.texts] == ["FA, FA*: premises unmet"]
    assert "[1]" in axes.get_xlabel()
    assert [t.get_text() for t in axes.get_yticklabels()][1] == "far · fedalt"


@pytest.mark.parametrize("name", ["$x^", "日本 \U0001f600", "a\nb", "x" * 300, "<script>&\"'", "nul\0bell\a"])
def test_any_name_can_be_drawn(name):
    for text in bound_measured.pictures([result(name=name)]).values():
        ET.fromstring(text)


def test_nothing_to_draw():
    assert bound_measured.pictures([]) == {}
