"""Regimes: the comparison of a sweep, the five predictors, the confusion table, the map and its command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fedconv.analysis.regimes import ALGORITHMS, CONSTANT, NONE, choosing, compare, paired, scores, signs, summary
from fedconv.analysis.regimes.predictors import Prediction, cells_of, guarantees, predictions
from fedconv.analysis.regimes.presets import PRESETS, QUICK_M, Lookup, completed, preset
from fedconv.analysis.theorems import THEOREMS
from fedconv.analysis.theorems.split.effective_variance import PAPER, TUNED, TUNED_STAR
from fedconv.analysis.theorems.split.facts import Inputs
from fedconv.analysis.tuning.many_cells import least
from fedconv.analysis.tuning.one_run import best_step, closest, max_step, tune
from fedconv.cli import main
from fedconv.commands.sweep import theorem_step
from fedconv.figures.regime_map.data import MOST_ROWS, Map, computed, from_dataset, plane, to_dataset
from fedconv.figures.regime_map.drawing import data, data_default, data_steps, draw, label, words
from fedconv.problems.errors import InputError
from fedconv.sweep.grid import grid_from
from fedconv.sweep.runner import resolved

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


def test_replicates_that_choose_do_not_decide() -> None:
    data = synthetic(np.full((2, 2), 0.5))
    assert choosing(32) == 4
    data["value"].values[:, :, 1, :, :4, 0] -= 9.0  # FedSim far lower, where steps are only chosen
    assert (compare(data)["best"].verdict == "fedalt").all()
    assert [choosing(r) for r in (4, 8, 16, 64)] == [2, 2, 2, 8]


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
    assert found["theorem"].p_value[0, 1] == pytest.approx(2.0**-28)


def test_paired_is_scipys_paired_t_test() -> None:
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(3)
    alt, sim = rng.normal(1.0, 1, 16), rng.normal(1.3, 1, 16)
    effect, p_value = paired(alt, sim)
    assert p_value == pytest.approx(ttest_rel(sim, alt, alternative="greater" if effect > 0 else "less").pvalue)
    assert paired(alt, alt) == (0.0, 1.0)
    assert paired(np.ones(4), np.full(4, 2.0)) == (0.5, 0.0)
    assert math.isnan(paired(np.full(4, np.inf), np.full(4, np.inf))[0])


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Differences with a heavy right tail, e^{N(0,1)}, of mean 0 and negative median."""
    return np.exp(rng.standard_normal(shape)) - math.exp(0.5)


def test_the_t_test_is_only_approximate_for_skewed_differences() -> None:
    """At a nominal 1 % it names the wrong winner of a mean difference 0 more often, as the docstring says; symmetric
    differences, heavy tails included, keep the level."""
    rng = np.random.default_rng(11)
    count, R, level = 4000, 28, 0.01

    def rate(differences: np.ndarray) -> float:
        wrong = [paired(np.full(R, 50.0), 50.0 + d)[1] < level and d.mean() < 0 for d in differences]
        return float(np.mean(wrong))

    margin = 5 * math.sqrt(level / count)
    assert rate(skewed(rng, (count, R))) > level + margin
    assert rate(rng.standard_normal((count, R))) <= level + margin
    assert rate(rng.standard_t(3, (count, R))) <= level + margin


def test_the_sign_test_keeps_its_level_whatever_the_law() -> None:
    """Neither is lower in more than half of the runs: at most the stated share of false confirmations; and where one
    is, as with skewed differences of mean 0, it is confirmed for what it is."""
    rng = np.random.default_rng(12)
    count, R, level = 4000, 28, 0.05
    for centred in (rng.standard_normal((count, R)), np.exp(rng.standard_normal((count, R))) - 1.0):  # medians 0
        rate = np.mean([signs(np.zeros(R), d, float(d.mean())) < level for d in centred])
        assert rate <= 2 * level + 5 * math.sqrt(2 * level / count)
        assert rate > 0.005
    d = skewed(rng, (count, R))
    assert np.mean([signs(np.zeros(R), one, -1.0) < level for one in d]) > 0.3  # lower in 69 % of the runs
    assert np.mean([signs(np.zeros(R), one, 1.0) < level for one in d]) < level


def test_signs_by_hand() -> None:
    alt, sim = np.array([1.0, 1.0, 1.0, 2.0]), np.array([2.0, 3.0, 1.0, 1.0])
    assert signs(alt, sim, 0.3) == pytest.approx(0.5)  # 2 of the 3 pairs that differ: 4/8
    assert signs(alt, sim, -0.3) == pytest.approx(7 / 8)
    assert signs(alt, alt, 0.1) == signs(alt, sim, 0.0) == signs(alt, sim, math.nan) == 1.0


def test_confirmed_winners_are_counted_and_said() -> None:
    data = synthetic(SHIFT, noise=0.2)
    found = compare(data)
    best = found["best"]
    assert best.confirmed[0].all()
    assert not best.confirmed[1, 0]
    assert (best.confirmed <= np.isin(best.verdict, ALGORITHMS)).all()
    sentences = summary(found, 0.01)
    assert f"the exact sign test confirms {int(best.confirmed.sum())} of" in sentences[0]
    assert "exact for normal differences" in sentences[-1]


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
    one, constant = scores(found, [Prediction("x", "x", advantage, 1e-9)])
    assert (one.right, one.wrong, one.tie, one.silent) == (1, 1, 1, 0)
    assert one.undecided == {"fedalt": 0, "fedsim": 1, NONE: 0, "": 0}
    assert one.share == pytest.approx(1 / 3)
    assert one.balanced == pytest.approx(1 / 4)  # of FedAlt's two cells one, of FedSim's one none
    assert (constant.key, constant.right, constant.wrong) == (CONSTANT, 2, 1)
    assert (constant.share, constant.balanced) == (pytest.approx(2 / 3), 0.5)
    assert label(constant.key, constant.title) == "always FedAlt (won more often)"


def test_the_constant_answer_is_the_more_frequent_winner() -> None:
    found = compare(synthetic(-SHIFT - 0.2))["best"]
    constant = scores(found, [])[-1]
    assert found.count("fedsim") > found.count("fedalt")
    assert constant.confusion["fedsim"]["fedsim"] == found.count("fedsim")
    assert "fedsim" in constant.title
    assert math.isnan(scores(compare(synthetic(0 * SHIFT))["best"], [])[0].balanced)


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
    grid = grid_from(preset("W2", quick=True), "default map")
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
    grid = grid_from(preset("W2", quick=False), "default map")
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
    assert lookup(named, "fedalt", "best") is None
    assert lookup(spec, "fedalt", "max") is None
    assert lookup(spec, "fedavg", "best") is None
    asked = []

    def other(spec: str, algorithm: str, wish: str) -> float:
        asked.append((spec, algorithm, wish))
        return 0.5

    steps = resolved(grid, other, 1, known=lambda s, a, w: lookup(s, a, w) if a == "fedalt" else None)
    assert {a for _, a, _ in asked} == {"fedsim"}
    assert len(asked) == math.prod(grid.cells)
    assert (steps[..., 1, -1] == 0.5).all()
    assert steps[1, 0, 0, -1] == lookup(spec, "fedalt", "best")


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_map(name: str, quick: bool) -> None:
    grid = grid_from(completed(preset(name, quick), name, None), name)
    axes = [(axis.key, axis.labels) for axis in grid.axes]
    assert plane(axes) == (0, 1)
    cells = cells_of(grid, name)
    assert all(np.isfinite(x).all() for x in cells.values.values())
    assert grid.etas[-1] == "best"
    assert math.prod(grid.cells) <= (64 if quick else 400)
    assert QUICK_M[-1] == 20


def test_presets_have_names() -> None:
    with pytest.raises(InputError, match="must be one of W2, steps, correlation; got 'w3'"):
        preset("w3", quick=False)


@pytest.mark.parametrize("key", ["FA", "FA*", "FS", "FS*"])
def test_least_at_a_given_step_reaches_up_to_the_largest(key: str) -> None:
    """At given η the tuner finds what the search over η found there, nothing worse beside it, and premises that can be
    met right up to the largest step."""
    theorem = THEOREMS[key]
    for cell in (CELLS[0], CELLS[4], CELL | {"tau_u": 12.0, "tau_v": 12.0, "chi": 0.7}):
        inputs = Inputs(cell | {"eta": 0.1}, (True, True), "exact", 1.0)
        best, largest = best_step(theorem, inputs), max_step(theorem, inputs)
        at_best = tune(theorem, Inputs(cell | {"eta": best.eta}, (True, True), "exact", 1.0))
        assert at_best is not None
        assert at_best.guarantee == pytest.approx(best.guarantee, rel=1e-7)
        for share in (0.01, 0.5, 0.999):
            at = Inputs(cell | {"eta": share * largest}, (True, True), "exact", 1.0)
            found = tune(theorem, at)
            assert found is not None
            assert not theorem.unmet(theorem.evaluate(at.values, found.parameters))
            assert found.guarantee >= best.guarantee * (1 - 1e-7)
        beyond = Inputs(cell | {"eta": 1.001 * largest}, (True, True), "exact", 1.0)
        assert tune(theorem, beyond) is None
        assert closest(theorem, beyond).guarantee > 1.0


def test_tuning_a_weakened_theorem_without_premises_leaves_alpha_free() -> None:
    theorem = THEOREMS["FA"]
    weak = theorem.mutate(next(m for m in theorem.mutants if m.drop_conditions))
    inputs = Inputs(CELL | {"eta": 1.5, "tau_u": 1.0, "tau_v": 1.0}, (True, True), "exact", 1.0)
    assert tune(theorem, inputs) is None
    found = tune(weak, inputs)
    assert found is not None
    assert 0 < found.parameters["alpha"] < math.inf


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
    marks = {line.get_marker(): line.get_xydata() for line in panels[0].lines if len(np.asarray(line.get_xydata()))}
    assert sorted(map(tuple, np.asarray(marks["^"]).tolist())) == [(0.5, 0.5), (1.5, 1.5)]
    assert np.asarray(marks["s"]).tolist() == [[0.5, 1.5]]  # a = 1 (left), b = 4 (top)


def test_a_map_survives_its_file(tmp_path: Path) -> None:
    found = compare(synthetic(SHIFT))
    axes = (("noise.a", (1.0, 2.0)), ("problem.b", (3.0, 4.0)))
    known = [Prediction(k, f"title of {k}", np.array([[1.0, -1.0], [math.nan, math.inf]]), 1e-9)
             for k in ("paper", "tuned", "tuned*", "FA/FS", "FA*/FS*")]  # fmt: skip
    one = Map("made up", axes, found, known)
    to_dataset(one).to_netcdf(tmp_path / "map.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "map.nc", engine="scipy") as stored:
        back = from_dataset(stored.load())
    assert (back.name, back.axes) == (one.name, one.axes)
    assert words(back) == words(one) == words(to_dataset(one))
    assert [(p.key, p.title, p.tolerance) for p in back.predictions] == [(p.key, p.title, p.tolerance) for p in known]
    for key, comparison in found.items():
        other = back.comparisons[key]
        assert other.level == comparison.level
        for name in ("verdict", "effect", "p_value", "p_sign", "mean", "eta", "at_edge", "confirmed"):
            np.testing.assert_array_equal(getattr(other, name), getattr(comparison, name))
    texts = [text.get_text() for axes in draw(back).axes for text in axes.texts]
    assert "FedAlt (2)" in texts
    assert "FedSim (1)" in texts
    assert "always FedAlt (won more often)" in texts


def test_gallery_maps_are_the_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("fedconv.figures.regime_map.data.computed", lambda name, *, quick: asked.append((name, quick)))
    for function in (data, data_default, data_steps):
        function()
    assert asked == [("W2", True), ("W2", False), ("steps", True)]


@pytest.mark.long
def test_a_computed_map_is_the_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The gallery's numbers are those of `fedconv regimes` on the same file."""
    monkeypatch.setattr(
        "fedconv.figures.regime_map.data.preset", lambda name, quick: completed(_mapping(), "small", None)
    )
    one = from_dataset(computed("W2", quick=True))
    file = tmp_path / "small.toml"
    file.write_text(FILE)
    assert main(["regimes", str(file), "--out", str(tmp_path / "out"), "--workers", "1", "--format", "svg"]) == 0
    record = json.loads((tmp_path / "out" / "regimes.json").read_text())["cells"][3]["measured"]["best"]
    best = one.comparisons["best"]
    assert record["effect"] == best.effect[1, 1]
    assert record["p_sign"] == best.p_sign[1, 1]
    assert record["confirmed"] == best.confirmed[1, 1]


def test_plane_takes_numbers_and_few_rows() -> None:
    assert plane([("t", ["a", "b"]), ("x", [1, 2]), ("y", [1.0, 2.0])]) == (1, 2)
    with pytest.raises(InputError, match="two swept keys with at least two numbers"):
        plane([("x", [1, 2]), ("t", ["a", "b"])])
    with pytest.raises(InputError, match=f"at most {MOST_ROWS} rows"):
        plane([("x", [1, 2]), ("y", [1, 2]), ("z", list(range(7)))])


@pytest.mark.long
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
    assert completed(_mapping(), "small", -0.5)["noise"]["dependence"] == -0.5


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (FILE, ["--quick"], "--quick is for maps with a name"),
        (FILE, ["--preset", "steps"], "--preset is for maps with a name"),
        (FILE, ["--dependence", "half"], "noise.dependence: must be"),
        (FILE, ["--dependence", "1.5"], "noise.dependence: must be"),
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
