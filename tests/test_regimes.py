"""Regimes: the comparison of a sweep, the five predictors, the confusion table, the map and its command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from analysis.inputs import Inputs
from analysis.least import least
from analysis.predictors import Prediction, cells_of, guarantees, predictions
from analysis.regimes import NONE, compare, paired, scores
from analysis.theorems import THEOREMS
from analysis.theorems.regime import PAPER, TUNED, TUNED_STAR
from analysis.tuner import best_step
from fedconv.cli import main
from fedconv.commands.regimes import Lookup, completed, default_map
from fedconv.commands.sweep import theorem_step
from fedconv.sweep.grid import grid_from
from figures.regime_map import MOST_ROWS, Map, draw, plane, words
from problems.errors import InputError

CELL = {
    "n": 20.0, "m": 5.0, "tau_u": 5.0, "tau_v": 5.0, "T": 500.0, "L_u": 1.0, "L_v": 1.0, "chi": 0.5, "sigma_u": 1.0,
    "sigma_v": 1.0, "delta": 1.0, "rho": 0.0, "gap0": 4.0,
}  # fmt: skip
CELLS = [
    CELL,
    CELL | {"m": 20.0},  # everybody takes part: α has a limit in FA and FA*
    CELL | {"tau_u": 1.0, "tau_v": 1.0},  # no drift: θ, θ_v, ω have limits
    CELL | {"chi": 0.0, "sigma_v": 0.0},
    CELL | {"chi": 3.0, "rho": 2.0, "T": 20.0, "L_v": 4.0},
    CELL | {"n": 1.0, "m": 1.0, "delta": 0.0},
]

FILE = """
name = "small"
[problem]
family = "trigonometric"
n = 4
d_u = 2
d_v = 2
chi = 0.5
[noise]
sigma_u = 0.5
[algorithm]
name = ["fedalt", "fedsim"]
m = 2
tau = 2
[run]
T = 12
replicates = 8
[sweep]
"noise.sigma_v" = [0.1, 0.5]
"algorithm.m" = [2, 4]
"algorithm.eta" = [0.05, 0.3]
"""


def columns(cells: list[dict[str, float]]) -> dict[str, np.ndarray]:
    return {k: np.array([cell[k] for cell in cells]) for k in cells[0]}


def synthetic(shift: np.ndarray, replicates: int = 32, *, seed: int = 0, noise: float = 0.01) -> xr.Dataset:
    """A sweep over (a, b) where FedSim's stationarity is FedAlt's plus ``shift (2, 2)``, at step 1 of (0.1, 1, best);
    at the step 0.1 both are far higher. The replicates share a large common part."""
    rng = np.random.default_rng(seed)
    common = rng.normal(5.0, 1.0, replicates)
    value = np.zeros((2, 2, 2, 3, replicates, 4))
    value[..., 0] = common + np.array([9.0, 0.0, 1.0])[:, None]
    value[:, :, 1, :, :, 0] += shift[:, :, None, None]
    value[..., 0] += noise * rng.standard_normal(value.shape[:-1])
    names = ["noise.a", "problem.b", "algorithm", "eta"]
    return xr.Dataset(
        {
            "value": ([*names, "replicate", "measure"], value),
            "done": ([*names, "replicate"], np.ones(value.shape[:-1], dtype=bool)),
            "step": (names, np.broadcast_to([0.1, 1.0, 0.2], value.shape[:4])),
        },
        coords={
            "noise.a": [1.0, 2.0],
            "problem.b": [3.0, 4.0],
            "algorithm": ["fedsim", "fedalt"][::-1],
            "eta": ["0.1", "1.0", "best"],
            "replicate": np.arange(replicates),
            "measure": ["stationarity", "late", "F_gap", "diverged"],
        },
    )


SHIFT = np.array([[0.5, -0.5], [0.0, 0.1]])


def test_compare_names_the_lower_one_and_keeps_the_effect() -> None:
    found = compare(synthetic(SHIFT))
    assert set(found) == {"best", "theorem"}
    assert found["best"].verdict.tolist() == [["fedalt", "fedsim"], [NONE, "fedalt"]]
    assert (found["best"].eta == 1.0).all()
    assert (found["theorem"].eta == 0.2).all()
    alt, sim = np.moveaxis(found["best"].mean, -1, 0)
    np.testing.assert_allclose(found["best"].effect, (sim - alt) / np.maximum(alt, sim))
    assert found["best"].level == 0.01 / 8


def test_second_half_alone_decides() -> None:
    data = synthetic(np.full((2, 2), 0.5))
    data["value"].values[:, :, 1, :, :16, 0] -= 3.0  # FedSim far lower, in the half that only chooses steps
    assert (compare(data)["best"].verdict == "fedalt").all()


def test_order_of_algorithms_in_the_sweep_does_not_matter() -> None:
    data = synthetic(SHIFT)
    turned = compare(data.sel(algorithm=["fedsim", "fedalt"]))["best"]
    np.testing.assert_array_equal(turned.effect, compare(data)["best"].effect)
    assert turned.mean[0, 0, 0] < turned.mean[0, 0, 1]


def test_error_rate_where_there_is_no_difference() -> None:
    """Under the null hypothesis at most the stated error finds a winner: 400 families of 4 cells at 0.2."""
    wrong = sum((compare(synthetic(0 * SHIFT, seed=s, noise=1.0), 0.2)["best"].verdict != NONE).any()
                for s in range(400))  # fmt: skip
    assert wrong <= 0.2 * 400 + 4 * math.sqrt(400 * 0.2 * 0.8)
    assert wrong >= 20  # and the test is not idle: Bonferroni over 8 independent tests loses little


def test_unfinished_and_diverged_cells() -> None:
    data = synthetic(np.full((2, 2), 0.5))
    data["done"].values[0, 0, 0, 0, 3] = False
    data["value"].values[0, 1, 1, 1:, :, 3] = 1.0  # FedSim diverges at 1.0 and at its theorem's step
    data["value"].values[0, 1, 1, 1:, :, 0] = np.nan
    found = compare(data)
    assert found["best"].verdict[0, 0] == "missing"
    assert found["theorem"].verdict[0, 0] == "fedalt"
    assert found["best"].eta[0, 1].tolist() == [1.0, 0.1]  # a diverged step is not the best one
    assert found["theorem"].verdict[0, 1] == "fedalt"
    assert found["theorem"].effect[0, 1] == 1.0
    assert found["theorem"].p_value[0, 1] == pytest.approx(2.0**-16)


def test_paired_is_scipys_paired_t_test() -> None:
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(3)
    alt, sim = rng.normal(1.0, 1, 16), rng.normal(1.3, 1, 16)
    effect, p_value = paired(alt, sim)
    assert p_value == pytest.approx(ttest_rel(sim, alt, alternative="greater" if effect > 0 else "less").pvalue)
    assert paired(alt, alt) == (0.0, 1.0)
    assert paired(np.ones(4), np.full(4, 2.0)) == (0.5, 0.0)
    assert math.isnan(paired(np.full(4, np.inf), np.full(4, np.inf))[0])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.sel(algorithm=["fedalt"]), "needs both algorithms"),
        (lambda d: d.isel(replicate=[0, 1, 2]), "at least 4 replicates"),
        (lambda d: d.sel(eta=["best"]), "needs numbers among the steps"),
    ],
)
def test_compare_refuses(spoil, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(spoil(synthetic(SHIFT)))


def test_confusion_counts_cells_without_difference_apart() -> None:
    found = compare(synthetic(SHIFT))["best"]  # fedalt fedsim / none fedalt
    advantage = np.array([[1.0, 1.0], [-1.0, 0.0]])
    (one,) = scores(found, [Prediction("x", "x", advantage, 1e-9)])
    assert (one.right, one.wrong, one.tie, one.silent) == (1, 1, 1, 0)
    assert one.undecided == {"fedalt": 0, "fedsim": 1, NONE: 0, "": 0}
    assert one.share == pytest.approx(1 / 3)


@pytest.mark.parametrize("key", ["FA", "FA*", "FS", "FS*"])
def test_least_is_no_worse_than_the_tuner_and_admissible(key: str) -> None:
    theorem = THEOREMS[key]
    found = least(theorem, columns(CELLS))
    for i, cell in enumerate(CELLS):
        parameters = {k: float(x[i]) for k, x in found.parameters.items()}
        inputs = cell | {"eta": float(found.eta[i])}
        values = theorem.evaluate(inputs, parameters)
        theorem.check_parameters(parameters, inputs)
        assert not theorem.unmet(values)
        assert float(theorem.guarantee(values)) == pytest.approx(found.guarantee[i], rel=1e-12)
        if i in (0, 1, 4):
            other = best_step(theorem, Inputs(cell | {"eta": 0.1}, (True, True), "exact", 1.0))
            assert found.guarantee[i] <= other.guarantee * (1 + 1e-6)


def test_least_for_every_client_is_larger_by_at_most_n_over_m() -> None:
    theorem = THEOREMS["FA"]
    usual, every = (least(theorem, columns(CELLS), every_client=x).guarantee for x in (False, True))
    ratio = np.array([cell["n"] / cell["m"] for cell in CELLS])
    assert (every >= usual * (1 - 1e-9)).all()
    assert (every <= usual * ratio * (1 + 1e-6)).all()


def test_infinite_diversity_has_no_guarantee() -> None:
    assert np.isinf(least(THEOREMS["FA"], columns([CELL | {"delta": math.inf}])).guarantee).all()


def test_predictors_on_the_default_map_agree_with_their_conditions() -> None:
    grid = grid_from(default_map(quick=True), "default map")
    cells = cells_of(grid, "default map")
    found = {p.key: p for p in predictions(cells, guarantees(cells))}
    assert list(found) == ["paper", "tuned", "tuned*", "FA/FS", "FA*/FS*"]
    for key, comparison in (("paper", PAPER), ("tuned", TUNED), ("tuned*", TUNED_STAR)):
        condition = comparison.evaluate(cells.values)[2]
        wanted = np.where(condition < 0, "fedalt", "fedsim")
        assert (found[key].names == np.broadcast_to(wanted, (64,)).reshape(8, 8)).all()
    assert (found["tuned*"].names == "fedalt").all()
    assert {"fedalt", "fedsim"} == set(found["paper"].names.ravel())
    assert cells.values["sigma_v"].reshape(8, 8)[-1, 0] == 10.0
    assert cells.values["m"].reshape(8, 8)[0].tolist() == [1, 3, 5, 8, 11, 14, 17, 20]


def test_default_map_is_w2() -> None:
    grid = grid_from(default_map(quick=False), "default map")
    assert grid.cells == (20, 20)
    assert (len(grid.etas), grid.replicates, grid.base["run"]["T"]) == (9, 32, 500)
    assert grid.base["problem"]["n"] == 20


def test_lookup_is_the_theorems_best_step(tmp_path: Path) -> None:
    grid = grid_from(completed(_mapping(), "small", None), "small")
    lookup = Lookup.of(grid, guarantees(cells_of(grid, "small")))
    spec = json.dumps(grid.spec((1, 0)))
    for name in ("fedalt", "fedsim"):
        assert lookup(spec, name, "best") == pytest.approx(theorem_step(spec, name, "best"), rel=1e-3)
        assert lookup.found[next(k for k in lookup.found if k[1] == name)] > 0
    named = json.dumps(json.loads(spec) | {"verify": {"theorems": ["FA"]}})
    assert lookup(named, "fedalt", "best") == theorem_step(named, "fedalt", "best")


def _mapping() -> dict:
    import tomllib

    return tomllib.loads(FILE)


def test_map_is_drawn_in_rows_with_words() -> None:
    found = compare(synthetic(SHIFT))
    axes = (("noise.a", (1.0, 2.0)), ("problem.b", (3.0, 4.0)))
    known = [Prediction(k, k, np.array([[1.0, -1.0], [0.5, 1.0]]), 1e-9)
             for k in ("paper", "tuned", "tuned*", "FA/FS")]  # fmt: skip
    chart = Map("made up", axes, found, [*known, Prediction("FA*/FS*", "", np.ones((2, 2)), 1e-9)])
    assert "FedAlt lower in 2 cells, FedSim in 1, no difference in 1" in words(chart)
    assert "FA* or FS*: FedAlt everywhere" in words(chart)
    panels = [a for a in draw(chart).axes if a.get_title()]
    assert [a.get_xlabel() for a in panels] == ["noise.a", "noise.a"]
    marks = {line.get_marker(): line.get_xydata() for line in panels[0].lines}
    assert sorted(map(tuple, np.asarray(marks["^"]).tolist())) == [(0.5, 0.5), (1.5, 1.5)]
    assert np.asarray(marks["s"]).tolist() == [[0.5, 1.5]]  # a = 1 (left), b = 4 (top)


def test_plane_takes_numbers_and_few_rows() -> None:
    assert plane([("t", ["a", "b"]), ("x", [1, 2]), ("y", [1.0, 2.0])]) == (1, 2)
    with pytest.raises(InputError, match="two swept keys with at least two numbers"):
        plane([("x", [1, 2]), ("t", ["a", "b"])])
    with pytest.raises(InputError, match=f"at most {MOST_ROWS} rows"):
        plane([("x", [1, 2]), ("y", [1, 2]), ("z", list(range(7)))])


def test_command_writes_map_numbers_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "small.toml", tmp_path / "out"
    file.write_text(FILE + '"noise.dependence" = ["independent", "full"]\n')
    assert main(["regimes", str(file), "--out", str(out), "--workers", "1", "--format", "svg,pdf,png"]) == 0
    said = capsys.readouterr()
    assert "constant-free condition" in said.out
    assert "one-sided error 0.01 for all 8 cells" in said.out
    assert str(out) in said.err.replace("\n", "")
    assert all((out / f"regimes.{kind}").stat().st_size > 1000 for kind in ("svg", "pdf", "png"))
    data = json.loads((out / "regimes.json").read_text())
    assert [axis["key"] for axis in data["axes"]] == ["noise.sigma_v", "algorithm.m", "noise.dependence"]
    assert len(data["cells"]) == 8
    assert data["cells"][0]["measured"]["theorem"]["eta"]["fedalt"] > 0
    first = (out / "regimes.json").read_bytes()
    assert main(["regimes", str(file), "--out", str(out), "--format", "svg"]) == 0  # the store is finished
    assert "nothing to do" in capsys.readouterr().err
    assert main(["regimes", str(out / "sweep"), "--out", str(tmp_path / "again"), "--format", "svg"]) == 0
    assert (tmp_path / "again" / "regimes.json").read_bytes() == first == (out / "regimes.json").read_bytes()


def test_dependence_is_put_into_the_file() -> None:
    full = completed(_mapping(), "small", "full")
    assert full["noise"]["dependence"] == "full"
    assert full["sweep"]["algorithm.eta"] == [0.05, 0.3, "best"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (FILE, ["--quick"], "--quick is for the default map"),
        (FILE, ["--error", "0.7"], "--error must be"),
        (FILE, ["--format", "gif"], "--format must be"),
        (FILE.replace('["fedalt", "fedsim"]', '["fedalt"]'), [], 'must contain "fedalt" and "fedsim"'),
        (FILE.replace('"algorithm.m" = [2, 4]\n', ""), [], "two swept keys"),
        (FILE.split("[sweep]")[0], [], "needs the tables"),
        (FILE + '"noise.dependence" = ["full"]\n', ["--dependence", "full"], "--dependence must be left out"),
        (FILE.replace("replicates = 8", "replicates = 3"), [], "run.replicates: must be at least 4"),
    ],
)
def test_command_refuses_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, options: list[str], message: str
) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    assert main(["regimes", str(file), "--out", str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
