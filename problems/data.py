"""Clients' data: synthetic tasks with shared features, label skew, rotations, digits, folders of files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from problems.errors import InputError

Client = tuple[Tensor, Tensor]
"""X ``(rows, ...)`` float64 and y ``(rows,)`` integers, or numbers for regression."""


def synthetic(
    *,
    n: int,
    inputs: int,
    classes: int = 3,
    features: int = 4,
    rows: int | Sequence[int] = (20, 60),
    spread: float = 1.0,
    noise: float = 0.1,
    task: Literal["classification", "regression"] = "classification",
    seed: int = 0,
) -> list[Client]:
    """n clients who share features φ(x) = tanh(Wx) and have heads H_i = H + spread·(own part), all entries normal.

    x normal ``(inputs,)``, W ``(features, inputs)`` with variance 1/inputs. classification: y is the class of the
    largest entry of H_i φ(x) + noise·normal; regression: y = H_i φ(x) + noise·normal, ``(rows, classes)``. rows: a
    number for all clients, one for each, or a pair (fewest, most) of which each client draws its own when n is not 2.
    Raises InputError for sizes < 1 or numbers that are negative or not finite.
    """
    for name, size in (("n", n), ("inputs", inputs), ("classes", classes), ("features", features)):
        if size < 1:
            raise InputError(f"{name} must be at least 1; got {size}")
    for name, value in (("spread", spread), ("noise", noise)):
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name} must be a finite number >= 0; got {value}")
    if task not in ("classification", "regression"):
        raise InputError(f"task must be 'classification' or 'regression'; got {task!r}")
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    W = rng.standard_normal((features, inputs)) / math.sqrt(inputs)
    H = rng.standard_normal((classes, features))
    out = []
    for count in _counts(rows, n, rng):
        own = H + spread * rng.standard_normal((classes, features))
        X = rng.standard_normal((count, inputs))
        scores = np.tanh(X @ W.T) @ own.T + noise * rng.standard_normal((count, classes))
        y = scores.argmax(-1) if task == "classification" else scores
        out.append((torch.from_numpy(X), torch.from_numpy(y)))
    return out


def dirichlet_split(X: Tensor, y: Tensor, n: int, alpha: float, *, fewest: int = 1, seed: int = 0) -> list[Client]:
    """Rows dealt to n clients by label skew: the rows of each class in shares Dirichlet(α, ..., α) over the clients.

    Small α: few classes a client; α → ∞: equal shares. Every row goes to one client. Clients with fewer than ``fewest``
    rows take rows at random from the largest client. Raises InputError for y that are not integers ``(rows,)``, α ≤ 0
    or fewer than n·fewest rows.
    """
    _labelled(X, y)
    if not (math.isfinite(alpha) and alpha > 0):
        raise InputError(f"alpha must be a finite number > 0; got {alpha}")
    if n < 1 or fewest < 1 or n * fewest > len(y):
        raise InputError(f"n clients with at least {fewest} rows must be at most the {len(y)} rows; got n = {n}")
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    labels = y.cpu().numpy()
    parts: list[list[int]] = [[] for _ in range(n)]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.round(np.cumsum(rng.dirichlet(np.full(n, alpha)))[:-1] * len(rows)).astype(int)
        for part, chosen in zip(parts, np.split(rows, cuts), strict=True):
            part.extend(chosen.tolist())
    for part in parts:
        while len(part) < fewest:
            largest = max(parts, key=len)
            part.append(largest.pop(int(rng.integers(len(largest)))))
    return [(X[sorted(part)], y[sorted(part)]) for part in parts]


def rotation_split(X: Tensor, y: Tensor, n: int, *, turns: Sequence[int] | None = None, seed: int = 0) -> list[Client]:
    """Square images X ``(rows, ..., h, h)`` dealt evenly to n clients, client i's turned by ``turns[i]`` quarter turns
    (default i mod 4), so that clients share labels and differ in their inputs."""
    _labelled(X, y)
    if X.ndim < 3 or X.shape[-1] != X.shape[-2]:
        raise InputError(f"X must be square images (rows, ..., h, h) to be turned; got {tuple(X.shape)}")
    if not 1 <= n <= len(y):
        raise InputError(f"n must lie between 1 and the number of rows, {len(y)}; got {n}")
    given = [i % 4 for i in range(n)] if turns is None else list(turns)
    if len(given) != n:
        raise InputError(f"turns must hold a number for each of the n = {n} clients; got {len(given)}")
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(len(y))
    parts = [torch.from_numpy(part) for part in np.array_split(order, n)]
    return [(torch.rot90(X[p], k, (-2, -1)).contiguous(), y[p]) for p, k in zip(parts, given, strict=True)]


def digits() -> Client:
    """scikit-learn's bundled 1797 digits: X ``(1797, 1, 8, 8)`` in [0, 1], y ``(1797,)``.

    Raises InputError where scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("the digits need scikit-learn; pip install 'fedconv[data]'") from error
    pixels, labels = load_digits(return_X_y=True)
    X = torch.from_numpy(np.asarray(pixels, dtype=np.float64) / 16.0).reshape(-1, 1, 8, 8)
    return X, torch.from_numpy(np.asarray(labels, dtype=np.int64))


def load_folder(folder: str | Path) -> list[Client]:
    """The clients of a folder: one ``.npz`` file each, in the order of their names, with arrays ``X`` and ``y``.

    Nothing is unpickled. Raises InputError for a folder without such files, a file that cannot be read, a missing
    array, or X and y of different lengths.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"folder must be a directory with a .npz file for each client; got {str(path)!r}")
    files = sorted(path.glob("*.npz"))
    if not files:
        raise InputError(f"folder must hold a .npz file for each client; {str(path)!r} has none")
    return [_load(file) for file in files]


def train_test(clients: Sequence[Client], share: float = 0.25, *, seed: int = 0) -> tuple[list[Client], list[Client]]:
    """(training rows, held-out rows) of every client: ``share`` of its rows, at least one, held out at random.

    Raises InputError for a share outside (0, 1) or a client with one row.
    """
    if not 0 < share < 1:
        raise InputError(f"share must lie in (0, 1); got {share}")
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    kept, held = [], []
    for i, (X, y) in enumerate(clients):
        if len(y) < 2:
            raise InputError(f"clients[{i}] must have at least 2 rows to be split; got {len(y)}")
        order = torch.from_numpy(rng.permutation(len(y)))
        out = min(max(1, round(share * len(y))), len(y) - 1)
        held.append((X[order[:out]], y[order[:out]]))
        kept.append((X[order[out:]], y[order[out:]]))
    return kept, held


def _counts(rows: int | Sequence[int], n: int, rng: np.random.Generator) -> list[int]:
    if isinstance(rows, int):
        counts = [rows] * n
    elif len(rows) == n:
        counts = [int(x) for x in rows]
    elif len(rows) == 2 and 1 <= rows[0] <= rows[1]:
        counts = [int(x) for x in rng.integers(rows[0], rows[1] + 1, n)]
    else:
        raise InputError(f"rows must be a number, a pair (fewest, most) or {n} numbers >= 1; got {rows!r}")
    if min(counts) < 1:
        raise InputError(f"rows must be at least 1 for every client; got {min(counts)}")
    return counts


def _labelled(X: Tensor, y: Tensor) -> None:
    if y.ndim != 1 or y.is_floating_point() or len(X) != len(y) or len(y) == 0:
        raise InputError(f"y must be integers of shape (rows,) for X of as many rows; got {y.dtype} {tuple(y.shape)}")


def _load(file: Path) -> Client:
    try:
        with file.open("rb") as handle, np.load(handle, allow_pickle=False) as held:
            missing = [name for name in ("X", "y") if name not in held.files]
            if missing:
                raise InputError(f"{file.name} must hold arrays X and y; {', '.join(missing)} missing")
            X, y = held["X"], held["y"]
    except InputError:
        raise
    except Exception as error:  # a damaged archive raises errors of zipfile, zlib, struct and numpy
        raise InputError(f"{file.name} cannot be read as .npz without pickle: {error}") from error
    if X.dtype.kind not in "iuf" or y.dtype.kind not in "iuf":
        raise InputError(f"{file.name} must hold numbers; X is {X.dtype} and y is {y.dtype}")
    if X.ndim < 1 or y.ndim < 1 or len(X) != len(y) or len(X) == 0:
        raise InputError(f"{file.name}: X and y must have the same number of rows >= 1; got {X.shape} and {y.shape}")
    whole = y.dtype.kind in "iu"
    return torch.from_numpy(X.astype(np.float64)), torch.from_numpy(y.astype(np.int64 if whole else np.float64))
