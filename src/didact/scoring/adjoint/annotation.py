"""Annotation: passes over the proxy set, at every visited step of the inner training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from didact.accounting.flops import forward_flops, input_gradient_flops
from didact.core.arrays import Float1D, Int1D
from didact.core.cost import Cost, Metered
from didact.core.keep import Part, kept_parts, only
from didact.core.pool import Pool
from didact.core.protocols import Context, Progress
from didact.core.saved import by_row, read_arrays, write_arrays
from didact.scoring.adjoint.rules import Products, Visit
from didact.scoring.around.score_pool import agreed
from didact.scoring.judging.model_scorer import Seat

if TYPE_CHECKING:
    from didact.models.batches import Batch

SHARD_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """What a worker of annotation needs; small and picklable.

    Attributes:
        seat: The judging model.
        pool: Where the samples are.
        rows: int64 `(n,)`, the proxy set.
        visits: The passes.
        folder: Holds θ and λ of the visited steps.
    """

    seat: Seat
    pool: Pool
    rows: Int1D
    visits: tuple[Visit, ...]
    folder: Path


Item = tuple[int, int, int]  # index of the visit, first and stop of the rows


@dataclass(frozen=True, slots=True)
class Shard:
    """Products of some rows at one visit; NaN on rows that have none."""

    dots: Float1D
    norms: Float1D
    missing: Mapping[int, str]
    facts: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write it into an empty folder."""
        about = {"missing": dict(self.missing), "facts": dict(self.facts)}
        write_arrays(folder, {"dots": self.dots, "norms": self.norms}, about)

    @classmethod
    def load(cls, folder: Path) -> Shard:
        """What `save` wrote."""
        arrays, about = read_arrays(folder)
        return cls(arrays["dots"], arrays["norms"], by_row(about["missing"]), about["facts"])


def annotate(proxy: Proxy, ctx: Context) -> tuple[Products, dict[str, Any]]:
    """All passes over the proxy set, and facts; finished shards are pieces of the context's."""
    n = len(proxy.rows)
    items = [
        (index, at, min(at + SHARD_ROWS, n))
        for index in range(len(proxy.visits))
        for at in range(0, n, SHARD_ROWS)
    ]
    parts = [Part(_name(proxy.visits[index], at), [(index, at, stop)]) for index, at, stop in items]
    total, done = n * len(proxy.visits), 0
    ctx.progress(Progress("annotate", 0, total))
    found: dict[Item, Shard] = {}
    facts: dict[str, Any] = {}
    shards = kept_parts(
        ctx, parts, shared=proxy, open=opened, device=proxy.seat.device,
        join=only, save=Shard.save, load=Shard.load,
    )  # fmt: skip
    for item, shard in zip(items, shards, strict=True):
        found[item] = shard
        facts = agreed(facts, shard.facts)
        done += item[2] - item[1]
        ctx.progress(Progress("annotate", done, total))
    return _assembled(proxy, found), facts


def _name(visit: Visit, start: int) -> str:
    kinds = "dot" * visit.dot + "norm" * visit.norm
    return f"{kinds}-{visit.step:06d}-{start:09d}"


def _assembled(proxy: Proxy, found: Mapping[Item, Shard]) -> Products:
    from didact.gradients.adjoint import lambda_path
    from didact.gradients.inner_training import load, norm

    n = len(proxy.rows)
    missing: dict[int, str] = {}
    dots = {v.step: np.full(n, np.nan) for v in proxy.visits if v.dot}
    norms = {v.step: np.full(n, np.nan) for v in proxy.visits if v.norm}
    for (index, at, stop), shard in found.items():
        visit = proxy.visits[index]
        for into, column in ((dots, shard.dots), (norms, shard.norms)):
            if visit.step in into:
                into[visit.step][at:stop] = column
        for row, reason in shard.missing.items():
            missing.setdefault(at + row, reason)
    lambda_norms = {
        step: norm(load(lambda_path(proxy.folder, step + 1))) for step in (dots if norms else ())
    }
    return Products(dots=dots, norms=norms, lambda_norms=lambda_norms, missing=missing)


@contextmanager
def opened(proxy: Proxy, device: str) -> Iterator[_Annotator]:
    """The model with its backward pass patched, opened once per worker."""
    from didact.gradients.products import ProductKernel

    with proxy.seat.open(device) as model, ProductKernel(model.module) as kernel:
        yield _Annotator(proxy, model, kernel)


class _Annotator:
    """A model at the parameters of one visit, changed when an item asks for another."""

    def __init__(self, proxy: Proxy, model: Any, kernel: Any) -> None:
        self._proxy, self._model, self._kernel = proxy, model, kernel
        self._at: int | None = None
        self._direction: dict[str, Any] | None = None

    def __call__(self, item: Item) -> Metered[Shard]:
        from didact.models.batches import over_batches

        index, start, stop = item
        if self._at != index:
            self._move(index)
        proxy, model = self._proxy, self._model
        visit = proxy.visits[index]
        batch_of_rows = proxy.pool.read(proxy.rows[start:stop], ["turns"])
        tokens = proxy.seat.tokens(batch_of_rows, model)
        dots, norms = np.full(len(tokens), np.nan), np.full(len(tokens), np.nan)
        flops = 0.0
        for batch, (dot, norm, cost) in over_batches(
            partial(self._products, visit),
            tokens,
            tokens_per_batch=proxy.seat.tokens_per_batch,
            pad_id=model.pad_id,
            device=model.device,
        ):
            dots[batch.rows], norms[batch.rows] = dot, norm
            flops += cost
        missing = dict(tokens.missing)
        bad = np.isnan(dots) & visit.dot | np.isnan(norms) & visit.norm
        for row in np.flatnonzero(bad).tolist():
            missing.setdefault(
                row, f"the model's loss or gradient is not finite at inner step {visit.step}"
            )
        n_tokens = int(tokens.lengths[tokens.scored].sum())
        facts = {"dtype": model.dtype}
        return Metered(Shard(dots, norms, missing, facts), Cost(flops=flops, tokens=n_tokens))

    def _products(self, visit: Visit, batch: Batch) -> tuple[Any, Any, float]:
        from didact.models.losses import causal_losses

        found = self._kernel.products(
            batch, self._direction, norms=visit.norm, losses=causal_losses
        )
        b, s = batch.input_ids.shape
        spec = self._model.spec
        flops = forward_flops(spec, b * s, b * s**2) + input_gradient_flops(spec, b * s, b * s**2)
        columns: list[npt.NDArray[np.float64]] = []
        for column in (
            None if found.dots is None else found.dots[:, 0].double(),
            # In float64 before the root: a small squared norm must not become zero in float32.
            None if found.squared_norms is None else found.squared_norms.double().sqrt(),
        ):
            values = np.full(b, np.nan) if column is None else column.cpu().numpy()
            columns.append(np.where(np.isfinite(values), values, np.nan))
        return columns[0], columns[1], flops + found.flops

    def _move(self, index: int) -> None:
        import torch

        from didact.gradients.adjoint import lambda_path
        from didact.gradients.inner_training import load, theta_path

        visit, folder = self._proxy.visits[index], self._proxy.folder
        theta = load(theta_path(folder, visit.step))
        own = dict(self._model.module.named_parameters())
        with torch.no_grad():
            for name, value in theta.items():
                own[name].copy_(value)
        self._direction = None
        if visit.dot:
            vector = load(lambda_path(folder, visit.step + 1), self._model.device)
            self._direction = {name: value[None] for name, value in vector.items()}
        self._at = index
