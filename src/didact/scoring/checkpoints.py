"""Adapters at the checkpoints of a warm-up, and exact influence scores at each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.accounting import flops
from didact.accounting.spec import LoraSpec
from didact.core.atomic import replacing
from didact.core.cost import Cost, Metered
from didact.core.errors import DataError
from didact.core.manifest import fingerprint
from didact.core.pool import Pool
from didact.core.protocols import BatchScorer, BatchScores, Context, Progress
from didact.scoring.judge import NOT_FINITE, Seat

if TYPE_CHECKING:
    from didact.models.door import LanguageModel
    from didact.models.encode import Encoding, Tokens
    from didact.models.influence import Pass, Step
    from didact.models.products import ProductKernel
    from didact.models.steps import StepRule
    from didact.training.lora import Checkpoint


@dataclass(frozen=True, slots=True)
class Aim:
    """A target set and how its samples become tokens."""

    pool: Pool
    how: Encoding

    def tokens(self, model: LanguageModel) -> tuple[Tokens, npt.NDArray[np.int64]]:
        """Tokens of every target sample, and its task.

        Raises:
            DataError: A task has no sample with a loss.
        """
        from didact.models.encode import encode

        tokens = encode(
            self.pool.read(range(len(self.pool)), ["turns"]).column("turns"),
            model.tokenizer,
            self.how,
        )
        tasks = self.pool.task_codes.astype(np.int64)
        for k, name in enumerate(self.pool.task_names):
            if not np.isin(tokens.scored, np.flatnonzero(tasks == k)).any():
                row = int(np.flatnonzero(tasks == k)[0])
                raise DataError(
                    f"target task {name!r}: no sample has a loss; row {row}: "
                    f"{tokens.missing[row]}; or drop the task"
                )
        return tokens, tasks


@dataclass(frozen=True, slots=True)
class At:
    """A checkpoint that is open: the model with its adapter, the kernel on it, Γ."""

    model: LanguageModel
    kernel: ProductKernel
    step: Step | None
    lora: LoraSpec

    def cost(self, ran: Pass) -> Cost:
        """What a pass over samples cost: forward, backward to the adapters, products."""
        spec, lengths = self.model.spec, ran.lengths
        gradients = flops.lora_counted(spec, self.lora, lengths.tokens, lengths.squares)
        tiles = 2.0 * self.lora.n_params * lengths.tokens  # `ran.products` has them already
        return Cost(flops=gradients - tiles + ran.products, tokens=ran.tokens)


@dataclass(frozen=True, kw_only=True)
class WarmedUp:
    """Checkpoints of a warm-up, ready to be opened; small and picklable.

    Attributes:
        key: Identity of everything the gradients depend on.
        seat: The base model.
        checkpoints: Their folders.
        weights: Share of each in the sum of the epochs' mean learning rates.
        rule: How a gradient becomes a step.
        n_params: Adapter parameters.
        facts: For the manifest.
    """

    key: str
    seat: Seat
    checkpoints: tuple[Path, ...]
    weights: tuple[float, ...]
    rule: StepRule
    n_params: int
    facts: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        key: str,
        seat: Seat,
        checkpoints: Sequence[Checkpoint],
        rule: StepRule,
        *,
        samples: int,
    ) -> WarmedUp:
        """From what the warm-up left."""
        from dataclasses import asdict

        rates = np.asarray([c.learning_rate for c in checkpoints])
        weights = (rates / rates.sum()).tolist()
        n_params = checkpoints[0].n_params
        facts = {
            **seat.facts,
            "adapter_parameters": n_params,
            "warm_up_samples": samples,
            "checkpoint_steps": [c.steps for c in checkpoints],
            "checkpoint_weights": [round(w, 6) for w in weights],
        }
        return cls(
            key=fingerprint([key, asdict(rule)]),
            seat=seat,
            checkpoints=tuple(c.path for c in checkpoints),
            weights=tuple(weights),
            rule=rule,
            n_params=n_params,
            facts=facts,
        )

    @contextmanager
    def open(self, index: int, device: str) -> Iterator[At]:
        """The model with the adapter of one checkpoint."""
        from didact.models.influence import adam_step
        from didact.models.products import ProductKernel
        from didact.training.lora import lora_spec, moments, open_adapter

        path = self.checkpoints[index]
        with self.seat.open(device) as base:
            model = open_adapter(base, path)
            with ProductKernel(model.module) as kernel:
                step = None
                if self.rule.kind == "adam":
                    dtype = next(iter(kernel.parameters.values())).dtype
                    step = adam_step(moments(path), self.rule, model.device, dtype)
                yield At(model, kernel, step, lora_spec(model.module))


def exact(warm: WarmedUp, aim: Aim, ctx: Context, reduce: Literal["mean", "max"]) -> Influence:
    """Target directions of every checkpoint, on disk; scores are products with them."""
    from dataclasses import asdict

    key = fingerprint([warm.key, aim.pool.fingerprint, asdict(aim.how)])
    folder = ctx.cache_dir / "less" / key[:32]
    device = warm.seat.devices[0]
    for index in range(len(warm.checkpoints)):
        ctx.progress(Progress("target gradients", index, len(warm.checkpoints), "checkpoints"))
        path = folder / f"{index}.safetensors"
        if not path.exists():
            ctx.executor.call(partial(_save_directions, warm, index, aim, path), device=device)
    return Influence(
        warm=warm,
        directions=folder,
        tasks=aim.pool.task_names,
        reduce=reduce,
        facts={**warm.facts, "space": "exact"},
    )


def _save_directions(warm: WarmedUp, index: int, aim: Aim, path: Path) -> Metered[None]:
    from safetensors.torch import save_file

    from didact.models.influence import unit_directions

    with warm.open(index, warm.seat.devices[0]) as at:
        tokens, tasks = aim.tokens(at.model)
        n_tasks = len(aim.pool.task_names)
        directions, ran = unit_directions(
            at.model, tokens, tasks, n_tasks, at.kernel, warm.seat.tokens_per_batch
        )
        check_tasks(aim, tasks, ran)
        with replacing(path) as temporary:
            save_file(directions, temporary)
        return Metered(None, at.cost(ran))


def check_tasks(aim: Aim, tasks: npt.NDArray[np.int64], ran: Pass) -> None:
    """Raise DataError when a task has no sample with a gradient to point along."""
    usable = np.isfinite(ran.values).all(axis=1) & (ran.values != 0).any(axis=1)
    for k, name in enumerate(aim.pool.task_names):
        if not usable[tasks == k].any():
            raise DataError(
                f"target task {name!r}: the gradients of all its samples are zero or not finite; "
                "drop the task, or look at the judging model"
            )


@dataclass(frozen=True, kw_only=True)
class Influence:
    """A fitted scorer: Σ_c w_c ⟨Γ_c(g), u_ck⟩ / ‖Γ_c(g)‖, a pass for each checkpoint."""

    warm: WarmedUp
    directions: Path
    tasks: tuple[str, ...]
    reduce: Literal["mean", "max"]
    facts: Mapping[str, Any]
    higher_is_better: bool = field(default=True, init=False)
    columns: tuple[str, ...] = field(default=("turns",), init=False)

    @property
    def passes(self) -> int:
        """One for each checkpoint."""
        return len(self.warm.checkpoints)

    @property
    def devices(self) -> tuple[str, ...]:
        """Where the model runs."""
        return self.warm.seat.devices

    @contextmanager
    def open(self, index: int, device: str) -> Iterator[BatchScorer]:
        """One checkpoint with its target directions."""
        from safetensors.torch import load_file

        with self.warm.open(index, device) as at:
            directions = load_file(self.directions / f"{index}.safetensors", device=device)
            weight = self.warm.weights[index]
            yield partial(_score, at, directions, self.warm.seat, weight)


def _score(
    at: At, directions: Mapping[str, Any], seat: Seat, weight: float, batch: pa.RecordBatch
) -> Metered[BatchScores]:
    from didact.models.influence import cosines

    tokens = seat.tokens(batch, at.model)
    ran = cosines(at.model, tokens, at.kernel, directions, at.step, seat.tokens_per_batch)
    missing = dict(tokens.missing)
    for row in np.flatnonzero(~np.isfinite(ran.values).all(axis=1)).tolist():
        missing.setdefault(row, NOT_FINITE)
    return Metered(BatchScores(weight * ran.values, missing=missing), at.cost(ran))
