"""Adapters at the checkpoints of a warm-up, and exact influence scores at each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.accounting import flops
from didact.accounting.spec import LoraSpec
from didact.core.cost import Cost, Metered
from didact.core.errors import DataError
from didact.core.keep import keep
from didact.core.pool import Pool
from didact.core.protocols import BatchScorer, BatchScores, Context, Fitted, Progress
from didact.scoring.judging.model_scorer import Seat, without_number

if TYPE_CHECKING:
    from didact.gradients.backward_pass import TileTransform
    from didact.gradients.influence import SampleResults
    from didact.gradients.products import ProductKernel
    from didact.gradients.step_rule import StepRule
    from didact.models.encode import Encoding
    from didact.models.language_model import LanguageModel
    from didact.models.tokens import Tokens
    from didact.training.adapters import Checkpoint


DIRECTIONS = "directions.safetensors"


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
    step: TileTransform | None
    lora: LoraSpec

    def cost(self, ran: SampleResults) -> Cost:
        """What a pass over samples cost: forward, backward to the adapters, products."""
        spec, lengths = self.model.spec, ran.lengths
        gradients = flops.lora_counted(spec, self.lora, lengths.tokens, lengths.squares)
        tiles = 2.0 * self.lora.n_params * lengths.tokens  # `ran.products` has them already
        return Cost(flops=gradients - tiles + ran.products, tokens=ran.tokens)


@dataclass(frozen=True, kw_only=True)
class WarmedUp:
    """Checkpoints of a warm-up, ready to be opened; small and picklable.

    Attributes:
        key: Everything the gradients depend on, JSON values.
        seat: The base model.
        checkpoints: Their folders.
        weights: Share of each in the sum of the epochs' mean learning rates.
        rule: How a gradient becomes a step.
        n_params: Adapter parameters.
        facts: For the manifest.
    """

    key: Any
    seat: Seat
    checkpoints: tuple[Path, ...]
    weights: tuple[float, ...]
    rule: StepRule
    n_params: int
    facts: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        seat: Seat,
        checkpoints: Sequence[Checkpoint],
        rule: StepRule,
        *,
        samples: int,
    ) -> WarmedUp:
        """From what the warm-up left."""
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
            # An entry is named by all that went into it.
            key=[checkpoints[0].path.parent.name, seat.identity, asdict(seat.how), asdict(rule)],
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
        from didact.gradients.influence import adam_step
        from didact.gradients.products import ProductKernel
        from didact.training.adapters import adapter_spec, moments, open_adapter

        path = self.checkpoints[index]
        with self.seat.open(device) as base:
            model = open_adapter(base, path)
            with ProductKernel(model.module) as kernel:
                step = None
                if self.rule.kind == "adam":
                    dtype = next(iter(kernel.parameters.values())).dtype
                    step = adam_step(moments(path), self.rule, model.device, dtype)
                yield At(model, kernel, step, adapter_spec(model.module))


def exact(warm: WarmedUp, aim: Aim, ctx: Context, reduce: Literal["mean", "max"]) -> Fitted:
    """Target directions of every checkpoint, on disk; scores are products with them.

    A score is Σ_c w_c ⟨Γ_c(g), u_ck⟩ / ‖Γ_c(g)‖, a pass for each checkpoint c.
    """
    folders = []
    for index in range(len(warm.checkpoints)):
        ctx.progress(Progress("target gradients", index, len(warm.checkpoints), "checkpoints"))
        folders.append(
            keep(
                ctx, "directions", [warm.key, index, aim.pool.fingerprint, asdict(aim.how)],
                partial(_directions, warm, index, aim), save=_save_directions, load=_same,
            )
        )  # fmt: skip
    return Fitted(
        open=partial(_open, warm, tuple(folders)),
        columns=("turns",),
        tasks=aim.pool.task_names,
        reduce=reduce,
        passes=len(warm.checkpoints),
        device=warm.seat.device,
        facts={**warm.facts, "space": "exact"},
    )


def _directions(warm: WarmedUp, index: int, aim: Aim, ctx: Context) -> Mapping[str, Any]:
    from didact.gradients.influence import unit_directions

    def work(device: str) -> Metered[Mapping[str, Any]]:
        with warm.open(index, device) as at:
            tokens, tasks = aim.tokens(at.model)
            directions, ran = unit_directions(
                at.model, tokens, tasks, len(aim.pool.task_names), at.kernel,
                warm.seat.tokens_per_batch,
            )  # fmt: skip
            check_tasks(aim, tasks, ran)
            return Metered({k: v.cpu() for k, v in directions.items()}, at.cost(ran))

    return ctx.executor.call(work, device=warm.seat.device)


def _save_directions(directions: Mapping[str, Any], folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(dict(directions), folder / DIRECTIONS)


def _same(folder: Path) -> Path:
    return folder


def check_tasks(aim: Aim, tasks: npt.NDArray[np.int64], ran: SampleResults) -> None:
    """Raise DataError when a task has no sample with a gradient to point along."""
    usable = np.isfinite(ran.values).all(axis=1) & (ran.values != 0).any(axis=1)
    for k, name in enumerate(aim.pool.task_names):
        if not usable[tasks == k].any():
            raise DataError(
                f"target task {name!r}: the gradients of all its samples are zero or not finite; "
                "drop the task, or look at the judging model"
            )


@contextmanager
def _open(
    warm: WarmedUp, folders: tuple[Path, ...], index: int, device: str
) -> Iterator[BatchScorer]:
    """One checkpoint with its target directions."""
    from safetensors.torch import load_file

    with warm.open(index, device) as at:
        directions = load_file(folders[index] / DIRECTIONS, device=device)
        yield partial(_score, at, directions, warm.seat, warm.weights[index])


def _score(
    at: At, directions: Mapping[str, Any], seat: Seat, weight: float, batch: pa.RecordBatch
) -> Metered[BatchScores]:
    from didact.gradients.influence import cosines

    tokens = seat.tokens(batch, at.model)
    ran = cosines(at.model, tokens, at.kernel, directions, at.step, seat.tokens_per_batch)
    missing = without_number(tokens.missing, ran.values)
    facts = {"dtype": at.model.dtype}
    return Metered(BatchScores(weight * ran.values, {}, missing, facts), at.cost(ran))
