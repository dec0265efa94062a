"""Any torch module as a problem: clients with data of their own and one architecture, as one flat parameter vector."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedconv.problems.base import Constant, Constants, Problem
from fedconv.problems.errors import InputError
from fedconv.problems.layers import Layer, Layout
from fedconv.problems.modules.models import MLP
from fedconv.problems.validation import Count, NotNegative, Size

Loss = Literal["cross_entropy", "squared"]

POINTS, ITERATIONS = 3, 20
"""Points and power iterations by which the smoothness constant is estimated."""


class TorchModel(Problem):
    """F_i(u, v_i) = (1/rows) Σ_r loss(model(x_ir), y_ir) + (ν/2)‖(u, v_i)‖², model a module with parameters (u, v_i).

    X ``(n, rows, ...)``; y ``(n, rows)`` integers for ``cross_entropy``, numbers shaped like the output for ``squared``
    (½ the sum over outputs). ``personal``: beginnings of the names of the parameters that make up v, the others being
    u. The module is copied, in float64 and in evaluation mode; ``layout`` are its parameters, u before v.

    F★ ≥ 0. No smoothness constant is known for a general module: L is *estimated* by power iterations on the Hessians
    at the module's own parameters and near them (L_u, L_v, L_uv, L_vu are all this whole-model estimate), δ is unknown.
    Raises InputError for data of the wrong shape or type, and where ``personal`` names no parameter.
    """

    family: ClassVar[str] = "torch_model"
    nonnegative = True

    def __init__(
        self, module: nn.Module, X: Tensor, y: Tensor, *, loss: Loss = "cross_entropy", personal: Sequence[str] = (),
        nu: float = 0.0,
    ) -> None:  # fmt: skip
        if loss not in get_args(Loss):
            raise InputError(f"loss must be one of {', '.join(get_args(Loss))}; got {loss!r}")
        if not nu >= 0:
            raise InputError(f"nu must be >= 0; got {nu}")
        if X.ndim < 2 or y.ndim < 2 or X.shape[:2] != y.shape[:2] or 0 in X.shape[:2]:
            raise InputError(
                f"X and y must both begin with (n, rows), n >= 1 and rows >= 1; got {tuple(X.shape)}, {tuple(y.shape)}"
            )
        if loss == "cross_entropy" and (y.ndim != 2 or y.is_floating_point()):
            raise InputError(f"y must be integers of shape (n, rows) for cross_entropy; got {y.dtype} {tuple(y.shape)}")
        self.loss: Loss = loss
        self.nu = float(nu)
        self.module = copy.deepcopy(module).double().eval()
        named = dict(self.module.named_parameters())
        for prefix in personal:
            if not any(name.startswith(prefix) for name in named):
                raise InputError(f"personal must begin names of parameters, {', '.join(named)}; got {prefix!r}")
        mine = [name for name in named if any(name.startswith(prefix) for prefix in personal)]
        self.names = [name for name in named if name not in mine] + mine
        self.shapes = [tuple(named[name].shape) for name in self.names]
        self.n = X.shape[0]
        self.d_v = sum(named[name].numel() for name in mine)
        self.d_u = sum(p.numel() for p in named.values()) - self.d_v
        self.X, self.y = X.double(), y if loss == "cross_entropy" else y.double()
        self.layout = _layout(self.module, self.names, self.X[0, :1])
        self._lock = threading.Lock()
        self._seed = torch.cat([named[name].detach().reshape(-1) for name in self.names])

    def to(self, device: torch.device | str) -> TorchModel:
        out = copy.copy(self)
        vars(out).pop("constants", None)
        out.module = copy.deepcopy(self.module).to(device)
        out.X, out.y, out._seed = self.X.to(device), self.y.to(device), self._seed.to(device)
        out._lock = threading.Lock()
        return out

    @property
    def device(self) -> torch.device:
        return self.X.device

    def start(self) -> tuple[Tensor, Tensor]:
        """The module's own parameters: u ``(d_u,)`` and v ``(n, d_v)``, the same for all clients."""
        return self._seed[: self.d_u].clone(), self._seed[self.d_u :].expand(self.n, -1).clone()

    @property
    def joint_smoothness(self) -> Constant:
        """The estimated L of (u, v) together."""
        return self.constants.L_u

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self._mapped(self._one, u, v, clients)

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self._mapped(grad(self._one), u, v, clients)[..., : self.d_u]

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self._mapped(grad(self._one), u, v, clients)[..., self.d_u :]

    def accuracy(self, u: Tensor, v: Tensor, X: Tensor, y: Tensor) -> Tensor:
        """Share of rows where client i's model u ``(n, d_u)``, v ``(n, d_v)`` puts the class y ``(n, rows)`` first at
        X ``(n, rows, ...)``: ``(n,)``."""
        with self._lock, torch.no_grad():
            scores = vmap(self._scores)(torch.cat([u, v], -1), X.double())
        return (scores.argmax(-1) == y).double().mean(-1)

    def _scores(self, w: Tensor, X: Tensor) -> Tensor:
        parts = torch.split(w, list(self.layout.sizes))
        named = {name: p.reshape(s) for name, p, s in zip(self.names, parts, self.shapes, strict=True)}
        return functional_call(self.module, named, (X,))

    def _one(self, w: Tensor, X: Tensor, y: Tensor) -> Tensor:
        """The loss of one client with rows X, y at w ``(d,)``."""
        scores = self._scores(w, X)
        if self.loss == "cross_entropy":
            picked = torch.log_softmax(scores, -1).gather(-1, y[:, None])
            data = -picked.mean()
        else:
            data = 0.5 * (scores - y).square().sum() / y.shape[0]
        return data + 0.5 * self.nu * w.square().sum()

    def _mapped(self, function: Callable[..., Tensor], u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        """``function(w, X_i, y_i)`` for every client of the batch. Under a lock: a module holds one set of parameters
        at a time."""
        shape = torch.broadcast_shapes(u.shape[:-1], v.shape[:-1], clients.shape)
        w = torch.cat([u.expand(*shape, self.d_u), v.expand(*shape, self.d_v)], -1).reshape(-1, self.d_u + self.d_v)
        which = clients.expand(shape).reshape(-1)
        if not len(which):  # no client at all, say where nobody is absent: vmap wants at least one
            return w.new_zeros(shape if function == self._one else (*shape, self.d_u + self.d_v))
        with self._lock:
            out = vmap(function)(w, self.X[which], self.y[which])
        return out.reshape(*shape, *out.shape[1:])

    def _constants(self) -> Constants:
        L = Constant(self._estimate(), "estimated", f"power iterations at {POINTS} points")
        alone = self.n == 1
        return Constants(
            L_u=L, L_v=L, L_uv=L, L_vu=L,
            delta=Constant(0.0 if alone else float("inf"), "upper", "one client" if alone else "none known"),
            rho=Constant(0.0, "exact", "not needed"),
            F_star=Constant(0.0, "upper", "losses are nonnegative"),
        )  # fmt: skip

    def _estimate(self) -> float:
        """Largest ‖∇²F_i w‖/‖w‖ found: all clients at POINTS points, ITERATIONS power iterations each."""
        rng = np.random.default_rng(0)
        d, largest = self.d_u + self.d_v, 0.0
        for k in range(POINTS):
            shift = 0.1 * k * torch.from_numpy(rng.standard_normal(d)).to(self.device)
            at = (self._seed + shift).expand(self.n, -1)
            direction = torch.from_numpy(rng.standard_normal((self.n, d))).to(self.device)
            for _ in range(ITERATIONS):
                direction = direction / direction.norm(dim=-1, keepdim=True).clamp(min=1e-300)
                with self._lock:
                    direction = vmap(self._curved)(at, direction, self.X, self.y).detach()
            largest = max(largest, float(direction.norm(dim=-1).max()))
        return largest

    def _curved(self, w: Tensor, direction: Tensor, X: Tensor, y: Tensor) -> Tensor:
        """∇²F_i times a direction, as the gradient of ⟨∇F_i, direction⟩."""
        return grad(lambda x: (grad(self._one)(x, X, y) * direction).sum())(w)


def _layout(module: nn.Module, names: Sequence[str], sample: Tensor) -> Layout:
    """A layer for each parameter; output positions are seen on one forward pass with ``sample``."""
    positions: dict[str, int] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(part: nn.Module, _: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                convolution = isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
                channels = output.shape[1] if convolution else output.shape[-1]
                positions[name] = max(1, output.numel() // (output.shape[0] * channels))

        return hook

    handles = [part.register_forward_hook(watch(name)) for name, part in module.named_modules()]
    try:
        with torch.no_grad():
            module(sample)
    finally:
        for handle in handles:
            handle.remove()
    named = dict(module.named_parameters())

    def layer(name: str) -> Layer:
        shape = tuple(named[name].shape)
        return Layer(name, shape or (1,), positions.get(name.rpartition(".")[0], 1), bias=len(shape) < 2)

    return Layout(tuple(map(layer, names)))


def clusters(
    *, n: int, inputs: int, classes: int, rows: int, spread: float = 1.0, noise: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Synthetic classification: rows x = c_y + spread·(client's own shift of class y) + noise·normal, labels y uniform.

    Returns X ``(n, rows, inputs)`` and y ``(n, rows)``. The first half of longer data is not that of shorter data:
    split one draw to get training and held-out rows.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    common = rng.standard_normal((classes, inputs))
    own = common + spread * rng.standard_normal((n, classes, inputs))
    y = rng.integers(0, classes, (n, rows))
    X = own[np.arange(n)[:, None], y] + noise * rng.standard_normal((n, rows, inputs))
    return torch.from_numpy(X), torch.from_numpy(y)


def build_mlp(
    *,
    n: Count,
    inputs: Count = 4,
    hidden: Count = 8,
    classes: Count = 3,
    rows: Count = 20,
    spread: NotNegative = 1.0,
    noise: NotNegative = 1.0,
    nu: NotNegative = 0.01,
    personal: Literal["none", "head"] = "none",
    seed: Size = 0,
) -> TorchModel:
    """An ``MLP`` with one hidden layer and cross-entropy on ``clusters``; personal = "head" makes the last layer v."""
    if classes < 2:
        raise InputError(f"classes must be an integer >= 2; got {classes}")
    X, y = clusters(n=n, inputs=inputs, classes=classes, rows=rows, spread=spread, noise=noise, seed=seed)
    head = ("layers.1",) if personal == "head" else ()
    return TorchModel(MLP((inputs, hidden, classes), seed), X, y, personal=head, nu=nu)


__all__ = ["MLP", "TorchModel", "build_mlp", "clusters"]
