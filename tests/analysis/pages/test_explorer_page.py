"""The explorer's page in headless Chromium: its numbers are Python's, a slider moves a frontier, nothing is fetched."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import pytest

from fedconv.analysis.pages.explorer import render, write
from fedconv.analysis.pages.explorer_cells import Cell, Measured
from fedconv.analysis.theorems import THEOREMS
from fedconv.analysis.theorems.split.effective_variance import COMPARISONS
from fedconv.analysis.theorems.split.facts import Inputs
from fedconv.analysis.tuning.one_run import best_step

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BOTH = (True, True)
LAUNCH = """
import os, sys
ends = [os.dup(int(x)) for x in sys.argv[1:3]]
while min(ends) < 5:
    ends = [os.dup(x) for x in ends]
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Starts a program with the two ends of pipes as its descriptors 3 and 4, where Chromium expects them."""


class Chrome:
    """Headless Chromium, led through its DevTools protocol over pipes: JSON messages that end in NUL."""

    def __init__(self, program: str, profile: str) -> None:
        theirs_in, self.out = os.pipe()
        self.into, theirs_out = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out), program, *options,
             f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self.rest, self.sent, self.session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        os.close(self.out)
        os.close(self.into)

    def read(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            assert select.select([self.into], [], [], 60)[0], "Chromium does not answer"
            got = os.read(self.into, 1 << 20)
            assert got, "Chromium has ended"
            self.rest += got
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command's result; events that come before it are kept."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        left = json.dumps(message).encode() + b"\0"
        while left:
            left = left[os.write(self.out, left) :]
        while True:
            answer = self.read()
            if answer.get("id") == self.sent:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def evaluate(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        end = time.monotonic() + 120
        while self.evaluate(expression) is not True:
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.05)

    def open(self, url: str, until: str) -> None:
        """A page afresh: an address that differs only after # would not load it again."""
        for address in ("about:blank", url):
            self.call("Page.navigate", url=address)
            self.wait(f"location.href.startsWith({json.dumps(address.partition('#')[0])})")
        self.wait(f"document.readyState === 'complete' && {until}")

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def press(self, key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


def cells() -> Measured:
    """Made-up cells over σ_v and m at constants of their own."""
    inputs = {
        "n": 20.0, "tau_u": 5.0, "tau_v": 5.0, "T": 500.0, "L_u": 1.0, "L_v": 1.0, "chi": 0.5, "sigma_u": 1.0,
        "delta": 1.0, "rho": 0.0, "gap0": 1.0,
    }  # fmt: skip
    steps = {"fedalt": 0.1, "fedsim": 0.1}
    outcomes = ((0.1, "fedalt", 0.2), (1.0, "no difference", 0.001), (10.0, "fedsim", -0.2))
    found = [
        Cell(f"sigma_v = {sigma_v}, m = {m}", inputs | {"sigma_v": sigma_v, "m": m}, verdict, effect, steps)
        for sigma_v, verdict, effect in outcomes
        for m in (1.0, 16.0)
    ]
    return Measured("waves", tuple(found), 16)


@pytest.fixture(scope="module")
def text() -> str:
    pytest.importorskip("plotly")
    return render(cells(), command="fedconv explore --out page.html", versions={"fedconv": "0"})


STATE = "L_u=2&L_v=0.5&chi=0.6&sigma_u=0.7&sigma_v=1.5&delta=1.4&rho=0.1&n=24&m=4&tau=4&T=3000&gap0=2.5"
VALUES = {
    "L_u": 2.0, "L_v": 0.5, "chi": 0.6, "sigma_u": 0.7, "sigma_v": 1.5, "delta": 1.4, "rho": 0.1, "n": 24.0, "m": 4.0,
    "tau_u": 4.0, "tau_v": 4.0, "T": 3000.0, "gap0": 2.5,
}  # fmt: skip
NUMBERS = "JSON.parse(document.getElementById('numbers').textContent || '{}')"


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("plotly")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        contextlib.closing(Chrome(CHROMIUM, profile)) as found,
    ):
        yield found


@pytest.fixture
def page(browser, text, tmp_path):
    """The page in an empty browser window of 1200 × 900."""
    path = tmp_path / "page.html"
    write(path, text)
    browser.resize(1200, 900)
    browser.events.clear()
    return lambda state: browser.open(f"file://{path}#{state}", until=f"{NUMBERS}.complete === true")


def best(key: str, inputs: dict[str, float]) -> float:
    return best_step(THEOREMS[key], Inputs(inputs | {"eta": 0.1}, BOTH, "exact", 1.0)).guarantee


def test_the_pages_numbers_are_pythons(browser, page):
    page(STATE)
    numbers = browser.evaluate(NUMBERS)
    assert numbers["inputs"] == VALUES
    for key, theorem in THEOREMS.items():
        found = numbers["theorems"][key]
        parameters = {k: float(x) for k, x in found["parameters"].items()}
        values = theorem.evaluate(VALUES | {"eta": found["eta"]}, parameters)
        assert theorem.unmet(values) == []
        assert found["guarantee"] == pytest.approx(float(theorem.guarantee(values)), rel=1e-11)
        assert found["guarantee"] == pytest.approx(best(key, VALUES), rel=1e-4)
        curve = numbers["curves"][key]
        assert min(map(float, curve["over_eta"])) == pytest.approx(found["guarantee"], rel=0.05)
        assert np.all(np.diff([float(x) for x in curve["over_T"]]) < 0), "more rounds, a smaller bound"
        assert str(round(found["guarantee"], 4))[:5] in browser.evaluate("document.getElementById('bounds').innerText")
    for key, comparison in COMPARISONS.items():
        expected = comparison.evaluate(VALUES)
        found = numbers["comparisons"][key]
        assert [found[k] for k in ("fedalt", "fedsim", "condition")] == pytest.approx(expected, rel=1e-12)
        for point in (p for segment in numbers["frontiers"][key] for p in segment):
            at = VALUES | dict(zip(("sigma_v", "m"), point, strict=True))
            alt, sim, condition = comparison.evaluate(at)
            assert abs(condition) <= 1e-9 * (alt + sim), "a frontier is where the condition is 0"
    assert numbers["frontiers"]["paper"] != []
    assert numbers["sides"]["tuned*"] == "fedalt"
    for pair, (a, b) in {"plain": ("FA", "FS"), "star": ("FA*", "FS*")}.items():
        points = [p for segment in numbers["frontiers"][pair] for p in segment]
        for sigma_v, m in points[:: max(1, len(points) // 2)]:
            at = VALUES | {"sigma_v": sigma_v, "m": m}
            assert best(a, at) == pytest.approx(best(b, at), rel=1e-3)
    assert numbers["frontiers"]["plain"] != []


def test_a_slider_moves_by_the_keyboard_and_a_frontier_with_it(browser, page):
    page(STATE)
    before = browser.evaluate(NUMBERS)
    browser.evaluate("document.getElementById('s-sigma_u').focus()")
    for _ in range(12):
        browser.press("ArrowRight", 39)
    browser.wait(f"{NUMBERS}.complete === true && location.hash.includes(`&sigma_u=${{{NUMBERS}.inputs.sigma_u}}&`)")
    after = browser.evaluate(NUMBERS)
    moved = after["inputs"]["sigma_u"]
    assert moved > 0.7
    assert after["inputs"] == before["inputs"] | {"sigma_u": moved}
    for key in ("paper", "tuned", "plain"):
        assert after["frontiers"][key] != before["frontiers"][key], key
    assert after["theorems"]["FA"]["guarantee"] > before["theorems"]["FA"]["guarantee"], "more noise, a larger bound"
    assert f"sigma_u={moved:g}" in browser.evaluate("location.hash")
    assert str(moved)[:4] in browser.evaluate("document.getElementById('s-sigma_u').getAttribute('aria-valuetext')")
    browser.press("Tab", 9)
    assert browser.evaluate("document.activeElement.id") == "v-sigma_v", "the next control by Tab"
    page(browser.evaluate("location.hash").removeprefix("#"))
    assert browser.evaluate(NUMBERS)["theorems"] == after["theorems"], "the address holds the state"


def test_axes_and_limits_can_be_chosen_by_the_address(browser, page):
    page("x=delta&y=chi&pair=star&m=50&n=4&tau=1&sigma_u=0&L_u=oops&unknown=1&rho=-3")
    numbers = browser.evaluate(NUMBERS)
    assert (numbers["inputs"]["m"], numbers["inputs"]["n"]) == (4.0, 4.0), "m is cut to n"
    assert (numbers["inputs"]["L_u"], numbers["inputs"]["rho"], numbers["inputs"]["sigma_u"]) == (1.0, 0.0, 0.0)
    assert numbers["theorems"]["FA"]["parameters"]["alpha"] == 0.0, "m = n: the limit of alpha"
    assert (numbers["state"]["x"], numbers["state"]["y"], numbers["state"]["pair"]) == ("delta", "chi", "star")
    found = numbers["theorems"]["FS*"]
    assert found["guarantee"] == pytest.approx(best("FS*", numbers["inputs"]), rel=1e-4)
    page("n=1&m=1")
    assert browser.evaluate(NUMBERS)["frontiers"] == {}, "m has one value only: there is no map"


def test_nothing_is_fetched_and_nothing_fails(browser, page):
    page(STATE + "&x=chi&y=T")
    bad = [e for e in browser.events if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
    said = [e for e in browser.events if e["method"] == "Runtime.consoleAPICalled"]
    assert bad + said == []
    wanted = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert [u for u in wanted if not u.startswith(("data:", "blob:", "file:"))] == []
    assert sum(u.startswith("file:") for u in wanted) == 1


@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_fits_its_window(browser, page, width):
    browser.resize(width, 740)
    page(STATE)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    covered = browser.evaluate("""[...document.querySelectorAll(".dial")].filter(dial => {
      const boxes = [...dial.querySelectorAll("label, input")].map(e => e.getBoundingClientRect());
      return boxes.some((a, i) => boxes.some((b, j) => i < j && a.left < b.right - 1 && b.left < a.right - 1 &&
        a.top < b.bottom - 1 && b.top < a.bottom - 1));
    }).length""")
    assert covered == 0, "labels and sliders do not overlap"
    sizes = browser.evaluate("""["map", "over-eta", "over-T"].map(id => {
      const all = document.querySelector(`#${id} .main-svg`).getBoundingClientRect();
      return [all.width, document.getElementById(id).querySelectorAll(".scatterlayer .trace").length];
    })""")
    assert all(250 < wide <= width for wide, _ in sizes)
    assert sizes[0][1] >= 6, "frontiers, measured cells and the mark of the state"
    legend = browser.evaluate("document.querySelector('#map .legend').textContent")
    for name in ("paper", "tuned", "FA = FS at T", "FedAlt lower", "no difference", "here"):
        assert name in legend
    note = browser.evaluate("document.getElementById('cells-note').innerText")
    assert "The runs differ from the sliders" in note
    assert "16 replicates" in note
