"""Clients' data: synthetic tasks with shared features, label skew, rotations, digits, folders of files."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedconv.problems.errors import InputError

LARGEST_UNPACKED = 2 << 30
"""Bytes (2 GiB) of a client's file once it is unpacked."""

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


def rotation_split(
    X: Tensor,
    y: Tensor,
    n: int,
    *,
    turns: Sequence[int] | None = None,
    alpha: float | None = None,
    fewest: int = 1,
    seed: int = 0,
) -> list[Client]:
    """Square images X ``(rows, ..., h, h)`` dealt to n clients at random and turned as in :func:`turned`, so that
    clients share labels and differ in their inputs.

    alpha: None for clients of one size (± 1 row), or shares of all rows Dirichlet(α, ..., α), the smaller α the more
    unequal, but at least ``fewest`` rows each. Raises InputError for y that are not integers ``(rows,)``, rows that
    are no square images, α ≤ 0, or fewer than n·fewest rows.
    """
    _labelled(X, y)
    if not 1 <= n <= len(y):
        raise InputError(f"n must lie between 1 and the number of rows, {len(y)}; got {n}")
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    order = rng.permutation(len(y))
    if alpha is None:
        parts = np.array_split(order, n)
    else:
        if not (math.isfinite(alpha) and alpha > 0):
            raise InputError(f"alpha must be a finite number > 0; got {alpha}")
        if fewest < 1 or n * fewest > len(y):
            raise InputError(f"n clients with at least {fewest} rows must be at most the {len(y)} rows; got n = {n}")
        ends = np.round(np.cumsum(rng.dirichlet(np.full(n, alpha)))[:-1] * (len(y) - n * fewest)).astype(int)
        parts = np.split(order, ends + fewest * np.arange(1, n))
    chosen = [torch.from_numpy(part) for part in parts]
    return turned([(X[p], y[p]) for p in chosen], turns)


def turned(clients: Sequence[Client], turns: Sequence[int] | None = None) -> list[Client]:
    """The clients with square images ``(rows, ..., h, h)`` turned: client i's by ``turns[i]`` quarter turns (default
    i mod 4). After :func:`dirichlet_split`, clients differ in labels and in inputs.

    Raises InputError for rows that are no square images, or another number of turns than clients.
    """
    given = [i % 4 for i in range(len(clients))] if turns is None else list(turns)
    if len(given) != len(clients):
        raise InputError(f"turns must hold a number for each of the n = {len(clients)} clients; got {len(given)}")
    for X, _ in clients:
        if X.ndim < 3 or X.shape[-1] != X.shape[-2]:
            raise InputError(f"X must be square images (rows, ..., h, h) to be turned; got {tuple(X.shape)}")
    return [(torch.rot90(X, k, (-2, -1)).contiguous(), y) for (X, y), k in zip(clients, given, strict=True)]


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
    kept, held = _apart(clients, {"share": share}, seed)
    return kept, held


def train_validation_test(
    clients: Sequence[Client], validation: float = 0.2, test: float = 0.25, *, seed: int = 0
) -> tuple[list[Client], list[Client], list[Client]]:
    """(training, validation, test rows) of every client: the given shares of its rows at random, at least one row in
    each of the three. Step sizes are chosen on validation rows, and test rows are for what is reported.

    Raises InputError for shares outside (0, 1) or with sum ≥ 1, or a client with fewer than three rows.
    """
    kept, held, tested = _apart(clients, {"validation": validation, "test": test}, seed)
    return kept, held, tested


def _apart(clients: Sequence[Client], shares: Mapping[str, float], seed: int) -> list[list[Client]]:
    """The rows of every client in 1 + len(shares) parts, the first what the shares leave over; no part is empty."""
    for name, share in shares.items():
        if not 0 < share < 1:
            raise InputError(f"{name} must lie in (0, 1); got {share}")
    if not (total := sum(shares.values())) < 1:
        raise InputError(f"{' + '.join(shares)} must be below 1; got {total:g}")
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    out: list[list[Client]] = [[] for _ in range(1 + len(shares))]
    for i, (X, y) in enumerate(clients):
        if len(y) < len(out):
            raise InputError(f"clients[{i}] must have at least {len(out)} rows to be split; got {len(y)}")
        order, taken = torch.from_numpy(rng.permutation(len(y))), 0
        for k, share in enumerate(shares.values(), start=1):
            later = len(shares) - k + 1  # parts that still need a row: those behind, and the first
            count = min(max(1, round(share * len(y))), len(y) - taken - later)
            rows = order[taken : taken + count]
            out[k].append((X[rows], y[rows]))
            taken += count
        out[0].append((X[order[taken:]], y[order[taken:]]))
    return out


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
        with zipfile.ZipFile(file) as archive:
            size = sum(about.file_size for about in archive.infolist())
        if size > LARGEST_UNPACKED:
            raise InputError(f"{file.name} must unpack to at most {LARGEST_UNPACKED} bytes; it would to {size}")
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
