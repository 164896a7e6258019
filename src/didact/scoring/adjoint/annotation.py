"""Annotation: a pass over the proxy set at every annotated step of the inner training."""

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
from didact.core.array_folders import by_row, read_arrays, write_arrays
from didact.core.arrays import Float1D, Int1D
from didact.core.cost import Cost, Metered
from didact.core.keep import Piece, kept_pieces, only
from didact.core.pool import Pool
from didact.core.protocols import Context, Progress
from didact.scoring.adjoint.rules import AnnotatedStep, StepProducts
from didact.scoring.around.score_pool import merged_facts
from didact.scoring.judging.judging_model import JudgingModel

if TYPE_CHECKING:
    from didact.models.batches import Batch

SHARD_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class ProxySet:
    """The samples that are annotated, with what a worker needs for it; small and picklable.

    Attributes:
        judge: The judging model.
        pool: Where the samples are.
        rows: int64 `(n,)`, which of the pool's.
        steps: The passes.
        folder: Holds θ and λ of the steps.
    """

    judge: JudgingModel
    pool: Pool
    rows: Int1D
    steps: tuple[AnnotatedStep, ...]
    folder: Path


Item = tuple[int, int, int]  # index of the annotated step, first and stop of the rows


@dataclass(frozen=True, slots=True)
class ProductShard:
    """Products of some rows at one annotated step; NaN on rows that have none.

    Attributes:
        dots: float64 `(b,)`, ⟨∇ℓ_n(θ_i), λ_{i+1}⟩.
        norms: float64 `(b,)`, ‖∇ℓ_n(θ_i)‖.
        missing: Row, from the first of them, to the reason it has none.
        facts: What showed where the model was open.
    """

    dots: Float1D
    norms: Float1D
    missing: Mapping[int, str]
    facts: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write it into an empty folder."""
        about = {"missing": dict(self.missing), "facts": dict(self.facts)}
        write_arrays(folder, {"dots": self.dots, "norms": self.norms}, about)

    @classmethod
    def load(cls, folder: Path) -> ProductShard:
        """What `save` wrote."""
        arrays, about = read_arrays(folder)
        return cls(arrays["dots"], arrays["norms"], by_row(about["missing"]), about["facts"])


def annotate(proxy: ProxySet, ctx: Context) -> tuple[StepProducts, dict[str, Any]]:
    """All passes over the proxy set, and facts; finished shards are pieces of the context's."""
    n = len(proxy.rows)
    items = [
        (index, at, min(at + SHARD_ROWS, n))
        for index in range(len(proxy.steps))
        for at in range(0, n, SHARD_ROWS)
    ]
    parts = [Piece(_name(proxy.steps[index], at), [(index, at, stop)]) for index, at, stop in items]
    total, done = n * len(proxy.steps), 0
    ctx.progress(Progress("annotate", 0, total))
    found: dict[Item, ProductShard] = {}
    facts: dict[str, Any] = {}
    shards = kept_pieces(
        ctx, parts, shared=proxy, open=open_annotator, device=proxy.judge.device,
        join=only, save=ProductShard.save, load=ProductShard.load,
    )  # fmt: skip
    for item, shard in zip(items, shards, strict=True):
        found[item] = shard
        facts = merged_facts(facts, shard.facts)
        done += item[2] - item[1]
        ctx.progress(Progress("annotate", done, total))
    return _assembled(proxy, found), facts


def _name(step: AnnotatedStep, start: int) -> str:
    kinds = "dot" * step.dot + "norm" * step.norm
    return f"{kinds}-{step.number:06d}-{start:09d}"


def _assembled(proxy: ProxySet, found: Mapping[Item, ProductShard]) -> StepProducts:
    from didact.gradients.parameters import lambda_path, load, norm

    n = len(proxy.rows)
    missing: dict[int, str] = {}
    dots = {each.number: np.full(n, np.nan) for each in proxy.steps if each.dot}
    norms = {each.number: np.full(n, np.nan) for each in proxy.steps if each.norm}
    for (index, at, stop), shard in found.items():
        step = proxy.steps[index]
        for into, column in ((dots, shard.dots), (norms, shard.norms)):
            if step.number in into:
                into[step.number][at:stop] = column
        for row, reason in shard.missing.items():
            missing.setdefault(at + row, reason)
    lambda_norms = {
        i: norm(load(lambda_path(proxy.folder, i + 1))) for i in (dots if norms else ())
    }
    return StepProducts(dots=dots, norms=norms, lambda_norms=lambda_norms, missing=missing)


@contextmanager
def open_annotator(proxy: ProxySet, device: str) -> Iterator[_Annotator]:
    """The function of an item: the model with its backward pass patched, opened once per worker."""
    from didact.gradients.products import ProductKernel

    with proxy.judge.open(device) as model, ProductKernel(model.module) as kernel:
        yield _Annotator(proxy, model, kernel)


class _Annotator:
    """A model with the parameters of one annotated step, changed when an item asks for another."""

    def __init__(self, proxy: ProxySet, model: Any, kernel: Any) -> None:
        self._proxy, self._model, self._kernel = proxy, model, kernel
        self._index: int | None = None
        self._direction: dict[str, Any] | None = None

    def __call__(self, item: Item) -> Metered[ProductShard]:
        from didact.models.batches import over_batches

        index, start, stop = item
        if self._index != index:
            self._load_step(index)
        proxy, model = self._proxy, self._model
        step = proxy.steps[index]
        batch_of_rows = proxy.pool.read(proxy.rows[start:stop], ["turns"])
        tokens = proxy.judge.tokens(batch_of_rows, model)
        dots, norms = np.full(len(tokens), np.nan), np.full(len(tokens), np.nan)
        flops = 0.0
        for batch, (dot, norm, cost) in over_batches(
            partial(self._products, step),
            tokens,
            tokens_per_batch=proxy.judge.tokens_per_batch,
            pad_id=model.pad_id,
            device=model.device,
        ):
            dots[batch.rows], norms[batch.rows] = dot, norm
            flops += cost
        missing = dict(tokens.missing)
        bad = np.isnan(dots) & step.dot | np.isnan(norms) & step.norm
        for row in np.flatnonzero(bad).tolist():
            missing.setdefault(
                row, f"the model's loss or gradient is not finite at inner step {step.number}"
            )
        n_tokens = int(tokens.lengths[tokens.scored].sum())
        facts = {"dtype": model.dtype}
        return Metered(
            ProductShard(dots, norms, missing, facts), Cost(flops=flops, tokens=n_tokens)
        )

    def _products(self, step: AnnotatedStep, batch: Batch) -> tuple[Any, Any, float]:
        from didact.models.losses import causal_losses

        found = self._kernel.products(batch, self._direction, norms=step.norm, losses=causal_losses)
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

    def _load_step(self, index: int) -> None:
        from didact.gradients.parameters import lambda_path, load, put_into, theta_path

        step, folder = self._proxy.steps[index], self._proxy.folder
        put_into(self._model, load(theta_path(folder, step.number)))
        self._direction = None
        if step.dot:
            vector = load(lambda_path(folder, step.number + 1), self._model.device)
            self._direction = {name: value[None] for name, value in vector.items()}
        self._index = index
