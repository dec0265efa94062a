"""Problem files: what they mean, and one sentence for everything that is wrong with them."""

from __future__ import annotations

import copy
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from fedconv.core.run import with_eta
from fedconv.problem_file.settings import AlgorithmSpec, dump_toml, load_settings, settings_from
from fedconv.problems.errors import InputError
from fedconv.problems.noise import Noise
from fedconv.problems.registry import build_problem

PROBLEM = {"family": "trigonometric", "n": 5, "d_u": 3, "d_v": 2}
SPEC: dict[str, Any] = {
    "name": "mine",
    "problem": PROBLEM,
    "algorithm": {"name": "fedalt", "m": 2, "tau": 3, "eta": 0.1},
    "run": {"T": 4},
}
REMOVE = object()


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """SPEC with dotted keys set or removed."""
    spec = copy.deepcopy(SPEC)
    for path, value in changes.items():
        *tables, key = path.split(".")
        table = spec
        for name in tables:
            table = table.setdefault(name, {})
        if value is REMOVE:
            table.pop(key)
        else:
            table[key] = value
    return spec


def settings(**changes: Any):
    return settings_from(changed({k.replace("__", "."): v for k, v in changes.items()}), "my.toml")


# ---- what a file means -------------------------------------------------------------------------------------


def test_defaults() -> None:
    s = settings()
    assert (s.name, s.T, s.seed, s.replicates, s.level, s.engine) == ("mine", 4, 0, 64, "stationarity", "auto")
    assert s.noise.silent
    assert s.algorithms == (AlgorithmSpec("fedalt", 2, 3, 3, 0.1, None, None),)
    v = s.verify
    assert (v.theorems, v.error, v.max_replicates, v.parameters, v.a_posteriori) == (None, 1e-6, 4096, None, "auto")
    rng = np.random.default_rng(np.random.SeedSequence(0))
    assert np.array_equal(s.start.u.numpy(), rng.standard_normal(3))
    assert np.array_equal(s.start.v.numpy(), rng.standard_normal((5, 2)))
    assert s.start.u.dtype == s.start.v.dtype == torch.float64


def test_the_experiment_is_the_files() -> None:
    s = settings(noise={"law": "rademacher", "sigma_u": 1, "sigma_v": 0.5, "dependence": "full"}, run__seed=7)
    e = s.experiment(s.algorithms[0], 0.1)
    assert (e.name, e.T, e.seed, e.noise) == ("mine/fedalt", 4, 7, Noise("rademacher", 1.0, 0.5, dependence="full"))
    assert e.problem is s.problem
    assert e.algorithm == with_eta(e.algorithm, s.problem, 0.1)
    constants = build_problem(PROBLEM).constants
    assert e.algorithm.gamma_u == pytest.approx(0.1 / (constants.L_u.value * 3), rel=1e-15)
    assert e.algorithm.gamma_v == pytest.approx(0.1 / (constants.L_v.value * 3), rel=1e-15)


def test_step_sizes_given_directly() -> None:
    s = settings(algorithm__eta=REMOVE, algorithm__gamma_u=0.25, algorithm__gamma_v=0.5)
    assert (s.algorithms[0].eta, s.algorithms[0].gamma_u, s.algorithms[0].gamma_v) == (None, 0.25, 0.5)
    algorithm = s.experiment(s.algorithms[0], None).algorithm
    assert (algorithm.gamma_u, algorithm.gamma_v) == (0.25, 0.5)


@pytest.mark.parametrize("eta", ["best", "max"])
def test_a_step_that_belongs_to_a_theorem_needs_a_number(eta: str) -> None:
    s = settings(algorithm__eta=eta)
    assert s.algorithms[0].eta == eta
    assert s.experiment(s.algorithms[0], 0.3).algorithm.gamma_u > 0
    with pytest.raises(InputError, match="mine/fedalt needs a number for eta"):
        s.experiment(s.algorithms[0], None)


def test_one_block_algorithms_keep_the_other_block_still() -> None:
    s = settings(algorithm__name=["fedalt", "fedsim", "fedavg", "local"])
    assert [(a.name, a.tau_u, a.tau_v) for a in s.algorithms] == [
        ("fedalt", 3, 3), ("fedsim", 3, 3), ("fedavg", 3, 0), ("local", 0, 3),
    ]  # fmt: skip
    s = settings(algorithm__name=["fedalt", "fedavg"], algorithm__tau=REMOVE, algorithm__tau_u=2, algorithm__tau_v=5)
    assert [(a.tau_u, a.tau_v) for a in s.algorithms] == [(2, 5), (2, 0)]
    s = settings(algorithm__name="local", algorithm__tau=REMOVE, algorithm__tau_v=4)
    assert [(a.tau_u, a.tau_v) for a in s.algorithms] == [(0, 4)]
    s = settings(algorithm__name="fedavg", algorithm__eta=REMOVE, algorithm__gamma_u=0.5)
    assert s.experiment(s.algorithms[0], None).algorithm.gamma_v == 0


def test_starts() -> None:
    s = settings(start={"kind": "zeros"})
    assert not s.start.u.any()
    assert not s.start.v.any()
    one, two = settings(start={"scale": 2, "seed": 3}), settings(start={"scale": 1, "seed": 3})
    assert np.array_equal(one.start.v.numpy(), 2 * two.start.v.numpy())
    assert not np.array_equal(two.start.u.numpy(), settings().start.u.numpy())
    point = settings(start={"kind": "point", "u": [1, 2, 3.5], "v": [[i, -i] for i in range(5)]})
    assert point.start.u.tolist() == [1, 2, 3.5]
    assert point.start.v[4].tolist() == [4, -4]


def test_start_at_the_optimum() -> None:
    s = settings(start={"kind": "optimum"})
    value = float(s.problem.objective(s.start.u, s.start.v))
    assert value == pytest.approx(s.problem.constants.F_star.value, abs=1e-9)
    near = settings(start={"kind": "optimum", "scale": 0.5, "seed": 4})
    rng = np.random.default_rng(np.random.SeedSequence(4))
    assert np.allclose(near.start.u.numpy() - s.start.u.numpy(), 0.5 * rng.standard_normal(3), rtol=0, atol=1e-14)


def test_a_missing_block_needs_no_start_and_no_step() -> None:
    problem = {"family": "trigonometric", "n": 5, "d_u": 3, "d_v": 0, "chi": 0.0, "L_v": 0.0, "spread": 0.0}
    s = settings(
        problem=problem, start={"kind": "point", "u": [0, 0, 1]}, algorithm__eta=REMOVE, algorithm__gamma_u=0.5
    )
    assert s.start.v.shape == (5, 0)
    assert s.experiment(s.algorithms[0], None).algorithm.gamma_v == 0


def test_verify_table() -> None:
    v = settings(
        verify={"theorems": ["FA*"], "error": 0.01, "max_replicates": 2, "parameters": {"alpha": 1, "theta": math.inf},
                "a_posteriori": True}
    ).verify  # fmt: skip
    assert v.theorems == ("FA*",)
    assert (v.error, v.max_replicates, v.a_posteriori) == (0.01, 2, True)
    assert v.parameters == {"alpha": 1.0, "theta": math.inf}


def test_the_name_is_the_files_where_none_is_given(tmp_path: Path) -> None:
    file = tmp_path / "small case.toml"
    file.write_text(dump_toml(changed({"name": REMOVE})))
    assert load_settings(file).name == "small case"


def test_spec_is_the_file_and_writes_it_again(tmp_path: Path) -> None:
    spec = changed({"verify.parameters": {"alpha": math.inf}, "start": {"kind": "point", "u": [1, 2, 3],
                    "v": [[0.1, 1e-17]] * 5}})  # fmt: skip
    file = tmp_path / "a.toml"
    file.write_text(dump_toml(spec))
    s = load_settings(file)
    assert s.spec == spec
    again = settings_from(tomllib.loads(dump_toml(s.spec)), "again")
    assert (again.algorithms, again.verify, again.noise) == (s.algorithms, s.verify, s.noise)
    assert torch.equal(again.start.v, s.start.v)
    spec["run"]["T"] = 99
    assert s.spec["run"]["T"] == 4


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(b"\xef\xbb\xbf" + dump_toml(SPEC).encode())
    assert load_settings(file).spec == SPEC


# ---- what is wrong with a file -----------------------------------------------------------------------------

nan, inf = math.nan, math.inf
BAD: list[tuple[dict[str, Any], str]] = [
    # missing and unknown keys
    ({"problem": REMOVE}, r"problem: missing; must be a table"),
    ({"algorithm": REMOVE}, r"algorithm: missing; must be a table"),
    ({"run": REMOVE}, r"run: missing; must be a table"),
    ({"algorithm.m": REMOVE}, r"algorithm\.m: missing; must be an integer >= 1"),
    ({"run.T": REMOVE}, r"run\.T: missing"),
    ({"problem.family": REMOVE}, r"problem\.family"),
    ({"algorithm.gama_u": 1.0}, r"algorithm\.gama_u: unknown key; did you mean 'gamma_u'\?"),
    ({"algoritm": {}}, r"algoritm: unknown key; did you mean 'algorithm'\?"),
    ({"noise.sigma": 1.0}, r"noise\.sigma: unknown key; did you mean 'sigma_[uv]'\?"),
    ({"xyz": 1}, r"xyz: unknown key; known: name, problem, noise, start, algorithm, run, verify"),
    ({"problem.chii": 0.1}, r"problem\.chii.*did you mean .?chi\b"),
    # wrong types
    ({"algorithm": 3}, r"algorithm: must be a table .*; got 3"),
    ({"problem": [1]}, r"problem: must be a table .*; got \[1\]"),
    ({"algorithm.m": "two"}, r'algorithm\.m: must be an integer >= 1.*; got "two"'),
    ({"algorithm.m": 2.0}, r"algorithm\.m: must be an integer >= 1.*; got 2\.0"),
    ({"algorithm.m": True}, r"algorithm\.m: must be an integer >= 1.*; got true"),
    ({"algorithm.m": {"a": 1}}, r"algorithm\.m: must be an integer >= 1.*; got a table with the keys a"),
    ({"algorithm.eta": {}}, r"algorithm\.eta: must be a finite number > 0.*; got an empty table"),
    ({"algorithm.eta": True}, r"algorithm\.eta: must be a finite number > 0.*; got true"),
    ({"algorithm.eta": "bset"}, r'algorithm\.eta: must be .*"best" or "max"; got "bset"'),
    ({"run.T": [5]}, r"run\.T: must be an integer.*; got \[5\]"),
    ({"noise.sigma_u": "1"}, r'noise\.sigma_u: must be a finite number >= 0; got "1"'),
    ({"verify.theorems": "FA"}, r'verify\.theorems: must be an array.*; got "FA"'),
    ({"verify.theorems": ["FA", 3]}, r"verify\.theorems: must be an array.*; got 3 at \[1\]"),
    ({"verify.parameters": 1}, r"verify\.parameters: must be a table"),
    ({"verify.a_posteriori": 1}, r'verify\.a_posteriori: must be "auto", true or false; got 1'),
    ({"problem.n": "many"}, r"problem\.n\b"),
    ({"problem.n": {"a": 1}}, r"problem\.n\b"),
    ({"name": 3}, r"name: must be a line"),
    ({"name": ""}, r"name: must be a line"),
    ({"name": "two\nlines"}, r"name: must be a line"),
    # unknown names
    ({"problem.family": "trigonometrc"}, r"problem\.family.*trigonometric"),
    ({"algorithm.name": "fedal"}, r"algorithm\.name: must be one of .*; did you mean 'fedalt'\?"),
    ({"algorithm.name": ["fedsim", "fedal"]}, r"algorithm\.name: .*at \[1\]; did you mean 'fedalt'\?"),
    ({"algorithm.name": []}, r"algorithm\.name: must be one of"),
    ({"algorithm.name": ["fedalt", "fedalt"]}, r"algorithm\.name: .*different"),
    ({"noise.law": "gausian"}, r"noise\.law: must be one of .*; did you mean 'gaussian'\?"),
    ({"run.level": "prof"}, r"run\.level: must be one of .*; did you mean 'proof'\?"),
    ({"run.engine": "jax"}, r"run\.engine: must be one of auto, eager, fused; got \"jax\""),
    ({"start.kind": "optimun"}, r"start\.kind: must be one of .*; did you mean 'optimum'\?"),
    # ranges
    ({"algorithm.m": 0}, r"algorithm\.m: must be an integer >= 1"),
    ({"algorithm.m": 9}, r"algorithm\.m: must be at most problem\.n = 5; got 9"),
    ({"algorithm.tau": 0}, r"algorithm\.tau: must be an integer from 1 to 10000000"),
    ({"algorithm.eta": 0}, r"algorithm\.eta: must be a finite number > 0.*; got 0"),
    ({"algorithm.eta": -0.5}, r"algorithm\.eta: must be a finite number > 0.*; got -0\.5"),
    ({"algorithm.eta": nan}, r"algorithm\.eta: must be a finite number > 0.*; got nan"),
    ({"algorithm.eta": inf}, r"algorithm\.eta: must be a finite number > 0.*; got inf"),
    ({"run.T": 0}, r"run\.T: must be an integer from 1.*; got 0"),
    ({"run.seed": -1}, r"run\.seed: must be an integer >= 0; got -1"),
    ({"run.replicates": 0}, r"run\.replicates: must be an integer from 1.*; got 0"),
    ({"run.replicates": 10**7}, r"run\.replicates: must be an integer from 1 to 1000000"),
    ({"start.seed": -1}, r"start\.seed: must be an integer >= 0"),
    ({"start.scale": nan}, r"start\.scale: must be a finite number >= 0; got nan"),
    ({"noise.sigma_u": nan}, r"noise\.sigma_u: must be a finite number >= 0; got nan"),
    ({"noise.sigma_v": -1}, r"noise\.sigma_v: must be a finite number >= 0; got -1"),
    ({"noise": {"law": "student_t", "dof": 2}}, r"noise\.dof: must exceed 2"),
    ({"noise": {"law": "spikes", "spike_probability": 0}}, r"noise\.spike_probability: must lie in \(0, 1\]"),
    ({"noise": {"law": "zero", "sigma_u": 1}}, r"noise\.law"),
    ({"verify.error": 0}, r"verify\.error: must be a number in \(0, 0\.5\); got 0"),
    ({"verify.error": 0.5}, r"verify\.error: must be a number in \(0, 0\.5\)"),
    ({"verify.error": nan}, r"verify\.error: .*got nan"),
    ({"verify.max_replicates": 1}, r"verify\.max_replicates: must be an integer from 2"),
    ({"verify.parameters": {"alpha": -1}}, r"verify\.parameters: .*; got -1 at alpha"),
    ({"verify.parameters": {"alpha": nan}}, r"verify\.parameters: .*; got nan at alpha"),
    ({"verify.theorems": []}, r"verify\.theorems"),
    ({"verify.theorems": ["FA", "FA"]}, r"verify\.theorems: must be an array of different"),
    ({"problem.n": 0}, r"problem\.n\b|n must"),
    ({"problem.chi": nan}, r"chi"),
    ({"problem.L_u": -1.0}, r"L_u"),
    ({"problem.n": 10**15}, r"problem: must hold at most 50000000 numbers"),
    ({"problem.d_u": 10**30}, r"problem"),
    # keys that contradict each other
    ({"algorithm.gamma_u": 0.1, "algorithm.gamma_v": 0.1}, r"algorithm\.gamma_u: must be left out where eta is given"),
    ({"algorithm.eta": REMOVE}, r"algorithm\.eta: is missing: give eta, or gamma_u and gamma_v"),
    ({"algorithm.eta": REMOVE, "algorithm.gamma_u": 0.1}, r"algorithm\.gamma_v: is missing"),
    ({"algorithm.eta": REMOVE, "algorithm.gamma_u": 0, "algorithm.gamma_v": 1}, r"algorithm\.gamma_u: must be"),
    ({"algorithm.tau_u": 2}, r"algorithm\.tau_u: must be left out where tau is given"),
    ({"algorithm.tau": REMOVE}, r"algorithm\.tau_u: is missing: give tau, or tau_u and tau_v"),
    ({"algorithm.tau": REMOVE, "algorithm.tau_u": 1}, r"algorithm\.tau_v: is missing"),
    ({"algorithm.tau": REMOVE, "algorithm.tau_u": 0, "algorithm.tau_v": 0}, r"algorithm\.name: .*moves none"),
    (
        {"algorithm.name": "fedsim", "algorithm.tau": REMOVE, "algorithm.tau_u": 1, "algorithm.tau_v": 2},
        r"algorithm\.tau_v: must equal tau_u = 1 for fedsim; got 2",
    ),
    (
        {"algorithm.name": "fedavg", "algorithm.tau": REMOVE, "algorithm.tau_u": 1, "algorithm.tau_v": 2},
        r"algorithm\.tau_v: must be 0 or left out for fedavg; got 2",
    ),
    ({"noise": {"law": "gaussian", "dof": 3.0}}, r"noise\.dof: must be left out unless law = \"student_t\""),
    ({"noise": {"law": "gaussian", "spike_probability": 0.1}}, r"noise\.spike_probability: must be left out"),
    ({"start": {"kind": "zeros", "scale": 1}}, r"start\.scale: must be left out with kind = \"zeros\""),
    ({"start": {"kind": "normal", "u": [1.0]}}, r"start\.u: must be left out with kind = \"normal\""),
    ({"start": {"kind": "point", "u": [0, 0, 0]}}, r"start\.v: is missing"),
    # shapes and numbers of a point
    ({"start": {"kind": "point", "u": [0, 0], "v": [[0, 0]] * 5}}, r"start\.u: must have shape \(3,\); got \(2,\)"),
    ({"start": {"kind": "point", "u": [0] * 3, "v": [[0, 0]] * 4}}, r"start\.v: must have shape \(5, 2\); got \(4, "),
    ({"start": {"kind": "point", "u": [0] * 3, "v": [[0, 0]] * 4 + [[0]]}}, r"start\.v: must be an array"),
    ({"start": {"kind": "point", "u": [0, nan, 0], "v": [[0, 0]] * 5}}, r"start\.u: must be finite"),
    ({"start": {"kind": "point", "u": [0, "a", 0], "v": [[0, 0]] * 5}}, r"start\.u: .*; got \"a\" at \[1\]"),
    ({"start": {"kind": "point", "u": [0] * 3, "v": [0] * 5}}, r"start\.v: .*; got 0 at \[0\]"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "sentence"), BAD, ids=lambda x: None if isinstance(x, dict) else str(x)[:40])
def test_bad_files_get_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=rf"^my\.toml: .*{sentence}") as error:
        settings_from(changed(changes), "my.toml")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"name = =", r"not TOML: .*line 1"),
        (b"\xff\xfe\x00", r"must be UTF-8 text; byte 0 is not"),
        (b"[problem]\n[problem]\n", r"not TOML: "),
        (b"a = " + b"[" * 5000, r"not TOML"),
        (b"", r"problem: missing"),
        (b"a = 1\x00", r"not TOML"),
    ],
)
def test_unreadable_files_get_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.toml: {sentence}"):
        load_settings(file)


def test_missing_files_and_folders_get_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: no such file; `fedconv new` writes one"):
        load_settings(tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"is a folder, not a file"):
        load_settings(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_settings("a\0b")
    (tmp_path / "runs.zarr").mkdir()
    (tmp_path / "runs.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(
        InputError, match=r"runs\.zarr: is a store, not a problem file; `fedconv show` and `verify` take it"
    ):
        load_settings(tmp_path / "runs.zarr")
    (tmp_path / "f").write_text("x")
    with pytest.raises(InputError, match="no such file"):
        load_settings(tmp_path / "f" / "a.toml")


def test_no_known_minimiser_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(build_problem(PROBLEM)), "minimiser", lambda self: None)
    with pytest.raises(InputError, match=r'start\.kind: must not be "optimum" here: no minimiser is known'):
        settings(start={"kind": "optimum"})


def test_an_engine_that_cannot_run_the_problem_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(build_problem(PROBLEM)), "kernel", lambda self: None)
    with pytest.raises(InputError, match=r'^my\.toml: run\.engine: must not be "fused" here: the problem family'):
        settings(run__engine="fused")


# ---- TOML --------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), TEXT)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, VALUES, max_size=6))
@example({"a": {"b": {"c": {}}}, "d": [{"e": [{"f": '\x7f\\"\t'}]}], "": {"": 1}})
@example({"rows": [[0.1] * 8] * 9, "long": list(range(300)), "inf": [math.inf, -math.inf, -0.0, 5e-324]})
@example({"t": {"u": 1}, "t.u": {"v": 2}, 'a"b': "line\nline\r"})
def test_dumped_toml_loads_equal(spec: dict[str, Any]) -> None:
    text = dump_toml(spec)
    loaded = tomllib.loads(text)
    assert loaded == spec
    assert repr(flattened(loaded)) == repr(flattened(spec))


def flattened(x: Any) -> Any:
    """Sorted, so that types and signs (1 and 1.0, 0.0 and -0.0) can be compared by repr."""
    if isinstance(x, dict):
        return sorted((k, flattened(v)) for k, v in x.items()) if x else {}
    return [flattened(v) for v in x] if isinstance(x, list) else x


def test_nan_and_arrays_are_dumped() -> None:
    loaded = tomllib.loads(dump_toml({"x": math.nan, "a": np.eye(2), "b": np.float64(0.5), "c": (1, 2)}))
    assert math.isnan(loaded["x"])
    assert loaded["a"] == [[1.0, 0.0], [0.0, 1.0]]
    assert (loaded["b"], loaded["c"]) == (0.5, [1, 2])


def test_lines_of_dumped_toml_stay_readable() -> None:
    text = dump_toml({"v": np.full((40, 3), 1 / 3), "w": [0.5] * 200})
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize(
    "spec", [{"a": None}, {"a": [object()]}, {1: 2}, {"a": {1: 2}}, {"a": [{1: 2}]}, {"a": "\ud800"}]
)
def test_what_toml_cannot_hold_is_refused(spec: dict[Any, Any]) -> None:
    with pytest.raises(InputError, match=r"TOML"):
        dump_toml(spec)
