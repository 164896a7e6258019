"""Settings of an evaluation: what counts, how options are found, what overlap does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from didact.core.protocols import Device, Dtype
from didact.models.encode import Loss, ModelTemplate

ChoicesFrom = Literal["column", "labels", "letters"]
OnOverlap = Literal["drop", "error", "keep"]
Count = Annotated[int, Field(ge=1)]
AtLeastTwo = Annotated[int, Field(ge=2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSettings:
    """The settings of an evaluation.

    Args:
        choices: Where the options of a multiple choice come from: the rows' `column` named
            `choices`, which every row must have; the `labels`, the file's distinct answers; or the
            `letters` before the options in the prompt, "(A) …". When not given, rows with `choices`
            are multiple choice and others are not.
        on_overlap: What becomes of held-out rows that the model has been trained on: they are left
            out (`drop`), refused (`error`), or counted like the others (`keep`).
        loss: The answer: the `completion` (the turns a trainer learns), `all` tokens, or the
            sample as plain `text` without a template.
        template: How chats are written: the `model`'s own chat template, or one of didact's.
        max_length: Cut samples to so many tokens; not cut when not given.
        window: Most tokens the model reads at once; its context when not given.
        stride: From one window's start to the next; half a window when not given.
        tokens_per_batch: Most tokens of a batch, padding included; less when memory runs out.
        device: `auto` is every visible accelerator, else the CPU.
        dtype: `auto` is bfloat16 on an accelerator that has it, float32 elsewhere.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    choices: ChoicesFrom | None = None
    on_overlap: OnOverlap = "drop"
    loss: Loss = "completion"
    template: ModelTemplate = "model"
    max_length: AtLeastTwo | None = None
    window: AtLeastTwo | None = None
    stride: Count | None = None
    tokens_per_batch: Count = 8192
    device: Device = "auto"
    dtype: Dtype = "auto"
