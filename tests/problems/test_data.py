"""Clients' data: every row dealt once, skew, turns, files that load and files that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedconv.problems.errors import InputError
from fedconv.problems.modules.data import (
    digits,
    dirichlet_split,
    load_folder,
    rotation_split,
    synthetic,
    train_test,
    train_validation_test,
    turned,
)
from fedconv.problems.modules.models import MLP, split
from fedconv.problems.modules.problem import ModuleProblem


def labelled(rows: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(rows * 4, dtype=torch.float64).reshape(rows, 1, 2, 2), torch.arange(rows) % 4


def test_synthetic_data_is_that_of_its_seed_and_sizes() -> None:
    first, again, other = (synthetic(n=5, inputs=6, classes=3, rows=(4, 9), seed=s) for s in (0, 0, 1))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][0][:4], other[0][0][:4])
    assert all(4 <= len(y) <= 9 and X.shape == (len(y), 6) for X, y in first)
    assert [len(y) for _, y in synthetic(n=3, inputs=2, rows=(1, 5, 2))] == [1, 5, 2]


def test_without_spread_or_noise_one_linear_head_on_shared_features_fits_all_clients() -> None:
    """Regression targets then are H tanh(Wx) with common H, W: stacked, their rank is the number of features."""
    clients = synthetic(n=3, inputs=5, classes=6, features=2, rows=40, spread=0.0, noise=0.0, task="regression")
    y = torch.cat([y for _, y in clients])
    assert y.shape == (120, 6)
    assert int(torch.linalg.matrix_rank(y)) == 2
    own = synthetic(n=3, inputs=5, classes=6, features=2, rows=40, spread=1.0, noise=0.0, task="regression")
    assert [int(torch.linalg.matrix_rank(y)) for _, y in own] == [2, 2, 2]
    assert int(torch.linalg.matrix_rank(torch.cat([y for _, y in own]))) == 6


def test_label_skew_deals_every_row_once_and_grows_as_alpha_falls() -> None:
    X, y = labelled()

    def skew(alpha: float) -> float:
        parts = dirichlet_split(X, y, 6, alpha, seed=2)
        ids = torch.cat([part.reshape(len(part), -1)[:, 0] for part, _ in parts])
        assert torch.equal(ids.sort().values, X.reshape(120, -1)[:, 0])
        for part, labels in parts:
            assert torch.equal((part.reshape(len(part), -1)[:, 0] / 4).long() % 4, labels)
        return float(np.mean([np.bincount(labels, minlength=4).max() / len(labels) for _, labels in parts]))

    assert skew(0.05) > 0.7
    assert skew(1e4) < 0.3
    assert min(len(labels) for _, labels in dirichlet_split(X, y, 30, 0.05, fewest=3)) >= 3


def test_rotations_turn_images_and_keep_labels() -> None:
    X, y = labelled()
    parts = rotation_split(X, y, 5, seed=1)
    back = [torch.rot90(part, -i, (-2, -1)) for i, (part, _) in enumerate(parts)]
    ids = torch.cat([part[:, 0, 0, 0] for part in back])
    assert torch.equal(ids.sort().values, X[:, 0, 0, 0])
    assert all(torch.equal((b[:, 0, 0, 0] / 4).long() % 4, labels) for b, (_, labels) in zip(back, parts, strict=True))
    still = rotation_split(X, y, 2, turns=[0, 0])
    assert torch.equal(torch.cat([p for p, _ in still]).sort(0).values, X.sort(0).values)


def test_rotated_clients_of_unequal_size_share_all_rows() -> None:
    X, y = labelled()
    parts = rotation_split(X, y, 6, alpha=0.3, fewest=4, turns=[0] * 6, seed=3)
    sizes = [len(labels) for _, labels in parts]
    assert min(sizes) >= 4
    assert max(sizes) > 3 * min(sizes)
    ids = torch.cat([part[:, 0, 0, 0] for part, _ in parts])
    assert torch.equal(ids.sort().values, X[:, 0, 0, 0])
    even = [len(labels) for _, labels in rotation_split(X, y, 6, alpha=1e6)]
    assert max(even) - min(even) <= 2


def test_clients_skewed_in_labels_can_be_turned_too() -> None:
    X, y = labelled()
    skewed = dirichlet_split(X, y, 5, 0.1, fewest=3, seed=1)
    for i, ((a, labels), (b, same)) in enumerate(zip(skewed, turned(skewed), strict=True)):
        assert torch.equal(torch.rot90(a, i % 4, (-2, -1)), b)
        assert torch.equal(labels, same)


def test_three_parts_hold_every_row_once_even_where_there_are_three_rows() -> None:
    clients = synthetic(n=4, inputs=2, rows=(3, 4, 20, 41))
    parts = train_validation_test(clients, 0.2, 0.25, seed=5)
    for whole, *three in zip(clients, *parts, strict=True):
        assert torch.equal(torch.cat([X for X, _ in three]).sort(0).values, whole[0].sort(0).values)
    assert [[len(y) for _, y in part] for part in parts] == [[1, 2, 11, 23], [1, 1, 4, 8], [1, 1, 5, 10]]
    again = train_validation_test(clients, 0.2, 0.25, seed=5)
    other = train_validation_test(clients, 0.2, 0.25, seed=6)
    assert torch.equal(again[2][3][0], parts[2][3][0])
    assert not torch.equal(other[2][3][0], parts[2][3][0])


def test_held_out_rows_are_apart() -> None:
    clients = synthetic(n=3, inputs=2, rows=(2, 10, 7))
    kept, held = train_test(clients, 0.3)
    for whole, a, b in zip(clients, kept, held, strict=True):
        assert len(b[1]) >= 1
        assert torch.equal(torch.cat([a[0], b[0]]).sort(0).values, whole[0].sort(0).values)
    assert [len(y) for _, y in held] == [1, 3, 2]


def test_digits_need_scikit_learn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"pip install 'fedconv\[data\]'"):
            digits()
    else:
        X, y = digits()
        assert X.shape == (1797, 1, 8, 8)
        assert float(X.min()) == 0.0
        assert float(X.max()) == 1.0
        assert sorted(y.unique().tolist()) == list(range(10))


def test_digits_with_both_skews_and_unequal_sizes_make_a_problem() -> None:
    pytest.importorskip("sklearn")
    clients = turned(dirichlet_split(*digits(), 12, 0.3, fewest=6, seed=0))
    train, _, test = train_validation_test(clients)
    model = MLP((64, 5, 10))
    problem = ModuleProblem(model, train, personal=split(model, "output"))
    assert problem.vectorised, problem.refusal
    sizes = problem.rows.sizes
    assert int(sizes.max()) > 3 * int(sizes.min())
    u, v = problem.start()
    assert problem.accuracy(u, v, test).shape == (12,)
    value = problem.value(u.expand(12, -1), v, problem.everyone())
    X, y = train[7]
    scores = torch.tanh(X.flatten(1) @ u[:320].reshape(5, 64).T + u[320:]) @ v[7, :50].reshape(10, 5).T + v[7, 50:]
    assert float(value[7]) == pytest.approx(float(torch.nn.functional.cross_entropy(scores, y)), rel=1e-12)


def test_a_folder_of_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i, rows in enumerate((3, 5)):
        np.savez(tmp_path / f"client{i}.npz", X=rng.normal(size=(rows, 2)).astype(np.float32), y=np.arange(rows))
    (tmp_path / "notes.txt").write_text("not a client")
    clients = load_folder(tmp_path)
    assert [len(y) for _, y in clients] == [3, 5]
    assert clients[0][0].dtype == torch.float64
    assert clients[0][1].dtype == torch.int64


@pytest.mark.parametrize(
    ("held", "sentence"),
    [
        ({"X": np.zeros((2, 1))}, "a.npz must hold arrays X and y; y missing"),
        ({"X": np.zeros((2, 1)), "y": np.zeros(3)}, r"a.npz: X and y must have the same number of rows >= 1"),
        ({"X": np.array([{}], dtype=object), "y": np.zeros(1)}, "a.npz cannot be read as .npz without pickle: "),
        ({"X": np.array(["one"]), "y": np.zeros(1)}, "a.npz must hold numbers; X is <U3 and y is float64"),
        (b"PK\x03\x04 damaged", "a.npz cannot be read as .npz without pickle: "),
        (b"", "a.npz cannot be read as .npz without pickle: "),
    ],
)
def test_files_that_are_refused(tmp_path: Path, held: Any, sentence: str) -> None:
    if isinstance(held, bytes):
        (tmp_path / "a.npz").write_bytes(held)
    else:
        np.savez(tmp_path / "a.npz", **held)
    with pytest.raises(InputError, match=f"^{sentence}"):
        load_folder(tmp_path)


def test_what_else_is_refused(tmp_path: Path) -> None:
    X, y = labelled(8)
    with pytest.raises(InputError, match=r"folder must hold a \.npz file for each client"):
        load_folder(tmp_path)
    with pytest.raises(InputError, match="folder must be a directory"):
        load_folder(tmp_path / "none")
    with pytest.raises(InputError, match="alpha must be a finite number > 0; got 0"):
        dirichlet_split(X, y, 2, 0.0)
    with pytest.raises(InputError, match="must be at most the 8 rows; got n = 9"):
        dirichlet_split(X, y, 9, 1.0)
    with pytest.raises(InputError, match="y must be integers"):
        dirichlet_split(X, y.double(), 2, 1.0)
    with pytest.raises(InputError, match="X must be square images"):
        rotation_split(X[:, :, :1], y, 2)
    with pytest.raises(InputError, match=r"X must be square images .*; got \(8, 1, 1, 2\)"):
        turned([(X[:, :, :1], y)])
    with pytest.raises(InputError, match="alpha must be a finite number > 0; got inf"):
        rotation_split(X, y, 2, alpha=float("inf"))
    with pytest.raises(InputError, match="n clients with at least 5 rows must be at most the 8 rows; got n = 2"):
        rotation_split(X, y, 2, alpha=1.0, fewest=5)
    with pytest.raises(InputError, match=r"clients\[1\] must have at least 3 rows to be split; got 2"):
        train_validation_test([(X, y), (X[:2], y[:2])])
    with pytest.raises(InputError, match=r"validation \+ test must be below 1; got 1\.1"):
        train_validation_test([(X, y)], 0.6, 0.5)
    with pytest.raises(InputError, match=r"validation must lie in \(0, 1\); got 0"):
        train_validation_test([(X, y)], 0.0)
    with pytest.raises(InputError, match="turns must hold a number for each of the n = 2"):
        rotation_split(X, y, 2, turns=[1])
    with pytest.raises(InputError, match="rows must be at least 1"):
        synthetic(n=3, inputs=2, rows=0)
    with pytest.raises(InputError, match="spread must be a finite number >= 0; got -1"):
        synthetic(n=3, inputs=2, spread=-1.0)
    with pytest.raises(InputError, match=r"clients\[0\] must have at least 2 rows"):
        train_test([(X[:1], y[:1])])
