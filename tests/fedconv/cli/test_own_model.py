"""``fedconv advise --model``: a user's own file through the command line, and one sentence for what can go wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from fedconv.cli import main
from fedconv.commands import advise_model
from fedconv.figures import estimated_constants as constants
from fedconv.figures.style import svg

ROOT = Path(__file__).resolve().parents[3]
MODEL = """
import math
import torch
from fedconv.problems.modules.data import synthetic
from fedconv.problems.modules.problem import ModuleProblem
from fedconv.problems.modules.mlp_family import MLP

CLIENTS = synthetic(n=3, inputs=4, rows=8, seed=1)
VALUE = 3

def base(**changes):
    return {"module": MLP((4, 3, 3), seed=2), "clients": CLIENTS, "personal": ["layers.1"]} | changes

def make():
    print("made")
    return ModuleProblem(**base())

def nothing(): return None
def pair(): return (MLP((4, 3)), CLIENTS)
def key(): return base(persnal="x")
def lacking(): return {"module": MLP((4, 3))}
def number(): return base(module=3)
def raises():
    empty = {}
    return empty["q"]
def exits(): raise SystemExit(3)
def pattern(): return base(personal=["head"])
def shared(): return base(personal=())
def alone(): return base(personal=["layers"])
def undefined(): return base(loss=lambda o, y: o.sum(-1) * math.nan, lower_bound=0.0)
def unbounded(): return base(loss=lambda o, y: (o[:, 0] - 1.0) ** 2, lower_bound=-math.inf)
def flat(): return base(loss=lambda o, y: o[:, 0], lower_bound=0.0)
def needs(x): return base()

class Odd(torch.nn.Module):
    def __init__(self, most=10**9):
        super().__init__()
        self.net, self.most, self.count = MLP((4, 3, 3), seed=2), most, 0
    def forward(self, x):
        self.count += 1
        if self.count > self.most:
            raise ValueError("too often")
        return self.net(x) if bool((x[0, 0] < 10).item()) else 2 * self.net(x)

def loop(): return base(module=Odd(), personal=["net.layers.1"])
def later(): return base(module=Odd(60), personal=["net.layers.1"])
def one(): return base(clients=CLIENTS[:1])
"""
QUICK = ("--rounds-pilot", "2", "--T", "50", "--m", "1", "--tau", "1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_one.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_one", raising=False)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> tuple[str, str]:
    found = main(["advise", *arguments])
    out, err = capsys.readouterr()
    assert found == status, err
    return out, err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    out, err = said(capsys, *arguments, status=2)
    assert out == ""
    lines = [line for line in err.splitlines() if line != "made"]
    assert len(lines) == 1, err
    return lines[0]


def test_a_users_file_gets_advice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = said(capsys, "--model", "own_one:make", "--batch", "3", *QUICK, "--plot", "p.svg")
    assert err.splitlines() == ["made", "p.svg written"]
    assert "n = 3 clients, d_u = 15 shared and d_v = 12 personal parameters (44.4% of a client's 27)" in out
    assert "side by side (torch.func.vmap)" in out
    for name in ("L_u", "L_v", "L_uv", "delta", "sigma_u", "sigma_v", "chi"):
        line = next(x for x in out.splitlines() if x.strip().startswith(f"{name} "))
        assert line.rstrip().endswith("estimated")
    assert "consistent with (1/T)" in out
    assert "constant-free condition [paper]" in out
    for word in ("guarantee", "holds", "proves"):
        assert word not in out
    assert (folder / "p.svg").read_text().startswith("<svg")
    assert str(folder) not in sys.path


def test_the_same_by_path_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = said(capsys, "--model", str(folder / "own_one.py") + ":base", "--batch", "3", *QUICK, "--json")
    assert err == ""
    data = json.loads(out)
    again = json.loads(said(capsys, "--model", "own_one:make", "--batch", "3", *QUICK, "--json")[0])
    assert again["pilot"] == data["pilot"]
    assert data["grade"] == data["pilot"]["grade"] == "estimated"
    assert "guarantee" not in json.dumps(data["advice"])
    assert {c["theorem"] for c in data["advice"]["choices"]} == {"FA", "FA*", "FS", "FS*"}
    assert data["given"]["sigma_u"] == data["pilot"]["constants"]["sigma_u"]["used"] > 0
    other = json.loads(said(capsys, "--model", "own_one:make", "--batch", "3", *QUICK, "--json", "--seed", "1")[0])
    assert other["pilot"]["constants"] != data["pilot"]["constants"]
    options = ("--clients", "3", "--F-star", "-1", "--communication", "3000")
    given = json.loads(said(capsys, "--model", "own_one:make", *QUICK[:2], "--tau", "1", *options, "--json")[0])
    assert given["pilot"]["run"]["m"] == 3
    assert given["given"]["gap0"] == pytest.approx(data["given"]["gap0"] + 1)
    assert given["advice"]["best"]["sent"] <= 3000
    assert given["pilot"]["constants"]["delta"]["high"] is None  # whole gradients, everybody: nothing is random


def test_the_advice_is_that_of_its_constants(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(said(capsys, "--model", "own_one:make", "--batch", "3", *QUICK, "--json")[0])
    words = [w for k, x in data["given"].items() for w in (f"--{k.replace('_', '-')}", repr(x))]
    plain = json.loads(said(capsys, *words, "--json")[0])["advice"]
    assert plain["best"]["guarantee"] == data["advice"]["best"]["bound"]
    assert plain["says"] == data["advice"]["says"]


def test_a_module_that_vmap_refuses_is_looped_and_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said(capsys, "--model", "own_one:loop", *QUICK)
    assert "one after another in a loop: vmap cannot take this module" in out
    assert "Lanczos' method on differences" in out
    assert out.startswith("own_one:loop: ")
    assert said(capsys, "--model", "own_one:one", *QUICK)[0].startswith("own_one:one: n = 1 clients")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("own_one:nothing", "must return a fedconv.problems.modules.problem.ModuleProblem or a dict"),
        ("own_one:pair", "got tuple"),
        ("own_one:key", "got 'persnal'"),
        ("own_one:lacking", "it lacks clients"),
        ("own_one:number", "module must be a torch.nn.Module; got int"),
        ("own_one:raises", "own_one:raises raises KeyError in raises() (line {line}): 'q'"),
        ("own_one:needs", "raises TypeError in needs(): needs() missing 1 required"),
        ("own_one:exits", "must not end the program; it exits with 3"),
        ("own_one:pattern", "personal must fit a parameter's name"),
        ("own_one:shared", "it has no personal one: FedAlt and FedSim are both FedAvg"),
        ("own_one:alone", "it has no shared one: every client trains alone"),
        ("own_one:undefined", "finite at the module's own parameters; client 0 has nan"),
        ("own_one:unbounded", "F_star must be a finite number below F"),
        ("own_one:flat", "advice needs L_v > 0; it is estimated as 0"),
        ("own_one:later", "raises ValueError in the pilot run (line {line}): too often"),
        ("own_one:VALUE", "must be a function; got int"),
        ("own_one:mkae", "has no 'mkae'; did you mean 'make'?"),
        ("absent:make", "there is no module 'absent'"),
        ("own_one.absent:make", "there is no module 'own_one.absent'"),
        ("absent.py:make", "absent.py: no such file"),
        ("own_one", "--model must be module:factory"),
        ("own one:make", "got a module named 'own one'"),
        (":make", "--model must be module:factory"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_goes_wrong_is_one_sentence(target: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = {"own_one:raises": 'return empty["q"]', "own_one:later": 'raise ValueError("too often")'}.get(target, "")
    line = next(i for i, x in enumerate(MODEL.split("\n"), start=1) if text in x)
    assert message.replace("{line}", str(line)) in refused(capsys, "--model", target, *QUICK)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def make(:", "SyntaxError while it is imported (line 1)"),
        ("\nimport not_there", "ModuleNotFoundError while it is imported (line 2): No module named 'not_there'"),
        ("raise ValueError('on\\nimport')", "ValueError while it is imported (line 1): on import"),
        ("raise SystemExit", "must not end the program"),
    ],
)
def test_files_that_cannot_be_imported(
    text: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "own_broken.py").write_text(text)
    assert message in refused(capsys, "--model", "own_broken.py:make")
    assert message in refused(capsys, "--model", "own_broken:make")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--L-u", "1"), "--model estimates the constants itself; got --L-u"),
        (("--d-u", "1"), "got --d-u"),
        (("constants.toml",), "a file of constants has no place"),
        (("--plot", "p.gif"), "--plot must end in .pdf, .svg, .png; got 'p.gif'"),
        (("--batch", "0"), "greater than or equal to 1"),
        (("--clients", "4"), "m must be at most n = 3; got 4"),
        (("--m", "4"), "m must be at most n = 3; got 4"),
        (("--F-star", "1000"), "F_star must be a number below F; got 1000"),
        (("--F-star", "nan"), "F_star must be a finite number"),
        (("--T", "5", "--communication", "100"), "one budget"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_options_that_do_not_fit(options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(capsys, "--model", "own_one:make", "--rounds-pilot", "2", *options)


@pytest.mark.parametrize(
    "option", [("--batch", "2"), ("--rounds-pilot", "2"), ("--clients", "2"), ("--F-star", "0"), ("--seed", "1"),
               ("--plot", "p.png")],
)  # fmt: skip
def test_options_of_the_model_need_one(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{option[0]} needs --model" in refused(capsys, *option)


def test_interrupted_is_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(advise_model, "pilot", stop)
    _, err = said(capsys, "--model", "own_one:make", status=130)
    assert err.splitlines()[-1] == "interrupted: a pilot run keeps nothing"


def test_the_help_says_what_it_does_and_loads_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code = """
import sys
from fedconv.cli import main
assert main(["advise", "--help"]) == 0
heavy = ("torch", "numpy", "sympy", "matplotlib", "fedconv.problems.modules.problem")
print("loaded:", [name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    words = " ".join(done.stdout.split())
    assert "executes the code of that file" in words
    for option in ("--model", "--batch", "--rounds-pilot", "--clients", "--F-star", "--seed", "--plot"):
        assert option in words
    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.fixture(scope="module")
def drawn() -> xr.Dataset:
    return constants.data(T=4, replicates=2)


def test_the_figure_holds_what_was_estimated(drawn: xr.Dataset, tmp_path: Path) -> None:
    assert drawn["value"].dims == ("constant", "replicate", "round")
    assert list(drawn["constant"].values) == list(constants.CONSTANTS)
    assert int(drawn["round"][0]) == 0
    mean = drawn["value"].mean("replicate")
    assert ((drawn["low"] <= mean * (1 + 1e-12)) & (mean <= drawn["high"] * (1 + 1e-12))).all()
    assert float((drawn["value"].isel(round=0).std("replicate")).max()) < 1e-15  # one start
    chosen = drawn["bound"].sel(theorem=drawn.attrs["chosen"])
    at = float(chosen.sel(eta=drawn.attrs["chosen_eta"]))
    assert at == pytest.approx(drawn.attrs["chosen_bound"], rel=1e-5)
    assert float(chosen.min()) >= at * (1 - 1e-5)  # the advised step is where the bound is least
    assert svg(constants.draw(drawn), "k", constants.words(drawn)) == svg(
        constants.draw(drawn), "k", constants.words(drawn)
    )
    drawn.to_netcdf(tmp_path / "c.nc", engine="scipy")


def test_the_figure_without_noise_or_replicates(drawn: xr.Dataset) -> None:
    one = drawn.isel(replicate=[0]).sel(constant=["L_u", "L_v", "L_uv", "delta"])
    one["low"], one["high"] = one["low"] * np.nan, one["high"] * np.nan
    figure = constants.draw(one)
    assert "replicates" not in figure.get_suptitle()
    assert [len(axes.lines) for axes in figure.axes] == [3, 1, 3]
