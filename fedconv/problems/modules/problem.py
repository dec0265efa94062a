"""Any torch module as a problem with a personal part: clients with data of unequal size, one architecture, any loss."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedconv.problems.base import Constant, Constants, Problem
from fedconv.problems.errors import InputError
from fedconv.problems.modules.hessian_norms import block_norms
from fedconv.problems.modules.losses import LOSSES, Loss, cross_entropy, squared
from fedconv.problems.modules.personal_part import Personal, check_module, personal_names
from fedconv.problems.modules.rows import Rows, client_weights, stack

GATHERED = 20_000_000
"""Numbers of clients' data that are copied side by side at once; larger batches are cut."""

SLOPES = 2_000_000
"""Numbers of single rows' gradients that are held at once; a row of a larger model still is."""


class ModuleProblem(Problem):
    """F_i(u, v_i) = ω_i ((1/N_i) Σ_r loss(model_{u,v_i}(x_ir), y_ir) + (ν/2)‖(u, v_i)‖²), any torch module.

    clients: for each client a pair (X_i ``(N_i, ...)``, y_i ``(N_i, ...)``) of tensors or a ``Dataset`` of such rows;
    sizes may differ. F = (1/n) Σ_i F_i. weights: numbers ≥ 0, then ω_i = n weight_i / Σ weights; left out, ω_i = 1, so
    that every *client* counts the same, however many rows it has.
    personal: the parameters that make up v (glob patterns or beginnings of their names, or a predicate on a name); the
    others make up u, in the module's order. Parameters with ``requires_grad = False`` and buffers are constants.
    loss: "cross_entropy", "squared" or a function of (outputs, y) that gives one number a row ``(rows,)``; for such a
    function ``lower_bound`` states a number below F (0 for the two named losses).

    The module is copied, in float64 and in evaluation mode; a module handed over in training mode with dropout or batch
    norm is refused, as F must be a function of (u, V) alone. Clients and replicates are vectorised by ``torch.func``;
    where ``vmap`` cannot take the module, or gives other numbers than one client after another on its own rows does,
    ``vectorised`` is False, ``refusal`` says why, and a plain loop computes.

    All constants are *estimated* at the module's own parameters (``fedconv.analysis.constants.estimate`` does better,
    along a run).
    """

    family: ClassVar[str] = "module"

    def __init__(
        self,
        module: nn.Module,
        clients: Sequence[Any],
        *,
        personal: Personal = (),
        loss: str | Loss = "cross_entropy",
        weights: Sequence[float] | None = None,
        nu: float = 0.0,
        lower_bound: float | None = None,
    ) -> None:
        if isinstance(loss, str) and loss not in LOSSES:
            raise InputError(f"loss must be a function or one of {', '.join(LOSSES)}; got {loss!r}")
        if not (0 <= nu < float("inf")):
            raise InputError(f"nu must be a finite number >= 0; got {nu}")
        if not isinstance(loss, str) and lower_bound is None:
            raise InputError("lower_bound must state a number below F (0 if the loss is never negative); got None")
        self.loss: Loss = LOSSES[loss] if isinstance(loss, str) else loss
        self.classes = loss == "cross_entropy"
        self.nu, self.lower_bound = float(nu), 0.0 if lower_bound is None else float(lower_bound)
        check_module(module)
        self.module = copy.deepcopy(module).double().eval()
        named = {k: p for k, p in self.module.named_parameters() if p.requires_grad}
        if not named:
            raise InputError("module must have a parameter that requires a gradient; got none")
        mine = personal_names(list(named), personal)
        self.shapes = {k: tuple(p.shape) for k, p in named.items()}
        self._split({k: p.detach().cpu() for k, p in named.items()}, mine)
        self.module.requires_grad_(False)
        self.rows = stack(clients, self.classes)
        self.n = self.rows.n
        self.weights = client_weights(weights, self.n)
        self._lock = threading.Lock()
        self.module.to(self.rows.X.device)
        self._u, self._v = self._u.to(self.device), self._v.to(self.device)
        self.weights = self.weights.to(self.device)
        self.vectorised, self.refusal = True, ""
        self._probe()

    # ---- the contract ---------------------------------------------------------------------------------------

    def value(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self._mapped("value", u, v, clients)

    def grad_u(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self._mapped("u", u, v, clients)

    def grad_v(self, u: Tensor, v: Tensor, clients: Tensor) -> Tensor:
        return self._mapped("v", u, v, clients)

    def to(self, device: torch.device | str) -> ModuleProblem:
        out = copy.copy(self)
        vars(out).pop("constants", None)
        out.module = copy.deepcopy(self.module).to(device)
        out.rows, out.weights = self.rows.to(device), self.weights.to(device)
        out._u, out._v = self._u.to(device), self._v.to(device)
        out._lock = threading.Lock()
        return out

    @property
    def device(self) -> torch.device:
        return self.rows.X.device

    def start(self) -> tuple[Tensor, Tensor]:
        """The module's own parameters: u ``(d_u,)`` and V ``(n, d_v)``, the same for all clients."""
        return self._u.clone(), self._v.expand(self.n, -1).clone()

    def with_personal(self, personal: Personal) -> ModuleProblem:
        """The same model, parameters and data with another split: ``()`` shares everything, ``"*"`` nothing."""
        out = copy.copy(self)
        vars(out).pop("constants", None)
        out.spec = None
        chosen = personal_names(list(self.shapes), personal)
        out._split(self._parts(self._u, self.names_u) | self._parts(self._v, self.names_v), chosen)
        return out

    def joined(self, u: Tensor, v: Tensor) -> Tensor:
        """All parameters of models with u ``(..., d_u)`` and v ``(..., d_v)`` in the module's order, whatever the
        split: ``(..., d_u + d_v)``, which is the u of ``with_personal(())`` and the v of ``with_personal("*")``."""
        lead = torch.broadcast_shapes(u.shape[:-1], v.shape[:-1])
        named: dict[str, Tensor] = {}
        for vector, names in ((u, self.names_u), (v, self.names_v)):
            sizes = [math.prod(self.shapes[k]) for k in names]
            parts = torch.split(vector.expand(*lead, vector.shape[-1]), sizes, -1) if names else ()
            named |= dict(zip(names, parts, strict=True))
        return torch.cat([named[k] for k in self.shapes], -1)

    def on(self, clients: Sequence[Any]) -> ModuleProblem:
        """The same model on other rows, one entry a client: F_i is the mean loss alone, with ω_i = 1 and ν = 0.

        Raises InputError for another number of clients than n, or rows unlike the problem's.
        """
        rows = self._others(clients)
        out = copy.copy(self)
        vars(out).pop("constants", None)
        out.spec, out.rows, out.weights, out.nu = None, rows, torch.ones_like(self.weights), 0.0
        return out

    def with_constants(self, constants: Constants) -> ModuleProblem:
        """The same problem with these constants, as estimated along a run."""
        out = copy.copy(self)
        vars(out)["constants"] = constants
        return out

    def _constants(self) -> Constants:
        u, v = self.start()
        spread = u.expand(self.n, -1)
        found = block_norms(self, spread, v)
        each = self.grad_u(spread, v, self.everyone())
        delta = float((each - each.mean(0)).square().sum(-1).mean().sqrt())
        at = "at the module's own parameters"

        def known(value: float) -> Constant:
            return Constant(value, "estimated", at)

        L_u, L_v, cross = (float(x.max()) for x in (found.L_u, found.L_v, found.L_uv))
        return Constants(
            known(L_u), known(L_v), known(cross), known(cross), known(delta), Constant(0.0, "estimated", at),
            Constant(self.lower_bound, "upper", "stated lower bound"),
        )  # fmt: skip

    # ---- mini-batches ---------------------------------------------------------------------------------------

    def batch_grad_u(self, u: Tensor, v: Tensor, clients: Tensor, draws: Tensor) -> Tensor:
        """∇_u of the loss over b rows of each client, ``(..., k, d_u)``: the row ⌊N_i x⌋ for each uniform number x in
        (0, 1) of ``draws (..., k, b)``, so with replacement: unbiased, with E‖ξ‖² = (variance of one row)/b."""
        return self._mapped("u", u, v, clients, draws)

    def batch_grad_v(self, u: Tensor, v: Tensor, clients: Tensor, draws: Tensor) -> Tensor:
        """The same for ∇_v, ``(..., k, d_v)``."""
        return self._mapped("v", u, v, clients, draws)

    def slope(
        self, block: str, u: Tensor, v: Tensor, clients: Tensor, draws: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """∇_u (block "u") or ∇_v (block "v") over all rows, or over those of ``draws (..., k, b)``, with dropout.

        keep ``(..., k, rows, width)``: what ``forward(x, keep)`` multiplies hidden units with, row by row (rows: b, or
        the largest number of rows of a client); None: ``forward(x)``.
        """
        return self._mapped(block, u, v, clients, draws, keep)

    def row_variance(self, u: Tensor, v: Tensor, clients: Tensor) -> tuple[Tensor, Tensor]:
        """((1/N_i) Σ_r ‖∇_uF_i(row r) − ∇_uF_i‖², the same for v), both ``(..., k)``: b times σ_u² and σ_v² at this
        point for batches of b rows."""
        means = [self.grad_u(u, v, clients), self.grad_v(u, v, clients)]
        shape = means[0].shape[:-1]
        us, vs, of_u, of_v = (x.expand(*shape, x.shape[-1]).reshape(shape.numel(), x.shape[-1]) for x in (u, v, *means))
        which = clients.expand(shape).reshape(-1)
        compute = self._squares_vectorised if self.vectorised else self._squares_looped
        with self._lock:
            squares = [compute(block, us, vs, which, mean) for block, mean in enumerate((of_u, of_v))]
        return squares[0].reshape(shape), squares[1].reshape(shape)

    def _squares_vectorised(self, block: int, u: Tensor, v: Tensor, which: Tensor, mean: Tensor) -> Tensor:
        """(1/N_i) Σ_r ‖∇F_i(row r) − mean‖² ``(count,)``: rows and points side by side, SLOPES numbers at once."""
        single = torch.ones(1, dtype=torch.float64, device=self.device)

        def some(u: Tensor, v: Tensor, X: Tensor, y: Tensor, share: Tensor, weight: Tensor, mean: Tensor) -> Tensor:
            def one(x: Tensor, target: Tensor) -> Tensor:
                return grad(self._one, block)(u, v, x[None], target[None], single, weight)

            return ((vmap(one)(X, y) - mean).square().sum(-1) * share).sum()

        N, d = self.rows.X.shape[1], self.d_u + self.d_v
        points, rows = max(1, SLOPES // (N * d)), max(1, SLOPES // d)
        total = torch.zeros(len(which), dtype=torch.float64, device=self.device)
        for a in range(0, len(which), points):
            here = slice(a, a + points)
            X, y, share = self.rows.gather(which[here])
            weight = self.weights[which[here]]
            for r in range(0, N, rows):
                part = (X[:, r : r + rows], y[:, r : r + rows], share[:, r : r + rows])
                total[here] += vmap(some)(u[here], v[here], *part, weight, mean[here])
        return total

    def _squares_looped(self, block: int, u: Tensor, v: Tensor, which: Tensor, mean: Tensor) -> Tensor:
        """The same, one row after another."""
        sizes = self.rows.sizes[which]
        total = torch.zeros(len(which), dtype=torch.float64, device=self.device)
        for r in range(self.rows.X.shape[1]):
            draws = torch.where(r < sizes, r + 0.5, 0.5) / sizes
            each = self._looped("uv"[block], u, v, which, draws[:, None])
            total += torch.where(r < sizes, (each - mean).square().sum(-1), 0.0)
        return total / sizes

    # ---- the model ------------------------------------------------------------------------------------------

    def outputs(self, u: Tensor, v: Tensor, X: Tensor) -> Tensor:
        """What the module with parameters u ``(d_u,)``, v ``(d_v,)`` gives at X ``(rows, ...)``."""
        with self._lock, torch.no_grad():
            return self._call(u, v, X.double() if X.is_floating_point() else X)

    def accuracy(self, u: Tensor, v: Tensor, clients: Sequence[Any] | None = None) -> Tensor:
        """Share of rows whose class each client's model, u ``(d_u,)`` or ``(..., n, d_u)`` and V ``(..., n, d_v)``,
        puts first, ``(..., n)``; on the problem's own rows or on other ones (one entry a client)."""
        if not self.classes:
            raise InputError("accuracy needs the loss 'cross_entropy'; this problem has another")
        there = self if clients is None else self.on(clients)
        return there._mapped("right", u, v, there.everyone()) / there.rows.sizes

    def _others(self, clients: Sequence[Any]) -> Rows:
        """Rows of the same clients that are not the problem's own."""
        rows = stack(clients, self.classes).to(self.device)
        if rows.n != self.n:
            raise InputError(f"clients must hold an entry for each of the n = {self.n} clients; got {rows.n}")
        for name, given, own in (("X", rows.X, self.rows.X), ("y", rows.y, self.rows.y)):
            if given.shape[2:] != own.shape[2:] or given.dtype != own.dtype:
                raise InputError(
                    f"clients: {name} must have rows like the problem's, {tuple(own.shape[2:])} {own.dtype};"
                    f" got {tuple(given.shape[2:])} {given.dtype}"
                )
        return rows

    def _split(self, named: dict[str, Tensor], mine: set[str]) -> None:
        """Make the parameters ``mine`` personal and the others shared."""
        self.names_u, self.names_v = [k for k in self.shapes if k not in mine], [k for k in self.shapes if k in mine]
        none = torch.zeros(0, dtype=torch.float64, device=next(iter(named.values())).device)
        self._u, self._v = (
            torch.cat([none, *(named[k].reshape(-1) for k in names)]) for names in (self.names_u, self.names_v)
        )
        self.d_u, self.d_v = len(self._u), len(self._v)

    def _parts(self, vector: Tensor, names: list[str]) -> dict[str, Tensor]:
        """The parameters ``names`` that lie one after another in ``vector (d,)``."""
        parts = torch.split(vector, [math.prod(self.shapes[k]) for k in names]) if names else ()
        return {k: p.reshape(self.shapes[k]) for k, p in zip(names, parts, strict=True)}

    def _call(self, u: Tensor, v: Tensor, X: Tensor, keep: Tensor | None = None) -> Tensor:
        named = self._parts(u, self.names_u) | self._parts(v, self.names_v)
        return functional_call(self.module, named, (X,) if keep is None else (X, keep))

    def _one(
        self, u: Tensor, v: Tensor, X: Tensor, y: Tensor, share: Tensor, weight: Tensor, keep: Tensor | None = None
    ) -> Tensor:
        """ω (Σ_r share_r loss_r + (ν/2)‖(u, v)‖²) of one client."""
        data = (share * self.loss(self._call(u, v, X, keep), y)).sum()
        return weight * (data + 0.5 * self.nu * (u.square().sum() + v.square().sum()))

    def _right(self, u: Tensor, v: Tensor, X: Tensor, y: Tensor, share: Tensor, weight: Tensor) -> Tensor:
        """Number of one client's rows whose class the model puts first."""
        return ((self._call(u, v, X).argmax(-1) == y) & (share > 0)).double().sum()

    def _mapped(
        self,
        what: str,
        u: Tensor,
        v: Tensor,
        clients: Tensor,
        draws: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """F_i ("value"), its gradient in "u" or "v", or how many rows are "right", for every client of the batch, on
        all rows or on drawn ones. Under a lock: a module holds one set of parameters at a time."""
        lead = () if draws is None else draws.shape[:-1]
        masked = () if keep is None else keep.shape[:-2]
        shape = torch.broadcast_shapes(u.shape[:-1], v.shape[:-1], clients.shape, lead, masked)
        count = shape.numel()
        us, vs = (x.expand(*shape, d).reshape(count, d) for x, d in ((u, self.d_u), (v, self.d_v)))
        if count == 0:
            return torch.zeros(
                (*shape, *({"u": (self.d_u,), "v": (self.d_v,)}.get(what, ()))),
                dtype=torch.float64,
                device=u.device,
            )
        which = clients.expand(shape).reshape(count)
        picked = None if draws is None else draws.expand(*shape, draws.shape[-1]).reshape(count, draws.shape[-1])
        kept = None if keep is None else keep.expand(*shape, *keep.shape[-2:]).reshape(count, *keep.shape[-2:])
        with self._lock:
            out = (self._vectorised if self.vectorised else self._looped)(what, us, vs, which, picked, kept)
        return out.reshape(*shape, *out.shape[1:])

    def _vectorised(
        self, what: str, u: Tensor, v: Tensor, which: Tensor, draws: Tensor | None, keep: Tensor | None = None
    ) -> Tensor:
        one = {"value": self._one, "right": self._right, "u": grad(self._one, 0), "v": grad(self._one, 1)}[what]
        width = max(1, self.rows.X[0].numel() if draws is None else draws.shape[1] * self.rows.X[0, 0].numel())
        step = max(1, GATHERED // width)
        parts = []
        for a in range(0, max(1, len(which)), step):
            here = which[a : a + step]
            X, y, share = self.rows.gather(here, None if draws is None else draws[a : a + step])
            masks = () if keep is None else (keep[a : a + step],)
            parts.append(vmap(one)(u[a : a + step], v[a : a + step], X, y, share, self.weights[here], *masks))
        return torch.cat(parts)

    def _looped(
        self, what: str, u: Tensor, v: Tensor, which: Tensor, draws: Tensor | None, keep: Tensor | None = None
    ) -> Tensor:
        """One client after another on its own rows, by torch.autograd."""
        parts = []
        for j, i in enumerate(which.tolist()):
            X, y = self.rows.of(i, None if draws is None else draws[j])
            share = torch.full((len(X),), 1.0 / len(X), dtype=torch.float64, device=X.device)
            points = {"u": u[j].detach(), "v": v[j].detach()}
            if what in ("value", "right"):
                one = self._one if what == "value" else self._right
                parts.append(one(points["u"], points["v"], X, y, share, self.weights[i]))
                continue
            mask = None if keep is None else keep[j, : len(X)]
            points[what] = points[what].clone().requires_grad_()
            with torch.enable_grad():
                out = self._one(points["u"], points["v"], X, y, share, self.weights[i], mask)
                slope = torch.autograd.grad(out, points[what], allow_unused=True)[0] if out.requires_grad else None
            parts.append(torch.zeros_like(points[what]) if slope is None else slope)
        return torch.stack(parts)

    def _probe(self) -> None:
        """Check the loss and the buffers once, and compare vmap with the loop at the module's own parameters."""
        before = {k: b.clone() for k, b in self.module.named_buffers()}
        X, y = self.rows.of(0)
        try:
            outputs = self._call(self._u, self._v, X)
            losses = self.loss(outputs, y)
            first_row = self._call(self._u, self._v, X[:1])
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            first = str(error).splitlines()[0]
            raise InputError(
                f"module and loss must take rows of X {tuple(X.shape)} and y {tuple(y.shape)}; torch says: {first}"
            ) from error
        if outputs.shape[:1] != X.shape[:1] or not torch.allclose(outputs[:1], first_row, rtol=1e-9, atol=1e-12):
            raise InputError("module must treat each row by itself; the first row's output depends on the other rows")
        if losses.shape != (len(X),):
            raise InputError(f"loss must give one number a row, ({len(X)},); got shape {tuple(losses.shape)}")
        changed = [k for k, b in self.module.named_buffers() if not torch.equal(b, before[k])]
        if changed:
            raise InputError(f"module must leave its buffers alone in evaluation mode; it changes {', '.join(changed)}")
        sizes = self.rows.sizes
        which = torch.stack([sizes.argmin(), sizes.argmax()])
        u, v = self._u.expand(2, -1), self._v.expand(2, -1)
        for what in ("value", "u", "v"):
            plain = self._looped(what, u, v, which, None)
            try:
                fast = self._vectorised(what, u, v, which, None)
            except (RuntimeError, ValueError, NotImplementedError) as error:
                self.vectorised = False
                self.refusal = f"vmap cannot take this module: {str(error).strip().splitlines()[0]}"
                return
            if not torch.allclose(fast, plain, rtol=1e-9, atol=1e-12):
                self.vectorised = False
                self.refusal = f"vmap gives another {what} than one client after another on its own rows does"
                return


__all__ = ["LOSSES", "Loss", "ModuleProblem", "Rows", "cross_entropy", "squared"]
