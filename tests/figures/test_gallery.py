"""The gallery: figures with their data beside them, and FFGG's three pictures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fedconv.cli import main
from fedconv.figures import gallery
from fedconv.figures.ffgg import data as ffgg_data
from fedconv.figures.ffgg import drawing as ffgg
from fedconv.figures.gallery import FIGURES, Entry
from fedconv.figures.style import svg


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffgg_data, "GAPS", np.array([1e-2, 1.0]))


@pytest.mark.usefixtures("small")
def test_local_steps_floor_grows_with_the_gap_and_not_without_personal_parts() -> None:
    data = ffgg_data.local_steps(T=60)
    exact = data["excess"].sel(gap_shown=0.0)
    assert float(exact.sel(algorithm="FFGG")[-1]) < 1e-4 * float(exact.sel(algorithm="FFGG")[0])
    assert float(exact.sel(algorithm="FedAvg")[-1]) > 1e-4 * float(exact.sel(algorithm="FedAvg")[0])
    floor = data["floor"].sel(algorithm="FFGG").values
    assert floor[1] == pytest.approx(100 * floor[0], rel=1e-3)
    assert (floor <= data["bound"].values).all()


@pytest.mark.usefixtures("small")
def test_delays_and_attackers_leave_a_floor_only_where_there_is_a_gap() -> None:
    data = ffgg_data.asynchrony(T=300)
    floor = data["floor"].sel(algorithm="FFGG, asynchronous").values
    assert floor[1] > 20 * floor[0]
    data = ffgg_data.byzantine(T=30)
    exact = data["excess"].sel(gap_shown=0.0)
    assert float(exact.sel(algorithm="FFGG, trimmed mean")[-1]) < 1e-3
    assert float(exact.sel(algorithm="FFGG, plain mean")[-1]) > 0.05
    assert (data["floor"].sel(algorithm="FFGG, trimmed mean") <= data["bound"]).all()
    assert svg(ffgg.draw(data), "k", ffgg.words(data)).startswith("<svg")


def tiny() -> xr.Dataset:
    rounds = np.arange(4)
    return xr.Dataset(
        {
            "excess": (("gap_shown", "algorithm", "k"), 0.5 ** np.broadcast_to(rounds, (2, 1, 4))),
            "floor": (("gap", "algorithm"), np.array([[1e-3], [1e-2]])),
        },
        coords={"gap_shown": [0.0, 0.1], "gap": [0.1, 1.0], "algorithm": ["FFGG"], "k": rounds},
        attrs={"theorem": "", "setting": "a setting"},
    )


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ffgg, "local_steps", tiny)
    assert main(["figures", "ffgg-local-steps", "--out", str(tmp_path / "g"), "--format", "svg,png"]) == 0
    return tmp_path / "g"


def test_a_figure_comes_with_its_data(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(p.name for p in drawn.iterdir()) == [f"ffgg-local-steps.{x}" for x in ("nc", "png", "svg")]
    before = (drawn / "ffgg-local-steps.svg").read_bytes()
    monkeypatch.delattr(ffgg, "local_steps")
    (drawn / "ffgg-local-steps.svg").unlink()
    assert main(["figures", "ffgg-local-steps", "--out", str(drawn), "--reuse-data"]) == 0
    assert (drawn / "ffgg-local-steps.svg").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nope"], "figures are ffgg-local-steps, .*; got 'nope'"),
        (["--format", "gif"], "--format must be some of pdf, svg, png, with commas between; got 'gif'"),
        (["ffgg-byzantine", "--reuse-data"], r"ffgg-byzantine\.nc does not exist; run without --reuse-data once"),
        (["ffgg-asynchrony", "--reuse-data"], r"ffgg-asynchrony\.nc holds data of 'ffgg-local-steps', not of"),
        (["ffgg-local-steps", "--reuse-data"], r"ffgg-local-steps\.nc cannot be read as data of the figure"),
    ],
)
def test_bad_wishes_get_a_sentence(
    drawn: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    (drawn / "ffgg-asynchrony.nc").write_bytes((drawn / "ffgg-local-steps.nc").read_bytes())
    (drawn / "ffgg-local-steps.nc").write_bytes(b"CDF nonsense")
    capsys.readouterr()
    assert main(["figures", *arguments, "--out", str(drawn)]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert re.search(sentence, err), err


def test_the_list_names_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in FIGURES)
    assert all(isinstance(one, Entry) and callable(one._function(one.draw)) for one in FIGURES.values())
    assert gallery.entry("ffgg-byzantine").name == "ffgg-byzantine"
