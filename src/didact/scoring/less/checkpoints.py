"""The checkpoints of a warm-up: adapters on the judging model, and how a gradient steps there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from didact.accounting import flops
from didact.accounting.spec import LoraSpec
from didact.core.cost import Cost
from didact.gradients.step_rule import StepRule
from didact.scoring.judging.judging_model import JudgingModel, with_note

if TYPE_CHECKING:
    from didact.gradients.backward_pass import TileTransform
    from didact.gradients.influence import SampleResults
    from didact.gradients.products import ProductKernel
    from didact.models.language_model import LanguageModel
    from didact.training.adapters import Checkpoint


@dataclass(frozen=True, slots=True)
class OpenCheckpoint:
    """A checkpoint that is open on a device.

    Attributes:
        model: The judging model with the adapter.
        kernel: Per-sample gradient products of the adapter's parameters.
        step: Γ, which makes Adam's step of a gradient; None for plain gradients.
        lora: The adapter's shapes.
    """

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
class WarmUpCheckpoints:
    """Checkpoints of a warm-up, ready to be opened; small and picklable.

    Attributes:
        key: Everything the gradients depend on, JSON values.
        judge: The base model.
        checkpoints: Their folders.
        weights: Share of each in the sum of the epochs' mean learning rates.
        rule: How a gradient becomes a step.
        n_params: Adapter parameters.
        facts: What the manifest tells of the warm-up.
    """

    key: Any
    judge: JudgingModel
    checkpoints: tuple[Path, ...]
    weights: tuple[float, ...]
    rule: StepRule
    n_params: int
    facts: Mapping[str, Any]

    @classmethod
    def of(
        cls, judge: JudgingModel, checkpoints: Sequence[Checkpoint], rule: StepRule, *, samples: int
    ) -> WarmUpCheckpoints:
        """From what the warm-up left."""
        rates = np.asarray([c.learning_rate for c in checkpoints])
        weights = (rates / rates.sum()).tolist()
        n_params, loss = checkpoints[0].n_params, checkpoints[0].first_loss
        facts = {
            **judge.facts,
            "adapter_parameters": n_params,
            "warm_up_samples": samples,
            "judge_loss": loss,
            "checkpoint_steps": [c.steps for c in checkpoints],
            "checkpoint_weights": [round(w, 6) for w in weights],
        }
        made = checkpoints[0].path.parent.name  # an entry is named by all that went into it
        return cls(
            key=[made, judge.identity, asdict(judge.encoding), asdict(rule)],
            judge=judge,
            checkpoints=tuple(c.path for c in checkpoints),
            weights=tuple(weights),
            rule=rule,
            n_params=n_params,
            facts=with_note(facts, judge.untrained(loss, "samples of the pool")),
        )

    @contextmanager
    def open(self, index: int, device: str) -> Iterator[OpenCheckpoint]:
        """The model with the adapter of one checkpoint."""
        from didact.gradients.influence import adam_step
        from didact.gradients.products import ProductKernel
        from didact.training.adapters import adapter_spec, moments, open_adapter

        path = self.checkpoints[index]
        with self.judge.open(device) as base:
            model = open_adapter(base, path)
            with ProductKernel(model.module) as kernel:
                step = None
                if self.rule.kind == "adam":
                    dtype = next(iter(kernel.parameters.values())).dtype
                    step = adam_step(moments(path), self.rule, model.device, dtype)
                yield OpenCheckpoint(model, kernel, step, adapter_spec(model.module))
