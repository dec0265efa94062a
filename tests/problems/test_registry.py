"""The registry and its tables: lazy imports, one sentence for what is wrong, tables that build the problem again."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any, Literal

import numpy as np
import pytest
import torch

from fedconv.problems.compiled import losses as kernels
from fedconv.problems.errors import InputError
from fedconv.problems.registry import FAMILIES, build_problem
from fedconv.problems.validation import Count, Matrix, NotNegative, Positive, Share, Size, call_with, suggest

TABLES = [{"family": name, **table} for name, family in FAMILIES.items() for table in family.examples]
IDS = [f"{table['family']}-{j}" for j, table in enumerate(TABLES)]


TARGETS = {"clusters", "quadratic_targets_arrays", "cluster_samples", "cluster_samples_arrays", "double_well"}
WITHOUT_KERNEL = TARGETS | {
    name for name in FAMILIES if name.startswith(("huber", "geman_mcclure", "mlp", "representation"))
}


def test_the_registry_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.path.insert(0, '.'); import fedconv.problems.registry; "
        "print([m for m in ('torch', 'scipy', 'sympy', 'numba', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_families_describe_themselves() -> None:
    assert set(FAMILIES) == {
        "trigonometric",
        "trigonometric_arrays",
        "residuals",
        "residuals_arrays",
        "quadratic",
        "quadratic_arrays",
        "full_personalization",
        "sharp",
        "overpersonalized",
        "least_squares",
        "least_squares_arrays",
        "huber",
        "huber_arrays",
        "geman_mcclure",
        "geman_mcclure_arrays",
        "representation",
        "representation_arrays",
        "envelope_quadratic",
        "saddle",
        "mlp",
        *TARGETS,
    }
    for name, family in FAMILIES.items():
        assert family.name == name
        assert family.summary.endswith(".")
        assert "\n" not in family.summary
        assert family.grades
        assert family.examples


@pytest.mark.parametrize("table", TABLES, ids=IDS)
def test_a_table_builds_the_same_problem_again(table: dict[str, Any]) -> None:
    problem = build_problem(table)
    assert problem.spec == table
    again = build_problem(problem.spec or {})
    assert again.constants == problem.constants
    u, v = torch.ones(problem.n, problem.d_u).double(), torch.ones(problem.n, problem.d_v).double()
    assert torch.equal(again.value(u, v, again.everyone()), problem.value(u, v, problem.everyone()))


def test_the_table_that_is_kept_does_not_follow_changes() -> None:
    table: dict[str, Any] = {"family": "full_personalization", "lam": 1.0, "base": dict(BASE)}
    problem = build_problem(table)
    table["base"]["n"] = 99
    assert problem.spec is not None
    assert problem.spec["base"]["n"] == 2


# ---- the kernels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES, ids=IDS)
def test_kernels_agree_with_torch_to_rounding(table: dict[str, Any]) -> None:
    """Value and gradients within 1e-13 of the largest term's size."""
    problem = build_problem(table)
    kernel = problem.kernel()
    if kernel is None:
        assert table["family"] in WITHOUT_KERNEL
        pytest.skip("no kernel: this family always runs eagerly")
    code, arrays = kernel
    assert len(arrays) == 6
    assert all(x.ndim == 3 and x.dtype == np.float64 and x.flags.c_contiguous for x in arrays)
    rng = np.random.default_rng(0)
    for scale in (1.0, 30.0):
        u = torch.from_numpy(scale * rng.standard_normal((problem.n, problem.d_u)))
        v = torch.from_numpy(scale * rng.standard_normal((problem.n, problem.d_v)))
        wanted = [f(u, v, problem.everyone()).numpy() for f in (problem.value, problem.grad_u, problem.grad_v)]
        got = [np.full(x.shape, np.nan) for x in wanted]
        for i in range(problem.n):
            x, y = u[i].numpy(), v[i].numpy()
            got[0][i] = kernels.value(code, arrays, i, x, y)
            kernels.grad_u(code, arrays, i, x, y, got[1][i])
            kernels.grad_v(code, arrays, i, x, y, got[2][i])
        size = float(max(np.abs(x).max(initial=1.0) for x in arrays)) * (1 + scale) ** 2
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-14 * size)


def test_a_kernel_writes_nothing_but_its_output() -> None:
    for table in TABLES:
        problem = build_problem(table)
        if problem.kernel() is None:
            continue
        code, arrays = problem.kernel() or (0, ())
        before = [x.copy() for x in arrays]
        u, v = np.ones(problem.d_u), np.ones(problem.d_v)
        kernels.grad_u(code, arrays, 0, u, v, np.empty(problem.d_u))
        kernels.grad_v(code, arrays, 0, u, v, np.empty(problem.d_v))
        kernels.value(code, arrays, 0, u, v)
        assert all(np.array_equal(x, y) for x, y in zip(before, arrays, strict=True))
        assert (u == 1).all()
        assert (v == 1).all()


def test_pack_keeps_the_slot_of_lambda_free() -> None:
    packed = kernels.pack(np.ones(3), np.ones((2, 3)), np.ones((2, 3, 4)))
    assert [x.shape for x in packed] == [(1, 1, 3), (1, 2, 3), (2, 3, 4), (1, 1, 1), (1, 1, 1), (1, 1, 1)]
    with pytest.raises(ValueError, match="at most 5"):
        kernels.pack(*[np.ones(1)] * 6)


# ---- what is wrong with a table -------------------------------------------------------------------------------

nan, inf = math.nan, math.inf
BASE = {"family": "quadratic", "n": 2, "d_u": 0, "d_v": 1}
QUADRATIC = {"family": "quadratic", "n": 2, "d_u": 1, "d_v": 1}
RESIDUALS = {"family": "residuals", "n": 2, "d_u": 1, "d_v": 1}
WAVES = {
    "family": "trigonometric_arrays",
    "a": [1.0],
    "b": [1.0],
    "kappa": [0.5],
    "h": [[1.0], [-1.0]],
    "s": [[0.0], [1.0]],
}
MATRICES = {
    "family": "quadratic_arrays",
    "A": [[[1.0]]],
    "B": [[[1.0]]],
    "C": [[[0.5]]],
    "a": [[0.0]],
    "b": [[0.0]],
}
PERSONAL = {"family": "full_personalization", "lam": 1.0, "base": BASE}
BAD: list[tuple[dict[str, Any], str]] = [
    ({}, r"problem\.family: required key is missing; families are trigonometric, "),
    ({"family": "quadratc"}, r"problem\.family: unknown family 'quadratc'; did you mean 'quadratic'\? families are "),
    ({"family": 3}, r"problem\.family: unknown family 3; families are "),
    ({"family": "quadratic", "d_u": 1, "d_v": 1}, r"problem\.n: required key is missing; expected an integer >= 1$"),
    # types
    (QUADRATIC | {"n": "ten"}, r"problem\.n: expected an integer >= 1; got 'ten'$"),
    (QUADRATIC | {"n": True}, r"problem\.n: expected an integer >= 1; got True$"),
    (QUADRATIC | {"n": 2.0}, r"problem\.n: expected an integer >= 1; got 2\.0$"),
    (QUADRATIC | {"L_u": "1"}, r"problem\.L_u: expected a finite number > 0; got '1'$"),
    (QUADRATIC | {"L_u": True}, r"problem\.L_u: expected a finite number > 0; got True$"),
    (QUADRATIC | {"L_u": None}, r"problem\.L_u: expected a finite number > 0; got None$"),
    (WAVES | {"b": 1.0}, r"problem\.b: expected an array of finite numbers; got 1\.0$"),
    (WAVES | {"b": ["x"]}, r"problem\.b: expected an array of finite numbers; got 'x' at \[0\]$"),
    (WAVES | {"b": [True]}, r"problem\.b: expected an array of finite numbers; got True at \[0\]$"),
    (WAVES | {"h": [[1.0], [nan]]}, r"problem\.h: expected an array of arrays of finite numbers; got nan at \[1\]"),
    (WAVES | {"h": [1.0, -1.0]}, r"problem\.h: expected an array of arrays of finite numbers; got 1\.0 at \[0\]$"),
    (PERSONAL | {"base": 3}, r"problem\.base: expected a table; got 3$"),
    ({"family": "sharp", "kind": 3}, r"problem\.kind: expected a string; got 3$"),
    # ranges
    (QUADRATIC | {"n": 0}, r"problem\.n: expected an integer >= 1; got 0$"),
    (QUADRATIC | {"d_v": -1}, r"problem\.d_v: expected an integer >= 0; got -1$"),
    (QUADRATIC | {"seed": -1}, r"problem\.seed: expected an integer >= 0; got -1$"),
    (QUADRATIC | {"coupling": 1.0}, r"problem\.coupling: expected a finite number >= 0 and < 1; got 1\.0$"),
    (QUADRATIC | {"L_v": 0.0}, r"problem\.L_v: expected a finite number > 0; got 0\.0$"),
    (QUADRATIC | {"spread": inf}, r"problem\.spread: expected a finite number >= 0; got inf$"),
    (QUADRATIC | {"spread": 10**400}, r"problem\.spread: expected a finite number >= 0; got 1000"),
    (QUADRATIC | {"n": 1, "indefinite": 0.5}, r"problem\.indefinite must be 0 where n = 1 or d_u = 0; got 0\.5$"),
    (QUADRATIC | {"d_u": 0, "d_v": 0}, r"problem\.d_u \+ d_v must be at least 1; got 0$"),
    (RESIDUALS | {"rows": 0}, r"problem\.rows: expected an integer >= 1; got 0$"),
    (RESIDUALS | {"scale": 0.0}, r"problem\.scale: expected a finite number > 0; got 0\.0$"),
    (RESIDUALS | {"d_u": 0, "d_v": 0}, r"problem\.d_u \+ d_v must be at least 1; got 0$"),
    (PERSONAL | {"lam": 0.0}, r"problem\.lam: expected a finite number > 0; got 0\.0$"),
    # unknown keys
    (QUADRATIC | {"couplin": 0.1}, r"problem\.couplin: unknown key; did you mean 'coupling'\? known keys: n, d_u"),
    (QUADRATIC | {"zz": 0.1}, r"problem\.zz: unknown key; known keys: n, d_u, "),
    # shapes and values of arrays
    (WAVES | {"a": [1.0, 1.0]}, r"problem\.a must have shape \(1,\); got \(2,\)$"),
    (WAVES | {"kappa": []}, r"problem\.kappa must have shape \(1,\); got \(0,\)$"),
    (WAVES | {"s": [[0.0]]}, r"problem\.s must have shape \(2, any\); got \(1, 1\)$"),
    (WAVES | {"s": [[0.0], []]}, r"problem\.s must be an array of numbers of shape \(any, any\); got "),
    (WAVES | {"a": [-1.0]}, r"problem\.a must be >= 0; got -1\.0$"),
    (WAVES | {"b": [-0.5]}, r"problem\.b must be >= 0; got -0\.5$"),
    (WAVES | {"h": [[1.0], [-0.9]]}, r"problem\.h must have rows that sum to zero .* got a sum of 0\.1$"),
    (WAVES | {"h": [[1e-14], [-0.9e-14]]}, r"problem\.h must have rows that sum to zero"),
    (WAVES | {"h": [], "s": []}, r"problem\.h must have shape \(any, any\); got \(0,\)$"),
    (MATRICES | {"A": [[[1.0, 2.0]]]}, r"problem\.A must have shape \(1, 1, 1\); got \(1, 1, 2\)$"),
    (
        MATRICES | {"A": [[[1.0, 2.0], [0.0, 1.0]]], "C": [[[0.0], [0.0]]], "a": [[0.0, 0.0]]},
        r"problem\.A must hold symmetric matrices; got an asymmetry of 2$",
    ),
    (MATRICES | {"B": [[[-1.0]]]}, r"problem: F must be bounded below; B has the eigenvalue -1 < 0$"),
    (
        MATRICES | {"C": [[[1.1]]]},
        r"problem: F must be bounded below; mean A_i - C_i B_i\^-1 C_i\^T has the eigenvalue -0\.21 < 0$",
    ),
    (MATRICES | {"B": [[[0.0]]]}, r"problem: F must be bounded below; b or C acts along a direction in which some B_i"),
    (MATRICES | {"C": [[[1.0]]], "a": [[1.0]]}, r"problem: F must be bounded below; its linear part a, b acts along"),
    (
        {"family": "residuals_arrays", "A": [[[1.0]]], "B": [[[1.0]]], "c": [[1.0, 2.0]]},
        r"problem\.A must have shape \(1, 2, any\); got \(1, 1, 1\)$",
    ),
    # a base inside
    (PERSONAL | {"base": BASE | {"n": 0}}, r"problem\.base\.n: expected an integer >= 1; got 0$"),
    (PERSONAL | {"base": BASE | {"sed": 0}}, r"problem\.base\.sed: unknown key; did you mean 'seed'\?"),
    (PERSONAL | {"base": {}}, r"problem\.base\.family: required key is missing"),
    (PERSONAL | {"base": BASE | {"d_u": 1}}, r"problem\.base must have d_u = 0 .*; got d_u=1$"),
    (
        PERSONAL | {"base": {"family": "trigonometric_arrays", "a": [], "b": [], "kappa": [], "h": [[]], "s": [[]]}},
        r"problem\.base must have d_v >= 1; got 0$",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("table", "sentence"), BAD)
def test_a_bad_table_gets_one_sentence(table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match="^" + sentence) as error:
        build_problem(table)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_the_place_of_the_table_is_named() -> None:
    with pytest.raises(InputError, match=r"^my\.toml\[3\]\.n: expected"):
        build_problem(QUADRATIC | {"n": None}, where="my.toml[3]")


# ---- calling with a table ---------------------------------------------------------------------------------------


def build(
    *,
    n: Count,
    name: str,
    kind: Literal["red", "blue"] = "red",
    d: Size = 0,
    scale: Positive = 1.0,
    spread: NotNegative = 0.0,
    share: Share = 0.5,
    flag: bool = False,
    dof: float | None = None,
    rows: Matrix | None = None,
) -> dict[str, Any]:
    if name == "bad":
        raise InputError("name must not be 'bad'")
    if name == "worse":
        raise InputError("two of these contradict each other")
    return dict(locals())


def test_values_arrive_as_they_are() -> None:
    got = call_with(build, {"n": 2, "name": "x", "kind": "blue", "scale": 3, "rows": [[1, 2.5]]}, "table")
    assert got == {
        "n": 2,
        "name": "x",
        "kind": "blue",
        "d": 0,
        "scale": 3.0,
        "spread": 0.0,
        "share": 0.5,
        "flag": False,
        "dof": None,
        "rows": [[1.0, 2.5]],
    }
    assert isinstance(got["scale"], float)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "green"}, r"t\.kind: expected one of 'red', 'blue'; got 'green'$"),
        ({"flag": 1}, r"t\.flag: expected true or false; got 1$"),
        ({"dof": "5"}, r"t\.dof: expected a finite number; got '5'$"),
        ({"dof": nan}, r"t\.dof: expected a finite number; got nan$"),
        ({"share": 1}, r"t\.share: expected a finite number >= 0 and < 1; got 1$"),
        ({"rows": [[1.0], ["x"]]}, r"t\.rows: expected an array of arrays of finite numbers; got 'x' at \[1\]\[0\]$"),
        ({"name": "bad"}, r"t\.name must not be 'bad'$"),
        ({"name": "worse"}, r"t: two of these contradict each other$"),
        ({"name": ["x" * 100]}, r"t\.name: expected a string; got \['x{1,58}\.\.\.$"),
    ],
)
def test_each_kind_of_parameter_says_what_it_wants(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match="^" + sentence):
        call_with(build, {"n": 1, "name": "x"} | change, "t")


def test_suggestions() -> None:
    assert suggest("kapa", ["a", "kappa"]) == "did you mean 'kappa'? "
    assert suggest("zzz", ["a", "kappa"]) == ""


@pytest.mark.parametrize("family", ["trigonometric", "residuals", "quadratic"])
def test_absurd_sizes_are_refused_before_anything_is_allocated(family):
    with pytest.raises(
        InputError, match=r"problem: must hold at most \d+ numbers; n=3, d_u=99999999, d_v=1 ask for about"
    ):
        build_problem({"family": family, "n": 3, "d_u": 99999999, "d_v": 1})
